"""Which frames a fit sees and which it does not."""

from __future__ import annotations

import numpy as np

__all__ = ["halves_in_turn", "held_out_frames", "seen_frames"]


def held_out_frames(frames: int, fraction: float) -> np.ndarray:
    """Return the numbers of the held-out frames, spread evenly over the stack so that both parts see bleaching alike.

    Parameters
    ----------
    frames : int
    fraction : float
        Of the frames, rounded to a whole number of them.

    Returns
    -------
    (n,) int64

    Examples
    --------
    >>> held_out_frames(20, 0.2)
    array([ 2,  7, 12, 17])
    """
    count = round(fraction * frames)
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    return ((np.arange(count) + 0.5) * frames / count).astype(np.int64)


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
