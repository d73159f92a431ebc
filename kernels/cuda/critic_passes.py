"""Launches critic_passes.cu: a forward and a backward pass per frame, and what they leave for the difference kernels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .device import Device, ceil_div
from .network import LANES, Network

__all__ = ["PROGRAMS", "Passes", "checked_frames", "frame_groups", "input_gradient", "macros", "run_passes"]

#: Threads per block: four warps, which take their tasks on their own.
_BLOCK = 128
#: Bytes of caches for the frames of one group, and the frames that a grid can count.
_GROUP_BYTES, _GROUP_FRAMES = 1 << 29, 65535

#: What is compiled beforehand: the usual critic, and the one that takes the most registers.
PROGRAMS = {"critic_passes": [{"KERNEL_SIZE": k, "POOL": p} for k, p in ((3, 2), (5, 3))]}


class Passes(NamedTuple):
    """Caches of some frames; units in the order row, column, channel, layer after layer.

    Attributes
    ----------
    peaks, gradients : (S, U) float32
    gaps : (S, U * pool * pool) float32
        Per cell: 32 channels, position (row-major), channel of the 32.
    input_gradient : (S, M1, M2) float32
        dD/dy.
    values : (S,) float32
        D(y).
    """

    peaks: Any
    gradients: Any
    gaps: Any
    input_gradient: Any
    values: Any


def macros(network: Network) -> dict[str, int]:
    """Return the macros that every critic kernel is compiled with."""
    return {"KERNEL_SIZE": network.kernel_size, "POOL": network.pool}


def run_passes(device: Device, network: Network, y: Any) -> Passes:
    """Run both passes on (S, M1, M2) float32 frames."""
    xp, count, units, slope = device.xp, len(y), np.int32(network.units), np.float32(network.slope)
    hidden = xp.empty((count, network.units), dtype=xp.float64)
    peaks, gradients = (xp.empty((count, network.units), dtype=xp.float32) for _ in range(2))
    gaps = xp.empty((count, network.units * network.pool**2), dtype=xp.float32)
    slopes, values = xp.empty(y.shape, dtype=xp.float32), xp.empty(count, dtype=xp.float32)
    if not count:
        return Passes(peaks, gradients, gaps, slopes, values)

    def launch(name: str, tasks: int, *arguments: Any) -> None:
        kernel = device.kernel("critic_passes", name, **macros(network))
        kernel((ceil_div(tasks * LANES, _BLOCK), count), (_BLOCK,), arguments)

    tasks = [layer.rows * layer.columns * layer.channels // LANES for layer in network.layers]
    table, depth = network.table, len(tasks)
    field = (network.mean, network.std)
    launch("forward_first", tasks[0], y, *field, table, network.first, network.biases, slope, units, hidden, peaks, gaps)
    for l in range(1, depth):
        launch("forward_layer", tasks[l], table, np.int32(l), network.fans, network.biases, slope, units, hidden, peaks, gaps)
    ends = (table, np.int32(depth), network.head, network.head_bias, units, hidden, gradients, values)
    device.kernel("critic_passes", "score", **macros(network))((count,), (LANES,), ends)
    for l in range(depth - 1, 0, -1):
        launch("backward_layer", tasks[l - 1], table, np.int32(l), network.filters, slope, units, peaks, gaps, gradients)
    below = (peaks, gaps, gradients, slopes)
    launch("backward_first", y[0].size, table, network.first, network.scale, slope, units, *below)
    return Passes(peaks, gradients, gaps, slopes, values)


def checked_frames(device: Device, network: Network, y: Any) -> Any:
    """Return the frames as contiguous float32, or raise ValueError."""
    xp = device.xp
    y = xp.ascontiguousarray(y, dtype=xp.float32)
    if y.ndim != 3 or y.shape[1:] != network.mean.shape:
        raise ValueError(f"y must be frames (S, {network.mean.shape[0]}, {network.mean.shape[1]}), got shape {y.shape}")
    device.check(xp.isfinite(y).all(), _judge)
    return y


def _judge(finite: bool) -> None:
    if not finite:
        raise ValueError("y holds values that are NaN or infinite; replace them or leave those frames out")


def frame_groups(network: Network, frames: int) -> list[slice]:
    """Cut the frames into groups whose caches stay within the memory allowed."""
    bytes_per_unit = 8 + 4 * (2 + network.pool**2)
    size = min(max(_GROUP_BYTES // (network.units * bytes_per_unit), 1), _GROUP_FRAMES)
    return [slice(first, min(first + size, frames)) for first in range(0, frames, size)]


def input_gradient(device: Device, network: Network, y: Any) -> tuple[Any, Any]:
    """Return the gradient of the score at the pixels, (S, M1, M2) float32, and the score, (S,) float32; see the CPU twin."""
    xp = device.xp
    y = checked_frames(device, network, y)
    gradient, values = xp.empty_like(y), xp.empty(len(y), dtype=xp.float32)
    for group in frame_groups(network, len(y)):
        passes = run_passes(device, network, y[group])
        gradient[group], values[group] = passes.input_gradient, passes.values
    return gradient, values
