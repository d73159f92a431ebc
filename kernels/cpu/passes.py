"""One ordinary forward and backward pass per frame, and what it leaves for the difference kernels.

Max-pooling and a monotone LeakyReLU exchange, so a pooled unit is LeakyReLU(peak) with ``peak`` the largest of its cell's
pre-activations.  Kept per pooled unit: the peak, the gap from it to each position of the cell (0 at the winner), and the
gradient of the score with respect to the unit.  The forward pass is in float64: where the input is badly normalised, gaps and
peaks are small differences of large numbers, and the kinks lie where they say.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from ._compile import kernel
from .network import Network
from .threads import run_blocks
from .tiles import FAST, clear, make_cells, scalar_product, spread_cells


class Passes(NamedTuple):
    """Caches of some frames; units in the order row, column, channel, layer after layer.

    Attributes
    ----------
    peaks, gradients : (S, U) float32
    gaps : (S, U * positions) float32
        Per cell: position (row-major, filled up as :mod:`.pooling` tells), channel.
    input_gradient : (S, M1, M2) float32
        dD/dy.
    values : (S,) float32
        D(y).
    """

    peaks: np.ndarray
    gradients: np.ndarray
    gaps: np.ndarray
    input_gradient: np.ndarray
    values: np.ndarray


def run_passes(network: Network, y: np.ndarray) -> Passes:
    """Run both passes on (S, M1, M2) float32 frames."""
    units = int(network.layers[-1]["cells"]) + network.head.size
    count = len(y)
    peaks, gradients = (np.empty((count, units), dtype=np.float32) for _ in range(2))
    gaps = np.full((count, units * network.places.shape[1]), np.inf, dtype=np.float32)
    passes = Passes(peaks, gradients, gaps, np.zeros(y.shape, np.float32), np.empty(count, np.float32))
    pixels = network.mean.size
    run_blocks(lambda frame, cells: _run(network, y, passes, frame, cells), count, lambda: make_cells(pixels))
    return passes


@kernel()
def _run(network, y, passes, frame, cells):  # type: ignore[no-untyped-def]
    _forward(network, y[frame], passes, frame, cells)
    _backward(network, passes, frame, cells)


@numba.njit(**FAST)
def _forward(network, y, passes, frame, cells):  # type: ignore[no-untyped-def]
    size, half, pool = network.kernel_size, network.kernel_size // 2, network.pool
    largest = 0
    for layer in network.layers:
        largest = max(largest, (layer.rows_in + 2 * half) * (layer.columns_in + 2 * half) * layer.channels)
    before = np.empty(largest, dtype=np.float64)
    hidden = np.empty(largest, dtype=np.float64)
    gaps, peaks = passes.gaps[frame], passes.peaks[frame]
    for number in range(len(network.layers)):
        layer = network.layers[number]
        width = layer.columns_in + 2 * half
        if number == 0:
            _first_convolution(network, y, before, width, cells)
        else:
            clear(before, (layer.rows_in + 2 * half) * width * layer.channels)
            number_of_cells = 0
            for row in range(layer.rows_in):
                for column in range(layer.columns_in):
                    cells.sources[number_of_cells] = number_of_cells * layer.inputs
                    cells.rows[number_of_cells], cells.columns[number_of_cells] = row, column
                    number_of_cells += 1
            inside = (half, half + layer.rows * pool - 1, half, half + layer.columns * pool - 1)
            spread_cells(
                before,
                width,
                inside,
                hidden,
                cells,
                number_of_cells,
                network.tiles,
                layer.tiles,
                size,
                layer.inputs,
                layer.channels,
            )
        biases = network.biases[layer.biases : layer.biases + layer.channels]
        for row in range(layer.rows):
            for column in range(layer.columns):
                cell = row * layer.columns + column
                here = ((row * pool + half) * width + column * pool + half) * layer.channels
                unit = layer.cells + cell * layer.channels
                _pool(
                    before,
                    here,
                    width,
                    biases,
                    network.slope,
                    pool,
                    network.places.shape[1],
                    peaks,
                    gaps,
                    unit,
                    hidden,
                    cell,
                )
    total = network.head_bias
    for i in range(network.head.size):
        total += network.head[i] * hidden[i]
    passes.values[frame] = total


@numba.njit(**FAST)
def _first_convolution(network, y, out, width, cells):  # type: ignore[no-untyped-def]
    """Convolve the normalised frame, row by row: patches of k x k pixels times the tiles of the first layer."""
    size, half = network.kernel_size, network.kernel_size // 2
    layer = network.layers[0]
    rows, columns, channels, taps = layer.rows * network.pool, layer.columns * network.pool, layer.channels, size * size
    padded = np.zeros((y.shape[0] + 2 * half, y.shape[1] + 2 * half), dtype=np.float64)
    for row in range(y.shape[0]):
        for column in range(y.shape[1]):
            centred = np.float64(y[row, column]) - network.mean[row, column]
            padded[row + half, column + half] = centred / network.std[row, column]
    patches = np.empty(columns * taps, dtype=np.float64)
    for row in range(rows):
        for column in range(columns):
            cells.sources[column], cells.rows[column], cells.columns[column] = column * taps, 0, column
            for tap in range(taps):
                patches[column * taps + tap] = padded[row + tap // size, column + tap % size]
        first = ((row + half) * width + half) * channels
        line = out[first : first + columns * channels]
        clear(line, line.size)
        inside = (0, 0, 0, columns - 1)
        spread_cells(line, width, inside, patches, cells, columns, network.first, 0, 1, taps, channels)


@numba.njit(**FAST)
def _pool(before, here, width, biases, slope, pool, places, peaks, gaps, unit, hidden, cell):  # type: ignore[no-untyped-def]
    """Pool the cell whose first position lies at ``before[here]``; fill the caches from ``unit`` on."""
    channels = len(biases)
    top = hidden[cell * channels : (cell + 1) * channels]
    for j in range(channels):
        top[j] = -np.inf
    for p in range(pool * pool):
        at = here + (p // pool * width + p % pool) * channels
        values = before[at : at + channels]
        for j in range(channels):
            top[j] = values[j] if values[j] > top[j] else top[j]
    for p in range(pool * pool):
        at = here + (p // pool * width + p % pool) * channels
        values = before[at : at + channels]
        start = unit * places + p * channels
        gap = gaps[start : start + channels]
        for j in range(channels):
            gap[j] = top[j] - values[j]
    peak = peaks[unit : unit + channels]
    for j in range(channels):
        value = top[j] + biases[j]
        peak[j] = value
        top[j] = value if value > 0 else slope * value


@numba.njit(**FAST)
def _backward(network, passes, frame, cells):  # type: ignore[no-untyped-def]
    """Send the gradient of the score through the winners, layer by layer, down to the pixels."""
    size, half, pool = network.kernel_size, network.kernel_size // 2, network.pool
    gaps, peaks, gradients = passes.gaps[frame], passes.peaks[frame], passes.gradients[frame]
    largest, widest = 0, 0
    for layer in network.layers:
        largest = max(largest, (layer.rows_in + 2 * half) * (layer.columns_in + 2 * half) * layer.channels)
        widest = max(widest, layer.channels)
    before, left = np.empty(largest, dtype=np.float32), np.empty(widest, dtype=np.float32)
    last = network.layers[-1].cells
    clear(gradients, last)
    for i in range(network.head.size):
        gradients[last + i] = network.head[i]
    for number in range(len(network.layers) - 1, -1, -1):
        layer = network.layers[number]
        channels, width = layer.channels, layer.columns_in + 2 * half
        clear(before, (layer.rows_in + 2 * half) * width * channels)
        count = 0
        for row in range(layer.rows):
            for column in range(layer.columns):
                unit = layer.cells + (row * layer.columns + column) * channels
                here = ((row * pool + half) * width + column * pool + half) * channels
                _to_winners(before, here, width, channels, network, peaks, gaps, gradients, unit, left)
                for p in range(pool * pool):
                    cells.sources[count] = here + (p // pool * width + p % pool) * channels
                    cells.rows[count] = row * pool + p // pool - half
                    cells.columns[count] = column * pool + p % pool - half
                    count += 1
        if number > 0:
            below = gradients[network.layers[number - 1].cells : layer.cells]
            inside = (0, layer.rows_in - 1, 0, layer.columns_in - 1)
            spread_cells(
                below,
                layer.columns_in,
                inside,
                before,
                cells,
                count,
                network.backward_tiles,
                layer.tiles,
                size,
                channels,
                layer.inputs,
            )
        else:
            _to_pixels(before, width, channels, network, passes.input_gradient[frame])


@numba.njit(**FAST)
def _to_winners(before, here, width, channels, network, peaks, gaps, gradients, unit, left):  # type: ignore[no-untyped-def]
    """Hand the gradients of a cell's units to the positions that won, in ``before[here]`` and after it."""
    pool, places, lanes, slope = network.pool, network.places.shape[1], np.uint64(channels), np.float32(network.slope)
    first = np.uint64(unit)
    for j in range(lanes):
        gradient = gradients[first + j]
        left[j] = gradient if peaks[first + j] > 0 else slope * gradient
    for p in range(pool * pool):
        to, gap = np.uint64(here + (p // pool * width + p % pool) * channels), np.uint64(unit * places + p * channels)
        for j in range(lanes):
            # the first of equals takes it
            gradient, won = left[j], gaps[gap + j] == 0
            before[to + j] = gradient if won else np.float32(0.0)
            left[j] = np.float32(0.0) if won else gradient


@numba.njit(**FAST)
def _to_pixels(before, width, channels, network, pixels):  # type: ignore[no-untyped-def]
    """Gather at each pixel what the positions around it send back."""
    size, line = network.kernel_size, network.kernel_size * channels
    for row in range(pixels.shape[0]):
        for column in range(pixels.shape[1]):
            gradient = np.float32(0.0)
            for tap in range(size):
                gradient += scalar_product(before, ((row + tap) * width + column) * channels, network.spread, tap * line, line)
            pixels[row, column] = gradient * network.scale[row, column]
