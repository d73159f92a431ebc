r"""The shift between odd and even rows of a stack, as a bidirectional scan leaves it.

A mean frame whose rows lie alternately at :math:`+s/2` and :math:`-s/2` is a smooth image plus

.. math:: (-1)^r\, a(r, c), \qquad a \approx \tfrac{s}{2}\, \partial_c f,

which no light through a PSF can look like: the PSF passes nothing at the highest row frequency.  Binomial filters along the
columns part the two, and a regression of a on the slope of f gives s.  The rows are then shifted back and the rest is
measured in the same way, so that the error of the slope becomes smaller in each pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..tuning import DEFAULT
from ..tuning.row_shift import RowShiftTuning
from .regression import jackknife

__all__ = ["RowShift", "estimate_row_shift", "row_shift_notes"]

#: Binomial filter along the rows' order; fine structure of the light leaks through a shorter one.
_FILTER = np.array([1, 8, 28, 56, 70, 56, 28, 8, 1]) / 256.0


@dataclass(frozen=True)
class RowShift:
    """How far odd rows lie from even ones.

    Attributes
    ----------
    shift : float
        From even rows (0, 2, ...) to odd ones, along the row, pixels; NaN where the field is too small or too dark.
    error : float
        One standard error, pixels; infinite with a shift of NaN.
    clear : bool
        Whether the shift is many standard errors, and large enough to matter.
    """

    shift: float
    error: float
    clear: bool = False


_UNKNOWN = RowShift(math.nan, math.inf)


def estimate_row_shift(mean: np.ndarray, *, axis: int = 0, tuning: RowShiftTuning = DEFAULT.calibration.row_shift) -> RowShift:
    """Measure the shift between odd and even rows of a mean frame, or columns.

    Parameters
    ----------
    mean : (M1, M2) array
        Mean frame, counts.
    axis : {0, 1}
        0 for rows that are shifted along themselves, 1 for columns.
    tuning : RowShiftTuning, optional
        Numbers by trial.

    Returns
    -------
    RowShift

    Examples
    --------
    >>> import numpy as np
    >>> r, c = np.mgrid[:32, :32]
    >>> spot = np.exp(-((r - 15) ** 2 + (c - 0.2 * (r % 2) - 16) ** 2) / 8)
    >>> round(estimate_row_shift(spot).shift, 2)
    0.2
    """
    from scipy.ndimage import shift as shifted

    image = np.asarray(mean, dtype=np.float64)
    image = image.T if axis else image
    if image.shape[0] < 2 * len(_FILTER) or image.shape[1] < 2 * tuning.blocks:
        return _UNKNOWN
    odd = np.arange(image.shape[0]) % 2 == 1
    total, error = 0.0, math.inf
    for _ in range(tuning.passes):
        straight = image.copy()
        if total:  # half a shift each way: both kinds of rows are then as sharp
            for rows, way in ((odd, -0.5), (~odd, 0.5)):
                straight[rows] = shifted(image[rows], (0.0, way * total), order=3, mode="nearest")
        step, error = _measured(straight, tuning)
        if not (math.isfinite(step) and abs(total + step) <= tuning.most):
            return _UNKNOWN
        total += step
        if abs(step) < 1e-3 * max(1.0, error):
            break
    return RowShift(total, error, abs(total) > max(tuning.least, tuning.clear * error) and error < math.inf)


def _measured(image: np.ndarray, tuning: RowShiftTuning) -> tuple[float, float]:
    """Shift from even to odd rows in linear approximation, and its jackknife error."""
    windows = np.lib.stride_tricks.sliding_window_view(image, len(_FILTER), axis=0)
    row = np.arange(windows.shape[0])[:, None] + len(_FILTER) // 2
    sign = 1 - 2 * (np.arange(len(_FILTER)) % 2)  # +1 at the middle, whose index is even
    alternating = (1 - 2 * (row % 2)) * (windows @ (_FILTER * sign))
    slope = np.gradient(windows @ _FILTER, axis=1)
    # the outermost columns are mirrored or one-sided
    alternating, slope = alternating[:, 2:-2], slope[:, 2:-2]
    down, across = (np.arange(size) * tuning.blocks // size for size in slope.shape)
    block = (down[:, None] * tuning.blocks + across).ravel()
    top, bottom = (np.bincount(block, (slope * other).ravel(), tuning.blocks**2) for other in (alternating, slope))
    if not (bottom.sum() - bottom.max() > 0):
        return math.nan, math.inf
    whole = top.sum() / bottom.sum()
    # both filters pass the same noise, and half of its power is left in the slope: without light it is all that is there
    rest = float(((alternating - whole * slope) ** 2).mean())
    if bottom.sum() < tuning.light * 0.5 * rest * slope.size:
        return math.nan, math.inf
    left_out = (top.sum() - top) / (bottom.sum() - bottom)
    # rows at +s/2 show f(c - s/2): an odd row that lies s to the right makes the alternating part s/2 times the slope
    values = 2.0 * np.concatenate([[whole], left_out])
    # with light in few blocks the jackknife error is too small: take at least the noise that the filter spread over rows
    least = 2.0 * math.sqrt(rest / (_FILTER**2).sum() / bottom.sum())
    return float(values[0]), max(float(jackknife(values[:, None])[0]), least)


def row_shift_notes(mean: np.ndarray, tuning: RowShiftTuning = DEFAULT.calibration.row_shift) -> list[str]:
    """Remarks on shifted rows or columns of a mean frame; none where no shift is clear."""
    notes = []
    for axis, lines, way in ((0, "rows", "right"), (1, "columns", "down")):
        found = estimate_row_shift(mean, axis=axis, tuning=tuning)
        if found.clear:
            notes.append(
                f"odd {lines} lie {found.shift:+.2f} +- {found.error:.2g} pixels from even ones (positive: to the {way}), as a "
                f"bidirectional scan leaves them: the image is blurred by so much along the {lines}; correct the phase of the "
                f"scan, or shift the {lines} back before the fit"
            )
    return notes
