"""Launches of ``photons.cu``: the photons of one more emission, drawn and placed on the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from .device import Device, ceil_div, counters

__all__ = ["PROGRAMS", "draw_photons"]

PROGRAMS = {"photons": ({},)}

_THREADS = 128  # as in the source
_BLOCKS_PER_MULTIPROCESSOR = 16


def draw_photons(
    device: Device,
    totals: Any,
    cumulative: Any,
    rows: Any,
    columns: Any,
    shape: tuple[int, int],
    factor: int,
    indices: Any,
    frames: Any,
    k0: int,
    k1: int,
    count_stage: int,
    place_stage: int,
    step: int,
) -> tuple[Any, Any]:
    """Draw P(C_i) for the fine pixels ``indices``, for each of ``frames``; see the CPU twin for the arguments.

    Parameters
    ----------
    device : Device
    totals, cumulative, rows, columns : arrays, copied to the device if they are not there
    shape, factor
    indices : (P,) integers, on the host or the device
    frames : int or (F,) integers, on the host or the device
    k0, k1, count_stage, place_stage, step : int

    Returns
    -------
    starts : (F * P + 1,) int64
    pixels : (starts[-1],) int32
        Both on the device.  The host waits once, for the number of photons.
    """
    xp = device.xp
    indices, numbers = counters(xp, indices), counters(xp, frames)
    sets = len(numbers) * len(indices)
    starts = xp.zeros(sets + 1, dtype=np.int64)
    if not sets:
        return starts, xp.empty(0, dtype=np.int32)
    totals, cumulative = (xp.ascontiguousarray(a, dtype=np.float64) for a in (totals, cumulative))
    rows, columns = (xp.ascontiguousarray(a, dtype=np.int32) for a in (rows, columns))
    camera = tuple(np.int32(n) for n in (cumulative.shape[1], *shape, factor))
    emitters = (indices, np.uint32(len(indices)), numbers, np.int64(sets))
    key, stages = (np.uint32(k0), np.uint32(k1)), tuple(np.uint32(n) for n in (count_stage, place_stage, step))
    grid = (min(ceil_div(sets, _THREADS), _BLOCKS_PER_MULTIPROCESSOR * device.multiprocessors),)

    kept = xp.empty(sets, dtype=np.int64)
    count = device.kernel("photons", "count_photons")
    count(grid, (_THREADS,), (totals, cumulative, rows, columns, *camera, *emitters, *key, *stages, kept))
    xp.cumsum(kept, out=starts[1:])
    pixels = xp.empty(int(starts[-1]), dtype=np.int32)
    if pixels.size:
        place = device.kernel("photons", "place_photons")
        place(grid, (_THREADS,), (cumulative, rows, columns, *camera, *emitters, *key, *stages[1:], starts, pixels))
    return starts, pixels
