"""The two quadratic critics of a fit: of the frames that it sees, and of those held out."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np

from ..backend.typing import Array
from ..critics.quadratic import QuadraticCriticLike
from .options import SolverOptions
from .problem import Problem
from .splits import held_out_frames, seen_frames

__all__ = ["FrameCritics"]


class FrameCritics:
    """The critics of a problem's frames, made at their first use: the fit of the mean does not wait for covariances.

    Parameters
    ----------
    problem : Problem
    options : SolverOptions
        ``held_out`` and ``fidelity`` are used here.
    make : callable
        Called as :class:`fluogan_core.QuadraticCritic` is.

    Raises
    ------
    ValueError
        If fewer than two frames are left to fit.
    """

    def __init__(self, problem: Problem, options: SolverOptions, make: Callable[..., QuadraticCriticLike]) -> None:
        self.problem, self.make = problem, make
        frames = len(problem.counts)
        self._kept = held_out_frames(frames, options.held_out)
        self._seen = seen_frames(frames, self._kept)
        if len(self._seen) < 2:
            raise ValueError(
                f"method='moments' needs two frames or more for its covariances, but held_out={options.held_out:g} leaves "
                f"{len(self._seen)} of {frames}: lower held_out, or take method='none'"
            )
        self._more = {"trust": options.fidelity / problem.noise.unexplained**2, "bad_pixels": problem.bad_pixels}

    @cached_property
    def fitted(self) -> QuadraticCriticLike:
        """Of the frames that are fitted."""
        return self._made(self._seen, self.problem.mean)

    @cached_property
    def unseen(self) -> QuadraticCriticLike | None:
        """Of the held-out frames; None where there are fewer than two."""
        if len(self._kept) < 2:
            return None
        return self._made(self._kept, self._mean_held_out, like=self.fitted)

    @cached_property
    def frames_held_out(self) -> Array:
        """The held-out frames, photons."""
        return self._counts(self._kept) / np.float32(self.problem.model.gain)

    @cached_property
    def _mean_held_out(self) -> Array:
        return self.frames_held_out.mean(axis=0, dtype=np.float64).astype(np.float32)

    def held_out_against(self, light: Array) -> Array:
        r"""Return the held-out frames to compare with a mean frame of ``light`` (M1, M2), photons.

        What pixels differ by in gain or offset is in the seen frames too: an image that has taken it for detail predicts it.
        With u times the noise that fluctuations explain in the mean of all T frames, that of n of them has
        :math:`\sqrt{1 + (u^2 - 1) n / T}` times; by this factor their mean is brought nearer to the light, so that it counts as
        much as it tells.
        """
        frames, unexplained = self.frames_held_out, self.problem.noise.unexplained
        if unexplained == 1.0:
            return frames
        more = math.sqrt(1.0 + (unexplained**2 - 1.0) * len(frames) / len(self.problem.counts))
        return frames - np.float32(1.0 - 1.0 / more) * (self._mean_held_out - light)

    @property
    def both(self) -> list[QuadraticCriticLike]:
        """Both, or the one that there is."""
        return [self.fitted] + ([] if self.unseen is None else [self.unseen])

    def _counts(self, numbers: np.ndarray) -> Array:
        return self.problem.steady[self.problem.psi.backend.xp.asarray(numbers)]

    def _made(self, numbers: np.ndarray, mean: Array, **more: object) -> QuadraticCriticLike:
        made = self.make(self._counts(numbers), self.problem.model, mean, **more, **self._more)
        if not isinstance(made, QuadraticCriticLike):
            missing = [name for name in _NEEDED if not hasattr(made, name)]
            raise TypeError(
                f"quadratic_critic= must give an object with the methods of fluogan_core.QuadraticCritic, but "
                f"{type(made).__name__} lacks {', '.join(missing)}; derive it from fluogan_core.QuadraticCritic"
            )
        return made


#: What the fit reads of a critic.
_NEEDED = sorted(name for name in [*vars(QuadraticCriticLike), *QuadraticCriticLike.__annotations__] if name[0] != "_")
