"""What arguments at random are drawn from: a sound value first, then what users, files and overflows hand over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Pool", "images", "numbers", "stacks"]

Pool = Sequence[Any]


def numbers(good: float | int) -> Pool:
    odd: list[Any] = [0, -1, 1, 2, 0.5, 1e-30, 1e-6, 1e6, 1e30, 1e300, math.nan, math.inf, -math.inf, True, None, "3", 2**70]
    return [good, *odd, np.float32(3), np.int8(5), np.array(2.0), 1 + 2j, [], (1, 2)]


def stacks() -> Pool:
    rng = np.random.default_rng(0)
    blinking = (rng.random((12, 12)) < 0.2) & (rng.random((24, 12, 12)) < 0.5)
    good = rng.poisson(30 + 80 * blinking) + 100
    spoiled = [good.astype(float) for _ in range(3)]
    spoiled[0][3, 4, 5], spoiled[1][3, 4, 5], spoiled[2][:, 4, 5] = math.nan, math.inf, 1e30
    flashes = good.copy()
    flashes[::2] = 0
    hot = good.copy()
    hot[:, 5, 5] = 60_000
    odd: list[Any] = [
        good.astype(np.uint8),
        good.astype(np.float32),
        np.asfortranarray(good),
        good[:, ::-1],
        good[::-1, :, ::2],
        good[0],
        good[:1],
        good[:2],
        good[:0],
        good[:, :1, :1],
        good[None],
        *spoiled,
        0 * good,
        0 * good + 7,
        -good,
        good * 1e30,
        good * 1e300,
        good * 1e-30,
        good + 100_000,
        good + 10**9,
        good + np.uint64(2**63),
        np.minimum(good, 130).astype(np.uint8),
        good[:5],
        good > 120,
        good.astype(complex),
        good.astype(object),
        good.astype(str),
        good.tolist(),
        "stack",
        None,
        3.0,
        np.ma.masked_greater(good, 150),
        np.ma.masked_array(good),
        flashes,
        hot,
        hot * (hot == 60_000),
        np.zeros((24, 12, 12), np.float16) + 60000,
    ]
    return [good, *odd]


def images(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 1) -> Pool:
    rng = np.random.default_rng(seed)
    good = rng.gamma(1.0, 5.0, shape).astype(dtype)
    huge = (good / good.max()).astype(dtype) * dtype(1e37)
    spoiled = [good.copy() for _ in range(2)]
    spoiled[0].flat[5], spoiled[1].flat[5] = math.nan, math.inf
    odd: list[Any] = [
        good.astype(float),
        good.astype(int),
        good.T.copy().T,
        good[1:],
        good[..., None],
        good[:0],
        *spoiled,
        0 * good,
        -good,
        good * 1e-30,
        huge,
        good.astype(complex),
        good.tolist(),
        None,
        "image",
        2.0,
        np.ma.masked_greater(good, 6),
    ]
    return [good, *odd]
