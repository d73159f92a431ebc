"""The proximal operator of the total variation over non-negative images, by projected gradient steps on its dual.

A dual has four numbers for each cell between four pixels, one for each side.  Two passes per sweep, over rows: the image of the
present dual, then the dual's step along the image's differences.  One thread: up
to some 10^5 pixels a sweep takes less time than starting a second thread.
"""

from __future__ import annotations

import math

import numpy as np

from ._compile import given, helper, kernel

__all__ = ["prox_total_variation"]


@helper
def _primal(v, weight, dual, out):  # type: ignore[no-untyped-def]
    """The image that belongs to a dual: max(v + weight div p, 0)."""
    zero = v.dtype.type(0)
    upper, lower, left, right = dual[0], dual[1], dual[2], dual[3]
    rows, columns = v.shape
    across = np.zeros(columns, v.dtype)
    before = np.zeros(columns, v.dtype)
    down = np.zeros(columns, v.dtype)
    for i in range(rows):
        if i:
            for j in range(columns):
                across[j] = upper[i, j] + lower[i - 1, j]
        else:
            for j in range(columns):
                across[j] = upper[i, j]
        down[0] = left[i, 0]
        for j in range(1, columns):
            down[j] = left[i, j] + right[i, j - 1]
        out[i, 0] = across[0] + down[0]
        for j in range(1, columns):
            out[i, j] = (across[j] + down[j]) - across[j - 1]
        for j in range(columns):
            out[i, j] = max(v[i, j] + weight[i, j] * (out[i, j] - before[j]), zero)
            before[j] = down[j]


@kernel()
def _sweep(v, weight, longest, dual, sweeps, out):  # type: ignore[no-untyped-def]
    two, eighth = v.dtype.type(2), v.dtype.type(0.125)
    upper, lower, left, right = dual[0], dual[1], dual[2], dual[3]
    rows, columns = v.shape
    rate = np.zeros_like(v)
    for i in range(rows - 1):
        for j in range(columns - 1):
            here, next_, below, beyond = weight[i, j], weight[i, j + 1], weight[i + 1, j], weight[i + 1, j + 1]
            rate[i, j] = eighth / max(max(below + beyond, here + next_), max(next_ + beyond, here + below))
    for _ in range(sweeps):
        _primal(v, weight, dual, out)
        for i in range(rows - 1):
            for j in range(columns - 1):
                a = upper[i, j] + rate[i, j] * (out[i, j + 1] - out[i, j])
                b = lower[i, j] + rate[i, j] * (out[i + 1, j + 1] - out[i + 1, j])
                c = left[i, j] + rate[i, j] * (out[i + 1, j] - out[i, j])
                d = right[i, j] + rate[i, j] * (out[i + 1, j + 1] - out[i, j + 1])
                length = math.sqrt(two * ((a * a + b * b) + (c * c + d * d)))
                shrink = longest[i, j] / max(length, longest[i, j])
                upper[i, j] = shrink * a
                lower[i, j] = shrink * b
                left[i, j] = shrink * c
                right[i, j] = shrink * d
    _primal(v, weight, dual, out)


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
    weight, longest = (
        np.full(v.shape, 1 if a is None else a, v.dtype) if a is None or np.ndim(a) == 0 else a for a in (weight, edges)
    )
    arrays = ((v, "v"), (weight, "weight"), (longest, "edges"), (dual, "dual"), (out, "out"))
    for array, name in arrays:
        shape = (4, *v.shape) if array is dual else v.shape
        if array.dtype != v.dtype or array.shape != shape or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be a C-contiguous {v.dtype} array of shape {shape}, "
                f"got {array.dtype}, shape {array.shape}, strides {array.strides}"
            )
    if np.may_share_memory(v, out):
        v = v.copy()
    _sweep(given(v), given(weight), given(longest), dual, sweeps, out)
