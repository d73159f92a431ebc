r"""By how many standard deviations frames tell two parallel lines from every image that has no gap between them.

The lines are long beside the PSF, so that nothing changes along them but the noise.  The frames are then independent at each
spatial frequency k along the lines, and a frequency needs only matrices of one row of camera pixels.  With p the expected
photons per fine pixel across the lines, :math:`C_q` the operator from p to a row of the camera at frequency q of the fine
rows, L the super-resolution factor and :math:`B_q` the transfer function of binning L rows, eq. (1) has

.. math::

    \mu(p, b) = L\,C_0\,p + b, \qquad
    \Sigma_k(p, b) = \mathrm{diag}(\mu + \sigma^2) +
    \frac{\kappa}{L} \sum_{q \equiv k} |B_q|^2\, C_q\,\mathrm{diag}(p)\,C_q^H .

Both are linear in p and b.  For T frames of m rows and small differences, the squared distance of two images in standard
deviations is

.. math:: d'^2 = T m\,\Delta\mu^T \Sigma_0^{-1} \Delta\mu + \frac{T m}{2}
   \langle \mathrm{tr}(\Sigma_k^{-1} \Delta\Sigma_k\,\Sigma_k^{-1} \Delta\Sigma_k) \rangle_k ,

the Fisher information of a Gaussian with this mean and covariance (S. M. Kay, *Estimation Theory*, 1993, section 3.9).  The
first term alone is what the mean frame holds.  The image without a gap that is nearest to the pair is found by non-negative
least squares: any mixture of bars about the middle of the pair, of all widths, on a smooth background that is free.

Frames of few bright molecules are not Gaussian: their covariances scatter more (:mod:`fluogan_core.planning.scatter`).  With K
the excess in the variance of the second term's statistic and X its covariance with that of the first, per row and frame and the
mean of both images,

.. math:: d'^2 = T m \begin{pmatrix} M & D \end{pmatrix} \begin{pmatrix} M & X \\ X & D + K \end{pmatrix}^{-1}
   \begin{pmatrix} M \\ D \end{pmatrix}

is what the best sum of the two tells, M and D being the two terms above.  Pixels of unequal offset or gain leave a pattern in
the mean frame, of variance :math:`p^2`, which more frames do not remove: :math:`\Sigma_0 + T p^2` is in place of
:math:`\Sigma_0` in M.  Covariances do not see it.  The nearest image is looked for with the second term
weighed by D / (D + K).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..physics.psf import FWHM_PER_SIGMA, psf_sigma
from .scatter import excess_scatter

__all__ = ["Distances", "Model", "Optics", "Separability", "Sight", "profiles_of", "separability", "smooth_backgrounds"]

#: Width of the field across the lines, in widths of the PSF.
_FIELD = 6.0
#: A free background is a constant and so many cosines across the field: periods of four widths of the PSF and more.
_ORDERS = 3
#: Camera rows whose frequencies are averaged over: more than the PSF's correlation length.
_ROWS = 24
#: Least variance of a pixel, of the brightest one's.
_LEAST_VARIANCE = 1e-6
#: Times that the weight of the second term is measured at the nearest image, and that image is looked for with it.
_PASSES = 2
#: Frequencies of the fine rows that pass less than this share of the light are left out.
_NEGLIGIBLE = 1e-7


@dataclass(frozen=True)
class Optics:
    """A PSF on fine pixels of a given size.

    Attributes
    ----------
    psf : (K, K) float array, K odd, sum 1
    pixel_size_nm : float
        Camera pixel.
    factor : int
        Fine pixels per camera pixel.
    """

    psf: np.ndarray
    pixel_size_nm: float
    factor: int

    @property
    def fine_nm(self) -> float:
        """Size of a fine pixel, nm."""
        return self.pixel_size_nm / self.factor

    @property
    def fwhm_nm(self) -> float:
        """Width at half maximum of the Gaussian with the PSF's energy, nm."""
        return FWHM_PER_SIGMA * psf_sigma(self.psf) * self.fine_nm


@dataclass(frozen=True)
class Sight:
    """Light and camera of one recording, in detected photons.

    Attributes
    ----------
    photons : float
        Expected per frame in the brightest camera pixel, background apart.
    background : float
        Per camera pixel and frame.
    photons_per_emitter : float
        kappa, of one emission.
    read_noise : float
        Standard deviation, photons.
    frames : float
        Number of independent frames.
    length_nm : float
        Length of the two lines.
    fixed_pattern : float
        Standard deviation of what unequal pixels leave in the mean frame, photons, however many frames there are.
    """

    photons: float
    background: float
    photons_per_emitter: float
    read_noise: float
    frames: float
    length_nm: float
    fixed_pattern: float = 0.0


@dataclass(frozen=True)
class Separability:
    """Standard deviations by which the frames of a pair differ from those of the nearest image without a gap.

    Attributes
    ----------
    mean : float
        By the mean frame alone.
    both : float
        By mean and covariance.
    """

    mean: float
    both: float


def separability(separation_nm: float, optics: Optics, sight: Sight) -> Separability:
    """How far the frames of two lines are from those of every image without a gap.

    Parameters
    ----------
    separation_nm : float
        Distance of the lines' middles; each is one fine pixel wide.
    optics : Optics
    sight : Sight

    Returns
    -------
    Separability

    Examples
    --------
    >>> import fluogan_core as fg
    >>> from fluogan_core.planning.information import Optics, Sight, separability
    >>> optics = Optics(fg.gaussian_psf(318, 100, 8), 100.0, 8)
    >>> sight = Sight(160, 10, 20, 1.4, frames=500, length_nm=1000)
    >>> near, far = (separability(d, optics, sight) for d in (120, 240))
    >>> bool(near.mean < near.both < far.both)
    True
    """
    model = Model(optics)
    pair, bars = profiles_of(model, separation_nm, optics)
    pair = pair * sight.photons / float(model.mean(pair).max())
    distances = Distances(model, pair, sight)
    return Separability(distances.nearest(bars, by_mean=True)[0], distances.nearest(bars, by_mean=False)[0])


class Model:
    """Mean and covariances of a row of camera pixels, linear in the profile across the lines."""

    def __init__(self, optics: Optics) -> None:
        factor, psf = optics.factor, optics.psf
        self.pixel_size_nm = optics.pixel_size_nm
        self.field_nm = _FIELD * optics.fwhm_nm
        self.psf = psf
        self.columns = 2 * math.ceil(self.field_nm / optics.pixel_size_nm / 2) + 1
        self.fine = self.columns * factor
        self.factor = factor
        rows = max(_ROWS, 2 * math.ceil(psf.shape[0] / factor))
        transforms = np.fft.fft(psf, rows * factor, axis=0)
        binned = np.fft.fft(np.ones(factor), rows * factor)
        frequencies = np.arange(rows // 2 + 1)
        self.share = np.where((frequencies == 0) | (2 * frequencies == rows), 1.0, 2.0) / rows
        # most frequencies of the fine rows lie beyond what the PSF and the pixel pass
        passed = np.abs(binned) * np.abs(transforms).sum(axis=1)
        kept = [q for q in range(rows * factor) if q % rows in frequencies and passed[q] > _NEGLIGIBLE * passed.max()]
        self._aliased_to = np.array(kept) % rows
        strengths = np.abs(binned[kept]) / math.sqrt(factor)
        self._operators = np.stack([self._across(transforms[q]) * s for q, s in zip(kept, strengths)])
        self._mean = factor * self._across(transforms[0]).real

    def _across(self, line: np.ndarray) -> np.ndarray:
        """(columns, fine): light of each fine column in each camera column, at one frequency along the lines."""
        middle = len(line) // 2
        distance = np.arange(self.fine)[:, None] - np.arange(self.fine)[None]
        inside = np.abs(distance) <= middle
        spread = np.where(inside, line[np.clip(distance + middle, 0, len(line) - 1)], 0.0)
        return np.asarray(spread.reshape(self.columns, self.factor, self.fine).sum(axis=1))

    def mean(self, profiles: np.ndarray) -> np.ndarray:
        """(..., columns) of profiles (..., fine)."""
        return profiles @ self._mean.T

    def flicker(self, profile: np.ndarray) -> np.ndarray:
        """(frequencies, columns, columns): covariance of one emission per unit of light, at each frequency."""
        lit = np.flatnonzero(profile)
        seen = self._operators[..., lit]
        covariance = np.zeros((len(self.share), self.columns, self.columns), dtype=seen.dtype)
        np.add.at(covariance, self._aliased_to, (seen * profile[lit]) @ seen.conj().swapaxes(1, 2))
        return covariance


def profiles_of(model: Model, separation_nm: float, optics: Optics) -> tuple[np.ndarray, np.ndarray]:
    """The pair, (fine,), and bars about its middle of all half widths, (bars, fine)."""
    edges = (np.arange(model.fine + 1) - model.fine / 2) * optics.fine_nm
    half_line = optics.fine_nm / 2

    def covered(low: float, high: float) -> np.ndarray:
        return np.diff(np.clip(edges, low, high)) / optics.fine_nm

    at = separation_nm / 2
    pair = covered(-at - half_line, -at + half_line) + covered(at - half_line, at + half_line)
    halves = np.arange(half_line, at + optics.fwhm_nm, optics.fine_nm)
    return pair, np.stack([covered(-h, h) for h in halves])


def smooth_backgrounds(model: Model) -> np.ndarray:
    """Waves of background, photons per pixel, and their opposites, (waves, columns)."""
    from_middle = (np.arange(model.columns) - model.columns // 2) * model.pixel_size_nm
    phase = np.pi * (from_middle / model.field_nm + 0.5)
    waves = np.cos(np.arange(_ORDERS + 1)[:, None] * phase)
    return np.concatenate([waves, -waves])


@dataclass(frozen=True, eq=False)
class _Parts:
    """What a mixture is made of, with few numbers each: the last column is the pair, the others are the parts.

    Attributes
    ----------
    bars, waves : arrays
        Profiles of light, and of background.
    mean, covariance : (rows, parts + 1) arrays
        Their features.
    """

    bars: np.ndarray
    waves: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray

    def mixture(self, second: float) -> tuple[np.ndarray, float]:
        """Weights of the mixture nearest to the pair, with covariances weighed by ``second``, and its squared distance."""
        from scipy.optimize import nnls

        both = np.concatenate([self.mean, second * self.covariance]) if second else self.mean
        scale = np.linalg.norm(both[:, :-1], axis=0)
        weights, distance = nnls(both[:, :-1] / scale, both[:, -1], maxiter=50 * both.shape[1])
        return weights / scale, float(distance) ** 2


class Distances:
    """Distances from one pair, in standard deviations of its frames."""

    def __init__(self, model: Model, pair: np.ndarray, sight: Sight) -> None:
        self.model, self.pair, self.sight = model, pair, sight
        self._parts: _Parts | None = None
        self.samples = sight.frames * sight.length_nm / model.pixel_size_nm
        b = np.full(model.columns, sight.background)
        mean = model.mean(pair) + b
        self.target = (mean, self._covariance(pair, mean))
        self.noise = noise = np.zeros_like(self.target[1])
        # where neither background nor read noise is there, dark pixels have no variance at all
        np.einsum("kcc->kc", noise)[:] = sight.read_noise**2 + _LEAST_VARIANCE * float(mean.max())
        self.whitening = np.linalg.inv(np.linalg.cholesky(self.target[1] + noise))
        # a pattern of the pixels is in the mean of T frames as noise of T times its variance in each of them would be
        self.pattern = sight.frames * sight.fixed_pattern**2 * np.eye(model.columns)
        self.mean_whitening = np.linalg.inv(np.linalg.cholesky(self.target[1][0] + noise[0] + self.pattern))

    def _covariance(self, profile: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """(frequencies, columns, columns), read noise apart: it is the same for every image."""
        covariance = self.sight.photons_per_emitter * self.model.flicker(profile)
        np.einsum("kcc->kc", covariance)[:] += mean
        return covariance

    def features(self, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whitened mean and covariance of one row and frame, each a real vector."""
        half = self.whitening @ covariance @ self.whitening.conj().swapaxes(1, 2)
        half = half * np.sqrt(self.model.share / 2)[:, None, None]
        return (self.mean_whitening @ mean).real, np.concatenate([half.real.ravel(), half.imag.ravel()])

    def nearest(self, bars: np.ndarray, by_mean: bool) -> tuple[float, np.ndarray, np.ndarray]:
        """Distance to the nearest mixture of bars and smooth background, its profile and its background."""
        if self._parts is None or self._parts.bars is not bars:
            self._parts = self._reduced(bars)
        waves = self._parts.waves

        def images(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return weights[: len(bars)] @ bars, weights[len(bars) :] @ waves

        weights, squared = self._parts.mixture(0.0 if by_mean else 1.0)
        for _ in range(0 if by_mean else _PASSES):
            _, share = self._told_by_both(*images(weights))
            weights, _ = self._parts.mixture(math.sqrt(share))
        if not by_mean:
            squared, _ = self._told_by_both(*images(weights))
        return math.sqrt(self.samples * squared), *images(weights)

    def _reduced(self, bars: np.ndarray) -> _Parts:
        """Features of bars, waves of a smooth background and the pair; an orthogonal transform keeps their distances."""
        waves = smooth_backgrounds(self.model)
        parts = [self.features(mean, self._covariance(bar, mean)) for bar, mean in zip(bars, self.model.mean(bars))]
        nothing = np.zeros(self.model.fine)
        parts += [self.features(wave, self._covariance(nothing, wave)) for wave in waves]
        parts.append(self.features(*self.target))
        mean, covariance = (np.asarray(np.linalg.qr(np.stack(rows, axis=1), mode="r")) for rows in zip(*parts))
        return _Parts(bars, waves, mean, covariance)

    def _told_by_both(self, profile: np.ndarray, background: np.ndarray) -> tuple[float, float]:
        """What mean and covariance tell the pair from another image by, squared, per row and frame; and D / (D + K)."""
        mean = self.model.mean(profile) + background
        covariance = self._covariance(profile, mean)
        precision = self.whitening.conj().swapaxes(1, 2) @ self.whitening
        change = self.target[1] - covariance
        linear = (self.mean_whitening.conj().T @ self.mean_whitening @ (self.target[0] - mean)).real
        quadratic = precision @ change @ precision
        told = np.array([linear @ (self.target[0] - mean), 0.5 * self._trace(quadratic, change)])
        if not told[1] > 0:
            return max(float(told[0]), 0.0), 1.0
        flat = np.full(self.model.columns, self.sight.background)
        # a background that is free may come out below zero where there is none: light that there is not does not scatter
        lit = self._covariance(profile, np.maximum(mean, 0.0))
        # the variance of a statistic that is to tell two images is the mean of those of both
        of_pair = self._scatter(self.pair, flat, self.target[1], linear, quadratic)
        of_other = self._scatter(profile, np.maximum(background, 0.0), lit, linear, quadratic)
        gaussian, excess = np.mean([of_pair, of_other], axis=0)
        share = float(gaussian[1, 1] / (gaussian[1, 1] + excess[1, 1]))
        return float(told @ np.linalg.pinv(gaussian + excess, hermitian=True) @ told), share

    def _scatter(
        self, profile: np.ndarray, background: np.ndarray, covariance: np.ndarray, linear: np.ndarray, quadratic: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Covariance of the two statistics of one row and frame, (2, 2), for Gaussian frames; and what eq. (1) adds."""
        spread = quadratic @ (covariance + self.noise)
        of_mean = (covariance[0] + self.noise[0]).real + self.pattern
        gaussian = np.diag([linear @ of_mean @ linear, 0.5 * self._trace(spread, spread)])
        excess, cross = excess_scatter(
            self.model.psf, self.model.factor, profile, self.sight.photons_per_emitter, background, linear, quadratic
        )
        return gaussian, np.array([[0.0, cross], [cross, excess]])

    def _trace(self, one: np.ndarray, other: np.ndarray) -> float:
        """Trace of the product of two matrices, mean over the frequencies."""
        return float((self.model.share * np.einsum("kab,kba->k", one, other).real).sum())
