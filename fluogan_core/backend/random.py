"""Counter-based randomness: (seed, stage, step, frame, pixel) gives the same words on every backend.

Every draw of the library is a function of a 64-bit seed and four 32-bit counters of Philox4x32-10 (Salmon et al. 2011):
``(pixel, frame, stage + 256 * block, step)``.  So frames 0-99 and 100-199 drawn apart equal frames 0-199 drawn together,
and neither threads, chunks nor devices change a result.  ``block`` counts the further blocks one draw may need (a rejected
candidate, the next photon).

These array functions are the definition; fused kernels are held to them.
"""

from __future__ import annotations

import enum
import math
from types import ModuleType
from typing import TypeAlias

import numpy as np

from .checks import whole_number
from .typing import Array

__all__ = ["Stage", "check_counters", "log_factorial", "normal", "philox", "poisson", "seed_words", "uniform"]

#: Counters of draws, alone or in arrays that broadcast against each other.
Counters: TypeAlias = "Array | int | np.integer"

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85

#: Below this mean the draw is by inversion, above it by transformed rejection.
POISSON_INVERSION_BELOW = 32.0
#: Above this mean a float32 count cannot hold every integer: the draw is a rounded normal (skewness below 2.5e-4).
POISSON_NORMAL_ABOVE = 2.0**24


HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
LOG_FACTORIALS = tuple(math.log(math.factorial(k)) for k in range(10))


class Stage(enum.IntEnum):
    """What a draw is for; part of its counter, so that no two purposes share words."""

    EMISSION = 0
    DETECTION = 1
    READ_NOISE = 2
    COUPLED_COUNT = 3
    COUPLED_PLACE = 4
    DIRECT_EMISSION = 5
    DIRECT_DETECTION = 6
    DIRECT_READ_NOISE = 7
    BATCH = 8
    BACKGROUND = 10
    CHAINS = 11


def seed_words(seed: int) -> tuple[int, int]:
    """Split a seed into the two 32-bit key words.

    Raises
    ------
    ValueError
        If the seed is not a whole number of at most 64 bits.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= int(seed) < 2**64:
        raise ValueError(f"seed must be a whole number from 0 to 2**64 - 1, got {seed!r}")
    return int(seed) & 0xFFFFFFFF, int(seed) >> 32


def check_counters(first_frame: int, frames: int, step: int) -> None:
    """Raise unless frames and step fit their 32-bit counters: past those the same words would come again.

    Raises
    ------
    TypeError, ValueError
        If one is not a whole number, negative or too large.
    """
    whole_number(step, "step", low=0, high=2**32 - 1)
    whole_number(first_frame, "first_frame", low=0, high=2**32 - frames)


def philox(
    c0: Counters, c1: Counters, c2: Counters, c3: Counters, key: tuple[int, int], *, xp: ModuleType = np
) -> tuple[Array, Array, Array, Array]:
    """Return the four words of Philox4x32-10 at counters that broadcast together, as uint64 arrays below 2**32."""
    x0, x1, x2, x3 = (xp.asarray(c).astype(np.uint64) & _MASK for c in (c0, c1, c2, c3))
    k0, k1 = key
    for _ in range(10):
        low0, low1 = _M0 * x0, _M1 * x2
        x0 = (low1 >> _SHIFT) ^ x1 ^ np.uint64(k0)
        x1 = low1 & _MASK
        x2 = (low0 >> _SHIFT) ^ x3 ^ np.uint64(k1)
        x3 = low0 & _MASK
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return x0, x1, x2, x3


def _unit(high: Array, low: Array) -> Array:
    """Return (m + 1/2) / 2**52 for the 52 high bits m of two words: exact in float64, hence never 0 and never 1."""
    mantissa = (high << np.uint64(20)) | (low >> np.uint64(12))
    return (mantissa.astype(np.float64) + 0.5) * 2.0**-52


def uniform(
    seed: int, stage: int, step: int, frame: Counters, pixel: Counters, *, block: Counters = 0, xp: ModuleType = np
) -> tuple[Array, Array]:
    """Return two independent float64 uniforms in (0, 1) per counter."""
    second = int(stage) + 256 * xp.asarray(block)  # CuPy takes plain numbers only
    w0, w1, w2, w3 = philox(pixel, frame, second, step, seed_words(seed), xp=xp)
    return _unit(w0, w1), _unit(w2, w3)


def normal(seed: int, stage: int, step: int, frame: Counters, pixel: Counters, *, xp: ModuleType = np) -> Array:
    """Return one standard normal per counter (Box-Muller, the cosine branch), float64."""
    u, v = uniform(seed, stage, step, frame, pixel, xp=xp)
    return xp.sqrt(-2.0 * xp.log(u)) * xp.cos(2.0 * np.pi * v)


def poisson(mean: Array, seed: int, stage: int, step: int, frame: Counters, pixel: Counters, *, xp: ModuleType = np) -> Array:
    """Return Poisson counts, float32.

    Inversion below a mean of 32, Hoermann's transformed rejection PTRS (1993) up to 2**24, a rounded normal above.  A
    rejected candidate takes the next counter block of the same pixel.

    Parameters
    ----------
    mean : array, float
        Means, finite and not negative; a mean of 0 gives 0.
    frame, pixel : integer arrays
        Counters that broadcast against ``mean``.
    """
    mean = xp.asarray(mean, dtype=np.float64)
    frame = xp.broadcast_to(xp.asarray(frame), mean.shape).ravel()
    pixel = xp.broadcast_to(xp.asarray(pixel), mean.shape).ravel()
    flat = mean.ravel()
    counts = xp.zeros(flat.shape, dtype=np.float32)
    small = xp.nonzero((flat > 0) & (flat < POISSON_INVERSION_BELOW))[0]
    large = xp.nonzero((flat >= POISSON_INVERSION_BELOW) & (flat <= POISSON_NORMAL_ABOVE))[0]
    huge = xp.nonzero(flat > POISSON_NORMAL_ABOVE)[0]
    if small.size:
        u, _ = uniform(seed, stage, step, frame[small], pixel[small], xp=xp)
        counts[small] = _inverted(flat[small], u, xp)
    if large.size:
        counts[large] = _transformed(flat[large], seed, stage, step, frame[large], pixel[large], xp)
    if huge.size:
        z = normal(seed, stage, step, frame[huge], pixel[huge], xp=xp)
        counts[huge] = xp.floor(flat[huge] + xp.sqrt(flat[huge]) * z + 0.5)
    return counts.reshape(mean.shape)


def log_factorial(k: Array, *, xp: ModuleType = np) -> Array:
    """Return log(k!) for whole k >= 0 to 1e-12: a table below 10, Stirling's series above; the same on every backend."""
    z = xp.maximum(k, 10.0)
    r = 1.0 / z
    r2 = r * r
    tail = r * (1 / 12 - r2 * (1 / 360 - r2 * (1 / 1260 - r2 / 1680)))
    series = (z + 0.5) * xp.log(z) - z + HALF_LOG_TWO_PI + tail
    table = xp.asarray(LOG_FACTORIALS)
    return xp.where(k < 10.0, table[xp.minimum(k, 9.0).astype(np.int64)], series)


def _inverted(mean: Array, u: Array, xp: ModuleType) -> Array:
    """Sequential search in the distribution function; means below 32 end well before 128 terms.

    Where rounding stops the sum short of 1, the tail that is left (below 1e-14) goes to the last k that moved it.
    """
    term = xp.exp(-mean)
    total = term
    k = (u > total).astype(np.float64)
    for step in range(1, 128):
        term = term * (mean * (1.0 / step))
        grown = total + term
        go = (u > grown) & (grown > total)
        if not bool(go.any()):
            break
        k += go
        total = grown
    return k


def _transformed(mean: Array, seed: int, stage: int, step: int, frame: Array, pixel: Array, xp: ModuleType) -> Array:
    """Hoermann's PTRS; candidates that fail take the next block."""
    root = xp.sqrt(mean)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    v_r = 0.9277 - 3.6224 / (b - 2.0)
    log_mean = xp.log(mean)
    counts = xp.zeros(mean.shape)
    open_ = xp.arange(mean.size)
    block = 0
    while open_.size:
        u, v = uniform(seed, stage, step, frame[open_], pixel[open_], block=block, xp=xp)
        u = u - 0.5
        us = 0.5 - xp.abs(u)
        a_, b_, m_ = a[open_], b[open_], mean[open_]
        k = xp.floor((2.0 * a_ / us + b_) * u + m_ + 0.43)
        quick = (us >= 0.07) & (v <= v_r[open_])
        hopeless = (k < 0) | ((us < 0.013) & (v > us))
        safe_k = xp.maximum(k, 0.0)
        left = xp.log(v * inverse_alpha[open_] / (a_ / (us * us) + b_))
        right = safe_k * log_mean[open_] - m_ - log_factorial(safe_k, xp=xp)
        taken = quick | (~hopeless & (left <= right))
        counts[open_[taken]] = k[taken]
        open_ = open_[~taken]
        block += 1
    return counts
