"""How a few photons change the score: the change is propagated from layer to layer through the units that it reaches.

With G the gradient of the score with respect to a layer's pooled units (h), from one backward pass,

    D(y') - D(y) = <dD/dy, y' - y> + sum over layers of <G, kink>,

exactly: ``kink`` is a unit's true change minus its linearisation (the winner's change times the slope at the winner) and is
zero unless the winner of the cell or its sign changes.  The changes of the last layer are needed at its kinks alone
(:mod:`.suspects`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from ._compile import kernel
from .pooling import Box, pooled_range, position
from .responses import Responses, add_responses, forget, make_responses, spread_kinks
from .suspects import Room, bend_suspects, find_suspects, list_cells, spread_bounds
from .tiles import EXACT, FAST, Cells, add_scaled, clear, make_cells, scalar_product, spread_cells


class Scratch(NamedTuple):
    """What one thread works in; :func:`make_scratch` sizes it for the largest box of pixels."""

    before: np.ndarray  # float32, changes of pre-activations, or their bounds
    changes: np.ndarray  # (2, n) float32, changes of pooled units: of the layer below, of this one
    cells: Cells
    room: Room
    responses: Responses
    patience: np.ndarray  # (2,) int64, sets for which pruning is not tried, and how many it was last time


def make_scratch(network: Any, box: tuple[int, int], tabulated: bool) -> Scratch:
    """Allocate for photons within boxes of ``box`` = (rows, columns) pixels, with or without tables of linear responses."""
    half, pool = network.kernel_size // 2, network.pool
    rows, columns = box
    before, changes, cells = 1, 1, 1
    for layer in network.layers:
        rows, columns = min(rows, int(layer["rows_in"])), min(columns, int(layer["columns_in"]))
        cells = max(cells, rows * columns)
        # the positions reached, filled up to whole cells on either side
        positions = (rows + 2 * half + 2 * pool) * (columns + 2 * half + 2 * pool)
        before = max(before, positions * int(layer["channels"]))
        rows, columns = ((n + 2 * half + 2 * pool - 2) // pool for n in (rows, columns))
        changes = max(changes, rows * columns * int(layer["channels"]))
    channels = int(network.layers["channels"].max())
    units = rows * columns * int(network.layers["channels"][-1])

    def whole(*shape: int) -> np.ndarray:
        return np.empty(shape, dtype=np.int64)

    def real(*shape: int) -> np.ndarray:
        return np.empty(shape, dtype=np.float32)

    lines = real(5, channels)
    lines[0], lines[1] = -np.inf, 0
    return Scratch(
        real(before),
        real(2, changes),
        make_cells(cells),
        Room(lines, np.empty(units, dtype=np.uint8), whole(pool * pool, 4)),
        make_responses(network) if tabulated else Responses(whole(0), real(0), whole(1), 0, 0),
        whole(2),
    )


@kernel()
def score_changes(  # type: ignore[no-untyped-def]
    network,
    passes,
    frame,
    starts,
    pixels,
    order,
    first,
    stop,
    step,
    pruned,
    suspect_cost,
    remainder,
    tabulated,
    scratch,
    out,
    counters,
    counting,
):
    """Fill ``out[order[first:stop]]`` with the differences (or remainders) of these sets of photons, added to one frame."""
    peaks, gradients, gaps = passes.peaks[frame], passes.gradients[frame], passes.gaps[frame]
    slopes = passes.input_gradient[frame].ravel()
    step = np.float32(step)
    scratch.patience[0] = scratch.patience[1] = 0
    if tabulated:
        forget(scratch.responses)
    for i in range(first, stop):
        number = order[i]
        begin, end = starts[number], starts[number + 1]
        change = score_change(
            network,
            peaks,
            gradients,
            gaps,
            pixels,
            begin,
            end,
            step,
            pruned,
            suspect_cost,
            tabulated,
            scratch,
            counters,
            counting,
        )
        if pruned != remainder:
            linear = np.float32(0.0)
            for k in range(begin, end):
                linear += slopes[pixels[k]]
            change += (step if pruned else -step) * linear
        out[number] = change


@numba.njit(**FAST)
def score_change(  # type: ignore[no-untyped-def]
    network, peaks, gradients, gaps, pixels, start, stop, step, pruned, suspect_cost, tabulated, scratch, counters, counting
):
    """Return what the photons ``pixels[start:stop]`` change: the sum of <G, kink> if ``pruned``, else the whole difference."""
    size, half, pool = network.kernel_size, network.kernel_size // 2, network.pool
    slope, last = np.float32(network.slope), len(network.layers) - 1
    before, cells, responses, patience = scratch.before, scratch.cells, scratch.responses, scratch.patience
    tabulated = tabulated and last > 0 and stop > start + 1
    field_columns = network.mean.shape[1]
    # the box of units that have changed so far: first and last row, first and last column
    r0 = r1 = pixels[start] // field_columns
    c0 = c1 = pixels[start] % field_columns
    for i in range(start + 1, stop):
        row, column = pixels[i] // field_columns, pixels[i] % field_columns
        r0, r1, c0, c1 = min(r0, row), max(r1, row), min(c0, column), max(c1, column)
    kinks = np.float32(0.0)
    for number in range(last + 1):
        layer, counts = network.layers[number], counters[number]
        channels, inputs = layer.channels, layer.inputs
        below, above = scratch.changes[(number + 1) % 2], scratch.changes[number % 2]
        first_row, last_row = pooled_range(r0, r1, half, pool, layer.rows)
        first_column, last_column = pooled_range(c0, c1, half, pool, layer.columns)
        if last_row < first_row or last_column < first_column:
            return kinks if pruned else np.float32(0.0)
        # positions: all of the cells, and all that the convolution reaches
        top, left = min(first_row * pool, r0 - half), min(first_column * pool, c0 - half)
        width = max(last_column * pool + pool - 1, c1 + half) - left + 1
        height = max(last_row * pool + pool - 1, r1 + half) - top + 1
        box = Box(
            last_row - first_row + 1,
            last_column - first_column + 1,
            first_row * pool - top,
            first_column * pool - left,
            width,
            layer.cells + (first_row * layer.columns + first_column) * channels,
            layer.columns * channels,
        )
        # the positions that belong to a cell
        inside = (box.top, box.top + box.rows * pool - 1, box.left, box.left + box.columns * pool - 1)
        touched = box.rows * box.columns * layer.used
        counts[0] += touched
        clear(before, height * width * channels)
        if number == 0:
            spread_photons(before, top, left, width, network.spread, channels, size, pixels, start, stop, network.scale, step)
        elif number == 1 and tabulated:
            add_responses(before, top, left, width, network, peaks, gaps, pixels, start, stop, step, responses, above, cells)
            spread_kinks(
                before, r0 - half - top, c0 - half - left, width, inside, network, below, r1 - r0 + 1, c1 - c0 + 1, cells
            )
        else:
            changed = list_cells(below, r1 - r0 + 1, c1 - c0 + 1, inputs, r0 - half - top, c0 - half - left, cells)
            if number == last and pruned and patience[0] == 0:
                spread_bounds(before, width, network.bounds, size, channels, cells, changed)
                found = find_suspects(before, box, network.places, pool, channels, peaks, gaps, scratch.room)
                if found * suspect_cost <= changed * size * size * inputs * channels:
                    patience[1] = 0
                    counts[1] += found
                    return kinks + bend_suspects(
                        before,
                        box,
                        network,
                        layer,
                        peaks,
                        gaps,
                        gradients,
                        below,
                        r0 - half - top,
                        c0 - half - left,
                        r1 - r0 + 1,
                        c1 - c0 + 1,
                        scratch.room,
                        counts,
                    )
                # where too many are suspected, so they will be in the sets that follow: sets come in spatial order.  Hence the
                # last bits of a result depend on the sets of its block, never on threads: blocks are cut alike for any number.
                patience[1] = min(2 * patience[1] + 1, 15)
                patience[0] = patience[1]
                clear(before, height * width * channels)
            elif number == last and pruned:
                patience[0] -= 1
            spread_cells(before, width, inside, below, cells, changed, network.tiles, layer.tiles, size, inputs, channels)
        counts[1] += touched
        kinks += bend_cells(
            before,
            box,
            network.places,
            pool,
            channels,
            slope,
            peaks,
            gaps,
            gradients,
            above,
            scratch.room.rows,
            counts,
            counting,
            number == 0 and tabulated,
        )
        r0, r1, c0, c1 = first_row, last_row, first_column, last_column
    if pruned:
        return kinks
    total = np.float32(0.0)
    for row in range(r1 - r0 + 1):
        line = (c1 - c0 + 1) * channels
        total += scalar_product(above, row * line, network.head, ((r0 + row) * layer.columns + c0) * channels, line)
    return total


@numba.njit(**FAST)
def spread_photons(before, top, left, width, spread, channels, size, pixels, start, stop, scale, step):  # type: ignore[no-untyped-def]
    """Add to ``before``, whose first position is (top, left), what photons change in the first layer's pre-activations."""
    line = size * channels
    for i in range(start, stop):
        row, column = pixels[i] // scale.shape[1], pixels[i] % scale.shape[1]
        here = ((row - size // 2 - top) * width + column - size // 2 - left) * channels
        for tap in range(size):
            add_scaled(before, here + tap * width * channels, spread, tap * line, line, step * scale[row, column])


@numba.njit(forceinline=True, **EXACT)
def _compete(winner, top, change, gap):  # type: ignore[no-untyped-def]
    """Return the winner's change and the peak's, with one more position seen."""
    challenger = change - gap
    return change if gap == 0 else winner, challenger if challenger > top else top


# Not FAST: the linearisation is subtracted from the change, and both must be rounded alike for their difference to vanish.
@numba.njit(**EXACT)
def bend_cells(before, box, places, pool, channels, slope, peaks, gaps, gradients, out, rows, counts, counting, kinks_only):  # type: ignore[no-untyped-def]
    """Carry the changes of a box's pre-activations through pooling and LeakyReLU.

    Writes the changes of the pooled units to ``out`` (their kinks, if ``kinks_only``) and returns the sum of <G, kink>; adds
    the number of units that bend to ``counts[2]`` if ``counting``.
    """
    nothing, none, kink = rows[0], rows[1], rows[2]  # -inf and 0, where a cell begins
    top, winner = (nothing, none) if places.shape[1] == 4 else (rows[3], rows[4])
    lanes = np.uint64(channels)
    kinks = np.float32(0.0)
    for row in range(box.rows):
        for column in range(box.columns):
            unit = box.unit + row * box.unit_stride + column * channels
            # backwards, so that among equal gaps the first position stays the winner; the first four come last, see below
            for place in range(places.shape[1] - 4, 0, -4):
                x0, g0 = position(box, places, pool, channels, unit, row, column, place)
                x1, g1 = position(box, places, pool, channels, unit, row, column, place + 1)
                x2, g2 = position(box, places, pool, channels, unit, row, column, place + 2)
                x3, g3 = position(box, places, pool, channels, unit, row, column, place + 3)
                start_top, start = (nothing, none) if place == places.shape[1] - 4 else (top, winner)
                for j in range(lanes):
                    # every load before the first choice: a load that depends on one would keep the loop from vectorising
                    change, highest = start[j], start_top[j]
                    change, highest = _compete(change, highest, before[x3 + j], gaps[g3 + j])
                    change, highest = _compete(change, highest, before[x2 + j], gaps[g2 + j])
                    change, highest = _compete(change, highest, before[x1 + j], gaps[g1 + j])
                    winner[j], top[j] = _compete(change, highest, before[x0 + j], gaps[g0 + j])
            x0, g0 = position(box, places, pool, channels, unit, row, column, 0)
            x1, g1 = position(box, places, pool, channels, unit, row, column, 1)
            x2, g2 = position(box, places, pool, channels, unit, row, column, 2)
            x3, g3 = position(box, places, pool, channels, unit, row, column, 3)
            first, to = np.uint64(unit), np.uint64((row * box.columns + column) * channels)
            for j in range(lanes):
                change, highest, peak = winner[j], top[j], peaks[first + j]
                change, highest = _compete(change, highest, before[x3 + j], gaps[g3 + j])
                change, highest = _compete(change, highest, before[x2 + j], gaps[g2 + j])
                change, highest = _compete(change, highest, before[x1 + j], gaps[g1 + j])
                change, highest = _compete(change, highest, before[x0 + j], gaps[g0 + j])
                # LeakyReLU is the line of slope ``steep`` through its side of 0, plus a bend where the sum changes sign
                positive = peak > 0
                steep = np.float32(1.0) if positive else slope
                total = peak + highest
                beyond = -total if positive else total
                beyond = beyond if beyond > 0 else np.float32(0.0)
                bend = (np.float32(1.0) - slope) * beyond
                out[to + j] = steep * highest + bend
                kink[j] = steep * (highest - change) + bend
            if kinks_only:
                for j in range(lanes):
                    out[to + j] = kink[j]
            if counting:
                for j in range(lanes):
                    counts[2] += kink[j] != 0
            kinks += scalar_product(kink, 0, gradients, unit, channels)
    return kinks
