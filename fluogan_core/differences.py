r"""The critic's gradient with respect to x and b: the five estimators.

Eq. (12) is exact, :math:`\partial_{x_i} E[D(Y)] = E[D(Y(x, b + C_i)) - D(Y(x, b))]`.  Poisson superposition couples the two
terms: one frame y serves every i, with :math:`y_i = y + \alpha P(C_i)`.  ``docs/estimators.md`` says what each method keeps
of the exact gradient, what it costs, and when to use it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import random, reference
from ._checks import one_of, real_number, whole_number
from .backend import backend_of, default_memory_budget
from .forward import ForwardModel
from .photons import PhotonSets, PlacementTable, draw_photons
from .random import Stage

__all__ = ["METHODS", "critic_differences", "critic_gradient"]

log = logging.getLogger("fluogan_core")

METHODS = ("direct", "coupled", "photon", "linear", "corrected")


def critic_differences(critic: Any, y: Any, step: float, method: str = "exact", *, memory_budget: int | None = None) -> Any:
    """Return what one more count in each pixel does to the critic, ``D(y + step * e_j) - D(y)``.

    Parameters
    ----------
    critic : torch.nn.Module
        Maps (S, M1, M2) counts to (S,).
    y : (S, M1, M2) float32 or float64, counts
    step : float
        Counts of one detected photon (the gain).
    method : {"exact", "linear"}
        Every perturbed frame evaluated, or ``step`` times the gradient of D, by one backward pass.
    memory_budget : int, optional
        Bytes that perturbed frames and their activations may take.

    Returns
    -------
    d : (S, M1, M2), in the critic's precision

    Raises
    ------
    ValueError
        If y is not a stack of frames, or the critic does not return one score per frame.
    """
    one_of(method, "method", ("exact", "linear"))
    step = real_number(step, "step")
    backend_of(y=y)
    if y.ndim != 3:
        raise ValueError(f"y must be (frames, rows, columns), got shape {tuple(y.shape)}; add an axis for one frame: y[None]")
    evaluator = _Evaluator(critic, tuple(y.shape[1:]), memory_budget)
    return step * evaluator.slope(y) if method == "linear" else evaluator.single(y, step)


def critic_gradient(
    critic: Any,
    model: ForwardModel,
    x: Any,
    b: Any,
    frames: int = 200,
    seed: int = 0,
    method: str = "corrected",
    *,
    background_rule: str = "count",
    corrected_frames: int | None = None,
    first_frame: int = 0,
    step: int = 0,
    memory_budget: int | None = None,
    with_error: bool = False,
) -> tuple[Any, ...]:
    r"""Return the gradient of E[D(Y)] with respect to x and b, estimated on simulated frames.

    Parameters
    ----------
    critic : torch.nn.Module
        Maps (S, M1, M2) counts above the offset to (S,).
    model : ForwardModel
    x : (N1, N2), emissions per fine pixel per frame
    b : (M1, M2), photons per camera pixel per frame
    frames : int
        Simulated frames to average over.
    seed, first_frame, step : int
        Counters of the random streams (see :mod:`fluogan_core.random`).
    method : {"corrected", "coupled", "photon", "linear", "direct"}
        ``"direct"``: independent frames for each b + C_i, eq. (12) as printed; unbiased, drowned in noise.
        ``"coupled"``: :math:`D(y + \alpha P(C_i)) - D(y)`; unbiased.
        ``"photon"``: :math:`\Psi^T E[D(y + \alpha e_j) - D(y)]`; for x drops what several photons of one emission do together.
        ``"linear"``: :math:`\alpha \Psi^T E[\nabla D]`; the shift of the mean only.
        ``"corrected"``: linear on every frame, plus coupled minus its own linear prediction on a few; unbiased.
    background_rule : {"count", "rate"}
        For b: ``"count"`` adds one detected photon to pixel j, the exact derivative; ``"rate"`` raises its rate by one, as the
        paper prints.  They differ by what several photons do together.
    corrected_frames : int, optional
        Frames on which ``"corrected"`` evaluates its remainder; one in 16 by default, at least two.
    memory_budget : int, optional
        Bytes for intermediates; that of ``model.psi`` by default.
    with_error : bool
        Also return the standard error of each element (needs two frames).

    Returns
    -------
    gx, gb : (N1, N2) and (M1, M2) float64
        ...and with ``with_error`` their standard errors, ``gx, gb, gx_error, gb_error``.

    Raises
    ------
    ValueError
        For an unknown method, negative or misshaped x or b, fewer than one frame.
    """
    one_of(method, "method", METHODS)
    one_of(background_rule, "background_rule", ("count", "rate"))
    frames = whole_number(frames, "frames", low=2 if with_error else 1)
    x, b = model.check(x, b)
    budget = model.psi.memory_budget if memory_budget is None else whole_number(memory_budget, "memory_budget", low=1)
    job = _Job(model, _Evaluator(critic, model.psi.shape, budget), seed, step, background_rule, with_error)
    if method == "direct":
        return job.direct(x, b, frames, first_frame).result()
    numbers = np.arange(first_frame, first_frame + frames)
    few = frames
    if method == "corrected":
        few = max(2, frames // 16) if corrected_frames is None else whole_number(corrected_frames, "corrected_frames", low=1)
        few = min(few, frames)
    return job.average(x, b, numbers, method, few).result()


class _Evaluator:
    """A critic as a function of arrays, evaluated in chunks that fit the memory budget."""

    def __init__(self, critic: Any, shape: tuple[int, int], budget: int | None) -> None:
        from . import bridge  # torch is loaded here, on first use

        self._bridge, self._critic = bridge, critic
        budget = default_memory_budget() if budget is None else budget
        self.chunk = max(1, min(65536, budget // bridge.activation_bytes(critic, shape)))

    def values(self, frames: Any) -> Any:
        """D of each frame."""
        return self._bridge.critic_values(self._critic, frames)

    def slope(self, y: Any) -> Any:
        """The gradient of D with respect to each frame."""
        xp = backend_of(y=y).xp
        # the backward pass keeps every activation and its gradient
        step = max(1, self.chunk // 2)
        parts = [self._bridge.critic_input_gradient(self._critic, y[i : i + step]) for i in range(0, len(y), step)]
        return parts[0] if len(parts) == 1 else xp.concatenate(parts)

    def single(self, y: Any, step: float) -> Any:
        """One more count in each pixel of each frame."""
        return reference.critic_differences(self.values, y, step, chunk=self.chunk)

    def several(self, y: Any, sets: PhotonSets, step: float) -> Any:
        """The sets of photons added to one frame."""
        return reference.perturbation_differences(self.values, y, sets, step, chunk=self.chunk)


@dataclass
class _Mean:
    """Running mean of frames' contributions, with its variance if wanted."""

    weight: int = 0
    total: Any = 0.0
    square: Any = 0.0

    def add(self, values: Any, squares: bool) -> None:
        """Add contributions (n, ...)."""
        values = values.astype(np.float64, copy=False)
        self.weight += len(values)
        self.total = self.total + values.sum(axis=0)
        if squares:
            self.square = self.square + (values * values).sum(axis=0)

    @property
    def mean(self) -> Any:
        return self.total / self.weight

    @property
    def variance(self) -> Any:
        """Unbiased variance of one frame's contribution."""
        return (self.square - self.total * self.total / self.weight).clip(0) / max(1, self.weight - 1)


@dataclass
class _Gradient:
    """A gradient and its squared standard error."""

    x: Any
    b: Any
    x_variance: Any = None
    b_variance: Any = None

    def result(self) -> tuple[Any, ...]:
        if self.x_variance is None:
            return self.x, self.b
        return self.x, self.b, self.x_variance**0.5, self.b_variance**0.5


class _Job:
    """One call of :func:`critic_gradient`."""

    def __init__(self, model: ForwardModel, evaluator: _Evaluator, seed: int, step: int, rule: str, with_error: bool) -> None:
        self.model, self.evaluator, self.psi, self.xp = model, evaluator, model.psi, model.backend.xp
        self.seed, self.step, self.rule, self.with_error = seed, step, rule, with_error
        self._table: PlacementTable | None = None

    # -- what one frame contributes ---------------------------------------------------------------------------------------

    def _coupled(self, y: Any, number: int) -> tuple[PhotonSets, Any]:
        """D(y + gain * P(C_i)) - D(y) for every fine pixel of one frame, and the photons drawn."""
        self._table = self._table or PlacementTable(self.psi)
        everywhere = np.arange(self.psi.fine_shape[0] * self.psi.fine_shape[1])
        sets = draw_photons(self._table, everywhere, number, seed=self.seed, step=self.step)
        return sets, self.evaluator.several(y, sets, self.model.gain)

    def _background(self, y: Any, numbers: np.ndarray) -> Any:
        """What one more count, or one more unit of rate, does in each camera pixel, (S, M1, M2)."""
        if self.rule == "count":
            return self.evaluator.single(y, self.model.gain)
        pixels = np.arange(self.psi.shape[0] * self.psi.shape[1])
        parts = []
        for frame, number in zip(y, numbers):
            n = random.poisson(np.ones(len(pixels)), self.seed, Stage.BACKGROUND, self.step, int(number), pixels).astype(
                np.int64
            )
            sets = PhotonSets(np.concatenate([[0], np.cumsum(n)]), np.repeat(pixels, n).astype(np.int32))
            parts.append(self.evaluator.several(frame, sets, self.model.gain).reshape(self.psi.shape))
        return self.xp.stack(parts)

    def _predicted(self, slope: Any, sets: PhotonSets) -> Any:
        """gain * <grad D, P(C_i)>, the linear prediction for the photons actually drawn, (P,)."""
        backend = self.model.backend
        picked = np.concatenate([[0.0], np.cumsum(backend.to_host(slope).astype(np.float64).ravel()[sets.pixels])])
        return backend.asarray(self.model.gain * (picked[sets.starts[1:]] - picked[sets.starts[:-1]]))

    # -- averages over frames ---------------------------------------------------------------------------------------------

    def average(self, x: Any, b: Any, numbers: np.ndarray, method: str, few: int) -> _Gradient:
        """The coupled estimators: one base frame serves every perturbation."""
        base_x, base_b, extra_x, extra_b = _Mean(), _Mean(), _Mean(), _Mean()
        chunk = max(1, min(len(numbers), self.evaluator.chunk // 2))
        for start in range(0, len(numbers), chunk):
            part = numbers[start : start + chunk]
            y = self.model.sample(x, b, len(part), self.seed, first_frame=int(part[0]), step=self.step)
            if method in ("linear", "corrected"):
                slope = self.evaluator.slope(y)
                self._add_camera(base_x, base_b, self.model.gain * slope)
                if method == "corrected":
                    kept = max(0, min(len(part), few - start))
                    self._add_remainders(extra_x, extra_b, y[:kept], slope[:kept], part[:kept])
            elif method == "photon":
                single = self.evaluator.single(y, self.model.gain)
                self._add_camera(base_x, base_b if self.rule == "count" else _Mean(), single)
                if self.rule == "rate":
                    base_b.add(self._background(y, part), self.with_error)
            else:
                for frame, number in zip(y, part):
                    values = self._coupled(frame, int(number))[1]
                    base_x.add(values.reshape(1, *self.psi.fine_shape), self.with_error)
                base_b.add(self._background(y, part), self.with_error)
        return self._combined(base_x, base_b, extra_x, extra_b)

    def _add_camera(self, mean_x: _Mean, mean_b: _Mean, d: Any) -> None:
        """Add per-frame camera-pixel differences: d itself for b, Psi^T d for x."""
        mean_b.add(d, self.with_error)
        if self.with_error:
            mean_x.add(self.psi.adjoint(d), True)
        else:
            # Psi^T is linear: one adjoint of the sum serves all frames.
            mean_x.add(self.psi.adjoint(d.sum(axis=0, dtype=np.float64))[None], False)
            mean_x.weight += len(d) - 1

    def _add_remainders(self, mean_x: _Mean, mean_b: _Mean, y: Any, slope: Any, numbers: np.ndarray) -> None:
        """Add what the linear prediction misses on each of these frames."""
        for frame, gradient, number in zip(y, slope, numbers):
            sets, values = self._coupled(frame, int(number))
            mean_x.add((values - self._predicted(gradient, sets)).reshape(1, *self.psi.fine_shape), self.with_error)
        if len(y):
            mean_b.add(self._background(y, numbers) - self.model.gain * slope, self.with_error)

    def _combined(self, base_x: _Mean, base_b: _Mean, extra_x: _Mean, extra_b: _Mean) -> _Gradient:
        parts = []
        for base, extra in ((base_x, extra_x), (base_b, extra_b)):
            mean, variance = base.mean, None
            if self.with_error:
                variance = base.variance / base.weight
            if extra.weight:
                mean = mean + extra.mean
                if self.with_error:
                    # Cauchy-Schwarz for the frames that both parts share: never below the true error
                    variance = (variance**0.5 + (extra.variance / extra.weight) ** 0.5) ** 2
            parts.append((mean, variance))
        return _Gradient(parts[0][0], parts[1][0], parts[0][1], parts[1][1])

    # -- eq. (12) as printed ----------------------------------------------------------------------------------------------

    def direct(self, x: Any, b: Any, frames: int, first_frame: int) -> _Gradient:
        """Independent frames for each perturbed rate, and for the unperturbed one."""
        xp, camera, fine = self.xp, self.psi.shape, self.psi.fine_shape
        n, m = fine[0] * fine[1], camera[0] * camera[1]
        if (first_frame + frames) * (n + m) >= 2**32:
            raise ValueError(
                f"method='direct' would need {frames * (n + m)} frames, more than 32-bit counters tell apart; "
                "use 'coupled', which has the same expectation"
            )
        base = _Mean()
        y = self.model.sample(x, b, frames, self.seed, first_frame=first_frame, step=self.step)
        for start in range(0, frames, self.evaluator.chunk):
            base.add(self.evaluator.values(y[start : start + self.evaluator.chunk]), self.with_error)

        means = xp.empty(n + m)
        variances = xp.empty(n + m)
        chunk = max(1, min(self.evaluator.chunk, self.psi.memory_budget // (200 * n)))
        for i in range(n + m):
            if i < n:
                extra = self.psi.column((i // fine[1], i % fine[1]))
            else:
                extra = xp.zeros(camera)
                extra[(i - n) // camera[1], (i - n) % camera[1]] = 1.0
            score = _Mean()
            for start in range(0, frames, chunk):
                f = np.arange(first_frame + start, first_frame + min(start + chunk, frames))
                numbers = f * (n + m) + i
                if i < n or self.rule == "rate":
                    perturbed = self._direct_frames(x, b + extra, numbers)
                else:
                    perturbed = self._direct_frames(x, b, numbers) + np.float32(self.model.gain) * extra.astype(np.float32)
                score.add(self.evaluator.values(perturbed), self.with_error)
            means[i] = score.mean - base.mean
            if self.with_error:
                variances[i] = score.variance / score.weight + base.variance / base.weight
        gx, gb = means[:n].reshape(fine), means[n:].reshape(camera)
        if not self.with_error:
            return _Gradient(gx, gb)
        return _Gradient(gx, gb, variances[:n].reshape(fine), variances[n:].reshape(camera))

    def _direct_frames(self, x: Any, b: Any, numbers: np.ndarray) -> Any:
        z = self.model.emissions(x, numbers, self.seed, self.step, Stage.DIRECT_EMISSION)
        rate = self.xp.maximum(self.psi.forward(z), 0) + b + self.model.epsilon
        return self.model.detect(rate, numbers, self.seed, self.step, (Stage.DIRECT_DETECTION, Stage.DIRECT_READ_NOISE))
