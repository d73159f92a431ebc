"""Launches of ``iteration.cu``: what lies between the operators in an accelerated iteration."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import Device, ceil_div

__all__ = ["PROGRAMS", "descend", "extrapolate", "mean_slope"]

PROGRAMS = {"iteration": ({},)}

_THREADS, _MOST_BLOCKS = 256, 256  # the first as in the source


def _plain(device: Device, shape: tuple[int, ...], *images: Any) -> list[Any]:
    """The images as C-contiguous arrays, if they are float32 of this shape."""
    for image in images:
        if image.dtype != np.float32 or tuple(image.shape) != shape:
            raise ValueError(f"images must be float32 of shape {shape}, got {image.dtype}, shape {tuple(image.shape)}")
    return [device.xp.ascontiguousarray(image) for image in images]


def _blocks(size: int) -> tuple[int]:
    return (max(1, min(ceil_div(size, _THREADS), _MOST_BLOCKS)),)


def descend(device: Device, z: Any, slope: Any, steps: Any, price: Any, edge: float) -> tuple[Any, Any]:
    """Return ``z - steps * (slope + price)`` and ``steps * edge``.

    Parameters
    ----------
    device : Device
    z, slope, steps : (N1, N2) float32
    price : float or (N1, N2) float32
    edge : float

    Returns
    -------
    point, weight : (N1, N2) float32
    """
    priced = bool(getattr(price, "ndim", 0))
    z, slope, steps, prices = _plain(device, tuple(z.shape), z, slope, steps, price if priced else slope)
    point, weight = (device.xp.empty(z.shape, dtype=np.float32) for _ in range(2))
    even = np.float32(0 if priced else price)
    arguments = (z, slope, steps, np.int64(z.size), prices, np.int32(priced), even, np.float32(edge), point, weight)
    device.kernel("iteration", "descend")(_blocks(z.size), (_THREADS,), arguments)
    return point, weight


def mean_slope(device: Device, weight: Any, start: Any, light: Any, mean: Any, of_light: Any, more: Any) -> Any:
    """Return ``weight * (start + light - mean) + of_light + more``, images of one shape, float32."""
    images = _plain(device, tuple(light.shape), weight, start, light, mean, of_light, more)
    out = device.xp.empty(light.shape, dtype=np.float32)
    device.kernel("iteration", "mean_slope")(_blocks(out.size), (_THREADS,), (*images, np.int64(out.size), out))
    return out


def extrapolate(device: Device, new: Any, last: Any, momentum: float) -> Any:
    """Return ``new + momentum * (new - last)``, of images of one shape, float32."""
    new, last = _plain(device, tuple(new.shape), new, last)
    out = device.xp.empty(new.shape, dtype=np.float32)
    arguments = (new, last, np.int64(out.size), np.float32(momentum), out)
    device.kernel("iteration", "extrapolate")(_blocks(out.size), (_THREADS,), arguments)
    return out
