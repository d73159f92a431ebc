"""One thread for each tile, so that its bytes do not depend on how many processors a machine has.

A sum in a matrix product depends on how it is shared out.  Tiles are computed side by side in processes, which uses the
processors better than threads within one tile do.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["one_thread"]

_lock = threading.Lock()
_users = 0
_limit: Any = None


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Hold the numerical libraries of this process to one thread; several threads may do so at a time.

    OpenBLAS takes this from the main thread only: who computes tiles in threads holds it around all of them.
    """
    from threadpoolctl import threadpool_limits

    global _users, _limit
    with _lock:
        if not _users:
            _limit = threadpool_limits(1)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _limit.restore_original_limits()
