"""The critic's side of the alternation: which frames it sees, its training steps, what it says of x and b."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import numpy as np

from ..backend import random
from ..backend.random import Stage
from ..critics.gradient import critic_gradient
from ..physics.forward import ForwardModel
from .options import SolverOptions

__all__ = ["NetworkPhase"]

log = logging.getLogger("fluogan_core")

#: Counts per unit of a critic's input where it is not to look.
_BLIND = 1e12


class NetworkPhase:
    """A critic, its trainer, and the recorded frames, split into training and held-out ones.

    Parameters
    ----------
    frames : (T, M1, M2) float32
        Recorded counts above the offset, on the model's backend.
    model : ForwardModel
    options : SolverOptions
    critic : torch.nn.Module, optional
        Maps (S, M1, M2) counts above the offset to (S,); a :class:`fluogan_core.Critic` by default.
    bad_pixels : (M1, M2) bool, optional
        The critic that is made here is blind to them; one that is given sees them standing still.
    """

    def __init__(
        self,
        frames: Any,
        model: ForwardModel,
        options: SolverOptions,
        critic: Any | None = None,
        bad_pixels: np.ndarray | None = None,
    ) -> None:
        from ..backend.dlpack import on_torch_stream, to_tensor  # torch is loaded here, on first use
        from ..critics.network import Critic
        from ..critics.training import CriticTrainer

        self.model, self.options = model, options
        xp = model.backend.xp
        kept = held_out_frames(len(frames), options.held_out)
        self.held_out = frames[xp.asarray(kept)]
        self.train = frames[xp.asarray(np.setdiff1d(np.arange(len(frames)), kept))]
        mean = frames.mean(axis=0, dtype=np.float64)
        std = frames.std(axis=0, dtype=np.float64)
        # a dead pixel must not become the loudest one
        std = xp.maximum(std, 0.1 * float(xp.sqrt((std * std).mean())))
        host = model.backend.to_host
        seen_std = host(std) if bad_pixels is None else np.where(bad_pixels, _BLIND, host(std))
        if critic is None:
            depth = min(options.depth, int(math.log2(min(model.psi.shape))))
            if depth < options.depth:
                log.info("a field of %d x %d takes a critic of depth %d", *model.psi.shape, depth)
            critic = Critic(
                model.psi.shape,
                options.channels,
                depth,
                input_mean=host(mean),
                input_std=seen_std,
                seed=options.seed,
            )
        self.critic = critic.to(model.backend.device)
        self._check(critic)
        self.trainer = CriticTrainer(self.critic, learning_rate=options.learning_rate, penalty=options.penalty, scale=host(std))
        self._to_tensor, self._on_torch_stream = to_tensor, on_torch_stream
        self._train_tensor = to_tensor(self.train)
        self.timings = {"sampling": 0.0, "critic": 0.0, "differences": 0.0}

    def _check(self, critic: Any) -> None:
        """Raise where a critic does not take these frames: now, not after the mean's fit."""
        from ..critics.scores import critic_values

        try:
            critic_values(self.critic, self.train[:2])
        except Exception as error:
            size = " x ".join(map(str, self.train.shape[1:]))
            raise ValueError(
                f"the critic does not take frames of {size} pixels, (S, M1, M2) to (S,): {type(error).__name__}: {error}"
            ) from error

    def _simulate(self, x: Any, b: Any, frames: int, first: int, step: int) -> Any:
        started = time.perf_counter()
        y = self.model.sample(x, b, frames, self.options.seed, first_frame=first, step=2 * step)
        self.timings["sampling"] += time.perf_counter() - started
        return y

    def learn(self, x: Any, b: Any, step: int) -> tuple[float, float]:
        """Train the critic for one image step; return the last Wasserstein estimate on training frames and the penalty."""
        o, xp = self.options, self.model.backend.xp
        with self._on_torch_stream(self.model.backend):
            for turn in range(o.critic_steps):
                simulated = self._simulate(x, b, o.batch, turn * o.batch, step)
                u, eta = random.uniform(o.seed, Stage.BATCH, step, turn, np.arange(o.batch))
                chosen = np.minimum((u * len(self.train)).astype(np.int64), len(self.train) - 1)
                started = time.perf_counter()
                real = self._train_tensor[self._to_tensor(xp.asarray(chosen))]
                values = self.trainer.step(real, self._to_tensor(simulated), self._to_tensor(xp.asarray(eta)))
                self.timings["critic"] += time.perf_counter() - started
            started = time.perf_counter()
            wasserstein, penalty = (float(value) for value in values)  # only here does the host wait for a card
            self.timings["critic"] += time.perf_counter() - started
        return wasserstein, penalty

    def judge(self, x: Any, b: Any, step: int) -> tuple[float, float]:
        """Return the Wasserstein estimate on held-out frames and E[D] on as many simulated ones."""
        from ..critics.scores import critic_values

        if not len(self.held_out):
            return math.nan, math.nan
        with self._on_torch_stream(self.model.backend):
            simulated = self._simulate(x, b, len(self.held_out), self.options.critic_steps * self.options.batch, step)
            started = time.perf_counter()
            mean_real = float(critic_values(self.critic, self.held_out).mean())
            mean_simulated = float(critic_values(self.critic, simulated).mean())
            self.timings["critic"] += time.perf_counter() - started
        return mean_real - mean_simulated, mean_simulated

    def gradient(self, x: Any, b: Any, step: int) -> tuple[Any, Any]:
        """Return the gradient of E[D(Y)] with respect to x and b."""
        o = self.options
        started = time.perf_counter()
        with self._on_torch_stream(self.model.backend):
            gradient = critic_gradient(self.critic, self.model, x, b, o.gradient_frames, o.seed, o.method, step=2 * step + 1)
        self.timings["differences"] += time.perf_counter() - started
        return gradient[0], gradient[1]


def held_out_frames(frames: int, fraction: float) -> np.ndarray:
    """Return the numbers of the held-out frames, spread evenly over the stack so that bleaching is seen by both parts."""
    count = round(fraction * frames)
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    return ((np.arange(count) + 0.5) * frames / count).astype(np.int64)
