"""Launches critic_differences.cu: a slim critic on every frame with a few more photons, without running it on each.

Twins of ``kernels/cpu/critic_differences.py``.  Everything stays on the device; a call reads back a few numbers, which say
whether the arguments are sound and how many sets there are of each size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .critic_passes import PROGRAMS as PASSES
from .critic_passes import Passes, checked_frames, frame_groups, input_gradient, macros, run_passes
from .device import Device, ceil_div
from .network import LANES, Network, make_network

__all__ = ["PROGRAMS", "critic_differences", "input_gradient", "make_network", "perturbation_differences"]

#: Warps per block, while shared memory has room for them.
_WARPS = 4
#: Threads per block of the kernel that sorts sets into classes.
_BLOCK = 256
#: Sides of the boxes that share a launch, up to the field's own; single photons are a class of their own.
_SIDES = (1, 4, 6, 8, 11, 16, 24, 32, 48, 64)
#: Where no block's shared memory can hold a warp's scratch: bytes of device memory for it, and blocks per multiprocessor.
_ROOM_BYTES, _ROOM_BLOCKS = 1 << 28, 4

#: What is compiled beforehand: the usual critic, and those that take the most registers.
PROGRAMS = {
    **PASSES,
    "critic_differences": [
        {"KERNEL_SIZE": k, "POOL": p, "GLOBAL_SCRATCH": scratch}
        for k, p, scratch in ((3, 2, 0), (3, 2, 1), (3, 3, 0), (5, 3, 0))
    ],
    "photon_sets": [{}],
}


class _Sets(NamedTuple):
    """Sets of photons in compressed rows, the frame of each, and the order in which they are taken."""

    frame: Any  # (P,) int64
    starts: Any  # (P + 1,) int64
    pixels: Any  # int32
    order: Any  # int64


class _Counts(NamedTuple):
    """Units touched, suspected and bent in each layer, if anybody wants to know."""

    places: Any  # (depth, 3) uint64
    counting: bool


class _Scratch(NamedTuple):
    """Floats that a warp works in, for boxes of a given side; multiples of 4."""

    image: int
    changes: int
    before: int

    @property
    def size(self) -> int:
        return self.image + 2 * self.changes + self.before


def critic_differences(
    device: Device, network: Network, y: Any, step: float, *, pruned: bool = True, counters: Any = None
) -> Any:
    r"""Return the table of single-photon differences, :math:`d_{sj} = D(y_s + \mathrm{step}\, e_j) - D(y_s)`.

    Parameters
    ----------
    device : Device
    network : Network
    y : (S, M1, M2) array, counts
    step : float
        What one photon adds to its pixel, counts (the gain).
    pruned : bool
        Whether the last layer is evaluated only where a bound cannot exclude a kink.  Same result to rounding; without, the
        gradient is not used and the differences are carried to the end.
    counters : (depth, 3) int64 array, optional
        Raised by the units touched, suspected and truly bent in each layer.

    Returns
    -------
    (S, M1, M2) float32
    """
    y, step = checked_frames(device, network, y), _finite(step)
    counts = _counts(device, network, counters)
    out = device.xp.empty((len(y), network.mean.size), dtype=np.float32)
    for group in frame_groups(network, len(y)):
        passes = run_passes(device, network, y[group])
        out[group] = _table(device, network, passes, step, pruned, False, counts)
    _raise(counters, counts)
    return out.reshape(y.shape)


def perturbation_differences(
    device: Device,
    network: Network,
    y: Any,
    frame: Any,
    starts: Any,
    pixels: Any,
    step: float,
    *,
    remainder: bool = False,
    pruned: bool = True,
    counters: Any = None,
) -> Any:
    r"""Return :math:`D(y_{s(p)} + \mathrm{step} \sum_k e_{j_k}) - D(y_{s(p)})` for every set p of photons.

    Parameters
    ----------
    device : Device
    network : Network
    y : (S, M1, M2) array, counts
    frame : (P,) integers
        The frame s(p) that set p is added to.
    starts : (P + 1,) integers
        Set p holds ``pixels[starts[p] : starts[p + 1]]``; an empty set gives 0.
    pixels : integers
        Flat pixels ``m1 * M2 + m2``; one that occurs twice receives two photons.
    step : float
        What one photon adds to its pixel, counts (the gain).
    remainder : bool
        Whether to return the difference minus its linear prediction, the scalar product of dD/dy and the change of y.
    pruned, counters
        See :func:`critic_differences`.

    Returns
    -------
    (P,) float32

    Raises
    ------
    ValueError
        If the sets are malformed, or name a frame or pixel that does not exist.
    """
    xp = device.xp
    y, step = checked_frames(device, network, y), _finite(step)
    counts = _counts(device, network, counters)
    groups = frame_groups(network, len(y))
    sets, classes = _sorted_sets(device, network, frame, starts, pixels, groups)
    out = xp.zeros(len(sets.frame), dtype=np.float32)
    sides, end = _sides(network), 0
    for group, in_group in zip(groups, classes):
        passes = None
        for number, count in enumerate(in_group):
            begin, end = end, end + count
            if not count or number == 0:  # the empty sets change nothing
                continue
            if passes is None:
                passes = run_passes(device, network, y[group])
            if number == 1 and 2 * count >= passes.input_gradient.size:
                # so many single photons that some share their pixel: each pixel of a frame once
                table = _table(device, network, passes, step, pruned, remainder, counts)
                single = sets.order[begin:end]
                out[single] = table[sets.frame[single] - group.start, sets.pixels[sets.starts[single]]]
            else:
                side = sides[number - 1]
                _score(device, network, passes, group.start, sets, begin, end, side, step, pruned, remainder, out, counts)
    _raise(counters, counts)
    return out


def _table(
    device: Device, network: Network, passes: Passes, step: float, pruned: bool, remainder: bool, counts: _Counts
) -> Any:
    """Return the differences of one photon in each pixel, (S, M1 * M2)."""
    xp, (frames, pixels) = device.xp, (len(passes.values), network.mean.size)
    number = xp.arange(frames * pixels + 1, dtype=np.int64)
    sets = _Sets(number[:-1] // pixels, number, (number[:-1] % pixels).astype(np.int32), number)
    out = xp.empty(frames * pixels, dtype=np.float32)
    _score(device, network, passes, 0, sets, 0, frames * pixels, 1, step, pruned, remainder, out, counts)
    return out.reshape(frames, pixels)


def _score(
    device: Device,
    network: Network,
    passes: Passes,
    first_frame: int,
    sets: _Sets,
    begin: int,
    end: int,
    side: int,
    step: float,
    pruned: bool,
    remainder: bool,
    out: Any,
    counts: _Counts,
) -> None:
    """Fill ``out`` at the sets ``order[begin:end]``, whose boxes have at most ``side`` pixels a side."""
    scratch = _scratch(network, side)
    warp_bytes = 4 * scratch.size
    fitting = min(_WARPS, device.shared_memory_per_block // warp_bytes)
    warps = fitting or _WARPS
    blocks, shared, room = ceil_div(end - begin, warps), fitting * warp_bytes, 1
    if not fitting:
        blocks = min(blocks, _ROOM_BLOCKS * device.multiprocessors, max(1, _ROOM_BYTES // (warps * warp_bytes)))
        room = blocks * warps * scratch.size
    kernel = device.kernel("critic_differences", "score_changes", **macros(network), GLOBAL_SCRATCH=int(not fitting))
    if fitting:
        kernel.max_dynamic_shared_size_bytes = shared
    weights = (network.first, network.fans, network.filters, network.bounds, network.scale)
    caches = (passes.peaks, passes.gradients, passes.gaps, passes.input_gradient)
    kernel(
        (blocks,),
        (warps * LANES,),
        (
            network.table,
            np.int32(len(network.layers)),
            *weights,
            np.float32(network.slope),
            np.int32(network.units),
            *caches,
            sets.order,
            np.int64(begin),
            np.int64(end),
            sets.frame,
            np.int32(first_frame),
            sets.starts,
            sets.pixels,
            np.float32(step),
            np.int32(pruned),
            np.int32(remainder),
            *(np.int32(n) for n in scratch),
            device.xp.empty(room, dtype=np.float32),
            out,
            np.int32(counts.counting),
            counts.places,
        ),
        shared_mem=shared,
    )


def _scratch(network: Network, side: int) -> _Scratch:
    """Return what a warp needs for photons within a box of ``side`` x ``side`` pixels."""
    half, pool = network.kernel_size // 2, network.pool
    margin = 2 * (2 * half + pool - 1)
    rows, columns = min(side, network.layers[0].rows_in), min(side, network.layers[0].columns_in)
    image, changes, before = (rows + margin) * (columns + margin), 0, 0
    for number, layer in enumerate(network.layers):
        if number > 0:
            image = max(image, (rows + margin) * (columns + margin))
            before = max(before, (rows + 2 * half) * (columns + 2 * half) * LANES)
        rows, columns = ((n + 2 * half + pool - 2) // pool + 1 for n in (rows, columns))
        rows, columns = min(rows, layer.rows), min(columns, layer.columns)
        if number < len(network.layers) - 1:
            changes = max(changes, rows * columns * layer.channels)
    return _Scratch(*(ceil_div(n, 4) * 4 for n in (image, changes, before)))


def _sides(network: Network) -> list[int]:
    """Return the largest side of each class of boxes."""
    field = max(network.mean.shape)
    return [1, *(side for side in _SIDES[1:] if side < field), field]


def _sorted_sets(
    device: Device, network: Network, frame: Any, starts: Any, pixels: Any, groups: list[slice]
) -> tuple[_Sets, list[list[int]]]:
    """Check the sets, sort them by group of frames, class, frame and pixel; also return how many each group has of each class.

    Raises
    ------
    ValueError
        If they are malformed.
    """
    xp, (rows, columns) = device.xp, network.mean.shape
    frames, per_group = (groups[-1].stop, groups[0].stop) if groups else (0, 1)
    frame, starts, pixels = (xp.ascontiguousarray(v) for v in (frame, starts, pixels))
    for name, values in (("frame", frame), ("starts", starts), ("pixels", pixels)):
        if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
            raise ValueError(f"{name} must be a 1-D array of integers, got {values.dtype} of shape {values.shape}")
    if len(starts) != len(frame) + 1:
        raise ValueError(f"starts must have one entry more than frame, got {len(starts)} and {len(frame)}")
    frame, starts = (v.astype(np.int64, copy=False) for v in (frame, starts))
    flat = pixels
    if pixels.dtype.itemsize > 4:  # a number beyond int32 must not come out as another pixel
        flat = xp.clip(pixels, -1 if pixels.dtype.kind == "i" else 0, rows * columns)
    flat = flat.astype(np.int32, copy=False)
    sides, sets = _sides(network), len(frame)
    keys, tallies = xp.zeros(sets, dtype=np.int64), xp.zeros(max(1, len(groups)) * (len(sides) + 1), dtype=np.uint64)
    faults = xp.zeros(3, dtype=np.uint64)
    if sets:
        kernel = device.kernel("photon_sets", "sort_keys")
        sizes = (np.int64(sets), np.int64(len(pixels)), np.int32(frames), np.int32(rows), np.int32(columns))
        found = (xp.asarray(sides, dtype=np.int32), np.int32(len(sides)), keys, tallies, faults)
        kernel((ceil_div(sets, _BLOCK),), (_BLOCK,), (frame, starts, flat, *sizes, np.int32(per_group), *found))
    misplaced, no_frame, no_pixel, *counts = xp.concatenate([faults, tallies]).tolist()
    if misplaced or (not sets and (len(pixels) or starts[0] != 0)):
        raise ValueError("starts must rise from 0 to the number of pixels and never fall")
    for name, values, stop, wrong in (("frame", frame, frames, no_frame), ("pixels", pixels, rows * columns, no_pixel)):
        if wrong:
            raise ValueError(f"{name} must lie in 0..{stop - 1}, got {int(values.min())} to {int(values.max())}")
    each = len(sides) + 1
    return _Sets(frame, starts, flat, xp.argsort(keys)), [counts[i : i + each] for i in range(0, len(counts), each)]


def _finite(step: float) -> float:
    """Return the step as a float, or raise ValueError."""
    if not abs(step) <= float(np.finfo(np.float32).max):
        raise ValueError(f"step must be finite in float32, got {step}")
    return float(step)


def _counts(device: Device, network: Network, counters: Any) -> _Counts:
    """Return a place for the kernels to count in; raise unless ``counters`` fit the network."""
    expected = (len(network.layers), 3)
    if counters is not None and (counters.shape != expected or counters.dtype != np.int64):
        raise ValueError(f"counters must be int64 of shape {expected}, got {counters.dtype} of shape {counters.shape}")
    return _Counts(device.xp.zeros(expected, dtype=np.uint64), counters is not None)


def _raise(counters: Any, counts: _Counts) -> None:
    """Add what the kernels have counted."""
    if counts.counting:
        counters += counts.places.astype(np.int64)
