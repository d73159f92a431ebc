"""How long must a critic be trained, and what does the best quadratic one know without training?

At the fit of the mean the critic alone is trained, on batches of 32 and of the paper's 200, up to the paper's 5000 steps.  Now
and then it is asked to tell frames that no one was fitted to from as many simulated ones.  Critics have scales of their own, so
the difference of their means is given in its standard errors.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import fluogan_core as fg
from fluogan_core.critics.quadratic import QuadraticCritic
from fluogan_core.solvers.network_fit import NetworkPhase, held_out_frames

from .._harness import Report
from ._field import Field

__all__ = ["add_training", "best_quadratic", "told_apart"]

#: Of the frames that a critic is judged by: no other draw here has it.
_SEED = 4242


def told_apart(recorded: np.ndarray, simulated: np.ndarray) -> float:
    """Difference of the means of D, (S,) each, in its standard errors."""
    error = np.sqrt(recorded.var(ddof=1) / len(recorded) + simulated.var(ddof=1) / len(simulated))
    return float((recorded.mean() - simulated.mean()) / error)


def best_quadratic(field: Field, train: np.ndarray, x: np.ndarray, b: np.ndarray) -> Any:
    """The quadratic critic as a function of frames (S, M1, M2), (S,); from the training frames alone."""
    mean = train.mean(axis=0)
    critic = QuadraticCritic(train, field.model, mean, window=max(mean.shape))
    critic.update_weights(x, b)  # the flicker is not measured: the simulated frames that it is compared with have the model's
    light = field.model.psi.forward(x) + b
    (covariance,) = critic.moments.predicted(x, light, critic.flicker, np.arange(1))
    (weight,) = critic.weights
    linear, quadratic = weight @ (light - mean).ravel(), 0.5 * weight @ (covariance - critic.recorded[0]) @ weight

    def values(frames: np.ndarray) -> np.ndarray:
        off = (frames - mean).reshape(len(frames), -1)
        return -off @ linear - ((off @ quadratic) * off).sum(axis=1)

    return values


def add_training(report: Report, field: Field, options: fg.SolverOptions, looks: Sequence[int], batches: Sequence[int]) -> None:
    """One table: what each critic tells frames apart by, after so many steps."""
    from fluogan_core.critics.scores import critic_values

    camera = fg.Camera(gain=1.0, offset=0.0, noise_std=0.0)
    fit = fg.reconstruct(field.frames, psi=field.model.psi, camera=camera, options=options.for_method("none"), progress=False)
    x, b = fit.x, fit.b
    train = np.delete(field.frames, held_out_frames(len(field.frames), options.held_out), axis=0)
    simulated = field.model.sample(x, b, len(field.unseen), seed=_SEED)
    started = time.perf_counter()
    values = best_quadratic(field, train, x, b)
    seconds = time.perf_counter() - started
    rows = [["best quadratic", "", "none", seconds, *(told_apart(values(y), values(simulated)) for y in (train, field.unseen))]]
    for batch in batches:
        size = {"channels": options.channels, "depth": options.depth}
        chosen = fg.SolverOptions(method="corrected", critic_steps=1, batch=batch, **size)
        solver = fg.Solver(field.frames, psi=field.model.psi, camera=camera, options=chosen)
        phase = solver.phases[1]
        assert isinstance(phase, NetworkPhase)
        seconds = 0.0
        for step in range(1, looks[-1] + 1):
            started = time.perf_counter()
            phase.learn(x, b, step)
            seconds += time.perf_counter() - started
            if step in looks:
                drawn = critic_values(phase.critic, simulated)
                apart = [told_apart(critic_values(phase.critic, y), drawn) for y in (train, field.unseen)]
                rows.append(["trained", batch, step, seconds, *apart])
                print(f"critic on batches of {batch}: {rows[-1][2:]}", file=sys.stderr, flush=True)
    report.table(
        "How long a critic has to be trained: recorded frames told from simulated ones, in standard errors",
        ["critic", "batch", "steps", "s", "frames that it was trained on", "unseen frames"],
        rows,
        f"At the fit of the mean to {len(field.frames)} frames, {len(train)} of which the critics see; both judged against the "
        f"same {len(simulated)} simulated frames. Beyond two, a critic knows something that the fit did not.",
    )
