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
    """A box of pooled units of one layer, and of the positions they are pooled from."""

    rows: int  # cells
    columns: int
    top: int  # row and column of the first cell's first position
    left: int
    width: int  # positions per row
    unit: int  # index of the first unit in the frame's caches
    unit_stride: int  # units per row of cells of the whole layer


def cell_places(pool: int) -> np.ndarray:
    """Return the row and the column of each position in its cell, (2, positions) int64."""
    places = np.zeros((2, -(-pool * pool // 4) * 4), dtype=np.int64)
    places[:, : pool * pool] = np.indices((pool, pool)).reshape(2, -1)
    return places


@numba.njit(forceinline=True, **FAST)
def position(box, places, pool, channels, unit, row, column, place):  # type: ignore[no-untyped-def]
    """Return where the values and the gaps of a position of the cell (row, column) of a box begin, as unsigned offsets."""
    line = box.top + row * pool + places[0, place]
    value = (line * box.width + box.left + column * pool + places[1, place]) * channels
    return np.uint64(value), np.uint64(unit * places.shape[1] + place * channels)


@numba.njit(**FAST)
def pooled_range(first, last, half, pool, size):  # type: ignore[no-untyped-def]
    """Return the pooled rows (or columns) reached from inputs ``first`` to ``last``: (first, last), empty if last < first."""
    return max(first - half, 0) // pool, min((last + half) // pool, size - 1)
