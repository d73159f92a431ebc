"""``fluogan evidence``: which gaps of an image the frames support; and ``--evidence`` of ``reconstruct``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from .options import (
    FILE,
    calibration_from,
    camera_options,
    device_options,
    json_option,
    operator_for,
    optics_options,
    output_option,
    region_options,
    stack_argument,
    stack_from,
    verbose_option,
)
from .output import place_result, writing_to
from .shell import COMPLAINTS, checking_input
from .tables import print_table

if TYPE_CHECKING:
    import numpy as np

    from ..metrics.evidence_map import Evidence
    from ..metrics.image_checks import ImageChecks
    from ..physics.psi import Psi
    from ..solvers.problem import Problem
    from ..solvers.result import Result

__all__ = ["evidence_command", "evidence_option", "gaps_of", "judged_by"]

#: Side of a block of the rolling Fourier ring correlation, fine pixels.
_BLOCK = 64

evidence_option = click.option(
    "--evidence",
    "with_evidence",
    is_flag=True,
    help="Say which gaps of x the frames support: evidence.tif, rse.tif, rsp.tif and frc.tif, and the reports.",
)


@click.command("evidence", short_help="Say which gaps of an image the frames support.")
@stack_argument
@click.argument("image_path", metavar="RESULT", type=FILE)
@output_option("evidence.tif, evidence.json and evidence.png; rse.tif, rsp.tif, frc.tif and checks.png")
@region_options
@optics_options
@camera_options
@device_options
@click.option(
    "--threshold", type=float, default=3.0, show_default=True, help="A gap that counts as certain [standard deviations]."
)
@click.option(
    "--halves",
    nargs=2,
    type=FILE,
    metavar="A.tif B.tif",
    help="Images of RESULT's method from two halves of the frames, for rolling FRC; else the mean of each half is fitted.",
)
@click.option(
    "--psf-error",
    type=float,
    default=0.0,
    show_default=True,
    help="How far the PSF may be wider or narrower than described (0.05: 5 %); a gap must be there with every such PSF.",
)
@click.option("--no-figure", is_flag=True, help="Leave evidence.png and checks.png out.")
@json_option
@verbose_option
def evidence_command(
    stack_path: Path,
    image_path: Path,
    output: Path,
    backend: str,
    device: int | None,
    threshold: float,
    psf_error: float,
    halves: tuple[Path, Path] | None,
    no_figure: bool,
    as_json: bool,
    **settings: object,
) -> None:
    """Say which gaps of an image the frames support, and how fine its light is for certain.

    RESULT is an image of any method on the fine grid (--factor times as many pixels as the stack), or the folder of a
    reconstruction, whose x.tif is then judged.  The mean of the frames is fitted first, for light and background.
    """
    from ..backend.arrays import get_backend
    from ..io.check_words import check_facts
    from ..io.evidence import EVIDENCE_FILES, write_evidence
    from ..io.evidence_words import evidence_facts
    from ..io.files import dumps, spare_inputs
    from ..solvers.options import SolverOptions
    from ..solvers.problem import Problem
    from ..solvers.solver import Solver

    with writing_to(output) as directory:
        with checking_input(*COMPLAINTS):
            path = image_path / "x.tif" if image_path.is_dir() else image_path
            spare_inputs(
                directory, EVIDENCE_FILES, stack_path, cast("Path | None", settings["psf_path"]), path, *(halves or ())
            )
            stack = stack_from(stack_path, settings)
            psi, pixel_size_nm = operator_for(stack, settings, get_backend(backend, device))
            image, *others = (_image_of(file, psi) for file in (path, *(halves or ())))
            problem = Problem.of(stack, calibration=calibration_from(stack, psi, settings))
            fit = Solver(problem=problem, options=SolverOptions(method="none")).run()
            found, checks = judged_by(
                problem, fit, pixel_size_nm, image=image, halves=others, threshold=threshold, psf_error=psf_error
            )
        if as_json:
            click.echo(dumps(evidence_facts(found) | {"checks": check_facts(checks)}), nl=False)
        else:
            say(found, checks)

        def write(place: Path) -> list[Path]:
            command = ["fluogan", *sys.argv[1:]]
            fine_nm = pixel_size_nm / psi.factor
            files = write_evidence(
                found, image, place, pixel_size_nm=fine_nm, checks=checks, command=command, figure=not no_figure
            )
            return list(files.values())

        place_result(write, directory)


def _image_of(path: Path, psi: Psi) -> np.ndarray:
    """An image on the fine grid that holds light."""
    from ..backend.checks import host_image
    from ..io.stack import read_image

    image, _ = read_image(path)
    if image.shape != psi.fine_shape:
        raise ValueError(
            f"{path} must have {psi.fine_shape[0]} x {psi.fine_shape[1]} pixels, {psi.factor} per camera pixel and "
            f"axis, but has {image.shape[0]} x {image.shape[1]}: give --factor, or --roi"
        )
    if not host_image(image, str(path)).max() > 0:
        raise ValueError(f"{path} holds no light: its largest value is {image.max():g}, and a gap lies between lines")
    return image


def judged_by(
    problem: Problem,
    fit: Result,
    pixel_size_nm: float,
    *,
    image: np.ndarray | None = None,
    halves: Sequence[np.ndarray] = (),
    threshold: float = 3.0,
    psf_error: float = 0.0,
) -> tuple[Evidence, ImageChecks]:
    """What the frames say of an image, by the light and the background of a fit to them, and the field's usual figures."""
    found = gaps_of(problem, fit, pixel_size_nm, image=image, threshold=threshold, psf_error=psf_error)
    return found, _checks_of(problem, fit, pixel_size_nm, fit.x if image is None else image, halves)


def gaps_of(problem: Problem, fit: Result, pixel_size_nm: float, **settings: Any) -> Evidence:
    """What the frames say of the gaps of an image, that of the fit if no other is given."""
    from ..metrics.evidence_map import evidence

    asarray = fit.psi.backend.asarray
    x, b, bad = (asarray(part) for part in (fit.x, fit.b, fit.bad_pixels))
    return evidence(problem.counts, problem.model, x, b, pixel_size_nm, bad_pixels=bad, **settings)


def _checks_of(
    problem: Problem, fit: Result, pixel_size_nm: float, image: np.ndarray, halves: Sequence[np.ndarray]
) -> ImageChecks:
    """RSE, RSP and rolling FRC."""
    import numpy as np

    from ..metrics.agreement_map import agreement_map
    from ..metrics.image_checks import ImageChecks
    from ..metrics.resolution_map import resolution_map
    from ..solvers.options import SolverOptions
    from ..solvers.solver import Solver
    from ..solvers.splits import halves_in_turn

    host, frames = problem.psi.backend.to_host, len(problem.counts)
    mean, b = (np.asarray(host(part), dtype=np.float64) for part in (problem.mean, fit.b))
    noise = np.sqrt((np.maximum(mean, 0) + (problem.camera.noise_std / problem.camera.gain) ** 2) / frames)
    agreement = agreement_map(host(image), mean - b, problem.psi, noise=noise)
    resolution, own = None, bool(halves)
    if min(problem.psi.fine_shape) >= _BLOCK and (halves or frames >= 4):
        if not own:
            parts = (problem.subset(numbers) for numbers in halves_in_turn(frames))
            halves = [host(Solver(problem=part, options=SolverOptions(method="none")).run().x) for part in parts]
        resolution = resolution_map(halves[0], halves[1], pixel_size_nm / problem.psi.factor, side=_BLOCK)
    return ImageChecks(agreement, float(np.sqrt((noise**2).mean())), resolution, own_halves=own)


def say(found: Evidence, checks: ImageChecks) -> None:
    """Print the gaps, what they come to, and the usual figures."""
    from ..io.check_words import check_facts, check_words
    from ..io.evidence_words import GAP_HEAD, evidence_facts, gap_rows, in_words

    facts = evidence_facts(found)
    click.echo(in_words(facts))
    if found.gaps:
        print_table(GAP_HEAD, gap_rows(facts))
    for words in check_words(check_facts(checks)):
        click.echo(words)
