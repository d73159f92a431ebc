"""Small scenes of many kinds whose transforms are reconstructed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import fluogan_core as fg

__all__ = ["FACTOR", "SCENES", "Scene"]

FACTOR = 2
#: Camera pixels without a structure along the border: a shift by up to three of them moves only dark pixels out and in.
MARGIN = 7


@dataclass(frozen=True)
class Scene:
    """Lines and spots, dark at the border, or points everywhere, recorded.

    Attributes
    ----------
    name : str
    side : int
        Camera pixels.
    frames : int
    photons : float
        Of a molecule that is on in a frame, or per emission.
    molecules : int
        On a line; 0 for single molecules on 2 % of the fine pixels, up to the border.
    duty : float
        Part of the frames in which a molecule is on; 0 for emissions that are Poisson in every frame.
    fwhm_nm : float
        Of the PSF, on camera pixels of 100 nm.
    seed : int
    """

    name: str
    side: int
    frames: int
    photons: float
    molecules: int
    duty: float
    fwhm_nm: float
    seed: int = 0

    @property
    def camera(self) -> fg.Camera:
        return fg.Camera(gain=2.0, offset=100.0, noise_std=2.0)

    def operator(self, given: bool = True) -> fg.Psi:
        """With the photons per emission, or without."""
        psf = fg.gaussian_psf(self.fwhm_nm, 100, FACTOR)
        photons = self.photons if given else 1.0
        return fg.Psi(psf, (self.side, self.side), FACTOR, photons_per_emitter=photons, backend="numpy")

    def recording(self) -> np.ndarray:
        """(frames, side, side) uint16."""
        rng, psi = np.random.default_rng(self.seed), self.operator()
        where = self._places(rng, psi.fine_shape)
        light = np.empty((self.frames, self.side, self.side))
        for number in range(self.frames):
            on = rng.random(len(where)) < self.duty if self.duty else rng.poisson(0.2, len(where))
            x = np.zeros(psi.fine_shape, np.float32)
            np.add.at(x, tuple(where.T), on.astype(np.float32))
            light[number] = psi.forward(x) + 5.0
        noise = rng.normal(0, 2, light.shape)
        return np.clip(np.rint(2.0 * rng.poisson(light) + 100 + noise), 0, 65535).astype(np.uint16)

    def _places(self, rng: np.random.Generator, fine_shape: tuple[int, int]) -> np.ndarray:
        """(molecules, 2) int, fine pixels."""
        if not self.molecules:
            return np.argwhere(rng.random(fine_shape) < 0.02)
        low, high = MARGIN * FACTOR, (self.side - MARGIN) * FACTOR
        places = [rng.integers(low, high, 2) for _ in range(3)]
        lines = [np.c_[np.full(self.molecules, p[0]), rng.integers(low, high, self.molecules)] for p in places[:2]]
        lines.append(np.c_[rng.integers(low, high, self.molecules), np.full(self.molecules, places[2][1])])
        return np.concatenate([*lines, rng.integers(low, high, (self.molecules // 4, 2))])


SCENES = (
    Scene("24 x 24, bright, blinking", 24, 120, 800.0, 12, 0.2, 250.0, 1),
    Scene("32 x 32, dim, blinking", 32, 160, 25.0, 25, 0.1, 280.0, 2),
    Scene("28 x 28, bright, double Poisson", 28, 100, 300.0, 20, 0.0, 300.0, 3),
    Scene("40 x 40, dim, double Poisson", 40, 120, 15.0, 40, 0.0, 250.0, 4),
    Scene("24 x 24, bright points, blinking", 24, 100, 300.0, 0, 0.3, 300.0, 5),
    Scene("24 x 24, brightest points, blinking", 24, 100, 1000.0, 0, 0.3, 300.0, 6),
)
