"""What the commands print: tables, notes, and which files were written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..calibration.camera import CameraEstimate
    from ..selection.trials import Sweep

__all__ = ["print_estimate", "print_table", "say_swept", "say_written"]


def print_estimate(estimate: CameraEstimate, remarks: tuple[str, ...], with_psf: bool = True) -> None:
    """The camera estimate as a table, remarks on the stack below."""
    from ..io.report import estimate_rows

    print_table(("", "value", "± 1 s.e.", "unit", ""), estimate_rows(estimate, with_psf))
    for remark in remarks:
        click.echo(f"note: {remark}")


def say_swept(made: Sweep) -> None:
    """The settings as a table, what its columns are, remarks and the best one below."""
    from ..io.sweep_report import sweep_rows, sweep_titles

    print_table(sweep_titles(made), sweep_rows(made))
    click.echo(
        "behind the best: in log density of the frames that were not fitted, nats per frame, ± 1 standard error; misfit: of "
        "their mean, 1 where only noise is left; halves agree: correlation of the images from either half of the frames"
    )
    for index, trial in enumerate(made.trials):
        if trial.failure:
            click.echo(f"{index + 1} failed: {trial.failure}")
    for note in made.notes:
        click.echo(f"note: {note}")
    if made.best is not None:
        click.echo(f"best: {made.trials[made.best].label}")


def say_written(files: Iterable[Path], directory: Path) -> None:
    click.echo(f"wrote {', '.join(path.name for path in files)} to {directory}")


def print_table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(*titles, box=SIMPLE, show_header=any(titles), pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=True, highlight=False, markup=False).print(table)
