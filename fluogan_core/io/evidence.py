"""The files of an evidence map: ``evidence.tif``, ``evidence.json`` and ``evidence.png``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .evidence_words import evidence_facts
from .files import Placing, dumps, image_writer, prepare_directory, text_writer
from .lock import sole_writer
from .result import drawing_of

if TYPE_CHECKING:
    from ..metrics.evidence_map import Evidence

__all__ = ["EVIDENCE_FILES", "write_evidence"]

#: What :func:`write_evidence` writes.
EVIDENCE_FILES = ("evidence.tif", "evidence.json", "evidence.png")


def write_evidence(
    found: Evidence,
    image: np.ndarray,
    directory: str | os.PathLike[str],
    *,
    pixel_size_nm: float,
    command: list[str] | None = None,
    figure: bool = True,
) -> dict[str, Path]:
    """Write ``evidence.tif`` (the finest certain width, nm), ``evidence.json`` (the gaps) and ``evidence.png``.

    Parameters
    ----------
    found : Evidence
        From :func:`fluogan_core.evidence`.
    image : (N1, N2) array
        The image that was judged.
    directory : path-like
        Made if need be.
    pixel_size_nm : float
        Pixel of the image, nm.
    command : list of str, optional
        The command line, kept in ``evidence.json``.
    figure : bool
        Whether to draw ``evidence.png``.

    Returns
    -------
    dict of str to Path
        The files that were written, by the names ``"map"``, ``"facts"`` and ``"figure"``.

    Raises
    ------
    ValueError
        If the directory cannot be written to, or is being written to by another process.
    OSError
        If the disk is full, or the directory goes away meanwhile.
    """
    directory = prepare_directory(directory)
    written = {"map": directory / "evidence.tif"}
    with sole_writer(directory), Placing(directory) as placing:
        placing.stage("evidence.tif", image_writer(found.finest_nm, pixel_size_nm=pixel_size_nm))
        if figure:
            from .evidence_figure import evidence_figure

            drawn = drawing_of("evidence.png", lambda _: evidence_figure(found, image, pixel_size_nm=pixel_size_nm))
            if drawn is not None:
                placing.stage("evidence.png", drawn)
                written["figure"] = directory / "evidence.png"
        facts = evidence_facts(found)
        placing.stage("evidence.json", text_writer(dumps({"command": command} | facts)))
        written["facts"] = directory / "evidence.json"
    return written
