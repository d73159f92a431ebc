"""The files of a result: ``x.tif``, ``b.tif``, ``report.json`` and ``figure.png``."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import dumps, prepare_directory, replace_file, spare_inputs, write_image, write_text
from .report import build_report

if TYPE_CHECKING:
    from ..calibration.camera import CameraEstimate
    from ..calibration.psf_width import PSFWidth
    from ..solvers.result import Result

__all__ = ["RESULT_FILES", "write_result"]

log = logging.getLogger("fluogan_core")


#: What :func:`write_result` writes.
RESULT_FILES = ("x.tif", "b.tif", "report.json", "figure.png")


def write_result(
    result: Result,
    directory: str | os.PathLike[str],
    *,
    stack: Any = None,
    estimate: CameraEstimate | None = None,
    psf_width: PSFWidth | None = None,
    pixel_size_nm: float | None = None,
    command: list[str] | None = None,
    figure: bool | Mapping[str, Any] = True,
) -> dict[str, Path]:
    """Write what a reconstruction found: ``x.tif``, ``b.tif``, ``report.json`` and ``figure.png``.

    Files of these names are replaced one by one; nothing else in the directory is touched.

    Parameters
    ----------
    result : Result
        From :func:`fluogan_core.reconstruct`.
    directory : path-like
        Made if need be.
    stack : Stack or (T, M1, M2) array, optional
        What was reconstructed; its path, shape and pixel size go into the report.
    estimate : CameraEstimate, optional
        The camera estimate, with its standard errors.
    psf_width : PSFWidth, optional
        How wide the PSF was found to be.
    pixel_size_nm : float, optional
        Camera pixel, nm; that of ``stack`` by default.  ``b.tif`` carries it, ``x.tif`` it divided by the factor.
    command : list of str, optional
        The command line, kept in the report.
    figure : bool or mapping
        Whether to draw ``figure.png`` (needs matplotlib; without it the log says so); a mapping holds options of
        :func:`fluogan_core.io.figures.figure`.

    Returns
    -------
    dict of str to Path
        The files, by the names ``"x"``, ``"b"``, ``"report"`` and ``"figure"``.

    Raises
    ------
    ValueError
        If the directory cannot be written to, or holds the stack under the name of a file that would be written.
    """
    directory = prepare_directory(directory)
    spare_inputs(directory, RESULT_FILES, getattr(stack, "path", None))
    if pixel_size_nm is None:
        pixel_size_nm = getattr(stack, "pixel_size_nm", None)
    fine_nm = None if pixel_size_nm is None else pixel_size_nm / result.psi.factor
    report = build_report(
        result, stack=stack, estimate=estimate, psf_width=psf_width, pixel_size_nm=pixel_size_nm, command=command
    )
    to_host = result.psi.backend.to_host
    files = {
        "x": write_image(directory / "x.tif", to_host(result.x), pixel_size_nm=fine_nm),
        "b": write_image(directory / "b.tif", to_host(result.b), pixel_size_nm=pixel_size_nm),
        "report": write_text(directory / "report.json", dumps(report)),
    }
    if figure is not False:
        from . import figures as plot

        options = {} if figure is True else dict(figure)
        try:
            drawing = plot.figure(result, pixel_size_nm=pixel_size_nm, **options)
        except ImportError:
            log.warning("figure.png is left out: matplotlib is not installed (pip install 'fluogan-core[plot]')")
        else:
            files["figure"] = replace_file(directory / "figure.png", lambda part: plot.save(drawing, part))
    if "figure" not in files and (directory / "figure.png").exists():
        log.warning("%s is of an earlier run", directory / "figure.png")
    return files
