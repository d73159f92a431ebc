"""The proximal operator of the total variation over non-negative images, by projected gradient steps on its dual.

A dual has four numbers for each cell between four pixels, one for each side.  A sweep goes down the rows: a row of the image
of the present dual, then the dual's step along the differences of that row and the one above.  The next sweep follows one row
behind, so that all sweeps are one pass over the image and what they share stays in the cache.  One thread: up to some 10^5
pixels a pass takes less time than starting a second thread.
"""

from __future__ import annotations

import math

import numpy as np

from ._compile import given, helper, kernel

__all__ = ["prox_total_variation"]


@helper
def _image_row(v, weight, row, dual, i, out, to):  # type: ignore[no-untyped-def]
    """Row i of the image that belongs to a dual, max(v + weight div p, 0), into row ``to`` of ``out``.

    Rows are indexed here and not handed over, since a view of a row costs as much as some twenty pixels; one array is written
    and few are read, since a loop is vectorised only where few pairs of arrays might share memory.
    """
    zero, columns = v.dtype.type(0), v.shape[1]
    if i == 0:
        out[to, 0] = max(v[i, 0] + weight[row, 0] * (dual[0, i, 0] + dual[2, i, 0]), zero)
        for j in range(1, columns):
            here = dual[0, i, j] + (dual[2, i, j] + dual[3, i, j - 1])
            out[to, j] = max(v[i, j] + weight[row, j] * (here - dual[0, i, j - 1]), zero)
        return
    here = (dual[0, i, 0] + dual[1, i - 1, 0]) + dual[2, i, 0]
    out[to, 0] = max(v[i, 0] + weight[row, 0] * (here - dual[2, i - 1, 0]), zero)
    for j in range(1, columns):
        here = (dual[0, i, j] + dual[1, i - 1, j]) + (dual[2, i, j] + dual[3, i, j - 1])
        beside = here - (dual[0, i, j - 1] + dual[1, i - 1, j - 1])
        above = dual[2, i - 1, j] + dual[3, i - 1, j - 1]
        out[to, j] = max(v[i, j] + weight[row, j] * (beside - above), zero)


@helper
def _dual_row(rate, rate_row, longest, longest_row, images, above, below, dual, k):  # type: ignore[no-untyped-def]
    """The step of cells k along the differences of the two rows of the image that they lie between."""
    two = rate.dtype.type(2)
    for j in range(rate.shape[1]):
        a = dual[0, k, j] + rate[rate_row, j] * (images[above, j + 1] - images[above, j])
        b = dual[1, k, j] + rate[rate_row, j] * (images[below, j + 1] - images[below, j])
        c = dual[2, k, j] + rate[rate_row, j] * (images[below, j] - images[above, j])
        d = dual[3, k, j] + rate[rate_row, j] * (images[below, j + 1] - images[above, j + 1])
        length = math.sqrt(two * ((a * a + b * b) + (c * c + d * d)))
        shrink = longest[longest_row, j] / max(length, longest[longest_row, j])
        dual[0, k, j] = shrink * a
        dual[1, k, j] = shrink * b
        dual[2, k, j] = shrink * c
        dual[3, k, j] = shrink * d


@helper
def _without_dust(dual, k):  # type: ignore[no-untyped-def]
    """Zeros for what is far below rounding: numbers whose squares are not normal ones cost a processor some hundred others."""
    zero, least = dual.dtype.type(0), dual.dtype.type(1e-16)
    for side in range(4):
        for j in range(dual.shape[2]):
            dual[side, k, j] = zero if abs(dual[side, k, j]) < least else dual[side, k, j]


@kernel()
def _rates(weight, out):  # type: ignore[no-untyped-def]
    """How far a cell's dual steps: nine tenths of twice what keeps its second derivative diagonally dominated."""
    share = weight.dtype.type(0.225)
    for i in range(weight.shape[0] - 1):
        for j in range(weight.shape[1] - 1):
            here, next_, below, beyond = weight[i, j], weight[i, j + 1], weight[i + 1, j], weight[i + 1, j + 1]
            out[i, j] = share / max(max(below + beyond, here + next_), max(next_ + beyond, here + below))


@kernel()
def _sweep(v, weight, longest, rate, dual, sweeps, out):  # type: ignore[no-untyped-def]
    rows, columns = v.shape
    each_weight, each_longest, each_rate = len(weight) > 1, len(longest) > 1, len(rate) > 1
    images = np.zeros((2 * sweeps, columns + 1), v.dtype)  # two rows for each sweep; beyond the last pixel there is no cell
    for turn in range(rows + sweeps):
        for sweep in range(max(0, turn - rows + 1), min(sweeps, turn) + 1):
            i = turn - sweep
            own = i if each_weight else 0
            if sweep == sweeps:
                _image_row(v, weight, own, dual, i, out, i)
                continue
            above, below = 2 * sweep + (i + 1) % 2, 2 * sweep + i % 2
            _image_row(v, weight, own, dual, i, images, below)
            if i:
                k = i - 1
                _dual_row(rate, k if each_rate else 0, longest, k if each_longest else 0, images, above, below, dual, k)
                if sweep == sweeps - 1:
                    _without_dust(dual, k)


def prox_total_variation(
    v: np.ndarray,
    weight: float | np.ndarray,
    dual: np.ndarray,
    sweeps: int,
    out: np.ndarray,
    edges: np.ndarray | None = None,
) -> None:
    """Write what ``sweeps`` steps on the dual make of ``argmin over x >= 0 of sum (x - v)^2 / 2 weight + sum edges |grad x|``.

    Parameters
    ----------
    v : (N1, N2) float32 or float64, C-contiguous
    weight : float or array like v
        Above 0.
    dual : (4, N1, N2), of v's dtype, C-contiguous
        Where to start; overwritten with where the sweeps ended.
    sweeps : int
    out : array like v, other than v
        Receives the image.
    edges : array like v, optional
        Above 0; 1 if not given.
    """
    if v.dtype not in (np.float32, np.float64):
        raise ValueError(f"v must be float32 or float64, got {v.dtype}")
    arrays = [(v, v.shape, "v"), (dual, (4, *v.shape), "dual"), (out, v.shape, "out")]
    whole = []
    for array, name in ((weight, "weight"), (edges, "edges")):
        if array is None or np.ndim(array) == 0:
            whole.append(np.full((1, v.shape[1]), 1 if array is None else array, v.dtype))  # a row that stands for all
        else:
            whole.append(array)
            arrays.append((array, v.shape, name))
    for array, shape, name in arrays:
        if array.dtype != v.dtype or array.shape != shape or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be a C-contiguous {v.dtype} array of shape {shape}, "
                f"got {array.dtype}, shape {array.shape}, strides {array.strides}"
            )
    if np.may_share_memory(v, out):
        v = v.copy()
    each, longest = whole
    if len(each) == 1:
        rate = v.dtype.type(0.1125) / each
        rate[:, -1] = 0  # no cell
    else:
        rate = np.zeros_like(v)
        _rates(given(each), rate)
    _sweep(given(v), given(each), given(longest), given(rate), dual, sweeps, out)
