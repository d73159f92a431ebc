r"""The shift between odd and even rows of a stack, as a bidirectional scan leaves it: measured, and taken back.

Light through the PSF is smooth from row to row.  Where odd rows lie by s from even ones, the mean frame has power at the
highest row frequencies, which the PSF does not pass.  With light a Gaussian field that the PSF has blurred, of the power P, and
white noise n (as for bad pixels), s is where the rows that are shifted back, :math:`y_s`, are likeliest:

.. math:: \hat s = \arg\min_s \sum_k \frac{|\hat y_s(k)|^2}{P_k + n},

in cosines.  A shift keeps the power of white noise, so that noise alone prefers no s, and n follows from the frequencies that
the PSF does not pass.  Rows and columns of unequal offset, and what alternates from row to row but is smooth along the rows (a
background that is not shifted with the light), have no part in it.

Counts are moved by half of the shift each way, by the shift theorem in cosines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..backend.checks import field_of, real_number
from ..backend.typing import Array
from ..physics.psi import Psi
from ..stack import StackLike
from ..tuning import DEFAULT
from ..tuning.calibration import CalibrationTuning
from ..tuning.row_shift import RowShiftTuning
from .bad_pixels import fill_pixels, find_bad_pixels, light_power
from .noise import temporal_moments
from .stack_statistics import StackStatistics

__all__ = [
    "RowShift",
    "estimate_row_shift",
    "filled_and_straightened",
    "given_row_shift",
    "row_shift_from",
    "row_shift_of",
    "straightened",
]


@dataclass(frozen=True)
class RowShift:
    """How far odd rows lie from even ones, or columns.

    Attributes
    ----------
    shift : float
        From even rows (0, 2, ... of the field) to odd ones, along the row, camera pixels; NaN where it is not measured.
    error : float
        One standard error, pixels; 0 if given, infinite with a shift of NaN.
    axis : {0, 1}
        0 for rows, 1 for columns (a transposed file).
    applied : float
        By how much of it rows are moved back: all of a clear shift, nothing of one that may be chance, and in between by
        degrees.
    """

    shift: float
    error: float
    axis: int = 0
    applied: float = 0.0

    @property
    def note(self) -> str:
        """What to know of it; empty where nothing is applied."""
        if not self.applied:
            return ""
        lines, way = ("rows", "right") if self.axis == 0 else ("columns", "down")
        size = f"{self.shift:+.2f} pixels (given)" if not self.error else f"{self.shift:+.2f} +- {self.error:.2g} pixels"
        part = "" if self.applied == self.shift else f" by {self.applied:+.2f} pixels"
        return (
            f"odd {lines} lie {size} from even ones (positive: to the {way}), as a bidirectional scan leaves them: they are "
            f"moved back{part} for the fit"
        )


_UNKNOWN = RowShift(math.nan, math.inf)
#: Median of chi-square with one degree of freedom, its mean being 1.
_MEDIAN = 0.4549364


def estimate_row_shift(stack: StackLike, psi: Psi, *, tuning: CalibrationTuning = DEFAULT.calibration) -> RowShift:
    """Measure by how much odd rows of a stack lie beside even ones, or columns, whichever is clearer.

    Parameters
    ----------
    stack : (T, M1, M2) array, integers or floats, or Stack
        Raw counts.
    psi : Psi
        The operator; its ``photons_per_emitter`` does not matter.
    tuning : CalibrationTuning, optional
        Numbers by trial.

    Returns
    -------
    RowShift
        Unknown (a shift of NaN) in fields that are too small, without light, or where the PSF is too narrow.

    Raises
    ------
    ValueError
        If the stack is not (T, M1, M2) of psi's field with T of 2 or more, not finite, or does not change at all.
    TypeError
        If it holds neither integers nor floats.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(300, 100, 1), (32, 32), 1, backend="numpy")
    >>> r, c = np.mgrid[:32, :32]
    >>> spot = 200 * np.exp(-((r - 15) ** 2 + (c - 0.2 * (r % 2) - 16) ** 2) / 3.2)
    >>> found = fg.estimate_row_shift(np.random.default_rng(0).poisson(spot + 5, (50, 32, 32)), psi)
    >>> abs(found.shift - 0.2) < 4 * found.error, found.error < 0.02, found.axis
    (True, True, 0)
    """
    return row_shift_of(StackStatistics(stack, field_of(psi), tuning), psi, tuning)


def row_shift_of(statistics: StackStatistics, psi: Psi, tuning: CalibrationTuning = DEFAULT.calibration) -> RowShift:
    """:func:`estimate_row_shift` from statistics that may be shared."""
    field = psi.nominal
    mean, variance = temporal_moments(statistics.frames, 0.0, tuning.noise)
    frames = len(statistics.frames)
    bad = find_bad_pixels(mean, variance, frames, field, unlit=statistics.unlit, tuning=tuning.bad_pixels)
    return row_shift_from(bad.filled, variance / frames, field, tuning.row_shift)


def row_shift_from(
    mean: np.ndarray, noise: np.ndarray, psi: Psi, tuning: RowShiftTuning = DEFAULT.calibration.row_shift
) -> RowShift:
    """:func:`estimate_row_shift` of a mean frame without bad pixels, and the variance that its noise may have, counts^2."""
    if min(mean.shape) < tuning.fewest:
        return _UNKNOWN
    power, found = light_power(psi), _UNKNOWN
    for axis in (0, 1):
        turned = (mean, power, noise) if axis == 0 else (mean.T, power.T, noise.T)
        shift, error = _measured(*turned, tuning)
        if math.isinf(found.error) or abs(shift) * found.error > abs(found.shift) * error:
            found = RowShift(shift, error, axis)
    if math.isinf(found.error):
        return _UNKNOWN
    sure = (abs(found.shift) / found.error - tuning.chance) / (tuning.clear - tuning.chance)
    matters = (abs(found.shift) - tuning.least) / tuning.least
    taken = min(max(sure, 0.0), 1.0) * min(max(matters, 0.0), 1.0)
    return RowShift(found.shift, found.error, found.axis, taken * found.shift)


def given_row_shift(value: float | RowShift) -> RowShift:
    """A shift that is given: of rows if it is a number, pixels; ValueError or TypeError if it is none."""
    if isinstance(value, RowShift):
        return RowShift(real_number(value.shift, "row_shift", low=-2, high=2), 0.0, value.axis, value.shift)
    shift = real_number(value, "row_shift", low=-2, high=2)
    return RowShift(shift, 0.0, 0, shift)


def _measured(mean: np.ndarray, power: np.ndarray, noise: np.ndarray, tuning: RowShiftTuning) -> tuple[float, float]:
    """Shift between odd and even rows of a mean frame, and its error; NaN and infinity where there is none to be had."""
    from scipy import fft

    dark, bright = np.quantile(mean, (0.1, 0.995))
    light = 0.25 * float(bright - dark) ** 2 / power.mean() * power
    inner = np.ones(mean.shape, bool)
    inner[0], inner[:, 0] = False, False  # rows and columns of unequal offset
    faint = float(np.quantile(power[inner], tuning.faint))
    if not (light.max() > 0 and faint < tuning.dark):
        return math.nan, math.inf
    level, total, step = float(noise.mean()), 0.0, tuning.step

    def spectrum(shift: float) -> np.ndarray:
        straight = straightened(mean, shift)
        return np.asarray(fft.dctn(straight - _smooth_alternation(straight, tuning), norm="ortho"))

    for _ in range(tuning.passes):
        now, after, before = (spectrum(total + move) for move in (0.0, step, -step))
        empty = inner & ((light < tuning.empty * level) | (power <= faint))
        level = max(float(np.median(now[empty] ** 2)) / _MEDIAN, 1e-12 * float(light.max()))
        weights = inner / (light + level)
        there, here, back = (float((weights * values**2).sum()) for values in (after, now, before))
        slope = (after - before) / (2 * step)
        curvature = 0.5 * (there + back - 2 * here) / step**2
        known = float((weights * slope**2).sum())
        if not curvature > tuning.light * known:  # noise alone has a slope, but prefers no shift
            return math.nan, math.inf
        move = -0.25 * (there - back) / (step * curvature)
        total += min(max(move, -tuning.farthest), tuning.farthest)
        if abs(total) > tuning.most:
            return math.nan, math.inf
        if abs(move) < 1e-4:
            break
    # where the light is, noise is more than elsewhere, and there the shift is read
    read = fft.idctn(weights * slope, norm="ortho") ** 2
    uneven = level * float((read * noise).sum()) / max(float(noise.mean()), 1e-300)
    # what each part of the field says: light that is not as the prior has it makes the parts differ
    said = fft.idctn(weights * now, norm="ortho") * fft.idctn(slope, norm="ortho")
    down, across = (np.arange(size) * tuning.blocks // size for size in mean.shape)
    parts = np.bincount((down[:, None] * tuning.blocks + across).ravel(), said.ravel())
    return total, math.sqrt(max(known, uneven, float((parts**2).sum()))) / curvature


def _smooth_alternation(image: np.ndarray, tuning: RowShiftTuning) -> np.ndarray:
    """What of an image changes sign from row to row and is smooth but for that: waves longer than so many pixels."""
    from scipy import fft

    sign = 1.0 - 2.0 * (np.arange(image.shape[0]) % 2)[:, None]
    waves = fft.dctn(sign * image, norm="ortho")
    rows, columns = (math.ceil(2 * size / tuning.smooth) for size in image.shape)
    waves[rows:], waves[:, columns:] = 0.0, 0.0
    return np.asarray(sign * fft.idctn(waves, norm="ortho"))


def straightened(counts: Array, shift: float, *, axis: int = 0, first: int = 0) -> Array:
    """Return images whose odd rows lie at ``shift`` from even ones with the rows moved back, half of it each way.

    Every row is multiplied by one matrix, the shift theorem for a row that is mirrored at its ends: it keeps a constant
    exactly, and the power of white noise except in the outermost pixels.

    Parameters
    ----------
    counts : (..., M1, M2) array
        Of any device; floating point.
    shift : float
        From even rows to odd ones, pixels.
    axis : {0, 1}
        0 for rows that are shifted along themselves, 1 for columns.
    first : int
        Number of the first row, or column, in the field whose even rows are meant.

    Returns
    -------
    (..., M1, M2) array
        The same array for a shift of 0, else a new one of its dtype.

    Examples
    --------
    >>> ramp = np.tile(np.cos(np.pi * (np.arange(8) + 0.5) / 8), (2, 1))
    >>> moved = straightened(ramp, 0.5)
    >>> np.allclose(moved[1], np.cos(np.pi * (np.arange(8) + 0.75) / 8))
    True
    """
    if not shift:
        return counts
    from ..backend.arrays import backend_of

    xp = np if isinstance(counts, np.ndarray) else backend_of(counts=counts).xp
    rows = counts if axis == 0 else counts.swapaxes(-1, -2)
    moved = xp.empty_like(rows)
    for odd, way in ((1, 0.5), (0, -0.5)):
        matrix = xp.asarray(_shifting(rows.shape[-1], way * shift), dtype=counts.dtype)
        start = (odd + first) % 2
        moved[..., start::2, :] = rows[..., start::2, :] @ matrix
    return xp.ascontiguousarray(moved if axis == 0 else moved.swapaxes(-1, -2))


def filled_and_straightened(
    counts: Array, bad: np.ndarray, values: np.ndarray, psi: Psi, found: RowShift | None, first: tuple[int, int] = (0, 0)
) -> Array:
    """Return frames as they are fitted: bad pixels at values that the others predict, and rows moved back.

    Parameters
    ----------
    counts : (T, M1, M2) array
        On the host or where psi computes.
    bad : (M1, M2) bool
    values : (K,) array
        Of the K bad pixels in the order of ``numpy.nonzero(bad)``, counts.
    psi : Psi
    found : RowShift, optional
    first : (row, column)
        Where these frames lie in the field that ``found`` is of.

    Returns
    -------
    (T, M1, M2) array
        The same array if there is nothing to do.
    """
    counts = fill_pixels(counts, bad, values, psi)
    if found is None or not found.applied:
        return counts
    # once more: a bad pixel stands still, it takes nothing from its neighbours
    return fill_pixels(straightened(counts, found.applied, axis=found.axis, first=first[found.axis]), bad, values, psi)


def _shifting(size: int, way: float) -> np.ndarray:
    """The matrix (size, size) that takes a row f(c), from the left, to f(c + way)."""
    # cosines of the mirrored row, and the same at places that are shifted
    waves = np.pi * np.arange(size)[:, None] / size
    norm = np.where(np.arange(size) == 0, 1.0, 2.0)[:, None] / size
    return np.asarray((norm * np.cos(waves * (np.arange(size) + 0.5))).T @ np.cos(waves * (np.arange(size) + 0.5 + way)))
