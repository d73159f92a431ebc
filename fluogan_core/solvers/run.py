"""All remaining steps of a solver: progress shown, the callback asked, checkpoints written."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import Protocol

from ..backend.threads import one_thread
from .phase import Callback, Phase
from .progress import progress_reporter

__all__ = ["Steps", "run_all"]

log = logging.getLogger("fluogan_core")


class Steps(Protocol):
    """What can be run: :class:`fluogan_core.Solver`."""

    @property
    def current(self) -> Phase | None: ...

    @property
    def steps_done(self) -> int: ...

    @property
    def total_steps(self) -> int: ...

    def step(self) -> dict[str, float]: ...

    def end(self) -> None: ...

    def save(self, path: Path) -> None: ...


def run_all(
    solver: Steps, callback: Callback | None, progress: bool | None, checkpoint: Path | None, checkpoint_seconds: float
) -> None:
    """Step until all phases have ended; see :meth:`fluogan_core.Solver.run`."""
    if checkpoint is not None and not checkpoint.parent.is_dir():
        raise FileNotFoundError(
            f"there is no directory {checkpoint.parent} for the checkpoint {checkpoint.name}; make it first"
        )
    written, whole = time.monotonic(), True
    with progress_reporter(solver.total_steps, solver.steps_done, progress) as report:
        try:
            while (phase := solver.current) is not None:
                whole = False
                # the work of all phases but a network's is too small to be shared between threads
                with contextlib.nullcontext() if phase.name == "network" else one_thread():
                    record = solver.step()
                whole = True
                report(solver.steps_done, solver.total_steps, phase.headline(record))
                if callback is not None and callback(solver, record) is False:
                    solver.end()
                due = solver.current is not phase or time.monotonic() - written >= checkpoint_seconds
                if checkpoint is not None and due:
                    _keep(solver, checkpoint)
                    written = time.monotonic()
        finally:
            # a step that broke off half-way is not a state to go on from: the file keeps the last whole one
            if checkpoint is not None and whole:
                _keep(solver, checkpoint)


def _keep(solver: Steps, checkpoint: Path) -> None:
    """Write the state; a disk that is full costs no step and no result."""
    try:
        solver.save(checkpoint)
    except (OSError, RuntimeError) as error:  # torch raises the second when its file cannot be written
        log.warning("the checkpoint %s could not be written (%s)", checkpoint, " ".join(str(error).split()))
