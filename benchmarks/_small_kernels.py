"""Every CUDA kernel in every build, on small odd shapes: what a memory or race checker is given to watch."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from fluogan_core.kernels import cuda

__all__ = ["run"]


def run(device: Any, dtypes: Sequence[Any] = (np.float32, np.float64)) -> None:
    """Launch every kernel on a ``fluogan_core.kernels.cuda.device.Device``, with images of each of these dtypes."""
    xp, rng, key = device.xp, np.random.default_rng(0), (3, 4)
    frames, numbers = 5, np.arange(5)
    image = np.exp(rng.uniform(-4, 4, (37, 41))) * (rng.random((37, 41)) < 0.5)
    for dtype in dtypes:
        x = xp.asarray(image, dtype=dtype)
        z, y = (xp.empty((frames, *x.shape), dtype=np.float32) for _ in range(2))
        cuda.find("emissions", device)(x, numbers, *key, 0, 1, z)
        cuda.find("detect", device)(z, x, 1e-6, numbers, *key, 1, 2, 1, 2.0, 1.0, y)
        cuda.find("prox_step", device)(x, x, 0.1, 0.2, xp.empty_like(x))
        cuda.find("prox_total_variation", device)(x, 0.3, xp.zeros((4, *x.shape), dtype=dtype), 3, xp.empty_like(x))
    _covariance_fit(device, rng)
    # with no shared memory to ask for, every warp works in device memory
    roomless = dataclasses.replace(device, shared_memory_per_block=0)
    for on in (device, roomless):
        _chains(on, rng, numbers)
    cumulative = np.cumsum(rng.random((4, 9)), axis=1)
    table = (np.full(4, 2.5), cumulative / cumulative[:, -1:], *(a.ravel().astype(np.int32) for a in np.mgrid[-1:2, -1:2]))
    emitters, few = np.arange(0, 18 * 20, 5), numbers[:2]
    starts, pixels = cuda.find("draw_photons", device)(
        *(xp.asarray(a) for a in table), (9, 10), 2, emitters, few, *key, 3, 4, 0
    )
    sets = xp.repeat(xp.asarray(few), len(emitters)), starts, pixels
    for on, channels, kernel_size, pool in (
        (device, (1, 3, 5, 4), 3, 2),
        (roomless, (1, 3, 5, 4), 3, 2),
        (device, (1, 3, 5), 3, 3),
        (device, (1, 3, 5), 5, 3),
    ):
        _critic(on, rng, (9, 10), channels, kernel_size, pool, *sets)


def _covariance_fit(device: Any, rng: np.random.Generator) -> None:
    """What an iteration of the covariance fit launches."""
    xp, shape, few = device.xp, (37, 41), (9, 13)
    z, slope, step, last = (xp.asarray(rng.random(shape), dtype=np.float32) for _ in range(4))
    b, more = (xp.asarray(rng.random(few), dtype=np.float32) for _ in range(2))
    firsts, taps = xp.asarray(np.arange(37) - 2), xp.asarray(rng.random((37, 5)), dtype=np.float32)
    cuda.find("banded", device)(firsts, taps, z)
    values = xp.asarray(rng.random((9, 3, 4, 13)), dtype=np.float32)
    rows, columns = xp.asarray(np.arange(9) * 4 - 1), xp.asarray(np.arange(13) * 3)
    cuda.find("stencil", device)(values, rows, columns, z)
    cuda.find("stencil_adjoint", device)(values, rows, columns, b, shape)
    for price in (0.1, last):
        cuda.find("descend", device)(z, slope, step, price, 0.3)
    cuda.find("mean_slope", device)(b, b, more, b, more, b)
    cuda.find("extrapolate", device)(z, last, 0.5)
    cosines = (rng.random((9, 9)), rng.random((13, 13)), rng.random((13, 13)))
    for polynomials in (0, 2):
        filters = (rng.random((2, *few)), *(rng.random((2, polynomials, *few)) for _ in range(2)))
        given = (tuple(xp.asarray(array, dtype=np.float32) for array in arrays) for arrays in (cosines, filters))
        cuda.find("bounded_background", device)(b - more, b, 3, 1.8, *given)


def _chains(device: Any, rng: np.random.Generator, numbers: np.ndarray) -> None:
    """Chains that begin with more emissions than a warp has lanes, and come to have as many as there is room for."""
    xp, frames, room = device.xp, len(numbers), 41
    columns, base = xp.asarray(rng.random((4, 5, 5))), xp.asarray(1.0 + rng.random((7, 6)))
    counts, x = xp.asarray(rng.poisson(40.0, (frames, 7, 6)), dtype=np.float32), xp.asarray(rng.gamma(0.3, 2.0, (14, 12)))
    kinds = (0.12, 0.24, 0.64, 0.76, 0.83, 0.9, 1.0)
    for law in ((1.0, np.inf, 1.0, 0.0), (0.9, 3.0, 0.35, 2.9)):
        place = xp.asarray(rng.integers(0, 14 * 12, (frames, room)), dtype=np.int32)
        bright = xp.asarray(np.full((frames, room), 0.9))
        count = xp.asarray(np.full(frames, room - 4), dtype=np.int32)
        proposals = xp.asarray(40 + np.arange(frames), dtype=np.int64)
        shifts = ((1, 1, 3, 2), (0.05, 0.2, 0.8))
        cuda.find("move_emissions", device)(
            columns, (7, 6, -2, -2, 2), counts, 1.0, 0.5, base, x, law, kinds, *shifts, proposals, numbers, 3, 4, 7, 0,
            place, bright, count,
        )  # fmt: skip
        cuda.find("emission_sums", device)(place, bright, count, (14, 12))


def _critic(
    device: Any, rng: np.random.Generator, shape: tuple[int, int], channels: tuple[int, ...], k: int, pool: int, *sets: Any
) -> None:
    """A critic on every pixel of some frames, and on these sets of photons."""
    xp, cell = device.xp, pool ** (len(channels) - 1)
    pairs = list(itertools.pairwise(channels))
    network = cuda.find("make_network", device)(
        [xp.asarray(rng.normal(size=(after, before, k, k)), dtype=np.float32) for before, after in pairs],
        [xp.asarray(rng.normal(size=after), dtype=np.float32) for _, after in pairs],
        head=xp.asarray(rng.normal(size=channels[-1] * (shape[0] // cell) * (shape[1] // cell)), dtype=np.float32),
        head_bias=0.5,
        kernel_size=k,
        pool=pool,
        slope=0.2,
        mean=xp.zeros(shape, dtype=np.float32),
        std=xp.ones(shape, dtype=np.float32),
    )
    y = xp.asarray(rng.poisson(3.0, (int(sets[0].max()) + 1, *shape)), dtype=np.float32)
    for pruned in (True, False):
        cuda.find("critic_differences", device)(network, y, 1.0, pruned=pruned)
        cuda.find("perturbation_differences", device)(network, y, *sets, 1.0, pruned=pruned)


if __name__ == "__main__":
    from fluogan_core import get_backend

    backend = get_backend("cupy")
    # a pool rounds sizes up and hands memory out again: an access past the end would stay within what is allocated
    backend.xp.cuda.set_allocator(None)
    run(backend.cuda)
    backend.synchronize()
    print("every kernel ran", file=sys.stderr)
