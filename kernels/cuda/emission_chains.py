"""Launches of ``emission_chains.cu``: chains of emissions that stay on the device, and what is read of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .device import Device, ceil_div, counters

__all__ = ["PROGRAMS", "emission_sums", "move_emissions"]

PROGRAMS = {"emission_chains": ({"GLOBAL_RATE": 0}, {"GLOBAL_RATE": 1})}

_LANES, _THREADS, _KINDS = 32, 256, 7  # as in the source
#: Shared bytes of a block beside its rate: the words of its proposals, and what every block costs.
_BESIDE = 6 * 10 * 8 + 1024
#: So many frames on a multiprocessor hide most of the time for which each waits for its own last operation.
_ENOUGH = 8
#: Bytes for the ratios of the frames of one launch, before they are added up.
_GROUP_BYTES = 1 << 28


def move_emissions(
    device: Device,
    columns: Any,
    grid: tuple[int, int, int, int, int],
    counts: Any,
    scale: float,
    shift: float,
    base: Any,
    x: Any,
    law: tuple[float, float, float, float],
    edges: tuple[float, ...],
    reaches: tuple[int, int, int, int],
    turns: tuple[float, float, float],
    proposals: Any,
    frames: Any,
    k0: int,
    k1: int,
    stage: int,
    step: int,
    place: Any,
    bright: Any,
    count: Any,
) -> tuple[Any, Any, Any, Any]:
    """Move the emissions of every frame by so many proposals; see the CPU twin for the arguments.

    Parameters
    ----------
    device : Device
    columns, counts, base, x : arrays of the device
    grid, scale, shift, law, edges, reaches, turns
    proposals : (T,) integers, below 2**32, of the device
    frames : (T,) integers, on the host or the device
    k0, k1, stage, step : int
    place, bright, count : arrays of the device, moved in place

    Returns
    -------
    likelihood : (T,) float64
    ratio : (M1, M2) float64
    proposed, accepted : (7,) int64
        All on the device; the host waits for none of them.
    """
    xp, total, (rows, cols) = device.xp, len(count), base.shape
    columns, base, x = (xp.ascontiguousarray(array, dtype=np.float64) for array in (columns, base, x))
    counts = xp.ascontiguousarray(counts, dtype=np.float32)
    proposals, numbers = xp.ascontiguousarray(proposals, dtype=np.int64), counters(xp, frames)
    shapes = {"counts": (total, rows, cols), "place": bright.shape, "proposals": (total,), "frames": (total,)}
    for name, array in (("counts", counts), ("place", place), ("proposals", proposals), ("frames", numbers)):
        if array.shape != shapes[name]:
            raise ValueError(f"{name} must have the shape {shapes[name]}, got {array.shape}")
    _check(place, bright, count)
    made, likelihood = xp.zeros(16, dtype=np.uint64), xp.empty(total, dtype=np.float64)
    ratio = xp.zeros((rows, cols), dtype=np.float64)
    cumulated = xp.empty(x.size, dtype=np.float64)
    group = max(1, _GROUP_BYTES // (8 * rows * cols))
    shared = _shared_bytes(device, rows * cols, min(group, total))
    program = {"GLOBAL_RATE": int(shared == 0)}
    if total:
        device.kernel("emission_chains", "cumulate", **program)((1,), (_THREADS,), (x, np.int32(x.size), cumulated))
    kernel = device.kernel("emission_chains", "move_emissions", **program)
    if shared > 48 * 1024 - _BESIDE:
        kernel.max_dynamic_shared_size_bytes = shared
    light = (columns, *_ints(*columns.shape[1:], *grid))
    mean, shape, spread, constant = law
    fixed = math.isinf(shape)
    density = (mean, *((0.0, 0.0) if fixed else (shape - 1.0, shape / mean)), spread, constant)
    given = (
        base, x, cumulated, *_ints(*x.shape), *_doubles(*density), np.int32(fixed),
        *_doubles(*edges[:-1]), *_ints(*reaches), *_doubles(*turns),
    )  # fmt: skip
    words = tuple(np.uint32(word) for word in (stage, step, k0, k1))
    for first in range(0, total, group):
        part = slice(first, min(first + group, total))
        size = part.stop - first
        ratios = xp.empty((size, rows, cols), dtype=np.float64)
        chains = (place[part], bright[part], count[part], np.int32(place.shape[1]))
        kernel(
            (size,),
            (_LANES,),
            (*light, counts[part], *_doubles(scale, shift), *given, proposals[part], numbers[part], *words, *chains,
             likelihood[part], ratios, made),
            shared_mem=shared,
        )  # fmt: skip
        ratio = ratio + ratios.sum(axis=0)
    made = made.view(np.int64)
    return likelihood, ratio, made[:_KINDS], made[8 : 8 + _KINDS]


def emission_sums(device: Device, place: Any, bright: Any, count: Any, shape: tuple[int, int]) -> tuple[Any, Any]:
    """Return where the emissions are, and how bright.

    Parameters
    ----------
    device : Device
    place : (T, C) int32, bright : (T, C) float64, count : (T,) int32, C-contiguous
        Chains, as for :func:`move_emissions`.
    shape : (N1, N2)

    Returns
    -------
    image : (N1, N2) uint64
        Brightness per fine pixel, of all frames, in units of 2^-32 to which each emission's is rounded.
    sums : (3,) float64
        Emissions, and the sums of the brightness and of its logarithm.  Both on the device; the host waits for none of them.
    """
    xp = device.xp
    _check(place, bright, count)
    image, sums = xp.zeros(shape, dtype=np.uint64), xp.empty((len(count), 3), dtype=np.float64)
    if len(count):
        kernel = device.kernel("emission_chains", "emission_sums", GLOBAL_RATE=0)
        kernel((len(count),), (_LANES,), (place, bright, count, np.int32(place.shape[1]), image, sums))
    return image, sums.sum(axis=0)


def _shared_bytes(device: Device, pixels: int, frames: int) -> int:
    """Bytes of shared memory for the rate of a frame; 0 where it is better kept in device memory.

    That is where it does not fit, and where it leaves multiprocessors with few of the frames that they could hold: shared
    memory answers in half the time of the cache, but what is waited for most are the chain's own results.
    """
    needed = 8 * pixels + _BESIDE
    if needed > device.shared_memory_per_block:
        return 0
    at_once = device.shared_memory_per_multiprocessor // needed
    return 8 * pixels if at_once >= min(_ENOUGH, ceil_div(frames, device.multiprocessors)) else 0


def _ints(*values: int) -> tuple[np.int32, ...]:
    return tuple(np.int32(value) for value in values)


def _doubles(*values: float) -> tuple[np.float64, ...]:
    return tuple(np.float64(value) for value in values)


def _check(place: Any, bright: Any, count: Any) -> None:
    for name, array, dtype in (("place", place, np.int32), ("bright", bright, np.float64), ("count", count, np.int32)):
        if array.dtype != dtype or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be a C-contiguous array of dtype {np.dtype(dtype)}, "
                f"got dtype {array.dtype}, strides {array.strides}"
            )
