"""Chains of emissions: a list of emissions per frame, which visits what eq. (1) allows as often as it is likely.

Reversible-jump Metropolis-Hastings (Green 1995) on the posterior of a marked Poisson process.  A proposal is a birth, a death,
a new place, a new brightness, a split, a merger, or an exchange between two neighbours.  It costs one pass over the camera
pixels that it changes.  Each frame is a chain of its own; its random words depend on nothing else.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._compile import given, helper, kernel
from .elementary import log
from .philox import NEXT_BLOCK, philox4x32, unit
from .threads import run_blocks

__all__ = ["move_emissions"]

#: Frames per block of work, whatever the number of threads: sums over the frames of a block are added up in one order.
_BLOCK = 16
_KINDS = 7
_BIRTH, _DEATH, _PLACE, _BRIGHTNESS, _SPLIT, _MERGE, _PAIR = range(_KINDS)


@helper
def _draw(proposal, frame, second, step, k0, k1, u):  # type: ignore[no-untyped-def]
    """Draw six uniforms for a proposal, of three counter blocks."""
    for pair in range(3):
        w0, w1, w2, w3 = philox4x32(proposal, frame, second, step, k0, k1)
        u[2 * pair], u[2 * pair + 1] = unit(w0, w1), unit(w2, w3)
        second += NEXT_BLOCK


@helper
def _box_of(place, width, columns, grid):  # type: ignore[no-untyped-def]
    """Return the phase of a fine pixel, its column's first row and column in the frame, and the rows and columns inside."""
    rows, cols, top, left, factor = grid
    i, j = place // width, place % width
    phase = (i % factor) * factor + j % factor
    r, c = i // factor + top, j // factor + left
    return phase, r, c, max(r, 0), min(r + columns.shape[1], rows), max(c, 0), min(c + columns.shape[2], cols)


@helper
def _add(image, amount, place, width, columns, grid):  # type: ignore[no-untyped-def]
    """Add ``amount`` columns of Psi to an image."""
    phase, r, c, r0, r1, c0, c1 = _box_of(place, width, columns, grid)
    column = columns[phase]
    for row in range(r0, r1):
        for col in range(c0, c1):
            image[row, col] += amount * column[row - r, col - c]


@helper
def _won(y, rate, change, amounts, spots, parts, width, columns, grid, floor, sums, box):  # type: ignore[no-untyped-def]
    """Return what the log likelihood of a frame gains if emissions are added.

    ``change`` becomes what they add to the rate, within ``box``.  Summed by columns, so that the loop vectorises.
    """
    box[0], box[1], box[2], box[3] = rate.shape[0], 0, rate.shape[1], 0
    for k in range(parts):
        _, _, _, r0, r1, c0, c1 = _box_of(spots[k], width, columns, grid)
        box[0], box[1], box[2], box[3] = min(box[0], r0), max(box[1], r1), min(box[2], c0), max(box[3], c1)
    for row in range(box[0], box[1]):
        for col in range(box[2], box[3]):
            change[row, col] = 0.0
    for k in range(parts):
        _add(change, amounts[k], spots[k], width, columns, grid)
    n = box[3] - box[2]
    for k in range(n):
        sums[k] = 0.0
    for row in range(box[0], box[1]):
        seen, old, added = y[row, box[2] : box[3]], rate[row, box[2] : box[3]], change[row, box[2] : box[3]]
        for k in range(n):
            sums[k] += seen[k] * log(max(old[k] + added[k], floor) / old[k]) - added[k]
    total = 0.0
    for k in range(n):
        total += sums[k]
    return total


@helper
def _density(w, law):  # type: ignore[no-untyped-def]
    """Return the log density of a brightness: gamma, or 0 where all are equal."""
    mean, shape, _, constant = law
    if math.isinf(shape):
        return 0.0
    return (shape - 1.0) * math.log(w) - shape * w / mean + constant


@helper
def _over_proposed(w, law):  # type: ignore[no-untyped-def]
    """Return the log density of a brightness over that which births are proposed by, log-logistic about the mean."""
    mean, shape, spread, _ = law
    if math.isinf(shape):
        return 0.0
    r = math.exp(max(min((math.log(w) - math.log(mean)) / spread, 300.0), -300.0))
    return _density(w, law) - (math.log(r) - 2.0 * math.log(1.0 + r) - math.log(spread) - math.log(w))


@helper
def _near(places, count, q, width, reach, which):  # type: ignore[no-untyped-def]
    """Return how many other emissions lie within ``reach`` fine pixels of emission q, and the one of the number ``which``."""
    i, j, found, chosen = places[q] // width, places[q] % width, 0, -1
    for k in range(count):
        if k != q and abs(places[k] // width - i) <= reach and abs(places[k] % width - j) <= reach:
            if found == which:
                chosen = k
            found += 1
    return found, chosen


@helper
def _moved(place, down, across, x):  # type: ignore[no-untyped-def]
    """Return the place so many fine pixels away, -1 where nothing emits."""
    i, j = place // x.shape[1] + down, place % x.shape[1] + across
    if i < 0 or i >= x.shape[0] or j < 0 or j >= x.shape[1] or not x[i, j] > 0.0:
        return -1
    return i * x.shape[1] + j


@helper
def _nearest(distance):  # type: ignore[no-untyped-def]
    return math.floor(distance + 0.5)


@helper
def _propose(  # type: ignore[no-untyped-def]
    kind, q, k, near, n, u, x, cumulated, law, reaches, turns, places, weights, amounts, spots
):
    """Return how many emissions a proposal adds (0: it is none) and the log of its odds besides the likelihood.

    What it adds are ``amounts`` at ``spots``: the new state of emission q (its part, where it splits; the whole, where it
    merges with k), its old one taken away, the new one of emission k or of the other part, and the old one of k.
    """
    width, flat, total = x.shape[1], x.ravel(), cumulated[-1]
    reach, side = reaches[3], 2 * reaches[3] + 1
    if kind == _BIRTH:
        spots[0] = min(np.searchsorted(cumulated, u[1] * total), flat.size - 1)
        amounts[0] = law[0]
        if not math.isinf(law[1]):
            amounts[0] *= math.exp(max(min(law[2] * (math.log(u[2]) - math.log(1.0 - u[2])), 300.0), -300.0))
        return 1, _over_proposed(amounts[0], law) + math.log(total / (n + 1))
    old, w = places[q], weights[q]
    if kind == _DEATH:
        spots[0], amounts[0] = old, -w
        return 1, math.log(n / total) - _over_proposed(w, law)
    spots[1], amounts[1] = old, -w
    if kind == _PLACE:
        far = reaches[min(int(3 * u[2]), 2)]
        spots[0] = _moved(old, int(u[3] * (2 * far + 1)) - far, int(u[4] * (2 * far + 1)) - far, x)
        amounts[0] = w
        if spots[0] < 0:
            return 0, 0.0
        return 2, math.log(flat[spots[0]] / flat[old])
    if kind == _BRIGHTNESS:
        turn = turns[min(int(3 * u[2]), 2)] * (2.0 * u[3] - 1.0)
        spots[0], amounts[0] = old, w * math.exp(turn) - w
        return 1, _density(w + amounts[0], law) - _density(w, law) + turn
    if kind == _SPLIT:
        spot, part = min(int(u[2] * side * side), side * side - 1), u[3]
        down, across = spot // side - reach, spot % side - reach
        # both parts about the old place, at distances that keep the centre of the light, to the nearest fine pixel
        spots[2] = _moved(old, -_nearest(part * down), -_nearest(part * across), x)
        if spots[2] < 0:
            return 0, 0.0
        spots[0] = _moved(spots[2], down, across, x)
        if spots[0] < 0:
            return 0, 0.0
        amounts[0] = part * w
        amounts[2] = w - amounts[0]
        places[n], places[q] = spots[0], spots[2]
        near, _ = _near(places, n + 1, n, width, reach, 0)
        places[q] = old
        odds = math.log(flat[spots[0]]) + math.log(flat[spots[2]] / flat[old]) + math.log(w)
        odds += _density(amounts[0], law) + _density(amounts[2], law) - _density(w, law)
        return 3, odds + math.log(float(n) * side * side) - math.log(float(n + 1) * near)
    other, w_other = places[k], weights[k]
    if kind == _MERGE:
        whole = w + w_other
        part = w / whole
        down, across = old // width - other // width, old % width - other % width
        spots[0], amounts[0] = _moved(other, _nearest(part * down), _nearest(part * across), x), whole
        spots[2], amounts[2] = other, -w_other
        if spots[0] < 0:
            return 0, 0.0
        odds = _density(whole, law) - _density(w, law) - _density(w_other, law) - math.log(whole)
        odds -= math.log(flat[old]) + math.log(flat[other] / flat[spots[0]])
        return 3, odds + math.log(float(n) * near) - math.log(float(n - 1) * side * side)
    far = 2 * reaches[1] + 1
    spot = min(int(u[3] * far * far), far * far - 1)
    down, across = spot // far - reaches[1], spot % far - reaches[1]
    spots[0], spots[2], spots[3] = _moved(old, down, across, x), _moved(other, -down, -across, x), other
    amounts[0], amounts[2], amounts[3], odds = w, w_other, -w_other, 0.0
    if spots[0] < 0 or spots[2] < 0:
        return 0, 0.0
    if not math.isinf(law[1]):
        share = abs(w / (w + w_other) + turns[2] * (2.0 * u[4] - 1.0))  # reflected at 0 and at 1
        amounts[0] = (w + w_other) * (2.0 - share if share > 1.0 else share)
        amounts[2] = w + w_other - amounts[0]
        if not amounts[0] > 0.0 or not amounts[2] > 0.0:
            return 0, 0.0
        odds = _density(amounts[0], law) + _density(amounts[2], law) - _density(w, law) - _density(w_other, law)
    new, new_other = spots[0], spots[2]
    if abs(new // width - new_other // width) > reach or abs(new % width - new_other % width) > reach:
        return 0, 0.0
    places[q], places[k] = new, new_other
    near_then, _ = _near(places, n, q, width, reach, 0)
    places[q], places[k] = old, other
    odds += math.log(flat[new] / flat[old]) + math.log(flat[new_other] / flat[other])
    return 4, odds + math.log(near / near_then)


@helper
def _apply(kind, q, k, n, places, weights, amounts, spots):  # type: ignore[no-untyped-def]
    """Change the list as a proposal says; return the number of emissions."""
    if kind in (_BIRTH, _SPLIT):
        places[n], weights[n] = spots[0], amounts[0]
        if kind == _SPLIT:
            places[q], weights[q] = spots[2], amounts[2]
        return n + 1
    if kind in (_DEATH, _MERGE):
        if kind == _MERGE:
            places[k], weights[k] = spots[0], amounts[0]
        places[q], weights[q] = places[n - 1], weights[n - 1]
        return n - 1
    places[q] = spots[0]
    if kind == _BRIGHTNESS:
        weights[q] += amounts[0]
    elif kind == _PAIR:
        weights[q], places[k], weights[k] = amounts[0], spots[2], amounts[2]
    return n


@kernel()
def _move(  # type: ignore[no-untyped-def]
    first, last, block, columns, grid, counts, scale, shift, base, x, cumulated, law, edges, reaches, turns,
    proposals, frames, stage, step, k0, k1, place, bright, count, likelihood, ratio, proposed, accepted,
):  # fmt: skip
    """Move the chains of the frames ``first`` to ``last``."""
    width, floor, fixed = x.shape[1], 0.5 * base.min(), math.isinf(law[1])
    rate, change, y = np.empty_like(base), np.zeros_like(base), np.empty_like(base)
    sums, u, amounts = np.empty(base.shape[1]), np.empty(6), np.empty(4)
    spots, box = np.empty(4, dtype=np.int64), np.empty(4, dtype=np.int64)
    for t in range(first, last):
        places, weights, n = place[t], bright[t], np.int64(count[t])
        for row in range(base.shape[0]):
            for col in range(base.shape[1]):
                rate[row, col] = base[row, col]
                y[row, col] = max(counts[t, row, col] * scale + shift, 0.0)
        for q in range(n):
            _add(rate, weights[q], places[q], width, columns, grid)
        for p in range(proposals[t]):
            _draw(p, frames[t], stage, step, k0, k1, u)
            kind = 0
            while kind < _KINDS - 1 and u[0] >= edges[kind]:
                kind += 1
            if fixed and kind in (_BRIGHTNESS, _SPLIT, _MERGE):
                kind = _PLACE
            proposed[block, kind] += 1
            if (n == 0 and kind != _BIRTH) or (n == places.size and kind in (_BIRTH, _SPLIT)):
                continue
            q, k, near = min(int(u[1] * n), n - 1), -1, 0
            if kind in (_MERGE, _PAIR):
                near, _ = _near(places, n, q, width, reaches[3], 0)
                if near == 0:
                    continue
                _, k = _near(places, n, q, width, reaches[3], min(int(u[2] * near), near - 1))
            parts, odds = _propose(kind, q, k, near, n, u, x, cumulated, law, reaches, turns, places, weights, amounts, spots)
            if parts == 0:
                continue
            won = odds + _won(y, rate, change, amounts, spots, parts, width, columns, grid, floor, sums, box)
            if not math.log(u[5]) < won:
                continue
            n = _apply(kind, q, k, n, places, weights, amounts, spots)
            for row in range(box[0], box[1]):
                for col in range(box[2], box[3]):
                    rate[row, col] = max(rate[row, col] + change[row, col], floor)
            accepted[block, kind] += 1
        count[t] = n
        for row in range(base.shape[0]):
            for col in range(base.shape[1]):
                likelihood[t] += y[row, col] * math.log(rate[row, col]) - rate[row, col]
                ratio[block, row, col] += y[row, col] / rate[row, col]


def move_emissions(
    columns: np.ndarray,
    grid: tuple[int, int, int, int, int],
    counts: Any,
    scale: float,
    shift: float,
    base: Any,
    x: Any,
    law: tuple[float, float, float, float],
    edges: tuple[float, ...],
    reaches: tuple[int, int, int, int],
    turns: tuple[float, float, float],
    proposals: Any,
    frames: Any,
    k0: int,
    k1: int,
    stage: int,
    step: int,
    place: np.ndarray,
    bright: np.ndarray,
    count: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Move the emissions of every frame by so many proposals.

    Parameters
    ----------
    columns : (L * L, K1, K2) float64
        Light of one emission by the phase of its fine pixel, photons.
    grid : (M1, M2, row, column, L)
        Camera pixels, the offset of ``columns[:, 0, 0]`` from the emission's own pixel, and the factor.
    counts : (T, M1, M2) float32
        Frames; ``max(counts * scale + shift, 0)`` is taken for a Poisson count of the rate.
    base : (M1, M2) float64, above 0
        Rate without emissions.
    x : (N1, N2) float64, finite, not negative, not all 0
        Expected emissions per fine pixel.
    law : (mean, shape, spread, constant) float
        Of the brightness: gamma, or always the mean where the shape is infinite; the scale of the log-logistic law that births
        are proposed by; what makes the log density of the gamma law complete.
    edges : (7,) float
        Distribution function of the kinds of a proposal: birth, death, place, brightness, split, merger, pair.
    reaches : (4,) int
        Farthest new place by one of three scales, and of a split or a neighbour, fine pixels.
    turns : (3,) float
        Largest change of the logarithm of a brightness by one of three scales; the last is that of a pair's share as well.
    proposals : (T,) int
    frames : (T,) int
        Numbers of the frames, counters of the random words.
    k0, k1, stage, step : int
        The other counters.
    place : (T, C) int32, bright : (T, C) float64, count : (T,) int32, C-contiguous
        The chains: fine pixels, brightness, number of emissions; moved in place.

    Returns
    -------
    likelihood : (T,) float64
        Log likelihood of every frame in the end, without what depends on the frame alone.
    ratio : (M1, M2) float64
        Sum over the frames of the count over its rate.
    proposed, accepted : (7,) int64
        Proposals by their kind.
    """
    counts, base, x = given(counts, np.float32), given(base, np.float64), given(x, np.float64)
    frames, proposals = given(frames, np.uint64), given(proposals, np.int64)
    total = len(frames)
    blocks = (total + _BLOCK - 1) // _BLOCK
    likelihood, ratio = np.zeros(total), np.zeros((blocks, *base.shape))
    proposed, accepted = np.zeros((blocks, _KINDS), dtype=np.int64), np.zeros((blocks, _KINDS), dtype=np.int64)
    words = tuple(np.uint64(w) for w in (stage, step, k0, k1))
    before = (
        given(columns, np.float64), tuple(int(v) for v in grid), counts, float(scale), float(shift), base, x,
        given(np.cumsum(x.ravel())), tuple(float(v) for v in law), given(edges, np.float64), given(reaches, np.int64),
        given(turns, np.float64), proposals, frames, *words, place, bright, count, likelihood, ratio, proposed, accepted,
    )  # fmt: skip

    def work(block: int, _: None) -> None:
        _move(block * _BLOCK, min((block + 1) * _BLOCK, total), block, *before)

    run_blocks(work, blocks, lambda: None)
    return likelihood, ratio.sum(axis=0), proposed.sum(axis=0), accepted.sum(axis=0)
