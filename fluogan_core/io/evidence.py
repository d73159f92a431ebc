"""The files of an evidence map: ``evidence.tif``, ``evidence.json`` and ``evidence.png``; and those of the usual figures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .check_words import CHECK_FILES, check_facts, check_writers
from .evidence_words import evidence_facts
from .files import Placing, dumps, image_writer, prepare_directory, text_writer
from .lock import sole_writer
from .result import drawing_of

if TYPE_CHECKING:
    from ..metrics.evidence_map import Evidence
    from ..metrics.image_checks import ImageChecks

__all__ = ["EVIDENCE_FILES", "write_evidence"]

#: What :func:`write_evidence` writes.
EVIDENCE_FILES = ("evidence.tif", "evidence.json", "evidence.png", "checks.png", *CHECK_FILES)


def write_evidence(
    found: Evidence,
    image: np.ndarray,
    directory: str | os.PathLike[str],
    *,
    pixel_size_nm: float,
    checks: ImageChecks | None = None,
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
    checks : ImageChecks, optional
        Written as ``rse.tif``, ``rsp.tif``, ``frc.tif`` and ``checks.png``; what they say is kept in ``evidence.json``.
    command : list of str, optional
        The command line, kept in ``evidence.json``.
    figure : bool
        Whether to draw ``evidence.png`` and ``checks.png``.

    Returns
    -------
    dict of str to Path
        The files that were written, by the names ``"map"``, ``"figure"``, ``"rse"``, ``"rsp"``, ``"frc"``, ``"checks"`` and
        ``"facts"``.

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
            from .evidence_figure import checks_figure, evidence_figure

            drawn = drawing_of("evidence.png", lambda _: evidence_figure(found, image, pixel_size_nm=pixel_size_nm))
            if drawn is not None:
                placing.stage("evidence.png", drawn)
                written["figure"] = directory / "evidence.png"
        facts = evidence_facts(found)
        if checks is not None:
            factor = image.shape[0] // checks.agreement.rse.shape[0]
            camera_nm = pixel_size_nm * factor
            facts |= {"checks": check_facts(checks)}
            for name, writer in check_writers(checks, pixel_size_nm=camera_nm, factor=factor).items():
                placing.stage(name, writer)
                written[name.removesuffix(".tif")] = directory / name
            drawn = drawing_of("checks.png", lambda _: checks_figure(checks, pixel_size_nm=camera_nm)) if figure else None
            if drawn is not None:
                placing.stage("checks.png", drawn)
                written["checks"] = directory / "checks.png"
        placing.stage("evidence.json", text_writer(dumps({"command": command} | facts)))
        written["facts"] = directory / "evidence.json"
    return written
