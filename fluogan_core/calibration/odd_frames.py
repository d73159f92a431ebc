"""Frames that stand apart: empty, dark, bright, saturated, or a copy of the frame before.

Such frames say nothing of the sample and spoil every moment: the jump to one and back is larger than all noise.  They are
found before anything is measured.  Molecules that blink make frames vary too, but not so: they raise few places, and leave the
darkest pixels where they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..stack import finite_stack, frames_of

if TYPE_CHECKING:
    from ..stack import Stack

__all__ = ["OddFrames", "find_odd_frames", "without_odd_frames"]

#: A frame's brightness departs from that of the frames about it by this many robust standard deviations, ...
_CLEAR = 8.0
#: ... which are this many to each side, at least.
_ABOUT = 4
#: A bright frame has this many times the light, so much like the usual image (correlation), or spread over this part of the
#: pixels that light usually lies in where it comes at the start, ...
_BRIGHT, _ALIKE, _SPREAD = 1.5, 0.9, 0.5
#: ... in this part of the frames.  If more than that are bright, it is what the sample does.
_RARE = 0.05
#: A saturated frame has this part of its pixels at the largest value of the stack, and usual frames a tenth of it at most.
_SATURATED = 0.1
#: In usual frames this many pixels are above the lowest value, at least: of fewer photons a frame may have none by chance.
_EVENTS = 30.0
#: Frames that say what the usual image is, and the part of its pixels that is called the darkest.
_COMPARED, _DARKER = 60, 0.2
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


def find_odd_frames(stack: Any) -> OddFrames:
    """Find the frames of a stack that stand apart.

    Parameters
    ----------
    stack : (T, M1, M2) array, integers or floats, or Stack
        Raw counts, on the host.

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
    enough = float(np.median(events)) >= _EVENTS
    empty &= enough
    repeated &= enough & ~empty
    saturated = ~empty & (at_top > _SATURATED) & (at_top > 10.0 * np.median(at_top))
    aside = empty | saturated
    dark, bright = _apart(frames, level, aside, float(np.median(floor)))
    kinds = {"empty": empty, "dark": dark, "bright": bright, "saturated": saturated, "repeated": repeated & ~(dark | bright)}
    found = {kind: tuple(int(k) for k in np.flatnonzero(mask)) for kind, mask in kinds.items() if mask.any()}
    if 2 * sum(len(numbers) for numbers in found.values()) >= count:
        found = {}
    return OddFrames(found, count)


def without_odd_frames(stack: Stack) -> tuple[Stack, str]:
    """Return a recording without the frames that stand apart, and what to say of them; itself and nothing if there are none."""
    found = find_odd_frames(stack)
    if not found.numbers:
        return stack, ""
    keep = np.setdiff1d(np.arange(found.frames), found.numbers)
    taken = range(found.frames) if stack.taken is None else stack.taken
    left_out = tuple(taken[number] for number in found.numbers)
    note = f"frames left out because they differ from all others: {found.sentence(taken.start, taken.step)}"
    return replace(stack, frames=stack.frames[keep], left_out=left_out, notes=(*stack.notes, note)), note


def _apart(frames: np.ndarray, level: np.ndarray, aside: np.ndarray, lowest: float) -> tuple[np.ndarray, np.ndarray]:
    """Frames without light, and frames with far too much, among those that are not set aside."""
    dark, bright = np.zeros_like(aside), np.zeros_like(aside)
    usual = np.flatnonzero(~aside)
    if len(usual) < 4 * _ABOUT:
        return dark, bright
    some = usual[:: max(1, len(usual) // _COMPARED)]
    usual_image = np.mean([frames[number] for number in some], axis=0, dtype=np.float64)
    darker = usual_image <= np.quantile(usual_image, _DARKER)
    series = level[usual]
    about = _median_about(series)
    departs = _departs(series - about)
    # molecules that blink make the whole frame vary, and leave the darkest pixels nearly as they are
    of_darker = np.array([frames[number][darker].mean(dtype=np.float64) for number in usual])
    all_over = _departs(of_darker - _median_about(of_darker))
    departs |= all_over
    change, ordinary = series - about, usual[~departs]
    if len(ordinary) < 4 * _ABOUT:
        return dark, bright
    for place in np.flatnonzero(departs):
        number = usual[place]
        nearest = ordinary[np.argsort(np.abs(ordinary - number), kind="stable")[: 2 * _ABOUT]]
        reference = frames[nearest].mean(axis=0, dtype=np.float64)
        if change[place] < 0:
            # as dark on average as the darkest pixels usually are
            dark[number] = all_over[place] and series[place] <= np.quantile(reference, 0.02)
        elif series[place] - lowest >= _BRIGHT * (about[place] - lowest):
            more = frames[number] - reference
            start = number < max(1, _RARE * len(frames))
            bright[number] = (all_over[place] and _same_light(more, reference)) or (start and _as_spread(more, reference))
    if bright.sum() > max(1, _RARE * len(frames)):
        bright[:] = False
    return dark, bright


def _departs(change: np.ndarray) -> np.ndarray:
    """Where changes are clearly larger than usual."""
    noise = 1.4826 * float(np.median(np.abs(change - np.median(change))))
    return np.abs(change) > _CLEAR * noise


def _median_about(series: np.ndarray) -> np.ndarray:
    """The median of the values about each one, itself left out; as many on both sides where there are."""
    size = len(series)
    medians = np.empty(size)
    for place in range(size):
        start = min(max(place - _ABOUT, 0), size - 2 * _ABOUT - 1)
        window = np.delete(series[start : start + 2 * _ABOUT + 1], place - start)
        medians[place] = np.median(window)
    return medians


def _same_light(more: np.ndarray, reference: np.ndarray) -> bool:
    """Whether light is added in the pattern that the frames about it show, or evenly: not by some molecules of many."""
    from scipy.ndimage import uniform_filter

    more, reference = uniform_filter(more, 3), uniform_filter(reference, 3)
    even = more.std() < 0.5 * more.mean()
    return bool(even or np.corrcoef(more.ravel(), reference.ravel())[0, 1] > _ALIKE)


def _as_spread(more: np.ndarray, reference: np.ndarray) -> bool:
    """Whether added light lies in as many pixels as light usually does, or nearly."""
    usual = _pixels_that_share(reference - reference.min())
    return _pixels_that_share(np.maximum(more, 0)) >= _SPREAD * usual


def _pixels_that_share(light: np.ndarray) -> float:
    """In how many pixels light lies: all of them if it is equal everywhere, one if it is all in one."""
    square = float((light**2).sum())
    return float(light.sum()) ** 2 / square if square > 0 else 0.0
