"""A recording of the line pattern with its truth: what ``fluogan simulate`` draws."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend.checks import one_of, real_number, whole_number
from .phantom import Pattern, argolight_pattern

__all__ = ["Experiment", "Recording"]

log = logging.getLogger("fluogan_core")

#: Emitters per square micrometre of line: dense enough that a line looks filled.
DENSITY_PER_UM2 = 500.0


@dataclass(frozen=True, eq=False)
class Recording:
    """Simulated frames and what they were made of.

    Attributes
    ----------
    frames : (T, M1, M2) uint16, counts
    x : (N1, N2) float64
        Emissions per fine pixel per frame.
    background : float
        Detected photons per camera pixel per frame.
    photons_per_emitter : float
        kappa: detected photons of one emission.
    """

    frames: np.ndarray
    x: np.ndarray
    background: float
    photons_per_emitter: float


@dataclass(frozen=True)
class Experiment:
    """A recording of the Argolight-like pattern of lines: what ``fluogan simulate`` is told.

    Attributes
    ----------
    model : {"blinking", "double-poisson"}
        Emitters that blink in front of a camera (:func:`fluogan_core.simulate_sofi`), or the model of eq. (1).
    separations_nm : tuple of float
        Distance of the two middle lines, one per group.
    size : (M1, M2), optional
        Camera pixels; just large enough for all groups by default.
    frames : int
        T.
    pixel_size_nm, fwhm_nm : float
        Camera pixel and width of the Gaussian PSF in the object plane, nm.
    factor : int
        Fine pixels per camera pixel and axis, of the truth.
    brightness : float
        Detected photons per frame that are expected in the brightest camera pixel, background apart.
    background : float
        Detected photons per camera pixel per frame.
    photons_per_emitter : float
        kappa of the double Poisson model; blinking has its own.
    gain, offset, noise_std : float
        The camera: counts per photon, counts without light, standard deviation of the read noise in counts.
    seed : int
        The same seed gives the same recording.

    Raises
    ------
    TypeError, ValueError
        If a value is not a number, or is out of its range.
    """

    model: str = "blinking"
    separations_nm: tuple[float, ...] = (180.0,)
    size: tuple[int, int] | None = None
    frames: int = 500
    pixel_size_nm: float = 100.0
    fwhm_nm: float = 318.0
    factor: int = 4
    brightness: float = 160.0
    background: float = 10.0
    photons_per_emitter: float = 1.0
    gain: float = 2.2
    offset: float = 100.0
    noise_std: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        one_of(self.model, "model", ("blinking", "double-poisson"))
        whole_number(self.frames, "frames", low=2)
        whole_number(self.seed, "seed", low=0)
        for name in ("brightness", "gain", "photons_per_emitter"):
            real_number(getattr(self, name), name, low=0, open_low=True)
        for name in ("background", "offset", "noise_std"):
            real_number(getattr(self, name), name, low=0)

    def pattern(self) -> Pattern:
        """Return the pattern of lines.

        Returns
        -------
        Pattern

        Raises
        ------
        ValueError
            If it does not fit in the field.
        """
        return argolight_pattern(self.separations_nm, pixel_size_nm=self.pixel_size_nm, factor=self.factor, shape=self.size)

    def record(self) -> Recording:
        """Draw the frames.

        Returns
        -------
        Recording

        Raises
        ------
        ValueError
            If the pattern does not fit in the field.
        """
        from ..physics.psf import gaussian_psf
        from ..physics.psi import Psi

        pattern = self.pattern()
        psf = gaussian_psf(self.fwhm_nm, self.pixel_size_nm, self.factor)
        kappa = self.photons_per_emitter if self.model == "double-poisson" else 1.0
        psi = Psi(psf, pattern.shape, self.factor, photons_per_emitter=kappa, backend="numpy")
        # photons in the brightest camera pixel per emission in a fine pixel that a line covers
        peak = float(psi.forward(pattern.x).max())
        made = self._blinking(pattern, peak) if self.model == "blinking" else self._double_poisson(pattern, psi, peak)
        cut = float((made.frames == 65535).mean())
        if cut:
            log.warning("%.2g %% of the counts are beyond 65535, what 16 bits hold: lower brightness or gain", 100 * cut)
        return made

    def _blinking(self, pattern: Pattern, peak: float) -> Recording:
        from .detector import Detector
        from .photokinetics import Blinking, simulate_sofi

        per_fine_pixel = DENSITY_PER_UM2 * (1e-3 * self.pixel_size_nm / self.factor) ** 2
        blinking = Blinking()
        blinking = dataclasses.replace(blinking, photons_per_frame=self.brightness / (peak * per_fine_pixel * blinking.duty))
        camera = Detector("scmos", 1.0, self.gain, self.noise_std, self.offset, dark_per_s=0.0)
        made = simulate_sofi(
            pattern,
            frames=self.frames,
            density_per_um2=DENSITY_PER_UM2,
            fwhm_nm=self.fwhm_nm,
            background=self.background,
            blinking=blinking,
            detector=camera,
            seed=self.seed,
            as_uint16=True,
        )
        return Recording(made.frames, made.x, self.background, made.photons_per_emitter)

    def _double_poisson(self, pattern: Pattern, psi: Any, peak: float) -> Recording:
        from ..physics.forward import ForwardModel

        x = pattern.x * (self.brightness / peak)
        model = ForwardModel(psi, gain=self.gain, noise_std=self.noise_std)
        counts = model.sample(x, np.full(pattern.shape, self.background), self.frames, self.seed) + self.offset
        return Recording(np.rint(counts).clip(0, 65535).astype(np.uint16), x, self.background, self.photons_per_emitter)
