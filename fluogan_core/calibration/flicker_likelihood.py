r"""The likelihood of a stack's flicker: which PSF, and which sources, explain the covariances of a window best.

Modes of the frames (:class:`.flicker_modes.FlickerModes`) have the covariance

.. math:: \Sigma = H\,\mathrm{diag}(u)\,H^T + \sum_k a_k A_k, \qquad H = H_0 + \sum_k c_k H_k,

with the variances u of sources on the fine grid, noise of known kinds :math:`A_k`, and the PSF :math:`h_0 + \sum_k c_k h_k`.
With :math:`S` as measured on T frames, :math:`T/2\,(\log\det\Sigma + \mathrm{tr}\,\Sigma^{-1}S)` is least at the estimate.
u and a follow multiplicative updates, which keep them positive.  c follows Fisher scoring, in which u and a are nuisance
parameters.  Nothing is assumed of the sources, so neither the sample's shape nor the mean frame enters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..tuning.psf_shape import PSFShapeTuning
from .flicker_modes import FlickerModes, ModeCovariances

__all__ = ["SourceFit"]

#: Noise of each kind, of the mean variance of a mode, at least: a covariance can then be inverted.
_LEAST_NOISE = 1e-6


class SourceFit:
    """Sources and noise that explain a covariance, for one PSF after the other.

    Parameters
    ----------
    modes : FlickerModes
    covariances : ModeCovariances
    fwhm : float
        Of the PSF's core, fine pixels.
    changes : (n, K1, K2) array
        What may be added to the PSF, each as large as it is expected to be.
    tuning : PSFShapeTuning
    enough : callable, optional
        Asked after every step, with this fit: no further step is taken where it says so.

    Attributes
    ----------
    weights : (n,) float64
        Of the changes.
    information : (n, n) float64
        Fisher information of the weights, sources and noise unknown.
    excess : float
        By how much the score varies more between blocks of frames than the information says.
    """

    def __init__(
        self,
        modes: FlickerModes,
        covariances: ModeCovariances,
        fwhm: float,
        changes: np.ndarray,
        tuning: PSFShapeTuning,
        enough: Callable[[SourceFit], bool] = lambda fit: False,
    ) -> None:
        self.modes, self.tuning, self.changes, self.fwhm = modes, tuning, changes, fwhm
        self.frames = covariances.degrees
        scale = float(np.trace(covariances.whole)) / modes.count
        self.measured, self._blocks = covariances.whole / scale, covariances.blocks / scale
        self.weights = np.zeros(len(changes))
        self.information, self.excess = np.zeros((len(changes), len(changes))), 1.0
        self._sources()
        for _ in range(tuning.steps):
            self._step()
            if enough(self):
                break
            self._update(tuning.updates_between)

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the weights, (n, n)."""
        return np.asarray(max(self.excess, 1.0) * np.linalg.inv(self.information + np.eye(len(self.weights))))

    @property
    def significance(self) -> float:
        """The weights' chi squared, over the excess of the scatter."""
        return float(self.weights @ self.information @ self.weights) / max(self.excess, 1.0)

    def _sources(self) -> None:
        """Find sources for the PSF as described: on a grid, and between its places where few are left."""
        t, modes = self.tuning, self.modes
        step = max(1, round(self.fwhm / t.pitch))
        self.places: np.ndarray = modes.grid(step, int(t.margin * self.fwhm))
        self._described = self.columns = modes.columns(modes.psi.psf, self.places)
        self._changed: list[np.ndarray] = []
        power = (self.columns**2).sum(axis=0)
        bright = modes.brightness(self.places, 0.5 * self.fwhm / modes.psi.factor)
        self.variances: np.ndarray = bright * (0.3 * modes.count / float((bright * power).sum()))
        self._keep(power > 0.02 * power.max())
        self.noise = np.array([0.3, 0.2, 0.1, 0.01, 0.01, 0.01])
        for _ in range(2):
            self._update(t.updates)
            self._drop()
        if step > 1 and len(self.places) <= t.most_sources:
            self._refine(step // 2)
        self._update(t.updates)
        self._drop()
        self._changed = [modes.columns(change, self.places) for change in self.changes]

    def _refine(self, finer: int) -> None:
        """Put sources ``finer`` fine pixels to each side of those that are left."""
        around = np.array([(i, j) for i in (-finer, 0, finer) for j in (-finer, 0, finer)])
        self.places, which = np.unique((self.places[:, None] + around).reshape(-1, 2), axis=0, return_inverse=True)
        self.variances = np.bincount(which.ravel(), np.repeat(self.variances / 9.0, 9))
        self._described = self.columns = self.modes.columns(self.modes.psi.psf, self.places)

    def _keep(self, kept: np.ndarray) -> None:
        self.places, self.variances = self.places[kept], self.variances[kept]
        self._described, self.columns = self._described[:, kept], self.columns[:, kept]
        self._changed = [changed[:, kept] for changed in self._changed]

    def _drop(self) -> None:
        """Leave out sources that add hardly anything to the covariance."""
        added = self.variances * (self.columns**2).sum(axis=0)
        self._keep(added > self.tuning.least_source * added.max())

    def _state(self) -> tuple[np.ndarray, np.ndarray]:
        r""":math:`\Sigma^{-1}` and :math:`\Sigma^{-1} S \Sigma^{-1}`."""
        from scipy.linalg import cho_factor, cho_solve

        scaled = self.columns * np.sqrt(self.variances)  # times its own transpose: half the work
        covariance = scaled @ scaled.T + np.tensordot(self.noise, self.modes.noise, 1)
        inverse = cho_solve(cho_factor(covariance, lower=True), np.eye(self.modes.count))
        return inverse, inverse @ self.measured @ inverse

    def _update(self, times: int) -> None:
        """Multiplicative updates of sources and noise, the PSF held."""
        for _ in range(times):
            inverse, seen = self._state()
            ratio = ((seen @ self.columns) * self.columns).sum(axis=0) / ((inverse @ self.columns) * self.columns).sum(axis=0)
            self.variances = self.variances * np.maximum(ratio, 0.0) ** self.tuning.exponent
            of_seen, of_inverse = _inner(self.modes.noise, np.stack([seen, inverse])).T
            ratio = of_seen / of_inverse
            self.noise = np.maximum(self.noise * np.sqrt(np.maximum(ratio, 0.0)), _LEAST_NOISE)

    def _step(self) -> None:
        """One step of Fisher scoring; the prior of every weight is a normal distribution of variance 1."""
        from scipy.linalg import cho_factor, cho_solve

        self._drop()
        inverse, seen = self._state()
        half, columns, noise = 0.5 * self.frames, self.columns, self.modes.noise
        sources, number = len(self.variances), len(self.changes)
        slope = half * (inverse - seen)
        of_slope, of_inverse = slope @ columns, inverse @ columns
        # logarithms of the variances are what is changed
        scales = np.concatenate([self.variances, self.noise])
        slopes = scales * np.concatenate([(of_slope * columns).sum(axis=0), _inner(noise, slope[None])[:, 0]])
        filtered = inverse @ noise
        nuisance = np.empty((len(scales), len(scales)))
        nuisance[:sources, :sources] = (columns.T @ of_inverse) ** 2
        for k, one in enumerate(filtered, sources):
            nuisance[:sources, k] = nuisance[k, :sources] = ((one @ of_inverse) * columns).sum(axis=0)
        nuisance[sources:, sources:] = _inner(filtered, filtered.swapaxes(1, 2))
        nuisance *= half * scales[:, None] * scales
        nuisance[np.diag_indices(len(scales))] += 1.0
        slopes_of_weights = np.array([2.0 * (of_slope * (c * self.variances)).sum() for c in self._changed])
        mixed, derivatives = np.empty((len(scales), number)), []
        products = np.empty((number, *inverse.shape))
        for k, changed in enumerate(self._changed):
            derivative = (changed * self.variances) @ columns.T
            derivative += derivative.T
            products[k] = inverse @ derivative
            derivatives.append(derivative)
            mixed[:sources, k] = ((products[k] @ of_inverse) * columns).sum(axis=0)
        mixed[sources:] = _inner(noise, products @ inverse)
        information = half * _inner(products, products.swapaxes(1, 2))
        mixed *= half * scales[:, None]
        solved = cho_solve(cho_factor(nuisance), np.column_stack([mixed, slopes]))
        self.information = information - mixed.T @ solved[:, :number]
        score = slopes_of_weights - mixed.T @ solved[:, number]
        self._spread_of_score(inverse, derivatives, scales[:, None] * solved[:, :number])
        step = -np.linalg.solve(self.information + np.eye(number), score + self.weights)
        self.weights = self.weights + step
        factors = np.exp(np.clip(-solved[:, number] - solved[:, :number] @ step, -1.0, 1.0))
        self.variances, self.noise = self.variances * factors[:sources], self.noise * factors[sources:]
        self.columns = self._described + sum(w * c for w, c in zip(self.weights, self._changed))

    def _spread_of_score(self, inverse: np.ndarray, derivatives: list[np.ndarray], followed: np.ndarray) -> None:
        """Compare the scatter of the score between blocks of frames with the information, sources and noise following."""
        sources, count = len(self.variances), len(self._blocks)
        scores = np.empty((count, len(derivatives)))
        for k, derivative in enumerate(derivatives):
            along = derivative - (self.columns * followed[:sources, k]) @ self.columns.T
            along -= np.tensordot(followed[sources:, k], self.modes.noise, 1)
            scores[:, k] = 0.5 * _inner(self._blocks, (inverse @ along @ inverse)[None])[:, 0]
        scores -= scores.mean(axis=0)
        scatter = scores.T @ scores * (count / (count - 1))
        ridge = 1e-9 * np.trace(self.information) * np.eye(len(derivatives))
        self.excess = float(np.trace(np.linalg.solve(self.information + ridge, scatter))) / len(derivatives)


def _inner(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Sums of the products of all entries of each matrix of the one with each of the other, (k, n, n) and (l, n, n): (k, l)."""
    return np.asarray(one.reshape(len(one), -1) @ other.reshape(len(other), -1).T)
