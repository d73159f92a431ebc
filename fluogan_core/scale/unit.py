"""The unit of work: one tile of one window, from a folder and two numbers.

It can be done by any process, again and again.  What is done is not computed anew, and the outcome does not depend on who
computes it, nor on what else is done.
"""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..backend.replace import replace_file
from ..backend.threads import one_thread
from .canvas import paint
from .fit import Fitted, fit_tile
from .plan import Plan, load_plan

__all__ = ["keep", "run_tile"]


def run_tile(folder: str | os.PathLike[str], number: int, window: int | None = None) -> list[dict[str, Any]]:
    """Compute one tile of a plan and write it, unless that is done.

    Parameters
    ----------
    folder : path-like
        Where the plan is (:func:`fluogan_core.scale.prepare`).
    number : int
        Of the tile, from 0.
    window : int, optional
        Of a movie, from 0; those before it that are missing are computed first.  All windows by default.

    Returns
    -------
    list of dict
        Of each window that was computed: ``tile``, ``window``, ``steps``, ``seconds``, ``stops``.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no plan, or no such tile or window, or the recording was changed.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> folder = tempfile.TemporaryDirectory()
    >>> np.save(folder.name + "/stack.npy", np.random.default_rng(0).poisson(50.0, (20, 48, 24)) + 100)
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (24, 24), 2, backend="numpy")
    >>> options = fg.SolverOptions(method="none", warm_steps=3)
    >>> given = {"camera": fg.Camera(offset=100.0), "photons_per_emitter": 1.0, "psf_width": 1.0}
    >>> plan = fg.scale.prepare(folder.name + "/stack.npy", folder.name + "/out", psi=psi, options=options, tile=24, **given)
    >>> [done["steps"] for done in fg.scale.run_tile(plan.folder, 0)], fg.scale.run_tile(plan.folder, 0)
    ([3], [])
    >>> folder.cleanup()
    """
    plan = load_plan(folder)
    if not 0 <= number < len(plan.grid.tiles):
        raise ValueError(f"there is no tile {number}: the plan has {len(plan.grid.tiles)}, counted from 0")
    if window is not None and not 0 <= window < len(plan.windows):
        raise ValueError(f"there is no window {window}: the plan has {len(plan.windows)}, counted from 0")
    last = len(plan.windows) - 1 if window is None else window
    made, source = [], None
    for current in range(last + 1):
        if plan.is_done(number, current):
            paint(plan, number, current)
            continue
        source = plan.open() if source is None else source
        started = time.perf_counter()
        start = _start_of(plan, number, current)
        with one_thread():
            fitted = fit_tile(plan, source, plan.grid.tiles[number], current, start)
        keep(plan, number, current, fitted)
        paint(plan, number, current)
        made.append(
            {
                "tile": number,
                "window": current,
                "steps": fitted.steps,
                "seconds": time.perf_counter() - started,
                "stops": {name: str(stop) for name, stop in fitted.stops.items()},
            }
        )
    return made


def _start_of(plan: Plan, number: int, window: int) -> np.ndarray | None:
    """The image of the window before, to start from."""
    if not window:
        return None
    return plan.load(plan.warm(number, window - 1), "z")


def keep(plan: Plan, number: int, window: int, fitted: Fitted) -> None:
    """Write a tile that is done: its part of the image, after what the next window starts from."""
    tile, factor = plan.grid.tiles[number], plan.psi.factor
    path = plan.part(number, window)
    path.parent.mkdir(parents=True, exist_ok=True)
    if window + 1 < len(plan.windows):
        _write(plan.warm(number, window), z=fitted.z)
    _write(path, x=fitted.x[tile.inside(factor)], b=fitted.b[tile.inside()], steps=np.array(fitted.steps))
    if window > 1:
        plan.warm(number, window - 2).unlink(missing_ok=True)


def _write(path: Path, **arrays: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    replace_file(path, lambda handle: handle.write(buffer.getbuffer()))
