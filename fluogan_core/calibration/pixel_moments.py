"""Mean, variance and covariances of a stack's pixels, and which pixels can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..backend.arrays import default_memory_budget, get_backend
from ..physics.bleaching import bleaching_curves, orthonormal_trend
from ..tuning import DEFAULT
from ..tuning.calibration import LivePixelTuning
from .noise import STILL
from .plain import plain

__all__ = ["Halves", "PixelMoments", "Shift", "in_two", "live_pixels", "pixel_moments", "slow_trend", "windows"]

#: From a pixel to its partner, rows and columns.
Shift = tuple[int, int]


#: Frames in a row that belong to one half.  Molecules that are on for some frames are in both halves then.
_RUN = 4


@dataclass
class Halves:
    """What two halves of the frames say on their own: mean frames (2, M1, M2), covariances (2, ...).

    Frames go to one half and the other in runs of four (:func:`in_two`).
    """

    mean: np.ndarray
    fast: dict[Shift, np.ndarray]
    whole: dict[Shift, np.ndarray]


@dataclass
class PixelMoments:
    """Mean, variance, and covariances at each shift: from consecutive differences (fast), from the whole stack."""

    mean: np.ndarray
    variance: np.ndarray
    fast: dict[Shift, np.ndarray]
    whole: dict[Shift, np.ndarray]
    brightness: np.ndarray
    halves: Halves


def windows(shift: Shift, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Windows of the pixels j and of their partners j + shift, both inside the field; shift[0] is not negative."""
    (down, right), (rows, columns) = shift, shape
    width = max(0, columns - abs(right))
    left, partner = max(0, -right), max(0, right)
    first = slice(0, max(0, rows - down)), slice(left, left + width)
    second = slice(down, max(down, rows)), slice(partner, partner + width)
    return first, second


def in_two(frames: int) -> tuple[np.ndarray, int]:
    """Return the order of frames in which one half comes first, and how many it has.

    Examples
    --------
    >>> in_two(18)
    (array([ 0,  1,  2,  3,  8,  9, 10, 11, 16, 17,  4,  5,  6,  7, 12, 13, 14, 15]), 10)
    """
    other = np.arange(frames) // max(1, min(_RUN, frames // 4)) % 2
    return np.argsort(other, kind="stable"), frames - int(other.sum())


def _mean_products(a: np.ndarray, b: np.ndarray, first: int, degrees: int) -> np.ndarray:
    """Mean products of the ``first`` frames and of the others, (2, ...); ``degrees`` are those of all together."""
    sums = np.array([np.einsum("tij,tij->ij", a[half], b[half]) for half in (slice(first), slice(first, None))], np.float64)
    return sums * (len(a) / max(degrees, 1) / np.maximum([first, len(a) - first], 1))[:, None, None]


def _of_both(halves: np.ndarray, first: int, frames: int) -> np.ndarray:
    """The mean of all frames from those of ``first`` and of the others, (...)."""
    return np.asarray((first * halves[0] + (frames - first) * halves[1]) / max(frames, 1))


def pixel_moments(stack: np.ndarray, shifts: list[Shift]) -> PixelMoments:
    """Compute the moments in bands of rows that fit the memory budget.

    Covariances of the whole stack are those about a slow trend of each pixel.  Where the light clearly bleaches, each pixel's
    share in the curve by which it falls belongs to that trend, and is subtracted before consecutive frames are, too.
    """
    frames, rows, columns = stack.shape
    curves = bleaching_curves(stack, get_backend("numpy"))
    bleaching = orthonormal_trend(curves - curves.mean(axis=0)).astype(np.float32)
    trend = _slow_trend(curves).astype(np.float32)
    reach = max((down for down, _ in shifts), default=0)
    band = max(1, default_memory_budget() // (16 * frames * columns) - reach)

    mean, variance = np.empty((rows, columns)), np.empty((rows, columns))
    fast, whole = ({s: np.empty((2, *mean[windows(s, mean.shape)[0]].shape)) for s in shifts} for _ in range(2))
    (order, first), (order_of_changes, first_changes) = in_two(frames), in_two(frames - 1)
    half_means = np.empty((2, rows, columns))
    brightness = np.zeros(frames)
    for top in range(0, rows, band):
        part = np.array(stack[:, top : top + band + reach], dtype=np.float32)
        height = min(band, rows - top)
        level = part.mean(axis=0, dtype=np.float64)
        mean[top : top + height] = level[:height]
        for half, taken in zip(half_means, (order[:first], order[first:])):
            half[top : top + height] = part[taken, :height].mean(axis=0, dtype=np.float64)
        brightness += part[:, :height].sum(axis=(1, 2), dtype=np.float64) / mean.size
        part -= level.astype(np.float32)
        part -= np.tensordot(bleaching, np.tensordot(bleaching, part, axes=(0, 0)), axes=(1, 0))
        change = np.diff(part, axis=0) * np.float32(math.sqrt(0.5))
        variance[top : top + height] = np.einsum("tij,tij->ij", change[:, :height], change[:, :height]) / max(frames - 1, 1)
        part -= np.tensordot(trend, np.tensordot(trend, part, axes=(0, 0)), axes=(1, 0))
        change, part = change[order_of_changes], part[order]
        for source, target, count, degrees in (
            (change, fast, first_changes, frames - 1),
            (part, whole, first, frames - trend.shape[1]),
        ):
            for shift in shifts:
                one, other = windows(shift, part.shape[1:])
                products = _mean_products(source[:, *one], source[:, *other], count, degrees)
                keep = max(0, min(height, rows - shift[0] - top))
                target[shift][:, top : top + keep] = products[:, :keep]
    halves = Halves(half_means, fast, whole)
    fast = {shift: _of_both(products, first_changes, frames - 1) for shift, products in fast.items()}
    whole = {shift: _of_both(products, first, frames) for shift, products in whole.items()}
    return PixelMoments(mean, variance, fast, whole, brightness, halves)


def slow_trend(stack: np.ndarray) -> np.ndarray:
    """Orthonormal curves about which the covariances of a whole stack are taken, (T, k): parabolas, and how light bleaches."""
    return _slow_trend(bleaching_curves(stack, get_backend("numpy")))


def _slow_trend(curves: np.ndarray) -> np.ndarray:
    frames = len(curves)
    degree = 0 if frames < 10 else 1 if frames < 30 else 2
    slow = np.linalg.qr(np.polynomial.legendre.legvander(np.linspace(-1, 1, frames), degree))[0]
    return np.column_stack([slow, orthonormal_trend(curves, slow)])


def live_pixels(
    stack: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    unlit: np.ndarray,
    tuning: LivePixelTuning = DEFAULT.calibration.live_pixels,
) -> tuple[np.ndarray, list[str]]:
    """Return the pixels that are neither saturated, nor constant, nor hot, and remarks on the others.

    A ceiling shows as a pile of values at the very top: more than twice as many as at the next value down.  A hot pixel
    stands out of its neighbours by half the range of the image, which no optics can do.

    This rule needs no PSF, and :func:`.bad_pixels.find_bad_pixels` does.  Both remain: the width of the PSF is measured on
    these pixels, so that no PSF is known yet, and a camera may be estimated without any.  What is left out here costs a few
    pixels of a regression.  What is left out there is replaced in the frames, and needs the prediction through the PSF.
    """
    from scipy.ndimage import median_filter

    top, second = stack.max(), None
    at_top, count, next_count = np.zeros(variance.shape, dtype=bool), 0, 0
    for frame in stack:
        hit = frame == top
        at_top |= hit
        count += int(hit.sum())
        rest = frame[~hit]
        if rest.size and (second is None or rest.max() >= second):
            value = rest.max()
            next_count = int((rest == value).sum()) + (next_count if value == second else 0)
            second = value
    notes = []
    live = np.ones(variance.shape, dtype=bool)
    if count >= tuning.ceiling and count > tuning.ceiling_ratio * next_count and second is not None:
        live &= ~at_top
        notes.append(
            f"saturation: {count / stack.size:.2%} of the values are {plain(float(top), 6)}, the largest one; their pixels are "
            "left out"
        )
    span = np.ptp(np.quantile(mean, tuning.range))
    hot = np.abs(mean - median_filter(mean, 3)) > tuning.hot * span + tuning.hot_errors * np.sqrt(variance / len(stack))
    # a pixel without photons says nothing on the camera, and it is not a defect
    live &= ~unlit
    for wrong, what in ((variance <= 0, "never change (dead, or masked)"), (hot, "stand out alone (hot)")):
        if (live & wrong).any():
            notes.append(f"pixels left out: {int((live & wrong).sum())} that {what}")
            live &= ~wrong
    if not (variance > 0).any():
        raise ValueError(STILL)
    if (left := int(live.sum())) < tuning.fewest:
        raise ValueError(
            f"{left} of {live.size} pixels fluctuate without saturating, and at least {tuning.fewest} are needed: take a "
            "larger part of the field, or record with less light if it saturates"
        )
    return live, notes
