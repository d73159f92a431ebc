"""One ordinary forward and backward pass per frame, and what it leaves for the difference kernels.

Max-pooling and a monotone LeakyReLU exchange, so a pooled unit is LeakyReLU(peak) with ``peak`` the largest of its cell's
pre-activations.  Kept per pooled unit: the peak, the gap from it to each position of the cell (0 at the winner), and the
gradient of the score with respect to the unit.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from ._compile import kernel
from .network import Network
from .threads import run_blocks
from .tiles import FAST, LANES, add_scaled, spread_cells


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
    run_blocks(lambda frame, _: _run(network, y, passes, frame), count, lambda: None)
    return passes


@kernel()
def _run(network, y, passes, frame):  # type: ignore[no-untyped-def]
    _forward(network, y[frame], passes, frame)
    _backward(network, passes, frame)


@numba.njit(**FAST)
def _forward(network, y, passes, frame):  # type: ignore[no-untyped-def]
    size, half, pool = network.kernel_size, network.kernel_size // 2, network.pool
    largest = 0
    for layer in network.layers:
        largest = max(largest, (layer.rows_in + 2 * half) * (layer.columns_in + 2 * half) * layer.channels)
    before = np.empty(largest, dtype=np.float32)
    hidden = np.empty(largest, dtype=np.float32)
    sources = np.empty(y.size, dtype=np.int64)
    targets = np.empty(y.size, dtype=np.int64)
    gaps, peaks = passes.gaps[frame], passes.peaks[frame]
    for number in range(len(network.layers)):
        layer = network.layers[number]
        width = layer.columns_in + 2 * half
        if number == 0:
            _first_convolution(network, y, before, width)
        else:
            before[: (layer.rows_in + 2 * half) * width * layer.channels] = 0
            cells = 0
            for row in range(layer.rows_in):
                for column in range(layer.columns_in):
                    sources[cells] = (row * layer.columns_in + column) * layer.inputs
                    targets[cells] = (row * width + column) * layer.channels
                    cells += 1
            spread_cells(
                before,
                width,
                hidden,
                sources,
                targets,
                cells,
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
def _first_convolution(network, y, out, width):  # type: ignore[no-untyped-def]
    """Convolve the normalised frame, row by row: patches of k x k pixels times the tiles of the first layer."""
    size, half = network.kernel_size, network.kernel_size // 2
    layer = network.layers[0]
    rows, columns, channels, taps = layer.rows * network.pool, layer.columns * network.pool, layer.channels, size * size
    padded = np.zeros((y.shape[0] + 2 * half, y.shape[1] + 2 * half), dtype=np.float32)
    for row in range(y.shape[0]):
        for column in range(y.shape[1]):
            padded[row + half, column + half] = (y[row, column] - network.mean[row, column]) * network.scale[row, column]
    patches = np.empty(columns * taps, dtype=np.float32)
    sources = np.empty(columns, dtype=np.int64)
    targets = np.empty(columns, dtype=np.int64)
    for row in range(rows):
        for column in range(columns):
            sources[column] = column * taps
            targets[column] = ((row + half) * width + half + column) * channels
            for tap in range(taps):
                patches[column * taps + tap] = padded[row + tap // size, column + tap % size]
        out[targets[0] : targets[0] + columns * channels] = 0
        spread_cells(out, width, patches, sources, targets, columns, network.first, 0, 1, taps, channels)


@numba.njit(**FAST)
def _pool(before, here, width, biases, slope, pool, places, peaks, gaps, unit, hidden, cell):  # type: ignore[no-untyped-def]
    """Pool the cell whose first position lies at ``before[here]``; fill the caches from ``unit`` on."""
    channels = len(biases)
    peak = peaks[unit : unit + channels]
    out = hidden[cell * channels : (cell + 1) * channels]
    peak[:] = -np.inf
    for p in range(pool * pool):
        at = here + (p // pool * width + p % pool) * channels
        values = before[at : at + channels]
        for j in range(channels):
            peak[j] = values[j] if values[j] > peak[j] else peak[j]
    for p in range(pool * pool):
        at = here + (p // pool * width + p % pool) * channels
        values = before[at : at + channels]
        start = unit * places + p * channels
        gap = gaps[start : start + channels]
        for j in range(channels):
            gap[j] = peak[j] - values[j]
    for j in range(channels):
        peak[j] += biases[j]
        out[j] = peak[j] if peak[j] > 0 else np.float32(slope) * peak[j]


@numba.njit(**FAST)
def _backward(network, passes, frame):  # type: ignore[no-untyped-def]
    """Send the gradient of the score through the winners, layer by layer, down to the pixels."""
    size, half, pool = network.kernel_size, network.kernel_size // 2, network.pool
    places = network.places.shape[1]
    slope = np.float32(network.slope)
    gaps, peaks, gradients = passes.gaps[frame], passes.peaks[frame], passes.gradients[frame]
    pixels = passes.input_gradient[frame]
    last = network.layers[-1].cells
    gradients[:last] = 0
    gradients[last:] = network.head
    for number in range(len(network.layers) - 1, -1, -1):
        layer = network.layers[number]
        channels, inputs, columns_in = layer.channels, layer.inputs, layer.columns_in
        below = network.layers[number - 1].cells
        for cell in range(layer.rows * layer.columns):
            unit = layer.cells + cell * channels
            for j in range(layer.used):
                gradient = gradients[unit + j]
                if gradient == 0:
                    continue
                gradient = gradient if peaks[unit + j] > 0 else slope * gradient
                winner = 0
                while gaps[unit * places + winner * channels + j] != 0:
                    winner += 1
                row = cell // layer.columns * pool + winner // pool
                column = cell % layer.columns * pool + winner % pool
                first, stop = max(column - half, 0), min(column + half + 1, columns_in)
                for r in range(max(row - half, 0), min(row + half + 1, layer.rows_in)):
                    tap = (r - row + half) * size + first - column + half
                    if number == 0:
                        for c in range(first, stop):
                            pixels[r, c] += (
                                gradient * network.first[(j // LANES * size * size + tap + c - first) * LANES + j % LANES]
                            )
                    else:
                        to = below + (r * columns_in + first) * inputs
                        start = layer.filters + (j * size * size + tap) * inputs
                        add_scaled(gradients, to, network.filters, start, (stop - first) * inputs, gradient)
    for row in range(pixels.shape[0]):
        for column in range(pixels.shape[1]):
            pixels[row, column] *= network.scale[row, column]
