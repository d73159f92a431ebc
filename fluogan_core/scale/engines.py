"""Who computes the tiles: this process, a pool of processes, or what has ``submit`` (Dask, submitit, concurrent.futures).

Nothing here schedules.  Tiles are handed to an engine, and those that are missing when it ends are handed to it again.  A tile
that is done stays done.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from ..backend.threads import one_thread
from .plan import Plan
from .unit import run_tile

__all__ = ["Engine", "run_tiles"]

log = logging.getLogger("fluogan_core")

#: Times in a row that a pool may break without a tile being done, before it is given up.
_PATIENCE = 5
Done = Callable[[list[dict[str, Any]]], None]


class Engine(Protocol):
    """What computes tiles elsewhere: an executor of concurrent.futures or submitit, or a client of Dask."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Any: ...


def run_tiles(
    plan: Plan,
    numbers: Sequence[int],
    engine: Engine | int = 1,
    *,
    cards: Sequence[int] = (),
    done: Done = lambda made: None,
) -> None:
    """Compute tiles that are not done.

    Parameters
    ----------
    plan : Plan
    numbers : sequence of int
        Of the tiles.
    engine : int or Engine
        So many processes, 1 being this one; or what has ``submit`` and gives objects with ``result``.
    cards : sequence of int, optional
        CUDA devices: as many processes, each of which sees one.
    done : callable, optional
        Called with what :func:`run_tile` returns, after each tile.

    Raises
    ------
    ValueError
        If cards are named and the plan does not compute on CUDA.
    RuntimeError
        If processes end again and again without a tile being done: killed for want of memory, for one.
    Exception
        What a tile raised.
    """
    if cards and plan.psi.backend.name != "cupy":
        raise ValueError(f"cards= needs CUDA, but this plan is for {plan.psi.backend.device}: leave cards out, or take CuPy")
    missing = [number for number in numbers if not plan.is_done(number)]
    if isinstance(engine, int):
        workers = len(cards) if cards else engine
        if workers == 1 and not cards:
            for number in missing:
                done(run_tile(plan.folder, number))
            return
        _run_in_processes(plan, missing, workers, cards, done)
        return
    with one_thread():
        for job in _as_completed([engine.submit(run_tile, str(plan.folder), number) for number in missing]):
            done(job.result())


def _run_in_processes(plan: Plan, missing: list[int], workers: int, cards: Sequence[int], done: Done) -> None:
    broken = 0
    while missing:
        before = len(missing)
        try:
            with _pool(workers, cards) as pool:
                for job in _as_completed([pool.submit(run_tile, str(plan.folder), number) for number in missing]):
                    done(job.result())
        except BrokenProcessPool:
            pass
        missing = [number for number in missing if not plan.is_done(number)]
        if missing:
            broken = broken + 1 if len(missing) == before else 0
            if broken >= _PATIENCE:
                raise RuntimeError(
                    f"processes were killed {broken} times and no tile was done meanwhile: take fewer --workers, or smaller "
                    "tiles (--tile); what is done is kept"
                )
            log.warning("a process was killed: %d tiles are left, and go on in new processes", len(missing))


def _as_completed(jobs: list[Any]) -> Iterator[Any]:
    """Jobs as they end: futures are waited for together, jobs of other kinds one after the other."""
    from concurrent.futures import Future

    if not all(isinstance(job, Future) for job in jobs):
        yield from jobs
        return
    waiting = set(jobs)
    try:
        while waiting:
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            # of a broken pool, what was done before it broke comes first
            yield from sorted(ended, key=lambda job: job.exception() is not None)
    finally:
        for job in waiting:
            job.cancel()


def _pool(workers: int, cards: Sequence[int]) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    if not cards:
        return ProcessPoolExecutor(workers, mp_context=context)
    numbers: Any = context.Queue()
    for card in cards:
        numbers.put(card)
    return ProcessPoolExecutor(len(cards), mp_context=context, initializer=_see_one_card, initargs=(numbers,))


def _see_one_card(numbers: Any) -> None:
    """Let this process see one CUDA device: called before CuPy is imported."""
    os.environ["CUDA_VISIBLE_DEVICES"] = str(numbers.get())
