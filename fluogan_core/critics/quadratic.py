r"""The optimal quadratic critic of mean and covariance, in closed form.

Let the critic be a linear function of a frame plus a quadratic function of the difference of two frames, in which the mean
cancels,

.. math:: D(y, y') = v^T V^{1/2} y + \tfrac14\,(y - y')^T W^{1/2} M W^{1/2} (y - y'),

the quadratic part in coordinates in which frames of covariance :math:`\Sigma_0` are white (:math:`W = \Sigma_0^{-1}`), the
linear part in coordinates in which their detection noise is (:math:`V = \mathrm{diag}(\mu_0 + \sigma^2)^{-1}`).

Its score of recorded frames less that of simulated ones, :math:`E[D_{real}] - E[D_{sim}]`, less the penalty
:math:`\tfrac12\|v\|^2 + \tfrac14\|M\|_F^2`, is largest at

.. math:: v = -V^{1/2} r, \qquad M = -W^{1/2} E W^{1/2}, \qquad
          \max = \tfrac12\, r^T V r + \tfrac14\,\mathrm{tr}(W E W E), \qquad r = \mu - \bar y,\quad E = \Sigma - S,

with :math:`\bar y, S` the mean and covariance of the recorded frames and

.. math:: \mu = \Psi x + b, \qquad \Sigma = \mathrm{diag}(\mu + \sigma^2) + \varphi\,\Psi\,\mathrm{diag}(x)\,\Psi^T

those of the simulated ones (photons; epsilon is left out; :math:`\varphi` is 1 where the photons per emission are right and the
frames independent, else it is measured).  Neither training nor simulated frames are needed, and the gradient of eq. (12) has no
sampling error: one more emission adds :math:`C_i` to the mean and :math:`\mathrm{diag}(C_i) + \varphi\,C_i C_i^T` to the
covariance.  The largest value is quadratic in x and b.  Large fields are cut into tiles, each with a critic of its own.

Why V and not W weighs the mean: the x that is sought is the light of the emissions that took place.  Given those, the mean
frame has detection noise only, and the covariance of the frames is still as expected, because the variance of a Poisson
variable estimates its mean.  With :math:`\Sigma_0` the model's own covariance the value is the expansion of the Gaussian
likelihood of mean and covariance given the emissions.  With W in place of V the flicker itself would count as uncertainty of
the light: molecules whose flicker is not that of the others would lose light to fit their covariance.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np

from ..backend.arrays import backend_of
from ..backend.checks import real_number, trailing_shape, whole_number
from ..backend.typing import Array
from ..physics.covariance import Part
from ..physics.forward import ForwardModel
from ..stack import stack_of_field
from ..tuning import DEFAULT, QuadraticCriticTuning
from .moments import Tile, TiledMoments

__all__ = ["CriticValue", "QuadraticCritic", "QuadraticCriticLike"]


class CriticValue(NamedTuple):
    r"""The two terms of a quadratic critic's largest value, summed over the tiles.

    Attributes
    ----------
    mean : float
        :math:`r^T V r / 2`, times the weight of the mean.
    covariance : float
        :math:`\mathrm{tr}(W E W E) / 4`.
    """

    mean: float
    covariance: float


@runtime_checkable
class QuadraticCriticLike(Protocol):
    """What the fit of mean and covariance needs of a quadratic critic; :class:`QuadraticCritic` is one.

    x is (N1, N2) emissions per fine pixel and frame, b is (M1, M2) photons per camera pixel and frame, both on the critic's
    backend.  Between two calls of :meth:`update_weights` and :meth:`measure_flicker` the value is a quadratic function of x
    and b, and :meth:`slope` is its gradient.

    Attributes
    ----------
    flicker : float
        phi, the flicker of the recorded frames in units of the model's; a checkpoint stores it and sets it again.
    """

    flicker: Any

    def update_weights(self, x: Array, b: Array) -> None:
        """Take the inverse of the covariance that x and b predict as weights from now on."""

    def slope(self, x: Array, b: Array) -> tuple[Array, Array]:
        """Return the gradients of the value with respect to x and b, (N1, N2) and (M1, M2)."""

    def curvature(self, x: Array) -> tuple[Array, float]:
        """Return positive second derivatives, nearly: of each pixel of x, (N1, N2), and the largest one of b."""

    def value(self, x: Array, b: Array, other: Self | None = None) -> CriticValue:
        """Return the critic's value, or how this critic scores the frames of another one."""

    def log_density(self, frames: Array, x: Array, b: Array) -> Array:
        """Return the log density per pixel of each frame (S, M1, M2) of photons, (S,)."""

    def measure_flicker(self, x: Array, b: Array) -> None:
        """Set :attr:`flicker` from the recorded frames."""

    def flicker_share(self, x: Array) -> float:
        """Return the share of flicker in the variance of x's light, 0 to 1, NaN without light."""


class QuadraticCritic:
    r"""The optimal quadratic critic: mean and covariance of recorded frames against those that x and b predict.

    Parameters
    ----------
    frames : (T, M1, M2) array
        Recorded counts above the offset, on the model's backend; at least two.  They are not changed.
    model : ForwardModel
        Psi, the gain and the read noise.
    mean : (M1, M2) array, optional
        The mean frame, photons; by default that of ``frames``.
    trust : float
        Weight of the mean's term, 0 or more: less than 1 where the mean frame is noisier than its fluctuations explain.
    block : int, optional
        Side of a tile, camera pixels; by default 16, or 8 where the PSF is not separable and pairs of pixels cost more.
    like : QuadraticCritic, optional
        A critic of other frames with the same model and block: the pairs of Psi that it holds are shared.
    bad_pixels : (M1, M2) bool on the host, optional
        Pixels that are given next to no weight.
    tuning : QuadraticCriticTuning, optional
        Numbers that were found by trial (:mod:`fluogan_core.tuning`).

    Attributes
    ----------
    tiles : list of fluogan_core.critics.moments.Tile
        The tiles, each with the covariance of its recorded frames and its weights.
    mean_weight : (M1, M2) float32
        The diagonal of V, photons^-2; 1 before :meth:`update_weights`.
    flicker : float32
        :math:`\varphi`, the flicker in these frames in units of what psi's photons per emission predict; 1 before
        :meth:`measure_flicker`.
    read_variance : float32
        Variance of the read noise, photons^2.

    Raises
    ------
    ValueError
        If frames, mean or bad pixels have another shape than psi's field, are not finite or live on another device, if there
        are fewer than two frames, or if ``trust`` is negative.

    See Also
    --------
    QuadraticCriticLike : what the fit of mean and covariance needs of a critic.

    Examples
    --------
    Two moments of 200 frames prefer the image that the frames were drawn from to one of half its light:

    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psf = fg.gaussian_psf(fwhm_nm=318, pixel_size_nm=100, factor=2)
    >>> psi = fg.Psi(psf, (16, 16), 2, photons_per_emitter=20.0, backend="numpy")
    >>> model = fg.ForwardModel(psi, noise_std=0.5)
    >>> x = np.zeros(psi.fine_shape, np.float32)
    >>> x[12:20, 16] = 0.1
    >>> b = np.full(psi.shape, 0.2, np.float32)
    >>> critic = fg.QuadraticCritic(model.sample(x, b, 200, seed=1), model)
    >>> critic.update_weights(x, b)
    >>> bool(sum(critic.value(x, b)) < sum(critic.value(x / 2, b)))
    True
    >>> slope_x, slope_b = critic.slope(x, b)
    >>> slope_x.shape, slope_b.shape
    ((32, 32), (16, 16))
    """

    def __init__(
        self,
        frames: Array,
        model: ForwardModel,
        mean: Array | None = None,
        *,
        trust: float = 1.0,
        block: int | None = None,
        like: QuadraticCritic | None = None,
        bad_pixels: np.ndarray | None = None,
        tuning: QuadraticCriticTuning = DEFAULT.quadratic_critic,
    ) -> None:
        psi, backend = model.psi, model.backend
        stack_of_field(frames, psi.shape)
        home = backend_of(frames=frames, mean=mean).device
        if home != backend.device:
            raise ValueError(f"frames are on {home} but the model is on {backend.device}; move them with psi.backend.asarray")
        if mean is None:
            mean = (frames.mean(axis=0, dtype=np.float64) / model.gain).astype(np.float32)
        if tuple(mean.shape) != psi.shape:
            raise ValueError(f"mean must be one frame of shape {psi.shape}, photons, got {tuple(mean.shape)}")
        if bad_pixels is not None:
            trailing_shape(bad_pixels, psi.shape, "bad_pixels", "the camera grid")
        block = None if block is None else whole_number(block, "block", low=1)
        parts: list[Part] | None = None if like is None else like.moments.parts
        self.model, self.mean = model, mean
        self.trust = np.float32(real_number(trust, "trust", low=0))
        self.flicker = np.float32(1.0)
        self.moments: TiledMoments = TiledMoments(model, block=block, parts=parts, bad_pixels=bad_pixels, tuning=tuning)
        self.mean_weight = backend.xp.ones(psi.shape, dtype=np.float32)
        self.tiles, self.freedom = self.moments.recorded(frames.astype(np.float32, copy=False))

    @property
    def read_variance(self) -> np.float32:
        """Variance of the read noise, photons^2."""
        return self.moments.read_variance

    def _quadratic(self, tile: Tile, covariance: Array) -> Array:
        """W E W / 2: minus the critic's weights of products of two pixels."""
        return np.float32(0.5) * (tile.weight @ (covariance - tile.recorded) @ tile.weight)

    def update_weights(self, x: Array, b: Array) -> None:
        """Take the inverse of the covariance that x and b predict as W, and that of its detection noise as V, from now on.

        Parameters
        ----------
        x : (N1, N2) array, emissions per fine pixel and frame
        b : (M1, M2) array, photons per camera pixel and frame
        """
        light, covariances = self.moments.predicted(x, b, self.flicker)
        self.mean_weight = self.moments.detection_weight(light)
        for tile, covariance in zip(self.tiles, covariances):
            tile.weight = self.moments.inverse(tile.camera, covariance)

    def measure_flicker(self, x: Array, b: Array) -> None:
        r"""Measure :math:`\varphi`, the flicker of these frames in units of what x predicts, on pairs of different pixels.

        The weighted least squares fit of S to :math:`F = \Psi\,\mathrm{diag}(x)\,\Psi^T`, both without their diagonals, which
        are free of shot noise and read noise then, with :math:`1 \pm 1` known beforehand.  It absorbs an error of the photons
        per emission, and the flicker slower than a chunk of frames, which those frames do not show.

        Parameters
        ----------
        x : (N1, N2) array, emissions per fine pixel and frame
        b : (M1, M2) array, photons per camera pixel and frame
        """
        xp = self.model.backend.xp
        self.flicker = np.float32(1.0)
        recorded = predicted = 2.0 / self.freedom  # the variance of recorded / predicted is 2 / freedom / predicted
        for tile, pairs in zip(self.tiles, self.moments.predicted(x, b, self.flicker)[1]):
            weight = self.moments.inverse(tile.camera, pairs)
            diagonal = xp.arange(len(pairs))
            pairs[diagonal, diagonal] = 0
            weighted = weight @ pairs @ weight
            predicted += float((weighted * pairs).sum())
            weighted[diagonal, diagonal] = 0
            recorded += float((weighted * tile.recorded).sum())
        self.flicker = np.float32(max(recorded / predicted, 0.0))

    def flicker_share(self, x: Array) -> float:
        r"""Return the share of :math:`\varphi\,\Psi\mathrm{diag}(x)\Psi^T` in the variance of x's light (else shot noise).

        Parameters
        ----------
        x : (N1, N2) array, emissions per fine pixel and frame

        Returns
        -------
        float
            0 to 1; NaN without light.
        """
        psi = self.model.psi
        light = float(psi.forward(x).sum(dtype=np.float64))
        flicker = float(self.flicker) * float(psi.squared_forward(x).sum(dtype=np.float64))
        return flicker / (flicker + light) if light > 0 else math.nan

    def curvature(self, x: Array) -> tuple[Array, float]:
        r"""Return the second derivatives with respect to each pixel of x, nearly, and the largest one of b's.

        Of :math:`\tfrac\varrho2 r^T V r + \tfrac14 tr(W E W E)`: :math:`\varrho\, C_i^T V C_i + \varphi^2 a^2 / 2` with
        :math:`a = C_i^T W C_i` and :math:`\varrho` the weight of the mean.  The shot noise that an emission adds is left out.

        Parameters
        ----------
        x : (N1, N2) array
            Not used here: the value is quadratic.

        Returns
        -------
        of_x : (N1, N2) float32
            None below a millionth of the largest, so that a step may be divided by them.
        of_b : float
        """
        xp = self.model.backend.xp
        energy = self.moments.pull([tile.weight for tile in self.tiles])
        of_mean = self.trust * self.model.psi.squared_adjoint(self.mean_weight)
        of_x = of_mean + np.float32(0.5) * (self.flicker * energy) ** 2
        largest = max(float(xp.diagonal(tile.weight).max()) for tile in self.tiles)
        of_b = float(self.trust) * float(self.mean_weight.max()) + 0.5 * largest**2
        return xp.maximum(of_x, self.moments.tuning.least_curvature * of_x.max()), of_b

    def slope(self, x: Array, b: Array) -> tuple[Array, Array]:
        """Return the gradients of the value with respect to x and b.

        They are minus those of E[D], by eq. (12) with the optimal critic's weights.

        Parameters
        ----------
        x : (N1, N2) array, emissions per fine pixel and frame
        b : (M1, M2) array, photons per camera pixel and frame

        Returns
        -------
        slope_x, slope_b : (N1, N2) and (M1, M2) float32
            Per frame.
        """
        xp, quadratics = self.model.backend.xp, []
        light, covariances = self.moments.predicted(x, b, self.flicker)
        linear = self.trust * self.mean_weight * (light - self.mean)
        for tile, covariance in zip(self.tiles, covariances):
            quadratics.append(self._quadratic(tile, covariance))
            linear[tile.camera] += xp.diagonal(quadratics[-1]).reshape(linear[tile.camera].shape)
        return self.model.psi.adjoint(linear) + self.flicker * self.moments.pull(quadratics), linear

    def value(self, x: Array, b: Array, other: QuadraticCritic | None = None) -> CriticValue:
        r"""Return :math:`r^T V r / 2` and :math:`\mathrm{tr}(W E W E) / 4`, summed over the tiles.

        Parameters
        ----------
        x : (N1, N2) array, emissions per fine pixel and frame
        b : (M1, M2) array, photons per camera pixel and frame
        other : QuadraticCritic, optional
            A critic of other frames: the second r and the second E are theirs then.  The result is half of what this critic's
            score of those frames exceeds that of simulated ones by.  In expectation its covariance term is zero where x and b
            are right and this critic has not seen the frames; its mean term is only if ``mean`` is not of those frames too.

        Returns
        -------
        CriticValue
            A tuple (mean, covariance) of floats.
        """
        of_covariance, other = 0.0, self if other is None else other
        light, covariances = self.moments.predicted(x, b, self.flicker)
        weighted_residual = self.mean_weight * (light - self.mean)
        of_mean = 0.5 * float(self.trust) * float((weighted_residual * (light - other.mean)).sum(dtype=np.float64))
        for tile, covariance, other_tile in zip(self.tiles, covariances, other.tiles):
            weighted, other_weighted = (tile.weight @ (covariance - t.recorded) for t in (tile, other_tile))
            of_covariance += 0.25 * float((weighted * other_weighted.T).sum())
        return CriticValue(of_mean, of_covariance)

    def log_density(self, frames: Array, x: Array, b: Array) -> Array:
        """Return the Gaussian log density of each frame per pixel, without its constants.

        A proper score of x and b where the frames are others than those that they were fitted to.

        Parameters
        ----------
        frames : (S, M1, M2) array
            Photons.
        x : (N1, N2) array, emissions per fine pixel and frame
        b : (M1, M2) array, photons per camera pixel and frame

        Returns
        -------
        (S,) float64
            Nats per pixel.
        """
        xp = self.model.backend.xp
        total = xp.zeros(len(frames))
        light, covariances = self.moments.predicted(x, b, self.flicker)
        for tile, covariance in zip(self.tiles, covariances):
            residual = frames[(slice(None), *tile.camera)] - light[tile.camera]
            with self.model.backend.linalg_raises():
                factor = xp.linalg.cholesky(self.moments.invertible(tile.camera, covariance))
                whitened = xp.linalg.solve(factor, residual.reshape(len(frames), -1).astype(np.float64).T)
            total -= 0.5 * (whitened * whitened).sum(axis=0) + float(xp.log(xp.diagonal(factor)).sum())
        return total / self.mean.size
