"""What a sweep leaves behind: its table, ``sweep.json``, ``sweep.tif`` and the contact sheet ``sweep.png``."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend.replace import Write
from .files import Placing, dumps, image_writer, plain, prepare_directory, spare_inputs, text_writer
from .lock import sole_writer
from .provenance import loaded_versions
from .report import estimate_facts, input_facts, machine_facts, operator_facts
from .result import drawing_of

if TYPE_CHECKING:
    from ..calibration.camera import CameraEstimate
    from ..calibration.psf_width import PSFWidth
    from ..selection.trials import Sweep, Trial
    from ..stack import StackLike

__all__ = ["SWEEP_FILES", "sweep_rows", "sweep_titles", "verdict", "write_sweep"]

log = logging.getLogger("fluogan_core")

#: What :func:`write_sweep` writes.
SWEEP_FILES = ("sweep.json", "sweep.tif", "sweep.png")


def verdict(made: Sweep, index: int) -> str:
    """One trial's place in words."""
    lag = made.behind(index)
    if lag is None:
        return "failed"
    if index == made.best:
        return "the best"
    return "" if lag.told_apart else "not told from it"


def sweep_titles(made: Sweep) -> tuple[str, ...]:
    """Titles of the columns of :func:`sweep_rows`."""
    return ("", *made.vary, "behind the best", "misfit", "halves agree", "s", "")


def sweep_rows(made: Sweep) -> list[tuple[str, ...]]:
    """One row per trial: number, values, nats per frame behind the best ± one standard error, and more."""
    rows = []
    for index, trial in enumerate(made.trials):
        lag, fit = made.behind(index), trial.fit
        figures = ("", "", "")
        if lag is not None and fit is not None:
            agreement = "" if fit.agreement is None else f"{fit.agreement:.3f}"
            figures = (str(lag), f"{fit.mean_misfit:.3g}", agreement)
        values = (value if isinstance(value, str) else f"{value:g}" for value in trial.values.values())
        rows.append((str(index + 1), *values, *figures, f"{trial.seconds:.1f}", verdict(made, index)))
    return rows


def write_sweep(
    made: Sweep,
    directory: str | os.PathLike[str],
    *,
    stack: StackLike | None = None,
    estimate: CameraEstimate | None = None,
    psf_width: PSFWidth | None = None,
    pixel_size_nm: float | None = None,
    command: list[str] | None = None,
    figure: bool = True,
) -> dict[str, Path]:
    """Write what a sweep found: ``sweep.json``, ``sweep.tif`` and ``sweep.png``.

    All are written under temporary names first and renamed when all are whole, the report last; ``files_sha256`` in it tells
    which images it belongs to.  Nothing else in the directory is touched.

    Parameters
    ----------
    made : Sweep
        From :func:`fluogan_core.sweep`, or what its callback was handed.
    directory : path-like
        Made if need be.
    stack : Stack or (T, M1, M2) array, optional
        What was swept; its path, shape and pixel size go into the report.
    estimate : CameraEstimate, optional
        The camera estimate, with its standard errors.
    psf_width : PSFWidth, optional
        How wide the PSF was found to be.
    pixel_size_nm : float, optional
        Camera pixel, nm; that of ``stack`` by default.
    command : list of str, optional
        The command line, kept in the report.
    figure : bool
        Whether to draw ``sweep.png``; where it cannot be drawn, without matplotlib say, the log says so.

    Returns
    -------
    dict of str to Path
        The files, by the names ``"report"``, ``"x"`` and ``"figure"``.  Where every setting failed there is only the report.

    Raises
    ------
    ValueError
        If the directory cannot be written to, is being written to by another process, or holds the stack under the name of a
        file that would be written.
    OSError
        If the disk is full, or the directory goes away meanwhile.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> stack = np.random.default_rng(0).poisson(50.0, (20, 16, 16)) + 100
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, backend="numpy")
    >>> options = fg.SolverOptions(method="none", warm_steps=2)
    >>> swept = fg.sweep(stack, psi=psi, camera=fg.Camera(offset=100.0), options=options, vary={"detail": (0.1, 0.5)})
    >>> folder = tempfile.TemporaryDirectory()
    >>> [path.name for path in fg.write_sweep(swept, folder.name, figure=False).values()]
    ['sweep.json', 'sweep.tif']
    >>> folder.cleanup()
    """
    directory = prepare_directory(directory)
    if pixel_size_nm is None:
        pixel_size_nm = getattr(stack, "pixel_size_nm", None)
    facts = _facts(made, stack, estimate, psf_width, pixel_size_nm, command)
    done = [(index, trial) for index, trial in enumerate(made.trials) if trial.fit is not None]
    digests: dict[str, str] = {}
    with sole_writer(directory):
        spare_inputs(directory, SWEEP_FILES, getattr(stack, "path", None))
        with Placing(directory) as placing:
            if done:
                digests["sweep.tif"] = placing.stage("sweep.tif", _images(made, done, pixel_size_nm))
            if done and figure:
                drawn = drawing_of("sweep.png", lambda plot: plot.contact_sheet(made, pixel_size_nm=pixel_size_nm))
                if drawn is not None:
                    digests["sweep.png"] = placing.stage("sweep.png", drawn)
            placing.stage("sweep.json", text_writer(dumps({"files_sha256": digests} | facts)))
    names = {"report": "sweep.json", "x": "sweep.tif", "figure": "sweep.png"}
    return {key: directory / name for key, name in names.items() if key == "report" or name in digests}


def _images(made: Sweep, done: list[tuple[int, Trial]], pixel_size_nm: float | None) -> Write:
    """All images in one stack, labelled."""
    shared = {name: plain(value) for name, value in dataclasses.asdict(made.options).items() if name not in made.vary}
    return image_writer(
        np.stack([trial.fit.x for _, trial in done if trial.fit is not None]),
        pixel_size_nm=None if pixel_size_nm is None else pixel_size_nm / made.psi.factor,
        labels=[f"{index + 1}: {trial.label}" for index, trial in done],
        info=json.dumps({"settings": [plain(trial.values) for _, trial in done], "shared": shared}),
    )


def _facts(
    made: Sweep,
    stack: StackLike | None,
    estimate: CameraEstimate | None,
    psf_width: PSFWidth | None,
    pixel_size_nm: float | None,
    command: list[str] | None,
) -> dict[str, Any]:
    """The report."""
    return {
        "command": command,
        "versions": loaded_versions(),
        "input": input_facts(made.psi, stack, pixel_size_nm),
        "operator": operator_facts(made.psi, pixel_size_nm),
        "camera": made.camera,
        "camera_estimate": None if estimate is None else estimate_facts(estimate),
        "psf_width": psf_width,
        "parameters": made.options,
        "vary": made.vary,
        "blocks": {"number": int(made.blocks[-1]) + 1, "order": "ABBA"},
        "bad_pixels": np.argwhere(made.bad_pixels),
        "planned": made.planned,
        "best": None if made.best is None else made.best + 1,
        "settings": _settings(made),
        "notes": made.notes,
        **machine_facts(made.psi.backend),
        "timings_s": {"total": sum(trial.seconds for trial in made.trials)},
    }


def _settings(made: Sweep) -> list[dict[str, Any]]:
    """Every trial with its scores; pages of ``sweep.tif`` are counted from 1, as ImageJ does."""
    entries: list[dict[str, Any]] = []
    page = 0
    for index, trial in enumerate(made.trials):
        entry: dict[str, Any] = {"number": index + 1, "values": trial.values, "seconds": trial.seconds}
        fit, lag = trial.fit, made.behind(index)
        if fit is None or lag is None:
            entries.append(entry | {"failure": trial.failure})
            continue
        page += 1
        entries.append(
            entry
            | {
                "page": page,
                "log_density": fit.log_density,
                "behind": lag.difference,
                "behind_error": lag.error,
                "told_from_the_best": lag.told_apart,
                "mean_misfit": fit.mean_misfit,
                "covariance_ratio": fit.covariance_ratio,
                "halves_agree": fit.agreement,
                "mean_frame_noise_excess": fit.excess,
            }
        )
    return entries
