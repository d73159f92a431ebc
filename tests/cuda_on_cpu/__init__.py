"""The project's CUDA kernels on the CPU: the same ``.cu`` texts, compiled by g++, one fiber per CUDA thread.

A launch is refused or stopped with a message where a card would answer with wrong numbers, an error or silence: a barrier that
not all threads reach, a deadlock, a shuffle from a lane outside the mask, a write past dynamic shared memory, a wrong dtype or
number of arguments, too large a block.  Shared memory starts as NaN.  A missing barrier makes results depend on the order in
which threads run, of which there are three.  Products and sums are fused where a card fuses them, and numbers below 1e-38 are
flushed to zero.  A build with sanitizers adds
out-of-bounds accesses, by file and line.
"""

from __future__ import annotations

import functools

import numpy as np
import scipy.fft
import scipy.ndimage

from fluogan_core import Backend
from fluogan_core.kernels.cuda.device import Device

from .compile import CompileError, build, can_fuse, kernel_names, why_no_compiler
from .launch import ORDERS, KernelError, Module, launched

__all__ = [
    "ORDERS",
    "CompileError",
    "KernelError",
    "backend",
    "can_fuse",
    "device",
    "kernel_names",
    "launched",
    "why_no_compiler",
]

#: Those of compute capability 8.0, the smaller of the two that are compiled for; three multiprocessors keep grids small.
_MULTIPROCESSORS = 3
_SHARED_PER_BLOCK = 163 * 1024
_SHARED_PER_MULTIPROCESSOR = 164 * 1024


def device(order: str = "forward", *, sanitize: bool = False) -> Device:
    """Return a device whose arrays are NumPy's and whose threads run in ``order`` between barriers.

    Parameters
    ----------
    order : {"forward", "reverse", "random"}
    sanitize : bool
        Compile with the address and undefined-behaviour sanitizers, the first of which the process must have been started with
        (``LD_PRELOAD``).
    """

    def compiler(text: str, name: str, options: tuple[str, ...]) -> Module:
        library = build(text, name, options, sanitize=sanitize)
        return Module(library, name.removesuffix(".cu"), order, _SHARED_PER_BLOCK)

    return Device(np, compiler, _MULTIPROCESSORS, _SHARED_PER_BLOCK, _SHARED_PER_MULTIPROCESSOR)


@functools.cache
def backend(order: str = "forward", *, sanitize: bool = False) -> Backend:
    """Return NumPy's backend with the CUDA kernels on the CPU in place of Numba's; see :func:`device`."""
    return Backend("numpy", "cpu", np, scipy.fft, scipy.ndimage, device(order, sanitize=sanitize))
