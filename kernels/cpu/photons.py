"""The photons of one more emission, P(C_i), for many fine pixels and frames: how many, then where each one falls."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._compile import given, kernel
from .philox import NEXT_BLOCK, philox4x32, unit
from .poisson import poisson_scalar, share

__all__ = ["draw_photons"]

# Entries of a phase's guide; a power of two, so that u times it is exact and the guide never starts behind the place sought.
_GUIDE = 512


@kernel()
def _count(first, last, means, indices, frames, stage, step, k0, k1, counts):  # type: ignore[no-untyped-def]
    """Draw the numbers of photons of the sets ``first`` to ``last``, numbered frame by frame."""
    for task in range(first, last):
        f, p = task // indices.size, task % indices.size
        counts[task] = np.int64(poisson_scalar(means[p], indices[p], frames[f], stage, step, k0, k1))


@kernel()
def _place(first, last, emitters, places, shape, frames, stage, step, k0, k1, ends, found, pixels):  # type: ignore[no-untyped-def]
    """Place the photons of the sets ``first`` to ``last``, and keep those inside the field at the head of their set's room."""
    indices, phases, tops, lefts = emitters
    cumulatives, guides, rows, columns = places
    for task in range(first, last):
        f, p = task // indices.size, task % indices.size
        cumulative, guide = cumulatives[phases[p]], guides[phases[p]]
        second = stage
        kept = ends[task]
        for _ in range(ends[task], ends[task + 1]):
            w0, w1, _, _ = philox4x32(indices[p], frames[f], second, step, k0, k1)
            second += NEXT_BLOCK
            u = unit(w0, w1)
            k = guide[np.int64(u * _GUIDE)]
            while cumulative[k] < u:
                k += 1
            row, column = tops[p] + rows[k], lefts[p] + columns[k]
            if 0 <= row < shape[0] and 0 <= column < shape[1]:
                pixels[kept] = row * shape[1] + column
                kept += 1
        found[task] = kept - ends[task]


@kernel()
def _pack(first, last, ends, starts, loose, packed):  # type: ignore[no-untyped-def]
    """Close the gaps that lost photons have left."""
    for task in range(first, last):
        shift = ends[task] - starts[task]
        for j in range(starts[task], starts[task + 1]):
            packed[j] = loose[j + shift]


def draw_photons(
    totals: np.ndarray,
    cumulative: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    shape: tuple[int, int],
    factor: int,
    indices: Any,
    frames: Any,
    k0: int,
    k1: int,
    count_stage: int,
    place_stage: int,
    step: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw P(C_i) for the fine pixels ``indices``, for each of ``frames``.

    Parameters
    ----------
    totals, cumulative, rows, columns, shape, factor
        The attributes of ``fluogan_core.physics.photons.PlacementTable``.
    indices : (P,) integers
        Flat fine pixels ``n1 * N2 + n2``.
    frames : int or (F,) integers
        Numbers of the frames.
    k0, k1 : int
        Key words, see ``fluogan_core.backend.random.seed_words``.
    count_stage, place_stage, step : int
        Counters of the photon numbers, of their places, and of both.

    Returns
    -------
    starts : (F * P + 1,) int64
        Set ``f * P + p`` holds ``pixels[starts[f * P + p] : starts[f * P + p + 1]]``.
    pixels : (starts[-1],) int32
        Flat camera pixels, in the order in which the photons are drawn.
    """
    indices, shape = np.asarray(indices, dtype=np.int64), (int(shape[0]), int(shape[1]))
    counters = indices.astype(np.uint64)
    frames = given(np.atleast_1d(frames), np.uint64)
    n1, n2 = np.divmod(indices, shape[1] * factor)
    (tops, p1), (lefts, p2) = np.divmod(n1, factor), np.divmod(n2, factor)
    phases = p1 * factor + p2
    sets = len(frames) * len(indices)
    words = tuple(np.uint64(w) for w in (step, k0, k1))

    counts = np.empty(sets, dtype=np.int64)
    share(_count, sets, sets, (totals[phases], counters, frames, np.uint64(count_stage), *words, counts))
    ends = np.concatenate([[0], np.cumsum(counts)])
    edges = np.arange(_GUIDE) / _GUIDE
    guides = np.stack([np.searchsorted(line, edges) for line in cumulative])
    loose = np.empty(ends[-1], dtype=np.int32)
    places = (given(cumulative), guides, rows.astype(np.int64), columns.astype(np.int64))
    emitters = (counters, phases, tops, lefts)
    share(_place, sets, len(loose), (emitters, places, shape, frames, np.uint64(place_stage), *words, ends, counts, loose))
    starts = np.concatenate([[0], np.cumsum(counts)])
    pixels = np.empty(starts[-1], dtype=np.int32)
    share(_pack, sets, len(loose), (ends, starts, loose, pixels))
    return starts, pixels
