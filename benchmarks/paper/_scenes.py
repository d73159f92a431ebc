"""Recordings of lines: the conditions of the experiment, and what a user would know of each stack."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

import fluogan_core as fg
from fluogan_core.simulation.detector import Detector
from fluogan_core.simulation.photokinetics import Blinking

__all__ = ["CONDITIONS", "RELEASED", "ROI", "Condition", "Geometry", "Scene", "make_scene", "operator", "peak_of_standard"]

#: Photons per frame in the brightest camera pixel of a pair 180 nm apart, and of the background, in full light.
PEAK, BACKGROUND = 160.0, 10.0
#: The camera: counts per photon, counts, counts rms.
GAIN, OFFSET, READ_NOISE = 2.2, 100.0, 3.0
FWHM_NM = 318.0
#: The pair that sets the brightness of all: the same molecules per line, whatever the distance.
_STANDARD_NM = 180.0


@dataclass(frozen=True)
class Condition:
    """How the light of a recording comes about.

    Attributes
    ----------
    name : str
    model : {"double Poisson", "blinking"}
        Eq. (1) with one photon per emission, or emitters that blink in continuous time.
    light : float
        Fraction of the full light, background included.
    density_per_um2 : float
        Molecules per square micrometre of line, where molecules blink.  At 500 a bar is a bar of grains: what its molecules
        send splits itself now and then; at 2000 it is nearly uniform, as a control should be, and an emission a quarter as
        bright.
    """

    name: str
    model: str
    light: float
    density_per_um2: float = 500.0


CONDITIONS = (
    Condition("double Poisson", "double Poisson", 1.0),
    Condition("blinking", "blinking", 1.0),
    Condition("blinking, dense", "blinking", 1.0, 2000.0),
    Condition("double Poisson, dim", "double Poisson", 0.1),
    Condition("blinking, dim", "blinking", 0.1),
    Condition("blinking, dense, dim", "blinking", 0.1, 2000.0),
)


@dataclass(frozen=True)
class Geometry:
    """Grid of a recording.

    Attributes
    ----------
    pixel_size_nm : float
    factor : int
    shape : (M1, M2)
    frames : int
    """

    pixel_size_nm: float = 100.0
    factor: int = 4
    shape: tuple[int, int] | None = (32, 32)
    frames: int = 500

    def pattern(self, separations: tuple[float, ...], control: bool = False) -> fg.Pattern:
        """The lines, or the bars that are their control."""
        return fg.argolight_pattern(
            separations, pixel_size_nm=self.pixel_size_nm, factor=self.factor, shape=self.shape, control=control
        )


#: One group, and the grid of the earlier code's released phantom.
ROI = Geometry()
RELEASED = Geometry(103.0, 6, (50, 266))


def operator(geometry: Geometry, shape: tuple[int, int], width: float = 1.0) -> fg.Psi:
    """One photon per emission on a field of this shape, the PSF ``width`` times as wide as the true one."""
    psf = fg.gaussian_psf(width * FWHM_NM, geometry.pixel_size_nm, geometry.factor)
    return fg.Psi(psf, shape, geometry.factor, backend="numpy")


def peak_of_standard(geometry: Geometry) -> float:
    """Photons in the brightest camera pixel of the standard pair at one photon per fine pixel of line."""
    pattern = dataclasses.replace(geometry, shape=(32, 32)).pattern((_STANDARD_NM,))
    return float(operator(geometry, pattern.shape).forward(pattern.x).max())


@dataclass(frozen=True, eq=False)
class Scene:
    """A recorded stack, its truth, and what is estimated from it.

    Attributes
    ----------
    condition : Condition
    geometry : Geometry
    pattern : Pattern
    seed : int
    frames : (T, M1, M2) uint16, counts
    light : (N1, N2) float64
        Expected photons per fine pixel and frame: the lines themselves, not the molecules that happened to be drawn.
    background : (M1, M2) float64
        Photons per camera pixel and frame.
    photons_per_emitter : float
        True kappa.
    own_light : (N1, N2) float64, optional
        Photons per fine pixel and frame that the drawn molecules sent, if molecules were drawn.
    """

    condition: Condition
    geometry: Geometry
    pattern: fg.Pattern
    seed: int
    frames: np.ndarray
    light: np.ndarray
    background: np.ndarray
    photons_per_emitter: float
    own_light: np.ndarray | None = None

    def psi(self, width: float = 1.0) -> fg.Psi:
        """The operator of this field, one photon per emission."""
        return operator(self.geometry, self.pattern.shape, width)


def make_scene(
    condition: Condition, separations: tuple[float, ...], seed: int, *, control: bool = False, geometry: Geometry = ROI
) -> Scene:
    """Draw a recording; the same arguments give the same frames."""
    pattern = geometry.pattern(separations, control)
    psi = operator(geometry, pattern.shape)
    level = PEAK * condition.light / peak_of_standard(geometry)
    background = fg.smooth_background(pattern.shape, BACKGROUND * condition.light, seed=seed)
    if condition.model == "double Poisson":
        model = fg.ForwardModel(psi, gain=GAIN, noise_std=READ_NOISE)
        counts = model.sample(pattern.x * level, background, geometry.frames, seed) + OFFSET
        frames = np.rint(counts).clip(0, 65535).astype(np.uint16)
        return Scene(condition, geometry, pattern, seed, frames, pattern.x * level, background, 1.0)
    per_fine_pixel = condition.density_per_um2 * (1e-3 * geometry.pixel_size_nm / geometry.factor) ** 2
    blinking = Blinking()
    blinking = dataclasses.replace(blinking, photons_per_frame=level / (per_fine_pixel * blinking.duty))
    made = fg.simulate_sofi(
        pattern,
        frames=geometry.frames,
        density_per_um2=condition.density_per_um2,
        fwhm_nm=FWHM_NM,
        background=background,
        blinking=blinking,
        detector=Detector("scmos", 1.0, GAIN, READ_NOISE, OFFSET, dark_per_s=0.0),
        seed=seed,
        as_uint16=True,
    )
    kappa = made.photons_per_emitter
    light, own = made.expected_x * kappa, made.x * kappa
    return Scene(condition, geometry, pattern, seed, made.frames, light, background, kappa, own)
