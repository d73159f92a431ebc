"""The files of a simulated recording: the stack, its truth, and all settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..simulation.experiment import Experiment
from .files import Placing, dumps, image_writer, write_text
from .lock import sole_writer

__all__ = ["write_experiment"]


def write_experiment(experiment: Experiment, directory: Path) -> list[Path]:
    """Draw the frames and write ``stack.tif``, ``truth.tif`` (x) and ``truth.json`` to ``directory``.

    Parameters
    ----------
    experiment : Experiment
    directory : Path
        An existing directory.

    Returns
    -------
    list of Path
        The three files.

    Raises
    ------
    ValueError
        If a ``stack.tif`` lies there without its truth: it may be somebody's recording.
    """
    made, pattern = experiment.record(), experiment.pattern()
    truth = dataclasses.asdict(experiment) | {
        "size": pattern.shape,
        "photons_per_emitter": made.photons_per_emitter,
        "lines_nm": pattern.lines_nm,
        "centres_nm": pattern.centres_nm,
        "span_nm": pattern.span_nm,
        "line_width_nm": pattern.line_width_nm,
    }
    pixel_nm = experiment.pixel_size_nm
    names = ("stack.tif", "truth.tif", "truth.json")
    with sole_writer(directory), Placing(directory) as placing:
        if (directory / "stack.tif").exists() and not (directory / "truth.json").exists():
            raise ValueError(
                f"{directory / 'stack.tif'} is no simulated stack, and would be overwritten: take another directory"
            )
        # the truth first: a run that is killed here leaves no stack without it
        write_text(directory / "truth.json", dumps(truth))
        placing.stage("truth.tif", image_writer(made.x, pixel_size_nm=pixel_nm / experiment.factor))
        placing.stage("stack.tif", image_writer(made.frames, pixel_size_nm=pixel_nm))
    return [directory / name for name in names]
