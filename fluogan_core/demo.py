"""A simulated recording with its truth, and the demonstration: simulate, estimate, reconstruct, judge."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._checks import one_of, real_number, whole_number
from ._report import dumps, write_image, write_text
from .backend import Backend
from .phantom import Pattern, argolight_pattern

if TYPE_CHECKING:
    from .options import SolverOptions
    from .result import Result

__all__ = ["Experiment", "Recording", "run_demo"]

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
    pixel_size_nm, fwhm_nm : float
    factor : int
        Fine pixels per camera pixel and axis, of the truth.
    brightness : float
        Detected photons per frame that are expected in the brightest camera pixel, background apart.
    background : float
        Detected photons per camera pixel per frame.
    photons_per_emitter : float
        kappa of the double Poisson model; blinking has its own.
    gain, offset, noise_std : float
        The camera, counts.
    seed : int
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
        """Return the lines."""
        return argolight_pattern(self.separations_nm, pixel_size_nm=self.pixel_size_nm, factor=self.factor, shape=self.size)

    def record(self) -> Recording:
        """Draw the frames.

        Raises
        ------
        ValueError
            If the pattern does not fit in the field.
        """
        from .psf import gaussian_psf
        from .psi import Psi

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
        from .photokinetics import Blinking, Detector, simulate_sofi

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
        from .forward import ForwardModel

        x = pattern.x * (self.brightness / peak)
        model = ForwardModel(psi, gain=self.gain, noise_std=self.noise_std)
        counts = model.sample(x, np.full(pattern.shape, self.background), self.frames, self.seed) + self.offset
        return Recording(np.rint(counts).clip(0, 65535).astype(np.uint16), x, self.background, self.photons_per_emitter)

    def write(self, directory: Path) -> list[Path]:
        """Draw the frames and write ``stack.tif``, ``truth.tif`` (x) and ``truth.json`` to ``directory``.

        Raises
        ------
        ValueError
            If a ``stack.tif`` lies there without its truth: it may be somebody's recording.
        """
        if (directory / "stack.tif").exists() and not (directory / "truth.json").exists():
            raise ValueError(
                f"{directory / 'stack.tif'} is no simulated stack, and would be overwritten: take another directory"
            )
        made, pattern = self.record(), self.pattern()
        truth = dataclasses.asdict(self) | {
            "size": pattern.shape,
            "photons_per_emitter": made.photons_per_emitter,
            "lines_nm": pattern.lines_nm,
            "centres_nm": pattern.centres_nm,
            "span_nm": pattern.span_nm,
            "line_width_nm": pattern.line_width_nm,
        }
        # first of all: a run that is killed here leaves no stack without its truth
        told = write_text(directory / "truth.json", dumps(truth))
        return [
            write_image(directory / "stack.tif", made.frames, pixel_size_nm=self.pixel_size_nm),
            write_image(directory / "truth.tif", made.x, pixel_size_nm=self.pixel_size_nm / self.factor),
            told,
        ]


def run_demo(
    directory: Path,
    *,
    seed: int = 0,
    backend: str | Backend = "auto",
    experiment: Experiment | None = None,
    options: SolverOptions | None = None,
) -> str:
    """Simulate a recording, estimate the camera from it, reconstruct, write everything to ``directory``, and judge.

    The reconstruction is told the pixel size and the PSF's width, nothing else.

    Parameters
    ----------
    directory : Path
        An existing directory.
    seed : int
        Seed of the simulation and of the solver.
    backend : {"auto", "numpy", "cupy"} or Backend
    experiment : Experiment, optional
        One pair of lines 180 nm apart in 32 x 32 camera pixels by default.
    options : SolverOptions, optional

    Returns
    -------
    str
        What was found, in plain sentences.
    """
    from .camera import estimate_camera
    from .io import read_stack, write_result
    from .options import SolverOptions
    from .psf import gaussian_psf
    from .psf_width import estimate_psf_width
    from .psi import Psi
    from .solver import reconstruct

    experiment = Experiment(size=(32, 32), seed=seed) if experiment is None else experiment
    options = SolverOptions(seed=seed) if options is None else options
    log.info("simulating %d frames of lines, the middle ones %s nm apart", experiment.frames, experiment.separations_nm[0])
    experiment.write(directory)

    stack = read_stack(directory / "stack.tif")
    psf = gaussian_psf(experiment.fwhm_nm, experiment.pixel_size_nm, experiment.factor)
    psi = Psi(psf, stack.frames.shape[1:], experiment.factor, backend=backend)
    log.info("estimating the width of the PSF and the camera from the frames")
    psf_width = estimate_psf_width(stack, psi)
    psi = psi.scaled(psf_width.width)
    estimate = estimate_camera(stack, psi)
    psi = psi.replaced(photons_per_emitter=estimate.photons_per_emitter)
    log.info("reconstructing %d x %d fine pixels", *psi.fine_shape)
    result = reconstruct(stack.frames, psi=psi, camera=estimate.camera, options=options)
    pattern = experiment.pattern()
    lines = _verdict(result, pattern)
    # the verdict is on the lines from end to end, and so is the profile in the figure
    first, last = (round(end / pattern.pixel_size_nm) for end in pattern.span_nm)
    write_result(
        result,
        directory,
        stack=stack,
        estimate=estimate,
        psf_width=psf_width,
        command=["fluogan", "demo"],
        figure={"title": lines.rstrip("."), "across": "columns", "band": (first, last - first)},
    )
    return (
        f"{lines}\n"
        f"Read from the frames: gain {estimate.camera.gain:.2f} ± {estimate.gain_error:.2f} counts per photon (truth "
        f"{experiment.gain:g}), background {float(result.b.mean()):.1f} photons per pixel and frame (truth "
        f"{experiment.background:g}).\n"
        f"{directory} holds figure.png, x.tif, b.tif and report.json, beside stack.tif, truth.tif and truth.json."
    )


def _verdict(result: Result, pattern: Pattern) -> str:
    """What was found of the first pair of lines, beside what is true."""
    from .metrics import pair_report

    found = pair_report(result.x, pattern)
    blurred = pair_report(np.kron(result.mean, np.ones((pattern.factor, pattern.factor))), pattern)
    seen = {0: "no line", 1: "one line"}.get(len(blurred.peaks_nm), "two lines")
    truth = f"truth {found.separation_nm:.0f} nm; the blurred mean shows {seen} there"
    if found.resolved:
        return f"Two lines {found.distance_nm:.0f} nm apart ({truth})."
    return f"The two lines were not resolved: {found.reason} ({truth})."
