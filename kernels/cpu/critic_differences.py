"""A slim critic on every frame with a few more photons: D(y + photons) - D(y), without running it on each.

The photons' change is carried through the layers, only where it reaches and, in the last layer, only where it bends
(:mod:`.differences`); one ordinary forward and backward pass per frame (:mod:`.passes`) supplies the rest.  Memory stays
bounded: frames are taken in groups, and each thread works on one small box at a time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._compile import given
from .differences import Scratch, make_scratch, score_changes
from .network import Network
from .passes import Passes, run_passes
from .threads import run_blocks

__all__ = ["critic_differences", "input_gradient", "perturbation_differences"]

#: Sets of photons per block of work.
_BLOCK = 512
#: Cost of a suspect unit of the last layer, in multiply-adds of that layer computed in full; a set with so many suspects that
#: they cost more is computed in full.
_SUSPECT_COST = 2000
#: Side of the patches, in pixels, by which single photons are processed: the part of a large frame's caches that a patch
#: reaches then stays in the second-level cache, beside the weights.
_PATCH = 8
#: Bytes of caches for the frames of one group.
_GROUP_BYTES = 64 << 20


def input_gradient(network: Network, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient of the score at the pixels, and the score.

    Parameters
    ----------
    network : Network
    y : (S, M1, M2) array, counts

    Returns
    -------
    gradient : (S, M1, M2) float32
    values : (S,) float32
    """
    y = _frames(network, y)
    gradient, values = np.empty_like(y), np.empty(len(y), dtype=np.float32)
    for group in _groups(network, len(y)):
        passes = run_passes(network, y[group])
        gradient[group], values[group] = passes.input_gradient, passes.values
    return gradient, values


def critic_differences(
    network: Network, y: Any, step: float, *, pruned: bool = True, counters: np.ndarray | None = None
) -> np.ndarray:
    r"""Return the table of single-photon differences, :math:`d_{sj} = D(y_s + \mathrm{step}\, e_j) - D(y_s)`.

    Parameters
    ----------
    network : Network
    y : (S, M1, M2) array, counts
    step : float
        What one photon adds to its pixel, counts (the gain).
    pruned : bool
        Whether the last layer is evaluated only where a bound cannot exclude a kink.  Same result to rounding; without, the
        gradient is not used and the differences are carried to the end.
    counters : (depth, 3) int64 array, optional
        Raised by the units touched, suspected and bent in each layer.

    Returns
    -------
    (S, M1, M2) float32
    """
    y, step = _frames(network, y), _finite(step)
    _check_counters(network, counters)
    pixels = y[0].size if len(y) else 0
    out = np.empty((len(y), pixels), dtype=np.float32)
    for group in _groups(network, len(y)):
        count = group.stop - group.start
        sets = _Sets(
            np.repeat(np.arange(count), pixels),
            np.arange(count * pixels + 1, dtype=np.int64),
            np.tile(np.arange(pixels, dtype=np.int32), count),
        )
        order = np.lexsort((_patch(sets.pixels, network), sets.frame))
        passes = run_passes(network, y[group])
        _evaluate(network, passes, sets, order, step, out[group].reshape(-1), pruned, False, counters)
    return out.reshape(y.shape)


def perturbation_differences(
    network: Network,
    y: Any,
    frame: Any,
    starts: Any,
    pixels: Any,
    step: float,
    *,
    remainder: bool = False,
    pruned: bool = True,
    counters: np.ndarray | None = None,
) -> np.ndarray:
    r"""Return :math:`D(y_{s(p)} + \mathrm{step} \sum_k e_{j_k}) - D(y_{s(p)})` for every set p of photons.

    Parameters
    ----------
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
    y, step = _frames(network, y), _finite(step)
    _check_counters(network, counters)
    sets = _Sets.checked(frame, starts, pixels, y.shape)
    out = np.zeros(len(sets.frame), dtype=np.float32)
    size = np.diff(sets.starts)
    # one photon: each pixel of a frame once, however many sets ask for it
    single = np.flatnonzero(size == 1)
    key = sets.frame[single] * y[0].size + sets.pixels[sets.starts[single]] if len(single) else single
    _, chosen, answer = np.unique(key, return_index=True, return_inverse=True)
    work = np.concatenate([np.flatnonzero(size > 1), single[chosen]])
    # neighbours one after the other, frame by frame: their data is still in the cache
    work = work[np.lexsort((sets.pixels[sets.starts[work]] if len(work) else work, sets.frame[work]))]
    used = np.unique(sets.frame[work])
    for group in _groups(network, len(used)):
        frames = used[group]
        first, last = np.searchsorted(sets.frame[work], [frames[0], frames[-1] + 1])
        here = sets._replace(frame=np.searchsorted(frames, sets.frame))
        passes = run_passes(network, given(y[frames]))
        _evaluate(network, passes, here, work[first:last], step, out, pruned, remainder, counters)
    out[single] = out[single[chosen]][answer]
    return out


class _Sets(NamedTuple):
    """Sets of photons in compressed rows, and the frame of each."""

    frame: np.ndarray  # (P,) int64
    starts: np.ndarray  # (P + 1,) int64
    pixels: np.ndarray  # int32

    @classmethod
    def checked(cls, frame: Any, starts: Any, pixels: Any, shape: tuple[int, ...]) -> _Sets:
        """Convert, and raise ValueError unless the sets are well formed for frames of ``shape``."""
        frame, starts, pixels = (np.ascontiguousarray(v) for v in (frame, starts, pixels))
        for name, values in (("frame", frame), ("starts", starts), ("pixels", pixels)):
            if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
                raise ValueError(f"{name} must be a 1-D array of integers, got {values.dtype} of shape {values.shape}")
        if len(starts) != len(frame) + 1:
            raise ValueError(f"starts must have one entry more than frame, got {len(starts)} and {len(frame)}")
        if starts[0] != 0 or starts[-1] != len(pixels) or (np.diff(starts.astype(np.int64)) < 0).any():
            raise ValueError("starts must rise from 0 to the number of pixels and never fall")
        for name, values, stop in (("frame", frame, shape[0]), ("pixels", pixels, shape[1] * shape[2])):
            if values.size and not 0 <= values.min() <= values.max() < stop:
                raise ValueError(f"{name} must lie in 0..{stop - 1}, got {values.min()} to {values.max()}")
        return cls(frame.astype(np.int64), starts.astype(np.int64), pixels.astype(np.int32))


def _evaluate(
    network: Network,
    passes: Passes,
    sets: _Sets,
    order: np.ndarray,
    step: float,
    out: np.ndarray,
    pruned: bool,
    remainder: bool,
    counters: np.ndarray | None,
) -> None:
    """Fill ``out[order]`` for sets sorted by frame."""
    ends = np.flatnonzero(np.diff(sets.frame[order], append=-1)) + 1
    blocks = [
        (first, min(first + _BLOCK, end))
        for begin, end in zip([0, *ends[:-1]], ends)
        for first in range(int(begin), int(end), _BLOCK)
    ]
    box = _largest_box(sets, network.mean.shape[1])
    tabulated = [len(network.layers) > 1 and _shares_pixels(sets, order[first:stop]) for first, stop in blocks]
    counts = np.zeros((len(blocks), len(network.layers), 3), dtype=np.int64)

    def work(block: int, scratch: Scratch) -> None:
        first, stop = blocks[block]
        score_changes(
            network,
            passes,
            sets.frame[order[first]],
            sets.starts,
            sets.pixels,
            order,
            first,
            stop,
            step,
            pruned,
            _SUSPECT_COST,
            remainder,
            bool(tabulated[block]),
            scratch,
            out,
            counts[block],
            counters is not None,
        )

    run_blocks(work, len(blocks), lambda: make_scratch(network, box, any(tabulated)))
    if counters is not None:
        counters += counts.sum(axis=0)


def _shares_pixels(sets: _Sets, order: np.ndarray) -> bool:
    """Whether so many photons fall on the same pixels that tables of their linear responses pay."""
    sizes = sets.starts[order + 1] - sets.starts[order]
    order, sizes = order[sizes > 1], sizes[sizes > 1]
    photons = int(sizes.sum())
    offsets = np.arange(photons) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    pixels = sets.pixels[np.repeat(sets.starts[order], sizes) + offsets]
    return photons >= 3 * np.unique(pixels).size > 0


def _patch(pixels: np.ndarray, network: Network) -> np.ndarray:
    """Return the number of the patch that each pixel lies in."""
    columns = network.mean.shape[1]
    return pixels // columns // _PATCH * -(-columns // _PATCH) + pixels % columns // _PATCH


def _largest_box(sets: _Sets, columns: int) -> tuple[int, int]:
    """Return the rows and columns of the largest box that holds a set's photons."""
    filled = np.flatnonzero(np.diff(sets.starts))
    begins = sets.starts[filled]
    if len(sets.pixels) == len(filled):  # single photons
        return 1, 1
    sides = [
        int((np.maximum.reduceat(place, begins) - np.minimum.reduceat(place, begins)).max()) + 1
        for place in (sets.pixels // columns, sets.pixels % columns)
    ]
    return sides[0], sides[1]


def _frames(network: Network, y: Any) -> np.ndarray:
    """Return the frames as contiguous float32."""
    y = given(y, np.float32)
    if y.ndim != 3 or y.shape[1:] != network.mean.shape:
        raise ValueError(f"y must be frames (S, {network.mean.shape[0]}, {network.mean.shape[1]}), got shape {y.shape}")
    if not np.isfinite(y).all():
        raise ValueError("y holds values that are NaN or infinite; replace them or leave those frames out")
    return y


def _finite(step: float) -> float:
    """Return the step as a float, or raise ValueError."""
    if not abs(step) <= float(np.finfo(np.float32).max):
        raise ValueError(f"step must be finite in float32, got {step}")
    return float(step)


def _check_counters(network: Network, counters: np.ndarray | None) -> None:
    """Raise unless the counters fit the network."""
    expected = (len(network.layers), 3)
    if counters is not None and (counters.shape != expected or counters.dtype != np.int64):
        raise ValueError(f"counters must be int64 of shape {expected}, got {counters.dtype} of shape {counters.shape}")


def _groups(network: Network, frames: int) -> list[slice]:
    """Cut the frames into groups whose caches stay within the memory allowed."""
    units = int(network.layers[-1]["cells"]) + network.head.size
    size = max(_GROUP_BYTES // (4 * units * (network.places.shape[1] + 2)), 1)
    return [slice(first, min(first + size, frames)) for first in range(0, frames, size)]
