"""Which frames a fit sees and which it does not."""

from __future__ import annotations

import numpy as np

__all__ = ["held_out_frames", "seen_frames"]


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
