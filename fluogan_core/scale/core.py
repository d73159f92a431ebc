"""What a tile measures for all is measured in its core: next to its border, light from beyond is missing or too much."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend.typing import Array
from ..critics.quadratic import CriticValue, QuadraticCritic
from ..physics.windows import Windows
from ..solvers.flicker import FieldFlicker, FlickerOf, typical_brightness

__all__ = ["CoreCritic", "core_critic", "flicker_of_core"]

Slices = tuple[slice, slice]


class CoreCritic(QuadraticCritic):
    """A quadratic critic whose flicker is that of the core, and whose value leaves out the mean frame's term elsewhere.

    The slopes are those of the whole tile: the fit is the same, but it ends where the core has settled.  At a border, emissions
    beyond it light pixels within it.  The fit explains that light by bright pixels at the border, and gains there, in its first
    steps, many times what it gains in all of the core.

    Parameters
    ----------
    *arguments, **settings
        As for :class:`fluogan_core.QuadraticCritic`.
    core : two slices
        Rows and columns of the camera.
    """

    def __init__(self, *arguments: object, core: Slices, **settings: object) -> None:
        super().__init__(*arguments, **settings)  # type: ignore[arg-type]
        xp, windows = self.model.backend.xp, self.moments.windows
        self.beyond = xp.ones(self.model.psi.shape, dtype=np.float32)
        self.beyond[core] = 0
        starts = zip((windows.rows, windows.columns), windows.sides, core)
        within = [(part.start <= first) & (first + side <= part.stop) for first, side, part in starts]
        self.within = np.flatnonzero(within[0] & within[1])

    def measure_flicker(self, x: Array, b: Array) -> None:
        """Measure the flicker in the windows that lie in the core; in all of them if the core holds none."""
        moments = self.moments
        if self.within.size:
            inside = copy.copy(moments)
            inside.lit = lambda *at: np.intersect1d(moments.lit(*at), self.within)  # type: ignore[method-assign]
            self.moments = inside
        try:
            super().measure_flicker(x, b)
        finally:
            self.moments = moments

    def explain_noise(self, x: Array, b: Array) -> None:
        """Find the noise that nothing explains in the core."""
        self.moments.explain(self.variances, x, self.model.psi.forward(x) + b, self.flicker, 1 - self.beyond)

    def value(self, x: Array, b: Array, other: QuadraticCritic | None = None) -> CriticValue:
        """Return the two terms, that of the mean frame of the core alone."""
        found = super().value(x, b, other)
        light = self.model.psi.forward(x) + b
        product = (light - self.mean) * (light - (self if other is None else other).mean)
        beyond = 0.5 * float(self.trust) * float((self.beyond * self.mean_weight * product).sum(dtype=np.float64))
        return found._replace(mean=found.mean - beyond)


def core_critic(core: Slices, windows: Windows | None = None) -> Callable[..., CoreCritic]:
    """Return what makes the critics of a tile with this core, in these windows, for ``quadratic_critic=`` of a solver."""
    return functools.partial(CoreCritic, core=core, window=windows)


def flicker_of_core(core: Slices, factor: int) -> FlickerOf:
    """Return what measures flicker and brightness in a core, given critics, x and b."""
    fine = tuple(slice(factor * part.start, factor * part.stop) for part in core)

    def measured(critics: Sequence[Any], x: Array, b: Array) -> FieldFlicker:
        for critic in critics:
            critic.measure_flicker(x, b)
        inside = 0 * x
        inside[fine] = x[fine]
        strengths = tuple(float(critic.flicker) for critic in critics)
        return FieldFlicker(strengths, critics[0].flicker_share(inside), typical_brightness(inside))

    return measured
