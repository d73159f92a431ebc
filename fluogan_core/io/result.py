"""The files of a result: ``x.tif``, ``b.tif``, ``report.json``, ``report.html`` and ``figure.png``."""

from __future__ import annotations

import io
import logging
import os
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend.checks import instance_of
from ..backend.replace import Write
from ..stack import Stack
from .check_words import CHECK_FILES, check_facts, check_writers
from .drift import drift_table
from .evidence_words import evidence_facts
from .files import Placing, dumps, image_writer, prepare_directory, said, spare_inputs, text_writer
from .lock import sole_writer
from .report import build_report
from .report_page import build_page

if TYPE_CHECKING:
    from ..calibration.calibrate import Calibration
    from ..calibration.camera import CameraEstimate
    from ..calibration.drift import Drift
    from ..calibration.psf_width import PSFWidth
    from ..metrics.evidence_map import Evidence
    from ..metrics.image_checks import ImageChecks
    from ..solvers.result import Result
    from ..stack import StackLike

__all__ = ["RESULT_FILES", "drawing_of", "write_result"]

log = logging.getLogger("fluogan_core")


_NAMES = {
    "x": "x.tif",
    "b": "b.tif",
    "report": "report.json",
    "page": "report.html",
    "figure": "figure.png",
    "drift": "drift.csv",
    "evidence": "evidence.tif",
    "rse": "rse.tif",
    "rsp": "rsp.tif",
    "frc": "frc.tif",
}
#: What :func:`write_result` writes.
RESULT_FILES = tuple(_NAMES.values())


def write_result(
    result: Result,
    directory: str | os.PathLike[str],
    *,
    stack: StackLike | None = None,
    calibration: Calibration | None = None,
    estimate: CameraEstimate | None = None,
    psf_width: PSFWidth | None = None,
    drift: Drift | None = None,
    evidence: Evidence | None = None,
    checks: ImageChecks | None = None,
    pixel_size_nm: float | None = None,
    command: list[str] | None = None,
    figure: bool | Mapping[str, object] = True,
) -> dict[str, Path]:
    """Write what a reconstruction found: ``x.tif``, ``b.tif``, ``report.json``, ``report.html`` and ``figure.png``.

    ``report.html`` says in plain words what came in, what was found, how sure it is and what to check.

    All are written under temporary names first and renamed when all are whole, the report last; ``files_sha256`` in it tells
    which images it belongs to.  Nothing else in the directory is touched, and no other process can write a result there
    meanwhile.

    Parameters
    ----------
    result : Result
        From :func:`fluogan_core.reconstruct`.
    directory : path-like
        Made if need be.
    stack : Stack or (T, M1, M2) array, optional
        What was reconstructed; its path, shape and pixel size go into the report.
    calibration : Calibration, optional
        What the stack was found to be like; its remarks, and the finest distance that its light can show, go into the page.
        Where another shape of the PSF was taken, ``psf_shape`` in the report holds that PSF.
    estimate : CameraEstimate, optional
        The camera estimate, with its standard errors, where there is no calibration.
    psf_width : PSFWidth, optional
        How wide the PSF was found to be, where there is no calibration.
    drift : Drift, optional
        How the sample moved.  Where the stack follows it (:func:`fluogan_core.follow_drift`), ``drift.csv`` is written too.
    evidence : Evidence, optional
        What the frames say of x (:func:`fluogan_core.evidence`): ``evidence.tif``, and the gaps in the report and on the page.
    checks : ImageChecks, optional
        Maps of RSE, RSP and rolling FRC: ``rse.tif``, ``rsp.tif`` and ``frc.tif``, and what they say in the report and on the
        page.
    pixel_size_nm : float, optional
        Camera pixel, nm; that of ``stack`` by default.  ``b.tif`` carries it, ``x.tif`` it divided by the factor.
    command : list of str, optional
        The command line, kept in the report.
    figure : bool or mapping
        Whether to draw ``figure.png`` and the pictures of the page.  Where they cannot be drawn, without matplotlib say, the
        log says so and the other files are written.  A mapping holds options of :func:`fluogan_core.io.figures.figure`.

    Returns
    -------
    dict of str to Path
        The files that were written, by the names ``"x"``, ``"b"``, ``"report"``, ``"page"``, ``"figure"``,
        ``"drift"``, ``"evidence"``, ``"rse"``, ``"rsp"`` and ``"frc"``.

    Raises
    ------
    ValueError
        If the directory cannot be written to, is being written to by another process, or holds the stack under the name of a
        file that would be written; or if a calibration and a part of it are both given.
    OSError
        If the disk is full, or the directory goes away meanwhile; files of an earlier result are left as they were.

    Examples
    --------
    >>> import tempfile, numpy as np, fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (16, 16), 2, backend="numpy")
    >>> stack = np.random.default_rng(0).poisson(100 + psi.forward(np.full(psi.fine_shape, 5.0)), (20, 16, 16))
    >>> options = fg.SolverOptions(method="none", warm_steps=2)
    >>> result = fg.reconstruct(stack, psi=psi, camera=fg.Camera(1.0, 90.0, 1.0), options=options)
    >>> folder = tempfile.TemporaryDirectory()
    >>> files = fg.write_result(result, folder.name, pixel_size_nm=100, figure=False)
    >>> [path.name for path in files.values()]
    ['x.tif', 'b.tif', 'report.json', 'report.html']
    >>> folder.cleanup()
    """
    if calibration is not None:
        if estimate is not None or psf_width is not None:
            raise ValueError("calibration holds the camera estimate and the PSF width: leave estimate and psf_width out")
        estimate, psf_width = calibration.estimate, calibration.psf_width
    from ..solvers.result import Result

    instance_of(result, Result, "result")
    result = result.on_host()
    directory = prepare_directory(directory)
    if pixel_size_nm is None:
        pixel_size_nm = getattr(stack, "pixel_size_nm", None)
    fine_nm = None if pixel_size_nm is None else pixel_size_nm / result.psi.factor
    to_host = result.psi.backend.to_host
    report = build_report(
        result,
        stack=stack,
        estimate=estimate,
        psf_width=psf_width,
        psf_shape=None if calibration is None else calibration.psf_shape,
        row_shift=None if calibration is None else calibration.row_shift,
        remarks=() if calibration is None else calibration.remarks,
        bleaching=None if calibration is None else calibration.bleaching,
        drift=drift,
        pixel_size_nm=pixel_size_nm,
        command=command,
    )
    if evidence is not None:
        report["evidence"] = evidence_facts(evidence)
    if checks is not None:
        report["checks"] = check_facts(checks)
    with sole_writer(directory):
        spare_inputs(directory, RESULT_FILES, getattr(stack, "path", None))
        with Placing(directory) as placing:
            digests = {
                "x.tif": placing.stage("x.tif", image_writer(to_host(result.x), pixel_size_nm=fine_nm)),
                "b.tif": placing.stage("b.tif", image_writer(to_host(result.b), pixel_size_nm=pixel_size_nm)),
            }
            if figure is not False:
                options = {} if figure is True else dict(figure)
                drawn = drawing_of("figure.png", lambda plot: plot.figure(result, pixel_size_nm=pixel_size_nm, **options))
                if drawn is not None:
                    digests["figure.png"] = placing.stage("figure.png", drawn)
            if drift is not None and drift.clear:
                numbers = stack.numbers if isinstance(stack, Stack) else np.arange(len(drift.shifts))
                digests["drift.csv"] = placing.stage("drift.csv", text_writer(drift_table(drift, numbers)))
            if evidence is not None:
                digests["evidence.tif"] = placing.stage("evidence.tif", image_writer(evidence.finest_nm, pixel_size_nm=fine_nm))
            if checks is not None:
                for name, writer in check_writers(checks, pixel_size_nm=pixel_size_nm, factor=result.psi.factor).items():
                    digests[name] = placing.stage(name, writer)
            page = _page_of(result, report, figure, calibration=calibration, drift=drift, evidence=evidence, checks=checks)
            if page is not None:
                digests["report.html"] = placing.stage("report.html", text_writer(page), tells=True)
            placing.stage("report.json", text_writer(dumps({"files_sha256": digests} | report)))
        for name in ("figure.png", "report.html", "drift.csv", "evidence.tif", *CHECK_FILES):
            if name not in digests and (directory / name).exists():
                log.warning("%s is of an earlier run", directory / name)
    return {key: directory / name for key, name in _NAMES.items() if name in digests or name == "report.json"}


def _page_of(
    result: Result,
    report: Mapping[str, object],
    figure: bool | Mapping[str, object],
    *,
    calibration: Calibration | None,
    drift: Drift | None,
    evidence: Evidence | None,
    checks: ImageChecks | None,
) -> str | None:
    """The page; None, and a word in the log, if it cannot be made: a page costs no result."""
    try:
        return build_page(
            result, report, calibration=calibration, drift=drift, evidence=evidence, checks=checks, pictures=figure
        )
    except Exception as error:
        why = textwrap.shorten(said(error), 160, placeholder=" ...")
        log.warning("report.html is left out: it could not be made (%s: %s)", type(error).__name__, why)
        log.debug("while report.html was made", exc_info=True)
    return None


def drawing_of(name: str, draw: Callable[[Any], Any]) -> Write | None:
    """What writes a figure; None, and a word in the log, if it cannot be drawn: a drawing costs no result.

    Parameters
    ----------
    name : str
        Of the file, for the log.
    draw : callable
        Called with :mod:`fluogan_core.io.figures`.
    """
    from . import figures

    try:
        figures.load_matplotlib()
        drawing = draw(figures)
        buffer = io.BytesIO()
        figures.save(drawing, buffer)
    except ImportError:
        log.warning("%s is left out: matplotlib is not installed (pip install 'fluogan-core[plot]')", name)
    except Exception as error:
        why = textwrap.shorten(said(error), 160, placeholder=" ...")
        log.warning("%s is left out: it could not be drawn (%s: %s)", name, type(error).__name__, why)
        log.debug("while %s was drawn", name, exc_info=True)
    else:
        return lambda handle: handle.write(buffer.getbuffer())
    return None
