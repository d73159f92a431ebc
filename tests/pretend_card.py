"""A card that is not there: NumPy's memory behind arrays that keep apart from the host's as strictly as CuPy's do.

What a card refuses is refused here: an operation on one array of the device and one of the host, a number that is not exactly
Python's or NumPy's (an ``IntEnum``), turning a device array into one of the host without ``.get()``; and so is an index that
lies on the host, which CuPy would copy in silence.  Reductions return arrays without axes; elementwise functions return C
order; a matrix that cannot be inverted or factorised gives NaN, unless the backend asks for an error: all as on a card.
Kernels are the CUDA ones, run on the CPU.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import cuda_on_cpu
import numpy as np
import scipy.fft
import scipy.ndimage

from fluogan_core import Backend

__all__ = ["DeviceArray", "backend"]


def unwrap(value: Any) -> Any:
    """What NumPy computes with; an array of the host is refused."""
    if isinstance(value, DeviceArray):
        return value.memory
    if isinstance(value, np.ndarray):
        raise TypeError(f"an array of the host, shape {value.shape}, meets the device")
    if isinstance(value, list | tuple):
        return type(value)(unwrap(item) for item in value)
    return value


def wrap(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return DeviceArray(np.asarray(value))
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(wrap(item) for item in value)
    return value


def check_operands(operands: Sequence[Any]) -> None:
    """Raise TypeError for what CuPy's elementwise functions do not take: it looks at the very type, not at its bases."""
    for operand in operands:
        if type(operand) not in (DeviceArray, int, float, bool, complex) and not isinstance(operand, np.generic | np.ndarray):
            raise TypeError(f"an elementwise function of the device takes no {type(operand).__name__}, got {operand!r}")


def on_device(function: Any) -> Any:
    """The same function from device arrays to device arrays."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if isinstance(function, np.ufunc):
            check_operands(args[: function.nin])
        found = function(*unwrap(args), **{name: unwrap(value) for name, value in kwargs.items()})
        if isinstance(function, np.ufunc) and isinstance(found, np.ndarray) and "out" not in kwargs:
            found = np.ascontiguousarray(found).reshape(found.shape)
        return wrap(found)

    return called


#: Whether functions of linear algebra raise errors at this moment.
_linalg_raises = contextvars.ContextVar("linalg_raises", default=False)


@contextlib.contextmanager
def linalg_raises() -> Iterator[None]:
    """What ``cupyx.errstate(linalg="raise")`` does."""
    before = _linalg_raises.set(True)
    try:
        yield
    finally:
        _linalg_raises.reset(before)


def silent(function: Any) -> Any:
    """The same function of linear algebra, which fills its result with NaN where NumPy's raises."""

    @functools.wraps(function)
    def called(*matrices: Any) -> Any:
        try:
            return function(*matrices)
        except np.linalg.LinAlgError:
            if _linalg_raises.get():
                raise
            return np.full(matrices[-1].shape, np.nan)

    return called


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the pretended card."""

    device = SimpleNamespace(id=0)
    __cuda_array_interface__: Any = None  # CuPy's arrays are told from others by having it
    #: Leave the array as they are on a card: what they return belongs to the host.
    _TO_HOST = frozenset({"tolist", "item"})
    _PLAIN = frozenset({"shape", "dtype", "ndim", "size", "nbytes", "itemsize", "strides", "flags", "data"})

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = memory

    def get(self) -> np.ndarray:
        return self.memory.copy()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # no protocol that is not written out below, above all none to the host
            raise AttributeError(name)
        found = getattr(self.memory, name)
        if name in self._PLAIN or name in self._TO_HOST:
            return found
        return on_device(found) if callable(found) else wrap(found)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("a device array becomes one of the host by .get(), not silently")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return on_device(ufunc if method == "__call__" else getattr(ufunc, method))(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return on_device(function)(*args, **kwargs)

    def __getitem__(self, index: Any) -> DeviceArray:
        return DeviceArray(np.asarray(self.memory[unwrap(index)]))

    def __setitem__(self, index: Any, value: Any) -> None:
        self.memory[unwrap(index)] = unwrap(value)

    def __len__(self) -> int:
        return len(self.memory)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __float__(self) -> float:
        return float(self.memory)

    def __int__(self) -> int:
        return int(self.memory)

    def __bool__(self) -> bool:
        return bool(self.memory)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.memory.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.memory.__dlpack_device__()


DeviceArray.__module__ = "cupy"  # by which the library knows a device array


class DeviceModule:
    """NumPy's or SciPy's functions for device arrays."""

    #: Take what is on the host to the device.
    _UPLOADS = frozenset({"asarray", "array", "ascontiguousarray"})
    #: Raise nothing unless they are asked to.
    _SILENT = frozenset({np.linalg.cholesky, np.linalg.inv, np.linalg.solve})

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if name == "ndarray":
            return DeviceArray
        if isinstance(found, ModuleType):
            return DeviceModule(found)
        if isinstance(found, type) or not callable(found):
            return found
        if name in self._UPLOADS:
            return lambda a, *args, **kwargs: wrap(found(a.memory if isinstance(a, DeviceArray) else a, *args, **kwargs))
        return on_device(silent(found) if found in self._SILENT else found)


class DeviceKernel:
    """A kernel whose arguments are device arrays."""

    def __init__(self, kernel: Any) -> None:
        self.__dict__["_kernel"] = kernel

    def __call__(self, grid: Any, block: Any, args: Any, **more: Any) -> None:
        self._kernel(grid, block, unwrap(tuple(args)), **more)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._kernel, name, value)


@functools.cache
def backend(order: str = "random") -> Backend:
    """Return a backend called ``"cupy"`` on the pretended card; torch's side of it is the CPU."""
    host, xp = cuda_on_cpu.device(order), DeviceModule(np)

    def compiler(text: str, name: str, options: tuple[str, ...]) -> Any:
        module = host.compiler(text, name, options)

        return SimpleNamespace(get_function=lambda kernel: DeviceKernel(module.get_function(kernel)))

    device = dataclasses.replace(host, xp=xp, compiler=compiler, _modules={}, _kernels={})
    made = Backend("cupy", "cpu", xp, DeviceModule(scipy.fft), DeviceModule(scipy.ndimage), device)  # type: ignore[arg-type]
    made.memory_budget = lambda: 2**28  # type: ignore[method-assign]
    made.linalg_raises = linalg_raises  # type: ignore[method-assign]
    made._must_be_current = lambda: None  # type: ignore[method-assign]
    made.synchronize = lambda: None  # type: ignore[method-assign]
    xp.cuda = SimpleNamespace(runtime=SimpleNamespace(deviceSynchronize=lambda: None))
    return made
