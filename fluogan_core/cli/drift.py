"""``--drift auto|FILE|none``: whether a sample that moved is followed, and by what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

if TYPE_CHECKING:
    from ..calibration.drift import Drift
    from ..physics.psi import Psi
    from ..stack import Stack

__all__ = ["drift_option", "followed"]

drift_option = click.option(
    "--drift", metavar="auto|FILE|none", default="none", show_default=True,
    help="Follow a sample that moved: auto measures the drift and follows it where it is clear; FILE is a table of frame, row "
    "shift, column shift [from 0; camera pixels].",
)  # fmt: skip


def followed(
    stack: Stack, psi: Psi, choice: str, background: str | None, settings: dict[str, object]
) -> tuple[Stack, Psi, Drift | None]:
    """The stack and the operator of a field that follows the sample, and the drift; as they were where there is none."""
    from ..calibration.drift import estimate_drift
    from ..calibration.follow_drift import follow_drift
    from ..calibration.psf_width import estimate_psf_width
    from ..io.drift import read_drift
    from ..physics.psf import cut_psf

    if choice == "none":
        return stack, psi, None
    if background is not None:
        try:
            float(background)
        except ValueError:
            raise ValueError(
                "an image as --background stands still while --drift follows the sample: give a number, or leave one out"
            ) from None
    drift = estimate_drift(stack, psi) if choice == "auto" else read_drift(Path(choice), stack.numbers)
    click.echo(drift.note)
    if not drift.clear:
        return stack, psi, drift
    moving, wider = follow_drift(stack, psi, drift)
    # covariances of neighbours see the PSF as it is, the mean frame the one that is widened: its width is measured first
    width = settings["psf_width"]
    notes = [drift.note]
    if width is None:
        found = estimate_psf_width(moving, wider.replaced(psf=cut_psf(psi.psf, wider.fine_shape)))
        width = found.width
        notes.append(found.note)
        click.echo(found.note)
    settings["psf_width"] = 1.0
    moving, wider = follow_drift(stack, psi.scaled(cast(float, width)), drift)
    return replace(moving, notes=(*moving.notes, *notes)), wider, drift
