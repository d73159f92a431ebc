"""How much memory a computation that is done in pieces may take."""

from __future__ import annotations

import os

__all__ = ["CEILING", "default_memory_budget", "stated_budget"]

#: Bytes that such a computation may take when nothing else is said.
CEILING = 2 * 2**30


def default_memory_budget() -> int:
    """Return the host memory that chunked computations may take.

    Returns
    -------
    bytes : int
        See :meth:`fluogan_core.Backend.memory_budget`.

    Raises
    ------
    ValueError
        If ``FLUOGAN_MEMORY_BUDGET`` is not a number.
    """
    stated = stated_budget()
    if stated is not None:
        return stated
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on every platform
        return CEILING
    return max(64 * 2**20, min(CEILING, free // 4))


def stated_budget() -> int | None:
    """Return the number of bytes that ``FLUOGAN_MEMORY_BUDGET`` states, or None."""
    stated = os.environ.get("FLUOGAN_MEMORY_BUDGET")
    if not stated:
        return None
    try:
        return max(1, int(float(stated)))
    except (ValueError, OverflowError):
        raise ValueError(f"FLUOGAN_MEMORY_BUDGET must be a number of bytes, got {stated!r}") from None
