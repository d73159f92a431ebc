"""Philox4x32-10 (Salmon et al. 2011): the words, uniforms and normals of ``backend.random``, one counter at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._compile import given, inlined, kernel
from .elementary import cos_turns, log

__all__ = ["NEXT_BLOCK", "box_muller", "philox4x32", "philox_words", "unit"]

#: What a further block of one draw adds to the third counter word, which holds ``stage + 256 * block``.
NEXT_BLOCK = np.uint64(256)

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_ONE = np.uint64(0x3FF0000000000000)  # the bits of 1.0
_HIGH, _LOW = np.uint64(20), np.uint64(12)


@inlined
def philox4x32(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Return four words (uint64 below 2**32) of a counter of four 32-bit words under a key of two.

    Words are kept in 64 bits so that a product is one multiplication and four counters fill an AVX2 register.
    """
    x0, x1 = np.uint64(c0) & _MASK, np.uint64(c1) & _MASK
    x2, x3 = np.uint64(c2) & _MASK, np.uint64(c3) & _MASK
    y0, y1 = np.uint64(k0) & _MASK, np.uint64(k1) & _MASK
    for _ in range(10):
        low0, low1 = _M0 * x0, _M1 * x2
        x0, x1, x2, x3 = (low1 >> _SHIFT) ^ x1 ^ y0, low1 & _MASK, (low0 >> _SHIFT) ^ x3 ^ y1, low0 & _MASK
        y0, y1 = (y0 + _W0) & _MASK, (y1 + _W1) & _MASK
    return x0, x1, x2, x3


@inlined
def unit(high, low):  # type: ignore[no-untyped-def]
    """Return (m + 1/2) / 2**52 for the 52 high bits m of two words: inside (0, 1), and exact in float64.

    The bits go into the mantissa of a number in [1, 2); converting an integer would not vectorise without AVX-512.
    """
    return np.uint64((high << _HIGH) | (low >> _LOW) | _ONE).view(np.float64) - (1.0 - 2.0**-53)


@inlined
def box_muller(u, v):  # type: ignore[no-untyped-def]
    """Return the standard normal of two uniforms (the cosine branch)."""
    return math.sqrt(-2.0 * log(u)) * cos_turns(v)


@kernel()
def _words(counters, k0, k1, out):  # type: ignore[no-untyped-def]
    for i in range(counters.shape[0]):
        w0, w1, w2, w3 = philox4x32(counters[i, 0], counters[i, 1], counters[i, 2], counters[i, 3], k0, k1)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = w0, w1, w2, w3


def philox_words(counters: Any, k0: int, k1: int) -> np.ndarray:
    """Return the words of many counters.

    Parameters
    ----------
    counters : (n, 4) uint32
    k0, k1 : int
        Key words, see ``fluogan_core.backend.random.seed_words``.

    Returns
    -------
    words : (n, 4) uint32
    """
    counters = given(counters, np.uint32)
    out = np.empty(counters.shape, dtype=np.uint32)
    _words(counters, np.uint64(k0), np.uint64(k1), out)
    return out
