"""The sets of kernels that one conformance test runs over: Numba's, and the CUDA ones on the CPU and on a card."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import cuda_on_cpu
import numpy as np
import pytest

from fluogan_core import Backend, get_backend
from fluogan_core.backend import random
from fluogan_core.backend.arrays import why_no_gpu
from fluogan_core.kernels import cpu, cuda

__all__ = ["COMPILED", "CUDA", "CUDA_ON_CPU", "NUMBA", "KernelSet", "kernel_set", "mixed_means"]

#: CUDA kernels on the CPU, in every order of their threads.
CUDA_ON_CPU = tuple(f"cuda-on-cpu-{order}" for order in cuda_on_cpu.ORDERS)
CUDA = (*CUDA_ON_CPU, pytest.param("cupy", marks=pytest.mark.gpu))
#: Numba kernels on one thread of the host, and on two with the little work of a test counted as worth sharing.
NUMBA = ("numba-one-thread", "numba-two-threads")

#: (program, kernel, architecture, macros...) of all that the compile gate has compiled in this run, for the summary.
COMPILED: set[tuple[Any, ...]] = set()


@dataclass(frozen=True)
class KernelSet:
    """Kernels of one kind.

    Attributes
    ----------
    name : str
    backend : Backend
        The library's backend that computes with them.
    find : callable
        ``find("emissions")`` returns the kernel.
    """

    name: str
    backend: Backend
    find: Callable[[str], Callable[..., Any]]

    def put(self, array: Any, dtype: Any = None) -> Any:
        """An array where these kernels take it from; a copy, so that what a kernel must not touch can be compared."""
        return self.backend.xp.array(array, dtype=dtype)

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        """An array of NaN for a kernel to fill."""
        return self.backend.xp.full(shape, np.nan, dtype=dtype)

    def get(self, array: Any) -> np.ndarray:
        """The array on the host."""
        return self.backend.to_host(array)


def missing(reason: str) -> NoReturn:
    """Skip the test for want of a tool; fail it where continuous integration should have brought that tool."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def kernel_set(name: str) -> KernelSet:
    """Return the set called ``name``; the test is skipped, and says why, where it cannot run."""
    if name in NUMBA:
        return KernelSet(name, get_backend("numpy"), cpu.find)
    if name == "cupy":
        if reason := why_no_gpu():
            pytest.skip(reason)
        backend = get_backend("cupy")
    else:
        if reason := cuda_on_cpu.why_no_compiler():
            missing(reason)
        backend = cuda_on_cpu.backend(name.removeprefix("cuda-on-cpu-"))
    return KernelSet(name, backend, lambda kernel: cuda.find(kernel, backend.cuda))


def mixed_means(rng: np.random.Generator, size: int) -> np.ndarray:
    """Means of every rule: dark, dim, either side of the switches, and beyond float32's whole numbers."""
    low, high = random.POISSON_INVERSION_BELOW, random.POISSON_NORMAL_ABOVE
    edges = [0.0, 1e-12, np.nextafter(low, 0), low, high, np.nextafter(high, np.inf), 1e8]
    return rng.permutation(np.concatenate([edges, np.exp(rng.uniform(-7, 7, size - len(edges)))]))
