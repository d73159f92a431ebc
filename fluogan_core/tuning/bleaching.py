"""Numbers by trial of :mod:`fluogan_core.physics.bleaching`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BleachingTuning"]


@dataclass(frozen=True)
class BleachingTuning:
    """The light of the frames over time, and the falling curve through it.

    Attributes
    ----------
    usual, dark : float
        Pixels above the first quantile of the mean frame hold the signal; those below the second one the background.
    fewest_frames : int
        Of fewer frames no curve is laid.
    slowest, fastest, rates : float, float, int
        Rates of the exponentials, per length of the stack, and how many there are.
    frames_of_fastest : float
        No rate is faster than one in so many frames.
    pieces : int
        The error is read from the means of so many pieces of the stack.
    clear : float
        A loss of light is clear from this many of its standard errors on.  At 5 it was found in 1 of 200 curves of samples
        that blink and keep their light, at 7 in none.
    worth_saying : float
        A loss of less than this part of the light is not remarked on.
    """

    usual: float = 0.5
    dark: float = 0.25
    fewest_frames: int = 12
    slowest: float = 0.25
    fastest: float = 60.0
    rates: int = 12
    frames_of_fastest: float = 3.0
    pieces: int = 12
    clear: float = 7.0
    worth_saying: float = 0.03
