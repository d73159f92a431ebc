"""Which frames a fit sees and which it does not."""

from __future__ import annotations

import numpy as np

__all__ = ["halves_in_turn", "held_out_frames", "seen_frames"]


def held_out_frames(frames: int, fraction: float, *, length: int = 10, most: int = 6) -> np.ndarray:
    """Return the numbers of the held-out frames: a few runs of successive frames, spread evenly over the stack.

    A molecule that is on for some frames is in the frames before and after: single frames would be judged by what their
    neighbours have shown.  Spread, both parts see bleaching alike.

    Parameters
    ----------
    frames : int
    fraction : float
        Of the frames, rounded to a whole number of them.
    length : int
        Of a run, if that does not make more runs than ``most``.
    most : int
        Runs.

    Returns
    -------
    (n,) int64

    Examples
    --------
    >>> held_out_frames(10, 0.3)
    array([4, 5, 6])
    >>> held_out_frames(24, 0.5, length=4)
    array([ 2,  3,  4,  5, 10, 11, 12, 13, 18, 19, 20, 21])
    """
    count = round(fraction * frames)
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    runs = min(most, -(-count // length))
    # the seen frames before the first run and after the last one are half as many as between two
    before = [((2 * run + 1) * (frames - count) + runs) // (2 * runs) for run in range(runs)]
    held = [run * count // runs for run in range(runs + 1)]
    parts = [np.arange(seen + first, seen + end) for seen, first, end in zip(before, held, held[1:])]
    return np.concatenate(parts).astype(np.int64)


def seen_frames(frames: int, held_out: np.ndarray) -> np.ndarray:
    """Return the numbers of the other frames."""
    return np.setdiff1d(np.arange(frames), held_out)


def halves_in_turn(frames: int, blocks: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the frames of two halves: blocks of successive frames, in turn.

    Bleaching and drift are alike in both.  Molecules that stay on for some frames are in one half only, which single frames in
    turn would not give.

    Parameters
    ----------
    frames : int
        At least 4.
    blocks : int
        Of both halves together; fewer where there are fewer frames.

    Returns
    -------
    (n,) and (m,) int64

    Examples
    --------
    >>> halves_in_turn(12, blocks=4)
    (array([0, 1, 2, 6, 7, 8]), array([ 3,  4,  5,  9, 10, 11]))
    """
    blocks = max(2, min(blocks, frames // 2) // 2 * 2)
    number = np.arange(frames) * blocks // frames
    return np.flatnonzero(number % 2 == 0), np.flatnonzero(number % 2 == 1)
