"""The network phase: a critic is trained on recorded and simulated frames, and the images follow its gradient."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

import numpy as np

from ..backend import random
from ..backend.random import Stage
from ..backend.readings import check, number, together
from ..backend.typing import Array, State
from ..critics.gradient import critic_gradient
from ..objective.blur import GaussianKernel
from ..objective.terms import Objective
from ..tuning import DEFAULT, EstimatorTuning, NetworkPhaseTuning
from .options import SolverOptions
from .phase import Images, Stop, StopReason, record_of
from .problem import Problem
from .schema import ArrayOf, NumberOf, Schema, prior_schema
from .splits import held_out_frames, seen_frames

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NetworkPhase"]

log = logging.getLogger("fluogan_core")

#: Bytes of simulated frames that are drawn at once.
_TOGETHER = 2**26


class NetworkPhase:
    r"""Alternation of Adam steps of the critic on (5) and proximal gradient steps of the images on (11).

    Parameters
    ----------
    problem : Problem
    objective : Objective
    options : SolverOptions
    kernel : GaussianKernel
        G, that of the fit of the mean.
    critic : torch.nn.Module, optional
        Maps (S, M1, M2) counts above the offset to (S,); a :class:`fluogan_core.Critic` by default, whose input at bad pixels
        is next to nothing.  One that is given sees them standing still.
    tuning : NetworkPhaseTuning
    estimators : EstimatorTuning
    """

    name = "network"

    def __init__(
        self,
        problem: Problem,
        objective: Objective,
        options: SolverOptions,
        kernel: GaussianKernel,
        critic: nn.Module | None = None,
        tuning: NetworkPhaseTuning = DEFAULT.network_phase,
        estimators: EstimatorTuning = DEFAULT.estimators,
    ) -> None:
        from ..backend.dlpack import on_torch_stream, to_array, to_tensor  # torch is loaded here, on first use
        from ..critics.evaluator import CriticEvaluator
        from ..critics.training import CriticTrainer

        self.model, self.objective, self.options, self.kernel = problem.model, objective, options, kernel
        self.tuning, self.estimators = tuning, estimators
        self.planned, self.taken = options.steps, 0
        self.stop: Stop | None = None
        frames, xp = problem.counts, self.model.backend.xp
        kept = held_out_frames(len(frames), options.held_out)
        self.held_out = frames[xp.asarray(kept)]
        self.train = frames[xp.asarray(seen_frames(len(frames), kept))]
        std = frames.std(axis=0, dtype=np.float64)
        std = self.model.backend.to_host(xp.maximum(std, tuning.least_std * float(xp.sqrt((std * std).mean()))))
        critic = self._default_critic(problem, std) if critic is None else critic
        self.critic = critic.to(self.model.backend.device)
        self._check()
        self.trainer = CriticTrainer(self.critic, learning_rate=options.learning_rate, penalty=options.penalty, scale=std)
        self.evaluator = CriticEvaluator(self.critic, problem.psi.shape, self.model.backend, problem.psi.memory_budget)
        self._to_array, self._to_tensor, self._on_torch_stream = to_array, to_tensor, on_torch_stream
        self._train_tensor = to_tensor(self.train)
        self.timings = {"sampling": 0.0, "critic": 0.0, "differences": 0.0, "prox": 0.0}

    def _default_critic(self, problem: Problem, std: np.ndarray) -> nn.Module:
        """The slim network, of a depth that the field allows."""
        from ..critics.network import Critic

        o, shape = self.options, problem.psi.shape
        depth = min(o.depth, int(math.log2(min(shape))))
        if depth < o.depth:
            log.info("a field of %d x %d takes a critic of depth %d", *shape, depth)
        mean = problem.psi.backend.to_host(problem.counts.mean(axis=0, dtype=np.float64))
        seen = np.where(problem.bad_pixels, self.tuning.bad_pixel_std, std)
        return Critic(shape, o.channels, depth, input_mean=mean, input_std=seen, seed=o.seed)

    def _check(self) -> None:
        """Raise where the critic does not take these frames: now, not after the fit of the mean."""
        from ..critics.scores import critic_values

        try:
            critic_values(self.critic, self.train[:2])
        except FloatingPointError:
            raise
        except Exception as error:
            size = " x ".join(map(str, self.train.shape[1:]))
            raise ValueError(
                f"the critic does not take frames of {size} pixels, (S, M1, M2) to (S,): {type(error).__name__}: {error}"
            ) from error

    def start(self, images: Images, *, fitted: bool = False) -> None:
        self.z, self.x, self.b = images
        self.x_average, self.b_average = images.x, images.b

    @property
    def images(self) -> Images:
        return Images(self.z, self.x, self.b)

    @property
    def outcome(self) -> Images:
        """The averages over the phase, weighted towards its end; z is the last one."""
        return Images(self.z, self.x_average, self.b_average)

    def step(self) -> dict[str, float]:
        """Train the critic, then move x and b along its gradient; the host waits for a card once, at the end."""
        backend = self.model.backend
        with self._on_torch_stream(backend), together(backend) as read:
            images, averages, prices, values = self._moved()
            numbers = read(*prices.values(), *values.values())
        self.z, self.x, self.b = images
        self.x_average, self.b_average = averages
        self.taken += 1
        if self.taken >= self.planned:
            self.stop = Stop(StopReason.STEPS, self.taken)
        return record_of(dict(zip(prices, numbers)), **dict(zip(values, numbers[len(prices) :])))

    def _moved(self) -> tuple[Images, tuple[Array, Array], dict[str, float], dict[str, float]]:
        """The images and averages of the next step, the terms of (11) there, and the other numbers of its record."""
        o, backend, taken = self.objective, self.model.backend, self.taken
        xp = backend.xp

        def judge(sound: bool) -> None:
            if not sound:
                raise FloatingPointError(
                    f"the critic's gradient is not finite at step {taken}: lower learning_rate or raise penalty"
                )

        w_train, penalty = self.learn(self.x, self.b, taken)
        check(backend, xp.isfinite(penalty), judge)
        w_held_out, mean_score = self.judge(self.x, self.b, taken)
        slope_x, slope_b = (g.astype(np.float32) for g in self.gradient(self.x, self.b, taken))
        for slope in (slope_x, slope_b):
            check(backend, xp.isfinite(slope).all(), judge)
        started = time.perf_counter()
        step_x, step_b = (self.options.relaxation * step for step in (o.step_x, o.step_b))
        # the image is sought among those that the kernel passes, as in the fit of the mean: G is its own adjoint
        slope_z = self.kernel(o.gradient_x(o.residual(self.x, self.b)) - slope_x)
        moved = o.prior.step(self.z, slope_z, step_x)
        z, x = moved.x, self.kernel(moved.x)
        b = o.background_step(self.b, o.fidelity * o.residual(x, self.b) - slope_b, step_b)
        # weights grow as k^3, so that the average forgets where the phase started without knowing where it ends
        share = np.float32(4.0 / (taken + 4.0))
        averages = self.x_average + share * (x - self.x_average), self.b_average + share * (b - self.b_average)
        residual = o.residual(x, b)
        prices = o.terms(z, b, residual) | {"adversarial": -mean_score}
        values = {
            "step_x": step_x,
            "step_b": step_b,
            "residual": number(xp.linalg.norm(residual.ravel())),
            "change_x": moved.change,
            "change_b": number(xp.linalg.norm((b - self.b).ravel())),
            "w_train": w_train,
            "w_held_out": w_held_out,
            "gradient_penalty": penalty,
        }
        self.timings["prox"] += time.perf_counter() - started
        return Images(z, x, b), averages, prices, values

    def headline(self, record: dict[str, float]) -> str:
        return f"network fit, the critic tells recorded from simulated frames by {record['w_train']:.3g}"

    def _simulate(self, x: Array, b: Array, frames: int, first: int, step: int) -> Array:
        started = time.perf_counter()
        y = self.model.sample(x, b, frames, self.options.seed, first_frame=first, step=2 * step)
        self.timings["sampling"] += time.perf_counter() - started
        return y

    def learn(self, x: Array, b: Array, step: int) -> tuple[float, float]:
        """Train the critic for one step of the images; return the last Wasserstein estimate and the gradient penalty.

        Both are read as :func:`fluogan_core.backend.readings.number` says.
        """
        o, xp = self.options, self.model.backend.xp
        turns, batches = np.arange(o.critic_steps), [self._chosen(step, turn) for turn in range(o.critic_steps)]
        # as many turns together as memory allows: a sample waits for a card, whatever its size
        together = max(1, _TOGETHER // (4 * o.batch * b.size))
        with self._on_torch_stream(self.model.backend):
            chosen, shares = (self._to_tensor(xp.asarray(np.stack(parts))) for parts in zip(*batches))
            for some in np.split(turns, turns[together::together]):
                simulated = self._simulate(x, b, len(some) * o.batch, int(some[0]) * o.batch, step)
                started = time.perf_counter()
                for turn, frames in zip(some.tolist(), self._to_tensor(simulated).split(o.batch)):
                    values = self.trainer.step(self._train_tensor[chosen[turn]], frames, shares[turn])
                self.timings["critic"] += time.perf_counter() - started
            wasserstein, penalty = (number(self._to_array(value, self.model.backend)) for value in values)
        return wasserstein, penalty

    def _chosen(self, step: int, turn: int) -> tuple[np.ndarray, np.ndarray]:
        """Recorded frames of a batch, and the shares in which they are mixed with simulated ones."""
        u, eta = random.uniform(self.options.seed, Stage.BATCH, step, turn, np.arange(self.options.batch))
        return np.minimum((u * len(self.train)).astype(np.int64), len(self.train) - 1), eta

    def judge(self, x: Array, b: Array, step: int) -> tuple[float, float]:
        """Return the Wasserstein estimate on held-out frames and E[D] on as many simulated ones."""
        from ..critics.scores import critic_values

        if not len(self.held_out):
            return math.nan, math.nan
        with self._on_torch_stream(self.model.backend):
            simulated = self._simulate(x, b, len(self.held_out), self.options.critic_steps * self.options.batch, step)
            started = time.perf_counter()
            mean_real, mean_simulated = (
                number(critic_values(self.critic, frames).mean().astype(np.float64)) for frames in (self.held_out, simulated)
            )
            self.timings["critic"] += time.perf_counter() - started
        return mean_real - mean_simulated, mean_simulated

    def gradient(self, x: Array, b: Array, step: int) -> tuple[Array, Array]:
        """Return the gradient of E[D(Y)] with respect to x and b."""
        o = self.options
        started = time.perf_counter()
        with self._on_torch_stream(self.model.backend):
            gradient = critic_gradient(
                self.evaluator.still(changed=True),
                self.model,
                x,
                b,
                o.gradient_frames,
                o.seed,
                o.method,
                step=2 * step + 1,
                tuning=self.estimators,
            )
        self.timings["differences"] += time.perf_counter() - started
        return gradient[0], gradient[1]

    _IMAGES = ("z", "x", "b", "x_average", "b_average")

    def state_dict(self) -> State:
        images = {name: getattr(self, name) for name in self._IMAGES} if self.taken else {}
        prior = self.objective.prior.state_dict()
        return {"taken": self.taken, "images": images, "prior": prior, "trainer": self.trainer.state_dict()}

    def schema(self, begun: bool) -> Schema:
        psi = self.objective.psi
        image, background = ArrayOf(psi.fine_shape, low=0), ArrayOf(psi.shape, low=0)
        images = {"z": image, "x": image, "b": background, "x_average": image, "b_average": background}
        return {
            "taken": NumberOf(0, whole=True),
            "images": images if begun else {},
            "prior": prior_schema(self.objective.prior),
            "trainer": dict,
        }

    def load_state_dict(self, state: State) -> None:
        asarray = self.model.backend.asarray
        self.taken = int(state["taken"])
        for name, image in state["images"].items():
            setattr(self, name, asarray(image))
        self.objective.prior.load_state_dict(state["prior"], asarray)
        self.trainer.load_state_dict(state["trainer"])
