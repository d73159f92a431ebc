"""The demonstration: simulate, calibrate, reconstruct, judge."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..backend.arrays import Backend
from ..simulation.experiment import Experiment

if TYPE_CHECKING:
    from ..metrics.evidence_map import Evidence
    from ..simulation.phantom import Pattern
    from ..solvers.options import SolverOptions
    from ..solvers.result import Result

log = logging.getLogger("fluogan_core")

__all__ = ["run_demo"]


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
    from ..calibration.calibrate import calibrate
    from ..io.result import write_result
    from ..io.simulated import write_experiment
    from ..io.stack import read_stack
    from ..physics.psf import gaussian_psf
    from ..physics.psi import Psi
    from ..solvers.options import SolverOptions
    from ..solvers.problem import Problem
    from ..solvers.reconstruct import reconstruct
    from .evidence import gaps_of

    experiment = Experiment(size=(32, 32), seed=seed) if experiment is None else experiment
    options = SolverOptions(seed=seed) if options is None else options
    log.info("simulating %d frames of lines, the middle ones %s nm apart", experiment.frames, experiment.separations_nm[0])
    write_experiment(experiment, directory)

    stack = read_stack(directory / "stack.tif")
    psf = gaussian_psf(experiment.fwhm_nm, experiment.pixel_size_nm, experiment.factor)
    psi = Psi(psf, stack.frames.shape[1:], experiment.factor, backend=backend)
    log.info("estimating the width of the PSF and the camera from the frames")
    found = calibrate(stack, psi)
    log.info("reconstructing %d x %d fine pixels", *psi.fine_shape)
    result = reconstruct(stack, calibration=found, options=options)
    pattern = experiment.pattern()
    lines = _verdict(result, pattern)
    log.info("asking the frames which gaps of the image are there")
    gaps = gaps_of(Problem.of(stack, calibration=found), result, experiment.pixel_size_nm)
    # the verdict is on the lines from end to end, and so is the profile in the figure
    first, last = (round(end / pattern.pixel_size_nm) for end in pattern.span_nm)
    write_result(
        result,
        directory,
        stack=stack,
        calibration=found,
        evidence=gaps,
        command=["fluogan", "demo", "--output", str(directory), "--seed", str(seed)],
        figure={"title": lines.rstrip("."), "across": "columns", "band": (first, last - first)},
    )
    return (
        f"{lines}\n{_is_it_there(gaps, pattern)}\n"
        f"Read from the frames: gain {found.camera.gain:.2f} ± {found.estimate.gain_error:.2f} counts per photon (truth "
        f"{experiment.gain:g}), background {float(result.b.mean()):.1f} photons per pixel and frame (truth "
        f"{experiment.background:g}).\n"
        f"{directory} holds report.html, figure.png, x.tif, b.tif and report.json, beside stack.tif, truth.tif and truth.json."
    )


def _verdict(result: Result, pattern: Pattern) -> str:
    """What was found of the first pair of lines, beside what is true."""
    from ..metrics.lines import pair_report

    found = pair_report(result.x, pattern)
    blurred = pair_report(np.kron(result.mean, np.ones((pattern.factor, pattern.factor))), pattern)
    seen = {0: "no line", 1: "one line"}.get(len(blurred.peaks_nm), "two lines")
    truth = f"truth {found.separation_nm:.0f} nm; the blurred mean shows {seen} there"
    if found.resolved:
        return f"Two lines {found.distance_nm:.0f} nm apart ({truth})."
    return f"The two lines were not resolved: {found.reason} ({truth})."


def _is_it_there(found: Evidence, pattern: Pattern) -> str:
    """What the frames say of the gap between the first pair of lines."""
    first, second = pattern.lines_nm[0][1:3]
    between = [gap for gap in found.gaps if first < gap.column_nm < second and abs(math.cos(math.radians(gap.angle_deg))) > 0.9]
    if not between:
        return "The image shows no gap between them that could be tested."
    best = max(between, key=lambda gap: gap.significance)
    said = "confirm" if best.significance >= found.threshold else "do not confirm"
    return f"The frames {said} the gap between them, by {best.significance:.1f} standard deviations."
