r"""What light costs where: the l1 norm reweighted (Candes, Wakin and Boyd 2008), for a fit that has a background too.

The l1 norm says that what is dim is background rather than molecules.  Charged on all light alike it says more than that: light
in x has a price and light in b has none, so that a background which may bend takes the middle of whatever is wide, and a
uniform bar comes out hollow.  Without a price the background stays too low, x has a pedestal, and the bound x >= 0, which is
what resolves, holds nowhere.  So the price is asked where the image is dark, and next to nothing where it is lit: there the
background is what its smoothness makes of the dark around.  Lit is the body, not the skirt that a blur gives it: if skirts went
free, light in them would stand in for a background that then comes out too low, and fill the gaps between lines.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .blur import GaussianKernel
from .terms import Objective

__all__ = ["ReweightedL1", "darkness"]

#: Until it is known what is lit, this much of the price is asked everywhere.
_FIRST = 0.125
#: Fractions of the planned steps after which it is asked anew what is lit.
_RENEWED = (0.25, 0.5)
#: Lit is what the image, blurred as the PSF does, shines on with this many times the noise of the mean frame,
_LIT = 24.0
#: and with this part of the light around: less is the blur's own skirt, where free light would stand in for background.
_SKIRT = 0.3
#: Around: a Gaussian of the PSF's width taken so many times, which is wider by the root of that.
_AROUND = 4


def darkness(x: Any, objective: Objective, noise: float) -> Any:
    r"""Return :math:`1 / (1 + (\bar x / \bar x_0)^4)` with :math:`\bar x` the blurred image: 1 where it is dark, 0 where lit.

    It is blurred by a Gaussian of the PSF's width, :math:`\bar x = Gx / G1`: what lies between the beads that noise makes of a
    filled body is lit, and a price on it would make more of them.  :math:`\bar x_0` is the larger of two: what stands out of
    the noise, and 0.3 of :math:`G^4 \bar x^2 / G^4 \bar x`, the brightness that the light around has on average.

    Parameters
    ----------
    x : (N1, N2) float32
        The image so far.
    objective : Objective
    noise : float
        Of the mean frame, standard deviation in photons.

    Returns
    -------
    weights : (N1, N2) float32
    """
    psi = objective.psi
    xp, scalar = psi.backend.xp, x.dtype.type
    sieve = GaussianKernel(psi, 1.0)
    inside = sieve(xp.ones_like(x))

    def blur(image: Any) -> Any:
        return sieve(image) / inside  # a body that the border cuts has no skirt there

    seen = blur(x)
    light, brightness = seen, seen * seen
    for _ in range(_AROUND):
        light, brightness = blur(light), blur(brightness)
    around = brightness / xp.maximum(light, np.finfo(x.dtype).tiny)
    out_of_noise = _LIT * noise / (psi.factor**2 * float(psi.column_sums.max()))
    return 1 / (1 + (seen / xp.maximum(scalar(_SKIRT) * around, scalar(out_of_noise))) ** 4)


class ReweightedL1:
    """The price of light over the steps of a fit: some of it everywhere at first, then all of it where the image is dark.

    Parameters
    ----------
    objective : Objective
        Its ``sparsity`` is the price in the dark; it is told what to charge.
    noise : float
        Of the mean frame, standard deviation in photons.
    steps : int
        Steps that are planned.

    Attributes
    ----------
    renewals : set of int
        Steps after which :meth:`renew` is due.
    settled : int
        Steps after which it changes no more.
    """

    def __init__(self, objective: Objective, noise: float, steps: int) -> None:
        self.objective, self.noise, self.price = objective, noise, objective.sparsity
        self.renewals = {max(1, round(share * steps)) for share in _RENEWED} if self.price and steps else set()
        self.settled = max(self.renewals, default=0)
        objective.charge(_FIRST * self.price)

    def renew(self, x: Any) -> None:
        """Charge all of the price where x (N1, N2) is dark."""
        weights = darkness(x, self.objective, self.noise)
        self.objective.charge(weights * weights.dtype.type(self.price))
