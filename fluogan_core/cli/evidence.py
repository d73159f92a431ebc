"""``fluogan evidence``: which gaps of an image the frames support; and ``--evidence`` of ``reconstruct``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

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
    from ..solvers.result import Result
    from ..stack import Stack

__all__ = ["evidence_command", "evidence_of", "evidence_option"]

evidence_option = click.option(
    "--evidence",
    "with_evidence",
    is_flag=True,
    help="Say which gaps of x the frames support: evidence.tif, and the reports.",
)


@click.command("evidence", short_help="Say which gaps of an image the frames support.")
@stack_argument
@click.argument("image_path", metavar="RESULT", type=FILE)
@output_option("evidence.tif, evidence.json and evidence.png")
@region_options
@optics_options
@camera_options
@device_options
@click.option(
    "--threshold", type=float, default=3.0, show_default=True, help="A gap that counts as certain [standard deviations]."
)
@click.option("--no-figure", is_flag=True, help="Leave evidence.png out.")
@json_option
@verbose_option
def evidence_command(
    stack_path: Path,
    image_path: Path,
    output: Path,
    backend: str,
    device: int | None,
    threshold: float,
    no_figure: bool,
    as_json: bool,
    **settings: object,
) -> None:
    """Say which gaps of an image the frames support, and how fine its light is for certain.

    RESULT is an image of any method on the fine grid (--factor times as many pixels as the stack), or the folder of a
    reconstruction, whose x.tif is then judged.  The mean of the frames is fitted first, for light and background.
    """
    from ..backend.arrays import get_backend
    from ..backend.checks import host_image
    from ..io.evidence import EVIDENCE_FILES, write_evidence
    from ..io.evidence_words import evidence_facts
    from ..io.files import dumps, spare_inputs
    from ..io.stack import read_image
    from ..solvers import reconstruct as solving
    from ..solvers.options import SolverOptions

    with writing_to(output) as directory:
        with checking_input(*COMPLAINTS):
            path = image_path / "x.tif" if image_path.is_dir() else image_path
            spare_inputs(directory, EVIDENCE_FILES, stack_path, cast("Path | None", settings["psf_path"]), path)
            stack = stack_from(stack_path, settings)
            psi, pixel_size_nm = operator_for(stack, settings, get_backend(backend, device))
            image, _ = read_image(path)
            if image.shape != psi.fine_shape:
                raise ValueError(
                    f"{path} must have {psi.fine_shape[0]} x {psi.fine_shape[1]} pixels, {psi.factor} per camera pixel and "
                    f"axis, but has {image.shape[0]} x {image.shape[1]}: give --factor, or --roi"
                )
            if not host_image(image, str(path)).max() > 0:
                raise ValueError(f"{path} holds no light: its largest value is {image.max():g}, and a gap lies between lines")
            calibration = calibration_from(stack, psi, settings)
            fit = solving.reconstruct(stack, calibration=calibration, options=SolverOptions(method="none"))
            found = evidence_of(stack, fit, pixel_size_nm, image=image, threshold=threshold)
        if as_json:
            click.echo(dumps(evidence_facts(found)), nl=False)
        else:
            say(found)

        def write(place: Path) -> list[Path]:
            command = ["fluogan", *sys.argv[1:]]
            fine_nm = pixel_size_nm / psi.factor
            files = write_evidence(found, image, place, pixel_size_nm=fine_nm, command=command, figure=not no_figure)
            return list(files.values())

        place_result(write, directory)


def evidence_of(
    stack: Stack, fit: Result, pixel_size_nm: float, *, image: np.ndarray | None = None, threshold: float = 3.0
) -> Evidence:
    """What the frames say of an image, by the light and the background of a fit to them."""
    import numpy as np

    from ..metrics.evidence_map import evidence
    from ..physics.forward import ForwardModel

    model = ForwardModel(fit.psi, gain=fit.camera.gain, noise_std=fit.camera.noise_std)
    frames = fit.psi.backend.asarray(np.asarray(stack.frames, dtype=np.float32) - np.float32(fit.camera.offset))
    x, b, bad = (fit.psi.backend.asarray(part) for part in (fit.x, fit.b, fit.bad_pixels))
    return evidence(frames, model, x, b, pixel_size_nm, image=image, bad_pixels=bad, threshold=threshold)


def say(found: Evidence) -> None:
    """Print the gaps, and what they come to."""
    from ..io.evidence_words import GAP_HEAD, evidence_facts, gap_rows, in_words

    facts = evidence_facts(found)
    click.echo(in_words(facts))
    if found.gaps:
        print_table(GAP_HEAD, gap_rows(facts))
