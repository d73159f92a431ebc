"""Frames that take turns: two or more colours, lamps or polarisations, frame after frame.

Of frames of one kind, the mean of every second one differs from the mean of the others by noise only.  Where kinds take turns
it differs by an image.  Brightness need not change for that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..tuning import DEFAULT
from ..tuning.calibration import InTurnTuning

__all__ = ["InTurn", "frames_in_turn"]


@dataclass(frozen=True)
class InTurn:
    """How many kinds of frames take turns.

    Attributes
    ----------
    period : int
        2, 3 or 4; 1 where all frames are of one kind.
    contrast : float
        Root mean square by which the means of the kinds differ, in units of the structure of the mean of all frames; 0 where
        the period is 1.
    """

    period: int = 1
    contrast: float = 0.0

    @property
    def note(self) -> str:
        """One sentence, with the numbers of the frames and what to do; empty where the period is 1."""
        if self.period == 1:
            return ""
        first, second = (", ".join(str(k + j * self.period) for j in range(3)) for k in (0, 1))
        kinds = f"frames {first}, ... and frames {second}, ... show different images"
        if self.period > 2:
            kinds += f", {self.period} kinds in all"
        return (
            f"{kinds} (they differ by {self.contrast:.0%} of the structure; colours or lamps in turn, or frames lost?); take "
            f"one kind only (--frames 0::{self.period}, stack[::{self.period}])"
        )


def frames_in_turn(frames: np.ndarray, tuning: InTurnTuning = DEFAULT.calibration.in_turn) -> InTurn:
    """Find out whether frames of several kinds take turns.

    Parameters
    ----------
    frames : (T, M1, M2) array
        Counts, on the host.  At most the first 200 are looked at.
    tuning : InTurnTuning, optional
        Numbers by trial.

    Returns
    -------
    InTurn

    Examples
    --------
    >>> import numpy as np
    >>> light = np.full((60, 16, 16), 20.0)
    >>> light[::2, 4], light[1::2, 12] = 90, 90
    >>> frames_in_turn(np.random.default_rng(0).poisson(light)).period
    2
    """
    part = frames[: tuning.most_frames]
    if len(part) < tuning.fewest_frames:
        return InTurn()
    part = part.reshape(len(part), -1).astype(np.float32)
    part = part - part.mean(axis=0)
    # a slow trend makes the kind that comes first differ from the next
    time = np.linspace(-1, 1, len(part), dtype=np.float32)
    part -= time[:, None] * (time @ part / (time @ time))
    mean = frames[: tuning.most_frames].mean(axis=0, dtype=np.float64).ravel()
    structure = float(((mean - np.median(mean)) ** 2).sum())
    found: dict[int, float] = {}
    for period in (2, 3, 4):
        of_kind = [part[kind::period] for kind in range(period)]
        between = np.mean([kind.mean(axis=0, dtype=np.float64) ** 2 for kind in of_kind], axis=0)
        change = part[period:] - part[:-period]
        noise = 0.5 * (change * change).mean(axis=0, dtype=np.float64) * (period - 1) / len(part)
        if not (noise.sum() > 0 and structure > 0):
            return InTurn()
        # neighbouring pixels share their molecules
        pixels = float(noise.sum()) ** 2 / float((noise**2).sum()) / tuning.share
        error = math.sqrt(2.0 / ((period - 1) * max(pixels, 1.0)))
        excess = float((between - noise).sum())
        contrast = math.sqrt(max(excess, 0.0) / structure)
        if excess > tuning.clear * error * float(noise.sum()) and contrast > tuning.least:
            found[period] = contrast
    if not found:
        return InTurn()
    # four kinds make two kinds of pairs as well
    most = max(found.values())
    period = min(period for period, contrast in found.items() if contrast > tuning.nearly * most)
    return InTurn(period, found[period])
