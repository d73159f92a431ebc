r"""Weights that the stack itself chooses: those that predict photons which the fit has not seen.

In dim light two weights are cautious.  The image is sought through a wider blur than in bright light, and light counts as a
structure, which no penalty takes away, only from a large part of the brightest on.  Both are right for some stacks.  For others
they blur single molecules, or give the light of wide structures to the background.  Prediction tells which.  The mean frame
:math:`\bar y` with noise of variance :math:`v` is split into two that are independent of each other (Gaussian data thinning,
Neufeld et al. 2024):

.. math:: \bar y_{\text{seen}} = \bar y + \tau\omega, \qquad \bar y_{\text{unseen}} = \bar y - \omega / \tau, \qquad
    \omega \sim \mathcal N(0, v).

Each candidate is fitted to the first, and :math:`\sum_m (\bar y_{\text{unseen}} - \Psi x - b)^2_m / v_m` says how well it
predicts the second.  A weight leaves its cautious value where another predicts better by more than two standard errors of the
difference, and has that other value from four on; in between it goes smoothly from one to the other.  Only what the PSF passes
can be predicted.  So the total variation, which acts on finer detail, is not chosen here.
"""

from __future__ import annotations

import dataclasses
import logging
import math

import numpy as np

from ..backend.typing import ArrayLike
from ..tuning import DEFAULT, Tuning, UnseenPhotonsTuning
from .options import SolverOptions
from .problem import Problem
from .trial_field import TrialField
from .weights import Weights, lit_from

__all__ = ["Trial", "noise_from_values", "predicting_weights", "thinned"]

log = logging.getLogger("fluogan_core")

#: Standard deviations of the noise that values are rounded to before they are hashed, at most.
_ROUNDED = 1 / 8
#: Where values are cut, in units of what they are rounded to: sums of whole counts over frames do not lie there.
_CUT = (5**0.5 - 1) / 2


def predicting_weights(
    weights: Weights,
    problem: Problem,
    options: SolverOptions,
    background: ArrayLike | float | None = None,
    tuning: Tuning = DEFAULT,
) -> Weights:
    """Return the weights with ``detail`` and ``lit`` as unseen photons want them.

    In bright light there is nothing to choose, and nothing is fitted.

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
    """
    signal = max(problem.noise.signal / problem.camera.gain, 0.0)
    lit = lit_from(problem.noise_of_mean, signal, tuning.reweighting.least_of_signal, tuning.reweighting)
    finer = dataclasses.replace(weights, detail=min(options.detail, weights.detail))
    lighter = dataclasses.replace(weights, lit=min(lit, weights.lit))
    if finer == weights == lighter:
        return weights
    trial = Trial(problem, background, tuning)
    cautious = trial.predicted(weights)
    shares = [0.0 if other == weights else trial.share(cautious, other) for other in (finer, lighter)]
    found = dataclasses.replace(
        weights,
        detail=_between(weights.detail, finer.detail, shares[0]),
        lit=_between(weights.lit, lighter.lit, shares[1]),
    )
    if found != weights:
        log.info(
            "unseen photons: detail from %.2g of the PSF's width on (%.2g by the light alone), and %.3g photons above the "
            "background are a structure (%.3g)",
            found.detail,
            weights.detail,
            found.lit,
            weights.lit,
        )
    return found


class Trial(TrialField):
    """The brightest part of a mean frame, split into what a fit sees and what it is to predict.

    Parameters
    ----------
    problem : Problem
    background : (M1, M2) or float, optional
        Where it is given, photons.
    tuning : Tuning

    Attributes
    ----------
    seen, unseen : (m1, m2) float64
        Photons.
    """

    def __init__(self, problem: Problem, background: ArrayLike | float | None, tuning: Tuning) -> None:
        super().__init__(problem, background, tuning)
        self.seen, self.unseen = thinned(self.mean, self.variance, tuning.unseen_photons, problem.camera.gain)

    def predicted(self, weights: Weights) -> np.ndarray:
        r"""Fit what is seen, and return :math:`\Psi x + b`, (m1, m2) float64, photons."""
        return self.fitted(self.seen, weights)

    def share(self, cautious: np.ndarray, other: Weights) -> float:
        """How far to go from cautious weights, with this prediction, to others: 0 to 1."""
        errors = (self.unseen - cautious) ** 2 - (self.unseen - self.predicted(other)) ** 2
        better = (errors / self.variance)[self.good]
        spread = float(better.std()) * math.sqrt(better.size)
        low, high = self.tuning.unseen_photons.doubtful, self.tuning.unseen_photons.clear
        share = (float(better.sum()) / spread - low) / (high - low) if spread > 0 else 0.0
        return round(min(max(share, 0.0), 1.0), 6)  # sums over a turned field have other last digits


def _between(start: float, end: float, share: float) -> float:
    """From one to the other in equal ratios; a blur of no width is reached at once."""
    if start == end or share == 0.0:
        return start
    return end if share == 1.0 or not end else start * (end / start) ** share


def thinned(
    mean: np.ndarray, variance: np.ndarray, tuning: UnseenPhotonsTuning, gain: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    r"""Split a mean frame into two with independent noise: :math:`\bar y + \tau\omega` and :math:`\bar y - \omega / \tau`.

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
    seen, unseen : (M1, M2) float64
    """
    # The noise follows from what was recorded: differences of neighbours, in counts, know neither the offset nor the gain.
    # An estimate of the camera that differs in its last digits would otherwise draw other noise, and choose other weights.
    around = np.pad(mean.astype(np.float64), 1, mode="edge")
    beside = (around[:-2, 1:-1] + around[2:, 1:-1]) + (around[1:-1, :-2] + around[1:-1, 2:])
    unit = 2.0 ** math.floor(math.log2(math.sqrt(float(variance.mean())) * gain * _ROUNDED))
    noise = noise_from_values(np.floor((4.0 * mean - beside) * gain / unit + _CUT)) * np.sqrt(variance)
    return mean + tuning.noise * noise, mean - noise / tuning.noise


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
