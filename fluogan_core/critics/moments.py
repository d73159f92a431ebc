"""Mean and covariance of frames, by tiles of the camera: those of recorded frames, and those that x and b predict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..backend.typing import Array
from ..physics.covariance import Part, Window, parts_of
from ..physics.forward import ForwardModel
from ..tuning import DEFAULT, QuadraticCriticTuning

__all__ = ["Tile", "TiledMoments"]


@dataclass(eq=False)
class Tile:
    """A rectangle of the camera with n pixels.

    Attributes
    ----------
    camera : (slice, slice)
        Its rows and columns.
    recorded : (n, n) float32
        Covariance of the recorded frames, photons^2.
    weight : (n, n) float32
        W, the inverse of a predicted covariance, photons^-2.
    """

    camera: Window
    recorded: Array
    weight: Array


class TiledMoments:
    r"""Mean and covariances of the photons per frame, :math:`\mu = \Psi x + b` and, for each tile,

    .. math:: \Sigma = \mathrm{diag}(\mu + \sigma^2) + \varphi\,\Psi\,\mathrm{diag}(x)\,\Psi^T.

    Parameters
    ----------
    model : ForwardModel
    block : int, optional
        Side of a tile, camera pixels.
    parts : list of Part, optional
        Those of the same Psi and block, to be shared.
    bad_pixels : (M1, M2) bool on the host, optional
        Pixels that are given next to no weight.
    tuning : QuadraticCriticTuning, optional

    Attributes
    ----------
    parts : list of Part
        Groups of tiles that are computed together.
    cameras : list of (slice, slice)
        The tiles.
    read_variance : float32
        Variance of the read noise, photons^2.
    """

    def __init__(
        self,
        model: ForwardModel,
        *,
        block: int | None = None,
        parts: list[Part] | None = None,
        bad_pixels: np.ndarray | None = None,
        tuning: QuadraticCriticTuning = DEFAULT.quadratic_critic,
    ) -> None:
        self.model, self.tuning = model, tuning
        self.read_variance = np.float32((model.noise_std / model.gain) ** 2)
        xp = model.backend.xp
        self.bad_pixels = None if bad_pixels is None or not bad_pixels.any() else xp.asarray(bad_pixels, dtype=np.float64)
        self.parts = parts_of(model.psi, block) if parts is None else parts
        self.cameras: list[Window] = [camera for part in self.parts for camera in part.cameras]

    def recorded(self, frames: Array) -> tuple[list[Tile], int]:
        """Return the tiles with the covariances of recorded frames (T, M1, M2), counts, and their degrees of freedom.

        The mean of every chunk of frames is subtracted from it, because bleaching and drift are slower than a chunk.
        """
        xp, length = self.model.backend.xp, self.tuning.frames_per_chunk
        bounds = np.linspace(0, len(frames), max(1, len(frames) // length) + 1).round().astype(int)
        chunks = [frames[start:stop] for start, stop in pairwise(bounds)]
        centred = xp.concatenate([chunk - chunk.mean(axis=0) for chunk in chunks]) / np.float32(self.model.gain)
        freedom = len(frames) - len(chunks)
        found = []
        for camera in self.cameras:
            y = centred[(slice(None), *camera)].reshape(len(centred), -1)
            found.append(Tile(camera, y.T @ y / np.float32(freedom), xp.eye(y.shape[1], dtype=np.float32)))
        return found, freedom

    def predicted(self, x: Array, b: Array, flicker: np.float32) -> tuple[Array, Iterator[Array]]:
        """Return the mean (M1, M2), and an iterator over the tiles' covariances (n, n), in the order of ``cameras``."""
        light = self.model.psi.forward(x) + b

        def covariances() -> Iterator[Array]:
            for part in self.parts:
                for camera, pairs in zip(part.cameras, part.pairs(x[part.fine])):
                    covariance = flicker * pairs
                    diagonal = self.model.backend.xp.arange(len(covariance))
                    covariance[diagonal, diagonal] += light[camera].ravel() + self.read_variance
                    yield covariance

        return light, covariances()

    def pull(self, quadratics: list[Array]) -> Array:
        """Return C_i^T Q C_i for every fine pixel i, (N1, N2), with a Q (n, n) for each tile."""
        image, start = self.model.backend.xp.zeros(self.model.psi.fine_shape, dtype=np.float32), 0
        for part in self.parts:
            image[part.fine] += part.pull(quadratics[start : start + len(part.cameras)])
            start += len(part.cameras)
        return image

    def invertible(self, camera: Window, covariance: Array) -> Array:
        """Return a predicted covariance in float64 with a floor under its variances, so that no dark pixel dominates."""
        xp = self.model.backend.xp
        covariance = covariance.astype(np.float64)
        diagonal = xp.arange(len(covariance))
        typical = float(xp.diagonal(covariance).mean())
        covariance[diagonal, diagonal] += self.tuning.variance_floor * typical + 1e-12
        if self.bad_pixels is not None:
            covariance[diagonal, diagonal] += self.tuning.bad_pixel_variance * typical * self.bad_pixels[camera].ravel()
        return covariance

    def detection_weight(self, light: Array) -> Array:
        """Return one over the variance of the detection noise at a mean of ``light``, (M1, M2) float32, with the same floor."""
        variance = light.astype(np.float64) + float(self.read_variance)
        typical = float(variance.mean())
        variance = variance + (self.tuning.variance_floor * typical + 1e-12)
        if self.bad_pixels is not None:
            variance = variance + self.tuning.bad_pixel_variance * typical * self.bad_pixels
        return (1.0 / variance).astype(np.float32)

    def inverse(self, camera: Window, covariance: Array) -> Array:
        """Return W, the inverse of a predicted covariance, (n, n) float32."""
        backend = self.model.backend
        with backend.linalg_raises():
            return backend.xp.linalg.inv(self.invertible(camera, covariance)).astype(np.float32)
