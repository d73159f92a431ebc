"""Launches of ``double_poisson.cu``: the two stages of eq. (1), and the words beneath them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import Device, ceil_div, counters

__all__ = ["PROGRAMS", "detect", "emissions", "philox_words"]

PROGRAMS = {"double_poisson": ({"REAL": "float"}, {"REAL": "double"})}

_THREADS, _TILE = 256, 1024  # as in the source
_BLOCKS_PER_MULTIPROCESSOR = 8
_MOST_BLOCKS = 65535  # of a grid in y
_REAL = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}


def emissions(device: Device, x: Any, numbers: Any, k0: int, k1: int, stage: int, step: int, out: Any) -> Any:
    """Draw P(x) for some frames; see the CPU twin for the arguments.

    Parameters
    ----------
    device : Device
    x : (N1, N2) float32 or float64
    numbers : (S,) integers, on the host or the device
    k0, k1, stage, step : int
    out : (S, N1, N2) float32, C-contiguous

    Returns
    -------
    out
    """
    xp = device.xp
    _check(out, (len(numbers), *x.shape), np.dtype(np.float32), "out")
    x = xp.ascontiguousarray(x)
    if not out.size:
        return out
    tiles = ceil_div(x.size, _TILE)
    groups = min(len(numbers), ceil_div(_BLOCKS_PER_MULTIPROCESSOR * device.multiprocessors, tiles), _MOST_BLOCKS)
    frames_per_block = ceil_div(len(numbers), groups)
    kernel = device.kernel("double_poisson", "emissions", REAL=_real(x))
    kernel(
        (tiles, ceil_div(len(numbers), frames_per_block)),
        (_THREADS,),
        (x, *_words(x.size), counters(xp, numbers), *_words(len(numbers), frames_per_block, k0, k1, stage, step), out),
    )
    return out


def detect(
    device: Device,
    blurred: Any,
    background: Any,
    epsilon: float,
    numbers: Any,
    k0: int,
    k1: int,
    detection_stage: int,
    noise_stage: int,
    step: int,
    gain: float,
    noise_std: float,
    out: Any,
) -> Any:
    """Draw ``gain * P(max(blurred, 0) + background + epsilon) + noise_std * normal``; see the CPU twin for the arguments.

    Parameters
    ----------
    device : Device
    blurred : (S, M1, M2) float32 or float64
    background : (M1, M2) float32 or float64
    epsilon : float
    numbers : (S,) integers, on the host or the device
    k0, k1, detection_stage, noise_stage, step : int
    gain, noise_std : float
    out : (S, M1, M2) float32, C-contiguous

    Returns
    -------
    out
    """
    xp, shape = device.xp, (len(numbers), *background.shape)
    dtype = np.result_type(blurred.dtype, background.dtype)
    blurred, background = (xp.ascontiguousarray(a, dtype=dtype) for a in (blurred, background))
    _check(blurred, shape, dtype, "blurred")
    _check(out, shape, np.dtype(np.float32), "out")
    if not out.size:
        return out
    kernel = device.kernel("double_poisson", "detect", REAL=_real(blurred))
    kernel(
        (ceil_div(background.size, _THREADS), min(len(numbers), _MOST_BLOCKS)),
        (_THREADS,),
        (
            blurred,
            background,
            dtype.type(epsilon),
            *_words(background.size),
            counters(xp, numbers),
            *_words(len(numbers), k0, k1, detection_stage, noise_stage, step),
            np.float32(gain),
            np.float64(noise_std),
            out,
        ),
    )
    return out


def philox_words(device: Device, blocks: Any, k0: int, k1: int) -> Any:
    """Return the words (n, 4) uint32 of counter blocks (n, 4) uint32, both on the device."""
    blocks = device.xp.ascontiguousarray(blocks, dtype=np.uint32)
    words = device.xp.empty_like(blocks)
    kernel = device.kernel("double_poisson", "words_of", REAL="float")
    kernel((ceil_div(len(blocks), _THREADS),), (_THREADS,), (blocks, *_words(len(blocks), k0, k1), words))
    return words


def _words(*values: int) -> tuple[np.uint32, ...]:
    return tuple(np.uint32(value) for value in values)


def _real(array: Any) -> str:
    if array.dtype not in _REAL:
        raise ValueError(f"float32 or float64 is needed, got {array.dtype}")
    return _REAL[array.dtype]


def _check(array: Any, shape: tuple[int, ...], dtype: np.dtype, name: str) -> None:
    if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
        raise ValueError(
            f"{name} must be a C-contiguous array of shape {shape} and dtype {dtype}, "
            f"got shape {array.shape}, dtype {array.dtype}, strides {array.strides}"
        )
