"""Numbers by trial of :mod:`fluogan_core.calibration.odd_frames` and :mod:`fluogan_core.calibration.in_turn`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["InTurnTuning", "OddFramesTuning"]


@dataclass(frozen=True)
class OddFramesTuning:
    """Frames that stand apart (:mod:`fluogan_core.calibration.odd_frames`).  No record of the trials.

    Attributes
    ----------
    clear : float
        A frame's brightness departs from that of the frames around it by this many robust standard deviations.
    around : int
        Frames to each side that are compared, at least.
    bright, alike, least_alike, even, spread : float
        A bright frame has this many times the light; it is as alike to the frames around it as frames usually are (this part of
        their correlation, and no less than the least), or what it has more is even (standard deviation over mean), or, at the
        start of the stack, light in this part of the pixels that light usually lies in.
    rare : float
        Bright frames are at most this part of all.  If more are bright, it is what the sample does.
    saturated, saturated_ratio : float
        A saturated frame has this part of its pixels at the largest value of the stack, and this many times the usual part.
    events : float
        In usual frames this many pixels are above the lowest value, at least: of fewer photons a frame may have none by chance.
    compared : int
        Frames that say what the usual image is.
    darker, dark : float
        The part of its pixels that is called the darkest; a dark frame is below this quantile of the frames around it.
    """

    clear: float = 8.0
    around: int = 4
    bright: float = 1.5
    alike: float = 0.9
    least_alike: float = 0.5
    even: float = 0.5
    spread: float = 0.7
    rare: float = 0.05
    saturated: float = 0.1
    saturated_ratio: float = 10.0
    events: float = 30.0
    compared: int = 60
    darker: float = 0.2
    dark: float = 0.02


@dataclass(frozen=True)
class InTurnTuning:
    """Frames of several kinds that take turns (:mod:`fluogan_core.calibration.in_turn`).

    Attributes
    ----------
    fewest_frames, most_frames : int
        Of fewer frames nothing is said; so many are looked at.
    clear : float
        The means of the kinds differ by this many standard errors of the noise that they have.
    least : float
        They differ by this part of the structure of the mean frame.
    share : float
        Pixels that flicker together, about: those of one PSF.
    nearly : float
        A shorter period is taken if its means differ by this part of the longest one's.
    """

    fewest_frames: int = 24
    most_frames: int = 200
    clear: float = 10.0
    least: float = 0.1
    share: float = 20.0
    nearly: float = 0.8
