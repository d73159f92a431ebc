"""Where the sample lies in every frame of a stack: how it drifted, and where it jumped.

The stack is cut into segments, as short as the light allows.  Their places are measured (:mod:`.segment_shifts`), and a smooth
path with jumps is laid through them (:mod:`.drift_path`).  A jump is then found to the frame, and the segments are cut there.

Errors come from a jackknife over blocks of the field: molecules that blink or bleach move the light of each block by an amount
of its own, while the sample moves as a whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..backend.checks import field_of
from ..physics.psf import FWHM_PER_SIGMA, psf_sigma
from ..physics.psi import Psi
from ..stack import StackLike
from ..tuning import DEFAULT
from ..tuning.calibration import CalibrationTuning
from ..tuning.drift import DriftTuning
from .drift_path import find_jumps, smoother
from .plain import plain
from .regression import jackknife
from .segment_shifts import high_passed, refined_shifts, rough_shifts
from .stack_statistics import StackStatistics

__all__ = ["Drift", "estimate_drift"]


@dataclass(frozen=True, eq=False)
class Drift:
    """Where the sample lies in every frame.

    Attributes
    ----------
    shifts : (T, 2) float64
        Place of the sample in each frame along rows and columns, camera pixels; positive is down and right.  Those that are
        measured have the mean 0.
    distance : float
        Largest distance between two frames along one axis, camera pixels.
    error : float
        One standard error of that distance, camera pixels; infinite where the stack does not tell, 0 where it was given.
    jumps : tuple of int
        Numbers of the first frames after each jump.
    segments : int
        Segments that were compared.
    clear : bool
        Whether the distance is more than a tenth of the PSF and several of its errors.
    note : str
        One sentence on what was found.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> drift = fg.Drift(np.linspace([0, 0], [2.0, 1.0], 100), 2.0, 0.0, clear=True)
    >>> drift.shifts.shape
    (100, 2)
    """

    shifts: np.ndarray
    distance: float
    error: float
    jumps: tuple[int, ...] = ()
    segments: int = 0
    clear: bool = False
    note: str = ""


def estimate_drift(stack: StackLike, psi: Psi | None = None, *, tuning: CalibrationTuning = DEFAULT.calibration) -> Drift:
    """Measure how the sample moved during a recording, to a fraction of a camera pixel.

    Parameters
    ----------
    stack : (T, M1, M2) array or Stack
        Counts.
    psi : Psi, optional
        The operator, for the width of its PSF; by default a PSF of two pixels is assumed.
    tuning : CalibrationTuning, optional
        Numbers by trial.

    Returns
    -------
    Drift
        ``clear`` is False, and all shifts are 0, where nothing speaks for a drift of more than a tenth of the PSF.

    Raises
    ------
    ValueError, TypeError
        If the stack is not (T, M1, M2) with T of 2 or more, not finite, or holds no numbers, or ``psi`` is no operator.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> rng, (r, c) = np.random.default_rng(0), np.mgrid[:40, :40]
    >>> places = ((9, 11), (18, 28), (30, 15), (24, 20), (12, 30))
    >>> light = [sum(np.exp(-((r - a - t / 60) ** 2 + (c - b) ** 2) / 4) for a, b in places) for t in range(120)]
    >>> drift = fg.estimate_drift(rng.poisson(100 * np.array(light) + 5))
    >>> drift.clear, round(drift.distance, 1), round(float(drift.shifts[-1, 0]), 1)
    (True, 2.0, 1.0)
    """
    statistics = StackStatistics(stack, None if psi is None else field_of(psi), tuning)
    numbers = tuning.drift
    width = numbers.usual_width if psi is None else FWHM_PER_SIGMA * psf_sigma(psi.psf) / psi.factor
    kept = statistics.frames
    found = _of_kept(kept, statistics, width, numbers)
    if not statistics.left_out:
        return found
    # frames that stand apart are not looked at: their places follow from those beside them
    every = np.arange(len(kept) + len(statistics.left_out))
    among = np.setdiff1d(every, statistics.left_out)
    shifts = np.stack([np.interp(every, among, line) for line in found.shifts.T], axis=1)
    jumps = tuple(int(among[jump]) for jump in found.jumps)
    return Drift(shifts, found.distance, found.error, jumps, found.segments, found.clear, found.note)


def _of_kept(frames: np.ndarray, statistics: StackStatistics, width: float, tuning: DriftTuning) -> Drift:
    """The drift of frames of which none stands apart."""
    from scipy.ndimage import gaussian_filter, median_filter

    still = np.zeros((len(frames), 2))
    if len(frames) < tuning.fewest_frames or min(frames.shape[1:]) < 3 * tuning.block:
        why = (
            f"{len(frames)} frames of {frames.shape[1]} x {frames.shape[2]} pixels are too few to tell whether the sample moved"
        )
        return Drift(still, 0.0, math.inf, note=f"drift: {why}")
    live = statistics.live[0]
    whole = live.all()

    def smoothed(image: np.ndarray, smooth: float) -> np.ndarray:
        image = np.asarray(image, dtype=np.float64)
        return np.asarray(
            gaussian_filter(image if whole else np.where(live, image, median_filter(image, 3)), smooth, mode="nearest")
        )

    moments = statistics.moments()
    for smooth in (tuning.smooth_bright, tuning.smooth):
        noise = float(moments.variance.mean()) / (4 * math.pi * smooth**2)
        signal = float((high_passed(smoothed(moments.mean, smooth), smooth) ** 2).mean())
        length = tuning.light_of_segment * noise / max(signal - noise / len(frames), 1e-300)
        if length * tuning.fewest_segments <= len(frames):
            break
    tuning = replace(tuning, smooth=smooth)
    spread = smoothed(moments.variance, smooth)
    weight = 1.0 / np.maximum(spread, 0.1 * max(float(spread.mean()), 1e-300))
    weight /= weight.mean()
    count = int(np.clip(len(frames) / max(length, 1e-300), tuning.fewest_segments, tuning.most_segments))
    count = max(3, min(count, len(frames) // tuning.shortest_segment))

    def means_of(cuts: list[int]) -> np.ndarray:
        return np.array([smoothed(frames[a:b].mean(axis=0, dtype=np.float64), smooth) for a, b in pairwise(cuts)])

    cuts = _cuts(len(frames), count, [])
    start = _start(means_of(cuts), cuts, smooth, tuning)
    # the correlation of two mean frames needs light in both; a mean frame against that of all of them does not
    count = max(3, min(tuning.most_segments, len(frames) // tuning.shortest_segment))
    jumps: list[int] = []
    path: _Path | None = None
    for attempt in range(tuning.passes):
        cuts = _cuts(len(frames), count, jumps)
        means = means_of(cuts)
        path = _settled(means, cuts, jumps, start, weight, tuning)
        if path is None:
            return Drift(still, 0.0, math.inf, segments=count, note="drift: the light does not tell whether the sample moved")
        if attempt == 0:
            begin = find_jumps(path.places, _middles(cuts), path.scales, len(frames), tuning)
            moved = [cuts[k] for k in begin]
            if not moved:
                break
        else:
            moved = [_frame_of_jump(frames, live, path, jump, jumps, 2 * len(frames) // count) for jump in jumps]
        moved = _apart(moved, tuning.shortest_segment)
        if moved == jumps:
            break
        jumps, start = moved, path.shifts
    assert path is not None
    shifts, known = path.shifts, path.known
    distances, errors = np.zeros(2), np.full(2, math.inf)
    for axis in np.flatnonzero(known):
        low, high = int(np.argmin(shifts[:, axis])), int(np.argmax(shifts[:, axis]))
        distances[axis] = shifts[high, axis] - shifts[low, axis]
        by_blocks = jackknife(np.r_[distances[axis], path.others[:, high, axis] - path.others[:, low, axis]][:, None])[0]
        by_segments = float(np.linalg.norm(path.scatter[high, :, axis] - path.scatter[low, :, axis]))
        errors[axis] = max(float(by_blocks), by_segments, 1e-12)
    sure = distances > tuning.clear_path * errors
    large = sure & (distances > tuning.least * width)
    clear = bool(large.any())
    # a shift that is as likely to be made up as to be true would blur the image instead of sharpening it
    shifts = np.where(distances > tuning.worth_following * errors, shifts, 0.0)
    chosen = int(np.argmax(np.where(large | ~clear, distances / errors, -1.0)))
    distance, error = float(distances[chosen]), float(errors[chosen])
    said = f"{plain(distance, 2)} +- {plain(error, 1)} pixels along {('rows', 'columns')[chosen]}"
    if not clear:
        return Drift(still, distance, error, (), count, False, f"drift: none that is clear (at most {said})")
    jumped = f", with a jump before frame {', '.join(map(str, jumps))}" if jumps else ""
    return Drift(shifts, distance, error, tuple(jumps), count, True, f"drift: the sample moved by {said}{jumped}")


def _cuts(frames: int, count: int, jumps: list[int]) -> list[int]:
    """Where segments begin and the last one ends: of about equal length between jumps."""
    edges, cuts = [0, *jumps, frames], [0]
    for start, end in pairwise(edges):
        pieces = max(1, round(count * (end - start) / frames))
        cuts += [start + round((end - start) * k / pieces) for k in range(1, pieces + 1)]
    return cuts


def _apart(jumps: list[int], least: int) -> list[int]:
    """The jumps in order; of those nearer to each other than ``least`` frames the first: nothing is measured between."""
    kept: list[int] = []
    for jump in sorted(jumps):
        if not kept or jump - kept[-1] >= least:
            kept.append(jump)
    return kept


def _middles(cuts: list[int]) -> np.ndarray:
    """Middle of the segments, frames."""
    edges = np.array(cuts, dtype=np.float64)
    return np.asarray((edges[:-1] + edges[1:] - 1) / 2)


def _start(means: np.ndarray, cuts: list[int], smooth: float, tuning: DriftTuning) -> np.ndarray:
    """Rough places of all frames, from groups of segments where there are many: all pairs of segments are too many."""
    count = len(means)
    groups = np.arange(count) * min(count, tuning.most_pairs_of) // count
    of_groups = np.array([means[groups == k].mean(axis=0) for k in range(groups.max() + 1)])
    places = rough_shifts(of_groups, smooth, tuning)
    middles = _middles(cuts)
    at = np.array([middles[groups == k].mean() for k in range(groups.max() + 1)])
    return np.stack([np.interp(np.arange(cuts[-1]), at, line) for line in places.T], axis=1)


@dataclass(frozen=True, eq=False)
class _Path:
    """A path that agrees with its segments.

    Attributes
    ----------
    places : (K, 2) array
        Of the segments, each by itself.
    scales : (K,) array
        Variance of each of these places relative to their mean.
    shifts : (T, 2) array
        The smooth path.
    others : (B, T, 2) array
        The same without a block of the field each.
    scatter : (T, K, 2) array
        Errors of the path by the scatter of the segments.
    known : (2,) bool array
        Axes of which the light says something: lines say nothing of a shift along themselves.
    mean : (M1, M2) array
        The sample at the place 0.
    """

    places: np.ndarray
    scales: np.ndarray
    shifts: np.ndarray
    others: np.ndarray
    scatter: np.ndarray
    known: np.ndarray
    mean: np.ndarray


def _settled(
    means: np.ndarray, cuts: list[int], jumps: list[int], start: np.ndarray, weight: np.ndarray, tuning: DriftTuning
) -> _Path | None:
    """The path through the segments that stays when they are measured along it; None if there is none."""
    frames, centres = cuts[-1], _middles(cuts)
    nearest = np.rint(centres).astype(int)
    strengths: list[float | None] = [None, None]
    known, shifts = np.ones(2, dtype=bool), start - start.mean(axis=0)
    for attempt in range(tuning.passes):
        along = np.where(known, shifts[nearest], 0.0)
        measured = refined_shifts(means, along, weight, tuning)
        if measured is None:
            return None
        places, replicates, scales, mean = measured
        at = [float(jump) for jump in jumps]
        lines = [smoother(places[:, axis], centres, scales, frames, at, strengths[axis]) for axis in (0, 1)]
        new = np.stack([line.matrix @ places[:, axis] for axis, line in enumerate(lines)], axis=1)
        known &= np.ptp(new, axis=0) <= np.array(means.shape[1:]) / 4
        step = np.abs(new - shifts).max(axis=0)
        if attempt >= tuning.passes // 2:  # each of two strengths can be the likelier one along the path of the other: hold one
            strengths = [line.strength for line in lines]
        shifts = np.where(known, new, 0.0)
        if not known.any():
            return None
        if (step[known] < tuning.settled_path).all():
            break
    known &= step < 10 * tuning.settled_path
    if not known.any():
        return None
    others = np.stack([replicates[:, :, axis] @ line.matrix.T for axis, line in enumerate(lines)], axis=2)
    scatter = np.stack([line.covariance_factor for line in lines], axis=2)
    return _Path(np.where(known, places, 0.0), scales, np.where(known, shifts, 0.0), others, scatter, known, mean)


def _frame_of_jump(frames: np.ndarray, live: np.ndarray, path: _Path, jump: int, jumps: list[int], reach: int) -> int:
    """The first frame after a jump: where frames turn from the sample at the place before to that at the place after."""
    from scipy.ndimage import shift as shifted

    sample = high_passed(path.mean, 1.0)
    before, after = (shifted(sample, path.shifts[t], order=3, mode="nearest") for t in (jump - 1, jump))
    turn = (after / np.linalg.norm(after) - before / np.linalg.norm(before)) * live
    turn -= turn.mean()
    others = [other for other in jumps if other != jump]
    start = max([2, jump - reach, *(other + 2 for other in others if other < jump)])
    end = min([len(frames) - 2, jump + reach, *(other - 2 for other in others if other > jump)])
    if start >= end:
        return jump
    like = np.tensordot(frames[start:end].astype(np.float64), turn, axes=2)
    return start + int(np.argmin(np.concatenate([[0.0], np.cumsum(like)])))
