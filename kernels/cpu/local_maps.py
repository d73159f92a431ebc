"""Linear maps whose entries lie near a diagonal: along one axis (:func:`banded`), and in the plane (:func:`stencil`).

Each result is a sum in one fixed order, on the calling thread: the work of a call is far below what a second thread costs.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from ._compile import given, helper, kernel

__all__ = ["banded", "stencil", "stencil_adjoint"]

#: Rows of a banded result that are computed before they are written, transposed.
_HIGH = 8


@helper
def _outside(firsts, taps, size):  # type: ignore[no-untyped-def]
    """Whether what ``taps`` from some first one on reach lies outside; looked at here, since NumPy takes microseconds."""
    least, most = size, 0
    for first in firsts:
        least, most = min(least, first), max(most, first)
    return least < 0 or most + taps > size


@helper
def _row(taps, p, first, image, rows, to):  # type: ignore[no-untyped-def]
    """Row p of the result into row ``to``; a row of the result is read and written once for eight taps."""
    width, columns = taps.shape[1], image.shape[1]
    for j in range(columns):
        rows[to, j] = 0
    k = 0
    while k + 8 <= width:
        t0, t1, t2, t3 = taps[p, k], taps[p, k + 1], taps[p, k + 2], taps[p, k + 3]
        t4, t5, t6, t7 = taps[p, k + 4], taps[p, k + 5], taps[p, k + 6], taps[p, k + 7]
        i = first + k
        for j in range(columns):
            upper = (t0 * image[i, j] + t1 * image[i + 1, j]) + (t2 * image[i + 2, j] + t3 * image[i + 3, j])
            lower = (t4 * image[i + 4, j] + t5 * image[i + 5, j]) + (t6 * image[i + 6, j] + t7 * image[i + 7, j])
            rows[to, j] += upper + lower
        k += 8
    while k < width:
        tap, i = taps[p, k], first + k
        for j in range(columns):
            rows[to, j] += tap * image[i, j]
        k += 1


@helper
def _four_rows(taps, p, first, image, rows, to):  # type: ignore[no-untyped-def]
    """Rows p to p + 3 of the result, whose taps begin alike: the image is read once for all of them."""
    width, columns = taps.shape[1], image.shape[1]
    zero, k = rows.dtype.type(0), 0
    while k + 4 <= width:
        a0, a1, a2, a3 = taps[p, k], taps[p, k + 1], taps[p, k + 2], taps[p, k + 3]
        b0, b1, b2, b3 = taps[p + 1, k], taps[p + 1, k + 1], taps[p + 1, k + 2], taps[p + 1, k + 3]
        c0, c1, c2, c3 = taps[p + 2, k], taps[p + 2, k + 1], taps[p + 2, k + 2], taps[p + 2, k + 3]
        d0, d1, d2, d3 = taps[p + 3, k], taps[p + 3, k + 1], taps[p + 3, k + 2], taps[p + 3, k + 3]
        i, more = first + k, k > 0
        for j in range(columns):
            e0, e1, e2, e3 = image[i, j], image[i + 1, j], image[i + 2, j], image[i + 3, j]
            rows[to, j] = (rows[to, j] if more else zero) + ((a0 * e0 + a1 * e1) + (a2 * e2 + a3 * e3))
            rows[to + 1, j] = (rows[to + 1, j] if more else zero) + ((b0 * e0 + b1 * e1) + (b2 * e2 + b3 * e3))
            rows[to + 2, j] = (rows[to + 2, j] if more else zero) + ((c0 * e0 + c1 * e1) + (c2 * e2 + c3 * e3))
            rows[to + 3, j] = (rows[to + 3, j] if more else zero) + ((d0 * e0 + d1 * e1) + (d2 * e2 + d3 * e3))
        k += 4
    if k == 0:
        for q in range(4):
            for j in range(columns):
                rows[to + q, j] = 0
    while k < width:
        for q in range(4):
            tap, i = taps[p + q, k], first + k
            for j in range(columns):
                rows[to + q, j] += tap * image[i, j]
        k += 1


@kernel()
def _banded(firsts, taps, image, out):  # type: ignore[no-untyped-def]
    count, width = taps.shape
    columns = image.shape[1]
    if count and _outside(firsts, width, len(image)):
        return False
    rows = np.empty((_HIGH, columns), image.dtype)  # of the result, until they are written, transposed
    for start in range(0, count, _HIGH):
        high = min(_HIGH, count - start)
        p = 0
        while p < high:
            first = firsts[start + p]
            if p + 4 <= high and first == firsts[start + p + 1] == firsts[start + p + 2] == firsts[start + p + 3]:
                _four_rows(taps, start + p, first, image, rows, p)
                p += 4
            else:
                _row(taps, start + p, first, image, rows, p)
                p += 1
        if high == _HIGH:
            for j in range(columns):
                for p in range(_HIGH):
                    out[j, start + p] = rows[p, j]
        else:
            for j in range(columns):
                for p in range(high):
                    out[j, start + p] = rows[p, j]
    return True


@helper
def _planes(source, columns, across):  # type: ignore[no-untyped-def]
    """Every row of the source as each tap sees it, (rows, taps, places): read at scattered places once, not for every sum."""
    planes = np.empty((source.shape[0], across, len(columns)), source.dtype)
    for i in range(source.shape[0]):
        for b in range(across):
            for j in range(len(columns)):
                planes[i, b, j] = source[i, columns[j] + b]
    return planes


@kernel()
def _stencil(values, rows, columns, source, row, out):  # type: ignore[no-untyped-def]
    high, down, across, wide = values.shape
    if _outside(rows, down, source.shape[0]) or _outside(columns, across, source.shape[1]):
        return False
    first = columns[0]
    if columns[wide - 1] - first == wide - 1:  # neighbours: read in order
        for i in range(high):
            row[:] = 0
            for a in range(down):
                line = source[rows[i] + a]
                for b in range(across):
                    value, near = values[i, a, b], line[first + b : first + b + wide]
                    for j in range(wide):
                        row[j] += value[j] * near[j]
            out[i] = row
        return True
    planes, whole = _planes(source, columns, across), across - across % 4
    for i in range(high):
        row[:] = 0
        for a in range(down):
            r = rows[i] + a
            for b in range(0, whole, 4):
                for j in range(wide):
                    upper = values[i, a, b, j] * planes[r, b, j] + values[i, a, b + 1, j] * planes[r, b + 1, j]
                    lower = values[i, a, b + 2, j] * planes[r, b + 2, j] + values[i, a, b + 3, j] * planes[r, b + 3, j]
                    row[j] += upper + lower
            for b in range(whole, across):
                for j in range(wide):
                    row[j] += values[i, a, b, j] * planes[r, b, j]
        out[i] = row
    return True


@kernel()
def _stencil_adjoint(values, rows, columns, image, out):  # type: ignore[no-untyped-def]
    high, down, across, wide = values.shape
    if _outside(rows, down, out.shape[0]) or _outside(columns, across, out.shape[1]):
        return False
    planes = np.zeros((out.shape[0], across, wide), out.dtype)
    for i in range(high):
        for a in range(down):
            r = rows[i] + a
            for b in range(across):
                for j in range(wide):
                    planes[r, b, j] += values[i, a, b, j] * image[i, j]
    for r in range(out.shape[0]):
        for b in range(across):
            for j in range(wide):
                out[r, columns[j] + b] += planes[r, b, j]
    return True


def banded(firsts: np.ndarray, taps: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return the transpose of ``B @ image``, with row p of B holding ``taps[p]`` from column ``firsts[p]`` on.

    Parameters
    ----------
    firsts : (P,) int64
    taps : (P, K) float32 or float64
    image : (N, C), of taps' dtype
        Every ``firsts[p] + K`` is at most N.

    Returns
    -------
    (C, P), of taps' dtype
    """
    out = np.empty((image.shape[1], len(taps)), dtype=taps.dtype)
    if not _banded(given(firsts, np.int64), given(taps), given(image, taps.dtype), out):
        raise ValueError(f"rows of {taps.shape[1]} taps from {int(firsts.max())} on do not fit an image of {len(image)} rows")
    return out


def _refuse(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> NoReturn:
    for firsts, taps, size in zip((rows, columns), values.shape[1:3], shape):
        if int(firsts.min()) < 0 or int(firsts.max()) + taps > size:
            raise ValueError(f"a stencil of {taps} taps from {int(firsts.max())} on does not fit {size} pixels")
    raise AssertionError("a kernel refused a stencil that fits")


def stencil(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Return ``out[i, j] = sum over a, b of values[i, a, b, j] * source[rows[i] + a, columns[j] + b]``.

    Parameters
    ----------
    values : (D1, A, B, D2) float32
    rows, columns : (D1,), (D2,) int64
        Increasing.
    source : (S1, S2) float32

    Returns
    -------
    (D1, D2) float32
    """
    out = np.empty((values.shape[0], values.shape[3]), dtype=np.float32)
    row = np.empty(values.shape[3], dtype=np.float32)
    if not _stencil(given(values), given(rows, np.int64), given(columns, np.int64), given(source, np.float32), row, out):
        _refuse(values, rows, columns, source.shape)
    return out


def stencil_adjoint(
    values: np.ndarray, rows: np.ndarray, columns: np.ndarray, image: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Return the adjoint of :func:`stencil`: an image (D1, D2) spread over ``shape`` pixels.

    Parameters
    ----------
    values, rows, columns
        As in :func:`stencil`.
    image : (D1, D2) float32
    shape : (S1, S2)

    Returns
    -------
    (S1, S2) float32
    """
    out = np.zeros(shape, dtype=np.float32)
    if not _stencil_adjoint(given(values), given(rows, np.int64), given(columns, np.int64), given(image, np.float32), out):
        _refuse(values, rows, columns, shape)
    return out
