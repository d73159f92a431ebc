"""A critic evaluated on perturbed frames: by the kernels where it is of their family, else in chunks that fit the budget."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend.arrays import Backend
from ..physics.photons import PhotonSets
from . import reference

__all__ = ["Evaluator"]

log = logging.getLogger("fluogan_core")


class Evaluator:
    """A critic as a function of arrays.

    Parameters
    ----------
    critic : torch.nn.Module
        Maps (S, M1, M2) counts to (S,).
    shape : (M1, M2)
    backend : Backend
        Where frames live.
    budget : int, optional
        Bytes for perturbed frames and their activations.

    Attributes
    ----------
    chunk : int
        Frames that are evaluated together.
    """

    def __init__(self, critic: Any, shape: tuple[int, int], backend: Backend, budget: int | None = None) -> None:
        from . import scores  # torch is loaded here, on first use

        self._torch, self._critic, self._backend = scores, critic, backend
        budget = backend.memory_budget() if budget is None else budget
        self.chunk = max(1, min(65536, budget // scores.activation_bytes(critic, shape)))
        make_network = backend.kernel("make_network")
        arrays = scores.slim_arrays(critic, backend) if make_network is not None else None
        self._network = None if arrays is None or make_network is None else make_network(**arrays)
        if self._network is None:
            log.debug("the critic is evaluated frame by frame: %s is outside the kernels' family", type(critic).__name__)

    def _kernel(self, name: str) -> Any:
        return self._backend.kernel(name)

    def values(self, frames: Any) -> Any:
        """D of each frame."""
        return self._torch.critic_values(self._critic, frames)

    def slope(self, y: Any) -> Any:
        """The gradient of D with respect to each frame.

        Of a critic of the kernels' family by the kernels: what they call linear and what is linear here cancel to the last
        digit then, whatever precision torch is allowed to convolve in.
        """
        if self._network is not None:
            kernel = self._kernel("input_gradient")
            return self._in_chunks(lambda part: kernel(self._network, part)[0], y, self.chunk)
        # the backward pass keeps every activation and its gradient
        return self._in_chunks(lambda part: self._torch.critic_input_gradient(self._critic, part), y, max(1, self.chunk // 2))

    def _in_chunks(self, call: Callable[[Any], Any], y: Any, size: int) -> Any:
        """What ``call`` makes of the frames, ``size`` at a time."""
        parts = [call(y[i : i + size]) for i in range(0, len(y), size)]
        if not parts:
            return self._backend.xp.zeros_like(y)
        return parts[0] if len(parts) == 1 else self._backend.xp.concatenate(parts)

    def single(self, y: Any, step: float) -> Any:
        """One more count in each pixel of each frame."""
        if self._network is not None:
            kernel = self._kernel("critic_differences")
            return self._in_chunks(lambda part: kernel(self._network, part, step), y, self.chunk)
        return reference.critic_differences(self.values, y, step, chunk=self.chunk)

    def several(self, y: Any, sets: PhotonSets, step: float) -> Any:
        """Equally many sets of photons added to each frame, frame by frame."""
        frame = self._owners(y, sets)
        if self._network is not None:
            return self._kernel("perturbation_differences")(self._network, y, frame, sets.starts, sets.pixels, step)
        return reference.perturbation_differences(self.values, y, frame, sets, step, chunk=self.chunk)

    def remainders(self, y: Any, slope: Any, sets: PhotonSets, step: float) -> Any:
        """The same less the linear prediction, step * <grad D, photons>."""
        frame = self._owners(y, sets)
        if self._network is not None:
            kernel = self._kernel("perturbation_differences")
            return kernel(self._network, y, frame, sets.starts, sets.pixels, step, remainder=True)
        xp, pixels = self._backend.xp, y.shape[1] * y.shape[2]
        owner = frame[xp.searchsorted(sets.starts[1:], xp.arange(len(sets.pixels)), side="right")]
        picked = slope.astype(np.float64).ravel()[owner * pixels + sets.pixels]
        ends = xp.concatenate([xp.zeros(1), xp.cumsum(picked)])
        return self.several(y, sets, step) - step * (ends[sets.starts[1:]] - ends[sets.starts[:-1]])

    def _owners(self, y: Any, sets: PhotonSets) -> Any:
        xp = self._backend.xp
        return xp.repeat(xp.arange(len(y)), len(sets) // len(y))
