"""Frames that stand apart: empty, dark, bright, saturated, or a copy of the frame before.

Such frames hold no information on the sample.  They spoil every moment, because the jump to one and back is larger than all
noise.  They are found before anything is measured.  Molecules that blink change frames too, but only in few places; the darkest
pixels stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..stack import StackLike, finite_stack, frames_of
from ..tuning import DEFAULT
from ..tuning.calibration import OddFramesTuning

if TYPE_CHECKING:
    from ..stack import Stack

__all__ = ["OddFrames", "find_odd_frames", "without_odd_frames"]

#: Most numbers of frames that a sentence shows.
_SHOWN = 12


@dataclass(frozen=True)
class OddFrames:
    """Frames that stand apart, numbered from 0 in the stack that was searched.

    Attributes
    ----------
    kinds : dict of str to tuple of int
        ``"empty"`` (one value everywhere), ``"dark"`` (no light), ``"bright"``, ``"saturated"``, ``"repeated"`` (equal to the
        frame before): the numbers of the frames, in order.  A frame is named once.
    frames : int
        How many frames were searched.
    """

    kinds: dict[str, tuple[int, ...]]
    frames: int

    @property
    def numbers(self) -> tuple[int, ...]:
        """All of them, in order."""
        return tuple(sorted(number for kind in self.kinds.values() for number in kind))

    def sentence(self, first: int = 0, step: int = 1) -> str:
        """Name them in plain language, as numbered in a file of which frames ``first``, ``first + step``, ... were read."""
        parts = []
        for kind, numbers in self.kinds.items():
            shown = ", ".join(str(first + step * number) for number in numbers[:_SHOWN])
            more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
            parts.append(f"{shown}{more} ({_MEANING[kind]})")
        return "; ".join(parts)


_MEANING = {
    "empty": "one value everywhere: lost on the way to the file?",
    "dark": "no light: a closed shutter?",
    "bright": "far brighter than the frames about it",
    "saturated": "saturated",
    "repeated": "a copy of the frame before",
}


def find_odd_frames(stack: StackLike, tuning: OddFramesTuning = DEFAULT.calibration.odd_frames) -> OddFrames:
    """Find the frames of a stack that stand apart.

    Parameters
    ----------
    stack : (T, M1, M2) array, integers or floats, or Stack
        Raw counts, on the host.
    tuning : OddFramesTuning, optional
        Numbers by trial.

    Returns
    -------
    OddFrames
        None where they would be half of the frames or more: then they are what is usual.

    Raises
    ------
    ValueError
        If the stack is not (T, M1, M2) with T of 2 or more, or not finite.
    TypeError
        If it holds neither integers nor floats.

    Examples
    --------
    >>> import numpy as np
    >>> stack = np.random.default_rng(0).poisson(50.0, (60, 16, 16))
    >>> stack[7] = 0
    >>> find_odd_frames(stack).kinds
    {'empty': (7,)}
    """
    frames = frames_of(stack)
    finite_stack(frames)
    count = len(frames)
    lowest, top = frames.min(), frames.max()
    level, floor, events, at_top = (np.empty(count) for _ in range(4))
    empty, repeated = (np.zeros(count, dtype=bool) for _ in range(2))
    for number, frame in enumerate(frames):
        level[number], floor[number] = frame.mean(dtype=np.float64), frame.min()
        events[number], at_top[number] = (frame > lowest).sum(), (frame == top).mean()
        empty[number] = floor[number] == frame.max()
        repeated[number] = number > 0 and level[number] == level[number - 1] and np.array_equal(frame, frames[number - 1])
    enough = float(np.median(events)) >= tuning.events
    empty &= enough
    repeated &= enough & ~empty
    saturated = ~empty & (at_top > tuning.saturated) & (at_top > tuning.saturated_ratio * np.median(at_top))
    aside = empty | saturated
    dark, bright = _apart(frames, level, aside, float(np.median(floor)), tuning)
    kinds = {"empty": empty, "dark": dark, "bright": bright, "saturated": saturated, "repeated": repeated & ~(dark | bright)}
    found = {kind: tuple(int(k) for k in np.flatnonzero(mask)) for kind, mask in kinds.items() if mask.any()}
    if 2 * sum(len(numbers) for numbers in found.values()) >= count:
        found = {}
    return OddFrames(found, count)


def without_odd_frames(stack: Stack, tuning: OddFramesTuning = DEFAULT.calibration.odd_frames) -> tuple[Stack, str]:
    """Return a recording without the frames that stand apart, and a remark that names them (empty if there are none)."""
    found = find_odd_frames(stack, tuning)
    if not found.numbers:
        return stack, ""
    keep = np.setdiff1d(np.arange(found.frames), found.numbers)
    taken = range(found.frames) if stack.taken is None else stack.taken
    left_out = tuple(taken[number] for number in found.numbers)
    note = f"frames left out because they differ from all others: {found.sentence(taken.start, taken.step)}"
    return replace(stack, frames=stack.frames[keep], left_out=left_out, notes=(*stack.notes, note)), note


def _apart(
    frames: np.ndarray, level: np.ndarray, aside: np.ndarray, lowest: float, tuning: OddFramesTuning
) -> tuple[np.ndarray, np.ndarray]:
    """Frames without light, and frames with far too much, among those that are not set aside."""
    dark, bright = np.zeros_like(aside), np.zeros_like(aside)
    usual = np.flatnonzero(~aside)
    if len(usual) < 4 * tuning.around:
        return dark, bright
    some = usual[:: max(1, len(usual) // tuning.compared)]
    usual_image = np.mean([frames[number] for number in some], axis=0, dtype=np.float64)
    darker = usual_image <= np.quantile(usual_image, tuning.darker)
    series = level[usual]
    about = _median_about(series, tuning)
    departs = _departs(series - about, tuning)
    # molecules that blink make the whole frame vary, and leave the darkest pixels nearly as they are
    of_darker = np.array([frames[number][darker].mean(dtype=np.float64) for number in usual])
    all_over = _departs(of_darker - _median_about(of_darker, tuning), tuning)
    departs |= all_over
    change, ordinary = series - about, usual[~departs]
    if len(ordinary) < 4 * tuning.around:
        return dark, bright
    for place in np.flatnonzero(departs):
        number = usual[place]
        nearest = ordinary[np.argsort(np.abs(ordinary - number), kind="stable")[: 2 * tuning.around]]
        reference = frames[nearest].mean(axis=0, dtype=np.float64)
        if change[place] < 0:
            # as dark on average as the darkest pixels usually are
            dark[number] = all_over[place] and series[place] <= np.quantile(reference, tuning.dark)
        elif series[place] - lowest >= tuning.bright * (about[place] - lowest):
            more = frames[number] - reference
            start = number < max(1, tuning.rare * len(frames))
            bright[number] = (all_over[place] and _same_light(more, reference, tuning)) or (
                start and _as_spread(more, reference, tuning)
            )
    if bright.sum() > max(1, tuning.rare * len(frames)):
        bright[:] = False
    return dark, bright


def _departs(change: np.ndarray, tuning: OddFramesTuning) -> np.ndarray:
    """Where changes are clearly larger than usual."""
    noise = 1.4826 * float(np.median(np.abs(change - np.median(change))))
    return np.abs(change) > tuning.clear * noise


def _median_about(series: np.ndarray, tuning: OddFramesTuning) -> np.ndarray:
    """The median of the values about each one, itself left out; as many on both sides where there are."""
    size = len(series)
    medians = np.empty(size)
    for place in range(size):
        start = min(max(place - tuning.around, 0), size - 2 * tuning.around - 1)
        window = np.delete(series[start : start + 2 * tuning.around + 1], place - start)
        medians[place] = np.median(window)
    return medians


def _same_light(more: np.ndarray, reference: np.ndarray, tuning: OddFramesTuning) -> bool:
    """Whether light is added in the pattern that the frames about it show, or evenly: not by some molecules of many."""
    from scipy.ndimage import uniform_filter

    more, reference = uniform_filter(more, 3), uniform_filter(reference, 3)
    even = more.std() < tuning.even * more.mean()
    return bool(even or np.corrcoef(more.ravel(), reference.ravel())[0, 1] > tuning.alike)


def _as_spread(more: np.ndarray, reference: np.ndarray, tuning: OddFramesTuning) -> bool:
    """Whether added light lies in as many pixels as light usually does, or nearly."""
    usual = _pixels_that_share(reference - reference.min())
    return _pixels_that_share(np.maximum(more, 0)) >= tuning.spread * usual


def _pixels_that_share(light: np.ndarray) -> float:
    """In how many pixels light lies: all of them if it is equal everywhere, one if it is all in one."""
    square = float((light**2).sum())
    return float(light.sum()) ** 2 / square if square > 0 else 0.0
