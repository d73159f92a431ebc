"""Poisson counts by the rules of ``fluogan_core.backend.random.poisson``, one at a time and in blocks that vectorise.

A mean below 32 is inverted, one up to 2**24 goes through Hoermann's transformed rejection (PTRS, 1993), one above is a rounded
normal.  The block routines take up to :data:`BLOCK` counters, so that Philox and each rule's arithmetic run on vector
registers; draws that need more work are gathered first, and only a rejected candidate is drawn again one by one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._compile import given, helper, inlined, kernel
from .elementary import exp, log
from .philox import NEXT_BLOCK, box_muller, philox4x32, unit
from .threads import run_blocks

__all__ = [
    "BLOCK",
    "block_counts",
    "fill_first",
    "fill_uniforms",
    "invert_block",
    "large_block",
    "next_term",
    "poisson",
    "poisson_scalar",
    "share",
]

#: Counters drawn together: their working set stays in the first-level cache.
BLOCK = 256

# The definition's constants, restated; tests/kernels/test_kernel_sampling.py holds them to fluogan_core.backend.random.
POISSON_INVERSION_BELOW = 32.0
POISSON_NORMAL_ABOVE = 2.0**24
HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
LOG_FACTORIALS = np.array([math.log(math.factorial(k)) for k in range(10)])

# Draws for which a thread is worth starting, and blocks of work per call: more than threads, so that none waits long.
_WORTH_A_BLOCK = 16384
_BLOCKS = 16


@helper
def fill_uniforms(pixel, frame, second, step, k0, k1, u, v):  # type: ignore[no-untyped-def]
    """Write the two uniforms of each counter (pixel, frame, second, step)."""
    for i in range(pixel.size):
        w0, w1, w2, w3 = philox4x32(pixel[i], frame[i], second, step, k0, k1)
        u[i] = unit(w0, w1)
        v[i] = unit(w2, w3)


@helper
def fill_first(pixel, frame, second, step, k0, k1, u):  # type: ignore[no-untyped-def]
    """Write the first uniform of each counter alone."""
    for i in range(pixel.size):
        w0, w1, _, _ = philox4x32(pixel[i], frame[i], second, step, k0, k1)
        u[i] = unit(w0, w1)


@inlined
def next_term(level, total, term, ratio):  # type: ignore[no-untyped-def]
    """Add a term to a distribution function; the last value says whether the level is still above it.

    Where rounding stops the sum short of 1, the tail that is left (below 1e-14) goes to the last k that moved it.
    """
    term = term * ratio
    grown = total + term
    return grown, term, (level > grown) & (grown > total)


@inlined
def _candidate(mean, u, v):  # type: ignore[no-untyped-def]
    """Return PTRS's candidate for two uniforms and whether its quick test takes it."""
    us = 0.5 - abs(u - 0.5)
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    k = np.floor((2.0 * a / us + b) * (u - 0.5) + mean + 0.43)
    return k, (us >= 0.07) & (v <= 0.9277 - 3.6224 / (b - 2.0))


@inlined
def _full_test(mean, k, u, v):  # type: ignore[no-untyped-def]
    """Return the sides of PTRS's full test, which takes a candidate where the first is at most the second.

    The second is right from k = 10 on; below, log(k!) has to come from the table (:func:`_takes`).
    """
    us = 0.5 - abs(u - 0.5)
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    hopeless = (k < 0.0) | ((us < 0.013) & (v > us))
    left = log(v * (1.1239 + 1.1328 / (b - 3.4)) / (a / (us * us) + b))
    z = max(k, 10.0)
    r = 1.0 / z
    r2 = r * r
    tail = r * (1 / 12 - r2 * (1 / 360 - r2 * (1 / 1260 - r2 / 1680)))
    log_factorial = (z + 0.5) * log(z) - z + HALF_LOG_TWO_PI + tail
    return (math.inf if hopeless else left), k * log(mean) - mean - log_factorial


@inlined
def _takes(mean, k, left, right):  # type: ignore[no-untyped-def]
    """Decide PTRS's full test."""
    if 0.0 <= k < 10.0:
        right = k * log(mean) - mean - LOG_FACTORIALS[int(k)]
    return left <= right


@helper
def _transform(mean, pixel, frame, second, step, k0, k1):  # type: ignore[no-untyped-def]
    """PTRS from the counter block that ``second`` names on, until a candidate is taken."""
    while True:
        w0, w1, w2, w3 = philox4x32(pixel, frame, second, step, k0, k1)
        u, v = unit(w0, w1), unit(w2, w3)
        k, quick = _candidate(mean, u, v)
        if quick:
            return k
        left, right = _full_test(mean, k, u, v)
        if _takes(mean, k, left, right):
            return k
        second += NEXT_BLOCK


@inlined
def _rounded_normal(mean, u, v):  # type: ignore[no-untyped-def]
    return np.floor(mean + math.sqrt(mean) * box_muller(u, v) + 0.5)


@helper
def poisson_scalar(mean, pixel, frame, stage, step, k0, k1):  # type: ignore[no-untyped-def]
    """Return one Poisson count (float64) of a float64 mean, from the counter (pixel, frame, stage, step)."""
    if mean <= 0.0:
        return 0.0
    second = np.uint64(stage)
    if POISSON_INVERSION_BELOW <= mean <= POISSON_NORMAL_ABOVE:
        return _transform(mean, pixel, frame, second, step, k0, k1)
    w0, w1, w2, w3 = philox4x32(pixel, frame, second, step, k0, k1)
    u = unit(w0, w1)
    if mean > POISSON_NORMAL_ABOVE:
        return _rounded_normal(mean, u, unit(w2, w3))
    term = exp(-mean)
    total, k, more = term, 0.0, u > term
    while more:
        k += 1.0
        total, term, more = next_term(u, total, term, mean * (1.0 / k))
    return k


@helper
def invert_block(mean, zero, u, where, found):  # type: ignore[no-untyped-def]
    """Invert the distribution functions of means below 32 at u; ``zero`` holds exp(-mean).

    Returns how many counts are not 0; ``where`` receives their places and ``found`` the counts.  Two terms at a time are added
    to all sums that go on: the same sums, in the same order, as in the search for one draw.
    """
    active = 0
    for i in range(mean.size):
        where[active] = i
        active += u[i] > zero[i]
    work = np.empty((4, active))
    rate, level, term, total = work[0], work[1], work[2], work[3]
    for j in range(active):
        i = where[j]
        rate[j], level[j], term[j], total[j], found[j] = mean[i], u[i], zero[i], zero[i], 1.0
    k = 1.0
    more = active > 0
    while more:
        first, second = 1.0 / k, 1.0 / (k + 1.0)
        more = False
        for j in range(active):
            grown, added, one = next_term(level[j], total[j], term[j], rate[j] * first)
            total[j], term[j], two = next_term(level[j], grown, added, rate[j] * second)
            found[j] += (1.0 if one else 0.0) + (1.0 if two else 0.0)
            more |= two
        k += 2.0
    return active


@helper
def large_block(mean, u, v, pixel, frame, stage, step, k0, k1, count):  # type: ignore[no-untyped-def]
    """Draw means from 32 on, given the uniforms of their first counter block.

    All candidates first, then the full test of those that the quick one leaves, then further blocks for the few that fail.
    """
    n = mean.size
    first = np.empty(n)
    for i in range(n):
        first[i], quick = _candidate(mean[i], u[i], v[i])
        # counts are not negative: the sign marks, without a branch, what is still open
        count[i] = first[i] if quick & (mean[i] <= POISSON_NORMAL_ABOVE) else -1.0
    left = np.empty(n, dtype=np.int64)
    lefts = 0
    for i in range(n):
        left[lefts] = i
        lefts += count[i] < 0.0
    work = np.empty((6, lefts))
    mean_, k_, u_, v_, low, high = work[0], work[1], work[2], work[3], work[4], work[5]
    for j in range(lefts):
        i = left[j]
        mean_[j], k_[j], u_[j], v_[j] = mean[i], first[i], u[i], v[i]
    for j in range(lefts):
        low[j], high[j] = _full_test(mean_[j], k_[j], u_[j], v_[j])
    for j in range(lefts):
        i = left[j]
        if mean[i] > POISSON_NORMAL_ABOVE:
            count[i] = _rounded_normal(mean[i], u[i], v[i])
        elif _takes(mean[i], k_[j], low[j], high[j]):
            count[i] = k_[j]
        else:
            count[i] = _transform(mean[i], pixel[i], frame[i], stage + NEXT_BLOCK, step, k0, k1)


@helper
def block_counts(mean, pixel, frame, stage, step, k0, k1, count):  # type: ignore[no-untyped-def]
    """Write Poisson counts (float64) of up to BLOCK means of any size."""
    n = mean.size
    work = np.empty((7, n))
    u, v, mean_, u_, v_, zero, found = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    which = np.empty((3, n), dtype=np.int64)
    small, large, where = which[0], which[1], which[2]
    fill_uniforms(pixel, frame, stage, step, k0, k1, u, v)
    smalls = larges = 0
    for i in range(n):
        small[smalls] = i
        smalls += (mean[i] > 0.0) & (mean[i] < POISSON_INVERSION_BELOW)
        large[larges] = i
        larges += mean[i] >= POISSON_INVERSION_BELOW
        count[i] = 0.0
    for j in range(smalls):
        mean_[j], u_[j] = mean[small[j]], u[small[j]]
    for j in range(smalls):
        zero[j] = exp(-mean_[j])
    for j in range(invert_block(mean_[:smalls], zero[:smalls], u_[:smalls], where, found)):
        count[small[where[j]]] = found[j]
    counters = np.empty((2, larges), dtype=np.uint64)
    for j in range(larges):
        i = large[j]
        mean_[j], u_[j], v_[j], counters[0, j], counters[1, j] = mean[i], u[i], v[i], pixel[i], frame[i]
    large_block(mean_[:larges], u_, v_, counters[0], counters[1], stage, step, k0, k1, found)
    for j in range(larges):
        count[large[j]] = found[j]


@kernel()
def _poisson(first, last, mean, frame, pixel, stage, step, k0, k1, out):  # type: ignore[no-untyped-def]
    count = np.empty(BLOCK)
    for block in range(first, last):
        start, stop = block * BLOCK, min((block + 1) * BLOCK, mean.size)
        block_counts(mean[start:stop], pixel[start:stop], frame[start:stop], stage, step, k0, k1, count)
        for i in range(start, stop):
            out[i] = count[i - start]


def share(compiled: Any, tasks: int, draws: int, arguments: tuple[Any, ...]) -> None:
    """Run ``compiled(first, last, *arguments)`` over all tasks, on as many threads as the number of draws is worth."""
    blocks = max(1, min(_BLOCKS, tasks, draws // _WORTH_A_BLOCK))
    edges = [tasks * block // blocks for block in range(blocks + 1)]
    run_blocks(lambda block, _: compiled(edges[block], edges[block + 1], *arguments), blocks, lambda: None)


def poisson(mean: Any, k0: int, k1: int, stage: int, step: int, frame: Any, pixel: Any) -> np.ndarray:
    """Return Poisson counts of means of any shape, as ``fluogan_core.backend.random.poisson`` does.

    Parameters
    ----------
    mean : (...) float
        Finite, not negative.
    k0, k1 : int
        Key words, see ``fluogan_core.backend.random.seed_words``.
    stage, step : int
        Counters that all draws share.
    frame, pixel : integer arrays
        Counters; they broadcast to the shape of ``mean``.

    Returns
    -------
    counts : (...) float32
    """
    mean = given(mean, np.float64)
    frame, pixel = (given(np.broadcast_to(c, mean.shape), np.uint64) for c in (frame, pixel))
    out = np.empty(mean.shape, dtype=np.float32)
    words = (np.uint64(w) for w in (stage, step, k0, k1))
    arguments = (mean.ravel(), frame.ravel(), pixel.ravel(), *words, out.ravel())
    share(_poisson, (mean.size + BLOCK - 1) // BLOCK, mean.size, arguments)
    return out
