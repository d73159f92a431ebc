"""How the light of a sample falls over a recording: a factor for every frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..backend.arrays import get_backend
from ..physics.bleaching import LightCurve, falling_curve, light_of_frames
from ..stack import StackLike, recorded_stack
from ..tuning import DEFAULT
from ..tuning.bleaching import BleachingTuning
from ..tuning.calibration import CalibrationTuning
from .odd_frames import find_odd_frames

__all__ = ["Bleaching", "bleaching_of", "estimate_bleaching"]


@dataclass(frozen=True, eq=False)
class Bleaching:
    """The light of a recording, frame by frame.

    Attributes
    ----------
    frames : (T,) int
        Numbers of the frames in the stack; those that stand apart are not among them.
    signal, background : (T,) float64
        Counts of each frame where the mean frame is bright, less those where it is dark; and where it is dark, the camera's
        offset included.
    signal_fit, background_fit : (T,) float64
        The falling curves through both; constant where nothing falls clearly.
    left, error : float
        The signal at the end, as a part of that at the beginning, and one standard error; 1 and infinity where the stack does
        not tell.
    clear : bool
        Whether the signal falls clearly.
    note : str
        One sentence on it; empty where the light stays.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> light = 5.0 + 50 * np.eye(8) * np.exp(-np.arange(90) / 50)[:, None, None]
    >>> found = fg.estimate_bleaching(np.random.default_rng(0).poisson(light))
    >>> found.clear, round(found.left, 1), found.factor.shape, round(float(found.factor.mean()), 6)
    (True, 0.2, (90,), 1.0)
    """

    frames: np.ndarray
    signal: np.ndarray
    background: np.ndarray
    signal_fit: np.ndarray
    background_fit: np.ndarray
    left: float
    error: float
    clear: bool
    note: str

    @property
    def factor(self) -> np.ndarray:
        """The light of every frame in units of the mean frame's, (T,) float64; 1 where nothing falls clearly."""
        if not self.clear:
            return np.ones(len(self.signal_fit))
        return self.signal_fit / float(self.signal_fit.mean())


def estimate_bleaching(stack: StackLike, *, tuning: CalibrationTuning = DEFAULT.calibration) -> Bleaching:
    """Measure how the light of the sample falls over a recording.

    Parameters
    ----------
    stack : (T, M1, M2) array or Stack
        Counts.
    tuning : CalibrationTuning, optional
        Numbers by trial.

    Returns
    -------
    Bleaching
        Through the light of the frames goes a sum of falling exponentials with non-negative weights, by least squares
        (:mod:`fluogan_core.physics.bleaching`).

    Raises
    ------
    ValueError, TypeError
        If the stack is not (T, M1, M2) with T of 2 or more, not finite, or holds no numbers.
    """
    frames = recorded_stack(stack)
    odd = find_odd_frames(frames, tuning.odd_frames).numbers
    return bleaching_of(np.delete(frames, odd, axis=0) if odd else frames, odd)


def bleaching_of(frames: np.ndarray, left_out: tuple[int, ...] = (), tuning: BleachingTuning = DEFAULT.bleaching) -> Bleaching:
    """:func:`estimate_bleaching` of frames of which those that stand apart are left out already."""
    bright, dark = light_of_frames(frames, get_backend("numpy"), tuning).T
    signal, background = falling_curve(bright - dark, tuning), falling_curve(dark, tuning)
    every = np.arange(len(frames) + len(left_out))
    left, error = _left(signal)
    clear = signal.clear and 1.0 - left > tuning.worth_saying
    note = ""
    if clear:
        note = (
            f"bleaching: the light of the sample falls to {left:.0%} +- {max(error, 0.01):.0%} of its first value; "
            "this trend is taken out of the covariances, and the image is the mean over all frames"
        )
    return Bleaching(
        frames=np.setdiff1d(every, left_out),
        signal=signal.light,
        background=background.light,
        signal_fit=signal.fit,
        background_fit=background.fit,
        left=left if clear else 1.0,
        error=error if clear else math.inf,
        clear=bool(clear),
        note=note,
    )


def _left(curve: LightCurve) -> tuple[float, float]:
    """The last value of a curve as a part of the first one, and its error."""
    first = float(curve.fit[0])
    if not (curve.clear and first > 0):
        return 1.0, math.inf
    return max(float(curve.fit[-1]) / first, 0.0), curve.error / first
