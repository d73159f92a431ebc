"""A critic evaluated on perturbed frames: by the kernels where it is of their family, else in chunks that fit the budget."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend.arrays import Backend, get_backend
from ..backend.checks import image_shape, whole_number
from ..backend.kinds import any_kind
from ..backend.typing import Array, CriticLike
from ..physics.photons import PhotonSets
from . import reference

__all__ = ["CriticEvaluator", "evaluator_for"]

log = logging.getLogger("fluogan_core")


class CriticEvaluator:
    """A critic as a function of arrays, prepared once: to be kept where one critic is evaluated many times.

    :func:`fluogan_core.critic_differences` and :func:`fluogan_core.critic_gradient` take one in place of a critic.  It may be
    kept while the critic is trained: each call compares the weights with those that it was prepared with, and prepares it anew
    if they differ.

    Parameters
    ----------
    critic : torch.nn.Module or callable
        Maps (S, M1, M2) counts to (S,).  It is evaluated in eval mode.
    shape : (M1, M2)
        Camera pixels of a frame.
    backend : Backend or str, optional
        Where frames live; by default where the critic does.
    memory_budget : int, optional
        Bytes that perturbed frames and their activations may take; by default the backend's.

    Attributes
    ----------
    chunk : int
        Frames that are evaluated together.

    Raises
    ------
    ValueError
        If the critic is in half precision, lives elsewhere than the frames, does not return one score per frame, or if the
        score of a frame changes from call to call or with the other frames of the batch (seen at the first frames); from its
        methods, for frames of another shape.
    FloatingPointError
        From its methods, if what the critic gives is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> critic = fg.Critic((8, 8), channels=2, depth=2, seed=0)
    >>> evaluator = fg.CriticEvaluator(critic, (8, 8))
    >>> frames = np.ones((3, 8, 8), np.float32)
    >>> [fg.critic_differences(evaluator, y[None], step=2.0).shape for y in frames]
    [(1, 8, 8), (1, 8, 8), (1, 8, 8)]
    """

    def __init__(
        self,
        critic: CriticLike,
        shape: tuple[int, int],
        backend: Backend | str | None = None,
        memory_budget: int | None = None,
    ) -> None:
        from . import scores  # torch is loaded here, on first use

        self._torch, self._critic, self.shape = scores, scores.as_module(critic), image_shape(shape)
        home = scores.home_of_critic(self._critic)
        self.backend = _backend_at(home) if backend is None else get_backend(backend)
        if home not in (None, self.backend.device):
            raise ValueError(f"the critic is on {home} but the frames are on {self.backend.device}; move it with critic.to()")
        scores.refuse_half_precision(self._critic)
        budget = self.backend.memory_budget() if memory_budget is None else memory_budget
        self.memory_budget = whole_number(budget, "memory_budget", low=1)
        # no result depends on this bound; it matters for a critic of next to no activations
        self.chunk = max(1, min(65536, self.memory_budget // scores.activation_bytes(self._critic, self.shape)))
        self._weights: Any = None
        self._network: Any = None
        self._still = False
        self._to_check = {"scores"}  # emptied by the first frames, of copies too
        if self._prepared() is None:
            log.debug("the critic is evaluated frame by frame: %s is outside the kernels' family", type(critic).__name__)

    def __repr__(self) -> str:
        return f"CriticEvaluator({type(self._critic).__name__}, shape={self.shape}, backend={self.backend.device!r})"

    def _prepared(self) -> Any:
        """The critic as the kernels read it, of its present weights; None if they do not know its family."""
        if self._still:
            return self._network
        make = self.backend.kernel("make_network")
        if make is None or not self._torch.in_kernels_family(self._critic, self.backend):
            self._weights = self._network = None
            return None
        weights = self._torch.all_weights(self._critic)
        if self._weights is None or not self._torch.same(weights, self._weights):
            self._weights, self._network = weights, make(**self._torch.kernel_arrays(self._critic, self.backend))
        return self._network

    @property
    def is_still(self) -> bool:
        """Whether it was returned by :meth:`still`."""
        return self._still

    def still(self, *, changed: bool | None = None) -> CriticEvaluator:
        """Return an evaluator for calls between which the weights do not change: it looks at them now, and not again.

        Parameters
        ----------
        changed : bool, optional
            Whether the weights differ from those of the last preparation.  By default they are compared, for which the host
            waits for a card.

        Returns
        -------
        CriticEvaluator
        """
        if changed:
            self._weights = None
        if changed is not False:
            self._prepared()
        held = copy.copy(self)
        held._still = True
        return held

    def _taken(self, y: Array) -> Array:
        """Frames in the critic's dtype; the first ones show whether its score is one of a frame alone."""
        if y.ndim != 3 or tuple(y.shape[1:]) != self.shape:
            raise ValueError(
                f"y must be frames (S, {self.shape[0]}, {self.shape[1]}), got shape {tuple(y.shape)}; add an axis for one "
                "frame, y[None], or make an evaluator for frames of another shape"
            )
        y = y.astype(self._torch.frames_dtype(self._critic, y), copy=False)
        if self._to_check and len(y) and not self._torch.is_slim(self._critic):
            self._torch.check_scores(self._critic, y)
            self._to_check.clear()
        return y

    @any_kind("y")
    def values(self, y: Array) -> Array:
        """Return the scores of frames.

        Parameters
        ----------
        y : (S, M1, M2) array
            Counts; cast to the critic's dtype, and not changed.

        Returns
        -------
        (S,) array, in the critic's precision
        """
        return self._torch.critic_values(self._critic, self._taken(y))

    @any_kind("y")
    def slope(self, y: Array) -> Array:
        """Return the gradient of D with respect to each frame.

        Of a critic of the kernels' family by the kernels, so that the linear term of :meth:`photon_remainders` is this one to
        the last digit.

        Parameters
        ----------
        y : (S, M1, M2) array
            Counts; cast to the critic's dtype, and not changed.

        Returns
        -------
        (S, M1, M2) array, in the critic's precision
            Score per count.
        """
        y, network = self._taken(y), self._prepared()
        if network is not None:
            kernel = self._kernel("input_gradient")
            return self._finite(self._in_chunks(lambda part: kernel(network, part)[0], y, self.chunk), "gradients")
        # the backward pass keeps every activation and its gradient
        return self._in_chunks(lambda part: self._torch.critic_input_gradient(self._critic, part), y, max(1, self.chunk // 2))

    @any_kind("y")
    def pixel_differences(self, y: Array, step: float) -> Array:
        """Return D(y + step e_j) - D(y) for each pixel j of each frame.

        Parameters
        ----------
        y : (S, M1, M2) array
            Counts; cast to the critic's dtype, and not changed.
        step : float
            Counts that are added to one pixel.

        Returns
        -------
        (S, M1, M2) array, in the critic's precision
        """
        y, network = self._taken(y), self._prepared()
        if network is not None:
            kernel = self._kernel("critic_differences")
            return self._finite(self._in_chunks(lambda part: kernel(network, part, step), y, self.chunk), "differences")
        return reference.critic_differences(self.values, y, step, chunk=self.chunk)

    def photon_differences(self, y: Array, sets: PhotonSets, step: float) -> Array:
        """Return D(y + step * photons) - D(y) for equally many sets of photons per frame.

        Parameters
        ----------
        y : (S, M1, M2) array
            Counts; cast to the critic's dtype, and not changed.
        sets : PhotonSets
            P sets, as many for each frame, frame by frame.
        step : float
            Counts per photon.

        Returns
        -------
        (P,) array, in the critic's precision
        """
        y, network, frame = self._taken(y), self._prepared(), self._owners(y, sets)
        if network is not None:
            kernel = self._kernel("perturbation_differences")
            return self._finite(kernel(network, y, frame, sets.starts, sets.pixels, step), "differences")
        return reference.perturbation_differences(self.values, y, frame, sets, step, chunk=self.chunk)

    def photon_remainders(self, y: Array, slope: Array, sets: PhotonSets, step: float) -> Array:
        """Return :meth:`photon_differences` less their linear prediction, ``step * <grad D, photons>``.

        Parameters
        ----------
        y, sets, step
            As for :meth:`photon_differences`.
        slope : (S, M1, M2) array
            The frames' :meth:`slope`.

        Returns
        -------
        (P,) array, in the critic's precision
        """
        y, network, frame = self._taken(y), self._prepared(), self._owners(y, sets)
        if network is not None:
            kernel = self._kernel("perturbation_differences")
            return self._finite(kernel(network, y, frame, sets.starts, sets.pixels, step, remainder=True), "differences")
        xp, pixels = self.backend.xp, y.shape[1] * y.shape[2]
        owner = frame[xp.searchsorted(sets.starts[1:], xp.arange(len(sets.pixels)), side="right")]
        picked = slope.astype(np.float64).ravel()[owner * pixels + sets.pixels]
        ends = xp.concatenate([xp.zeros(1), xp.cumsum(picked)])
        linear = step * (ends[sets.starts[1:]] - ends[sets.starts[:-1]])
        return reference.perturbation_differences(self.values, y, frame, sets, step, chunk=self.chunk) - linear

    def node_and_pixel_differences(
        self, y: Array, sets: PhotonSets, step: float, slope: Array | None = None
    ) -> tuple[Array, Array]:
        """Return :meth:`photon_differences` and :meth:`pixel_differences` together: what they share is evaluated once.

        Parameters
        ----------
        y, sets, step
            As for :meth:`photon_differences`.
        slope : (S, M1, M2) array, optional
            The frames' :meth:`slope`, where both are wanted less their linear prediction.

        Returns
        -------
        of_sets : (P,) array, in the critic's precision
        of_pixels : (S, M1, M2) array
        """
        y, network = self._taken(y), self._prepared()
        if network is None and slope is None:
            return self.photon_differences(y, sets, step), self.pixel_differences(y, step)
        if network is None:
            assert slope is not None
            return self.photon_remainders(y, slope, sets, step), self.pixel_differences(y, step) - step * slope
        xp, pixels = self.backend.xp, y.shape[1] * y.shape[2]
        number = xp.arange(len(y) * pixels)
        frame = xp.concatenate([self._owners(y, sets), number // pixels])
        starts = xp.concatenate([sets.starts, sets.starts[-1] + 1 + number])
        places = xp.concatenate([sets.pixels, (number % pixels).astype(np.int32)])
        kernel = self._kernel("perturbation_differences")
        found = self._finite(kernel(network, y, frame, starts, places, step, remainder=slope is not None), "differences")
        return found[: len(sets)], found[len(sets) :].reshape(y.shape)

    def _finite(self, found: Array, what: str) -> Array:
        return self._torch.finite(found, self._critic, what)

    def _kernel(self, name: str) -> Any:
        return self.backend.kernel(name)

    def _in_chunks(self, call: Callable[[Array], Array], y: Array, size: int) -> Array:
        """What ``call`` makes of the frames, ``size`` at a time."""
        parts = [call(y[i : i + size]) for i in range(0, len(y), size)]
        if not parts:
            return self.backend.xp.zeros_like(y)
        return parts[0] if len(parts) == 1 else self.backend.xp.concatenate(parts)

    def _owners(self, y: Array, sets: PhotonSets) -> Array:
        xp = self.backend.xp
        return xp.arange(len(sets)) // max(1, len(sets) // max(1, len(y)))


def _backend_at(home: str | None) -> Backend:
    if home is None or home == "cpu":
        return get_backend("numpy")
    kind, _, number = home.partition(":")
    if kind != "cuda":
        raise ValueError(f"the critic is on {home}, where no frames can be: move it to the CPU or a CUDA device by .to()")
    return get_backend("cupy", int(number))


def evaluator_for(
    critic: CriticLike | CriticEvaluator, shape: tuple[int, int], backend: Backend, memory_budget: int | None
) -> CriticEvaluator:
    """Return the evaluator of a critic for frames of this shape on this backend: ``critic`` itself if it is one."""
    if not isinstance(critic, CriticEvaluator):
        return CriticEvaluator(critic, shape, backend, memory_budget)
    if memory_budget is not None:
        raise ValueError("memory_budget belongs to the CriticEvaluator that was given: pass it there")
    if (critic.shape, critic.backend) != (tuple(shape), backend):
        raise ValueError(
            f"the evaluator is for frames of {critic.shape[0]} x {critic.shape[1]} pixels on {critic.backend.device}, but "
            f"these are {shape[0]} x {shape[1]} on {backend.device}: make one for them"
        )
    return critic
