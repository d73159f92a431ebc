"""What one tile, or one window, decides for all: which fit follows that of the mean, by which flicker, for how many steps.

What each would decide by itself, by its own noise, would be seen as an edge in the image or as a jump in the movie.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backend.typing import Array
from ..solvers.flicker import FieldFlicker, FlickerOf
from ..solvers.options import SolverOptions
from ..solvers.phase import Stop, StopReason
from ..tuning import DEFAULT, Tuning
from .pace import Steps

__all__ = ["Fitted", "Shared", "as_shared", "shared_by_all", "shared_flicker"]

log = logging.getLogger("fluogan_core")


class Fitted(NamedTuple):
    """A field that was fitted, on the host.

    Attributes
    ----------
    x, z : (N1, N2) float32
        The image, and what it is a blur of (:class:`fluogan_core.Images`): the next window starts there.
    b : (M1, M2) float32
    steps : int
    stops : dict of str to Stop
    flicker : FieldFlicker or None
        Of the covariance fit, where it took steps.
    pace : tuple of float or None
        Of the covariance fit, where it measured its typical brightness in a core.
    mean_steps : tuple of Steps
        Of its mean fit, where it measured them in a core.
    """

    x: np.ndarray
    z: np.ndarray
    b: np.ndarray
    steps: int
    stops: dict[str, Stop]
    flicker: FieldFlicker | None = None
    pace: tuple[float, ...] | None = None
    mean_steps: tuple[Steps, ...] = ()


class Shared(NamedTuple):
    """What was found where the fit after that of the mean was tried first, and holds in all tiles and windows.

    Attributes
    ----------
    method : str
        :attr:`fluogan_core.SolverOptions.method`: ``"none"`` where it has nothing to add.
    flicker : FieldFlicker or None
        Of the covariance fit.
    steps : int or None
        Of the covariance fit.
    pace : tuple of float or None
        Of the covariance fit: typical brightness at each update of its weights.
    share : float
        Part that its images have in the result; the rest are those of the fit of the mean.
    mean_steps : tuple of Steps
        Of the mean fit.
    """

    method: str
    flicker: FieldFlicker | None = None
    steps: int | None = None
    pace: tuple[float, ...] | None = None
    share: float = 1.0
    mean_steps: tuple[Steps, ...] = ()


def shared_flicker(shared: FieldFlicker) -> FlickerOf:
    """Return what gives critics the flicker of the field that theirs is a part of, given them, x and b."""

    def measured(critics: Sequence[Any], x: Array, b: Array) -> FieldFlicker:
        for critic, strength in zip(critics, shared.strengths):
            critic.flicker = np.float32(strength)
        mine = critics[0].flicker_share(x)
        return shared._replace(share=mine) if math.isnan(mine) else shared

    return measured


def as_shared(options: SolverOptions, shared: Shared) -> tuple[SolverOptions, Tuning]:
    """Return the options and the numbers by trial of a field that decides nothing by itself.

    Parameters
    ----------
    options : SolverOptions
    shared : Shared

    Returns
    -------
    options : SolverOptions
    tuning : Tuning
        Without the limits that end a covariance fit.
    """
    options = options.for_method(shared.method)
    if shared.steps is None:
        # each would try for itself what edges cost in the likelihood fit: all take the middle
        edges = DEFAULT.likelihood_phase.edges
        likelihood = dataclasses.replace(DEFAULT.likelihood_phase, edges=edges[len(edges) // 2 :][:1])
        return options, dataclasses.replace(DEFAULT, likelihood_phase=likelihood)
    phase = dataclasses.replace(
        DEFAULT.covariance_phase,
        least_flicker=0.0,
        enough_flicker=0.0,
        worse=math.inf,
        hopeless=math.inf,
        settled=-math.inf,
    )
    return dataclasses.replace(options, steps=shared.steps), dataclasses.replace(DEFAULT, covariance_phase=phase)


def shared_by_all(options: SolverOptions, fitted: Fitted) -> Shared:
    """Decide for all tiles and windows by the one that was fitted first, by itself.

    Parameters
    ----------
    options : SolverOptions
    fitted : Fitted

    Returns
    -------
    Shared
    """
    return _second_phase(options, fitted)._replace(mean_steps=fitted.mean_steps)


def _second_phase(options: SolverOptions, fitted: Fitted) -> Shared:
    if len(options.phases) == 1:
        return Shared(options.method)
    stops = {n: stop for n, stop in fitted.stops.items() if n != "mean" and stop.reason is not StopReason.NOT_NEEDED}
    if options.method == "auto" and "likelihood" in stops and stops.pop("likelihood").reason is StopReason.CHOSEN:
        log.info("all tiles and windows: the fit of the full likelihood")
        return Shared("likelihood")
    final = list(stops.values())[-1] if stops else None
    if final is None or final.rejected or final.reason in (StopReason.NO_FLICKER, StopReason.NO_LIGHT):
        log.info("all tiles and windows: the mean alone is fitted (%s)", final or "there is no light")
        return Shared("none")
    if "covariance" in stops:
        log.info("all tiles and windows: %d steps of the covariance fit", final.steps)
        return Shared("moments", fitted.flicker, final.steps, fitted.pace, final.share)
    return Shared(options.method)
