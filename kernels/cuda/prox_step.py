"""Launch of ``prox_step.cu``: the proximal step of an image and the sums of a stopping rule."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import Device, ceil_div

__all__ = ["PROGRAMS", "prox_step"]

PROGRAMS = {"prox_step": ({"REAL": "float"}, {"REAL": "double"})}

_THREADS, _MOST_BLOCKS = 256, 256  # as in the source
_REAL = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}


def prox_step(device: Device, x: Any, grad: Any, step: float, threshold: float, out: Any) -> tuple[float, float, float]:
    """Write ``max(x - step * (grad + threshold), 0)``, in the dtype of x; see the CPU twin for the arguments.

    Parameters
    ----------
    device : Device
    x, grad : (...) float32 or float64, C-contiguous, of one shape and dtype
    step, threshold : float
    out : array like x; may be x or grad itself

    Returns
    -------
    change_sq, size_sq, total : float
        The host waits for these three numbers, once (:meth:`Device.numbers`).
    """
    xp = device.xp
    if x.dtype not in _REAL:
        raise ValueError(f"x must be float32 or float64, got {x.dtype}")
    for array, name in ((x, "x"), (grad, "grad"), (out, "out")):
        if array.dtype != x.dtype or array.shape != x.shape or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be a C-contiguous {x.dtype} array of shape {x.shape}, "
                f"got {array.dtype}, shape {array.shape}, strides {array.strides}"
            )
    # pixel by pixel in place is safe, over memory that is only partly shared it is not
    x, grad = (array.copy() if array is not out and xp.may_share_memory(array, out) else array for array in (x, grad))
    # the three sums, then a row per block, then the count of blocks that are done
    room = xp.zeros(3 * _MOST_BLOCKS + 4, dtype=np.float64)
    sums, partial, done = room[:3], room[3:-1], room[-1:].view(np.uint32)
    scalar = x.dtype.type
    blocks = max(1, min(ceil_div(x.size, _THREADS), _MOST_BLOCKS))
    kernel = device.kernel("prox_step", "prox_step", REAL=_REAL[x.dtype])
    sizes = (np.int64(x.size), scalar(step), scalar(threshold))
    kernel((blocks,), (_THREADS,), (x, grad, *sizes, out, partial, done, sums))
    change, size, total = device.numbers(sums)
    return change, size, total
