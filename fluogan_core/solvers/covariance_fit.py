"""The second phase without a network: accelerated steps on x and b against the witness of mean and covariance."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..calibration.noise import StackNoise
from ..critics.quadratic import QuadraticCritic
from ..objective.blur import GaussianKernel
from ..objective.image_step import ImageStep
from ..objective.prox import edge_lengths
from ..objective.terms import Objective
from ..physics.forward import ForwardModel
from .mean_fit import UNEXPLAINED
from .network_fit import held_out_frames
from .options import SolverOptions

__all__ = ["CovariancePhase", "Moved"]

#: Accelerated steps on the images for each step of the solver.
_INNER = 50
#: Edges cost up to this many times what they cost in the fit of the mean, where flicker is this share of the variance of the
#: light, and half of that where the fit of the mean has drawn a step of this part of the brightness.
_EDGES, _ALL_FLICKER, _DRAWN = 9.0, 2.0 / 3.0, 0.25
#: Powers of the share of flicker that edges cost as much as: in what is flat, and at the steps that the fit of the mean has
#: drawn.  All of these by trial on simulated fields.
_FLAT, _STEEP = 2, 8
#: Turns of the power iteration; the step is this much shorter than what they find.
_TURNS, _MARGIN = 20, 1.05
#: Settled: the witness has seen the images anew, and they move by less than this in relation to themselves.
_SETTLED = 7e-3


class Moved(NamedTuple):
    """How far the images moved, and where that left the objective."""

    change_x: float
    change_b: float
    terms: dict[str, float]
    looked: bool  #: whether the witness saw the images as they were before
    settled: bool  #: whether it did, and yet they hardly moved


class CovariancePhase:
    r"""Proximal gradient steps with momentum (FISTA) on

    .. math:: s \left(\tfrac{\varrho}{2} r^T W r + \tfrac14 \mathrm{tr}(W E W E)\right) + \lambda_1 \|z\|_1
              + \lambda_3 \sum_i e_i |(\nabla z)_i| + \tfrac{\lambda_2}{2} \|\nabla^p b\|^2, \qquad x = G z,\quad z, b \ge 0.

    At :math:`\varrho = 1` the bracket is the largest value that a quadratic critic reaches
    (:class:`fluogan_core.critics.quadratic.QuadraticCritic`).  :math:`\varrho` is the option ``fidelity``, and
    :math:`s = \gamma \bar v / \varrho` makes the first term the fidelity of (11) where all pixels are equally noisy and
    uncorrelated.  Where the mean frame is noisier than its fluctuations explain, that term is divided by the square of how
    much.

    Edges cost more than in the fit of the mean,

    .. math:: e_i = \max\!\left(\frac{q_2}{1 + (|(\nabla x^0)_i| / \frac14 \bar x^0)^2}, q_8\right), \quad
              q_k = \max(1, 9 \min(1, \tfrac32 f)^k), \quad \bar x^0 = \frac{\sum (x^0)^2}{\sum x^0},

    with :math:`x^0` the image that the phase starts from and f the share of flicker in the variance of the light
    (:attr:`flicker_share`): total variation reweighted (Candes, Wakin and Boyd 2008), so that what is flat stays flat where
    covariances would draw it as beads, and two lines that the mean alone holds apart stay apart.  Where nearly all of the
    variance is flicker, the steps that the mean shows are those of single molecules, and count no more than others.

    Every pixel of x has a step of its own: where it is dark the critic sees a single molecule, where it is bright many have to
    come, and the slope there changes far more slowly.  One step for all would be as short as in the dark.

    Parameters
    ----------
    counts : (T, M1, M2) float32
        Recorded counts above the offset, on the model's backend.
    model : ForwardModel
    objective : Objective
        Its weights, the mean frame, and the prior of the background.
    noise : StackNoise
    options : SolverOptions
        ``held_out`` is used here.
    sieve : GaussianKernel
        G, that of the fit of the mean.
    bad_pixels : (M1, M2) bool
        Left out.

    Attributes
    ----------
    z, x, b : arrays
        The images as they are, x = G z, after :meth:`start`.
    """

    def __init__(
        self,
        counts: Any,
        model: ForwardModel,
        objective: Objective,
        noise: StackNoise,
        options: SolverOptions,
        sieve: GaussianKernel,
        bad_pixels: np.ndarray,
    ) -> None:
        self.objective = objective
        self.xp = xp = model.backend.xp
        trust = options.fidelity / (noise.excess if noise.excess > UNEXPLAINED else 1.0) ** 2
        kept = held_out_frames(len(counts), options.held_out)
        train = np.setdiff1d(np.arange(len(counts)), kept)
        if len(train) < 2:
            raise ValueError(
                f"method='moments' needs two frames or more for its covariances, but held_out={options.held_out:g} leaves "
                f"{len(train)} of {len(counts)}: lower held_out, or take method='none'"
            )
        self.witness = QuadraticCritic(counts[xp.asarray(train)], model, objective.mean, trust=trust, bad_pixels=bad_pixels)
        self.unseen = None
        self.held_out = counts[xp.asarray(kept)] / np.float32(model.gain)
        if len(kept) > 1:
            mean = self.held_out.mean(axis=0, dtype=np.float64).astype(np.float32)
            self.unseen = QuadraticCritic(
                counts[xp.asarray(kept)], model, mean, trust=trust, like=self.witness, bad_pixels=bad_pixels
            )
        self.scale = np.float32(objective.fidelity / options.fidelity * noise.variance / model.gain**2)
        self.image_step, self.sieve = ImageStep(objective), sieve

    def start(self, z: Any, b: Any) -> None:
        """Begin at x = G z and b, and let them say how much of the flicker the frames show."""
        self.z, self.x, self.b = z, self.sieve(z), b
        self.ahead_z, self.ahead_b, self.t = z, b, 1.0
        self.believed_x, self.believed_b = self.x, b
        self.steps_x, self.step_b = 0 * z, math.nan
        for witness in self._witnesses:
            witness.measure_flicker(self.x, b)
        self.image_step.edges = self._price_of_edges()

    @property
    def _witnesses(self) -> list[QuadraticCritic]:
        return [self.witness] + ([] if self.unseen is None else [self.unseen])

    def step(self, number: int) -> Moved:
        """Let the witness see the images as they are, at steps 0, 1, 2, 4, 8, ...; then move them."""
        looks = number & (number - 1) == 0
        if looks:
            self.believed_x, self.believed_b = self.x, self.b
            self.witness.update_weights(self.x, self.b)
            self._measure()
        old_z, old_b = self.z, self.b
        for _ in range(_INNER):
            self._inner()
        self.x = self.sieve(self.z)
        change_z, change_b = (float((d * d).sum(dtype=np.float64)) ** 0.5 for d in (self.z - old_z, self.b - old_b))
        of_mean, of_covariance = self.witness.value(self.x, self.b)
        terms = self.objective.terms(self.z, self.b, self.b, edges=self.image_step.edges) | {
            "fidelity": float(self.scale) * of_mean,
            "adversarial": float(self.scale) * of_covariance,
        }
        size = float((self.z * self.z).sum(dtype=np.float64)) ** 0.5
        return Moved(change_z, change_b, terms, looks, looks and change_z <= _SETTLED * size)

    @property
    def flicker_share(self) -> float:
        """Share of flicker in the variance of the molecules' light, the rest being shot noise: 0 to 1, NaN without light."""
        return self.witness.flicker_share(self.x)

    def judge(self) -> tuple[float, float]:
        """Return what the best critic tells recorded frames from simulated ones by: frames that it has seen, and unseen."""
        held_out = math.nan if self.unseen is None else 2.0 * sum(self.witness.value(self.x, self.b, self.unseen))
        return 2.0 * sum(self.witness.value(self.x, self.b)), held_out

    def gain_over(self, x: Any, b: Any) -> tuple[float, float]:
        """Return by how much the images predict unseen frames better than x and b do, and its standard error.

        Nats per pixel and frame; NaN where fewer than two frames were held out.
        """
        if self.unseen is None:
            return math.nan, math.nan
        mine, theirs = (self.unseen.log_density(self.held_out, *images) for images in ((self.x, self.b), (x, b)))
        gain = mine - theirs
        return float(gain.mean()), float(gain.std(ddof=1)) / math.sqrt(len(gain))

    def _price_of_edges(self) -> Any:
        """What an edge costs at every pixel, (N1, N2) float32, in units of what it cost in the fit of the mean."""
        xp, x, share = self.xp, self.x, self.flicker_share
        if math.isnan(share):
            return xp.ones_like(x)
        flicker = min(1.0, share / _ALL_FLICKER)
        most, least = (np.float32(max(1.0, _EDGES * flicker**power)) for power in (_FLAT, _STEEP))
        brightness = float((x * x).sum(dtype=np.float64)) / float(x.sum(dtype=np.float64))
        return xp.maximum(most / (1 + (edge_lengths(x) / np.float32(_DRAWN * brightness)) ** 2), least)

    def _measure(self) -> None:
        """The safe steps under the witness's present weights, each pixel's in the ratio of its own curvature.

        How long they may be is found by power iteration on the second derivative in those units.
        """
        xp, witness = self.xp, self.witness
        curvature_x, curvature_b = witness.curvature(self.x)
        across, ratio = 1 / xp.sqrt(curvature_x), np.float32(1 / math.sqrt(curvature_b))
        zero_x, zero_b = witness.slope(xp.zeros_like(self.x), xp.zeros_like(self.b))
        u, v, norm = xp.ones_like(self.x), xp.ones_like(self.b), 1.0
        for _ in range(_TURNS):
            slope_x, slope_b = witness.slope(self.sieve(across * u), ratio * v)
            u, v = across * self.sieve(slope_x - zero_x), ratio * (slope_b - zero_b)
            norm = math.sqrt(float((u * u).sum(dtype=np.float64)) + float((v * v).sum(dtype=np.float64)))
            u, v = u / np.float32(norm), v / np.float32(norm)
        longest = 1.0 / (_MARGIN * norm * float(self.scale))
        self.steps_x = (np.float32(longest) / curvature_x).astype(np.float32)
        self.step_b = longest / curvature_b

    def _inner(self) -> None:
        o, z, b = self.objective, self.ahead_z, self.ahead_b
        slope_x, slope_b = self.witness.slope(self.sieve(z), b)
        new_z = self.image_step(z, self.scale * self.sieve(slope_x), self.steps_x).x  # G is its own adjoint
        new_b = o.background_step(b, self.scale * slope_b, self.step_b)
        change_z, change_b = new_z - self.z, new_b - self.b
        uphill = float(((z - new_z) * change_z / self.steps_x).sum()) + float(((b - new_b) * change_b).sum()) / self.step_b
        if uphill > 0:
            self.t, self.ahead_z, self.ahead_b = 1.0, new_z, new_b
        else:
            t = 0.5 * (1 + math.sqrt(1 + 4 * self.t**2))
            momentum = np.float32((self.t - 1) / t)
            self.ahead_z, self.ahead_b, self.t = new_z + momentum * change_z, new_b + momentum * change_b, t
        self.z, self.b = new_z, new_b

    _ARRAYS = ("z", "x", "b", "ahead_z", "ahead_b", "believed_x", "believed_b", "steps_x")
    _NUMBERS = ("t", "step_b")

    def state_dict(self) -> dict[str, Any]:
        """What a resumed fit needs, after :meth:`start`."""
        of_edges = {"dual": self.image_step.dual, "edges": self.image_step.edges}
        others = of_edges | {"flicker": [float(witness.flicker) for witness in self._witnesses]}
        return {name: getattr(self, name) for name in (*self._ARRAYS, *self._NUMBERS)} | others

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        asarray = self.objective.psi.backend.asarray
        for name in self._ARRAYS:
            setattr(self, name, asarray(state[name]))
        for name in self._NUMBERS:
            setattr(self, name, float(state[name]))
        self.image_step.dual = None if state["dual"] is None else asarray(state["dual"])
        self.image_step.edges = asarray(state["edges"])
        for witness, flicker in zip(self._witnesses, state["flicker"]):
            witness.flicker = np.float32(flicker)
        self.witness.update_weights(self.believed_x, self.believed_b)
