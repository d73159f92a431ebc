"""One call of ``critic_gradient``: its model, critic and counters, and the sums that estimators are written with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, cast

import numpy as np

from ..backend import random
from ..backend.checks import whole_number
from ..backend.random import Stage
from ..backend.typing import Array
from ..physics.forward import ForwardModel
from ..physics.photons import ColumnTable, PhotonSets, PlacementTable, draw_photons, placement_of
from ..tuning import DEFAULT, EstimatorTuning
from .evaluator import CriticEvaluator
from .lattice import Lattice

__all__ = ["Gradient", "GradientJob", "GradientWithError", "Means", "RunningMean"]


class Gradient(NamedTuple):
    """The gradient of E[D(Y)].

    Attributes
    ----------
    x : (N1, N2) float64
        With respect to x.
    b : (M1, M2) float64
        With respect to b.
    """

    x: Array
    b: Array


class GradientWithError(NamedTuple):
    """The gradient of E[D(Y)] and the standard error of each of its elements.

    Attributes
    ----------
    x, x_error : (N1, N2) float64
        With respect to x.
    b, b_error : (M1, M2) float64
        With respect to b.
    """

    x: Array
    b: Array
    x_error: Array
    b_error: Array


@dataclass
class RunningMean:
    """Mean of what frames contribute, and its variance if ``squares``.

    Attributes
    ----------
    squares : bool
    weight : int
        Frames so far.
    total, square : arrays, float64
        Sums of their contributions and of the squares.
    """

    squares: bool
    weight: int = 0
    total: float | Array = 0.0
    square: float | Array = 0.0

    def add(self, values: Array) -> None:
        """Add the contributions of n frames, (n, ...)."""
        values = values.astype(np.float64, copy=False)
        self.weight += len(values)
        self.total = self.total + values.sum(axis=0)
        if self.squares:
            self.square = self.square + (values * values).sum(axis=0)

    def add_sum(self, total: Array, frames: int) -> None:
        """Add the sum of the contributions of so many frames, where no variance is wanted."""
        self.weight += frames
        self.total = self.total + total.astype(np.float64, copy=False)

    @property
    def mean(self) -> Array:
        """The mean contribution."""
        return self.total / self.weight

    @property
    def variance(self) -> Array:
        """Unbiased variance of one frame's contribution."""
        total, square = cast("Array", self.total), cast("Array", self.square)
        return (square - total * total / self.weight).clip(0) / max(1, self.weight - 1)


@dataclass
class Means:
    """What frames contribute to the gradients with respect to x and b."""

    x: RunningMean
    b: RunningMean


@dataclass(frozen=True, eq=False)
class GradientJob:
    """What an estimator is given, and the operations that estimators share.

    Attributes
    ----------
    model : ForwardModel
    evaluator : CriticEvaluator
    x, b : (N1, N2) and (M1, M2) arrays
        Checked, on the model's backend.
    frames, first_frame, seed, step : int
        How many frames to simulate, and the counters of the random streams.
    background_rule : {"count", "rate"}
    lattice : Lattice
        The fine pixels at which emissions are evaluated.
    corrected_frames : int or None
        Frames that get a correction, if the caller says how many.
    with_error : bool
        Whether standard errors are wanted.
    memory_budget : int
        Bytes for photons.
    tuning : EstimatorTuning
    score : RunningMean or None
        Takes the scores D(y) of the simulated frames, where E[D] is wanted beside its gradient.
    """

    model: ForwardModel
    evaluator: CriticEvaluator
    x: Array
    b: Array
    frames: int
    first_frame: int
    seed: int
    step: int
    background_rule: str
    lattice: Lattice
    corrected_frames: int | None
    with_error: bool
    memory_budget: int
    tuning: EstimatorTuning = field(default=DEFAULT.estimators)
    score: RunningMean | None = None

    def means(self) -> Means:
        """Return empty means, to which frames are added."""
        return Means(RunningMean(self.with_error), RunningMean(self.with_error))

    @property
    def frames_to_correct(self) -> int:
        """How many of the frames get the correction of an estimator that corrects a few."""
        few = (
            max(2, self.frames // self.tuning.frames_per_correction) if self.corrected_frames is None else self.corrected_frames
        )
        return min(whole_number(few, "corrected_frames", low=2 if self.with_error else 1), self.frames)

    # -- simulated frames and photons -----------------------------------------------------------------------------------------

    def sampled_frames(self) -> Iterator[tuple[np.ndarray, Array]]:
        """Draw all frames, in chunks that fit the budget: their numbers (n,) and the frames (n, M1, M2), counts."""
        numbers = np.arange(self.first_frame, self.first_frame + self.frames)
        chunk = max(1, min(self.frames, self.evaluator.chunk // 2))
        for start in range(0, self.frames, chunk):
            part = numbers[start : start + chunk]
            first = int(part[0])
            y = self.model.sample(self.x, self.b, len(part), self.seed, first_frame=first, step=self.step)
            if self.score is not None:
                self.score.add(self.evaluator.values(y))
            yield part, y

    @cached_property
    def _table(self) -> PlacementTable | ColumnTable:
        return placement_of(self.model.psi)

    def photons(self, numbers: np.ndarray) -> PhotonSets:
        """Draw P(C_i) for every node i of the lattice and each of these frames, frame by frame."""
        return draw_photons(self._table, self.lattice.indices, numbers, seed=self.seed, step=self.step)

    def groups(self, numbers: np.ndarray) -> Iterator[slice]:
        """Cut frames into groups whose photons fit the budget together."""
        photons = len(self.lattice.indices) * (1.0 + self.model.psi.photons_per_emitter)
        # 64 bytes: a photon's place, owner and words of random bits
        size = int(max(1, min(len(numbers), self.evaluator.chunk, self.memory_budget // (64 * photons))))
        return (slice(i, min(i + size, len(numbers))) for i in range(0, len(numbers), size))

    def background(self, y: Array, numbers: np.ndarray) -> Array:
        """Return what one more count, or one more unit of rate, does to D in each camera pixel, (n, M1, M2)."""
        if self.background_rule == "count":
            return self.evaluator.pixel_differences(y, self.model.gain)
        xp, shape = self.model.backend.xp, self.model.psi.shape
        pixels = shape[0] * shape[1]
        frame, pixel = xp.repeat(xp.asarray(numbers), pixels), xp.tile(xp.arange(pixels), len(numbers))
        photons = random.poisson(xp.ones(len(pixel)), self.seed, Stage.BACKGROUND, self.step, frame, pixel, xp=xp)
        starts = xp.concatenate([xp.zeros(1, np.int64), xp.cumsum(photons.astype(np.int64))])
        owner = xp.searchsorted(starts[1:], xp.arange(int(starts[-1])), side="right")
        sets = PhotonSets(starts, pixel[owner].astype(np.int32))
        return self.evaluator.photon_differences(y, sets, self.model.gain).reshape(len(y), *shape)

    def emissions_and_background(self, y: Array, numbers: np.ndarray, slope: Array | None = None) -> tuple[Array, Array]:
        """Return what the photons of one more emission do to D, and :meth:`background`.

        Parameters
        ----------
        y : (n, M1, M2) array
        numbers : (n,) integers
            Of these frames, few enough for their photons to fit the budget (:meth:`groups`).
        slope : (n, M1, M2) array, optional
            The critic's slope at the frames, where both are wanted less their linear prediction.

        Returns
        -------
        of_nodes : (n * P,) array
            For every node of the lattice, frame by frame.
        of_pixels : (n, M1, M2) array
        """
        evaluator, step, sets = self.evaluator, self.model.gain, self.photons(numbers)
        if self.background_rule == "count":
            return evaluator.node_and_pixel_differences(y, sets, step, slope)
        of_pixels = self.background(y, numbers)
        if slope is None:
            return evaluator.photon_differences(y, sets, step), of_pixels
        return evaluator.photon_remainders(y, slope, sets, step), of_pixels - step * slope

    # -- sums -----------------------------------------------------------------------------------------------------------------

    def add_camera(self, means: Means, d: Array) -> None:
        """Add a difference per camera pixel and frame, (n, M1, M2): d itself to b, Psi^T d to x."""
        means.b.add(d)
        self.add_blurred(means.x, d)

    def add_blurred(self, mean_x: RunningMean, d: Array) -> None:
        """Add Psi^T d to x, for a difference d per camera pixel and frame, (n, M1, M2)."""
        adjoint = self.model.psi.adjoint
        if self.with_error:
            mean_x.add(adjoint(d))
        else:
            # Psi^T is linear: one adjoint of the sum serves all frames
            mean_x.add_sum(adjoint(d.sum(axis=0, dtype=np.float64)), len(d))

    def add_nodes(self, mean_x: RunningMean, values: Array, frames: int) -> None:
        """Add values at the nodes of the lattice, (frames * P,), interpolated to all fine pixels, to x."""
        values = values.reshape(frames, -1)
        if self.with_error:
            mean_x.add(self.model.backend.xp.stack([self.lattice.fill(v) for v in values]))
        else:
            # interpolation is linear: once for the sum
            mean_x.add_sum(self.lattice.fill(values.sum(axis=0, dtype=np.float64)), frames)

    # -- results --------------------------------------------------------------------------------------------------------------

    def gradient(self, means: Means, correction: Means | None = None) -> Gradient | GradientWithError:
        """Return the gradient: the means, plus those of a correction that may be known on fewer frames."""
        few = self.means() if correction is None else correction
        (x, x_variance), (b, b_variance) = (_sum(*pair) for pair in ((means.x, few.x), (means.b, few.b)))
        return self.result(x, b, x_variance, b_variance)

    def result(self, x: Array, b: Array, x_variance: Array, b_variance: Array) -> Gradient | GradientWithError:
        """Return a gradient, with the roots of the variances of its elements if errors are wanted."""
        if not self.with_error:
            return Gradient(x, b)
        return GradientWithError(x, b, x_variance**0.5, b_variance**0.5)


def _sum(base: RunningMean, extra: RunningMean) -> tuple[Array, Array]:
    """Mean, and squared standard error, of two parts together; the variances are zero where none are kept."""
    if not extra.weight:
        return base.mean, base.variance / base.weight if base.squares else 0.0
    if not base.squares:
        return base.mean + extra.mean, 0.0
    # Both parts share frames: by Cauchy-Schwarz the error of the sum is at most the sum of the errors
    error = (base.variance / base.weight) ** 0.5 + (extra.variance / extra.weight) ** 0.5
    return base.mean + extra.mean, error**2
