"""The last layer, evaluated only at the units that may bend.

A pre-activation changes by at most the sum over taps of |weights| * |changes of the cell below|.  Whatever that bound cannot
clear is a suspect; its true change is summed up cell by cell, the largest first, until what is left of the bound clears it.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from .pooling import padded_places, position
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
def find_suspects(before, box, pool, channels, peaks, gaps, rows, flags, suspects, limit):  # type: ignore[no-untyped-def]
    """List the units that the bounds in ``before`` cannot clear; return their number, or -1 if there are more than ``limit``.

    A unit stays linear if its peak keeps its sign and no other position of its cell can overtake the winner.
    """
    own, slack = rows[0], rows[1]
    lanes = np.uint64(channels)
    eights = flags.view(np.uint64)
    found = 0
    for cell in range(box.rows * box.columns):
        row, column = cell // box.columns, cell % box.columns
        unit = box.unit + row * box.unit_stride + column * channels
        for j in range(lanes):
            own[j] = -np.inf
            slack[j] = np.inf
        for group in range(padded_places(pool) // 4):
            b0, g0 = position(box, unit, row, column, 4 * group, pool, channels)
            b1, g1 = position(box, unit, row, column, 4 * group + 1, pool, channels)
            b2, g2 = position(box, unit, row, column, 4 * group + 2, pool, channels)
            b3, g3 = position(box, unit, row, column, 4 * group + 3, pool, channels)
            for j in range(lanes):
                winner, room = own[j], slack[j]
                winner, room = _compete(winner, room, before[b0 + j], gaps[g0 + j])
                winner, room = _compete(winner, room, before[b1 + j], gaps[g1 + j])
                winner, room = _compete(winner, room, before[b2 + j], gaps[g2 + j])
                own[j], slack[j] = _compete(winner, room, before[b3 + j], gaps[g3 + j])
        first = np.uint64(unit)
        for j in range(lanes):
            flags[j] = (own[j] > abs(peaks[first + j])) | (own[j] > slack[j])
        for eight in range(channels // 8):
            if eights[eight] == 0:
                continue
            if found + 8 > limit:
                return -1
            for j in range(eight * 8, eight * 8 + 8):
                if flags[j]:
                    suspects[found] = cell * channels + j
                    found += 1
    return found


@numba.njit(forceinline=True, **FAST)
def _compete(winner, slack, bound, gap):  # type: ignore[no-untyped-def]
    """Return the winner's bound and the least room between its peak and the others, with one more position seen.

    Of several positions with gap 0 the last one counts as the winner, the others as followers without a gap.
    """
    wins = gap == 0
    room = -winner if wins else gap - bound
    return bound if wins else winner, room if room < slack else slack


@numba.njit(**FAST)
def bend_suspects(
    before,
    box,
    pool,
    size,
    layer,
    slope,
    peaks,
    gaps,
    gradients,
    below,
    filters,
    bounds,
    cells,
    count,
    suspects,
    found,
    counts,
):  # type: ignore[no-untyped-def]
    """Return the sum of <G, kink> over the suspects; add the number that truly bend to ``counts[2]``."""
    channels, places = layer.channels, pool * pool
    origin = box.position // channels
    top, left = origin // box.width, origin % box.width
    kinks = np.float32(0.0)
    for i in range(found):
        cell, j = suspects[i] // channels, suspects[i] % channels
        row, column = cell // box.columns, cell % box.columns
        unit = box.unit + row * box.unit_stride + column * channels + j
        row, column = top + row * pool, left + column * pool
        corner = (row * box.width + column) * channels + j
        gap = (unit - j) * padded_places(pool) + j
        winner = 0
        while gaps[gap + winner * channels] != 0:
            winner += 1
        slack = np.float32(np.inf)
        for p in range(places):
            if p != winner:
                bound = before[corner + (p // pool * box.width + p % pool) * channels]
                slack = min(slack, gaps[gap + p * channels] - bound)
        peak = peaks[unit]
        side = np.float32(1.0) if peak > 0 else np.float32(-1.0)
        bound = before[corner + (winner // pool * box.width + winner % pool) * channels]
        # linear if  -side * change <= |peak|  and  -change <= slack
        change, safe = narrow(
            row + winner // pool,
            column + winner % pool,
            j,
            bound,
            np.float32(-1.0),
            slack,
            -side,
            abs(peak),
            below,
            layer,
            filters,
            bounds,
            size,
            cells,
            count,
        )
        if safe:
            continue
        highest = change
        for p in range(places):
            bound = before[corner + (p // pool * box.width + p % pool) * channels]
            behind = gaps[gap + p * channels]
            if p != winner and bound - behind > highest:
                reach = highest + behind
                challenger, safe = narrow(
                    row + p // pool,
                    column + p % pool,
                    j,
                    bound,
                    np.float32(1.0),
                    reach,
                    np.float32(1.0),
                    reach,
                    below,
                    layer,
                    filters,
                    bounds,
                    size,
                    cells,
                    count,
                )
                if not safe:
                    highest = max(highest, challenger - behind)
        beyond = max(-side * (peak + highest), np.float32(0.0))
        kink = (np.float32(1.0) if peak > 0 else slope) * (highest - change) + (np.float32(1.0) - slope) * beyond
        counts[2] += kink != 0
        kinks += kink * gradients[unit]
    return kinks


@numba.njit(forceinline=True, **FAST)
def narrow(row, column, j, bound, sign, limit, sign2, limit2, below, layer, filters, bounds, size, cells, count):  # type: ignore[no-untyped-def]
    """Sum up the change of channel ``j`` at a position until it is known that neither signed change exceeds its limit.

    Returns the change so far, and whether that is known; if not, the change is complete.
    """
    taps = size * size
    change = np.float32(0.0)
    for i in range(count):
        down, right = row - cells.rows[i], column - cells.columns[i]
        if down < 0 or down >= size or right < 0 or right >= size:
            continue
        tap = down * size + right
        # filters are not mirrored, bounds are
        start = layer.filters + (j * taps + taps - 1 - tap) * layer.inputs
        change += scalar_product(below, cells.sources[i], filters, start, layer.inputs)
        bound -= cells.norms[i] * bounds[tap * layer.channels + j]
        if bound + sign * change <= limit and bound + sign2 * change <= limit2:
            return change, True
    return change, False
