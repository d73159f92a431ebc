"""Rolling Fourier ring correlation: how far into the spectrum two independent images agree, place by place."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..backend.checks import whole_number
from ..backend.kinds import any_kind
from ..backend.typing import ArrayLike
from .resolution import Rings, comparable

__all__ = ["ResolutionMap", "resolution_map"]


@dataclass(frozen=True, eq=False)
class ResolutionMap:
    """A rolling Fourier ring correlation.

    Attributes
    ----------
    resolution_nm : (N1, N2) float32
        One over the frequency at which the correlation of the block around a pixel falls below the threshold, nm; NaN where
        it does not cross.
    limited_by_pixels : (N1, N2) bool
        Where it does not cross because it stays above the threshold.  Elsewhere NaN means that the two images have nothing in
        common beyond noise.
    median_nm : float or None
        Median over the blocks that cross; None if none does.
    reason : str
        Why there is no median; empty if there is one.
    """

    resolution_nm: np.ndarray = field(repr=False)
    limited_by_pixels: np.ndarray = field(repr=False)
    median_nm: float | None
    reason: str


@any_kind("a", "b", answers=False)
def resolution_map(
    a: ArrayLike, b: ArrayLike, pixel_size_nm: float, *, side: int = 64, step: int = 8, threshold: float = 1.0 / 7.0
) -> ResolutionMap:
    """Compute :func:`fourier_ring_correlation` in square blocks that move over the field.

    Blocks start in the upper left corner and move by ``step``, so that a row more at the far edge changes nothing.  A pixel has
    the value of the block whose middle is nearest.  Blocks hold few frequencies: a value scatters by about 10 % with 64 pixels.

    Parameters
    ----------
    a, b : (N1, N2) array_like
        Two images of one object with independent noise, such as reconstructions of two halves of the frames.
    pixel_size_nm : float
        Pixel of these images, nm.
    side : int
        Of a block, pixels; at least 16, at most the shorter side of the images.
    step : int
        From block to block, pixels.
    threshold : float
        Of the correlation; above 0, at most 1.

    Returns
    -------
    ResolutionMap

    Raises
    ------
    TypeError
        If an image is a masked array or does not hold real numbers, or a number is not one.
    ValueError
        If shapes differ, values are not finite, a number is out of its range, or the images are smaller than a block.

    Examples
    --------
    Grains on the left, noise alone on the right:

    >>> import numpy as np
    >>> from scipy.ndimage import gaussian_filter
    >>> from fluogan_core.metrics import resolution_map
    >>> rng = np.random.default_rng(0)
    >>> grains = np.where(np.arange(128) < 64, 20 * gaussian_filter(rng.standard_normal((64, 128)), 2), 0)
    >>> a, b = (grains + rng.standard_normal(grains.shape) for _ in range(2))
    >>> found = resolution_map(a, b, pixel_size_nm=25.0, side=32)
    >>> bool(found.resolution_nm[32, 16] < 250), bool(np.isnan(found.resolution_nm[32, 112]))
    (True, True)
    """
    a, b, pixel_size_nm, threshold = comparable(a, b, pixel_size_nm, threshold)
    side, step = whole_number(side, "side", low=16), whole_number(step, "step", low=1)
    if min(a.shape) < side:
        raise ValueError(f"a block of side={side} pixels does not fit into images of {a.shape}: give a smaller side")
    rings = Rings((side, side))
    starts = [np.arange(0, n - side + 1, step) for n in a.shape]
    blocks = np.full([len(start) for start in starts], np.nan)
    limited = np.zeros(blocks.shape, dtype=bool)
    for i, row in enumerate(starts[0]):
        for j, column in enumerate(starts[1]):
            place = slice(row, row + side), slice(column, column + side)
            found = rings.compared(a[place], b[place], pixel_size_nm, threshold)
            limited[i, j] = found.limited_by_pixels
            if found.resolution_nm is not None:
                blocks[i, j] = found.resolution_nm
    nearest = [
        np.clip(np.rint((np.arange(n) - (side - 1) / 2) / step).astype(int), 0, len(start) - 1)
        for n, start in zip(a.shape, starts)
    ]
    spread = np.ix_(*nearest)
    crossed = np.isfinite(blocks)
    median, reason = float(np.median(blocks[crossed])) if crossed.any() else None, ""
    if median is None:
        reason = "the two images have nothing in common beyond noise"
        if limited.any():
            reason = f"the correlation stays above {threshold:.3g} up to the highest frequency: the pixels limit the resolution"
    return ResolutionMap(blocks[spread].astype(np.float32), limited[spread], median, reason)
