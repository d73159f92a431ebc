r"""The witness of mean and covariance: of all quadratic critics the best one, in closed form.

Let the critic be a linear function of a frame plus a quadratic one of the difference of two frames, in which the mean
cancels, both measured where frames of moments :math:`\mu_0, \Sigma_0` are white (:math:`W = \Sigma_0^{-1}`):

.. math:: D(y, y') = v^T W^{1/2} y + \tfrac14\,(y - y')^T W^{1/2} M W^{1/2} (y - y').

What it tells recorded frames from simulated ones by, :math:`E[D_{real}] - E[D_{sim}]` less the penalty
:math:`\tfrac12\|v\|^2 + \tfrac14\|M\|_F^2`, is largest at

.. math:: v = -W^{1/2} r, \qquad M = -W^{1/2} E W^{1/2}, \qquad
          \max = \tfrac12\, r^T W r + \tfrac14\,\mathrm{tr}(W E W E), \qquad r = \mu - \bar y,\quad E = \Sigma - S,

with :math:`\bar y, S` the mean and covariance of the recorded frames and

.. math:: \mu = \Psi x + b, \qquad \Sigma = \mathrm{diag}(\mu + \sigma^2) + \varphi\,\Psi\,\mathrm{diag}(x)\,\Psi^T

those of the simulated ones (photons; epsilon left out; :math:`\varphi` is 1 where photons per emission are right and frames
independent, else measured).  No step of Adam and no simulated frame is needed to know it, and eq. (12) has no error: one more
emission adds :math:`C_i` to the mean and :math:`\mathrm{diag}(C_i) + \varphi\,C_i C_i^T` to the covariance.  The largest value
is quadratic in x and b; with :math:`\Sigma_0` the model's own covariance it is the expansion of the Gaussian likelihood of mean
and covariance.  Large fields are cut into tiles, each with a critic of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..physics.covariance import Part, parts_of
from ..physics.forward import ForwardModel

__all__ = ["QuadraticCritic"]

#: Frames whose own mean is taken off before covariances are formed: bleaching and drift are slower.
_CHUNK = 25
#: Variance that every pixel is given when covariances are inverted, in units of the mean pixel's.
_DARK = 1e-3
#: The same of pixels that are not looked at: W is next to nothing there.
_UNKNOWN = 1e9


@dataclass(eq=False)
class Tile:
    """A rectangle of the camera with n pixels.

    Attributes
    ----------
    camera : (slice, slice)
    recorded : (n, n) float32
        Covariance of the recorded frames, photons^2.
    weight : (n, n) float32
        W.
    """

    camera: tuple[slice, slice]
    recorded: Any
    weight: Any


class QuadraticCritic:
    """Mean and covariance of recorded frames against those that x and b predict.

    Parameters
    ----------
    frames : (T, M1, M2) float32
        Recorded counts above the offset, on the model's backend; at least two.
    model : ForwardModel
    mean : (M1, M2) float32
        The mean frame, photons.
    trust : float
        Weight of the mean: less than 1 where its frame is noisier than fluctuations explain.
    block : int, optional
        Side of a tile, camera pixels; by default 16, or 8 where the PSF is no product of two lines and pairs cost more.
    like : QuadraticCritic, optional
        Of other frames and the same model: what it holds of Psi is shared.
    bad_pixels : (M1, M2) bool on the host, optional
        Pixels that are not looked at.

    Attributes
    ----------
    tiles : list of Tile
    flicker : float32
        :math:`\varphi`, flicker in those frames in units of what psi's photons per emission say; 1 before
        :meth:`measure_flicker`.
    """

    def __init__(
        self,
        frames: Any,
        model: ForwardModel,
        mean: Any,
        *,
        trust: float = 1.0,
        block: int | None = None,
        like: QuadraticCritic | None = None,
        bad_pixels: np.ndarray | None = None,
    ) -> None:
        self.model, self.mean = model, mean
        self.trust = np.float32(trust)
        xp, psi = model.backend.xp, model.psi
        self.read_noise = np.float32((model.noise_std / model.gain) ** 2)
        bounds = np.linspace(0, len(frames), max(1, len(frames) // _CHUNK) + 1).round().astype(int)
        chunks = [frames[start:stop] for start, stop in pairwise(bounds)]
        apart = xp.concatenate([chunk - chunk.mean(axis=0) for chunk in chunks]) / np.float32(model.gain)
        self.freedom = len(frames) - len(chunks)
        self.flicker = np.float32(1.0)
        self.bad_pixels = None if bad_pixels is None or not bad_pixels.any() else xp.asarray(bad_pixels, dtype=np.float64)
        self.parts: list[Part] = parts_of(psi, block) if like is None else like.parts
        self.tiles = []
        for camera in (camera for part in self.parts for camera in part.cameras):
            y = apart[(slice(None), *camera)].reshape(len(apart), -1)
            self.tiles.append(Tile(camera, y.T @ y / np.float32(self.freedom), xp.eye(y.shape[1], dtype=np.float32)))

    def _predicted(self, x: Any, b: Any) -> tuple[Any, Iterator[tuple[Tile, Any]]]:
        """Mean of the photons (M1, M2), and every tile with their covariance (n, n)."""
        light = self.model.psi.forward(x) + b

        def covariances() -> Iterator[tuple[Tile, Any]]:
            each = iter(self.tiles)
            for part in self.parts:
                for pairs in part.pairs(x[part.fine]):
                    tile, covariance = next(each), self.flicker * pairs
                    on = self.model.backend.xp.arange(len(covariance))
                    covariance[on, on] += light[tile.camera].ravel() + self.read_noise
                    yield tile, covariance

        return light, covariances()

    def _pulled(self, quadratics: list[Any]) -> Any:
        """C_i^T Q C_i for every fine pixel i, (N1, N2), each tile with a Q of its own."""
        image, start = self.model.backend.xp.zeros(self.model.psi.fine_shape, dtype=np.float32), 0
        for part in self.parts:
            image[part.fine] += part.pull(quadratics[start : start + len(part.cameras)])
            start += len(part.cameras)
        return image

    def _precise(self, tile: Tile, covariance: Any) -> Any:
        """The predicted covariance in float64, fit to be inverted: no pixel is so dark that it outweighs all others."""
        xp = self.model.backend.xp
        covariance = covariance.astype(np.float64)
        on = xp.arange(len(covariance))
        typical = float(xp.diagonal(covariance).mean())
        covariance[on, on] += _DARK * typical + 1e-12
        if self.bad_pixels is not None:
            covariance[on, on] += _UNKNOWN * typical * self.bad_pixels[tile.camera].ravel()
        return covariance

    def _quadratic(self, tile: Tile, covariance: Any) -> Any:
        """W E W / 2: minus the critic's weights of products of two pixels."""
        return np.float32(0.5) * (tile.weight @ (covariance - tile.recorded) @ tile.weight)

    def believe(self, x: Any, b: Any) -> None:
        """From now on measure where frames of x and b are white: W is the inverse of their covariance."""
        for tile, covariance in self._predicted(x, b)[1]:
            tile.weight = self.model.backend.xp.linalg.inv(self._precise(tile, covariance)).astype(np.float32)

    def measure_flicker(self, x: Any, b: Any) -> None:
        r"""Measure :math:`\varphi`, the flicker of these frames in units of what x predicts, on pairs of different pixels.

        The weighted least squares of S on :math:`F = \Psi\,\mathrm{diag}(x)\,\Psi^T` without their diagonals, which are free of
        shot noise and read noise, as :math:`1 \pm 1` before the frames are looked at.  It takes up what photons per emission
        are misjudged by, and what stretches of a few frames do not show of a flicker that is as slow.
        """
        xp = self.model.backend.xp
        self.flicker = np.float32(1.0)
        shown = predicted = 2.0 / self.freedom  # the variance of shown / predicted is 2 / freedom / predicted
        for tile, pairs in self._predicted(x, b)[1]:
            weight = xp.linalg.inv(self._precise(tile, pairs)).astype(np.float32)
            on = xp.arange(len(pairs))
            pairs[on, on] = 0
            pulled = weight @ pairs @ weight
            predicted += float((pulled * pairs).sum())
            pulled[on, on] = 0
            shown += float((pulled * tile.recorded).sum())
        self.flicker = np.float32(max(shown / predicted, 0.0))

    def flicker_share(self, x: Any) -> float:
        r"""Return the share of :math:`\varphi\,\Psi\mathrm{diag}(x)\Psi^T` in the variance of x's light, shot noise the rest.

        NaN without light.
        """
        psi = self.model.psi
        light = float(psi.forward(x).sum(dtype=np.float64))
        flicker = float(self.flicker) * float(psi.squared_forward(x).sum(dtype=np.float64))
        return flicker / (flicker + light) if light > 0 else math.nan

    def curvature(self, x: Any) -> tuple[Any, float]:
        r"""Return the second derivatives with respect to each pixel of x, (N1, N2), nearly, and the largest of b's.

        Of :math:`\tfrac12 r^T W r + \tfrac14 tr(W E W E)`: :math:`a + \varphi^2 a^2 / 2` with :math:`a = C_i^T W C_i`, the
        shot noise that an emission adds left out, and none below a millionth of the largest.
        """
        xp = self.model.backend.xp
        own = self._pulled([tile.weight for tile in self.tiles])
        of_x = own + np.float32(0.5) * (self.flicker * own) ** 2
        own_b = max(float(xp.diagonal(tile.weight).max()) for tile in self.tiles)
        of_b = own_b + 0.5 * own_b**2
        return xp.maximum(of_x, 1e-6 * of_x.max()), of_b

    def slope(self, x: Any, b: Any) -> tuple[Any, Any]:
        """Return the gradients with respect to x and b of the best critic's value, (N1, N2) and (M1, M2), per frame.

        They are minus those of E[D], by eq. (12) with the best critic's weights.
        """
        xp, quadratics = self.model.backend.xp, []
        light, covariances = self._predicted(x, b)
        off, linear = light - self.mean, xp.empty_like(light)
        for tile, covariance in covariances:
            quadratics.append(self._quadratic(tile, covariance))
            here = self.trust * (tile.weight @ off[tile.camera].ravel()) + xp.diagonal(quadratics[-1])
            linear[tile.camera] = here.reshape(off[tile.camera].shape)
        return self.model.psi.adjoint(linear) + self.flicker * self._pulled(quadratics), linear

    def value(self, x: Any, b: Any, other: QuadraticCritic | None = None) -> tuple[float, float]:
        r"""Return :math:`r^T W r / 2` and :math:`\mathrm{tr}(W E W E) / 4`, summed over tiles.

        With ``other``, a witness of other frames, the second r and E are theirs: half of what this critic, as it is, tells
        those frames from simulated ones by.  In expectation the second is nought for frames that this critic has not seen,
        where x and b are right; the first is only if ``mean`` is not of those frames too.
        """
        of_mean = of_covariance = 0.0
        other = self if other is None else other
        light, covariances = self._predicted(x, b)
        for (tile, covariance), theirs in zip(covariances, other.tiles):
            off, other_off = ((light - witness.mean)[tile.camera].ravel() for witness in (self, other))
            of_mean += 0.5 * float(self.trust) * float(off @ tile.weight @ other_off)
            pulled, other_pulled = (tile.weight @ (covariance - t.recorded) for t in (tile, theirs))
            of_covariance += 0.25 * float((pulled * other_pulled.T).sum())
        return of_mean, of_covariance

    def log_density(self, frames: Any, x: Any, b: Any) -> Any:
        """Return the Gaussian log density of each frame (S, M1, M2) of photons, per pixel and constants apart, (S,) float64.

        A proper score of x and b where the frames are others than those that they were fitted to.
        """
        xp = self.model.backend.xp
        total = xp.zeros(len(frames))
        light, covariances = self._predicted(x, b)
        for tile, covariance in covariances:
            off = frames[(slice(None), *tile.camera)] - light[tile.camera]
            factor = xp.linalg.cholesky(self._precise(tile, covariance))
            whitened = xp.linalg.solve(factor, off.reshape(len(frames), -1).astype(np.float64).T)
            total -= 0.5 * (whitened * whitened).sum(axis=0) + float(xp.log(xp.diagonal(factor)).sum())
        return total / self.mean.size
