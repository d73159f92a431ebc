"""A cache that makes each value once, however many threads ask for it at the same time."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["once"]

Made = TypeVar("Made")
Key = ParamSpec("Key")


def once(make: Callable[Key, Made]) -> Callable[Key, Made]:
    """Decorate a function so that it runs once per set of arguments.

    ``functools.cache`` runs the function twice when two threads meet on the first call, and hands each thread another
    object.  Here the second thread waits for the first one.

    Parameters
    ----------
    make : callable
        Takes hashable arguments.  It must not call itself with the same arguments.

    Returns
    -------
    callable
        The same function with a cache.  An error is raised to the caller and not kept: the next call tries again.

    Examples
    --------
    >>> made = []
    >>> @once
    ... def square(number):
    ...     made.append(number)
    ...     return number**2
    >>> square(3), square(3), made
    (9, 9, [3])
    """
    cached = functools.cache(make)
    lock = threading.RLock()

    @functools.wraps(make)
    def locked(*args: Key.args, **kwargs: Key.kwargs) -> Made:
        with lock:
            return cached(*args, **kwargs)  # type: ignore[arg-type]

    return locked
