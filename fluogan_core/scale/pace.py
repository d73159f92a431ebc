"""The pace of fits: the brightness that step sizes went with, and where the momentum of a covariance fit was dropped.

Both follow from sums over a field.  Tiles that sum over themselves would be at other points of their way than their neighbours
after the same number of steps.  So one tile measures them in its core, and all take them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..backend.typing import Array
from ..objective.fista import Acceleration, step_sums
from ..solvers.covariance_fit import CovariancePhase
from ..solvers.flicker import typical_brightness
from ..solvers.mean_fit import MeanPhase

__all__ = ["Pace", "Steps", "follow_pace", "follow_steps", "measure_pace", "measure_steps"]

Slices = tuple[slice, slice]


class Pace(NamedTuple):
    """What sums over a field have decided in a fit of mean and covariance.

    Attributes
    ----------
    turns : list of int
        Iterations, from 0, that turned against the last move: the momentum was dropped.
    brightness : list of float
        Typical brightness at each update of the weights.
    """

    turns: list[int]
    brightness: list[float]


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


class _OfCore(Acceleration):
    """Momentum that is dropped where the steps in a core turn; the iterations are written down."""

    def __init__(self, *images: Array, fine: Slices, core: Slices, turns: list[int]) -> None:
        super().__init__(*images)
        self.fine, self.core, self.turns, self.count = fine, core, turns, 0

    def follow(self, first: Array, second: Array, *, steps: tuple[Array, float]) -> None:
        (y, v), (z, b), fine, core = self.ahead, self.current, self.fine, self.core
        uphill = step_sums(y[fine].copy(), first[fine].copy(), z[fine].copy(), steps[0][fine].copy())[0]
        uphill += step_sums(v[core].copy(), second[core].copy(), b[core].copy(), steps[1])[0]
        if uphill > 0:
            self.turns.append(self.count)
        self.count += 1
        self.advance(first, second, uphill=uphill)


class _Set(Acceleration):
    """Momentum that is dropped at iterations that are given."""

    def __init__(self, *images: Array, turns: list[int]) -> None:
        super().__init__(*images)
        self.turns, self.count = set(turns), 0

    def follow(self, first: Array, second: Array, *, steps: tuple[Array, float]) -> None:
        turned = self.count in self.turns
        self.count += 1
        self.advance(first, second, uphill=1.0 if turned else 0.0)


def measure_pace(phase: CovariancePhase, core: Slices, factor: int) -> Pace:
    """Let a phase that has not started decide by its core alone.

    Parameters
    ----------
    phase : CovariancePhase
    core : two slices
        Rows and columns of the camera.
    factor : int
        Fine pixels per camera pixel and axis.

    Returns
    -------
    Pace
        Empty; it fills while the phase takes steps.
    """
    rows, columns = (slice(factor * part.start, factor * part.stop) for part in core)
    pace = Pace([], [])

    def brightness_of(z: Array) -> float:
        pace.brightness.append(typical_brightness(z[rows, columns]))
        return pace.brightness[-1]

    phase.accelerated = lambda *images: _OfCore(*images, fine=(rows, columns), core=core, turns=pace.turns)
    phase.brightness_of = brightness_of
    return pace


def follow_pace(phase: CovariancePhase, pace: Pace) -> None:
    """Let a phase that has not started take what another one has measured.

    Parameters
    ----------
    phase : CovariancePhase
    pace : Pace
    """
    brightness = iter(pace.brightness)
    phase.accelerated = lambda *images: _Set(*images, turns=pace.turns)
    phase.brightness_of = lambda z: next(brightness, pace.brightness[-1])


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
