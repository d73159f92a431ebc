"""Cells of the max-pooling: where their positions lie, among changes and in a frame's caches.

Positions are taken four at a time, so that a loop over channels sees a whole 2 x 2 cell at once; what is missing to a multiple
of four repeats the first position with an infinite gap.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from .tiles import FAST


class Box(NamedTuple):
    """A box of pooled units of one layer."""

    rows: int  # cells
    columns: int
    position: int  # where the values of the first cell's first position begin
    width: int  # positions per row
    unit: int  # index of the first unit in the frame's caches
    unit_stride: int  # units per row of cells of the whole layer


@numba.njit(**FAST)
def padded_places(pool):  # type: ignore[no-untyped-def]
    """Return the positions of a cell, filled up to a multiple of four."""
    return (pool * pool + 3) // 4 * 4


@numba.njit(forceinline=True, **FAST)
def position(box, unit, row, column, place, pool, channels):  # type: ignore[no-untyped-def]
    """Return where the values and the gaps of a position of the cell (row, column) of a box begin, as unsigned offsets."""
    gap = unit * padded_places(pool) + place * channels
    place = place if place < pool * pool else 0
    value = box.position + ((row * pool + place // pool) * box.width + column * pool + place % pool) * channels
    return np.uint64(value), np.uint64(gap)
