"""From a recording to one seamless image: the plan, all tiles, the images put together."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from typing import Any, Unpack

from .._version import __version__
from ..backend.replace import replace_file
from ..backend.typing import ArrayLike
from ..physics.psi import Psi
from ..solvers.progress import progress_reporter
from .canvas import create_canvas, has_canvas, paint, tiffs_of, write_tiffs
from .engines import Engine, run_tiles
from .plan import LOCK, NUMBERS, REPORT, Plan
from .prepare import Settings, prepare

__all__ = ["finish", "reconstruct_tiles", "run_share"]

log = logging.getLogger("fluogan_core")


def reconstruct_tiles(
    recording: str | os.PathLike[str] | ArrayLike,
    folder: str | os.PathLike[str],
    *,
    psi: Psi,
    engine: Engine | int = 1,
    cards: Sequence[int] = (),
    progress: bool | None = None,
    tiff: bool = True,
    **settings: Unpack[Settings],
) -> Plan:
    """Reconstruct a large field or a movie tile by tile, in bounded memory, and write one image.

    What is done stays done: after an interruption the same call goes on.  The bytes of the images do not depend on the engine,
    on the order of the tiles, nor on interruptions.  Each tile is computed on one thread: give as many processes as there are
    processors and memory for.

    Parameters
    ----------
    recording, folder, psi, **settings
        As for :func:`prepare`.
    engine : int or Engine
        So many processes; or an executor of concurrent.futures or submitit, or a Dask client.
    cards : sequence of int, optional
        CUDA devices, one process for each.
    progress : bool, optional
        Show a bar on standard error; by default if that is a terminal.
    tiff : bool
        Write OME-TIFF files beside the OME-Zarr images.

    Returns
    -------
    Plan
        Its folder holds ``x.ome.zarr``, ``b.ome.zarr``, ``x.ome.tif``, ``b.ome.tif`` and ``report.json``.

    Raises
    ------
    ValueError, TypeError
        As :func:`prepare`.
    RuntimeError
        If processes are killed again and again.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> folder = tempfile.TemporaryDirectory()
    >>> stack = np.random.default_rng(0).poisson(50.0, (20, 48, 24)) + 100
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (24, 24), 2, backend="numpy")
    >>> given = {"camera": fg.Camera(offset=100.0), "photons_per_emitter": 1.0, "psf_width": 1.0}
    >>> options = fg.SolverOptions(method="none", warm_steps=3)
    >>> plan = fg.scale.reconstruct_tiles(stack, folder.name, psi=psi, options=options, tile=24, **given)
    >>> fg.scale.image(plan, "x").shape, (plan.folder / "x.ome.tif").is_file()
    ((96, 48), True)
    >>> folder.cleanup()
    """
    plan = prepare(recording, folder, psi=psi, **settings)
    run_share(plan, range(len(plan.grid.tiles)), engine, cards=cards, progress=progress)
    finish(plan, tiff=tiff)
    return plan


def run_share(
    plan: Plan,
    numbers: Sequence[int],
    engine: Engine | int = 1,
    *,
    cards: Sequence[int] = (),
    progress: bool | None = None,
) -> None:
    """Compute some of the tiles of a plan: all, or one job's share of them.

    Parameters
    ----------
    plan : Plan
    numbers : sequence of int
        Of the tiles.
    engine, cards, progress
        As for :func:`reconstruct_tiles`.
    """
    already = sum(plan.is_done(number) for number in numbers)
    with progress_reporter(len(numbers), already, progress) as report:
        count = already

        def note(made: list[dict[str, Any]]) -> None:
            nonlocal count
            count += 1
            last = made[-1] if made else None
            text = f"tile {last['tile']}, {last['steps']} steps in {last['seconds']:.0f} s" if last else "tile done before"
            report(count, len(numbers), text)

        run_tiles(plan, numbers, engine, cards=cards, done=note)


def finish(plan: Plan, *, tiff: bool = True) -> bool:
    """Put the images together if all tiles are done: what is left unpainted, the OME-TIFF files, the report.

    Parameters
    ----------
    plan : Plan
    tiff : bool
        Write the OME-TIFF files.

    Returns
    -------
    bool
        Whether all tiles were done.
    """
    from filelock import FileLock

    count = len(plan.grid.tiles)
    if not plan.is_finished and not all(plan.is_done(number) for number in range(count)):
        return False
    with FileLock(plan.folder / LOCK):
        if not plan.is_finished:
            if not has_canvas(plan):
                create_canvas(plan)
            for window in range(len(plan.windows)):
                for number in range(count):
                    paint(plan, number, window)
            report = json.dumps(_report(plan), indent=1)
            _write_missing_tiffs(plan, tiff)
            replace_file(plan.folder / REPORT, lambda handle: handle.write(report.encode()))
            shutil.rmtree(plan.folder / "parts", ignore_errors=True)
        elif not has_canvas(plan):
            raise FileNotFoundError(
                f"{plan.folder} lacks an image that was finished: the command that made it makes it anew, and so does "
                "fluogan_core.scale.prepare"
            )
        else:
            _write_missing_tiffs(plan, tiff)
    return True


def _write_missing_tiffs(plan: Plan, asked: bool) -> None:
    if asked and not all(path.is_file() for path in tiffs_of(plan)):
        write_tiffs(plan)


def _report(plan: Plan) -> dict[str, Any]:
    """What was done, in numbers: of the plan, and the steps of every tile, window by window."""
    count, windows = len(plan.grid.tiles), len(plan.windows)
    steps = [[int(plan.load(plan.part(number, window), "steps")) for number in range(count)] for window in range(windows)]
    described = json.loads((plan.folder / NUMBERS).read_text())
    return {"fluogan_core": __version__, "tiles": len(plan.grid.tiles), "steps": steps, "plan": described}
