"""Linear responses of the second layer to single photons, shared by the many sets of photons that are added to one frame.

Sets that land on the same frame in the same place share their photons' linear responses: what one photon does to the second
layer's pre-activations if no unit of the first layer bends.  A set's change is then the sum of a few such tables, plus what
the units that do bend send upwards; few do.  Tables are made when first needed and kept while there is room.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from .pooling import pooled_range
from .tiles import FAST, add_scaled, spread_cells

#: Bytes of tables per thread.
_BYTES = 4 << 20


class Responses(NamedTuple):
    """Tables of one frame."""

    slots: np.ndarray  # (M1 * M2,) int64, which table is the pixel's, -1 for none
    tables: np.ndarray  # float32, (side, side, channels) each, from the first position that the pixel reaches
    used: np.ndarray  # (1,) int64
    side: int
    room: int


def make_responses(network: Any) -> Responses:
    """Allocate tables for one thread."""
    size, pool = network.kernel_size, network.pool
    side = (size + pool - 2) // pool + size  # cells of the first layer that a pixel reaches, and their surroundings
    values = side * side * int(network.layers[1]["channels"])
    room = max(1, min(network.mean.size, _BYTES // (4 * values)))
    slots, used = np.empty(network.mean.size, dtype=np.int64), np.zeros(1, dtype=np.int64)
    return Responses(slots, np.empty(room * values, dtype=np.float32), used, side, room)


@numba.njit(**FAST)
def forget(responses):  # type: ignore[no-untyped-def]
    """Drop all tables."""
    slots = responses.slots
    for pixel in range(slots.size):
        slots[pixel] = -1
    responses.used[0] = 0


@numba.njit(**FAST)
def add_responses(before, top, left, width, network, peaks, gaps, pixels, start, stop, step, responses, linear, cells):  # type: ignore[no-untyped-def]
    """Add the linear responses of the photons to ``before``, whose first position is (top, left)."""
    layer, size, half, pool = network.layers[0], network.kernel_size, network.kernel_size // 2, network.pool
    channels, columns, side = network.layers[1].channels, network.mean.shape[1], responses.side
    slots, tables, scale = responses.slots, responses.tables, network.scale
    for i in range(start, stop):
        row, column = pixels[i] // columns, pixels[i] % columns
        r0, r1 = pooled_range(row, row, half, pool, layer.rows)
        c0, c1 = pooled_range(column, column, half, pool, layer.columns)
        if r1 < r0 or c1 < c0:
            continue
        if slots[pixels[i]] < 0:
            _tabulate(network, peaks, gaps, row, column, r0, r1, c0, c1, responses, linear, cells)
        source = slots[pixels[i]] * side * side * channels
        target = ((r0 - half - top) * width + c0 - half - left) * channels
        for line in range(r1 - r0 + size):
            add_scaled(
                before,
                target + line * width * channels,
                tables,
                source + line * side * channels,
                (c1 - c0 + size) * channels,
                step * scale[row, column],
            )


@numba.njit(**FAST)
def _tabulate(network, peaks, gaps, row, column, r0, r1, c0, c1, responses, linear, cells):  # type: ignore[no-untyped-def]
    """Make the table of a pixel whose first-layer cells are r0..r1, c0..c1, for a unit step of the normalised input."""
    layer, size, pool, side = network.layers[0], network.kernel_size, network.pool, responses.side
    half = size // 2
    above, places, spread, slope = network.layers[1], network.places, network.spread, np.float32(network.slope)
    lanes, tables = np.uint64(layer.channels), responses.tables
    if responses.used[0] == responses.room:
        forget(responses)
    slot = responses.used[0]
    responses.slots[row * network.mean.shape[1] + column] = slot
    responses.used[0] = slot + 1
    first = slot * side * side * above.channels
    for i in range(first, first + side * side * above.channels):
        tables[i] = 0
    count = 0
    for r in range(r0, r1 + 1):
        for c in range(c0, c1 + 1):
            unit = layer.cells + (r * layer.columns + c) * layer.channels
            to, peak = np.uint64(count * layer.channels), np.uint64(unit)
            for j in range(lanes):
                linear[to + j] = 0
            # the winner's change: backwards, so that among equal gaps the first position stays the winner
            for place in range(pool * pool - 1, -1, -1):
                down = r * pool + places[0, place] - row + half
                right = c * pool + places[1, place] - column + half
                gap = np.uint64(unit * places.shape[1] + place * layer.channels)
                reached = 0 <= down < size and 0 <= right < size
                tap = np.uint64((down * size + right) * layer.channels if reached else 0)
                factor = np.float32(1.0 if reached else 0.0)
                for j in range(lanes):
                    change, behind, before = factor * spread[tap + j], gaps[gap + j], linear[to + j]
                    linear[to + j] = change if behind == 0 else before
            for j in range(lanes):
                linear[to + j] *= np.float32(1.0) if peaks[peak + j] > 0 else slope
            cells.sources[count], cells.rows[count], cells.columns[count] = count * layer.channels, r - r0, c - c0
            count += 1
    inside = (half - r0, half - r0 + above.rows_in - 1, half - c0, half - c0 + above.columns_in - 1)
    table = tables[first : first + side * side * above.channels]
    spread_cells(table, side, inside, linear, cells, count, network.tiles, above.tiles, size, layer.channels, above.channels)


@numba.njit(**FAST)
def spread_kinks(before, top, left, width, inside, network, kinks, rows, columns, cells):  # type: ignore[no-untyped-def]
    """Add to ``before`` what the kinks of a box (rows, columns) of first-layer units make; its cells reach from (top, left) on.

    A cell with few bent units sends up their filters one by one, one with many goes through the convolution's inner kernel.
    """
    layer, size, fans = network.layers[1], network.kernel_size, network.fans
    inputs, channels = layer.inputs, layer.channels
    sources, first_rows, first_columns = cells.sources, cells.rows, cells.columns
    line = size * channels
    dense = 0
    for row in range(rows):
        for column in range(columns):
            source = (row * columns + column) * inputs
            target = ((top + row) * width + left + column) * channels
            bent = 0
            for j in range(inputs):
                bent += kinks[source + j] != 0
            if 4 * bent > inputs:
                sources[dense], first_rows[dense], first_columns[dense] = source, top + row, left + column
                dense += 1
            elif bent > 0:
                for j in range(inputs):
                    kink = kinks[source + j]
                    if kink != 0:
                        for tap in range(size):
                            add_scaled(before, target + tap * width * channels, fans, (j * size + tap) * line, line, kink)
    spread_cells(before, width, inside, kinks, cells, dense, network.tiles, layer.tiles, size, inputs, channels)
