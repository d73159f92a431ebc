"""What windows of the camera add to the second derivative of a critic: squares between nodes, and beside camera pixels.

One thread: windows that overlap are added to the same entries.
"""

from __future__ import annotations

import numpy as np

from ._compile import given, helper, kernel

__all__ = ["squared_near", "squared_pairs"]


@helper
def _lit(line):  # type: ignore[no-untyped-def]
    """The first entry of a line that is not zero, and the one behind the last."""
    first, last = len(line), 0
    for i in range(len(line)):
        if line[i] != 0:
            first, last = min(first, i), i + 1
    return first, last


@helper
def _correlated(weights, image, shift, size, out):  # type: ignore[no-untyped-def]
    """The sum over all rows of weights times an image, which begins ``shift`` further on; four rows for each pass over it."""
    rows = weights.shape[0]
    out[:size] = 0
    for c in range(0, rows - 3, 4):
        w0, w1, w2, w3 = weights[c], weights[c + 1], weights[c + 2], weights[c + 3]
        v0, v1, v2, v3 = image[c, shift:], image[c + 1, shift:], image[c + 2, shift:], image[c + 3, shift:]
        for q in range(size):
            out[q] += (w0[q] * v0[q] + w1[q] * v1[q]) + (w2[q] * v2[q] + w3[q] * v3[q])
    for c in range(rows - rows % 4, rows):
        w0, v0 = weights[c], image[c, shift:]
        for q in range(size):
            out[q] += w0[q] * v0[q]


@kernel()
def _squared_pairs(seen, down, padded, tops, lefts, total, line, along, found):  # type: ignore[no-untyped-def]
    windows, wide = len(seen), seen.shape[2]
    nodes = down.shape[1]
    below, taps = total.shape[1], total.shape[2]
    beside, across, pitch = taps // 2, len(line) // below, padded.shape[1] // below
    for window in range(windows):
        top, left = tops[window], lefts[window]
        for p in range(nodes):
            first, last = _lit(down[:, p])
            rows = min(below, nodes - p)
            size = rows * across
            for c in range(wide):  # down the columns of the window, for all nodes near node p of its column
                line[:size] = 0
                for r in range(first, last):
                    weight, source = down[r, p], seen[window, r, c, p * across : p * across + size]
                    for q in range(size):
                        line[q] += weight * source[q]
                for a in range(rows):  # with room at both ends: every node then has as many to its left and right
                    along[c, a * pitch + beside : a * pitch + beside + across] = line[a * across : (a + 1) * across]
            size = rows * pitch
            for d in range(taps):
                _correlated(padded, along, d, size, found)
                for a in range(rows):
                    target = total[top + p, a, d, left : left + across]
                    for q in range(across):
                        target[q] += found[a * pitch + q] * found[a * pitch + q]


@kernel()
def _squared_near(values, rows, columns, tops, lefts, total):  # type: ignore[no-untyped-def]
    windows, high, wide, places_down, places_across = values.shape
    down, across = total.shape[1], total.shape[2]
    for window in range(windows):
        top, left = tops[window], lefts[window]
        for i in range(high):
            for a in range(max(0, -rows[i]), min(down, places_down - rows[i])):
                for j in range(wide):
                    line = values[window, i, j, rows[i] + a]
                    for b in range(max(0, -columns[j]), min(across, places_across - columns[j])):
                        value = line[columns[j] + b]
                        total[top + i, a, b, left + j] += value * value


def squared_pairs(
    seen: np.ndarray, down: np.ndarray, across: np.ndarray, tops: np.ndarray, lefts: np.ndarray, total: np.ndarray
) -> None:
    r"""Add :math:`\big(\sum_{rc} d_{rp}\, e_{cq}\, s_{w,rc,\,p+a,\,q+b-k}\big)^2` to a stencil between nodes.

    To ``total[tops[w] + p, a, b, lefts[w] + q]``, for all windows w, nodes p, q, places a from 0 to A and b from 0 to 2 k whose
    node lies in the window.

    Parameters
    ----------
    seen : (B, n1, n2, P, Q) float32
        s.
    down, across : (n1, P), (n2, Q) float32
        d and e.
    tops, lefts : (B,) int64
    total : (N1, A + 1, 2 k + 1, N2) float32
        Added to.
    """
    windows, high, wide, nodes, places = seen.shape
    below, taps = total.shape[1:3]
    _must_fit(tops, nodes, total.shape[0])
    _must_fit(lefts, places, total.shape[3])
    pitch = places + taps - 1
    padded = np.zeros((wide, below, pitch), np.float32)
    padded[:, :, :places] = across[:, None]
    along = np.zeros((wide, below * pitch + taps), np.float32)
    room = np.empty(below * places, np.float32), along, np.empty(below * pitch, np.float32)
    flat = given(seen, np.float32).reshape(windows, high, wide, -1)
    starts = given(tops, np.int64), given(lefts, np.int64)
    _squared_pairs(flat, given(down, np.float32), given(padded.reshape(wide, -1)), *starts, total, *room)


def squared_near(
    values: np.ndarray, rows: np.ndarray, columns: np.ndarray, tops: np.ndarray, lefts: np.ndarray, total: np.ndarray
) -> None:
    """Add ``values[w, i, j, rows[i] + a, columns[j] + b]**2``, where there is such a place, to what lies near each pixel.

    Parameters
    ----------
    values : (B, n1, n2, P, Q) float32
    rows, columns : (n1,), (n2,) int64
    tops, lefts : (B,) int64
    total : (N1, A, B, N2) float32
        Added to, at ``total[tops[w] + i, a, b, lefts[w] + j]``.
    """
    _must_fit(tops, values.shape[1], total.shape[0])
    _must_fit(lefts, values.shape[2], total.shape[3])
    starts = (given(array, np.int64) for array in (rows, columns, tops, lefts))
    _squared_near(given(values, np.float32), *starts, total)


def _must_fit(firsts: np.ndarray, count: int, size: int) -> None:
    if int(firsts.min()) < 0 or int(firsts.max()) + count > size:
        raise ValueError(f"windows of {count} places from {int(firsts.max())} on do not fit {size}")
