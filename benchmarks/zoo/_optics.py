"""Spots: what a point source leaves in each camera pixel.  PSFs come from a pupil or are Gaussian; pixels integrate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from ._plan import Scene

__all__ = ["Spots", "make_spots"]

#: Samples per camera pixel: odd, so that a pixel has a middle sample.
_OVER = 9
#: Samples along a side of the grid on which a PSF is computed.
_GRID = 1024
#: FWHM of an Airy PSF in units of wavelength / NA.
AIRY_FWHM = 0.514


@dataclass(frozen=True, eq=False)
class Spots:
    """A PSF with _OVER samples per camera pixel, sum 1.

    Attributes
    ----------
    psf : (n, n) float64, n odd
        Centred on the middle sample.
    """

    psf: np.ndarray

    @cached_property
    def in_pixels(self) -> np.ndarray:
        """The light in a camera pixel whose centre lies at each sample."""
        # the filter's running sums leave rounding errors below zero
        return np.maximum(ndimage.uniform_filter(self.psf, _OVER, mode="constant") * _OVER**2, 0.0)

    @cached_property
    def fwhm(self) -> float:
        """Diameter of a disc as large as what is above half of the maximum, camera pixels."""
        fine = ndimage.zoom(self.psf, 3, order=3)
        return float(2 * np.sqrt((fine > 0.5 * fine.max()).sum() / np.pi) / (3 * _OVER))

    def table(self, at: np.ndarray, size: int) -> np.ndarray:
        """Share of the light of each source in each pixel, (n, size, size) float32; ``at`` in camera pixels."""
        middle = len(self.psf) // 2
        centres = np.arange(size) + 0.5
        rows = (centres - at[:, :1]) * _OVER + middle
        columns = (centres - at[:, 1:]) * _OVER + middle
        shape = (len(at), size, size)
        places = [np.broadcast_to(rows[:, :, None], shape), np.broadcast_to(columns[:, None, :], shape)]
        return ndimage.map_coordinates(self.in_pixels, places, order=1, mode="constant").astype(np.float32)


def make_spots(scene: Scene, rng: np.random.Generator) -> Spots:
    """The PSF of a scene."""
    width = scene.fwhm_nm / scene.pixel_nm * _OVER
    if scene.psf == "Gaussian":
        # as far as an Airy PSF is kept
        half = int(np.ceil(4 * width))
        line = np.exp(-4 * np.log(2) * (np.arange(-half, half + 1) / width) ** 2)
        return Spots(np.outer(line, line) / line.sum() ** 2)
    waves = np.zeros(5)
    if scene.psf == "aberrated":
        waves = rng.normal(size=5)
        waves *= rng.uniform(0.04, 0.08) / np.linalg.norm(waves)
    return Spots(_cut(_from_pupil(width, waves), width))


def _from_pupil(width: float, waves: np.ndarray) -> np.ndarray:
    """Intensity of a round pupil with astigmatism (2), coma (2) and spherical aberration, waves rms; ``width`` in samples."""
    frequency = np.fft.fftfreq(_GRID) / (AIRY_FWHM / width)
    v, u = np.meshgrid(frequency, frequency, indexing="ij")
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    inside = np.clip(
        (1.0 - radius) * (AIRY_FWHM / width) * _GRID + 0.5, 0.0, 1.0
    )  # a soft edge: pixels of the pupil are coarse
    zernike = (
        np.sqrt(6) * radius**2 * np.cos(2 * angle),
        np.sqrt(6) * radius**2 * np.sin(2 * angle),
        np.sqrt(8) * (3 * radius**3 - 2 * radius) * np.cos(angle),
        np.sqrt(8) * (3 * radius**3 - 2 * radius) * np.sin(angle),
        np.sqrt(5) * (6 * radius**4 - 6 * radius**2 + 1),
    )
    phase = sum(w * z for w, z in zip(waves, zernike))
    return np.fft.fftshift(np.abs(np.fft.fft2(inside * np.exp(2j * np.pi * phase))) ** 2)


def _cut(psf: np.ndarray, width: float) -> np.ndarray:
    """The PSF up to four FWHM from the middle of its core, sum 1."""
    core = np.where(psf > 0.5 * psf.max(), psf, 0.0)
    off = np.array(ndimage.center_of_mass(core)) - _GRID // 2
    psf = np.maximum(ndimage.shift(psf, -off, order=3), 0.0) if np.hypot(*off) > 1e-6 else psf
    half = min(int(np.ceil(4 * width)), _GRID // 2 - 1)
    part = psf[_GRID // 2 - half : _GRID // 2 + half + 1, _GRID // 2 - half : _GRID // 2 + half + 1]
    return part / part.sum()
