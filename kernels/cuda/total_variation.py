"""Launch of ``total_variation.cu``: the proximal operator of the total variation, a launch per sweep of its dual."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import Device, ceil_div

__all__ = ["PROGRAMS", "prox_total_variation"]

PROGRAMS = {"total_variation": ({"REAL": "float"}, {"REAL": "double"})}

_TILE = (32, 8)  # as in the source
_REAL = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}


def prox_total_variation(
    device: Device, v: Any, weight: Any, dual: Any, sweeps: int, out: Any, edges: Any | None = None
) -> None:
    """Write what ``sweeps`` steps on the dual make of the proximal operator; see the CPU twin for the arguments.

    Parameters
    ----------
    device : Device
    v : (N1, N2) float32 or float64, C-contiguous
    weight : float or array like v
    dual : (4, N1, N2), of v's dtype, C-contiguous
    sweeps : int
    out : array like v; may be v itself
    edges : array like v, optional
    """
    if v.dtype not in _REAL:
        raise ValueError(f"v must be float32 or float64, got {v.dtype}")
    weight, longest = (
        device.xp.full(v.shape, 1 if a is None else a, v.dtype) if a is None or not getattr(a, "ndim", 0) else a
        for a in (weight, edges)
    )
    arrays = ((v, "v"), (weight, "weight"), (longest, "edges"), (dual, "dual"), (out, "out"))
    for array, name in arrays:
        shape = (4, *v.shape) if array is dual else v.shape
        if array.dtype != v.dtype or array.shape != shape or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be a C-contiguous {v.dtype} array of shape {shape}, "
                f"got {array.dtype}, shape {array.shape}, strides {array.strides}"
            )
    macros = {"REAL": _REAL[v.dtype]}
    rows, columns = v.shape
    grid = (ceil_div(columns, _TILE[0]), ceil_div(rows, _TILE[1]))
    if device.xp.may_share_memory(v, out):
        v = v.copy()  # a neighbour's pixel is read after its own is written
    sizes = (np.int32(rows), np.int32(columns))
    sweep = device.kernel("total_variation", "sweep", **macros)
    before, after = dual, device.xp.empty_like(dual)
    for number in range(sweeps):
        least = v.dtype.type(1e-16 if number == sweeps - 1 else 0)
        sweep(grid, _TILE, (v, weight, longest, *sizes, before, after, least))
        before, after = after, before
    device.kernel("total_variation", "primal", **macros)(grid, _TILE, (v, weight, *sizes, before, out))
    if before is not dual:
        dual[...] = before
