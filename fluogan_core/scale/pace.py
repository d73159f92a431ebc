"""The pace of fits: the brightness that step sizes went with.

It follows from a sum over a field.  Tiles that sum over themselves would be at other points of their way than their neighbours
after the same number of steps.  So one tile measures it in its core, and all take it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..backend.typing import Array
from ..solvers.covariance_fit import CovariancePhase
from ..solvers.flicker import typical_brightness
from ..solvers.mean_fit import MeanPhase

__all__ = ["Steps", "follow_pace", "follow_steps", "measure_pace", "measure_steps"]

Slices = tuple[slice, slice]


class Steps(NamedTuple):
    """What a fit of the mean has measured of its step sizes at one time.

    Attributes
    ----------
    brightness : float
        Typical brightness, which the pedestal goes by.
    longest : float
        Longest safe step, in units of one over the curvature.
    """

    brightness: float
    longest: float


def measure_pace(phase: CovariancePhase, core: Slices, factor: int) -> list[float]:
    """Let a phase that has not started measure the brightness that its step sizes go with in its core.

    Parameters
    ----------
    phase : CovariancePhase
    core : two slices
        Rows and columns of the camera.
    factor : int
        Fine pixels per camera pixel and axis.

    Returns
    -------
    list of float
        Typical brightness at each update of the weights: empty; it fills while the phase takes steps.
    """
    rows, columns = (slice(factor * part.start, factor * part.stop) for part in core)
    pace: list[float] = []

    def brightness_of(z: Array) -> float:
        pace.append(typical_brightness(z[rows, columns]))
        return pace[-1]

    phase.brightness_of = brightness_of
    return pace


def follow_pace(phase: CovariancePhase, pace: Sequence[float]) -> None:
    """Let a phase that has not started take what another one has measured.

    Parameters
    ----------
    phase : CovariancePhase
    pace : sequence of float
        As :func:`measure_pace` returns it.
    """
    left = iter(pace)
    phase.brightness_of = lambda z: next(left, pace[-1])


def measure_steps(phase: MeanPhase, core: Slices, factor: int) -> list[Steps]:
    """Let a fit of the mean that has not started measure the brightness that its step sizes go with in its core.

    Parameters
    ----------
    phase : MeanPhase
    core : two slices
        Rows and columns of the camera.
    factor : int

    Returns
    -------
    list of Steps
        Empty; it fills while the phase takes steps.
    """
    rows, columns = (slice(factor * part.start, factor * part.stop) for part in core)
    found: list[Steps] = []

    def brightness_of(z: Array) -> float:
        found.append(Steps(typical_brightness(z[rows, columns]), 0.0))
        return found[-1].brightness

    def longest_of(own: float) -> float:
        found[-1] = found[-1]._replace(longest=own)
        return own

    phase.brightness_of, phase.longest_of = brightness_of, longest_of
    return found


def follow_steps(phase: MeanPhase, found: Sequence[Steps], *, warm: bool) -> None:
    """Let a fit of the mean that has not started take the step sizes of another one, as far as they are safe for it.

    Parameters
    ----------
    phase : MeanPhase
    found : sequence of Steps
    warm : bool
        Whether it starts from an image, and not from nothing: it takes the last ones.
    """
    left = iter(() if warm else found)
    now = found[-1] if found else Steps(0.0, 0.0)

    def brightness_of(z: Array) -> float:
        nonlocal now
        now = next(left, now)
        return now.brightness

    phase.brightness_of, phase.longest_of = brightness_of, lambda own: min(own, now.longest)
