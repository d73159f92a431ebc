"""The fit of the full likelihood: emissions of every frame are drawn, and x and b follow their averages."""

from __future__ import annotations

import dataclasses
import logging
import math
import time

import numpy as np

from ..backend.arrays import get_backend
from ..backend.random import check_counters
from ..backend.typing import Array, State
from ..objective.blur import GaussianKernel
from ..objective.prior import Prior, SparseEdges
from ..objective.terms import Objective
from ..physics.emissions import Brightness, EmissionChains, Moved, move_emissions
from ..tuning import DEFAULT, Tuning
from .brightness import BrightnessFit
from .edge_trial import EdgeTrial
from .emission_work import overlap_of, too_much_work
from .light import light_factor, weight_of_mean
from .mixing import Mixing, mixing_of
from .options import SolverOptions
from .patterned import without_pattern
from .phase import Images, Stop, StopReason, record_of
from .problem import Problem
from .schema import ArrayOf, ListOf, NumberOf, Optional, Schema, prior_schema
from .standing_out import standing_out
from .unseen_gain import Pair, UnseenGain, unseen_gain

__all__ = ["LikelihoodPhase"]

log = logging.getLogger("fluogan_core")


class LikelihoodPhase:
    r"""Stochastic-approximation EM (Delyon, Lavielle and Moulines 1999) on the likelihood of eq. (1).

    Every frame has a list of emissions (:mod:`fluogan_core.physics.emissions`), which goes on from sweep to sweep.  With S the
    running average of their light per fine pixel and frame, in emissions of mean brightness, a sweep ends with a step of z on

    .. math:: s \sum_i \left((Gz)_i - S_i \log (Gz)_i\right) + \lambda_1 \|z\|_1 + \lambda_3 \sum_i e_i |(\nabla z)_i|,
              \qquad z \ge 0,

    whose gradient is s times the negative score, :math:`1 - E[z_i|y] / x_i`.  Steps are as long as z is bright, as in the EM
    algorithm, and shorter where the priors hold z below S.  s is what the fit of mean and covariance multiplies its likelihood
    by, so that the priors are the same.  The background is the low-pass of the photons that are not the emissions', by the same
    running average.

    An emission's brightness is a gamma variable; its mean and shape are estimated along the way, so that neither the photons
    per emission need to be known nor molecules to be on for whole frames.  S counts an emission by its brightness: where some
    molecules are brighter than others, the number of emissions is not the light.

    The result is S, the light emitted in these frames as far as they tell, with the light of every structure set to that of the
    mean frame (:mod:`fluogan_core.solvers.light`) unless the prior is the user's own.  Gz (:attr:`expected`) predicts other
    frames; it smooths away which molecules happened to emit more often than others.  What an edge costs is tried on a part of
    the frames and judged by the others (:mod:`fluogan_core.solvers.edge_trial`).  The fit is given up where the chains of two
    starts disagree (:mod:`fluogan_core.solvers.mixing`): averages of chains that do not mix are averages of where they began.

    All of it runs where psi computes.  A sweep waits for a card once; judgement and test of mixing copy chains to the host.

    Parameters
    ----------
    problem : Problem
    objective : Objective
    options : SolverOptions
        ``steps``, ``fidelity`` and ``seed`` are used here.
    kernel : GaussianKernel
        G, that of the fit of the mean or a narrower one.
    detection : float
        Of the weights, photons^2.
    tuning : Tuning

    Attributes
    ----------
    brightness : Brightness
        Its law, in units of psi's photons per emission.
    chains : EmissionChains
    mixing : Mixing or None
        Of the chains, once the phase has ended.
    """

    name = "likelihood"
    stop: Stop | None

    def __init__(
        self, problem: Problem, objective: Objective, options: SolverOptions, kernel: GaussianKernel, detection: float,
        tuning: Tuning = DEFAULT,
    ) -> None:  # fmt: skip
        self.problem, self.objective, self.kernel, self.seed = problem, objective, kernel, options.seed
        self.tuning, self.moves, self.light_tuning = tuning.likelihood_phase, tuning.emissions, tuning.covariance_phase
        self.planned, self.taken, self.stop = options.steps, 0, None
        self.backend = problem.psi.backend
        self.scale = np.float32(objective.fidelity / options.fidelity * detection)
        # as in the fit of the mean, edges weigh more where the mean frame is noisier than its fluctuations explain
        unexplained = min(problem.noise.unexplained, tuning.mean_phase.most_unexplained)
        self.edge_scale = unexplained * options.total_variation / SolverOptions().total_variation
        self.trial = self._trial(len(problem.counts))
        self.largest_column = float(self.backend.to_host(problem.psi.column_sums).max())
        self.mixing: Mixing | None = None
        self.timings = {"likelihood fit": 0.0}

    def _trial(self, frames: int) -> EdgeTrial:
        """The trial of what an edge costs; none where edges cost nothing, or where too few frames or steps are there for it."""
        t = self.tuning
        weights = t.edges if getattr(self.objective.prior, "total_variation", 0.0) > 0 else (0.0,)
        if round(t.unseen * frames) < t.fewest_unseen or self.planned < 2 * len(weights):
            weights = (weights[len(weights) // 2],)
        return EdgeTrial(weights, frames, self.planned, aside=0.0 if len(weights) == 1 else t.unseen, tuning=t)

    def start(self, images: Images, *, fitted: bool = False) -> None:
        """Begin at these images, without an emission; end at once if there is no light, or too many emissions."""
        self.first, t, self.fit = images, self.tuning, BrightnessFit(self.tuning)
        self._read()
        total = float(images.x.sum(dtype=np.float64))
        if fitted and not total > 0:
            self.stop = Stop(StopReason.NO_LIGHT, 0)
            return
        mean = np.float32(self.brightness.mean)
        self.z, self.b = images.x / mean, images.b  # x: sought through a wider G, z would be spots
        self.dust = t.dust * max(total, 1e-12) / images.x.size
        self.events = self.backend.xp.zeros(images.x.shape)
        self.background = images.b.astype(np.float64)
        self.average_z, self.average_b = images.z, images.b
        self.chains, self.sweeps = EmissionChains.empty(len(self.counts), backend=self.backend), 0
        self.fullest = 0  # most emissions in a frame
        self.prior = self._restarted(self._edges())
        if why := too_much_work(self._proposals(), self.planned, overlap_of(images.x / mean, self.problem.psi), t):
            self.stop = Stop(StopReason.NOT_TRIED, 0, why)

    def _read(self) -> None:
        """Read the frames, those that are fitted from the beginning first."""
        counts = without_pattern(self.problem, self.first)[self.trial.order]
        self.counts = self.backend.asarray(counts)
        self.photons = self.backend.asarray(counts.sum(axis=(1, 2), dtype=np.float64) / self.problem.model.gain)

    @property
    def brightness(self) -> Brightness:
        return self.fit.law

    def _edges(self) -> Array:
        """Relative weight of an edge at every pixel: so many nats per edge as high as typical light."""
        xp, x = self.backend.xp, self.first.x
        weight = getattr(self.objective.prior, "total_variation", 0.0)
        if not weight > 0 or not float(x.max()) > 0:
            return xp.ones_like(x)
        typical = float((x * x).sum(dtype=np.float64)) / float(x.sum(dtype=np.float64))
        nats = self.edge_scale * self.trial.weight / typical
        # an edge must outweigh the noise of the slope: per frame, a part of the frames wants the root of their number more
        frames = math.sqrt(len(self.counts) * self.trial.fitted.stop)
        return xp.full_like(x, nats * float(self.scale) / (frames * weight))

    def _restarted(self, edges: Array | None = None) -> Prior:
        """The prior, which solves its total variation more closely than in the other fits: there are far fewer steps."""
        prior = self.objective.prior.restarted(edges=edges)
        if isinstance(prior, SparseEdges):
            prior.tuning = dataclasses.replace(prior.tuning, dual_iterations=self.tuning.dual_iterations)
        return prior

    @property
    def images(self) -> Images:
        z = self.z * np.float32(self.brightness.mean)
        return Images(z, self.kernel(z), self.b)

    @property
    def outcome(self) -> Images:
        if not self.taken or (self.stop is not None and self.stop.reason.given_up):
            return self.first
        x = self._light_set((self.events * self.brightness.mean).astype(np.float32), self.average_b)
        return Images(x, x, self.average_b)

    @property
    def expected(self) -> Images:
        """The image that emissions are drawn from: the light expected in frames like these, smoother than what was emitted."""
        return Images(self.average_z, self._light_set(self.kernel(self.average_z), self.average_b), self.average_b)

    def _light_set(self, x: Array, b: Array) -> Array:
        """An image with the light of every structure set to that of the mean frame, unless the prior is the user's own."""
        if not isinstance(self.objective.prior, SparseEdges):
            return x
        psi, frames, gain, asarray = self.problem.psi, self.trial.fitted, self.problem.model.gain, self.backend.asarray
        mean = asarray(self.counts[frames].mean(axis=0, dtype=np.float64) / gain, dtype=np.float32)
        worth = frames.stop / self.problem.noise.unexplained**2 * ~self.problem.bad_pixels
        of_noise = {"read_variance": (self.problem.model.noise_std / gain) ** 2, "frames": asarray(worth, dtype=np.float32)}
        weight = weight_of_mean(x, b, psi=psi, tuning=self.light_tuning, **of_noise)
        return x * light_factor(x, b, psi=psi, mean=mean, weight=weight, tuning=self.light_tuning).factor

    # -- steps ------------------------------------------------------------------------------------------------------------

    def step(self) -> dict[str, float]:
        """Take some sweeps of the chains, x and b after each of them; go on to the next weight of edges where it is due."""
        started, old, old_b = time.perf_counter(), self.z, self.b
        for _ in range(self.tuning.sweeps):
            moved = self._sweep()
        self.taken += 1
        if not math.isfinite(float(self.z.sum()) + float(self.b.sum())):
            raise FloatingPointError(f"x or b is not finite at step {self.taken} of the likelihood fit; take method='moments'")
        images = self.images
        share = min(1.0, 3.0 / (self.taken - self.trial.began))  # weights grow with the square of the step
        self.average_z = self.average_z + np.float32(share) * (images.z - self.average_z)
        self.average_b = self.average_b + np.float32(share) * (images.b - self.average_b)
        terms = {"fidelity": -float(self.scale) * float(moved.likelihood.mean())}
        record = record_of(
            terms | self.prior.terms(self.z) | {"smoothness": self.objective.smoothness_of(self.b)},
            step_x=float(self.z.max()) / float(self.scale),
            residual=float(self.backend.xp.linalg.norm(self.objective.residual(images.x, images.b).ravel())),
            change_x=_norm(self.z - old),
            change_b=_norm(self.b - old_b),
        )
        if self.trial.due(self.taken):
            self._next_weight()
        self.stop = self._stopped() if self.stop is None else self.stop
        self.timings["likelihood fit"] += time.perf_counter() - started
        return record

    def _intensity(self) -> Array:
        """Expected emissions per fine pixel, nowhere 0: what is dark now may turn out to emit."""
        return self.kernel(self.z).astype(np.float64) + self.dust

    def _proposals(self) -> Array:
        """Proposals per frame, by the frame's light: not by its emissions, which would make another chain of it."""
        xp = self.backend.xp
        above = xp.maximum(self.photons - self.b.sum(dtype=np.float64), 0)
        expected = above / (self.largest_column * self.brightness.mean)
        return xp.ceil(self.tuning.proposals + self.tuning.per_emission * expected).astype(np.int64)

    def _move(self, frames: slice, x: Array, b: Array, sweeps: int = 1) -> Moved:
        """Move the chains of some frames."""
        return move_emissions(
            self.chains.part(frames), self.counts[frames], self.problem.model, x, b, self.brightness,
            proposals=sweeps * self._proposals()[frames],
            seed=self.seed, step=self.sweeps, first_frame=frames.start, tuning=self.moves,
        )  # fmt: skip

    def _first_moves(self, frames: slice) -> Moved:
        """Move chains that have no emission yet: they look where single frames stand out of the image as well."""
        t, (_, x, b) = self.tuning, self.images
        elsewhere = standing_out(self.counts[frames], self.problem.model, x, b, errors=t.stands_out) / self.brightness.mean
        return self._move(frames, self._intensity() + elsewhere, b, t.forget)

    def _sweep(self) -> Moved:
        t, fine, x, b = self.tuning, self.problem.psi.fine_shape, self._intensity(), self.b
        check_counters(0, len(self.counts), self.sweeps)
        self.chains = self.chains.with_room(most=self.fullest)
        # the first moves are many: what the chains have not found yet must not go dark, or they will hardly ever find it
        moved = self._move(self.trial.fitted, x, b) if self.sweeps else self._first_moves(self.trial.fitted)
        image, numbers = self.chains.part(self.trial.fitted).totals(fine, self.brightness.mean)
        self.sweeps += 1
        share = 1.0 if self.sweeps <= t.forget else max(t.least_share, (self.sweeps - t.forget + 1.0) ** -t.decay)
        self.events = self.events + share * (image - self.events)
        self.background = self.background + share * (b * moved.ratio - self.background)
        read = self.backend.xp.concatenate([numbers, self.background.mean()[None]]).tolist()  # all that the host waits for
        self.fullest, level = int(read[3]), read[4]
        self.fit.update(np.array(read[:3]) / self.trial.fitted.stop, share, free=2 * self.sweeps > t.forget)
        asarray, scale, xp = self.backend.asarray, self.scale, self.backend.xp
        seen = scale * self.kernel(asarray(self.events / x, dtype=np.float32))
        # -S log x bends by S / x^2: where priors hold the image below S, that is S / x more than an EM step takes, which would
        # swing about the least of the objective; from 0 on, the price of light bends it as well
        price: Array = getattr(self.prior, "sparsity", 0.0)
        if getattr(price, "ndim", 0):
            price = price.astype(self.z.dtype, copy=False)
        steps = xp.maximum(self.z, np.float32(self.dust)) / (xp.maximum(seen, scale) + price)
        self.z = self.prior.moved(self.z, scale - seen, steps)
        target = asarray(self.background, dtype=np.float32)
        self.b = self.objective.background_step(target, 0 * target, max(level, 1e-9) / float(scale))
        return moved

    def _next_weight(self) -> None:
        """Note the image of this weight of edges; go on with the next one, or judge all and fit all frames with the best."""
        self.trial.note(self.taken, self._pair(self.average_z, self.average_b), (self.z, self.b))
        if not self.trial.open:
            self._judge()
            if self.stop is not None:
                return
            self.z, self.b = self.trial.begin()
        if isinstance(self.prior, SparseEdges):
            self.prior.edges = self._edges()
        if not self.trial.open:
            self.chains = self.chains.with_room()
            self._first_moves(self.trial.aside)
            self.sweeps += 1
            self.fullest = int(self.chains.count.max())

    def _judge(self) -> None:
        """Choose the weight of edges by the frames set aside."""
        self.trial.choose([self._gain(old, new, number) for number, (old, new) in enumerate(self.trial.neighbours)])

    def _pair(self, z: Array, b: Array) -> Pair:
        """Images as the frames set aside judge them, on the host."""
        return self._judged(self._light_set(self.kernel(z), b), b)

    def _judged(self, x: Array, b: Array) -> Pair:
        """An image as the frames set aside judge it: a few emissions may be anywhere."""
        found, anywhere = self.backend.to_host(x).astype(np.float64) / self.brightness.mean, self.tuning.anywhere
        even = max(float(found.mean()), self.dust)
        return Pair((1.0 - anywhere) * found + anywhere * even, self.backend.to_host(b).astype(np.float64))

    def _gain(self, old: Pair, new: Pair, number: int) -> UnseenGain:
        """By how much the frames set aside are likelier with the one than with the other."""
        return unseen_gain(
            self.counts[self.trial.judges],
            self.problem.model,
            old,
            new,
            self.brightness,
            self._proposals()[self.trial.judges],
            seed=self.seed,
            step=self.sweeps,
            first_frame=(3 + number) * len(self.counts),  # beyond those of the fit and of the test of mixing
            tuning=self.tuning,
            moves=self.moves,
        )

    def _stopped(self) -> Stop | None:
        if self.taken < self.planned:
            return None
        host = self.backend.to_host
        self.mixing = mixing_of(
            self.chains.moved_to(get_backend("numpy")), host(self.counts), self.problem.model, host(self._intensity()),
            host(self.b), self.brightness, host(self._proposals()),
            seed=self.seed, sweeps=self.sweeps, tuning=self.tuning, moves=self.moves,
        )  # fmt: skip
        if not self.mixing.mixed:
            return Stop(StopReason.NOT_MIXED, self.taken, str(self.mixing))
        law, number = self.brightness, float(self.events.sum())
        log.info(
            "the full likelihood: %.3g emissions per frame of %.4g photons, standard deviation %.2g of that; %s",
            number, law.mean * self.problem.psi.photons_per_emitter, law.shape**-0.5, self.mixing,
        )  # fmt: skip
        return Stop(StopReason.STEPS, self.taken)

    def headline(self, record: dict[str, float]) -> str:
        moved = record["change_x"] / max(_norm(self.z), 1e-30)
        return f"likelihood fit, {float(self.events.sum()):.3g} emissions per frame, x moves by {100 * moved:.2g} % per step"

    # -- state ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        if not self.taken:
            return {"taken": 0}
        chains = self.chains
        return {
            "taken": self.taken,
            "sweeps": self.sweeps,
            "first": list(self.first),
            "images": [self.z, self.b, self.average_z, self.average_b],
            "averages": [self.events, self.background],
            "dust": self.dust,
            "brightness": self.fit.state_dict(),
            "chains": [chains.place, chains.bright, chains.count],
            "prior": self.prior.state_dict(),
            "trial": self.trial.state_dict(),
        }

    def schema(self, begun: bool) -> Schema:
        if not begun:
            return {"taken": NumberOf(0, whole=True)}
        psi, frames = self.problem.psi, len(self.problem.counts)
        fine, image, background = ArrayOf(psi.fine_shape), ArrayOf(psi.fine_shape, low=0), ArrayOf(psi.shape, low=0)
        return {
            "taken": NumberOf(0, whole=True),
            "sweeps": NumberOf(0, whole=True),
            "first": ListOf((fine, image, background)),
            "images": ListOf((image, background, image, background)),
            "averages": ListOf((image, background)),
            "dust": NumberOf(0),
            "brightness": {"sums": Optional(ArrayOf((3,))), "mean": NumberOf(0), "shape": NumberOf(0)},
            "chains": ListOf((ArrayOf((frames, None), low=0), ArrayOf((frames, None), low=0), ArrayOf((frames,), low=0))),
            "prior": prior_schema(self.objective.prior),
            "trial": self.trial.schema(psi.fine_shape, psi.shape),
        }

    def load_state_dict(self, state: State) -> None:
        self.taken = int(state["taken"])
        if not self.taken:
            return
        asarray = self.backend.asarray
        place, bright, count = (np.array(self.backend.to_host(part)) for part in state["chains"])
        pixels = self.problem.psi.fine_shape[0] * self.problem.psi.fine_shape[1]
        if place.shape != bright.shape or count.max(initial=0) > place.shape[1] or place.max(initial=0) >= pixels:
            raise ValueError("the checkpoint's chains of emissions do not belong together; start anew without it")
        kinds = ((place, np.int32), (bright, np.float64), (count, np.int32))
        self.chains = EmissionChains(*(asarray(part, dtype=dtype) for part, dtype in kinds))
        self.fullest = int(count.max(initial=0))
        self.sweeps, self.dust = int(state["sweeps"]), float(state["dust"])
        self.first = Images(*(asarray(image) for image in state["first"]))
        self._read()
        self.z, self.b, self.average_z, self.average_b = (asarray(image) for image in state["images"])
        self.events, self.background = (asarray(image, dtype=np.float64) for image in state["averages"])
        self.fit = BrightnessFit(self.tuning)
        self.fit.load_state_dict(state["brightness"])
        self.prior = self._restarted()
        self.prior.load_state_dict(state["prior"], asarray)
        self.trial.load_state_dict(state["trial"], asarray)


def _norm(image: Array) -> float:
    return float((image * image).sum(dtype=np.float64)) ** 0.5
