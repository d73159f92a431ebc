"""What windows of the camera add to the stencils of a second derivative: squares between nodes, and beside camera pixels."""

from __future__ import annotations

import numpy as np

from ..backend.arrays import backend_of
from ..backend.products import product
from ..backend.typing import Array

__all__ = ["squared_near", "squared_pairs"]


def squared_pairs(
    seen: Array,
    columns: np.ndarray | tuple[np.ndarray, np.ndarray],
    tops: np.ndarray,
    lefts: np.ndarray,
    total: Array,
) -> None:
    """Add the squares of C_p^T s_q, of nodes p and q that are near each other, to the stencil between nodes.

    Parameters
    ----------
    seen : (B, n1, n2, P1, P2) float32
        s of each node in each window.
    columns : (n1, n2, P1, P2), or (n1, P1) and (n2, P2), on the host
        C of each node, or the two whose product it is.
    tops, lefts : (B,) int64 on the host
        The first node of each window.
    total : (N1, R + 1, 2 R + 1, N2) float32
        Added to, at ``total[top + p1, q1 - p1, q2 - p2 + R, left + p2]``; q1 is p1 or more.
    """
    backend = backend_of(seen=seen, total=total)
    xp, (windows, high, wide, down, across), (below, taps) = backend.xp, seen.shape, total.shape[1:3]
    reach = below - 1
    if isinstance(columns, tuple):
        kernel = None if backend.cuda is not None else backend.kernel("squared_pairs")
        if kernel is not None:
            kernel(seen, *columns, tops, lefts, total)
            return
        dense = columns[0][:, None, :, None] * columns[1][None, :, None, :]
    else:
        dense = columns
    host = dense.reshape(high * wide, down, across).transpose(1, 2, 0)
    within = [_not_zero(part, wide) for part in host]  # the PSF is smaller than a window
    lines = backend.asarray(host, dtype=np.float32)
    seen = seen.reshape(windows, high * wide, down, across)
    found = xp.zeros((windows, down, below, taps, across), dtype=np.float32)
    for row in range(down):
        last = min(row + below, down)
        beyond = seen[:, within[row], row:last].reshape(windows, -1, (last - row) * across)
        pairs = product(lines[row, :, within[row]], beyond).reshape(windows, across, last - row, across)
        padded = xp.zeros((*pairs.shape[:3], across + 2 * reach), dtype=np.float32)
        xp.multiply(pairs, pairs, out=padded[..., reach:-reach])
        strides = padded.strides
        banded = xp.lib.stride_tricks.as_strided(
            padded,
            (windows, last - row, taps, across),
            (strides[0], strides[2], strides[3], strides[1] + strides[3]),
        )
        found[:, row, : last - row] = banded
    for top, left, entries in zip(tops, lefts, found):
        total[top : top + down, :, :, left : left + across] += entries


def squared_near(
    values: Array, rows: np.ndarray, columns: np.ndarray, tops: np.ndarray, lefts: np.ndarray, total: Array
) -> None:
    """Add the squares of what lies near each camera pixel to its stencil.

    Parameters
    ----------
    values : (B, n1, n2, P1, P2) float32
        Of places near the pixels of each window; the windows' places stand alike.
    rows, columns : (n1,), (n2,) int64 on the host
        The first place that counts for each row and column of a window; places that are not there add nothing.
    tops, lefts : (B,) int64 on the host
        The first pixel of each window.
    total : (M1, A, B, M2) float32
        Added to, at ``total[top + i, a, b, left + j]``.
    """
    backend = backend_of(values=values, total=total)
    kernel = None if backend.cuda is not None else backend.kernel("squared_near")
    if kernel is not None:
        kernel(values, rows, columns, tops, lefts, total)
        return
    (_, high, wide, *counts), taps = values.shape, total.shape[1:3]
    which = [firsts[:, None] + np.arange(tap) for firsts, tap in zip((rows, columns), taps)]
    inside = [(index >= 0) & (index < count) for index, count in zip(which, counts)]
    down, across = (backend.asarray(np.where(known, index, 0)) for known, index in zip(inside, which))
    known = backend.asarray(inside[0][:, None, :, None] & inside[1][None, :, None, :])
    i, j = (backend.asarray(np.arange(side)) for side in (high, wide))
    found = values[:, i[:, None, None, None], j[None, :, None, None], down[:, None, :, None], across[None, :, None, :]] * known
    for top, left, entries in zip(tops, lefts, (found * found).transpose(0, 1, 3, 4, 2)):
        total[top : top + high, :, :, left : left + wide] += entries


def _not_zero(line: np.ndarray, wide: int) -> slice:
    """The pixels of a window, rows of ``wide`` of them, in which columns of Psi, (columns, n), are not 0: whole rows."""
    rows = np.flatnonzero(line.any(axis=0)) // wide
    return slice(int(rows[0]) * wide, (int(rows[-1]) + 1) * wide) if len(rows) else slice(0, wide)
