"""Many recordings with the same command: one folder for each, and one table of all."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from ..backend.replace import replace_file
from ..io.files import prepare_directory, said
from ..io.lazy import SeveralChannels
from ..physics.psi import Psi
from .canvas import image
from .drive import reconstruct_tiles
from .engines import Engine
from .prepare import Settings

__all__ = ["batch", "recordings_in"]

log = logging.getLogger("fluogan_core")

#: Endings of what a folder of recordings may hold.
_ENDINGS = (".tif", ".tiff", ".btf", ".zarr", ".npy", ".nd2", ".czi", ".lif")
_COLUMNS = ("recording", "folder", "channel", "status", "frames", "rows", "columns", "gain", "offset", "noise_std",
            "photons_per_emitter", "signal_to_noise", "method", "light", "background")  # fmt: skip


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
    progress: bool | None = None,
    **settings: Unpack[Settings],
) -> list[dict[str, Any]]:
    """Reconstruct recordings one after the other, each into a folder of its own, and keep a table of them.

    A recording that cannot be reconstructed is noted in the table and costs no other.  Of one with several channels each is
    reconstructed, one after the other, unless ``channel`` says which.  What is done stays done: the same call goes on after an
    interruption.

    Parameters
    ----------
    recordings : iterable of path-like
    folder : path-like
        Gets a folder for each recording, called as it is (and ``-c0``, ``-c1``, ... for its channels), and ``table.csv``.
    psi : Psi or callable
        The operator with the PSF as described, for all; or what returns that of a recording when called with its path and
        its channel, where they differ in the size of their pixels.
    engine, progress, **settings
        As for :func:`reconstruct_tiles`.

    Returns
    -------
    list of dict
        The rows of the table.

    Raises
    ------
    ValueError
        If two recordings have the same name.

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
    names = [path.name.split(".")[0] for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"recordings of one batch need names of their own, and {', '.join(twice)} comes twice")
    target = prepare_directory(folder)
    rows: list[dict[str, Any]] = []
    waiting = deque((path, name, settings.get("channel")) for path, name in zip(paths, names))
    while waiting:
        path, name, channel = waiting.popleft()
        row: dict[str, Any] = {"recording": os.fspath(path), "folder": name, "channel": channel}
        try:
            mine = psi(path, channel) if callable(psi) else psi
            more: Settings = {**settings, "channel": channel}
            plan = reconstruct_tiles(path, target / name, psi=mine, engine=engine, progress=progress, **more)
        except SeveralChannels as found:
            waiting.extendleft((path, f"{name}-c{number}", number) for number in reversed(range(found.count)))
            continue
        except (ValueError, TypeError, OSError, RuntimeError, MemoryError, ImportError) as error:
            row["status"] = said(error).removeprefix(f"{path} ").removeprefix(f"{path}: ")
            log.warning("%s: %s", name, row["status"])
        else:
            frames, height, width = plan.source["shape"]
            row |= {"status": "done", "frames": frames, "rows": height, "columns": width}
            row |= {name: getattr(plan.camera, name) for name in ("gain", "offset", "noise_std")}
            row |= {"photons_per_emitter": plan.psi.photons_per_emitter, "method": plan.options.method}
            row["signal_to_noise"] = plan.noise.signal_to_noise
            light = [_total(image(plan, part)) for part in ("x", "b")]
            row |= {"light": light[0] * plan.psi.photons_per_emitter, "background": light[1]}
        rows.append(row)
        _write_table(target / "table.csv", rows)
    return rows


def _total(canvas: Any) -> float:
    """Sum over an image, of a movie the mean over its windows; a band of rows at a time."""
    bands = (np.asarray(canvas[..., top : top + 256, :]) for top in range(0, canvas.shape[-2], 256))
    total = sum(float(band.sum(dtype=np.float64)) for band in bands)
    return total / (canvas.shape[0] if canvas.ndim == 3 else 1)


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_file(path, lambda handle: handle.write(text.getvalue().encode()))
