"""The last layer, evaluated only at the units that may bend.

A pre-activation changes by at most the sum over taps of |weights| * |changes of the cell below|.  A unit that this bound
cannot exclude is a suspect: the true change of its winner is computed, then those of all positions that might overtake it.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from .pooling import position
from .tiles import FAST, add_scaled, scalar_product

#: A bound is raised by this factor: far more than the rounding of a sum of float32 products can take away.
_SAFETY = 1.0001


class Room(NamedTuple):
    """Where suspects are kept; arrays with room for all of a box."""

    rows: np.ndarray  # (5, channels) float32; the first stays -inf, the second 0
    flags: np.ndarray  # (cells * channels,) uint8, whether a unit is a suspect
    windows: np.ndarray  # (positions, 4) int64, see _open_windows


@numba.njit(**FAST)
def list_cells(below, rows, columns, inputs, top, left, cells):  # type: ignore[no-untyped-def]
    """List the cells of the box ``below`` (rows, columns, inputs) that have changed; return their number.

    ``top`` and ``left`` are the first position that the first cell reaches.
    """
    sources, norms, first_rows, first_columns = cells.sources, cells.norms, cells.rows, cells.columns
    count = 0
    for row in range(rows):
        for column in range(columns):
            source = (row * columns + column) * inputs
            square = _square(below, source, inputs)
            norms[count], sources[count] = _SAFETY * np.sqrt(square), source
            first_rows[count], first_columns[count] = top + row, left + column
            count += square > 0
    return count


@numba.njit(**FAST)
def _square(values, start, count):  # type: ignore[no-untyped-def]
    """Return the squared norm of a stretch; in float64, where no float32 square underflows or overflows."""
    first = np.uint64(start)
    total = 0.0
    for j in range(np.uint64(count)):
        value = np.float64(values[first + j])
        total += value * value
    return total


@numba.njit(**FAST)
def spread_bounds(before, width, bounds, size, channels, cells, count):  # type: ignore[no-untyped-def]
    """Add up the bounds of the positions' changes."""
    line = size * channels
    rows, columns, norms = cells.rows, cells.columns, cells.norms
    for i in range(count):
        for tap in range(size):
            target = ((rows[i] + tap) * width + columns[i]) * channels
            add_scaled(before, target, bounds, tap * line, line, norms[i])


@numba.njit(**FAST)
def find_suspects(before, box, places, pool, channels, peaks, gaps, room):  # type: ignore[no-untyped-def]
    """Flag each unit that the bounds in ``before`` cannot exclude; return their number.

    A unit stays linear if its peak keeps its sign and no other position of its cell can overtake the winner.
    """
    own, slack, flags = room.rows[3], room.rows[4], room.flags
    lanes = np.uint64(channels)
    eights = flags.view(np.uint64)
    for row in range(box.rows):
        for column in range(box.columns):
            unit = box.unit + row * box.unit_stride + column * channels
            for j in range(lanes):
                own[j] = -np.inf
                slack[j] = np.inf
            for place in range(0, places.shape[1], 4):
                b0, g0 = position(box, places, pool, channels, unit, row, column, place)
                b1, g1 = position(box, places, pool, channels, unit, row, column, place + 1)
                b2, g2 = position(box, places, pool, channels, unit, row, column, place + 2)
                b3, g3 = position(box, places, pool, channels, unit, row, column, place + 3)
                for j in range(lanes):
                    winner, least = own[j], slack[j]
                    winner, least = _compete(winner, least, before[b0 + j], gaps[g0 + j])
                    winner, least = _compete(winner, least, before[b1 + j], gaps[g1 + j])
                    winner, least = _compete(winner, least, before[b2 + j], gaps[g2 + j])
                    own[j], slack[j] = _compete(winner, least, before[b3 + j], gaps[g3 + j])
            first, to = np.uint64(unit), np.uint64((row * box.columns + column) * channels)
            for j in range(lanes):
                flags[to + j] = (own[j] > abs(peaks[first + j])) | (own[j] > slack[j])
    total = np.uint64(0)
    for eight in range(box.rows * box.columns * channels // 8):
        # the sum of eight bytes of 0 or 1 gathers in the highest
        total += eights[eight] * np.uint64(0x0101010101010101) >> np.uint64(56)
    return np.int64(total)


@numba.njit(forceinline=True, **FAST)
def _compete(winner, slack, bound, gap):  # type: ignore[no-untyped-def]
    """Return the winner's bound (-inf before it is seen) and the least room that the others leave it, after one more position.

    The first position without a gap is the winner.
    """
    wins = (gap == 0) & (winner < 0)
    room = slack if wins else gap - bound
    return bound if wins else winner, room if room < slack else slack


@numba.njit(**FAST)
def bend_suspects(before, box, network, layer, peaks, gaps, gradients, below, top, left, rows, columns, room, counts):  # type: ignore[no-untyped-def]
    """Return the sum of <G, kink> over the suspects; add the number that bend to ``counts[2]``.

    ``below`` are the changes of the layer below, in a box of ``rows`` times ``columns`` cells whose first one reaches the
    positions from (``top``, ``left``) on.
    """
    places, channels, slope, flags = network.places, layer.channels, np.float32(network.slope), room.flags
    eights, positions = flags.view(np.uint64), network.pool * network.pool
    kinks = np.float32(0.0)
    for row in range(box.rows):
        for column in range(box.columns):
            cell = row * box.columns + column
            unit = box.unit + row * box.unit_stride + column * channels
            line, place = box.top + row * network.pool, box.left + column * network.pool
            opened = False
            for eight in range(cell * channels // 8, (cell + 1) * channels // 8):
                if eights[eight] == 0:
                    continue
                if not opened:
                    _open_windows(line - top, place - left, network, layer, rows, columns, room.windows)
                    opened = True
                for at in range(eight * 8, eight * 8 + 8):
                    if not flags[at]:
                        continue
                    j = at - cell * channels
                    gap, bound = unit * places.shape[1] + j, (line * box.width + place) * channels + j
                    winner = 0
                    while gaps[gap + winner * channels] != 0:
                        winner += 1
                    change = _change(room.windows, winner, j, network, layer, below, columns)
                    highest = change
                    for p in range(positions):
                        behind = gaps[gap + p * channels]
                        reach = before[bound + (places[0, p] * box.width + places[1, p]) * channels] - behind
                        if p != winner and reach > highest:
                            highest = max(highest, _change(room.windows, p, j, network, layer, below, columns) - behind)
                    peak = peaks[unit + j]
                    after = peak + highest
                    beyond = max(-after if peak > 0 else after, np.float32(0.0))
                    steep = np.float32(1.0) if peak > 0 else slope
                    kink = steep * (highest - change) + (np.float32(1.0) - slope) * beyond
                    counts[2] += kink != 0
                    kinks += kink * gradients[unit + j]
    return kinks


@numba.njit(**FAST)
def _open_windows(line, place, network, layer, rows, columns, windows):  # type: ignore[no-untyped-def]
    """For each position of the cell whose first one is (line, place): which part of the box below reaches it.

    Written per position: the first cell below, the first tap of the filter, the rows and the columns they share.
    """
    size, places = network.kernel_size, network.places
    for p in range(network.pool * network.pool):
        # the cells below that reach the position, as far as they lie in the box; filters are not mirrored
        first_row, first_column = line + places[0, p] - size + 1, place + places[1, p] - size + 1
        row, column = max(first_row, 0), max(first_column, 0)
        windows[p, 0] = row * columns + column
        windows[p, 1] = (row - first_row) * size + column - first_column
        windows[p, 2] = min(first_row + size, rows) - row
        windows[p, 3] = min(first_column + size, columns) - column


@numba.njit(forceinline=True, **FAST)
def _change(windows, place, channel, network, layer, below, columns):  # type: ignore[no-untyped-def]
    """Return the change of one pre-activation: rows of the box below times rows of the filter, both contiguous."""
    size, inputs = network.kernel_size, layer.inputs
    source = windows[place, 0] * inputs
    tap = layer.filters + (channel * size * size + windows[place, 1]) * inputs
    length = windows[place, 3] * inputs
    change = np.float32(0.0)
    for _ in range(windows[place, 2]):
        change += scalar_product(below, source, network.filters, tap, length)
        source += columns * inputs
        tap += size * inputs
    return change
