"""The last layer, evaluated only at the units that may bend.

A pre-activation changes by at most the sum over taps of |weights| * |changes of the cell below|.  Whatever that bound cannot
clear is a suspect; its true change is summed up cell by cell, the largest first, until what is left of
the bound clears it.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from .pooling import position
from .tiles import FAST, add_scaled, scalar_product

#: A bound is raised by this factor: far more than the rounding of a sum of float32 products can take away.
_SAFETY = 1.0001


class Cells(NamedTuple):
    """The cells below that have changed, the largest change first; arrays with room for all of a box."""

    rows: np.ndarray  # int64, row and column of the first position that the cell reaches
    columns: np.ndarray
    sources: np.ndarray  # int64, where the cell's changes begin
    targets: np.ndarray  # int64, where the values of its first position begin
    norms: np.ndarray  # float32, a safe bound of the norm of its change


class Windows(NamedTuple):
    """Per position of a cell, the changed cells below that reach it, the largest change first."""

    counts: np.ndarray  # (positions,) int64
    sources: np.ndarray  # (positions, k * k) int64, where the cell's changes begin
    taps: np.ndarray  # (positions, k * k) int64, mirrored
    norms: np.ndarray  # (positions, k * k) float32


class Room(NamedTuple):
    """Where the suspects of a set, and those of one cell, are kept; arrays with room for all of a box, or of a cell."""

    rows: np.ndarray  # (2, channels) float32
    flags: np.ndarray  # (channels,) uint8
    suspects: np.ndarray  # int64, channels of the suspects, cell after cell
    found: np.ndarray  # int64, suspects per cell
    windows: Windows
    channels: np.ndarray  # (channels,) int64, of the cell's suspects
    winners: np.ndarray  # (channels,) int64, their winning positions
    active: np.ndarray  # (channels,) int64, those not yet known to stay linear
    complete: np.ndarray  # (channels,) int64, those with their winner's change complete
    changes: np.ndarray  # (channels,) float32, of the winner, so far
    bounds: np.ndarray  # (channels,) float32, of what is left of it
    slacks: np.ndarray  # (channels,) float32, how far the winner may fall before another could overtake
    peaks: np.ndarray  # (channels,) float32


@numba.njit(**FAST)
def list_cells(below, rows, columns, inputs, top, left, width, channels, cells):  # type: ignore[no-untyped-def]
    """List the cells of the box ``below`` (rows, columns, inputs) that have changed; return their number.

    ``top`` and ``left`` are the first position that the first cell reaches.
    """
    count = 0
    for row in range(rows):
        for column in range(columns):
            source = (row * columns + column) * inputs
            square = scalar_product(below, source, below, source, inputs)
            if square == 0:
                continue
            norm = np.float32(_SAFETY) * np.sqrt(square)
            place = count
            while place > 0 and cells.norms[place - 1] < norm:
                cells.norms[place] = cells.norms[place - 1]
                cells.sources[place] = cells.sources[place - 1]
                place -= 1
            cells.norms[place], cells.sources[place] = norm, source
            count += 1
    for i in range(count):
        cell = cells.sources[i] // inputs
        cells.rows[i], cells.columns[i] = top + cell // columns, left + cell % columns
        cells.targets[i] = (cells.rows[i] * width + cells.columns[i]) * channels
    return count


@numba.njit(**FAST)
def spread_bounds(before, width, bounds, size, channels, cells, count):  # type: ignore[no-untyped-def]
    """Add up the bounds of the positions' changes."""
    line = size * channels
    for i in range(count):
        for tap in range(size):
            add_scaled(before, cells.targets[i] + tap * width * channels, bounds, tap * line, line, cells.norms[i])


@numba.njit(**FAST)
def find_suspects(before, box, places, pool, channels, peaks, gaps, room, limit):  # type: ignore[no-untyped-def]
    """List the units that the bounds in ``before`` cannot clear; return their number, or -1 if there are more than ``limit``.

    A unit stays linear if its peak keeps its sign and no other position of its cell can overtake the winner.  Fills
    ``room.suspects`` and ``room.found``.
    """
    own, slack, flags, suspects = room.rows[0], room.rows[1], room.flags, room.suspects
    lanes = np.uint64(channels)
    eights = flags.view(np.uint64)
    total = 0
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
            first = np.uint64(unit)
            for j in range(lanes):
                flags[j] = (own[j] > abs(peaks[first + j])) | (own[j] > slack[j])
            before_cell = total
            for eight in range(channels // 8):
                if eights[eight] != 0:
                    if total + 8 > limit:
                        return -1
                    for j in range(eight * 8, eight * 8 + 8):
                        suspects[total] = j
                        total += flags[j]
            room.found[row * box.columns + column] = total - before_cell
    return total


@numba.njit(forceinline=True, **FAST)
def _compete(winner, slack, bound, gap):  # type: ignore[no-untyped-def]
    """Return the winner's bound and the least room between its peak and the others, with one more position seen.

    Of several positions with gap 0 the last one counts as the winner, the others as followers without a gap.
    """
    wins = gap == 0
    room = -winner if wins else gap - bound
    return bound if wins else winner, room if room < slack else slack


@numba.njit(**FAST)
def bend_suspects(before, box, network, layer, peaks, gaps, gradients, below, cells, count, room, counts):  # type: ignore[no-untyped-def]
    """Return the sum of <G, kink> over the suspects; add the number that truly bend to ``counts[2]``."""
    places, pool, channels = network.places, network.pool, layer.channels
    positions = pool * pool
    slope = np.float32(network.slope)
    kinks = np.float32(0.0)
    first_suspect = 0
    for row in range(box.rows):
        for column in range(box.columns):
            here = room.found[row * box.columns + column]
            if here == 0:
                continue
            line, place = box.top + row * pool, box.left + column * pool
            list_windows(line, place, places, positions, network.kernel_size, cells, count, room.windows)
            value = (line * box.width + place) * channels
            unit = box.unit + row * box.unit_stride + column * channels
            gap = unit * places.shape[1]
            for i in range(here):
                j = room.suspects[first_suspect + i]
                winner, own, slack = 0, np.float32(-np.inf), np.float32(np.inf)
                for p in range(positions - 1, -1, -1):
                    behind = gaps[gap + p * channels + j]
                    bound = before[value + (places[0, p] * box.width + places[1, p]) * channels + j]
                    own, slack = _compete(own, slack, bound, behind)
                    winner = p if behind == 0 else winner
                room.channels[i], room.winners[i], room.bounds[i], room.slacks[i] = j, winner, own, slack
                room.peaks[i], room.changes[i], room.active[i] = peaks[unit + j], 0, i
            complete = follow_winners(here, below, layer, network.filters, network.bounds, room)
            for k in range(complete):
                i = room.complete[k]
                j, peak, change = room.channels[i], room.peaks[i], room.changes[i]
                highest = change
                for p in range(positions):
                    bound = before[value + (places[0, p] * box.width + places[1, p]) * channels + j]
                    behind = gaps[gap + p * channels + j]
                    if p != room.winners[i] and bound - behind > highest:
                        challenger = position_change(p, j, below, layer, network.filters, room.windows)
                        highest = max(highest, challenger - behind)
                total = peak + highest
                beyond = max(-total if peak > 0 else total, np.float32(0.0))
                steep = np.float32(1.0) if peak > 0 else slope
                kink = steep * (highest - change) + (np.float32(1.0) - slope) * beyond
                counts[2] += kink != 0
                kinks += kink * gradients[unit + j]
            first_suspect += here
    return kinks


@numba.njit(**FAST)
def follow_winners(suspects, below, layer, filters, bounds, room):  # type: ignore[no-untyped-def]
    """Sum up the changes of the winners of a cell's suspects, cell below by cell below, until they are known to stay linear.

    Returns how many are left with their change complete, listed in ``room.complete``.  In rounds over all suspects, without
    a branch on what comes out: the processor then works on several of them at a time.
    """
    windows = room.windows
    taps = windows.taps.shape[1]
    complete, reached = 0, 0
    while suspects > 0:
        kept = 0
        for k in range(suspects):
            i = room.active[k]
            p, j = room.winners[i], room.channels[i]
            if reached == windows.counts[p]:
                room.complete[complete] = i
                complete += 1
                continue
            tap = windows.taps[p, reached]
            # filters are not mirrored, bounds are
            start = layer.filters + (j * taps + taps - 1 - tap) * layer.inputs
            change = room.changes[i] + scalar_product(below, windows.sources[p, reached], filters, start, layer.inputs)
            bound = room.bounds[i] - windows.norms[p, reached] * bounds[tap * layer.channels + j]
            peak = room.peaks[i]
            fall = bound - change
            crossing = fall if peak > 0 else bound + change
            room.changes[i], room.bounds[i], room.active[kept] = change, bound, i
            kept += (fall > room.slacks[i]) | (crossing > abs(peak))
        suspects = kept
        reached += 1
    return complete


@numba.njit(**FAST)
def position_change(p, j, below, layer, filters, windows):  # type: ignore[no-untyped-def]
    """Return the change of channel ``j`` at position ``p``."""
    taps = windows.taps.shape[1]
    change = np.float32(0.0)
    for i in range(windows.counts[p]):
        start = layer.filters + (j * taps + taps - 1 - windows.taps[p, i]) * layer.inputs
        change += scalar_product(below, windows.sources[p, i], filters, start, layer.inputs)
    return change


@numba.njit(**FAST)
def list_windows(line, place, places, positions, size, cells, count, windows):  # type: ignore[no-untyped-def]
    """List, for each position of the cell whose first one is (line, place), the changed cells below that reach it."""
    for p in range(positions):
        reached = 0
        for i in range(count):
            down = line + places[0, p] - cells.rows[i]
            right = place + places[1, p] - cells.columns[i]
            if 0 <= down < size and 0 <= right < size:
                windows.sources[p, reached] = cells.sources[i]
                windows.taps[p, reached] = down * size + right
                windows.norms[p, reached] = cells.norms[i]
                reached += 1
        windows.counts[p] = reached
