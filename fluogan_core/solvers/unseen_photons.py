r"""Weights that the stack itself chooses: those that predict photons which the fit has not seen.

Three weights are cautious.  In dim light the image is sought through a wider blur than in bright light, and light counts as a
structure, which no penalty takes away, only from a large part of the brightest on.  And the background may vary over lengths
that some recordings need (vignetting, a bump), while on others it takes light of dim structures.  Prediction tells which.  The
mean frame :math:`\bar y` with noise of variance :math:`v` is split into two that are independent of each other (Gaussian data
thinning, Neufeld et al. 2024):

.. math:: \bar y_{\text{seen}} = \bar y + \tau\omega, \qquad \bar y_{\text{unseen}} = \bar y - \omega / \tau, \qquad
    \omega \sim \mathcal N(0, v).

Each candidate is fitted to the first, and :math:`\sum_m (\bar y_{\text{unseen}} - \Psi x - b)^2_m / v_m` says how well it
predicts the second.  That is done twice, with :math:`\omega` and with :math:`-\omega`, and averaged: what the drawn noise adds
to the sum cancels to first order (antithetic variates, Hammersley and Morton 1956).  Few iterations are enough, for only what
the PSF passes can be predicted; the total variation, which acts on finer detail, is not chosen here.

Light is an average of its cautious value and another, and then the detail one of a few widths, finer and coarser than the
cautious one, each weighed by the likelihood of what is unseen (:meth:`Trial.nats`): isolated molecules want a finer one, blobs
a coarser one.  The background is stiffer where that predicts as well, and as free as usual where stiffness predicts worse by
one standard error, or hands over much light to x (:meth:`Trial.longer`).  In between all of them go smoothly from one to the
other.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..backend.typing import ArrayLike
from ..calibration.brightest import Part
from ..objective.bending import Bending
from ..tuning import DEFAULT, Tuning, UnseenPhotonsTuning
from .options import SolverOptions
from .problem import Problem
from .shares import rising
from .trial_field import TrialField, varying_parts
from .weights import Weights, lit_from

__all__ = ["Trial", "noise_from_values", "predicting_weights", "thinned"]

log = logging.getLogger("fluogan_core")

#: Standard deviations of the noise that values are rounded to before they are hashed, at most.
_ROUNDED = 1 / 8
#: Beyond which a likelihood ratio is as good as infinite.
_MOST_NATS = 50.0
#: Where values are cut, in units of what they are rounded to: sums of whole counts over frames do not lie there.
_CUT = (5**0.5 - 1) / 2


def predicting_weights(
    weights: Weights,
    problem: Problem,
    options: SolverOptions,
    background: ArrayLike | float | None = None,
    tuning: Tuning = DEFAULT,
) -> Weights:
    """Return the weights with ``smoothness``, ``detail`` and ``lit`` as unseen photons want them.

    Parameters
    ----------
    weights : Weights
        The cautious ones.
    problem : Problem
        Its bad pixels are not predicted.
    options : SolverOptions
    background : (M1, M2) or float, optional
        Where it is given.
    tuning : Tuning, optional

    Returns
    -------
    Weights
        The same object where there is nothing to choose: then nothing is fitted.
    """
    trial, usual = Trial(problem, background, tuning), weights
    if background is None and options.smoothness is None:
        weights = _stiffer(weights, trial, problem, tuning)
    signal = max(problem.noise.signal / problem.camera.gain, 0.0)
    lit = lit_from(problem.noise_of_mean, signal, tuning.reweighting.least_of_signal, tuning.reweighting)
    lighter = dataclasses.replace(weights, lit=min(lit, weights.lit))
    share = trial.share(lighter, weights)
    # the penalty makes narrow what it acts on: the detail is asked for where it acts
    found = dataclasses.replace(weights, lit=_between(weights.lit, lighter.lit, share))
    found = dataclasses.replace(found, detail=_likely_detail(found, trial, options.detail, _dim(problem, tuning)))
    if found == usual:
        return usual
    log.info(
        "unseen photons: a background that is smooth over %.2g pixels (%.2g at least), detail from %.2g of the PSF's width on "
        "(%.2g by the light alone), and %.3g photons above the background are a structure (%.3g)",
        found.length,
        usual.length,
        found.detail,
        usual.detail,
        found.lit,
        usual.lit,
    )
    return found


def _stiffer(weights: Weights, trial: Trial, problem: Problem, tuning: Tuning) -> Weights:
    """The weights with the longest length scale of the background that all parts which are tried allow."""
    t, psi, dim = tuning.unseen_photons, problem.psi, _dim(problem, tuning)
    if not dim:  # structures are clear of any background
        return weights
    longer = trial.longer(weights, t.lengths)
    if longer > 1.0 and trial.mean.shape != problem.mean.shape:
        usual, stiff = (
            Bending(psi.shape, psi.backend, smoothness=w.smoothness, order=w.order, fidelity=w.fidelity)
            for w in (weights, weights.with_length(t.lengths[-1]))
        )
        # what a stiff background leaves of the mean frame, and the usual one does not
        left = usual.lowpass(problem.mean, weights.fidelity) - stiff.lowpass(problem.mean, weights.fidelity)
        for part in varying_parts(psi.backend.to_host(left), t.field, t.more_parts, trial.part):
            longer = min(longer, Trial(problem, None, tuning, part).longer(weights, t.lengths))
    return weights if longer == 1.0 else weights.with_length(t.lengths[0] * longer**dim)


def _dim(problem: Problem, tuning: Tuning) -> float:
    """1 in dim light, 0 from twice the signal-to-noise ratio on at which light is bright."""
    return 1.0 - rising(problem.noise.signal_to_noise / tuning.mean_phase.bright, 1.0, 2.0)


def _likely_detail(weights: Weights, trial: Trial, finest: float, dim: float) -> float:
    """The average of a few details, in equal ratios, each weighed by how likely it makes what is unseen."""
    t, cautious = trial.tuning.unseen_photons, weights.detail
    nats = {cautious: t.ahead}
    if finest < cautious:
        middle = math.sqrt(finest * cautious)
        for detail in (finest, middle) if middle > t.apart * finest else (finest,):
            nats[detail] = trial.nats(dataclasses.replace(weights, detail=detail), weights)
    coarser, kept = [min(step * cautious, 1.0) for step in t.coarser if dim], 1.0
    for detail in coarser:
        if detail <= t.apart * cautious or not kept:
            break
        gained = trial.nats(dataclasses.replace(weights, detail=detail), weights)
        nats[detail] = gained + math.log(kept)
        kept = rising(gained, 0.0, t.ahead)  # the next one is tried for the time only where this one is likelier
    most = max(nats.values())
    likely = {detail: math.exp(gained - most) * (dim if detail > cautious else 1.0) for detail, gained in nats.items()}
    total = sum(likely.values())
    exponent = sum(weight * math.log(detail / cautious) for detail, weight in likely.items() if detail) / total
    return cautious * math.exp(exponent) if exponent else cautious


class Predicted(NamedTuple):
    r"""How well a fit predicts.

    Attributes
    ----------
    mean : (m1, m2) float64
        :math:`\Psi x + b`, of both of the pair, photons.
    errors : (m1, m2) float64
        Squared errors of :math:`\Psi x + b` for what is unseen, over v.
    light : float
        :math:`\Psi x`, summed, photons.
    """

    mean: np.ndarray
    errors: np.ndarray
    light: float


class Trial(TrialField):
    """A part of a mean frame, split into what a fit sees and what it is to predict.

    Parameters
    ----------
    problem : Problem
    background : (M1, M2) or float, optional
        Where it is given, photons.
    tuning : Tuning
    part : two slices, optional
        The brightest by default.

    Attributes
    ----------
    pair : tuple of two (seen, unseen)
        (m1, m2) float64 each, photons: with some noise, and with its negative.
    """

    def __init__(
        self, problem: Problem, background: ArrayLike | float | None, tuning: Tuning, part: Part | None = None
    ) -> None:
        super().__init__(problem, background, tuning, part)
        self.pair = thinned(self.mean, self.variance, tuning.unseen_photons, problem.camera.gain)
        self._found: dict[Weights, Predicted] = {}

    def predicted(self, weights: Weights) -> Predicted:
        """Fit what is seen, and predict what is unseen, by both of the pair; every weights are fitted once."""
        few = dataclasses.replace(weights, iterations=min(weights.iterations, self.tuning.unseen_photons.iterations))
        if few not in self._found:
            mean, errors, light = np.zeros_like(self.mean), np.zeros_like(self.mean), 0.0
            for seen, unseen in self.pair:
                of_x, b = self.fitted(seen, few)
                mean += (of_x + b) / len(self.pair)
                errors += (unseen - of_x - b) ** 2 / (len(self.pair) * self.variance)
                light += float(of_x.sum()) / len(self.pair)
            self._found[few] = Predicted(mean, errors, light)
        return self._found[few]

    def better_by(self, other: Weights, cautious: Weights) -> float:
        """Standard errors by which others predict better than cautious weights do."""
        better = (self.predicted(cautious).errors - self.predicted(other).errors)[self.good]
        spread = float(better.std()) * math.sqrt(better.size)
        return round(float(better.sum()) / spread, 6) if spread > 0 else 0.0  # a turned field has other last digits

    def nats(self, other: Weights, cautious: Weights) -> float:
        r"""By how much other weights make what is unseen likelier than cautious weights do, nats.

        Half of what the squared errors differ by, over the dispersion: the square of the scatter of that difference from pixel
        to pixel over what the noise of the mean frame alone makes of it, :math:`4 \sum_m (f_m - f'_m)^2 / v_m`, or 1 if that is
        more (quasi-likelihood, Wedderburn 1974).  Where no weights explain the frame, its misfit speaks less.
        """
        before, after = self.predicted(cautious), self.predicted(other)
        better = (before.errors - after.errors)[self.good]
        noise = 4.0 * float(((before.mean - after.mean) ** 2 / self.variance)[self.good].sum())
        if not noise:
            return 0.0
        dispersion = max(float(better.var()) * better.size / noise, 1.0)
        return round(0.5 * float(better.sum()) / dispersion, 6)  # a turned field has other last digits

    def share(self, other: Weights, cautious: Weights) -> float:
        """How far to go from cautious weights to others, 0 to 1: how likely they are beside the cautious ones."""
        if other == cautious:
            return 0.0
        behind = self.tuning.unseen_photons.ahead - self.nats(other, cautious)
        return 1.0 / (1.0 + math.exp(min(behind, _MOST_NATS)))

    def longer(self, weights: Weights, lengths: Sequence[float]) -> float:
        """By how much longer than the first the length scale of the background may be, up to the last but one of these.

        Of two backgrounds that predict equally well the stiffer is the simpler one.  But an image that takes all of a bump
        predicts as well as a background that does: so no stiffer one counts from where the image takes much more light than
        with the one before.  And one step less far than would do, for a background that is just stiff enough to be told may
        split a wide bar.
        """
        t, kept, here = self.tuning.unseen_photons, 1.0, weights
        least, most = t.handed_over
        shares: list[float] = []
        for length in lengths[1:]:
            there = weights.with_length(length)
            before, after = (self.predicted(w).light for w in (here, there))
            kept *= rising(most - after / before, 0.0, most - least) if before > 0 else 0.0
            better = self.better_by(there, weights)
            if not kept or better <= t.worse:
                break
            shares.append(kept * rising(better, *t.as_good))
            here = there
        steps = enumerate(pairwise(lengths[:-1]), start=1)
        return math.prod((longer / shorter) ** max(shares[number:], default=0.0) for number, (shorter, longer) in steps)


def _between(start: float, end: float, share: float) -> float:
    """From one to the other in equal ratios; none at all is reached at once."""
    if start == end or share == 0.0:
        return start
    return start * (end / start) ** share if end else end


def thinned(
    mean: np.ndarray, variance: np.ndarray, tuning: UnseenPhotonsTuning, gain: float = 1.0
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    r"""Split a mean frame into two with independent noise: :math:`\bar y + \tau\omega` and :math:`\bar y - \omega / \tau`.

    Twice: with :math:`\omega` and with its negative.

    Parameters
    ----------
    mean, variance : (M1, M2)
        The frame, photons, and the variance of its noise.
    tuning : UnseenPhotonsTuning
        Its ``noise`` is :math:`\tau`.
    gain : float
        Counts per photon.

    Returns
    -------
    tuple of two (seen, unseen)
        (M1, M2) float64 each.
    """
    # The noise follows from what was recorded: differences of neighbours, in counts, know neither the offset nor the gain.
    # An estimate of the camera that differs in its last digits would otherwise draw other noise, and choose other weights.
    around = np.pad(mean.astype(np.float64), 1, mode="edge")
    beside = (around[:-2, 1:-1] + around[2:, 1:-1]) + (around[1:-1, :-2] + around[1:-1, 2:])
    unit = 2.0 ** math.floor(math.log2(math.sqrt(float(variance.mean())) * gain * _ROUNDED))
    noise = noise_from_values(np.floor((4.0 * mean - beside) * gain / unit + _CUT)) * np.sqrt(variance)
    return tuple((mean + sign * tuning.noise * noise, mean - sign * noise / tuning.noise) for sign in (1, -1))


def noise_from_values(image: np.ndarray) -> np.ndarray:
    """Return standard normal numbers that follow from an image's own values, (M1, M2) float64.

    Each is a hash of the pixel and its eight neighbours, alike in all directions.  So the numbers of a flipped, transposed or
    shifted image are flipped, transposed or shifted with it, and what is decided by them is the same.

    Parameters
    ----------
    image : (M1, M2)
        Whole numbers.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).integers(1000, size=(6, 8))
    >>> bool((noise_from_values(image.T[::-1]) == noise_from_values(image).T[::-1]).all())
    True
    """
    from scipy.special import ndtri

    own = _mixed(np.asarray(image).astype(np.int64).astype(np.uint64))
    around = np.pad(own, 1)
    beside = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
    corners = around[:-2, :-2] + around[:-2, 2:] + around[2:, :-2] + around[2:, 2:]
    bits = _mixed(own + _mixed(beside + np.uint64(1)) + _mixed(corners + np.uint64(2)))
    return np.asarray(ndtri((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54))


def _mixed(bits: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit depends on every bit."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)))
