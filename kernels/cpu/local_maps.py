"""Linear maps whose entries lie near a diagonal: along one axis (:func:`banded`), and in the plane (:func:`stencil`).

Each result is a sum in one fixed order, on the calling thread: the work of a call is far below what a second thread costs.
"""

from __future__ import annotations

import numpy as np

from ._compile import given, kernel

__all__ = ["banded", "stencil", "stencil_adjoint"]


@kernel()
def _banded(firsts, taps, image, row, out):  # type: ignore[no-untyped-def]
    count, width = taps.shape
    columns = image.shape[1]
    for p in range(count):
        first = firsts[p]
        row[:] = 0
        for k in range(width):
            tap, source = taps[p, k], image[first + k]
            for j in range(columns):
                row[j] += tap * source[j]
        for j in range(columns):
            out[j, p] = row[j]


@kernel()
def _stencil(values, rows, columns, source, row, out):  # type: ignore[no-untyped-def]
    high, down, across, wide = values.shape
    first = columns[0]
    neighbours = columns[wide - 1] - first == wide - 1  # read in order, a loop is vectorised without gathers
    for i in range(high):
        row[:] = 0
        for a in range(down):
            line = source[rows[i] + a]
            for b in range(across):
                value = values[i, a, b]
                if neighbours:
                    near = line[first + b : first + b + wide]
                    for j in range(wide):
                        row[j] += value[j] * near[j]
                else:
                    for j in range(wide):
                        row[j] += value[j] * line[columns[j] + b]
        out[i] = row


@kernel()
def _stencil_adjoint(values, rows, columns, image, out):  # type: ignore[no-untyped-def]
    high, down, across, wide = values.shape
    for i in range(high):
        for a in range(down):
            line = out[rows[i] + a]
            for b in range(across):
                value = values[i, a, b]
                for j in range(wide):
                    line[columns[j] + b] += value[j] * image[i, j]


def banded(firsts: np.ndarray, taps: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return the transpose of ``B @ image``, with row p of B holding ``taps[p]`` from column ``firsts[p]`` on.

    Parameters
    ----------
    firsts : (P,) int64
    taps : (P, K) float32
    image : (N, C) float32
        Every ``firsts[p] + K`` is at most N.

    Returns
    -------
    (C, P) float32
    """
    if firsts.size and (int(firsts.min()) < 0 or int(firsts.max()) + taps.shape[1] > len(image)):
        raise ValueError(f"rows of {taps.shape[1]} taps from {int(firsts.max())} on do not fit an image of {len(image)} rows")
    out = np.empty((image.shape[1], len(taps)), dtype=np.float32)
    row = np.empty(image.shape[1], dtype=np.float32)
    _banded(given(firsts, np.int64), given(taps, np.float32), given(image, np.float32), row, out)
    return out


def _check(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> None:
    for firsts, taps, size in zip((rows, columns), values.shape[1:3], shape):
        if int(firsts.min()) < 0 or int(firsts.max()) + taps > size:
            raise ValueError(f"a stencil of {taps} taps from {int(firsts.max())} on does not fit {size} pixels")


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
    _check(values, rows, columns, source.shape)
    out = np.empty((values.shape[0], values.shape[3]), dtype=np.float32)
    row = np.empty(values.shape[3], dtype=np.float32)
    _stencil(given(values), given(rows, np.int64), given(columns, np.int64), given(source, np.float32), row, out)
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
    _check(values, rows, columns, shape)
    out = np.zeros(shape, dtype=np.float32)
    _stencil_adjoint(given(values), given(rows, np.int64), given(columns, np.int64), given(image, np.float32), out)
    return out
