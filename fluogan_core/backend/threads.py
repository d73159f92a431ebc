"""One thread for the numerical libraries, while work goes on whose pieces are too small to be shared.

A BLAS library hands products and factorisations of some hundred rows to all cores, and its threads wait for each other by
spinning.  Where other processes hold the cores, a step of milliseconds then takes a hundred times as long.  And a sum in a
product depends on how it is shared out: on one thread results do not depend on how many processors a machine has.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["one_thread", "one_thread_held"]

_lock = threading.Lock()
_users = 0
_limit: Any = None


@functools.lru_cache(maxsize=1)
def _controller(torch_is_loaded: bool) -> Any:
    """The libraries of this process; found anew where torch has brought others."""
    import scipy.linalg  # noqa: F401  its BLAS is another one than NumPy's
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Hold the numerical libraries of this process to one thread; several threads may do so at a time.

    OpenBLAS takes this from the main thread only: who computes in threads holds it around all of them.

    Examples
    --------
    >>> from threadpoolctl import threadpool_info
    >>> from fluogan_core.backend.threads import one_thread
    >>> with one_thread():
    ...     {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}
    {1}
    """
    global _users, _limit
    with _lock:
        if not _users:
            _limit = _controller("torch" in sys.modules).limit(limits=1)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _limit.restore_original_limits()


def one_thread_held() -> bool:
    """Whether somebody holds the numerical libraries of this process to one thread."""
    return _users > 0
