r"""What the full likelihood of the frames tells of a pair, by sampling the emissions of simulated frames.

In the direction from the nearest image without a gap to the pair, the score of a frame is :math:`s = h + r`: h is the best
sum of a linear and a quadratic statistic of the frame, as in :mod:`fluogan_core.planning.information`, and r is the rest.  The
score of eq. (1) by the expected emissions is :math:`E[z_i | y] / x_i - 1`; chains of emissions give it
(:mod:`fluogan_core.planning.scores`).  The information is

.. math:: E[s^2] = E[h^2] + E[r^2],

at the image half way between the two.  The first term is exact.  So only what the likelihood tells *beyond* mean and
covariance is sampled, and where it tells nothing beyond, noise is all that is added.  The second term is the mean product of
r by two chains of the same frame.  With long lines, mean and covariance tell :math:`d_2`; the full likelihood tells

.. math:: d^2 = d_2^2\, \frac{E[h^2] + E[r^2]}{E[h_2^2]},

with :math:`h_2` for the image that is nearest by mean and covariance.  Both expectations are those of two short lines on a
small field, so that what the ends of the lines do cancels.

The image without a gap that is nearest under the full likelihood is looked for with some frames and judged by others, so that
the noise of the choice makes nothing smaller.

Chains of two kinds of start say whether they mix.  With a the mean of r over a chain that starts at the true emissions, and c
over one that starts without an emission,

.. math:: E[a c]^2 / E[c c'] \le E[r^2] \le E[a a'],

c' being the mean over another such chain, and a' that over a later part of the same chain: c is a statistic of the frame, and
products along a reversible chain fall.  All three are equal where chains mix.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..backend.checks import real_number
from ..physics.psf import psf_sigma
from ..tuning import DEFAULT
from .information import Distances, Model, Optics, Sight, profiles_of, smooth_backgrounds
from .scores import PER_EMISSION, PROPOSALS, SampledScores
from .short_lines import Image, ShortLines

__all__ = [
    "LikelihoodPlan",
    "NotSampled",
    "Sampled",
    "finest",
    "frames_needed",
    "frames_until",
    "likelihood_plan",
    "sampled_separability",
]

#: Frames that the nearest image is looked for with, and frames that judge it.
_FRAMES = 200, 300
#: More frames, in proportion, where fewer emissions than these are expected in a frame; and how many at most.
_EMISSIONS, _MOST_FRAMES = 2.0, 10000
#: Random words of one separation begin so many seeds after those of the one before.
_SEEDS = 100
#: Sweeps of the chains without an emission before the first note; notes of the first try; sweeps before each.
_START, _NOTES, _SWEEPS = 40, 20, 2
#: Standard error that the information may have, as a part of it: half of it is the error of the standard deviations.
_ERROR = 0.3
#: Proposals that one separation may take: about a minute on one core.
_MOST_PROPOSALS = 2.5e7
#: Chains have not mixed where their products differ by this part of the information, and by so many standard errors.
_APART, _ERRORS = 0.3, 3.0
#: Each separation that is sampled is this part of the one before.
_STEP = 0.75


class NotSampled(ValueError):
    """The full likelihood cannot be sampled; its words say why."""


@dataclass(frozen=True)
class Sampled:
    """What the full likelihood tells of a pair.

    Attributes
    ----------
    deviations : float
        Standard deviations by which the frames of a pair differ from those of the nearest image without a gap.
    error : float
        Standard error of the sampling.
    """

    deviations: float
    error: float


@dataclass(frozen=True, eq=False)
class LikelihoodPlan:
    """The finest separation that the full likelihood of the frames tells.

    Attributes
    ----------
    finest_nm : float
        As ``mean_nm`` of :class:`fluogan_core.Plan`; the first of ``separations_nm`` if even this is told.
    error_nm : float
        Its standard error by the sampling; 0 if ``finest_nm`` is not between two of ``separations_nm``.
    separations_nm : (S,) float64
        Separations that were sampled, rising.
    deviations, errors : (S,) float64
        Standard deviations by which the frames of a pair differ from those of the nearest image without a gap, and their
        standard errors by the sampling.
    significance : float
        Standard deviations.
    frames : float
        Independent frames that ``deviations`` are of.
    ended : str
        Why nothing finer was sampled where it could not be; empty where the search came to its end.
    """

    finest_nm: float
    error_nm: float
    separations_nm: np.ndarray
    deviations: np.ndarray
    errors: np.ndarray
    significance: float
    frames: float
    ended: str = ""

    def frames_for(self, separation_nm: float) -> tuple[float, float]:
        """How many independent frames tell lines of this separation from an image without a gap.

        Parameters
        ----------
        separation_nm : float
            Within the range of ``separations_nm``.

        Returns
        -------
        frames, error : float
            Their number, and its standard error by the sampling.

        Raises
        ------
        ValueError
            If the separation is outside the range.
        """
        found = frames_needed(separation_nm, self.separations_nm, self.deviations, self.significance, self.frames)
        at, known = math.log(separation_nm), np.log(self.separations_nm)
        return found, 2 * found * float(np.interp(at, known, self.errors / self.deviations))


def likelihood_plan(optics: Optics, sight: Sight, significance: float, *, below_nm: float, seed: int = 0) -> LikelihoodPlan:
    """Find the finest separation that the full likelihood tells.

    Separations are sampled at which each line is exactly one fine pixel: one that lies on two is wider, and bright emissions
    show it.

    Parameters
    ----------
    optics : Optics
    sight : Sight
    significance : float
        Standard deviations at which a gap counts as seen.
    below_nm : float
        Where the search begins.  It ends at the latest at four or five fine pixels: below, the width of a fine pixel decides.
    seed : int
        Of all random words.

    Returns
    -------
    LikelihoodPlan

    Raises
    ------
    NotSampled
        If the chains of emissions cannot be sampled well enough at the first separation, or the pixels are unequal.
    """
    if sight.fixed_pattern > 0:
        raise NotSampled("the camera's pixels are unequal, and the likelihood is that of equal ones")
    step, found = 2 * optics.fine_nm, dict[float, Sampled]()
    # a field has an odd number of camera pixels: its middle is a fine pixel, or an edge between two
    first, ended = 2 * step if optics.factor % 2 else 2.5 * step, ""
    at = first + step * max(0, math.ceil((below_nm - first) / step))
    while not found or (at > first and found[at].deviations >= significance):
        at = first + step * max(0, math.floor((at * _STEP - first) / step)) if found else at
        try:
            found[at] = sampled_separability(at, optics, sight, seed=seed + _SEEDS * len(found))
        except NotSampled as error:
            if not found:
                raise
            ended = str(error)
            break
    separations = np.array(sorted(found))
    deviations, errors = (np.array([getattr(found[s], name) for s in separations]) for name in ("deviations", "error"))
    finest_nm, error_nm = finest(separations, deviations, significance), 0.0
    if deviations[0] < significance <= deviations[-1]:
        rise = np.diff(np.log(deviations[:2]))[0] / np.diff(np.log(separations[:2]))[0]
        error_nm = finest_nm * float(np.interp(finest_nm, separations, errors / deviations)) / float(rise)
    return LikelihoodPlan(finest_nm, error_nm, separations, deviations, errors, significance, sight.frames, ended)


def finest(separations: np.ndarray, deviations: np.ndarray, significance: float) -> float:
    """Where a curve passes ``significance``, by interpolation of logarithms: it is close to a power of the separation."""
    rising = np.maximum.accumulate(np.maximum(deviations, 1e-12))
    if rising[-1] < significance:
        return math.inf
    return float(np.exp(np.interp(math.log(significance), np.log(rising), np.log(separations))))


def frames_needed(
    separation_nm: float, separations: np.ndarray, deviations: np.ndarray, significance: float, frames: float
) -> float:
    """How many frames reach ``significance`` at a separation within a curve of ``frames``; ValueError outside of it."""
    low, high = float(separations[0]), float(separations[-1])
    separation_nm = real_number(separation_nm, "separation_nm", low=low, high=high)
    known = np.log(np.maximum(deviations, 1e-12))
    return frames * (significance / math.exp(np.interp(math.log(separation_nm), np.log(separations), known))) ** 2


def frames_until(enough: Callable[[float], bool]) -> float:
    """The least number of frames, to a thousandth, that is enough; infinite if a hundred million are not."""
    low, high = 1.0, 1e8
    if enough(low):
        return low
    if not enough(high):
        return math.inf
    while high > 1.001 * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def sampled_separability(separation_nm: float, optics: Optics, sight: Sight, *, seed: int = 0) -> Sampled:
    """How far the frames of two lines are from those of every image without a gap, by the full likelihood.

    Parameters
    ----------
    separation_nm : float
        Distance of the lines' middles; each is one fine pixel wide.
    optics : Optics
    sight : Sight
    seed : int
        Of all random words.

    Returns
    -------
    Sampled

    Raises
    ------
    NotSampled
        If the chains of emissions cannot be sampled well enough.

    Examples
    --------
    Few bright emissions, which hardly overlap: their places say more than their covariance.

    >>> import fluogan_core as fg
    >>> from fluogan_core.planning.information import Optics, Sight, separability
    >>> from fluogan_core.planning.likelihood import sampled_separability
    >>> optics = Optics(fg.gaussian_psf(300, 120, 6), 120.0, 6)
    >>> sight = Sight(10, 2, 200, 1, frames=500, length_nm=1000)
    >>> found = sampled_separability(100, optics, sight)
    >>> found.deviations > 1.5 * separability(100, optics, sight).both
    True
    """
    model = Model(optics)
    profile, bars = profiles_of(model, separation_nm, optics)
    pair = Image(profile * sight.photons / float(model.mean(profile).max()), np.full(model.columns, sight.background))
    overlap = _overlap(pair.light / sight.photons_per_emitter, optics)
    if overlap > DEFAULT.likelihood_phase.most_overlap:
        most = DEFAULT.likelihood_phase.most_overlap
        raise NotSampled(f"{overlap:.3g} emissions overlap each other, more than {most:g}: mean and covariance say nearly all")
    by_both, light, background = Distances(model, pair.light, sight).nearest(bars, by_mean=False)
    other = Image(light, background)
    parts = _parts(model, pair, bars[[bool((light[bar > 0] > 0).all()) for bar in bars]])

    def nearest(metric: np.ndarray) -> Image:
        return Image(parts.light[:-1], parts.background[:-1]).mixed(_mixture(metric))

    def lines_between(image: Image) -> ShortLines:
        return ShortLines(optics, sight, model, pair.middle(image))

    lines = lines_between(other)
    share = lines.told(pair - other).share
    metric = lines.metric(parts, share)
    by_moments = nearest(metric)
    told = lines_between(by_moments).told(pair - by_moments).squared
    effort = _Effort(float(lines.x.sum()))
    for attempt in itertools.count():
        seeds = seed + 2 * attempt, seed + 2 * attempt + 1
        scores = lines.sampled(**effort.of(_FRAMES[0]), seed=seeds[0])
        image = nearest(metric + _rest(lines, scores, parts, share))
        between = lines_between(image)
        found = _information(between, between.sampled(**effort.of(_FRAMES[1]), seed=seeds[1]), pair - image)
        if found.apart > _APART * found.squared:
            raise NotSampled(
                f"at {separation_nm:.0f} nm the chains of emissions do not mix: what they find depends on their start"
            )
        if found.error <= _ERROR * found.squared:
            break
        effort = effort.more(noisy=found.noise > found.squared)
        if effort.proposals > _MOST_PROPOSALS:
            raise NotSampled(
                f"at {separation_nm:.0f} nm the chains of emissions are too noisy: squared deviations of {found.squared:.2g} ± "
                f"{found.error:.2g} per frame, and to know them better takes more than {_MOST_PROPOSALS:.2g} proposals"
            )
    deviations = by_both * math.sqrt(max(found.squared / told, 1.0))
    return Sampled(deviations, 0.5 * deviations * found.error / found.squared)


@dataclass(frozen=True)
class _Effort:
    """How many frames, and how long their chains."""

    emissions: float
    times: float = 1.0
    notes: int = _NOTES

    def of(self, frames: int) -> dict[str, int]:
        """Arguments of the sampling; rare emissions need more frames."""
        frames = math.ceil(frames * self.times * max(1.0, _EMISSIONS / self.emissions))
        return {"frames": min(frames, _MOST_FRAMES), "start": _START, "notes": self.notes, "sweeps": _SWEEPS}

    @property
    def proposals(self) -> float:
        """Of all chains of the frames that judge."""
        sweeps = 3 * (self.notes * _SWEEPS + _START)
        return self.of(_FRAMES[1])["frames"] * sweeps * (PROPOSALS + PER_EMISSION * self.emissions)

    def more(self, *, noisy: bool) -> _Effort:
        """Three times the notes where the chains are what is noisy, three times the frames elsewhere."""
        return replace(self, notes=3 * self.notes) if noisy else replace(self, times=3 * self.times)


class _Information(NamedTuple):
    """Information of a frame in one direction, its standard error, the noise of one chain, and how far chains disagree."""

    squared: float
    error: float
    noise: float
    apart: float


def _information(lines: ShortLines, scores: SampledScores, change: Image) -> _Information:
    told = lines.told(change, scores.counts)
    early, late, *cold = (lines.along(of, change) - told.of_frames for of in (scores.early, scores.late, *scores.cold))
    warm, root = (early + late) / 2, math.sqrt(len(early))
    rest = (warm * cold[0] + warm * cold[1] + cold[0] * cold[1]) / 3
    across, among = warm * (cold[0] + cold[1]) / 2, cold[0] * cold[1]
    ratio = float(across.mean() / among.mean()) if among.mean() > 0 else 1.0
    # E[early late] - E[across]^2 / E[among], to first order in what the frames scatter
    apart = early * late - 2 * ratio * across + ratio**2 * among
    surely = float(apart.mean()) - _ERRORS * float(apart.std(ddof=1)) / root
    noise = float(((cold[0] - cold[1]) ** 2).mean()) / 2
    return _Information(told.squared + float(rest.mean()), float(rest.std(ddof=1)) / root, noise, surely)


def _rest(lines: ShortLines, scores: SampledScores, parts: Image, share: float) -> np.ndarray:
    """What the scores of chains hold beyond mean and covariance, in all directions of the parts, (P, P), without below zero."""
    by_moments = lines.scores(scores.counts, parts, share)
    warm, *cold = (lines.along(of, parts) - by_moments for of in ((scores.early + scores.late) / 2, *scores.cold))
    product = warm.T @ (cold[0] + cold[1]) + cold[0].T @ cold[1]
    values, vectors = np.linalg.eigh((product + product.T) / (6 * len(warm)))
    return np.asarray((vectors * np.maximum(values, 0.0)) @ vectors.T)


def _parts(model: Model, pair: Image, bars: np.ndarray) -> Image:
    """Bars, waves of background, and last the pair, as rows of one image."""
    waves = smooth_backgrounds(model)
    none = np.zeros((len(bars), model.columns)), np.zeros((len(waves), model.fine))
    return Image(np.concatenate([bars, none[1], pair.light[None]]), np.concatenate([none[0], waves, pair.background[None]]))


def _mixture(metric: np.ndarray) -> np.ndarray:
    """Weights, not negative, of the mixture that is nearest to the last part."""
    from scipy.optimize import nnls

    values, vectors = np.linalg.eigh(metric)
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    scale = np.linalg.norm(root[:, :-1], axis=0)
    return np.asarray(nnls(root[:, :-1] / scale, root[:, -1], maxiter=50 * len(root))[0] / scale)


def _overlap(emissions: np.ndarray, optics: Optics) -> float:
    """How many emissions overlap a typical one, of lines with so many per fine pixel."""
    blurred = np.convolve(emissions, optics.psf.sum(axis=0))
    return 4 * math.pi * psf_sigma(optics.psf) ** 2 * float((blurred**2).sum() / emissions.sum())
