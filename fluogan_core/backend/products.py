"""Matrix products in pieces that a BLAS library computes on the calling thread.

OpenBLAS hands every larger product to all cores, and its threads wait for each other by spinning.  Where another process holds
one of the cores, a product of microseconds then takes tens of milliseconds.  The products here are small and many.  In pieces
they take up to twice as long: where the libraries are held to one thread anyway, as while a fit runs, they are left whole.
"""

from __future__ import annotations

import math

from .arrays import backend_of
from .threads import one_thread_held
from .typing import Array

__all__ = ["ONE_THREAD", "product"]

#: Multiplications of a product that is to stay on one thread.  No record.
ONE_THREAD = 2**18


def product(left: Array, right: Array, out: Array | None = None) -> Array:
    """Return ``left @ right``, on the CPU in pieces that BLAS does not share between threads.

    Parameters
    ----------
    left : (..., m, k) array
    right : (..., k, n) array
        Leading axes broadcast.
    out : (..., m, n) array, optional
        Receives the result.

    Returns
    -------
    (..., m, n) array

    Examples
    --------
    >>> import numpy as np
    >>> from fluogan_core.backend.products import product
    >>> left, right = np.ones((3, 100, 200)), np.ones((200, 50))
    >>> product(left, right).shape, float(product(left, right).max())
    ((3, 100, 50), 200.0)
    """
    xp = backend_of(left=left, right=right).xp
    (high, inner), wide = left.shape[-2:], right.shape[-1]
    if xp.__name__ != "numpy" or high * inner * wide <= ONE_THREAD or one_thread_held():
        return xp.matmul(left, right, out=out)
    area = max(1, ONE_THREAD // inner)
    rows = min(high, max(1, math.isqrt(area)))
    columns = min(wide, max(1, area // rows))
    rows = min(high, max(1, area // columns))
    if out is None:
        lead = xp.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        out = xp.empty((*lead, high, wide), dtype=xp.result_type(left, right))
    for top in range(0, high, rows):
        for start in range(0, wide, columns):
            xp.matmul(
                left[..., top : top + rows, :],
                right[..., start : start + columns],
                out=out[..., top : top + rows, start : start + columns],
            )
    return out
