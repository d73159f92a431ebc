"""Frames that stand apart: empty, dark, bright, saturated, or a copy of an earlier frame.

Such frames hold no information on the sample.  They spoil every moment, because the jump to one and back is larger than all
noise.  They are found before anything is measured.  Molecules that blink change frames too, but only in few places; the darkest
pixels stay as they are.
"""

from __future__ import annotations

import zlib
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
        ``"empty"`` (one value everywhere), ``"dark"`` (no light), ``"bright"``, ``"saturated"``, ``"repeated"`` (equal to an
        earlier frame): the numbers of the frames, in order.  A frame is named once.
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
    "repeated": "a copy of an earlier frame",
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
        None where they would be half of the frames or more: then they are what is usual.  Copies are named however many they
        are: a recording that was saved twice, or in which every frame was doubled, holds nothing more in them.

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
    earlier: dict[int, list[int]] = {}
    for number, frame in enumerate(frames):
        level[number], floor[number] = frame.mean(dtype=np.float64), frame.min()
        events[number], at_top[number] = (frame > lowest).sum(), (frame == top).mean()
        empty[number] = floor[number] == frame.max()
        alike = earlier.setdefault(zlib.crc32(frame.tobytes()), [])
        repeated[number] = any(np.array_equal(frame, frames[other]) for other in alike)
        if not repeated[number]:
            alike.append(number)
    enough = float(np.median(events)) >= tuning.events
    empty &= enough
    repeated &= enough & ~empty
    saturated = ~empty & (at_top > tuning.saturated) & (at_top > tuning.saturated_ratio * np.median(at_top))
    aside = empty | saturated | repeated
    dark, bright = _apart(frames, level, aside, float(np.median(floor)), tuning)
    kinds = {"empty": empty, "dark": dark, "bright": bright, "saturated": saturated, "repeated": repeated & ~saturated}
    if 2 * sum(int(mask.sum()) for kind, mask in kinds.items() if kind != "repeated") >= count - int(repeated.sum()):
        kinds = {"repeated": repeated}
    found = {kind: tuple(int(k) for k in np.flatnonzero(mask)) for kind, mask in kinds.items() if mask.any()}
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

    def about_it(number: int) -> np.ndarray:
        """The mean of the ordinary frames about one, itself left out."""
        others = ordinary[ordinary != number]
        nearest = others[np.argsort(np.abs(others - number), kind="stable")[: 2 * tuning.around]]
        return np.asarray(frames[nearest].mean(axis=0, dtype=np.float64))

    usual_likeness: float | None = None
    for place in np.flatnonzero(departs):
        number = usual[place]
        reference = about_it(number)
        if change[place] < 0:
            # as dark on average as the darkest pixels usually are
            dark[number] = all_over[place] and series[place] <= np.quantile(reference, tuning.dark)
        elif series[place] - lowest >= tuning.bright * (about[place] - lowest):
            if usual_likeness is None:
                some = ordinary[:: max(1, len(ordinary) // tuning.compared)]
                usual_likeness = float(np.median([_likeness(frames[other], about_it(other)) for other in some]))
            more = frames[number] - reference
            start = number < max(1, tuning.rare * len(frames))
            alike = _likeness(frames[number], reference) > max(tuning.alike * usual_likeness, tuning.least_alike)
            bright[number] = (all_over[place] and (alike or _even(more, tuning))) or (
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


def _likeness(frame: np.ndarray, reference: np.ndarray) -> float:
    """Correlation of a frame with the mean of those about it: molecules that are on make single frames differ from it."""
    from scipy.ndimage import uniform_filter

    one, other = (uniform_filter(np.asarray(image, dtype=np.float64), 3).ravel() for image in (frame, reference))
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else 0.0


def _even(more: np.ndarray, tuning: OddFramesTuning) -> bool:
    """Whether light is added evenly: not by some molecules of many."""
    from scipy.ndimage import uniform_filter

    more = uniform_filter(more, 3)
    return bool(more.std() < tuning.even * more.mean())


def _as_spread(more: np.ndarray, reference: np.ndarray, tuning: OddFramesTuning) -> bool:
    """Whether added light lies in as many pixels as light usually does, or nearly."""
    usual = _pixels_that_share(reference - reference.min())
    return _pixels_that_share(np.maximum(more, 0)) >= tuning.spread * usual


def _pixels_that_share(light: np.ndarray) -> float:
    """In how many pixels light lies: all of them if it is equal everywhere, one if it is all in one."""
    square = float((light**2).sum())
    return float(light.sum()) ** 2 / square if square > 0 else 0.0
