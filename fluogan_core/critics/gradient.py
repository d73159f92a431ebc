r"""The critic's gradient with respect to x and b: the five estimators.

Eq. (12) is exact, :math:`\partial_{x_i} E[D(Y)] = E[D(Y(x, b + C_i)) - D(Y(x, b))]`.  Poisson superposition couples the two
terms: one frame y serves every i, with :math:`y_i = y + \alpha P(C_i)`.  ``docs/estimators.md`` says what each method keeps
of the exact gradient, what it costs, and when to use it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import random
from ..backend.arrays import backend_of
from ..backend.checks import one_of, real_number, whole_number
from ..backend.random import Stage
from ..physics.forward import ForwardModel
from ..physics.photons import PhotonSets, PlacementTable, draw_photons
from ..stack import finite_stack
from .evaluator import Evaluator
from .lattice import Lattice

__all__ = ["METHODS", "critic_differences", "critic_gradient"]

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
        If y is not a stack of frames or not finite, or the critic does not return one score per frame.
    """
    one_of(method, "method", ("exact", "linear"))
    largest = float(np.finfo(np.float32).max)
    step = real_number(step, "step", low=-largest, high=largest)
    budget = None if memory_budget is None else whole_number(memory_budget, "memory_budget", low=1)
    backend = backend_of(y=y)
    if y.ndim != 3:
        raise ValueError(f"y must be (frames, rows, columns), got shape {tuple(y.shape)}; add an axis for one frame: y[None]")
    finite_stack(y, "y", low_frames=0)
    evaluator = Evaluator(critic, tuple(y.shape[1:]), backend, budget)
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
    lattice: int | str = "auto",
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
        Counters of the random streams (see :mod:`fluogan_core.backend.random`).
    method : {"corrected", "coupled", "photon", "linear", "direct"}
        ``"direct"``: independent frames for each b + C_i, eq. (12) as printed; unbiased, drowned in noise.
        ``"coupled"``: :math:`D(y + \alpha P(C_i)) - D(y)`; unbiased.
        ``"photon"``: :math:`\Psi^T E[D(y + \alpha e_j) - D(y)]`; for x drops what several photons of one emission do together.
        ``"linear"``: :math:`\alpha \Psi^T E[\nabla D]`; the shift of the mean only.
        ``"corrected"``: linear on every frame, plus coupled minus its own linear prediction on a few; unbiased.
        (Unbiased with ``lattice=1``; between the nodes of a coarser lattice the values are interpolated.)
    background_rule : {"count", "rate"}
        For b: ``"count"`` adds one detected photon to pixel j, the exact derivative; ``"rate"`` raises its rate by one, as the
        paper prints.  They differ by what several photons do together.
    corrected_frames : int, optional
        Frames on which ``"corrected"`` evaluates its remainder; one in 32 by default, at least two.
    lattice : int or "auto"
        For ``"coupled"`` and ``"corrected"``: evaluate every ``lattice``-th fine pixel per axis and interpolate, which a wide
        PSF allows at a small error (:mod:`fluogan_core.critics.lattice`); 1 evaluates all, as on a field too small
        for the nodes that the interpolation needs.
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
    random.check_counters(first_frame, frames, step)
    x, b = model.check(x, b)
    budget = model.psi.memory_budget if memory_budget is None else whole_number(memory_budget, "memory_budget", low=1)
    evaluator = Evaluator(critic, model.psi.shape, model.backend, budget)
    job = _Job(
        model,
        evaluator,
        Lattice(model.psi, lattice),
        seed=seed,
        step=step,
        rule=background_rule,
        with_error=with_error,
        budget=budget,
    )
    if method == "direct":
        return job.direct(x, b, frames, first_frame).result()
    numbers = np.arange(first_frame, first_frame + frames)
    few = frames
    if method == "corrected":
        few = max(2, frames // 32) if corrected_frames is None else corrected_frames
        few = whole_number(few, "corrected_frames", low=2 if with_error else 1)
        few = min(few, frames)
    return job.average(x, b, numbers, method, few).result()


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

    def __init__(
        self,
        model: ForwardModel,
        evaluator: Evaluator,
        lattice: Lattice,
        *,
        seed: int,
        step: int,
        rule: str,
        with_error: bool,
        budget: int,
    ) -> None:
        self.model, self.evaluator, self.lattice = model, evaluator, lattice
        self.psi, self.xp = model.psi, model.backend.xp
        self.seed, self.step, self.rule, self.with_error, self.budget = seed, step, rule, with_error, budget
        self._table: PlacementTable | None = None

    # -- what one frame contributes ---------------------------------------------------------------------------------------

    def _photons(self, numbers: np.ndarray) -> PhotonSets:
        """P(C_i) for every node of the lattice and each of these frames."""
        self._table = self._table or PlacementTable(self.psi)
        return draw_photons(self._table, self.lattice.indices, numbers, seed=self.seed, step=self.step)

    def _groups(self, numbers: np.ndarray) -> Iterator[slice]:
        """Frames whose photons fit the budget together."""
        photons = len(self.lattice.indices) * (1.0 + self.psi.photons_per_emitter)
        size = int(max(1, min(len(numbers), self.evaluator.chunk, self.budget // (64 * photons))))
        return (slice(i, min(i + size, len(numbers))) for i in range(0, len(numbers), size))

    def _background(self, y: Any, numbers: np.ndarray) -> Any:
        """What one more count, or one more unit of rate, does in each camera pixel, (S, M1, M2)."""
        if self.rule == "count":
            return self.evaluator.single(y, self.model.gain)
        xp, pixels = self.xp, self.psi.shape[0] * self.psi.shape[1]
        frame, pixel = xp.repeat(xp.asarray(numbers), pixels), xp.tile(xp.arange(pixels), len(numbers))
        photons = random.poisson(xp.ones(len(pixel)), self.seed, Stage.BACKGROUND, self.step, frame, pixel, xp=xp)
        starts = xp.concatenate([xp.zeros(1, np.int64), xp.cumsum(photons.astype(np.int64))])
        owner = xp.searchsorted(starts[1:], xp.arange(int(starts[-1])), side="right")
        sets = PhotonSets(starts, pixel[owner].astype(np.int32))
        return self.evaluator.several(y, sets, self.model.gain).reshape(len(y), *self.psi.shape)

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
                for group in self._groups(part):
                    values = self.evaluator.several(y[group], self._photons(part[group]), self.model.gain)
                    self._add_nodes(base_x, values, part[group])
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
        for group in self._groups(numbers):
            values = self.evaluator.remainders(y[group], slope[group], self._photons(numbers[group]), self.model.gain)
            self._add_nodes(mean_x, values, numbers[group])
        if len(y):
            mean_b.add(self._background(y, numbers) - self.model.gain * slope, self.with_error)

    def _add_nodes(self, mean_x: _Mean, values: Any, numbers: np.ndarray) -> None:
        """Add per-frame values at the lattice's nodes, interpolated to all fine pixels."""
        values = values.reshape(len(numbers), -1)
        if self.with_error:
            mean_x.add(self.xp.stack([self.lattice.fill(v) for v in values]), True)
        else:
            # interpolation is linear: once for the sum
            mean_x.add(self.lattice.fill(values.sum(axis=0, dtype=np.float64))[None], False)
            mean_x.weight += len(numbers) - 1

    def _combined(self, base_x: _Mean, base_b: _Mean, extra_x: _Mean, extra_b: _Mean) -> _Gradient:
        """Sum of the part known on every frame and the part known on a few."""
        (gx, vx), (gb, vb) = (self._sum(*pair) for pair in ((base_x, extra_x), (base_b, extra_b)))
        return _Gradient(gx, gb, vx, vb) if self.with_error else _Gradient(gx, gb)

    @staticmethod
    def _sum(base: _Mean, extra: _Mean) -> tuple[Any, Any]:
        """Mean, and squared standard error, of the two parts together."""
        if not extra.weight:
            return base.mean, base.variance / base.weight
        # Cauchy-Schwarz for the frames that both parts share: the estimate of an upper bound of the error
        error = (base.variance / base.weight) ** 0.5 + (extra.variance / extra.weight) ** 0.5
        return base.mean + extra.mean, error**2

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
        chunk = max(1, min(self.evaluator.chunk, self.budget // (200 * n)))
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
        stages = (Stage.DIRECT_DETECTION, Stage.DIRECT_READ_NOISE)
        return self.model.detect(self.psi.forward(z), b, numbers, self.seed, self.step, stages)
