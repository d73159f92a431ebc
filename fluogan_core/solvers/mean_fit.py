"""The fit of the mean frame: where the other phases start, and the baseline that they are judged against."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable

import numpy as np

from ..backend.readings import number
from ..backend.typing import Array, State
from ..objective.blur import GaussianKernel
from ..objective.fista import Acceleration, step_sums
from ..objective.prior import SparseEdges, number_or_array
from ..objective.prox import ProxStep
from ..objective.reweighting import ReweightedL1
from ..objective.steps import curvature_at, longest_step
from ..objective.terms import Objective, WarmStart
from ..tuning import DEFAULT, MeanPhaseTuning
from .flicker import typical_brightness
from .phase import Images, Stop, StopReason, record_of
from .schema import ArrayOf, NumberOf, OneOrArrayOf, Optional, Schema, acceleration_schema, prior_schema

__all__ = ["MeanPhase"]

log = logging.getLogger("fluogan_core")


class MeanPhase:
    r"""Accelerated proximal gradient steps on (11) without the critic.

    The image is sought as :math:`x = G z` (:class:`fluogan_core.objective.blur.GaussianKernel`).  For every z the best
    background is known (:meth:`Objective.best_background`), so the steps are taken on :math:`\min_b` of the objective, a smooth
    convex function of z, whose gradient is :math:`\gamma (\Psi G)^T(\Psi G z + b(z) - \bar y)` and whose Lipschitz constant is
    not above :math:`\gamma\|\Psi G\|^2`: x and b converge together, however stiff :math:`\lambda_2` is.

    The momentum is never dropped, not where the l1 weights change either: so half as many steps find as much detail.  Were it
    dropped when a step turns against it, a fit that ends before its limit would depend on the last digits of a sum, and the
    image of a shifted or turned stack would differ by percents.  For the same reason the steps are taken in double precision,
    on a CPU and with the library's own prior: what Psi dims a thousandfold is recovered from that part of the gradient, where
    rounding errors grow step by step.

    Parameters
    ----------
    objective : Objective
    kernel : GaussianKernel
        G.
    planned : int
        At most so many steps.
    tolerance : float
        The phase ends when the relative change of z per step falls below it and the l1 weights change no more.
    reweighting : ReweightedL1, optional
        The schedule of the l1 weights.
    tuning : MeanPhaseTuning
        When and how step sizes are measured.
    """

    name = "mean"

    def __init__(
        self,
        objective: Objective,
        kernel: GaussianKernel,
        *,
        planned: int,
        tolerance: float = 0.0,
        reweighting: ReweightedL1 | None = None,
        tuning: MeanPhaseTuning = DEFAULT.mean_phase,
    ) -> None:
        self.objective, self.kernel, self.planned, self.tolerance = objective, kernel, planned, tolerance
        self.reweighting, self.tuning = reweighting, tuning
        self.operator = kernel.operator
        self.step_size: float | Array = 1.0 / (objective.fidelity * self.operator.norm**2)
        #: By which step sizes change where the background meets its bound; 1 where they hold in any case.
        self.shorter = 1.0
        self.taken, self.stop = 0, None if planned else Stop(StopReason.NOT_ASKED, 0)
        self.timings = {"mean fit": 0.0}
        backend = objective.psi.backend
        own = isinstance(objective.prior, SparseEdges)
        self.dtype = np.dtype(np.float64 if own and backend.cuda is None else np.float32)
        #: What the pedestal of the step sizes goes by, of z, and how long they may be, of how long they safely are.
        self.brightness_of: Callable[[Array], float] = typical_brightness
        self.longest_of: Callable[[float], float] = float
        self.measured_at = frozenset(round(share * planned) for share in tuning.measured if own)
        self._begin(backend.xp.zeros(objective.psi.fine_shape, dtype=self.dtype))

    stop: Stop | None

    def start(self, images: Images, *, fitted: bool = False) -> None:
        self._begin(images.z.astype(self.dtype))
        if self.stop is not None:  # no step is asked for: what comes is handed on as it came
            self.b = images.b

    def _begin(self, z: Array) -> None:
        light = self.operator.forward(z)
        # the light and the unbounded background are affine in z: at the point ahead they follow from those of the last images
        self.acceleration = Acceleration(z, light, self.objective.unbounded_background(light))
        self.warm = WarmStart()
        #: The best background where the last step was taken from: next to that of the image it led to, and at no cost.
        self.b = self.objective.best_background(light, free=self.acceleration.current[2], warm=self.warm)

    @property
    def background(self) -> Array:
        """The best background of the current image, photons."""
        _, light, free = self.acceleration.current
        return self.objective.best_background(light, free=free, warm=dataclasses.replace(self.warm))

    @property
    def images(self) -> Images:
        z, b = self.acceleration.current[0], self.background if self.planned else self.b
        return Images(*(image.astype(np.float32, copy=False) for image in (z, self.kernel(z), b)))

    @property
    def outcome(self) -> Images:
        return self.images

    @property
    def fitted(self) -> Array:
        r""":math:`\Psi x + b`, photons."""
        return self.acceleration.current[1] + self.background

    def iterate(self) -> ProxStep:
        """Take one accelerated iteration; images are then current."""
        o, (z, light, free) = self.objective, self.acceleration.ahead
        background = o.best_background(light, free=free, warm=self.warm)
        if self.shorter != 1.0 and background is not free:
            self.step_size, self.shorter = self.step_size * self.dtype.type(self.shorter), 1.0
        self._missed, self._free = light + background - o.mean, background is free
        slope = self.operator.adjoint(self._missed * self.dtype.type(o.fidelity))
        new = o.prior.moved(z, slope, self.step_size)
        light = self.operator.forward(new)
        free = o.unbounded_background(light)
        change, size, total = step_sums(new, self.acceleration.current[0])
        self.acceleration.advance(new, light, free)
        self.b = background
        return ProxStep(new, math.sqrt(change), math.sqrt(size), total)

    def advance(self) -> ProxStep:
        """Take one iteration of the plan: the l1 weights are updated where that is due."""
        taken = self.iterate()
        if not math.isfinite(taken.change):
            raise FloatingPointError(
                f"x or b is not finite at step {self.taken} of the mean fit: the stack holds counts, or psi photons per "
                "emission, of a size that no camera writes"
            )
        self.taken += 1
        if self.reweighting is not None and self.taken in self.reweighting.updates:
            self.reweighting.update(self.kernel(self.acceleration.current[0]))
        if self.taken in self.measured_at:
            self._measure_step_sizes()
        return taken

    def _measure_step_sizes(self) -> None:
        """Find safe step sizes, longer where the image is bright (:mod:`fluogan_core.objective.steps`).

        The best background takes a part of every change of the light, so that the steps may be longer: by what a power
        iteration says, as long as the background does not meet its bound.
        """
        t, o, operator, z = self.tuning, self.objective, self.operator, self.acceleration.current[0]
        if not (brightness := self.brightness_of(z)):
            return
        without = o.unbounded_background(0 * self.acceleration.current[1])

        def of_light(u: Array) -> tuple[Array]:
            return (operator.adjoint(operator.forward(u)),)

        def second(u: Array) -> tuple[Array]:
            light = operator.forward(u)
            return (operator.adjoint(light + (o.unbounded_background(light) - without)),)

        image = z + self.dtype.type(t.pedestal * brightness)
        curvature = curvature_at(image, of_light(image)[0], t.least_curvature)
        start = [image * o.psi.backend.xp.sqrt(curvature)]
        bounded, free = (
            longest_step(h, [curvature], start, iterations=t.power_iterations, margin=t.margin) for h in (of_light, second)
        )
        free = max(self.longest_of(free), bounded)
        self.step_size, self.shorter = self.dtype.type(free / o.fidelity) / curvature, bounded / free

    def step(self) -> dict[str, float]:
        started, o = time.perf_counter(), self.objective
        taken = self.advance()
        z, light, _ = self.acceleration.current
        residual = light + self.b - o.mean
        squared = number((residual * residual).sum(dtype=np.float64))
        fidelity = {"fidelity": 0.5 * o.fidelity * squared}
        record = record_of(
            fidelity | o.prior.terms(z) | {"smoothness": self._smoothness()},
            step_x=float(self.step_size if isinstance(self.step_size, float) else self.step_size.max()),
            residual=math.sqrt(squared),
            change_x=taken.change,
        )
        settled = self.reweighting is None or self.taken > self.reweighting.last
        if settled and taken.change / max(taken.size, 1e-30) < self.tolerance:
            self.stop = Stop(StopReason.CONVERGED, self.taken)
        elif self.taken >= self.planned:
            self.stop = Stop(StopReason.STEPS, self.taken)
        self.timings["mean fit"] += time.perf_counter() - started
        return record

    def _smoothness(self) -> float:
        r"""The penalty of the background where the last step was taken from.

        Of the best one without a bound, that of :math:`\gamma/2 \|b - t\|^2 + \tfrac12 \langle b, B b\rangle`, it is
        :math:`\tfrac{\gamma}{2} \langle b, t - b\rangle`, without a cosine transform.
        """
        o = self.objective
        if not self._free or o.background is not None or self.dtype != np.float64:
            return o.smoothness_of(self.b)
        return max(-0.5 * o.fidelity * float(self.b.ravel() @ self._missed.ravel()), 0.0)

    def headline(self, record: dict[str, float]) -> str:
        return f"mean fit, {record['residual'] / math.sqrt(self.b.size):.3g} photons rms from the mean frame"

    def state_dict(self) -> State:
        return {
            "taken": self.taken,
            "acceleration": self.acceleration.state_dict(),
            "step_size": self.step_size,
            "shorter": self.shorter,
            "prior": self.objective.prior.state_dict(),
            "b": self.b,
            "bounded": self.warm.bounded,
            "bound_dual": self.warm.dual,
        }

    def schema(self, begun: bool) -> Schema:
        psi = self.objective.psi
        return {
            "taken": NumberOf(0, whole=True),
            "acceleration": acceleration_schema(psi.fine_shape, psi.shape, psi.shape),
            "step_size": OneOrArrayOf(psi.fine_shape, low=0),
            "shorter": NumberOf(0),
            "prior": prior_schema(self.objective.prior),
            "b": ArrayOf(psi.shape, low=0),
            "bounded": Optional(ArrayOf(psi.shape, low=0)),
            "bound_dual": Optional(ArrayOf(psi.shape)),
        }

    def load_state_dict(self, state: State) -> None:
        asarray = self.objective.psi.backend.asarray
        self.taken = int(state["taken"])
        self.acceleration.load_state_dict(state["acceleration"], asarray)
        self.step_size, self.shorter = number_or_array(state["step_size"], asarray), float(state["shorter"])
        self.objective.prior.load_state_dict(state["prior"], asarray)
        self.b = asarray(state["b"])
        bound = (state["bounded"], state["bound_dual"])
        self.warm = WarmStart(*(None if image is None else asarray(image) for image in bound))
