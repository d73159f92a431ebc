"""Distances between a reconstruction and a known truth, or between its blurred image and the mean frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..backend.checks import field_of, host_image
from ..backend.kinds import any_kind
from ..backend.typing import ArrayLike
from ..physics.psi import Psi

__all__ = ["BlurredAgreement", "blurred_agreement", "nrmse", "psnr"]


def _compared(x: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both images as float64, x scaled to the sum of the truth."""
    x, truth = host_image(x, "x"), host_image(truth, "truth")
    if x.shape != truth.shape:
        raise ValueError(f"x and truth must have the same shape, got {x.shape} and {truth.shape}")
    if truth.sum() <= 0 or x.sum() <= 0:
        raise ValueError("x and truth must have a positive sum: they are compared after matching their sums")
    return x * (truth.sum() / x.sum()), truth


@any_kind("x", "truth", answers=False)
def nrmse(x: ArrayLike, truth: ArrayLike) -> float:
    """Return the root-mean-square error relative to the truth, ||s x - truth|| / ||truth||, s matching the sums.

    Parameters
    ----------
    x, truth : (N1, N2) array_like
        Images on the same grid, in any unit.

    Returns
    -------
    error : float
        0 for an image that is proportional to the truth.

    Raises
    ------
    TypeError
        If one is a masked array or does not hold real numbers.
    ValueError
        If shapes differ, values are not finite, or a sum is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from fluogan_core.metrics import nrmse
    >>> truth = np.eye(4)
    >>> nrmse(3 * truth, truth)
    0.0
    >>> round(nrmse(np.ones((4, 4)), truth), 3)
    0.866
    """
    scaled, truth = _compared(x, truth)
    return float(np.linalg.norm(scaled - truth) / np.linalg.norm(truth))


@any_kind("x", "truth", answers=False)
def psnr(x: ArrayLike, truth: ArrayLike) -> float:
    """Return the peak signal-to-noise ratio, the peak being that of the truth, after matching sums.

    Parameters
    ----------
    x, truth : (N1, N2) array_like
        Images on the same grid, in any unit.

    Returns
    -------
    ratio : float
        Decibels; infinite for an image that is proportional to the truth.

    Raises
    ------
    TypeError, ValueError
        As in :func:`nrmse`.

    Examples
    --------
    >>> import numpy as np
    >>> from fluogan_core.metrics import psnr
    >>> truth = np.eye(4)
    >>> psnr(np.ones((4, 4)), truth) < psnr(truth + 0.1, truth) < psnr(truth, truth)
    True
    """
    scaled, truth = _compared(x, truth)
    error = float(((scaled - truth) ** 2).mean())
    return 10.0 * math.log10(float(truth.max()) ** 2 / error) if error > 0 else math.inf


@dataclass(frozen=True)
class BlurredAgreement:
    """How well a super-resolved image, blurred, explains the mean frame (Culley et al. 2018).

    Attributes
    ----------
    rsp : float or None
        Pearson's correlation of the two, -1 to 1; None where one of them is flat.
    rse : float
        Root-mean-square difference after the best scale and offset of the blurred image, in the unit of the mean frame.
    scale, offset : float
        These.
    reason : str
        Why there is no correlation; empty if there is.
    """

    rsp: float | None
    rse: float
    scale: float
    offset: float
    reason: str


@any_kind("x", "mean", answers=False)
def blurred_agreement(x: ArrayLike, mean: ArrayLike, psi: Psi) -> BlurredAgreement:
    r"""Compare :math:`\Psi x` with the mean frame, up to a linear change of brightness.

    An image of any method and unit can be judged; a constant background is absorbed, one that varies is not.  It tells what
    an image invents at the scale of the PSF, and is blind to anything finer.

    Parameters
    ----------
    x : (N1, N2) array_like
        The super-resolved image, in any unit.
    mean : (M1, M2) array_like
        The mean frame, in any unit.
    psi : Psi
        The operator that blurs x.

    Returns
    -------
    BlurredAgreement

    Raises
    ------
    TypeError
        If one is a masked array or does not hold real numbers.
    ValueError
        If shapes do not fit psi, or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.metrics import blurred_agreement
    >>> psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (16, 16), 2, backend="numpy")
    >>> x = np.zeros(psi.fine_shape)
    >>> x[10:20, 12] = 1.0
    >>> found = blurred_agreement(x, 5.0 * psi.forward(x) + 3.0, psi)
    >>> round(found.rsp, 6), round(found.scale, 6), round(found.offset, 6)
    (1.0, 5.0, 3.0)
    """
    x, mean = host_image(x, "x"), host_image(mean, "mean")
    for image, shape, name in ((mean, field_of(psi), "mean"), (x, psi.fine_shape, "x")):
        if image.shape != shape:
            raise ValueError(f"{name} must have psi's shape {shape}, got {image.shape}")
    blurred = psi.backend.to_host(psi.forward(psi.backend.asarray(x)))
    centred, target = blurred - blurred.mean(), mean - mean.mean()
    power, wanted = float((centred**2).mean()), float((target**2).mean())
    # rounding is not structure
    flat = power <= 1e-20 * float((blurred**2).mean()) or not blurred.any()
    if flat or wanted <= 1e-20 * float((mean**2).mean()):
        which = "the blurred image" if flat else "the mean frame"
        return BlurredAgreement(None, math.sqrt(wanted), 0.0, float(mean.mean()), f"{which} is flat")
    product = float((centred * target).mean())
    scale = product / power
    rse = float(np.sqrt(((scale * centred - target) ** 2).mean()))
    return BlurredAgreement(product / math.sqrt(power * wanted), rse, scale, float(mean.mean() - scale * blurred.mean()), "")
