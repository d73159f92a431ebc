"""Blocks of work on several threads: kernels release the interpreter's lock, plain Python threads carry them.

Compared with ``numba.prange`` this compiles several times faster, hands the next block to whichever thread is free (blocks of
pruned work are uneven), and keeps no thread between calls, so that a process may fork at any time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numba

State = TypeVar("State")


def thread_count() -> int:
    """Return how many threads kernels use: ``NUMBA_NUM_THREADS`` if set, else ``OMP_NUM_THREADS``, else one per core.

    ``numba.get_num_threads()`` would say the same but start Numba's own threads, which raises torch's number in passing.
    """
    cores = int(numba.config.NUMBA_NUM_THREADS)
    stated = os.environ.get("OMP_NUM_THREADS", "")
    if "NUMBA_NUM_THREADS" not in os.environ and stated.isdigit():
        return max(1, min(cores, int(stated)))
    return cores


def run_blocks(work: Callable[[int, State], object], blocks: int, make_state: Callable[[], State]) -> None:
    """Call ``work(block, state)`` for every block on up to :func:`thread_count` threads; the first error is raised.

    Parameters
    ----------
    work : callable
        Its result must not depend on the state, which is only room to work in.
    blocks : int
    make_state : callable
        Called once per thread.
    """
    remaining = iter(range(blocks))
    lock = threading.Lock()

    def run() -> None:
        state = make_state()
        while True:
            with lock:
                block = next(remaining, None)
            if block is None:
                return
            work(block, state)

    threads = min(thread_count(), blocks)
    if threads < 2:
        run()
        return
    with ThreadPoolExecutor(threads) as pool:
        for outcome in [pool.submit(run) for _ in range(threads)]:
            outcome.result()
