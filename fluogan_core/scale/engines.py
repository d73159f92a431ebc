"""Who computes the tiles: this process, a pool of processes, or what has ``submit`` (Dask, submitit, concurrent.futures).

Nothing here schedules.  Tiles are handed to an engine, and those that are missing when it ends are handed to it again.  A tile
that is done stays done, and one that fails costs no other.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import multiprocessing
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any, Protocol

from ..backend.threads import one_thread
from ..io.files import said
from .plan import Plan
from .unit import run_tile

__all__ = ["Engine", "processes", "run_calls", "run_tiles"]

log = logging.getLogger("fluogan_core")

#: Times in a row that a pool may break without a tile being done, before it is given up.
_PATIENCE = 5
#: Failures to write, which no other tile is spared: nothing is gained by going on.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
Done = Callable[[list[dict[str, Any]]], None]
Call = tuple[Callable[..., Any], tuple[Any, ...]]
Made = Callable[[int, Any], None]


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
        If tiles have failed: the others are computed first.  If processes end again and again without a tile being done: killed
        for want of memory, for one.
    OSError
        If the disk is full, or nothing can be written to it: at once.
    """
    if cards and plan.psi.backend.name != "cupy":
        raise ValueError(f"cards= needs CUDA, but this plan is for {plan.psi.backend.device}: leave cards out, or take CuPy")
    missing = [number for number in numbers if not plan.is_done(number)]
    # a worker of a cluster may stand in another folder
    folder = os.path.abspath(plan.folder)
    calls: dict[int, Call] = {number: (run_tile, (folder, number)) for number in missing}
    failed = run_calls(calls, engine, cards=cards, done=lambda number, made: done(made), is_done=plan.is_done, what="tile")
    if failed:
        first, shown = next(iter(failed.values())), ", ".join(map(str, list(failed)[:8])) + (", ..." if len(failed) > 8 else "")
        raise RuntimeError(
            f"{len(failed)} of {len(missing)} tiles failed ({shown}): {said(first)}; what is done is kept, and the same "
            "command tries these again"
        ) from first


def run_calls(
    calls: Mapping[int, Call],
    engine: Engine | int,
    *,
    cards: Sequence[int] = (),
    done: Made,
    is_done: Callable[[int], bool],
    what: str,
) -> dict[int, Exception]:
    """Let an engine make calls, each of which may be made again and again.

    Parameters
    ----------
    calls : mapping of int to (function, arguments)
    engine, cards
        As for :func:`run_tiles`.
    done : callable
        Called with the number of a call and what it has returned.
    is_done : callable
        Whether a call need not be made again, by its number: asked where a process was killed.
    what : str
        What a call computes, for the log.

    Returns
    -------
    dict of int to Exception
        Of calls that have failed.

    Raises
    ------
    RuntimeError, OSError
        As :func:`run_tiles`, but for calls that have failed.
    """
    failed: dict[int, Exception] = {}

    def note(number: int, result: Callable[[], Any]) -> None:
        """Wait for a call; one that fails is written down, unless that would be said of all."""
        try:
            made = result()
        except BrokenProcessPool:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise
            log.warning("%s %d failed (%s): the others go on", what, number, said(error))
            failed[number] = error
        else:
            done(number, made)

    if isinstance(engine, int) and (cards or engine > 1):
        _call_in_processes(calls, engine, cards, note, lambda number: number in failed or is_done(number))
    elif isinstance(engine, int):
        for number, (function, arguments) in calls.items():
            note(number, functools.partial(_quietly, function, arguments))
    else:
        # a cluster that remembers a call would not make it again for a folder that was removed since: no two are the same
        token = uuid.uuid4().hex
        with one_thread():
            jobs = {number: engine.submit(_call, *call, token) for number, call in calls.items()}
            for number, job in _as_completed(jobs):
                note(number, job.result)
    return failed


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], token: str) -> Any:
    return function(*arguments)


def _quietly(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call without what a fit says of itself: it would be said for every tile, and other processes say nothing either."""
    level = log.level
    log.setLevel(max(level, logging.WARNING))
    try:
        return function(*arguments)
    finally:
        log.setLevel(level)


def _call_in_processes(
    calls: Mapping[int, Call],
    workers: int,
    cards: Sequence[int],
    note: Callable[[int, Callable[[], Any]], None],
    is_done: Callable[[int], bool],
) -> None:
    missing, broken = dict(calls), 0
    while missing:
        before = len(missing)
        with contextlib.suppress(BrokenProcessPool), processes(workers, cards) as pool:
            for number, job in _as_completed({number: pool.submit(_call, *call, "") for number, call in missing.items()}):
                note(number, job.result)
        missing = {number: call for number, call in missing.items() if not is_done(number)}
        if missing:
            broken = broken + 1 if len(missing) == before else 0
            if broken >= _PATIENCE:
                raise RuntimeError(
                    f"processes were killed {broken} times and nothing was done meanwhile: take fewer --workers, or smaller "
                    "tiles (--tile); what is done is kept"
                )
            log.warning("a process was killed: %d are left, and go on in new processes", len(missing))


def _as_completed(jobs: dict[int, Any]) -> Iterator[tuple[int, Any]]:
    """Jobs and their numbers as they end: futures are waited for together, jobs of other kinds one after the other."""
    if not all(isinstance(job, Future) for job in jobs.values()):
        yield from jobs.items()
        return
    numbers, waiting = {job: number for number, job in jobs.items()}, set(jobs.values())
    try:
        while waiting:
            ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            # of a broken pool, what was done before it broke comes first
            yield from ((numbers[job], job) for job in sorted(ended, key=lambda job: job.exception() is not None))
    finally:
        for job in waiting:
            job.cancel()


@contextlib.contextmanager
def processes(workers: int, cards: Sequence[int] = ()) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes, of which none is left when this one ends, is killed, or is interrupted.

    A pool waits for what its processes have begun, and they wait for a process that was killed.  Here each holds the end of a
    pipe whose other end this process holds, and ends when that is closed.

    Parameters
    ----------
    workers : int
    cards : sequence of int, optional
        CUDA devices: as many processes, each of which sees one.

    Yields
    ------
    ProcessPoolExecutor
    """
    context = multiprocessing.get_context("spawn")
    theirs, mine = context.Pipe(duplex=False)
    numbers: Any = context.Queue() if cards else None
    for card in cards:
        numbers.put(card)
    pool = ProcessPoolExecutor(len(cards) or workers, mp_context=context, initializer=_begin, initargs=(theirs, numbers))
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        mine.close()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        mine.close()
        theirs.close()


def _begin(pipe: Connection, numbers: Any) -> None:
    """What a process does first: it sees one CUDA device, before CuPy is imported, and ends with the process that made it."""
    if numbers is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(numbers.get())

    def watch() -> None:
        with contextlib.suppress(OSError, EOFError):
            pipe.recv()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
