"""Launch of ``background.cu``: the smooth background that is not negative, of a small field."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import Device

__all__ = ["PROGRAMS", "bounded_background"]

PROGRAMS = {"background": ({},)}

_THREADS, _POLYNOMIALS = 512, 8  # as in the source
#: Multiplications of one transform and its inverse: those of a field of 100 x 100, by estimate some 0.1 ms on one
#: multiprocessor.  Array code takes about as long for its launches.
_MOST = 2**22


def bounded_background(
    device: Device, target: Any, start: Any, turns: int, relaxation: float, cosines: Any, filters: Any
) -> Any:
    """Return the background after the turns that bound and penalty are met in, or None for a field that is too large.

    Parameters
    ----------
    device : Device
    target, start : (M1, M2) float32
    turns : int
    relaxation : float
        Over-relaxation of the turns, below 2.
    cosines : three arrays
        The cosine transforms of a column (M1, M1) and of a row (M2, M2), and the transpose of the second, float32.
    filters : three arrays
        Gains (2, M1, M2) and, for P polynomials, what projects a spectrum on them and adds them (2, P, M1, M2): those of the
        weight and of twice the weight, float32.

    Returns
    -------
    (M1, M2) float32, or None
    """
    (rows, columns), (gains, seen, added) = target.shape, filters
    shared, polynomials = 8 * rows * columns, seen.shape[1]
    too_large = 2 * rows * columns * (rows + columns) > _MOST or shared > device.shared_memory_per_block - 1024
    if too_large or polynomials > _POLYNOMIALS:
        return None
    along, across, back = cosines
    shapes = {"target": (rows, columns), "start": (rows, columns), "gains": (2, rows, columns), "along": (rows, rows)}
    shapes |= {"across": (columns, columns), "back": (columns, columns)} | dict.fromkeys(
        ("seen", "added"), (2, polynomials, rows, columns)
    )
    target, start = (device.xp.ascontiguousarray(image) for image in (target, start))
    arrays = {"target": target, "start": start, "gains": gains, "along": along, "across": across, "back": back}
    for name, array in (arrays | {"seen": seen, "added": added}).items():
        if array.dtype != np.float32 or tuple(array.shape) != shapes[name] or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be a C-contiguous float32 array of shape {shapes[name]}, got {array.dtype}, "
                f"shape {tuple(array.shape)}, strides {array.strides}"
            )
    if not polynomials:  # a kernel takes no array without numbers
        seen = added = gains
    dual, out = (device.xp.empty((rows, columns), dtype=np.float32) for _ in range(2))
    kernel = device.kernel("background", "bounded_background")
    if shared > 48 * 1024:
        kernel.max_dynamic_shared_size_bytes = shared
    sizes = np.int32([rows, columns, turns, polynomials])
    arguments = (
        target,
        start,
        *sizes[:3],
        np.float32(relaxation),
        along,
        across,
        back,
        gains,
        sizes[3],
        seen,
        added,
        dual,
        out,
    )
    kernel((1,), (_THREADS,), arguments, shared_mem=shared)
    return out
