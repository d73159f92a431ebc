r"""The reweighted l1 penalty (Candes, Wakin and Boyd 2008) of a fit that has a background too.

The l1 norm says that dim light is background rather than molecules.  The penalty acts on x only.  If it acted on all light
alike, a background that may bend would absorb the centre of wide structures, and a uniform bar would come out hollow.  Without
a penalty the background stays too low, x has a pedestal, and the bound :math:`x \ge 0`, which gives the resolution, holds
nowhere. Therefore the full penalty acts where the image is dark, and almost none where it is lit.  A pixel is lit if it belongs
to the body of a structure, not to the skirt that the blur gives it.  A skirt without penalty would stand in for a background
that is then too low, and would fill the gaps between lines.
"""

from __future__ import annotations

import numpy as np

from ..backend.typing import Array
from ..tuning import DEFAULT, ReweightingTuning
from .blur import GaussianKernel
from .prior import SparseEdges
from .terms import Objective

__all__ = ["ReweightedL1", "darkness"]


def darkness(x: Array, objective: Objective, lit: float, tuning: ReweightingTuning = DEFAULT.reweighting) -> Array:
    r"""Return :math:`1 / (1 + (\bar x / \bar x_0)^4)` with :math:`\bar x` the blurred image: 1 where it is dark, 0 where lit.

    The blur is a Gaussian of the PSF's width, :math:`\bar x = Gx / G1`: the gaps between the grains that noise makes of a
    filled body are lit too, and a penalty on them would make more grains.  :math:`\bar x_0` is the larger of two: the light
    from which on a pixel counts as lit, and 0.3 of :math:`G^4 \bar x^2 / G^4 \bar x`, the average brightness of the light
    around.

    Parameters
    ----------
    x : (N1, N2) float32
        The image so far.
    objective : Objective
    lit : float
        Photons per camera pixel from which on a pixel counts as lit.
    tuning : ReweightingTuning

    Returns
    -------
    weights : (N1, N2) float32
    """
    psi = objective.psi
    xp, scalar = psi.backend.xp, x.dtype.type
    kernel = GaussianKernel(psi, 1.0)
    inside = kernel(xp.ones_like(x))

    def blur(image: Array) -> Array:
        return kernel(image) / inside  # a body that the border cuts has no skirt there

    seen = blur(x)
    light, brightness = seen, seen * seen
    for _ in range(tuning.around):
        light, brightness = blur(light), blur(brightness)
    around = brightness / xp.maximum(light, np.finfo(x.dtype).tiny)
    least = lit / (psi.factor**2 * float(psi.column_sums.max()))
    return 1 / (1 + (seen / xp.maximum(scalar(tuning.skirt) * around, scalar(least))) ** 4)


class ReweightedL1:
    """The l1 penalty over the iterations of a fit: a part of it everywhere at first, then all of it where the image is dark.

    It acts on the library's own prior; a prior of another kind is left as it is.

    Parameters
    ----------
    objective : Objective
        The sparsity of its prior is the weight in the dark.
    lit : float
        Photons per camera pixel from which on a pixel counts as lit.
    iterations : int
        Planned iterations.
    tuning : ReweightingTuning

    Attributes
    ----------
    updates : frozenset of int
        Iterations after which :meth:`update` is due.
    last : int
        Iterations after which the weights change no more.
    """

    def __init__(
        self,
        objective: Objective,
        lit: float,
        iterations: int,
        tuning: ReweightingTuning = DEFAULT.reweighting,
    ) -> None:
        self.objective, self.lit, self.tuning = objective, lit, tuning
        self.prior = objective.prior if isinstance(objective.prior, SparseEdges) else None
        self.weight = 0.0 if self.prior is None else self.prior.sparsity
        due = self.weight and iterations
        self.updates = frozenset(max(1, round(share * iterations)) for share in tuning.updates if due)
        self.last = max(self.updates, default=0)
        if self.prior is not None:
            self.prior.set_sparsity(tuning.first * self.weight)

    def update(self, x: Array) -> None:
        """Set the weights for the image x (N1, N2): all of the penalty where it is dark."""
        if self.prior is not None:
            weights = darkness(x, self.objective, self.lit, self.tuning)
            self.prior.set_sparsity(weights * weights.dtype.type(self.weight))
