"""Kernels on NumPy arrays, called as CuPy calls them, with the checks that a card does not make."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["ORDERS", "KernelError", "Module", "launched"]

ORDERS = ("forward", "reverse", "random")

#: (program, kernel) of every kernel that ran to its end in this process.
launched: set[tuple[str, str]] = set()

_DEFAULT_SHARED = 48 * 1024  # bytes of dynamic shared memory that need no opt-in
_MAX_THREADS = 1024
_MAX_GRID = (2**31 - 1, 65535, 65535)


class KernelError(RuntimeError):
    """A launch that a card would refuse, hang on, or answer with wrong numbers."""


class _Launch(ctypes.Structure):
    _fields_ = (
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared_bytes", ctypes.c_uint64),
        ("order", ctypes.c_int32),
        ("seed", ctypes.c_uint32),
    )


class Module:
    """A compiled source.

    Parameters
    ----------
    library : Path
        From :func:`cuda_on_cpu.compile.build`.
    program : str
        Name of the source, for messages and records.
    order : {"forward", "reverse", "random"}
        In which order the threads of a block run between two barriers, and the blocks of a grid.
    shared_memory_per_block : int
        Bytes that a kernel may opt in to.
    """

    def __init__(self, library: Path, program: str, order: str, shared_memory_per_block: int) -> None:
        # PyDLL keeps the interpreter's lock: the scheduler has one state
        self._library = ctypes.PyDLL(str(library))
        self.program, self.order, self.limit = program, order, shared_memory_per_block

    def get_function(self, name: str) -> Kernel:
        """Return a kernel by name."""
        return Kernel(self, name)

    def entry(self, name: str) -> tuple[Any, list[str]]:
        """Return the C function that launches a kernel, and the codes of its parameters."""
        try:
            start, describe = self._library[f"{name}_launch"], self._library[f"{name}_signature"]
        except AttributeError:
            raise KernelError(f'{self.program} has no extern "C" __global__ kernel {name!r}') from None
        start.restype = describe.restype = ctypes.c_char_p
        return start, describe().decode().split()


class Kernel:
    """A kernel, called as ``kernel(grid, block, args, shared_mem=bytes)``."""

    def __init__(self, module: Module, name: str) -> None:
        self.module, self.name = module, name
        self._start, self._codes = module.entry(name)
        self._dynamic_limit = _DEFAULT_SHARED
        self._launches = 0

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        """Bytes of dynamic shared memory that a launch may ask for."""
        return self._dynamic_limit

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        if size > self.module.limit:
            raise KernelError(f"{self.name}: {size} bytes of shared memory are more than the device's {self.module.limit}")
        self._dynamic_limit = size

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0) -> None:
        sizes = [tuple(int(n) for n in size) + (1,) * (3 - len(size)) for size in (grid, block)]
        self._check_shape(*sizes, shared_mem)
        if len(args) != len(self._codes):
            raise KernelError(f"{self.name} takes {len(self._codes)} arguments, got {len(args)}")
        held = [self._argument(i, code, value) for i, (code, value) in enumerate(zip(self._codes, args))]
        pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(value) for value in held))
        self._launches += 1  # another random order every time
        launch = _Launch(*((ctypes.c_uint32 * 3)(*size) for size in sizes))
        launch.shared_bytes, launch.order, launch.seed = shared_mem, ORDERS.index(self.module.order), self._launches
        message = self._start(ctypes.byref(launch), pointers)
        if message:
            raise KernelError(f"{self.module.program}: {self.name}: {message.decode()}")
        launched.add((self.module.program, self.name))

    def _check_shape(self, grid: tuple[int, ...], block: tuple[int, ...], shared_mem: int) -> None:
        threads = block[0] * block[1] * block[2]
        if not 0 < threads <= _MAX_THREADS:
            raise KernelError(f"{self.name}: a block must have 1 to {_MAX_THREADS} threads, got {block}")
        if any(not 0 < n <= most for n, most in zip(grid, _MAX_GRID)):
            raise KernelError(f"{self.name}: a grid must have 1 to {_MAX_GRID} blocks, got {grid}")
        if shared_mem > self._dynamic_limit:
            raise KernelError(f"{self.name}: {shared_mem} bytes of dynamic shared memory, {self._dynamic_limit} are allowed")

    def _argument(self, place: int, code: str, value: Any) -> Any:
        """One argument as the memory that the kernel reads it from."""
        pointer = "*" in code
        if pointer != isinstance(value, np.ndarray):
            raise KernelError(f"{self.name}: argument {place} must be {code}, got {type(value).__name__}")
        if pointer:
            return self._array(place, code, value)
        # as CuPy does it: plain Python numbers are 64 bits wide, NumPy's keep their type
        number = value if isinstance(value, np.generic) else np.asarray(value)[()]
        if number.dtype != np.dtype(code):
            raise KernelError(f"{self.name}: argument {place} must be {code}, got {number.dtype.str[1:]} {value!r}")
        return ctypes.create_string_buffer(number.tobytes(), number.dtype.itemsize)

    def _array(self, place: int, code: str, array: np.ndarray) -> Any:
        kind, element = code.split("*")
        if not element.startswith("V") and array.dtype != np.dtype(element):
            raise KernelError(f"{self.name}: argument {place} must hold {element}, got {array.dtype.str[1:]}")
        if not array.flags.c_contiguous:
            raise KernelError(f"{self.name}: argument {place} must be C-contiguous, got strides {array.strides}")
        if kind != "const" and not array.flags.writeable:
            raise KernelError(f"{self.name}: argument {place} is written to, but read-only")
        return ctypes.c_void_p(array.ctypes.data)
