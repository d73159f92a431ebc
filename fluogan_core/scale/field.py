"""What is measured once for a whole field that does not fit into memory: camera, PSF width, bad pixels, noise."""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import Protocol, TypedDict, Unpack

import numpy as np

from ..backend.memory import default_memory_budget
from ..calibration.bad_pixels import find_bad_pixels
from ..calibration.calibrate import Calibration, calibrate
from ..calibration.camera import Camera
from ..calibration.noise import noise_from
from ..calibration.row_shift import RowShift, given_row_shift, straightened
from ..calibration.unlit import unlit_pixels
from ..physics.on_field import on_field
from ..physics.psi import Psi

__all__ = ["FieldMoments", "Frames", "Known", "calibrate_field", "field_moments", "sample_window"]

log = logging.getLogger("fluogan_core")

#: Bytes that a calibration holds per pixel and frame of its stack: the frames, and their moments in floats.
_BYTES_PER_COUNT = 24
#: Sides of the part of a field that a calibration is measured on, camera pixels.  An error of the PSF's width of one per cent
#: takes 32 x 32 pixels and 500 frames; more than 256 x 256 pixels show nothing new.
_SMALLEST, _LARGEST = 48, 256
#: Frames of which the place of that part is chosen.
_LOOKED_AT = 32


class Known(TypedDict, total=False):
    """What is known of camera and emitters, as :func:`fluogan_core.calibrate` takes it."""

    camera: Camera | None
    gain: float | None
    offset: float | None
    noise_std: float | None
    photons_per_emitter: float | None
    psf_width: float | None
    row_shift: float | RowShift | None


class Frames(Protocol):
    """What is read piece by piece: :class:`fluogan_core.io.lazy.LazyStack`, or frames that a program holds."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def read(self, frames: slice | range = ..., rows: slice = ..., columns: slice = ...) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True, eq=False)
class FieldMoments:
    """Moments of every pixel, of frames that were read one block after the other.

    Attributes
    ----------
    mean, variance : (M1, M2) float64
        Counts; the variance is from differences of consecutive frames.
    at_lowest : (M1, M2) float64
        Share of the frames in which a pixel is at the lowest count of all.
    frames : int
    """

    mean: np.ndarray
    variance: np.ndarray
    at_lowest: np.ndarray
    frames: int


def field_moments(source: Frames, frames: range, left_out: tuple[int, ...], budget: int) -> FieldMoments:
    """Read frames in blocks that fit the budget, once, and return the moments of every pixel.

    Parameters
    ----------
    source : Frames
    frames : range
        Numbers of the frames.
    left_out : tuple of int
        Of these, counted from the first of them, the ones that stand apart.
    budget : int
        Bytes.

    Returns
    -------
    FieldMoments
    """
    rows, columns = source.shape[1:]
    block = max(1, min(64, budget // (4 * 16 * rows * columns)))
    total, squares, at_lowest = (np.zeros((rows, columns)) for _ in range(3))
    lowest, last, count, apart = math.inf, None, 0, set(left_out)
    for first in range(0, len(frames), block):
        for place, frame in enumerate(source.read(frames[first : first + block]), first):
            if place in apart:
                continue
            if (low := float(frame.min())) < lowest:
                lowest = low
                at_lowest[:] = 0
            at_lowest += frame == lowest
            total += frame
            if last is not None:
                step = frame.astype(np.float64) - last
                squares += step * step
            last, count = frame.astype(np.float64), count + 1
    return FieldMoments(total / count, 0.5 * squares / max(count - 1, 1), at_lowest / count, count)


def sample_window(mean: np.ndarray, side: int) -> tuple[slice, slice]:
    """Return the part of a field, about ``side`` pixels wide, whose brightness varies most: dark and bright pixels in one.

    Parameters
    ----------
    mean : (M1, M2)
        Mean frame, counts.
    side : int
        Camera pixels.

    Returns
    -------
    two slices
        Rows and columns.

    Examples
    --------
    >>> mean = np.full((100, 100), 5.0)
    >>> mean[60:80, 70:90] += 50
    >>> sample_window(mean, 40)
    (slice(40, 80, None), slice(60, 100, None))
    """
    from scipy.ndimage import median_filter

    smooth = median_filter(mean, 3)  # single pixels are hot, not bright
    starts = [sorted({*range(0, max(n - side, 0) + 1, max(side // 2, 1)), max(n - side, 0)}) for n in mean.shape]
    spreads = {
        (top, left): float(smooth[top : top + side, left : left + side].std()) for top in starts[0] for left in starts[1]
    }
    top, left = max(spreads, key=lambda place: spreads[place])
    return slice(top, min(top + side, mean.shape[0])), slice(left, min(left + side, mean.shape[1]))


def calibrate_field(
    source: Frames, psi: Psi, *, frames: range | None = None, budget: int | None = None, **given: Unpack[Known]
) -> Calibration:
    """Measure once, in bounded memory, what all tiles and windows of a recording share.

    Camera, photons per emission and width of the PSF are measured on the part of the field whose brightness varies most
    (:func:`sample_window`), as large as the budget allows, at most 256 x 256 pixels.  Noise and bad pixels are those of the
    whole field.

    Parameters
    ----------
    source : Frames
    psi : Psi
        The operator with the PSF as described, of any field.
    frames : range, optional
        Numbers of the frames to measure; all by default.
    budget : int, optional
        Bytes; :func:`fluogan_core.backend.memory.default_memory_budget` by default.
    **given
        What is known, as for :func:`fluogan_core.calibrate`.

    Returns
    -------
    Calibration
        Its ``psi`` has the field of the sample; ``noise``, ``bad_pixels`` and ``mean`` are of the whole field.

    Raises
    ------
    ValueError, TypeError
        As for :func:`fluogan_core.calibrate`.
    """
    frames = range(source.shape[0]) if frames is None else frames
    budget = default_memory_budget() if budget is None else budget
    side = int(min(max(math.isqrt(budget // 2 // (_BYTES_PER_COUNT * len(frames))), _SMALLEST), _LARGEST))
    shape = source.shape[1:]
    rows, columns = slice(0, shape[0]), slice(0, shape[1])
    if max(shape) > side:
        some = frames[:: max(1, len(frames) // _LOOKED_AT)]
        mean = np.zeros(shape)
        for number in some:
            mean += source.read(range(number, number + 1))[0]
        rows, columns = sample_window(mean / len(some), side)
    sample = source.read(frames, rows, columns)
    odd = (rows.start % 2 == 1, columns.start % 2 == 1)
    if (asked := given.get("row_shift")) is not None:
        given["row_shift"] = _seen_from(given_row_shift(asked), odd)
    found = calibrate(sample, on_field(psi, sample.shape[1:]), **given)
    if sample.shape[1:] == tuple(shape):
        return found
    del sample
    log.info("measured on rows %d to %d and columns %d to %d", rows.start, rows.stop, columns.start, columns.stop)
    moments = field_moments(source, frames, found.left_out, budget)
    whole = on_field(found.psi, shape, method="convolutions")
    unlit = unlit_pixels(moments.variance, moments.at_lowest, moments.frames)
    mean, variance = moments.mean - found.camera.offset, moments.variance
    bad = find_bad_pixels(mean, variance, moments.frames, whole, unlit=unlit)
    values = bad.filled[bad.mask].astype(np.float32)
    mean[bad.mask], variance[bad.mask] = values, 0.0
    shifted = None if found.row_shift is None else _seen_from(found.row_shift, odd)
    if shifted is not None and shifted.applied:
        mean = straightened(mean, shifted.applied, axis=shifted.axis)
        mean[bad.mask] = values
    of_rows = () if shifted is None or not shifted.note else (shifted.note,)
    of_shape = () if found.psf_shape is None else (found.psf_shape.note,)
    return dataclasses.replace(
        found,
        noise=noise_from(mean, variance, moments.frames, whole),
        bad_pixels=bad.mask,
        bad_pixel_values=values,
        mean=mean,
        remarks=(*found.estimate.notes, found.psf_width.note, *of_shape, *bad.remarks, *of_rows),
        row_shift=shifted,
    )


def _seen_from(found: RowShift, odd: tuple[bool, bool]) -> RowShift:
    """A shift of the field as a part of it shows it whose first row or column is an odd one of the field, and the reverse."""
    return dataclasses.replace(found, shift=-found.shift, applied=-found.applied) if odd[found.axis] else found
