"""Alternatives to the covariance fit that were tried, kept so that they can be tried again: trained critics, and more.

Each is a function of a field (:class:`._field.Field`) that gives x, b and a note.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fluogan_core as fg
from fluogan_core.critics.critic_value import CriticValue
from fluogan_core.critics.quadratic import QuadraticCritic
from fluogan_core.solvers.solver import Solver

from ._field import Field, Made

__all__ = ["TRIED", "library", "tries"]

CAMERA = fg.Camera(gain=1.0, offset=0.0, noise_std=0.0)
_TRAINED = {name: f"trained critic, {name}" for name in ("linear", "photon", "coupled", "corrected")}
_ONE_PHOTON = "trained critic, corrected, kappa 1 assumed"
_LONGER = "trained critic, corrected, 100 steps, relaxation 1"
_AS_PRINTED = "trained critic, corrected, 5000 steps of the critic, batches of 200"
#: Seeds on which the slow ones are tried; the others on all.
TRIED = {name: 2 for name in (*_TRAINED.values(), _ONE_PHOTON)} | {_LONGER: 1, _AS_PRINTED: 1}


def library(kappa: float | None = None, **chosen: Any) -> Callable[[Field], Made]:
    """The library with those of these options that the method uses, and this many photons per emission for the true number."""

    def fit(field: Field) -> Made:
        options, psi = _used(**chosen), field.model.psi
        if kappa is not None:
            psi = fg.Psi(psi.psf, psi.shape, psi.factor, photons_per_emitter=kappa, backend="numpy")
        made = fg.reconstruct(field.frames, psi=psi, camera=CAMERA, options=options, progress=False)
        # judged by the light that it stands for
        return made.x * (psi.photons_per_emitter / field.model.psi.photons_per_emitter), made.b, made.stop_reason

    return fit


def _used(method: str = "moments", **chosen: Any) -> fg.SolverOptions:
    """These options, those apart that the method does not use."""
    return fg.SolverOptions("corrected", **chosen).for_method(method)


def tries(small: dict[str, Any]) -> dict[str, Callable[[Field], Made]]:
    """Every try; ``small`` are options that make all runs short."""
    dear = {"total_variation": 4 * fg.SolverOptions().total_variation}
    return {
        "try: the full method without covariances": _with(_MeanAlone, small),
        "try: the full method against simulated frames": _with(_Simulated, small),
        "try: the likelihood's own slope, 40 plain steps": _ideal(small),
        "try: the mean fit, edges four times as dear": library(**(small | dear | {"method": "none"})),
        "try: the full method, edges four times as dear": library(**(small | dear | {"method": "moments"})),
        **{name: library(**(small | {"method": method})) for method, name in _TRAINED.items()},
        _ONE_PHOTON: library(kappa=1.0, **(small | {"method": "corrected"})),
        _LONGER: library(**({"method": "corrected", "steps": 100, "relaxation": 1.0} | small)),
        _AS_PRINTED: library(**({"method": "corrected", "critic_steps": 125, "batch": 200} | small)),
    }


class _MeanAlone(QuadraticCritic):
    """Sees no covariance: the same weights, priors and steps on the mean frame."""

    def slope(self, x: Any, b: Any) -> Any:
        linear = self.trust * self.mean_weight * (self.model.psi.forward(x) + b - self.mean)
        return self.model.psi.adjoint(linear), linear

    def value(self, x: Any, b: Any, other: QuadraticCritic | None = None) -> CriticValue:
        return CriticValue(super().value(x, b, other).mean, 0.0)


class _Simulated(QuadraticCritic):
    """Knows the model's moments only from 450 simulated frames, drawn anew at each update of its weights."""

    turns = 0

    def update_weights(self, x: Any, b: Any) -> None:
        if not self.turns:
            self._truth = self.mean, self.recorded
        y = self.model.sample(x, b, 450, seed=77, first_frame=450 * self.turns)
        self.turns += 1
        drawn = QuadraticCritic(y, self.model, y.mean(axis=0))
        mean, recorded = self._truth
        # the slope at x and b is then that of the simulated frames, and its change with them the model's
        self.mean = mean + self.model.mean(x, b) - drawn.mean
        light, every = self.model.psi.forward(x) + b, np.arange(len(recorded))
        self.recorded = recorded + self.moments.predicted(x, light, self.flicker, every) - drawn.recorded
        super().update_weights(x, b)


def _with(kind: type[QuadraticCritic], small: dict[str, Any]) -> Callable[[Field], Made]:
    """The full method with another quadratic critic."""

    def fit(field: Field) -> Made:
        options = _used(**(small | {"method": "moments"}))

        def critic(frames: Any, model: fg.ForwardModel, mean: Any, **more: Any) -> QuadraticCritic:
            """The other critic for the frames that are fitted, the usual one for those that judge."""
            return QuadraticCritic(frames, model, mean, **more) if "like" in more else kind(frames, model, mean)

        solver = Solver(field.frames, psi=field.model.psi, camera=CAMERA, options=options, quadratic_critic=critic)
        made = solver.run(progress=False)
        return made.x, made.b, made.stop_reason

    return fit


def _ideal(small: dict[str, Any]) -> Callable[[Field], Made]:
    """The present steps of a trained critic with the optimal quadratic critic: the exact slope of the likelihood."""

    def fit(field: Field) -> Made:
        options = _used(**(small | {"method": "none"}))
        solver = Solver(field.frames, psi=field.model.psi, camera=CAMERA, options=options)
        solver.run(progress=False)
        problem, objective, kernel = solver.problem, solver.objective, solver.mean_phase.kernel
        critic = QuadraticCritic(field.frames, problem.model, problem.mean)
        scale = np.float32(objective.fidelity * problem.noise.variance)
        z, x, b = solver.images
        for _ in range(40):
            critic.update_weights(x, b)
            slope_x, slope_b = critic.slope(x, b)
            z = objective.prior.step(z, kernel(scale * slope_x), options.relaxation * objective.step_x).x
            x, b = kernel(z), objective.background_step(b, scale * slope_b, options.relaxation * objective.step_b)
        return x, b, "40 steps"

    return fit
