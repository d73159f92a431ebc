"""The fit of mean and covariance: accelerated steps on x and b against a quadratic critic that is known in closed form."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

import numpy as np

from ..backend.typing import Array, State
from ..critics.quadratic import QuadraticCritic, QuadraticCriticLike
from ..objective.blur import GaussianKernel
from ..objective.fista import Acceleration
from ..objective.prior import SparseEdges
from ..objective.prox import edge_lengths
from ..objective.steps import curvature_at, longest_step
from ..objective.terms import Objective
from ..tuning import DEFAULT, CovariancePhaseTuning
from .flicker import FieldFlicker, field_flicker, typical_brightness
from .frame_critics import FrameCritics
from .light import LightFactor, light_factor, weight_of_mean
from .options import SolverOptions
from .phase import Images, Stop, StopReason, record_of
from .problem import Problem
from .schema import ArrayOf, ListOf, NumberOf, Schema, acceleration_schema, prior_schema
from .shares import average, share_of_fit

__all__ = ["CovariancePhase"]

log = logging.getLogger("fluogan_core")


class CovariancePhase:
    r"""Proximal gradient steps with momentum (FISTA) on

    .. math:: s \left(\tfrac{\varrho}{2} r^T V r + \tfrac14 \mathrm{tr}(W E W E)\right) + \lambda_1 \|z\|_1
              + \lambda_3 \sum_i e_i |(\nabla z)_i| + \tfrac{\lambda_2}{2} \|\nabla^p b\|^2, \qquad x = G z,\quad z, b \ge 0.

    At :math:`\varrho = 1` the bracket is the largest value that a quadratic critic reaches
    (:class:`fluogan_core.critics.quadratic.QuadraticCritic`).  :math:`\varrho` is the option ``fidelity``, and
    :math:`s = \gamma \bar v_d / \varrho` makes the first term the fidelity of (11) where all pixels are equally noisy:
    :math:`\bar v_d = \bar v \min(1, n^2)` is the detection noise, with n the noise of the mean frame over what the variance of
    the frames explains; the rest of the variance is flicker.  Where the mean frame is noisier than its fluctuations explain,
    that term is divided by the square of how much.  The weights V and W are updated at steps 0, 1, 2, 4, 8, ...  The momentum
    is dropped at those from step 8 on (``carried``) and at no other place.

    In the end the light of every structure is set to that of the mean frame (:mod:`fluogan_core.solvers.light`), unless the
    prior is the user's own.

    Edges weigh more than in the fit of the mean,

    .. math:: e_i = \max\!\left(\frac{q_2}{1 + (|(\nabla x^0)_i| / \frac14 \bar x^0)^2}, q_8\right), \quad
              q_k = \max(1, 4 \min(1, \tfrac32 f)^k), \quad \bar x^0 = \frac{\sum (x^0)^2}{\sum x^0},

    with :math:`x^0` the image that the phase starts from and f the share of flicker in the variance of the light
    (``flicker.share``): total variation reweighted (Candes, Wakin and Boyd 2008).  So flat areas stay flat where
    covariances would draw them as grains, and two lines that the mean alone holds apart stay apart.  Where nearly all of the
    variance is flicker, the edges that the mean shows are those of single molecules, and count no more than others.

    Every pixel of x has a step size of its own, longer where the image is bright (:meth:`_measure_step_sizes`).  One step size
    for all would be as short as the critic needs it in the dark, where it reacts to a single molecule.

    The phase ends where two steps in a row each lower what is minimised by less than a small part of what all have lowered it
    by.  Where it is not clearly the better fit it hands on an average with where it started (:attr:`share`).

    Parameters
    ----------
    problem : Problem
    objective : Objective
        Its weights, the mean frame, the priors of image and background.
    options : SolverOptions
        ``steps``, ``held_out`` and ``fidelity`` are used here.
    kernel : GaussianKernel
        G, that of the fit of the mean.
    detection : float
        :math:`\bar v_d`, of the weights of (11), photons^2.
    quadratic_critic : callable
        Called as :class:`QuadraticCritic` is; another one may be given.
    tuning : CovariancePhaseTuning

    Attributes
    ----------
    critic, unseen : QuadraticCritic
        Of the frames that are fitted, and of the held-out ones (None where there are fewer than two).
    measure, brightness_of : callable
        What finds flicker and typical brightness: may be set before :meth:`start`, for a part of a larger field.
    flicker : FieldFlicker
        What it returned.
    """

    name = "covariance"
    measure: Callable[..., FieldFlicker] = staticmethod(field_flicker)
    brightness_of: Callable[[Array], float] = staticmethod(typical_brightness)

    def __init__(
        self,
        problem: Problem,
        objective: Objective,
        options: SolverOptions,
        kernel: GaussianKernel,
        *,
        detection: float,
        quadratic_critic: Callable[..., QuadraticCriticLike] = QuadraticCritic,
        tuning: CovariancePhaseTuning = DEFAULT.covariance_phase,
    ) -> None:
        self.objective, self.kernel, self.tuning = objective, kernel, tuning
        self.planned, self.taken = options.steps, 0
        self.stop: Stop | None = None
        self._of_first: Array | None = None
        self.xp = xp = problem.model.backend.xp
        self.critics, model = FrameCritics(problem, options, quadratic_critic), problem.model
        self.scale = np.float32(objective.fidelity / options.fidelity * detection)
        # one over the variance of the mean frame, per photon of variance of a frame; bad pixels have no part in it
        self.frames, self.read_variance = (
            np.float32(len(problem.counts) / problem.noise.unexplained**2),
            np.float32((model.noise_std / model.gain) ** 2),
        )
        self.good_pixels = xp.asarray(~problem.bad_pixels, dtype=np.float32)
        self.timings = {"covariance fit": 0.0}

    def start(self, images: Images, *, fitted: bool = False) -> None:
        """Begin at these images; end at once if they hold no flicker (after a fit of the mean)."""
        started = time.perf_counter()
        self.first, self.x, self._of_first, self.fitted = images, images.x, None, fitted
        self.acceleration = Acceleration(images.z, images.b)
        self.weights_at = (images.x, images.b)
        self.steps_x, self.step_b = 0 * images.z, math.nan
        self.objective_at, self.gained, self.idle = math.inf, 0.0, 0
        self.flicker = self.measure(self.critics.both, images.x, images.b)
        self.prior = self.objective.prior.restarted(edges=self._edges())
        share = self.flicker.share
        if fitted and math.isnan(share):
            self.stop = Stop(StopReason.NO_LIGHT, 0)
        elif fitted and share < self.tuning.least_flicker:
            self.stop = Stop(StopReason.NO_FLICKER, 0, f"flicker makes {100 * share:.2g} % of the variance of the light in x")
        self.timings["covariance fit"] += time.perf_counter() - started

    @property
    def critic(self) -> QuadraticCriticLike:
        return self.critics.fitted

    @property
    def unseen(self) -> QuadraticCriticLike | None:
        return self.critics.unseen

    @property
    def images(self) -> Images:
        z, b = self.acceleration.current
        return Images(z, self.x, b)

    @property
    def outcome(self) -> Images:
        share = self.share if self.stop is None else self.stop.share
        if not self.taken or not share:
            return self.first
        z, x, b = self.images
        if self._light_is_kept:
            z = self._light_factor(x, b).factor * z
            x = self.kernel(z)
        return Images(*average(self.first, (z, x, b), share))

    @property
    def _light_is_kept(self) -> bool:
        """Whether the light of structures is set in the end: a prior of the user's own has the last word."""
        return isinstance(self.objective.prior, SparseEdges)

    def _light_factor(self, x: Array, b: Array) -> LightFactor:
        """What sets the light of every structure to that of the mean frame."""
        psi, mean = self.objective.psi, self.objective.mean
        of_noise = {"read_variance": self.read_variance, "frames": self.frames * self.good_pixels}
        weight = weight_of_mean(x, b, psi=psi, tuning=self.tuning, **of_noise)
        return light_factor(x, b, psi=psi, mean=mean, weight=weight, tuning=self.tuning)

    def step(self) -> dict[str, float]:
        """Update the critic's weights if it is time; then move the images."""
        started, number = time.perf_counter(), self.taken
        updated = number & (number - 1) == 0
        if updated:
            self._update_weights(self.x, self.acceleration.current[1])
            self._measure_step_sizes()
            if number >= self.tuning.carried:
                self.acceleration.restart()
            self.objective_at = sum(self._terms(*self.acceleration.current).values())
        old = self.acceleration.current
        for _ in range(self.tuning.inner):
            self._iterate()
        z, b = self.acceleration.current
        self.x = self.kernel(z)
        change_z, change_b = (_norm(new - last) for new, last in zip((z, b), old))
        if not math.isfinite(change_z + change_b):
            raise FloatingPointError(
                f"x or b is not finite at step {number} of the fit of mean and covariance; take method='none' instead"
            )
        self.taken += 1
        seen, held_out = self.judge()
        terms = self._terms(z, b)
        gained, self.objective_at = self.objective_at - sum(terms.values()), sum(terms.values())
        self.gained += gained
        # one step alone may gain little: the first after the momentum was dropped, and where the momentum led too far
        self.idle = self.idle + 1 if gained <= self.tuning.settled * self.gained else 0
        record = record_of(
            terms,
            step_x=float(self.steps_x.max()),
            step_b=self.step_b,
            residual=float(self.xp.linalg.norm(self.objective.residual(self.x, b).ravel())),
            change_x=change_z,
            change_b=change_b,
            w_train=seen,
            w_held_out=held_out,
        )
        self.stop = self._stopped(settled=self.idle > 1, updated=updated)
        self.timings["covariance fit"] += time.perf_counter() - started
        return record

    def _stopped(self, *, settled: bool, updated: bool) -> Stop | None:
        t = self.tuning
        if settled:
            reason = StopReason.SETTLED
        elif updated and self.taken > t.patience and self._worse_by(t.hopeless):
            reason = StopReason.UNSEEN_FRAMES
        elif self.taken >= self.planned:
            reason = StopReason.STEPS
        else:
            return None
        stop = Stop(reason, self.taken, share=self.share)
        if stop.rejected or not self._light_is_kept:
            return stop
        if (largest := self._light_factor(self.x, self.acceleration.current[1]).largest) > t.light_changed:
            log.info(
                "the fit of mean and covariance had changed the light of some structures: it is set to that of the mean frame, "
                "by a change of up to %.0f %%",
                100 * largest,
            )
        return stop

    def _terms(self, z: Array, b: Array) -> dict[str, float]:
        """The parts of what is minimised, under the critic's present weights."""
        of_mean, of_covariance = (float(self.scale) * value for value in self.critic.value(self.x, b))
        smoothness = {"smoothness": self.objective.smoothness_of(b)}
        return {"fidelity": of_mean} | self.prior.terms(z) | smoothness | {"adversarial": of_covariance}

    def judge(self) -> tuple[float, float]:
        """Return what the best critic tells recorded frames from simulated ones by: frames that it has seen, and unseen."""
        x, b = self.x, self.acceleration.current[1]
        held_out = math.nan if self.unseen is None else 2.0 * sum(self.critic.value(x, b, self.unseen))
        return 2.0 * sum(self.critic.value(x, b)), held_out

    def gain_over(self, x: Array, b: Array) -> tuple[float, float]:
        """Return by how much the images predict unseen frames better than x and b do, and its standard error.

        Nats per pixel and frame; NaN where fewer than two frames were held out.
        """
        if self.unseen is None:
            return math.nan, math.nan
        gain = self._density(self.unseen, self.x, self.acceleration.current[1]) - self._density(self.unseen, x, b)
        return float(gain.mean()), float(gain.std(ddof=1)) / math.sqrt(len(gain))

    def _density(self, unseen: QuadraticCriticLike, x: Array, b: Array) -> Array:
        """Log density of each held-out frame; that of the images at the start, asked for again and again, is kept."""
        is_first = x is self.first.x and b is self.first.b
        if is_first and self._of_first is not None:
            return self._of_first
        density = unseen.log_density(self.critics.held_out_against(self.objective.psi.forward(x) + b), x, b)
        if is_first:
            self._of_first = density
        return density

    def _worse_by(self, errors: float) -> bool:
        gain, error = self.gain_over(self.first.x, self.first.b)
        return gain < -errors * error

    @property
    def share(self) -> float:
        """Part of the phase's images in its outcome, 0 to 1 (:func:`fluogan_core.solvers.shares.share_of_fit`)."""
        # images that are given may hold any light
        flicker = self.critic.flicker_share(self.first.x) if self.fitted else math.inf
        return share_of_fit(*self.gain_over(self.first.x, self.first.b), flicker, self.tuning)

    def _edges(self) -> Array:
        """Relative weight of an edge at every pixel, (N1, N2) float32; 1 as in the fit of the mean."""
        t, xp, x, (_, share, brightness) = self.tuning, self.xp, self.x, self.flicker
        if math.isnan(share) or not brightness:
            return xp.ones_like(x)
        flicker = min(1.0, share / t.all_flicker)
        most, least = (np.float32(max(1.0, t.edges * flicker**power)) for power in (t.flat, t.steep))
        return xp.maximum(most / (1 + (edge_lengths(x) / np.float32(t.drawn * brightness)) ** 2), least)

    def _update_weights(self, x: Array, b: Array) -> None:
        self.weights_at, self._of_first = (x, b), None  # a density is with the noise that is found there
        self.critic.explain_noise(x, b)
        self.critic.update_weights(x, b)

    def _measure_step_sizes(self) -> None:
        """Find safe step sizes under the critic's present weights, longer where the image is bright.

        What the bound of :mod:`fluogan_core.objective.steps` leaves is measured by a power iteration in those units.
        """
        t, (z, b) = self.tuning, self.acceleration.current
        brightness, even = self.brightness_of(z), self.xp.ones_like(b)
        image = z + np.float32(t.pedestal * brightness) if brightness else self.xp.ones_like(z)
        zero_x, zero_b = self.critic.slope(0 * self.x, 0 * b)

        def second(of_z: Array, of_b: Array) -> tuple[Array, Array]:
            slope_x, slope_b = self.critic.slope(self.kernel(of_z), of_b)
            return self.kernel(slope_x - zero_x), slope_b - zero_b

        curvature_x = curvature_at(image, second(image, 0 * even)[0], t.least_curvature)
        curvature_b = second(0 * image, even)[1].max()
        longest = longest_step(
            second, (curvature_x, curvature_b), (image * self.xp.sqrt(curvature_x), even),
            iterations=t.power_iterations, margin=t.margin,
        ) / float(self.scale)  # fmt: skip
        self.steps_x = (np.float32(longest) / curvature_x).astype(np.float32)
        self.step_b = longest / float(curvature_b)

    def _iterate(self) -> None:
        """Take one accelerated iteration."""
        z, b = self.acceleration.ahead
        slope_x, slope_b = self.critic.slope(self.kernel(z), b)
        new_z = self.prior.moved(z, self.scale * self.kernel(slope_x), self.steps_x)  # G is its own adjoint
        new_b = self.objective.background_step(b, self.scale * slope_b, self.step_b)
        self.acceleration.advance(new_z, new_b)

    def headline(self, record: dict[str, float]) -> str:
        moved = record["change_x"] / max(_norm(self.acceleration.current[0]), 1e-30)
        return f"fit of mean and covariance, the image still moves by {100 * moved:.2g} % per step"

    def state_dict(self) -> State:
        if not self.taken:
            return {"taken": 0}
        return {
            "taken": self.taken,
            "first": list(self.first),
            "fitted": self.fitted,
            "x": self.x,
            "acceleration": self.acceleration.state_dict(),
            "weights_at": list(self.weights_at),
            "steps_x": self.steps_x,
            "step_b": self.step_b,
            "objective": [self.objective_at, self.gained],
            "idle": self.idle,
            "prior": self.prior.state_dict(),
            "flicker": [float(critic.flicker) for critic in self.critics.both],
        }

    def schema(self, begun: bool) -> Schema:
        if not begun:
            return {"taken": NumberOf(0, whole=True)}
        psi = self.objective.psi
        fine, image, background = ArrayOf(psi.fine_shape), ArrayOf(psi.fine_shape, low=0), ArrayOf(psi.shape, low=0)
        return {
            "taken": NumberOf(0, whole=True),
            "first": ListOf((fine, image, background)),
            "fitted": bool,
            "x": image,
            "acceleration": acceleration_schema(psi.fine_shape, psi.shape),
            "weights_at": ListOf((image, background)),
            "steps_x": image,
            "step_b": NumberOf(0),
            "objective": ListOf((NumberOf(), NumberOf())),
            "idle": NumberOf(0, whole=True),
            "prior": prior_schema(self.objective.prior),
            "flicker": ListOf(tuple(NumberOf(0) for _ in self.critics.both)),
        }

    def load_state_dict(self, state: State) -> None:
        self.taken = int(state["taken"])
        if not self.taken:
            return
        asarray = self.objective.psi.backend.asarray
        self.first, self._of_first = Images(*(asarray(image) for image in state["first"])), None
        self.x, self.fitted = asarray(state["x"]), bool(state["fitted"])
        self.acceleration = Acceleration(self.first.z, self.first.b)
        self.acceleration.load_state_dict(state["acceleration"], asarray)
        self.steps_x, self.step_b = asarray(state["steps_x"]), float(state["step_b"])
        self.objective_at, self.gained = (float(value) for value in state["objective"])
        self.idle = int(state["idle"])
        for critic, flicker in zip(self.critics.both, state["flicker"]):
            critic.flicker = np.float32(flicker)
        self.prior = self.objective.prior.restarted()
        self.prior.load_state_dict(state["prior"], asarray)
        x, b = (asarray(image) for image in state["weights_at"])
        self._update_weights(x, b)


def _norm(image: Array) -> float:
    return float((image * image).sum(dtype=np.float64)) ** 0.5
