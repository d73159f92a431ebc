"""Launches of ``local_maps.cu``: linear maps of images whose entries lie near a diagonal.

Places outside an image do not count, which the CPU twins refuse instead: nothing has to be padded on a card.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import Device, ceil_div

__all__ = ["PROGRAMS", "banded", "stencil", "stencil_adjoint"]

PROGRAMS = {"local_maps": ({},)}

_LANES, _LINES = 32, 8  # as in the source


def _check(*arrays: tuple[str, Any, Any, tuple[int, ...]]) -> None:
    for name, array, dtype, shape in arrays:
        if array.dtype != dtype or tuple(array.shape) != shape or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be a C-contiguous {np.dtype(dtype)} array of shape {shape}, "
                f"got {array.dtype}, shape {tuple(array.shape)}, strides {array.strides}"
            )


def banded(device: Device, firsts: Any, taps: Any, image: Any) -> Any:
    """Return the transpose of ``B @ image``, with row p of B holding ``taps[p]`` from column ``firsts[p]`` on.

    Parameters
    ----------
    device : Device
    firsts : (P,) int64
    taps : (P, K) float32
    image : (N, C) float32

    Returns
    -------
    (C, P) float32
    """
    (count, width), (rows, columns) = taps.shape, image.shape
    image = device.xp.ascontiguousarray(image)
    _check(
        ("firsts", firsts, np.int64, (count,)),
        ("taps", taps, np.float32, (count, width)),
        ("image", image, np.float32, image.shape),
    )
    out = device.xp.empty((columns, count), dtype=np.float32)
    grid = (ceil_div(columns, _LANES), ceil_div(count, _LANES))
    sizes = np.int32([count, width, rows, columns])
    device.kernel("local_maps", "banded")(grid, (_LANES, _LINES), (firsts, taps, *sizes[:2], image, *sizes[2:], out))
    return out


def stencil(device: Device, values: Any, rows: Any, columns: Any, source: Any) -> Any:
    """Return ``out[i, j] = sum over a, b of values[i, a, b, j] * source[rows[i] + a, columns[j] + b]``.

    Parameters
    ----------
    device : Device
    values : (D1, A, B, D2) float32
    rows, columns : (D1,), (D2,) int64
    source : (S1, S2) float32

    Returns
    -------
    (D1, D2) float32
    """
    return _launched(device, "stencil", values, rows, columns, source, tuple(source.shape), (values.shape[0], values.shape[3]))


def stencil_adjoint(device: Device, values: Any, rows: Any, columns: Any, image: Any, shape: tuple[int, int]) -> Any:
    """Return the adjoint of :func:`stencil`: an image (D1, D2) spread over ``shape`` pixels.

    Parameters
    ----------
    device : Device
    values
        As in :func:`stencil`.
    rows, columns : (D1,), (D2,) int64
        None smaller than the one before.
    image : (D1, D2) float32
    shape : (S1, S2)

    Returns
    -------
    (S1, S2) float32
    """
    if tuple(image.shape) != (values.shape[0], values.shape[3]):
        raise ValueError(f"image must have the shape {(values.shape[0], values.shape[3])}, got {tuple(image.shape)}")
    return _launched(device, "stencil_adjoint", values, rows, columns, image, shape, shape)


def _launched(
    device: Device, name: str, values: Any, rows: Any, columns: Any, given: Any, source: tuple[int, int], shape: tuple[int, int]
) -> Any:
    high, down, across, wide = values.shape
    values, given = (device.xp.ascontiguousarray(array) for array in (values, given))
    _check(
        ("values", values, np.float32, values.shape),
        ("rows", rows, np.int64, (high,)),
        ("columns", columns, np.int64, (wide,)),
        ("the image", given, np.float32, given.shape),
    )
    out = device.xp.empty(shape, dtype=np.float32)
    grid = (ceil_div(shape[1], _LANES), ceil_div(shape[0], _LINES))
    sizes = np.int32([high, down, across, wide, *source])
    arguments = (values, *sizes[:4], rows, columns, given, *sizes[4:], out)
    device.kernel("local_maps", name)(grid, (_LANES, _LINES), arguments)
    return out
