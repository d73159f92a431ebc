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
frames independent, else it is measured; :meth:`QuadraticCritic.explain_noise` adds to :math:`\sigma^2`).  Neither training nor
simulated frames are needed, and the gradient of eq. (12) has no sampling error: one more emission adds :math:`C_i` to the mean
and :math:`\mathrm{diag}(C_i) + \varphi\,C_i C_i^T` to the covariance.  The largest value is quadratic in x and b.

Fields larger than a window are covered with windows that overlap, each with a critic of its own whose W is faded towards the
window's edges: a composite likelihood (Varin, Reid and Firth 2011) in which covariances of neighbouring pixels count once,
wherever windows begin.

Why V and not W weighs the mean: the x that is sought is the light of the emissions that took place.  Given those, the mean
frame has detection noise only, and the covariance of the frames is still as expected, because the variance of a Poisson
variable estimates its mean.  With :math:`\Sigma_0` the model's own covariance the value is the expansion of the Gaussian
likelihood of mean and covariance given the emissions.  With W in place of V the flicker itself would count as uncertainty of
the light: molecules whose flicker is not that of the others would lose light to fit their covariance.
"""

from __future__ import annotations

import math
from weakref import WeakKeyDictionary

import numpy as np

from ..backend.arrays import backend_of
from ..backend.checks import real_number, trailing_shape, whole_number
from ..backend.kinds import any_kind
from ..backend.positive import whitened
from ..backend.products import product
from ..backend.threads import one_thread
from ..backend.typing import Array
from ..physics.forward import ForwardModel, forward_model
from ..physics.requirements import require
from ..physics.windows import Windows
from ..stack import stack_of_field
from ..tuning import DEFAULT, QuadraticCriticTuning
from .critic_value import CriticValue, Expansion, QuadraticCriticLike
from .moments import WindowMoments
from .second_derivative import second_derivative_of

__all__ = ["CriticValue", "QuadraticCritic", "QuadraticCriticLike"]


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
        Weight of the mean's term, 0 to 1e6: less than 1 where the mean frame is noisier than its fluctuations explain.
    window : int or Windows, optional
        Side of a window, camera pixels, or the windows (:mod:`fluogan_core.physics.windows`); that of ``tuning`` by default.
    like : QuadraticCritic, optional
        A critic of other frames with the same model and windows: what it holds of Psi is shared.
    bad_pixels : (M1, M2) bool on the host, optional
        Pixels that are given next to no weight.
    tuning : QuadraticCriticTuning, optional
        Numbers that were found by trial (:mod:`fluogan_core.tuning`).

    Attributes
    ----------
    moments : fluogan_core.critics.moments.WindowMoments
        The windows, and what x and b predict in them.
    recorded : (B, n, n) float32
        Covariance of the recorded frames in each window, photons^2.
    chosen : (K,) int64 on the host
        Numbers of the windows that take part: those where flicker adds to the variance of some pixel.
    variances : (M1, M2) float32
        Of the recorded frames, photons^2.
    weights : (K, n, n) float32
        W of each of them, photons^-2: the inverse of a predicted covariance, rows and columns times the window's amplitude.
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
        are fewer than two frames, or if ``trust`` is not within its range.

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

    @any_kind("frames", "mean", "bad_pixels", answers=False)
    def __init__(
        self,
        frames: Array,
        model: ForwardModel,
        mean: Array | None = None,
        *,
        trust: float = 1.0,
        window: int | Windows | None = None,
        like: QuadraticCritic | None = None,
        bad_pixels: np.ndarray | None = None,
        tuning: QuadraticCriticTuning = DEFAULT.quadratic_critic,
    ) -> None:
        psi, backend = forward_model(model).psi, model.backend
        require(psi, "covariance fit")
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
        window = window if window is None or isinstance(window, Windows) else whole_number(window, "window", low=1)
        self.model, self.mean = model, mean.astype(np.float32)
        self.trust = np.float32(real_number(trust, "trust", low=0, high=1e6))
        self.flicker = np.float32(1.0)
        if like is None:
            self.moments = WindowMoments(model, side=window, bad_pixels=bad_pixels, tuning=tuning)
            self._second = second_derivative_of(self.moments)
        else:
            self.moments, self._second = like.moments, like._second
        self.mean_weight = backend.xp.ones(psi.shape, dtype=np.float32)
        self.recorded, self.freedom = self.moments.recorded(frames.astype(np.float32, copy=False))
        self.variances = self.moments.image(self.moments.diagonal(self.recorded))
        self.chosen = np.arange(len(self.recorded))
        self.weights: Array | None = None
        self._around: Expansion | None = None

    @property
    def read_variance(self) -> np.float32:
        """Variance of the read noise, photons^2."""
        return self.moments.read_variance

    def _images(self, x: Array, b: Array) -> tuple[Array, Array]:
        """x and b in float32; ValueError unless they are one image each, since another shape could fit by broadcasting."""
        for image, shape, name in ((x, self.model.psi.fine_shape, "x"), (b, self.model.psi.shape, "b")):
            if (got := getattr(image, "shape", type(image).__name__)) != tuple(shape):
                raise ValueError(f"{name} must be one image of shape {tuple(shape)}, got {got}")
        return x.astype(np.float32, copy=False), b.astype(np.float32, copy=False)

    @any_kind("x", "b", answers=False)
    @one_thread()
    def update_weights(self, x: Array, b: Array) -> None:
        """Take the inverse of the covariance that x and b predict as W, and that of its detection noise as V, from now on.

        Windows without flicker are left out from now on, until the weights are updated again.

        Parameters
        ----------
        x : (N1, N2) array, emissions per fine pixel and frame
        b : (M1, M2) array, photons per camera pixel and frame
        """
        x, b = self._images(x, b)
        xp, moments = self.model.backend.xp, self.moments
        light = self.model.psi.forward(x) + b
        self.mean_weight = moments.detection_weight(light)
        self._trusted_weight = self.trust * self.mean_weight
        self.chosen = moments.lit(x, light, self.flicker)
        n = self.recorded.shape[1]
        self.weights = xp.empty((len(self.chosen), n, n), dtype=np.float32)
        self._around = Expansion(x.copy(), b.copy(), light, self.weights, WeakKeyDictionary())
        self._expand(self._around, self, update=True)
        self._second.update(self.weights, self.chosen, float(self.flicker))

    def _expansion(self, other: QuadraticCritic) -> Expansion:
        """Return where the weights are from, with the covariance term there against another critic's frames."""
        if self._around is None:
            raise RuntimeError("the critic has no weights yet; call update_weights(x, b) first")
        if other not in self._around.of_frames:
            self._expand(self._around, other)
        return self._around

    @one_thread()
    def _expand(self, around: Expansion, other: QuadraticCritic, *, update: bool = False) -> None:
        """Find the covariance term and its slopes where the weights are from; update the weights before, if asked to."""
        moments, backend = self.moments, self.model.backend
        of_x = backend.xp.zeros(self.model.psi.fine_shape, dtype=np.float32)
        of_light = backend.xp.zeros(self.model.psi.shape, dtype=np.float32)
        total, start = 0.0, 0
        for batch in moments.batches(self.chosen):
            covariances = moments.predicted(around.x, around.light, self.flicker, batch)
            weights = around.weights[start : start + len(batch)]
            start += len(batch)
            if update:
                weights[...] = moments.weights(covariances, batch)
            excess = covariances - other.recorded[number := backend.asarray(batch)]
            quadratics = np.float32(0.5) * product(product(weights, excess), weights)
            mine = excess if other is self else covariances - self.recorded[number]
            total += 0.5 * float((quadratics * mine).sum(dtype=np.float64))
            of_light += moments.gather(moments.diagonal(quadratics), batch)
            of_x += self.flicker * moments.flickering.pull(quadratics, batch)
        around.of_frames[other] = (of_x, of_light, total)

    @any_kind("x", "b", answers=False)
    @one_thread()
    def measure_flicker(self, x: Array, b: Array) -> None:
        r"""Measure :math:`\varphi` (:meth:`fluogan_core.critics.moments.WindowMoments.strength`).

        It absorbs an error of the photons per emission, and flicker slower than a chunk of frames, which they do not show.

        Parameters
        ----------
        x : (N1, N2) array, emissions per fine pixel and frame
        b : (M1, M2) array, photons per camera pixel and frame
        """
        x, b = self._images(x, b)
        light = self.model.psi.forward(x) + b
        self.chosen = self.moments.lit(x, light, np.float32(1.0))
        self.flicker = self.moments.strength(self.recorded, self.freedom, x, light, self.chosen)

    @any_kind("x", "b", answers=False)
    def explain_noise(self, x: Array, b: Array) -> None:
        """Find the variance that neither light, read noise nor flicker explains, for all critics that share the moments.

        Parameters
        ----------
        x : (N1, N2) array, emissions per fine pixel and frame
        b : (M1, M2) array, photons per camera pixel and frame
        """
        x, b = self._images(x, b)
        self.moments.explain(self.variances, x, self.model.psi.forward(x) + b, self.flicker)

    @any_kind("x", answers=False)
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

    @any_kind("x", "b")
    def slope(self, x: Array, b: Array) -> tuple[Array, Array]:
        """Return the gradients of the value with respect to x and b.

        They are minus those of E[D], by eq. (12) with the optimal critic's weights.  At the images of the last
        :meth:`update_weights` they are exact; elsewhere the second derivative is that of
        :class:`fluogan_core.critics.second_derivative.SecondDerivative`.

        Parameters
        ----------
        x : (N1, N2) array, emissions per fine pixel and frame
        b : (M1, M2) array, photons per camera pixel and frame

        Returns
        -------
        slope_x, slope_b : (N1, N2) and (M1, M2) float32
            Per frame.

        Raises
        ------
        RuntimeError
            If the critic has no weights yet.
        ValueError
            If x or b is of another shape.
        """
        x, b = self._images(x, b)
        psi, around = self.model.psi, self._expansion(self)
        change = x - around.x
        light = psi.forward(change) + (b - around.b)
        of_x, of_light, _ = around.of_frames[self]
        more_of_x, more_of_light = self._second.slope(change, light)
        weight, kernel = self._trusted_weight, self.model.backend.kernel("mean_slope")
        if kernel is None:
            linear = weight * (around.light + light - self.mean) + of_light + more_of_light
        else:
            linear = kernel(weight, around.light, light, self.mean, of_light, more_of_light)
        return psi.adjoint(linear) + of_x + more_of_x, linear

    @any_kind("x", "b", answers=False)
    def value(self, x: Array, b: Array, other: QuadraticCritic | None = None) -> CriticValue:
        r"""Return :math:`r^T V r / 2` and :math:`\mathrm{tr}(W E W E) / 4`, summed over the windows.

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

        Raises
        ------
        RuntimeError
            If the critic has no weights yet.
        ValueError
            If x or b is of another shape.
        """
        x, b = self._images(x, b)
        other = self if other is None else other
        self._expansion(self)
        around = self._expansion(other)
        mine, theirs = around.of_frames[self], around.of_frames[other]
        change, of_covariance = x - around.x, theirs[2]
        light = self.model.psi.forward(change) + (b - around.b)
        for at, more, own, others in zip((change, light), self._second.slope(change, light), mine, theirs):
            of_covariance += 0.5 * float(((own + others + more) * at).sum(dtype=np.float64))
        residual = around.light + light
        weighted = self.mean_weight * (residual - self.mean)
        of_mean = 0.5 * float(self.trust) * float((weighted * (residual - other.mean)).sum(dtype=np.float64))
        return CriticValue(of_mean, of_covariance)

    @any_kind("frames", "x", "b")
    def log_density(self, frames: Array, x: Array, b: Array) -> Array:
        """Return the Gaussian log density of each frame per pixel, without its constants: the mean over all windows.

        A proper score of x and b where the frames are others than those that they were fitted to.

        Parameters
        ----------
        frames : (S, M1, M2) or (M1, M2) array
            Photons.
        x : (N1, N2) array, emissions per fine pixel and frame
        b : (M1, M2) array, photons per camera pixel and frame

        Returns
        -------
        (S,) float64
            Nats per pixel.

        Raises
        ------
        numpy.linalg.LinAlgError
            If what x and b predict is no covariance.
        """
        x, b = self._images(x, b)
        trailing_shape(frames, self.model.psi.shape, "frames", "the camera grid")
        backend, moments, total = self.model.backend, self.moments, np.float64(0.0)
        residuals = (frames - (light := self.model.psi.forward(x) + b)).reshape(-1, light.size)
        for batch in moments.batches(np.arange(len(self.recorded))):
            covariances = moments.predicted(x, light, self.flicker, batch)
            for number, covariance in zip(batch, moments.invertible(covariances, batch)):
                mine = residuals[:, moments.pixels[int(number)]].astype(np.float64).T
                white, log_root = whitened(covariance, mine, backend)
                total -= 0.5 * (white * white).sum(axis=0) + log_root
        return total / moments.windows.pixels.size
