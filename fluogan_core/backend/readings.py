"""Numbers that the host reads: on the CPU they are there; of a card they can be read together, so that the host waits once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

from .arrays import Backend, backend_of
from .typing import Array

__all__ = ["check", "check_bounds", "number", "root", "together"]


def number(value: Array) -> float:
    """Return a () array as a number; within :func:`together` one of a card stays there, as an array, until it is read."""
    cuda = backend_of(value=value).cuda
    return float(value) if cuda is None else cuda.numbers(value.reshape(1))[0]


def root(value: float) -> float:
    """Return the square root of what :func:`number` returned."""
    return math.sqrt(value) if isinstance(value, float) else value**0.5


def check(backend: Backend, numbers: Array, judge: Callable[..., None]) -> None:
    """Call ``judge(*numbers)``, which raises if they are not as they should be.

    Parameters
    ----------
    backend : Backend
    numbers : array of the backend
    judge : callable
        Called at once; for a card within :func:`together`, when all numbers are read.
    """
    if backend.cuda is None:
        judge(*numbers.ravel().tolist())
    else:
        backend.cuda.check(numbers, judge)


def check_bounds(backend: Backend, array: Array, judge: Callable[[float, float], None]) -> None:
    """Call ``judge(low, high)`` with the smallest and the largest element, as :func:`check` does: NaN if one is, 0 of none."""
    if array.size:
        check(backend, backend.xp.stack([array.min(), array.max()]), judge)
    else:
        judge(0.0, 0.0)


@contextlib.contextmanager
def together(backend: Backend) -> Iterator[Callable[..., list[float]]]:
    """Let the host wait once for a card, for all numbers and checks of what runs meanwhile.

    A check that fails raises when it is read, and what was computed since is worth nothing: keep no result before.

    Parameters
    ----------
    backend : Backend

    Yields
    ------
    read : callable
        ``read(*values)`` returns numbers, and what :func:`number` left on the card, as a list of floats.  Whatever was to be
        checked so far is checked first.  What comes after the last call is checked at the end of the context.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.backend.readings import number, together
    >>> with together(fg.get_backend("numpy")) as read:
    ...     read(number(np.ones(3).sum()), 2)
    [3.0, 2.0]
    """
    if backend.cuda is None:
        yield lambda *values: [float(value) for value in values]
        return
    with backend.cuda.together() as read:
        yield read
