"""``fluogan estimate``: camera, PSF width and photons per emitter of a stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import (
    calibration_from,
    camera_options,
    estimate_from,
    given,
    json_option,
    operator_for,
    optics_options,
    region_options,
    stack_argument,
    stack_from,
    verbose_option,
)
from .shell import COMPLAINTS, checking_input
from .tables import print_estimate

__all__ = ["estimate_command"]


@click.command("estimate", short_help="Estimate the camera from a stack.")
@stack_argument
@region_options
@optics_options
@camera_options
@json_option
@verbose_option
def estimate_command(stack_path: Path, as_json: bool, **settings: Any) -> None:
    """Estimate gain, offset and read noise from a stack; with a PSF, its width and the photons per emitter too."""
    from ..backend.arrays import get_backend
    from ..io.files import dumps
    from ..io.report import estimate_facts, shape_facts

    with checking_input(*COMPLAINTS):
        stack = stack_from(stack_path, settings)
        if given(settings, "fwhm_nm", "wavelength_nm", "na", "psf_path", "psf_pixel_nm", "psf_width", "row_shift"):
            psi, _ = operator_for(stack, settings, get_backend("numpy"))
            found = calibration_from(stack, psi, settings)
            estimate, width, shape, remarks = found.estimate, found.psf_width, found.psf_shape, found.remarks
        else:
            estimate, width, shape = estimate_from(stack, settings), None, None
            remarks = estimate.notes
    if as_json:
        of_psf = {"psf_width": width, "psf_shape": shape_facts(shape)}
        click.echo(dumps(estimate_facts(estimate, width is not None) | of_psf | {"remarks": remarks}), nl=False)
    else:
        print_estimate(estimate, remarks, with_psf=width is not None)
