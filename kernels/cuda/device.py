"""A CUDA device as the launchers see it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import source
from .readings import readings_of, together

__all__ = ["Device", "ceil_div", "counters"]


def ceil_div(a: int, b: int) -> int:
    """Return a / b rounded up: the blocks of b that cover a."""
    return -(-a // b)


def counters(xp: Any, values: Any) -> Any:
    """Return whole numbers (n,) as 32-bit counters on the device; those of the host travel at four bytes each."""
    if not isinstance(values, xp.ndarray):
        values = xp.asarray(np.asarray(values).astype(np.uint32))
    return values.ravel().astype(np.uint32, copy=False)


@dataclass(eq=False)
class Device:
    """Arrays, a compiler, and the figures that launch shapes follow from.

    Attributes
    ----------
    xp : module
        The array module whose arrays the kernels are given.
    compiler : callable
        ``compiler(text, name, options)`` returns a module whose ``get_function(kernel)`` gives
        ``kernel(grid, block, args, shared_mem=0)``, as ``cupy.RawModule`` does.  A kernel's
        ``max_dynamic_shared_size_bytes`` may be raised up to ``shared_memory_per_block``.
    multiprocessors : int
    shared_memory_per_block : int
        Bytes, the most that a kernel may opt in to.
    shared_memory_per_multiprocessor : int
        Bytes.
    """

    xp: Any
    compiler: Callable[[str, str, tuple[str, ...]], Any]
    multiprocessors: int
    shared_memory_per_block: int
    shared_memory_per_multiprocessor: int
    _modules: dict[Any, Any] = field(default_factory=dict, repr=False)
    _kernels: dict[Any, Any] = field(default_factory=dict, repr=False)

    def module(self, name: str, **macros: Any) -> Any:
        """Return ``name.cu`` compiled with these macros, once."""
        key = (name, *sorted(macros.items()))
        if key not in self._modules:
            self._modules[key] = self.compiler(source.join(name), f"{name}.cu", source.options(name, macros))
        return self._modules[key]

    def kernel(self, program: str, name: str, **macros: Any) -> Any:
        """Return a kernel of ``program.cu``, looked up once: the driver takes longer for that than for a launch."""
        key = (program, name, *sorted(macros.items()))
        if key not in self._kernels:
            self._kernels[key] = self.module(program, **macros).get_function(name)
        return self._kernels[key]

    def check(self, numbers: Any, judge: Callable[..., None]) -> None:
        """Give numbers of the device to a function that raises if they are not as they should be.

        Parameters
        ----------
        numbers : array
        judge : callable
            ``judge(*numbers)``, with numbers of Python.  It is called at once, and the host waits; within :meth:`together` it
            is called when all numbers are read.
        """
        readings = readings_of(self)
        if readings is None:
            judge(*numbers.ravel().tolist())
        else:
            readings.check(numbers, judge)

    def numbers(self, array: Any) -> list[Any]:
        """Return the elements of a (n,) array as numbers of Python; within :meth:`together` as () arrays, to be read later."""
        return list(array) if readings_of(self) is not None else array.tolist()

    def together(self) -> AbstractContextManager[Callable[..., list[float]]]:
        """Let the host wait once for everything that is asked within the context, instead of once for each question.

        Its value is ``read(*numbers)``, which reads what was asked so far together with these () arrays, and returns them as
        numbers.  What was asked after the last read is read at the end.  A context within another one belongs to it.
        """
        return together(self)
