"""How good is a reconstruction: distances to a known truth, lines, resolution, and what it predicts of frames.

Where a figure does not exist (no pair is found, a correlation never crosses its threshold) the report says why; nothing here
returns NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend.checks import host_image
from ..physics.psi import Psi

__all__ = ["BlurredAgreement", "blurred_agreement", "nrmse", "psnr"]


def _compared(x: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both images as float64, x scaled to the sum of the truth."""
    x, truth = host_image(x, "x"), host_image(truth, "truth")
    if x.shape != truth.shape:
        raise ValueError(f"x and truth must have the same shape, got {x.shape} and {truth.shape}")
    if truth.sum() <= 0 or x.sum() <= 0:
        raise ValueError("x and truth must have a positive sum: they are compared after matching their sums")
    return x * (truth.sum() / x.sum()), truth


def nrmse(x: Any, truth: Any) -> float:
    """Return the root-mean-square error relative to the truth, ||s x - truth|| / ||truth||, s matching the sums.

    Parameters
    ----------
    x, truth : (N1, N2) array

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or a sum is not positive.
    """
    scaled, truth = _compared(x, truth)
    return float(np.linalg.norm(scaled - truth) / np.linalg.norm(truth))


def psnr(x: Any, truth: Any) -> float:
    """Return the peak signal-to-noise ratio in dB, the peak being that of the truth, after matching sums.

    Infinite for a perfect image.  Errors as in :func:`nrmse`.
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


def blurred_agreement(x: Any, mean: Any, psi: Psi) -> BlurredAgreement:
    r"""Compare :math:`\Psi x` with the mean frame, up to a linear change of brightness.

    An image of any method and unit can be judged; a constant background is absorbed, one that varies is not.  It tells what
    an image invents at the scale of the PSF, and is blind to anything finer.

    Parameters
    ----------
    x : (N1, N2) array
    mean : (M1, M2) array
    psi : Psi

    Raises
    ------
    ValueError
        If shapes do not fit psi, or values are not finite.
    """
    x, mean = host_image(x, "x"), host_image(mean, "mean")
    for image, shape, name in ((x, psi.fine_shape, "x"), (mean, psi.shape, "mean")):
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
