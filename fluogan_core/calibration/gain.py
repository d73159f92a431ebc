"""The gain from variance on mean, of the filter by which it is known best.

Without a filter, all of the noise takes part and flicker has to be subtracted, by a model that may not fit.  Behind a high-pass
(:mod:`fluogan_core.calibration.high_pass`) less noise is left, and less flicker, or none.  Each order of the filter gives a
line with a stated error.  The line with the smallest error is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..physics.psi import Psi
from ..physics.requirements import has_table
from ..tuning.calibration import CameraTuning
from .entry_pairs import entries_leakage
from .flicker import SHAPED, Flicker
from .high_pass import leakage, noise_correlation, window_mean
from .regression import jackknife
from .stack_statistics import StackStatistics
from .variance_line import expected_variance, resolve

__all__ = ["NoiseLine", "best_line"]


@dataclass
class NoiseLine:
    """Variance on mean behind one filter.

    Attributes
    ----------
    order : int
        Of the filter, 0 for none.
    table : (replicates, 4) float64
        Gain, offset, noise_std and how far its square stays open (:func:`.variance_line.resolve`): all pixels first, then
        without one block of the field each.
    slopes : list of (float, float)
        Gain and offset with weights that are powers 0, 1 and 2 of one over the variance.
    gain_error, offset_error : float
        One standard error, counts per photon and counts.
    unexplained : float
        What the flicker that its model does not describe may change the gain by, counts per photon.
    usable : bool
        Whether any variance is left to photons.
    """

    order: int
    table: np.ndarray
    slopes: list[tuple[float, float]]
    gain_error: float
    offset_error: float
    unexplained: float
    usable: bool

    @property
    def doubt(self) -> float:
        """Error of the gain with what is unexplained; infinite where there is no slope."""
        doubt = math.hypot(self.gain_error, self.unexplained)
        return math.inf if math.isnan(doubt) else doubt


def _orders_of(shape: tuple[int, ...], tuning: CameraTuning) -> tuple[int, ...]:
    """The orders of filters that a field has room for."""
    return tuple(order for order in tuning.orders if tuning.room * order <= min(shape))


def best_line(
    statistics: StackStatistics,
    psi: Psi | None,
    flicker: Flicker | None,
    used: np.ndarray,
    blocks: np.ndarray,
    given: dict[str, float],
    tuning: CameraTuning,
) -> NoiseLine:
    """Return the line of the order whose slope has the smallest error, with what is given held fixed."""
    moments, live = statistics.moments(), statistics.live[0]
    free = {name: value for name, value in given.items() if name != "gain"}
    darkest = float(np.quantile(moments.mean[used], tuning.darkest))
    known = (flicker, len(statistics.frames), darkest, tuning, int(blocks.max()) + 1)
    points = [_Points(0, moments.mean, moments.variance, live, blocks[None], 1.0, 0.0, *known)]
    if psi is not None:
        for order, variance in statistics.filtered(_orders_of(live.shape, tuning)).items():
            passed, doubtful = _passed(psi, order, tuning)
            inside = window_mean(live.astype(float), order) > 1 - 1e-9
            if inside.any():
                mean = window_mean(moments.mean, order)
                labels = _around_centres(blocks, order)
                points.append(_Points(order, mean, variance, inside, labels, passed, doubtful, *known))
    lines = [each.line(free) for each in points]
    best = min(range(len(lines)), key=lambda k: (not lines[k].usable, lines[k].doubt))
    return lines[best] if free == given else points[best].line(given)


def _around_centres(blocks: np.ndarray, order: int) -> np.ndarray:
    """Blocks of the pixels at the centres of a filter's windows: one, or four where a centre lies between pixels.

    With one of the four alone a mirrored field would have other blocks.
    """
    starts = sorted({order // 2, (order + 1) // 2})
    sizes = [size - order for size in blocks.shape]
    return np.stack([blocks[down : down + sizes[0], right : right + sizes[1]] for down in starts for right in starts])


def _passed(psi: Psi, order: int, tuning: CameraTuning) -> tuple[float, float]:
    """What a filter passes of the variance that emissions add, and by how much more of a narrower PSF, relative.

    How an operator of the user's own could be narrower is not known: all that it passes is doubtful.
    """
    if not has_table(psi):
        return entries_leakage(psi, order), 1.0
    passed, if_narrower = (leakage(p.table, order) / leakage(p.table, 0) for p in (psi, psi.scaled(tuning.narrower)))
    return passed, if_narrower / passed - 1.0


@dataclass
class _Points:
    """Means and variances behind a filter, and what it passes of the variance that flicker adds to pixels.

    ``doubtful`` is by how much more it would pass of a narrower PSF, relative.  ``blocks`` are the labels of the pixels at the
    centre of each window, (1 or 4, m1, m2); ``count`` is the number of blocks of the whole field, of which a filter that needs
    a margin may leave out the last.
    """

    order: int
    mean: np.ndarray
    variance: np.ndarray
    live: np.ndarray
    blocks: np.ndarray
    passed: float
    doubtful: float
    flicker: Flicker | None
    frames: int
    darkest: float
    tuning: CameraTuning
    count: int

    def __post_init__(self) -> None:
        self.clean = self.variance - self._flicker(0)
        # flicker adds variance: what would take away more than there is does not follow from the covariances
        left, of = (float(np.median(image[self.live])) for image in (self.clean, self.variance))
        self.usable = 0 < left <= 2 * of
        clean = self.clean if self.usable else np.maximum(self.clean, self.tuning.least_shot * self.variance)
        self.fit, self.used = expected_variance(self.mean, clean, self.live, self.frames, self.tuning)

    def _flicker(self, replicate: int) -> np.ndarray | float:
        """Variance that flicker adds; behind a filter that of the sample alone, since a lamp's is as smooth as the image."""
        if self.flicker is None:
            return 0.0
        if not self.order:
            return self.flicker.variance(replicate)
        sample = np.tensordot(self.flicker.fast[replicate, :SHAPED], self.flicker.terms[:SHAPED], axes=1)
        return self.passed * window_mean(sample, self.order)

    def line(self, given: dict[str, float]) -> NoiseLine:
        """The line and its errors."""
        used, weight, t = self.used, 1.0 / self.fit, self.tuning
        table = []
        for replicate in range(self.count + 1):
            kept = (self.blocks != replicate - 1).mean(axis=0)
            keep = used & (kept > 0)
            clean = (self.variance - self._flicker(replicate))[keep]
            table.append(resolve(self.mean[keep], clean, (kept * weight)[keep], self.darkest, given, t))
        whole, clean = np.array(table), self.clean[used]
        slopes = [resolve(self.mean[used], clean, self.fit[used] ** -power, self.darkest, given, t)[:2] for power in (0, 1, 2)]
        uncorrected = resolve(self.mean[used], self.variance[used], weight[used], self.darkest, given, t)
        error, bend = jackknife(whole), np.ptp(slopes, axis=0) / 2
        if "gain" not in given and error[0] > 0 and not {"offset", "noise_std"} <= given.keys():
            # with light in few blocks the jackknife error is too small: take at least what sampling makes
            error[:2] *= max(1.0, self._sampling_error() / error[0])
        errors = []
        for k in (0, 1):
            removed = abs(uncorrected[k] - whole[0, k])
            wrong = self.flicker.disagreement if self.flicker else 0.0
            errors.append(math.hypot(error[k], bend[k], wrong * removed, self.doubtful * removed))
        unexplained = self.flicker.misfit * abs(uncorrected[0] - whole[0, 0]) if self.flicker else 0.0
        return NoiseLine(self.order, whole, slopes, errors[0], errors[1], unexplained, self.usable)

    def _sampling_error(self) -> float:
        """Standard error of the slope of as many frames, counts per photon, from the noise and its correlation alone."""
        from scipy.ndimage import correlate1d

        weight = np.where(self.used, 1.0 / self.fit, 0.0)
        share = weight / weight.sum()
        lever = share * (self.mean - (share * self.mean).sum())
        spread = float((lever * self.mean).sum())
        if not spread > 0:
            return math.inf
        pull = lever * np.maximum(self.variance, 0.0) / spread
        near = pull
        for axis in (0, 1):
            near = correlate1d(near, noise_correlation(self.order) ** 2, axis=axis, mode="constant")
        # of half mean squared differences, whose neighbours share a frame
        return math.sqrt((3 * self.frames - 4) / (self.frames - 1) ** 2 * float((pull * near).sum()))
