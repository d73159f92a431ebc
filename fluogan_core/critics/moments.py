"""Mean and covariance of frames, in windows of the camera: those of recorded frames, and those that x and b predict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np

from ..backend.positive import inverses
from ..backend.products import product
from ..backend.threads import one_thread
from ..backend.typing import Array
from ..physics.covariance import WindowCovariances
from ..physics.entries import EntryCovariances
from ..physics.forward import ForwardModel
from ..physics.requirements import has_table
from ..physics.windows import Windows, windows_of
from ..tuning import DEFAULT, QuadraticCriticTuning

if TYPE_CHECKING:
    from ..physics.operator import Operator

__all__ = ["WindowMoments"]


class WindowMoments:
    r"""Mean and covariances of the photons per frame, :math:`\mu = \Psi x + b` and, for each window,

    .. math:: \Sigma = \mathrm{diag}(\mu + \sigma^2 + e) + \varphi\,\Psi\,\mathrm{diag}(x)\,\Psi^T.

    Parameters
    ----------
    model : ForwardModel
    side : int or Windows, optional
        Of a window, camera pixels, or the windows themselves; that of ``tuning`` by default.
    bad_pixels : (M1, M2) bool on the host, optional
        Pixels that are given next to no weight.
    tuning : QuadraticCriticTuning, optional

    Attributes
    ----------
    windows : fluogan_core.physics.windows.Windows
    flickering : WindowCovariances or EntryCovariances
        The map of x to the covariances that its flicker causes: from the table of Psi, or from the entries of an operator of
        the user's own.
    amplitude : (B, n) float32
        Weight of each pixel in each window.
    pixels : (B, n) int64
        Flat camera pixels of the windows.
    read_variance : float32
        Variance of the read noise, photons^2.
    extra_variance : float32
        Variance of every pixel that nothing in the model explains, photons^2; 0 before :meth:`explain`.
    """

    def __init__(
        self,
        model: ForwardModel,
        *,
        side: int | Windows | None = None,
        bad_pixels: np.ndarray | None = None,
        tuning: QuadraticCriticTuning = DEFAULT.quadratic_critic,
    ) -> None:
        self.model, self.tuning, asarray = model, tuning, model.backend.asarray
        self.read_variance, self.extra_variance = np.float32((model.noise_std / model.gain) ** 2), np.float32(0.0)
        bad = None if bad_pixels is None or not bad_pixels.any() else bad_pixels
        self.bad_pixels = None if bad is None else asarray(bad, dtype=np.float64)
        self.windows = side if isinstance(side, Windows) else windows_of(model.psi.shape, side or tuning.window)
        self.flickering: WindowCovariances | EntryCovariances = (
            WindowCovariances(model.psi, self.windows)
            if has_table(model.psi)
            else EntryCovariances(cast("Operator", model.psi), self.windows)
        )
        self.amplitude = asarray(self.windows.amplitude, dtype=np.float32)
        self.pixels = asarray(self.windows.pixels)
        self._diagonal = model.backend.xp.arange(self.windows.pixels.shape[1])

    @one_thread()
    def recorded(self, frames: Array) -> tuple[Array, int]:
        """Return the covariances of recorded frames (T, M1, M2), counts, (B, n, n) float32, and their degrees of freedom.

        The mean of every chunk of frames is subtracted from it, because bleaching and drift are slower than a chunk.
        """
        xp, length = self.model.backend.xp, self.tuning.frames_per_chunk
        bounds = np.linspace(0, len(frames), max(1, len(frames) // length) + 1).round().astype(int)
        chunks = [frames[start:stop] for start, stop in pairwise(bounds)]
        centred = xp.concatenate([chunk - chunk.mean(axis=0) for chunk in chunks]) / np.float32(self.model.gain)
        centred = centred.reshape(len(centred), -1)
        freedom = len(frames) - len(chunks)
        found = xp.empty((*self.pixels.shape, self.pixels.shape[1]), dtype=np.float32)
        for number, pixels in enumerate(self.pixels):
            y = centred[:, pixels]
            found[number] = product(y.T, y) / np.float32(freedom)
        return found, freedom

    @property
    def dark_variance(self) -> np.float32:
        """Variance of a pixel without light, photons^2."""
        return np.float32(self.read_variance + self.extra_variance)

    def explain(self, variances: Array, x: Array, light: Array, flicker: np.float32, where: Array | None = None) -> None:
        """Set the extra variance to what recorded variances exceed by what x and its light explain.

        A mean over the pixels, weighted by one over the square of what is predicted: pixels noisier than the one read noise of
        the camera, or a background that flickers.  A fit that does not know it explains it by the shot noise of more
        background, and takes that light from the molecules.

        Parameters
        ----------
        variances : (M1, M2) float32
            Of the recorded frames, photons^2.
        x : (N1, N2) float32
        light : (M1, M2) float32
            The mean frame, photons.
        flicker : float32
        where : (M1, M2) float32, optional
            Weight of pixels.
        """
        self.extra_variance = np.float32(0.0)
        predicted = light + np.float32(flicker) * self.model.psi.squared_forward(x)
        weights = self.detection_weight(predicted).astype(np.float64) ** 2
        weights = weights if where is None else weights * where
        left = float((weights * (variances - predicted - self.read_variance)).sum()) / float(weights.sum())
        self.extra_variance = np.float32(max(left, -float(self.read_variance)))

    def lit(self, x: Array, light: Array, flicker: np.float32) -> np.ndarray:
        """Return the numbers of the windows where flicker adds to the variance of some pixel."""
        variance = light + self.dark_variance
        share = np.float32(flicker) * self.model.psi.squared_forward(x) > np.float32(self.tuning.dark) * variance
        return np.flatnonzero(self.model.backend.to_host(share.ravel()[self.pixels].any(axis=1)))

    def batches(self, chosen: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """Cut a list of windows into batches that fit into the memory that ``tuning`` allows."""
        chosen = np.asarray(chosen, dtype=np.int64)
        each = 4 * (8 * self.pixels.shape[1] ** 2 + 2 * self.flickering.reached)
        on_card = self.model.backend.cuda is not None
        size = max(1, (self.tuning.batch_bytes if on_card else self.tuning.batch_bytes_cpu) // each)
        for start in range(0, len(chosen), size):
            yield chosen[start : start + size]

    def take(self, image: Array, chosen: np.ndarray) -> Array:
        """Return an image's pixels in some windows, (B, n)."""
        return image.ravel()[self.pixels[self.model.backend.asarray(chosen)]]

    def gather(self, values: Array, chosen: np.ndarray) -> Array:
        """Return the adjoint of :meth:`take`: (B, n) added up at their pixels, (M1, M2) float32."""
        xp, shape = self.model.backend.xp, self.model.psi.shape
        pixels = self.pixels[self.model.backend.asarray(chosen)]
        total = xp.bincount(pixels.ravel(), weights=values.ravel(), minlength=shape[0] * shape[1])
        return total.reshape(shape).astype(np.float32)

    def strength(self, recorded: Array, freedom: int, x: Array, light: Array, chosen: np.ndarray) -> np.float32:
        r"""Return :math:`\varphi` of recorded covariances S in some windows, fitted on pairs of different pixels.

        The weighted least squares fit of S to :math:`F = \Psi\,\mathrm{diag}(x)\,\Psi^T`, both without their diagonals, which
        are free of shot noise and read noise then, with :math:`1 \pm 1` known beforehand.

        Parameters
        ----------
        recorded : (B, n, n) float32
            S in all windows, photons^2.
        freedom : int
            Its degrees of freedom.
        x : (N1, N2) float32
        light : (M1, M2) float32
            The mean frame, photons.
        chosen : (K,) int64 on the host

        Returns
        -------
        float32
        """
        found = expected = 2.0 / freedom  # the variance of found / expected is 2 / freedom / expected
        for batch in self.batches(chosen):
            covariances = self.predicted(x, light, np.float32(1.0), batch)
            weights, pairs = self.weights(covariances, batch), self.without_diagonal(covariances)
            weighted = product(product(weights, pairs), weights)
            expected += float((weighted * pairs).sum(dtype=np.float64))
            mine = recorded[self.model.backend.asarray(batch)]
            found += float((self.without_diagonal(weighted) * mine).sum(dtype=np.float64))
        return np.float32(max(found / expected, 0.0))

    def image(self, values: Array) -> Array:
        """Return the mean of what all windows say of a pixel: (B, n) as (M1, M2) float32."""
        everywhere = np.arange(len(self.windows.pixels))
        return self.gather(values, everywhere) / self.gather(self.model.backend.xp.ones_like(values), everywhere)

    def predicted(self, x: Array, light: Array, flicker: np.float32, chosen: np.ndarray) -> Array:
        """Return the covariances in some windows at a mean frame of ``light``, (B, n, n) float32."""
        covariances = np.float32(flicker) * self.flickering.pairs(x, chosen)
        covariances[:, self._diagonal, self._diagonal] += self.take(light, chosen) + self.dark_variance
        return covariances

    def diagonal(self, matrices: Array) -> Array:
        """Return the diagonals of matrices (B, n, n), (B, n)."""
        return matrices[:, self._diagonal, self._diagonal]

    def without_diagonal(self, matrices: Array) -> Array:
        """Return a copy of matrices (B, n, n) with nothing on their diagonals."""
        copy = matrices.copy()
        copy[:, self._diagonal, self._diagonal] = 0
        return copy

    def invertible(self, covariances: Array, chosen: np.ndarray) -> Array:
        """Return predicted covariances in float64 with a floor under their variances, so that no dark pixel dominates."""
        covariances = covariances.astype(np.float64)
        typical = self.diagonal(covariances).mean(axis=1, keepdims=True)
        floor = self.tuning.variance_floor * typical + 1e-12
        if self.bad_pixels is not None:
            floor = floor + self.tuning.bad_pixel_variance * typical * self.take(self.bad_pixels, chosen)
        covariances[:, self._diagonal, self._diagonal] += floor
        return covariances

    def detection_weight(self, light: Array) -> Array:
        """Return one over the variance of the detection noise at a mean of ``light``, (M1, M2) float32, with the same floor."""
        variance = light.astype(np.float64) + float(self.dark_variance)
        typical = float(variance.mean())
        variance = variance + (self.tuning.variance_floor * typical + 1e-12)
        if self.bad_pixels is not None:
            variance = variance + self.tuning.bad_pixel_variance * typical * self.bad_pixels
        return (1.0 / variance).astype(np.float32)

    def weights(self, covariances: Array, chosen: np.ndarray) -> Array:
        """Return W, the inverse of predicted covariances, each row and column times the window's amplitude, float32."""
        backend = self.model.backend
        found = inverses(self.invertible(covariances, chosen), backend).astype(np.float32)
        fade = self.amplitude[backend.asarray(chosen)]
        return found * fade[:, :, None] * fade[:, None, :]
