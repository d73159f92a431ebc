"""Does an image of any method explain the mean frame?  Error and correlation after blurring it, place by place (SQUIRREL)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..backend.checks import host_image, whole_number
from ..backend.kinds import any_kind
from ..backend.typing import ArrayLike
from ..physics.psi import Psi
from .images import BlurredAgreement, blurred_agreement
from .sections import Optic

__all__ = ["AgreementMap", "agreement_map"]

#: Side of the region of one value, widths of the PSF.
_SIDE = 3.0


@dataclass(frozen=True, eq=False)
class AgreementMap:
    """Where an image, blurred, agrees with the mean frame (Culley et al. 2018).

    Attributes
    ----------
    error : (M1, M2) float32
        Mean frame minus the blurred image after one scale and offset for the whole field, in the unit of the mean frame.
        Above 0 the image lacks light.  Its absolute value is SQUIRREL's error map.
    rse : (M1, M2) float32
        Root mean square of the error in the region around each pixel.
    rsp : (M1, M2) float32
        Pearson's correlation of the two in the same region, -1 to 1; NaN where one of them shows nothing but noise there.
    side : int
        Of the region, camera pixels.
    whole : BlurredAgreement
        The two figures for the whole field, with scale and offset.
    """

    error: np.ndarray = field(repr=False)
    rse: np.ndarray = field(repr=False)
    rsp: np.ndarray = field(repr=False)
    side: int
    whole: BlurredAgreement


@any_kind("x", "mean", "noise", answers=False)
def agreement_map(
    x: ArrayLike, mean: ArrayLike, psi: Psi, *, noise: ArrayLike | None = None, side: int | None = None
) -> AgreementMap:
    r"""Compare :math:`\Psi x` with the mean frame, place by place, after the best scale and offset for the whole field.

    The resolution-scaled error (RSE) and the resolution-scaled Pearson coefficient (RSP) of Culley et al. 2018, with the
    operator at hand in place of a fitted blur.  They tell what an image invents or lacks at the scale of the PSF, and are
    blind to anything finer.

    Parameters
    ----------
    x : (N1, N2) array_like
        The super-resolved image, in any unit.
    mean : (M1, M2) array_like
        The mean frame, in any unit, without a background that varies.
    psi : Psi
        The operator that blurs x.
    noise : (M1, M2) array_like, optional
        Standard error of the mean frame, in its unit.  A region whose light varies by less than that has no correlation.
    side : int, optional
        Of the region around a pixel, camera pixels, odd; three widths of the PSF by default.

    Returns
    -------
    AgreementMap

    Raises
    ------
    TypeError
        If something is a masked array or does not hold real numbers.
    ValueError
        If shapes do not fit psi, values are not finite, noise is negative, or side is even or below 3.

    See Also
    --------
    blurred_agreement : the two figures for the whole field.

    Examples
    --------
    An image that lacks one of two lines:

    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.metrics import agreement_map
    >>> psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (40, 40), 2, backend="numpy")
    >>> truth = np.zeros(psi.fine_shape)
    >>> truth[10:70, [20, 60]] = 1.0
    >>> x = truth.copy()
    >>> x[:, 60] = 0
    >>> found = agreement_map(x, psi.forward(truth), psi)
    >>> found.side, bool(found.rsp[20, 10] > 0.99), bool(found.rse[20, 30] > 2 * found.rse[20, 10])
    (9, True, True)
    """
    whole = blurred_agreement(x, mean, psi)
    x, mean = host_image(x, "x"), host_image(mean, "mean")
    least = np.zeros(mean.shape) if noise is None else host_image(noise, "noise")
    if least.shape != mean.shape or least.min() < 0:
        raise ValueError(f"noise must be 0 or more, of mean's shape {mean.shape}, got {least.shape}")
    if side is None:
        side = 2 * int(_SIDE * Optic(psi.psf, psi.factor, psi.binning == "sum").width / psi.factor / 2) + 1
    side = whole_number(side, "side", low=3)
    if side % 2 == 0:
        raise ValueError(f"side must be odd, so that a pixel is in the middle of its region, got {side}")
    blurred = (
        whole.scale * np.asarray(psi.backend.to_host(psi.forward(psi.backend.asarray(x))), dtype=np.float64) + whole.offset
    )
    error = mean - blurred
    # about a common level, so that differences of squares do not cancel
    level = float(mean.mean())
    regions = _Regions(mean.shape, side)
    squares = [regions.mean((image - level) ** 2) for image in (blurred, mean)]
    spread = [square - regions.mean(image - level) ** 2 for square, image in zip(squares, (blurred, mean))]
    product = regions.mean((blurred - level) * (mean - level)) - regions.mean(blurred - level) * regions.mean(mean - level)
    # a difference far below what is subtracted is rounding
    shown = [part > np.maximum(regions.mean(least**2), 1e-10 * square) for part, square in zip(spread, squares)]
    both = shown[0] & shown[1]
    rsp = np.full(mean.shape, np.nan)
    rsp[both] = np.clip(product[both] / np.sqrt(spread[0][both] * spread[1][both]), -1.0, 1.0)
    rse = np.sqrt(regions.mean(error**2))
    return AgreementMap(error.astype(np.float32), rse.astype(np.float32), rsp.astype(np.float32), side, whole)


class _Regions:
    """Means over squares around every pixel, cut at the border of the field."""

    def __init__(self, shape: tuple[int, ...], side: int) -> None:
        self._ones = np.ones(side)
        self._count = self._sum(np.ones(shape))

    def _sum(self, image: np.ndarray) -> np.ndarray:
        from scipy import ndimage

        for axis in (0, 1):
            image = ndimage.correlate1d(image, self._ones, axis=axis, mode="constant")
        return image

    def mean(self, image: np.ndarray) -> np.ndarray:
        """The mean of an image over the region of each pixel."""
        return self._sum(image) / self._count
