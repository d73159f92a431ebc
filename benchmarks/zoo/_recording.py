"""A recording of a scene: molecules that switch, a background, a camera; and what is true of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import fluogan_core as fg

from ._optics import AIRY_FWHM, Spots, make_spots
from ._plan import LINE_NM, Scene
from ._structures import Lines, Molecules, place

__all__ = ["Recording", "record"]

#: Molecules that are on in a frame, where few bright ones are wanted.
_FEW = (3.0, 15.0)
#: What the brightest counts of the frames may come to: a camera of 16 bits is not saturated.
_FULL = 50_000.0
#: Numerical aperture of the library's Airy PSF; only wavelength / NA matters.
_NA = 1.4


@dataclass(frozen=True, eq=False)
class Recording:
    """Frames and truth.

    Attributes
    ----------
    scene : Scene
    frames : (T, M1, M2) uint16, counts
    gain : float
        Counts per photon; the scene's unless the camera would have been saturated.
    noise_std : float
        Read noise of a typical pixel, counts.
    light : (N1, N2) float64
        Photons per fine pixel and frame that the molecules sent in these frames, mean over the frames.
    background : (M1, M2) float64
        Photons per camera pixel and frame.
    mean_light : (M1, M2) float64
        What of ``light`` reaches each camera pixel, photons per frame.
    variance_of_mean : (M1, M2) float64
        Of the mean frame: noise of photons and camera and what pixels differ by, photons^2.
    fwhm_nm : float
        Of the PSF, as a bead would show it.
    lines : Lines, optional
    """

    scene: Scene
    frames: np.ndarray
    gain: float
    noise_std: float
    light: np.ndarray
    background: np.ndarray
    mean_light: np.ndarray
    variance_of_mean: np.ndarray
    fwhm_nm: float
    lines: Lines | None

    @property
    def photons(self) -> np.ndarray:
        """The frames in photons, by the true camera, (T, M1, M2) float32."""
        return (self.frames.astype(np.float32) - np.float32(self.scene.offset)) / np.float32(self.gain)

    def psi(self) -> fg.Psi:
        """The operator as a user would describe it: an Airy PSF is said to be one, aberrations are not known."""
        s = self.scene
        width, field = s.described * self.fwhm_nm, s.size * s.pixel_nm
        # the library wants a PSF that is not larger than the field
        if s.psf == "Gaussian":
            sigma = width / 2.3548
            psf = fg.gaussian_psf(width, s.pixel_nm, s.factor, truncate=min(5.0, (field / 2 - s.fine_nm) / sigma))
        else:
            radius = min(2.5 * width, field / 2 - s.fine_nm)
            psf = fg.airy_psf(width * _NA / AIRY_FWHM, _NA, s.pixel_nm, s.factor, radius_nm=radius)
        return fg.Psi(psf, (s.size, s.size), s.factor, backend="numpy")

    def pattern(self) -> fg.Pattern:
        """The geometry of lines, for ``pair_report``; vertical."""
        s, lines = self.scene, self.lines
        if lines is None:
            raise ValueError(f"scene {s.name} has no lines")
        return fg.Pattern(
            x=self.light.T if s.transposed else self.light,
            separations_nm=(s.separation_nm,),
            centres_nm=(lines.centre_nm,),
            lines_nm=(lines.lines_nm,),
            span_nm=lines.span_nm,
            line_width_nm=LINE_NM,
            shape=(s.size, s.size),
            pixel_size_nm=s.pixel_nm,
            factor=s.factor,
            control=s.structure == "bar",
        )


def record(scene: Scene) -> Recording:
    """Simulate a scene; the same scene gives the same recording."""
    rng = np.random.default_rng([scene.seed, scene.number, 2])
    molecules, spots = place(scene, rng), make_spots(scene, rng)
    table = _table(scene, molecules, spots)
    sent = _sent(scene, molecules, table, rng)
    mean_sent = sent.mean(axis=0, dtype=np.float64)
    flat = table.reshape(len(table), -1)
    background = _background(scene, rng)
    expected = (sent @ flat).reshape(-1, scene.size, scene.size) + background.astype(np.float32)
    mean_light = (mean_sent @ flat).reshape(scene.size, scene.size)
    gain = min(scene.gain, _FULL / float(expected.max()))
    noise = scene.noise * gain / scene.gain
    frames, variance = _camera(scene, expected, gain, noise, rng)
    edges = np.arange(scene.size * scene.factor + 1) * scene.fine_nm
    light = np.histogram2d(molecules.at[:, 0], molecules.at[:, 1], bins=(edges, edges), weights=mean_sent)[0]
    fwhm_nm = spots.fwhm * scene.pixel_nm
    return Recording(scene, frames, gain, noise, light, background, mean_light, variance, fwhm_nm, molecules.lines)


def _table(scene: Scene, molecules: Molecules, spots: Spots) -> np.ndarray:
    """Share of each molecule's light in each pixel; odd and even rows see it displaced where a scan does that."""
    at = molecules.at / scene.pixel_nm
    table = spots.table(at, scene.size)
    if scene.row_shift:
        shifted = [spots.table(at + np.array([0.0, sign * scene.row_shift]), scene.size) for sign in (-1.0, 1.0)]
        table = shifted[0]
        table[:, 1::2] = shifted[1][:, 1::2]
    return table


def _sent(scene: Scene, molecules: Molecules, table: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Photons of each molecule in each frame, (T, n) float32, before noise."""
    n, frames = len(molecules.weight), scene.frames
    if scene.kinetics == "few bright":
        share = min(0.3, rng.uniform(*_FEW) / n)
        return (scene.photons * molecules.weight * _blinking(n, frames, share, scene.on_frames, rng)).astype(np.float32)
    brightest = float(np.tensordot(molecules.weight, table, 1).max())
    light = molecules.weight * scene.light / brightest
    if scene.kinetics == "eq. (1)":
        return (scene.kappa * rng.poisson(light / scene.kappa, (frames, n))).astype(np.float32)
    on = _blinking(n, frames, scene.on_share, scene.on_frames, rng)
    if scene.kinetics == "bleaching":
        # a quarter is left at the end
        ends = rng.exponential(frames / np.log(4.0), n)
        on *= np.clip(ends - np.arange(frames)[:, None], 0.0, 1.0)
        light = light * frames / np.clip(ends, 0, frames).mean()
    return (light / scene.on_share * on).astype(np.float32)


def _blinking(n: int, frames: int, share: float, on_frames: float, rng: np.random.Generator) -> np.ndarray:
    """Share of each frame that each molecule is on, (T, n): chains of two states in their steady state."""
    parts = max(1, int(np.ceil(3.0 / on_frames)))
    to_off = 1.0 - np.exp(-1.0 / (on_frames * parts))
    to_on = min(1.0, to_off * share / (1.0 - share))
    state, out = rng.random(n) < share, np.zeros((frames, n))
    for t in range(frames):
        for _ in range(parts):
            u = rng.random(n)
            state = np.where(state, u >= to_off, u < to_on)
            out[t] += state
    return out / parts


def _background(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Photons per camera pixel and frame, mean ``level``."""
    y, x = (np.mgrid[: scene.size, : scene.size] + 0.5) / scene.size
    angle, at = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8, 2)
    shape = {
        "none": np.ones_like(x),
        "flat": np.ones_like(x),
        "gradient": 1.0 + 1.2 * ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)),
        "vignetting": np.exp(-1.6 * ((x - at[1]) ** 2 + (y - at[0]) ** 2)),
        "bump": 0.5 + np.exp(-((x - at[1]) ** 2 + (y - at[0]) ** 2) / (2 * rng.uniform(0.3, 0.45) ** 2)),
        "corner": 0.5 + 2.0 * np.exp(-(x**2 + y**2) / (2 * 0.35**2)),
    }[scene.background]
    return scene.level * shape / shape.mean()


def _camera(
    scene: Scene, expected: np.ndarray, gain: float, noise: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Counts, and the variance of their mean, photons^2; what pixels differ by is part of it."""
    scale, shape = gain / scene.gain, expected.shape[1:]
    gains = gain * (1.0 + scene.pixel_gain * rng.standard_normal(shape))
    stripes = [scene.stripe * scale * rng.standard_normal(shape[k]) for k in (0, 1)]
    offsets = scene.offset + scene.pixel_offset * scale * rng.standard_normal(shape) + stripes[0][:, None] + stripes[1]
    noises = np.full(shape, noise)
    if scene.camera in ("unequal pixels", "stripes"):
        noises = noise * np.exp(0.3 * rng.standard_normal(shape))
    mean, variance = expected.mean(axis=0, dtype=np.float64), np.zeros(shape)
    frames = np.empty(expected.shape, np.uint16)
    for t, photons in enumerate(expected):
        counts = rng.poisson(photons).astype(np.float64)
        if scene.excess > 1:
            # an electron comes out as an exponential number of electrons, n of them as a gamma one
            counts = np.where(counts > 0, rng.gamma(np.maximum(counts, 1e-9)), 0.0)
        counts = gains * counts + offsets + noises * rng.standard_normal(shape)
        frames[t] = np.rint(np.clip(counts, 0, 65535))
    variance += (scene.excess * mean + (noises / gain) ** 2 + 1 / (12 * gain**2)) / len(expected)
    fixed = (scene.pixel_gain * mean) ** 2 + ((scene.pixel_offset**2 + 2 * scene.stripe**2) / scene.gain**2)
    return frames, variance + fixed
