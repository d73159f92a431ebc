"""Many recordings with the same command: one folder for each, and one table of all."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from ..backend.replace import replace_file
from ..io.files import prepare_directory, said
from ..io.lazy import SeveralChannels, open_lazily
from ..physics.psi import Psi
from ..solvers.progress import progress_reporter
from .canvas import image
from .drive import reconstruct_tiles
from .engines import Call, Engine, run_calls
from .plan import Plan
from .prepare import Settings
from .sizes import asked_sizes

__all__ = ["batch", "recordings_in"]

log = logging.getLogger("fluogan_core")

#: Endings of what a folder of recordings may hold.
_ENDINGS = (".tif", ".tiff", ".btf", ".zarr", ".npy", ".nd2", ".czi", ".lif")
_COLUMNS = ("recording", "folder", "channel", "status", "frames", "rows", "columns", "gain", "offset", "noise_std",
            "photons_per_emitter", "signal_to_noise", "method", "light", "background")  # fmt: skip
#: What a recording may fail by without costing another one.
_FAILURES = (ValueError, TypeError, OSError, RuntimeError, MemoryError, ImportError)

Row = dict[str, Any]


def recordings_in(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the recordings that lie in a folder, in the order of their names.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    list of Path
    """
    return sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in _ENDINGS and path.name[0] != ".")


def batch(
    recordings: Iterable[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    psi: Psi | Callable[[Path, int | None], Psi],
    engine: Engine | int = 1,
    cards: Sequence[int] = (),
    progress: bool | None = None,
    **settings: Unpack[Settings],
) -> list[Row]:
    """Reconstruct recordings, each into a folder of its own, and keep a table of them.

    A recording that cannot be reconstructed is noted in the table and costs no other.  Of one with several channels each is
    reconstructed, one after the other, unless ``channel`` says which.  What is done stays done: the same call goes on after an
    interruption.  Where there are at least as many recordings as processes, each process takes whole recordings; else they
    share the tiles of one after the other.

    Parameters
    ----------
    recordings : iterable of path-like
    folder : path-like
        Gets a folder for each recording, called as it is (and ``-c0``, ``-c1``, ... for its channels), and ``table.csv``.
        Where several are called alike, the folders that they lie in are part of the name.
    psi : Psi or callable
        The operator with the PSF as described, for all; or what returns that of a recording when called with its path and
        its channel, where they differ in the size of their pixels.
    engine : int or Engine
        So many processes; or what is handed whole recordings: an executor of concurrent.futures or submitit, or a Dask client.
    cards : sequence of int, optional
        CUDA devices, one process for each.
    progress : bool, optional
        Show a bar on standard error; by default if that is a terminal.
    **settings
        As for :func:`prepare`.

    Returns
    -------
    list of dict
        The rows of the table.

    Raises
    ------
    ValueError, TypeError
        If a recording is named twice, or a size is one that no recording can take.
    RuntimeError
        If processes end again and again without a recording being done.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> folder = tempfile.TemporaryDirectory()
    >>> for name in "ab":
    ...     np.save(f"{folder.name}/{name}.npy", np.random.default_rng(0).poisson(50.0, (20, 24, 24)) + 100)
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (24, 24), 2, backend="numpy")
    >>> options = fg.SolverOptions(method="none", warm_steps=3)
    >>> known = {"camera": fg.Camera(offset=100.0), "photons_per_emitter": 1.0, "psf_width": 1.0}
    >>> files = fg.scale.recordings_in(folder.name)
    >>> rows = fg.scale.batch(files, folder.name + "/out", psi=psi, options=options, **known)
    >>> [(row["folder"], row["status"]) for row in rows]
    [('a', 'done'), ('b', 'done')]
    >>> folder.cleanup()
    """
    paths = [Path(recording) for recording in recordings]
    names = _names_of(paths)
    # what no recording can take is said once, before any work
    tile, halo, window, step = (settings.get("tile"), settings.get("halo"), settings.get("window"), settings.get("step"))
    asked_sizes(tile, halo, window, step, settings.get("recalibrate", False))
    target = prepare_directory(folder)
    rows: list[Row] = []
    for path, name in zip(paths, names):
        rows += _channels_of(path, name, settings.get("channel"))
    calls: dict[int, Call] = {}
    for number, row in enumerate(rows):
        if "status" in row:
            continue
        try:
            mine = psi if isinstance(psi, Psi) else psi(Path(row["recording"]), row["channel"])
        except _FAILURES as error:
            _fail(row, error)
            continue
        # a worker of a cluster may stand in another folder
        calls[number] = (_reconstructed, (row, os.path.abspath(row["recording"]), os.path.abspath(target), mine, settings))

    def done(number: int, row: Row) -> None:
        rows[number] = row
        _write_table(target / "table.csv", rows)

    _write_table(target / "table.csv", rows)
    if not isinstance(engine, int) or 1 < (len(cards) or engine) <= len(calls):
        with progress_reporter(len(calls), 0, progress) as report:
            counted: list[str] = []

            def note(number: int, row: Row) -> None:
                done(number, row)
                counted.append(row["folder"])
                report(len(counted), len(calls), row["folder"])

            is_done: Callable[[int], bool] = lambda number: "status" in rows[number]  # noqa: E731
            failed = run_calls(calls, engine, cards=cards, done=note, is_done=is_done, what="recording")
        for number, reason in failed.items():
            done(number, _fail(rows[number], reason))
    else:
        for number, (function, arguments) in calls.items():
            done(number, function(*arguments, engine, cards, progress))
    return rows


def _channels_of(path: Path, name: str, channel: int | None) -> list[Row]:
    """The rows of a recording: one, or one for each of its channels; what cannot be opened has failed."""
    row: Row = {"recording": os.fspath(path), "folder": name, "channel": channel}
    try:
        open_lazily(path, channel=channel)
    except SeveralChannels as found:
        return [row | {"folder": f"{name}-c{number}", "channel": number} for number in range(found.count)]
    except _FAILURES as error:
        return [_fail(row, error)]
    return [row]


def _fail(row: Row, error: Exception) -> Row:
    """Note why a recording failed; its path stands in the row already."""
    text = said(error)
    for path in (row["recording"], os.path.abspath(row["recording"])):
        text = text.removeprefix(f"{path} ").removeprefix(f"{path}: ")
    row["status"] = text
    log.warning("%s: %s", row["folder"], row["status"])
    return row


def _reconstructed(
    row: Row,
    path: str,
    target: str,
    psi: Psi,
    settings: Settings,
    engine: Engine | int = 1,
    cards: Sequence[int] = (),
    progress: bool | None = False,
) -> Row:
    """Reconstruct a recording, and return its row."""
    more: Settings = {**settings, "channel": row["channel"]}
    folder = Path(target) / row["folder"]
    try:
        plan = reconstruct_tiles(path, folder, psi=psi, engine=engine, cards=cards, progress=progress, **more)
    except _FAILURES as error:
        return _fail(row, error)
    return row | _described(plan)


def _described(plan: Plan) -> Row:
    """What the table says of a recording that is done."""
    frames, height, width = plan.source["shape"]
    row: Row = {"status": "done", "frames": frames, "rows": height, "columns": width}
    row |= {name: getattr(plan.camera, name) for name in ("gain", "offset", "noise_std")}
    row |= {"photons_per_emitter": plan.psi.photons_per_emitter, "method": plan.options.method}
    row["signal_to_noise"] = plan.noise.signal_to_noise
    light = [_total(image(plan, part)) for part in ("x", "b")]
    return row | {"light": light[0] * plan.psi.photons_per_emitter, "background": light[1]}


def _total(canvas: Any) -> float:
    """Sum over an image, of a movie the mean over its windows; a band of rows at a time."""
    bands = (np.asarray(canvas[..., top : top + 256, :]) for top in range(0, canvas.shape[-2], 256))
    total = sum(float(band.sum(dtype=np.float64)) for band in bands)
    return total / (canvas.shape[0] if canvas.ndim == 3 else 1)


def _names_of(paths: Sequence[Path]) -> list[str]:
    """A name for the folder of each recording: its own; where several have it, with its folder's, or its whole path."""
    whole = [path.absolute() for path in paths]
    twice = sorted({str(path) for path in whole if whole.count(path) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} comes twice: name each recording once")
    ways: tuple[Callable[[Path], str], ...] = (
        _stem,
        lambda path: f"{path.parent.name}-{_stem(path)}",
        lambda path: "-".join(path.parts[1:]),
    )
    names = [_stem(path) for path in whole]
    for way in ways[1:]:
        names = [way(path) if names.count(name) > 1 else name for path, name in zip(whole, names)]
    return names


def _stem(path: Path) -> str:
    """A file's name without its ending, and without the ``.ome`` before it."""
    return path.stem.removesuffix(".ome")


def _write_table(path: Path, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for row in rows if "status" in row)
    replace_file(path, lambda handle: handle.write(text.getvalue().encode()))
