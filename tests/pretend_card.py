"""A card that is not there: NumPy's memory behind arrays that keep apart from the host's as strictly as CuPy's do.

What a card refuses is refused here: an operation on one array of the device and one of the host, a number that is not exactly
Python's or NumPy's (an ``IntEnum``), turning a device array into one of the host without ``.get()``; and so is an index that
lies on the host, which CuPy would copy in silence.  Reductions return arrays without axes; elementwise functions return C
order; a matrix that cannot be inverted or factorised gives NaN, unless the backend asks for an error: all as on a card.
Kernels are the CUDA ones, run on the CPU.

:func:`counted` counts what a card would be given: launches, copies to it, and the times that the host waits for it.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import dataclasses
import functools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import cuda_on_cpu
import numpy as np
import scipy.fft
import scipy.ndimage

from fluogan_core import Backend

__all__ = ["DeviceArray", "Work", "backend", "counted"]


@dataclass
class Work:
    """What a card was given.

    Attributes
    ----------
    launches : Counter
        Kernels started, by the function that started them: those of the library, and those that CuPy 14 starts for a function
        of its own (:data:`_LAUNCHES`).
    waits : Counter
        How often the host waited for the card, by what it waited for.
    copies : Counter
        Arrays and numbers sent there, by what sent them.
    """

    launches: collections.Counter[str] = field(default_factory=collections.Counter)
    waits: collections.Counter[str] = field(default_factory=collections.Counter)
    copies: collections.Counter[str] = field(default_factory=collections.Counter)


_work: contextvars.ContextVar[Work | None] = contextvars.ContextVar("work", default=None)

#: Kernels that CuPy 14 starts for one call of a function, where it is not one, as its source has them.
_LAUNCHES = {
    "empty": 0,
    "empty_like": 0,
    "may_share_memory": 0,
    "shares_memory": 0,
    "bincount": 5,
    "flatnonzero": 4,
    "nonzero": 4,
}
_LAUNCHES |= {"norm": 3, "pad": 5, "tensordot": 3, "rfft2": 2, "irfft2": 2, "dctn": 16, "idctn": 16, "inv": 5, "solve": 5}
_LAUNCHES |= {"std": 3, "var": 3, "median": 4, "percentile": 6, "quantile": 6, "sort": 2, "argsort": 2, "unique": 8}
_LAUNCHES |= {"isin": 6, "outer": 1, "diff": 1, "cov": 6, "histogram": 4, "convolve": 3, "allclose": 4, "array_equal": 2}
#: Functions of CuPy that wait for the card, and how often: sizes of results and numbers of elements are known to it alone.
_WAITS = {"bincount": 2, "flatnonzero": 1, "nonzero": 1, "unique": 1, "array_equal": 1, "allclose": 1, "repeat": 1}
#: Methods and functions of torch that wait for the card.
_TORCH_WAITS = frozenset(
    {"item", "__float__", "__int__", "__bool__", "__index__", "tolist", "cpu", "numpy", "nonzero", "equal"}
)


@contextlib.contextmanager
def counted() -> Iterator[Work]:
    """Count what the pretended card is given meanwhile; of torch, whose tensors stand for those of the card, the waits alone.

    Yields
    ------
    Work
    """
    from torch.overrides import TorchFunctionMode

    class Waits(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = getattr(function, "__name__", "function")
            # an optimiser keeps the number of its steps on the host
            if name in _TORCH_WAITS and not sys._getframe(1).f_globals["__name__"].startswith("torch.optim"):
                _note("waits", f"torch {name}")
            return function(*args, **(kwargs or {}))

    work = Work()
    before = _work.set(work)
    try:
        with Waits():
            yield work
    finally:
        _work.reset(before)


def _note(kind: str, name: str, count: int = 1) -> None:
    work = _work.get()
    if work is not None and count:
        getattr(work, kind)[name] += count


def _arrays(values: Any) -> Iterator[np.ndarray]:
    """The arrays among the arguments of a call, or its results."""
    for value in values if isinstance(values, list | tuple) else [values]:
        if isinstance(value, np.ndarray):
            yield value
        elif isinstance(value, list | tuple):
            yield from _arrays(value)


def _count_call(function: Any, args: Sequence[Any], kwargs: dict[str, Any], found: Any) -> None:
    """Count one call of an array function with NumPy's arrays in place of the device's."""
    if _work.get() is None:
        return
    name = getattr(function, "__name__", "function")
    given, made = list(_arrays([*args, *kwargs.values()])), list(_arrays(found))
    if isinstance(getattr(function, "__self__", None), np.ndarray):  # a method
        given.append(function.__self__)
    _note("waits", name, _WAITS.get(name, 0))
    launches = _LAUNCHES.get(name, 1)
    if name in ("stack", "concatenate", "vstack", "hstack"):
        launches = max(1, len(list(_arrays(args[0]))))
    elif isinstance(function, np.ufunc) and name == "matmul" and max(a.ndim for a in given) > 2:
        # batches of matrices are copied unless their rows lie in order
        launches += sum(not (a.flags.c_contiguous or a.ndim == 1) for a in given)
    elif not isinstance(function, np.ufunc) and "out" not in kwargs:
        views = [any(np.may_share_memory(new, old) for old in given) for new in made]
        if views and all(views):  # nothing is computed for another look at the same memory
            launches = 0
    _note("launches", name, launches)


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
        plain, more = unwrap(args), {name: unwrap(value) for name, value in kwargs.items()}
        found = function(*plain, **more)
        _count_call(function, plain, more, found)
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
        _note("waits", "get")
        return self.memory.copy()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # no protocol that is not written out below, above all none to the host
            raise AttributeError(name)
        found = getattr(self.memory, name)
        if name in self._TO_HOST:
            _note("waits", name)
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
        self._note_index("[index]", index)
        return DeviceArray(np.asarray(self.memory[unwrap(index)]))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, DeviceArray) and not list(_arrays(unwrap(index))):
            target = self.memory[unwrap(index)]
            if np.may_share_memory(target, value.memory) and target.shape == value.memory.shape:
                return  # what ``a[i] += b`` ends with: the sum is there
        self._note_index("[index] =", index)
        _note("launches", "[index] =")
        self.memory[unwrap(index)] = unwrap(value)

    @staticmethod
    def _note_index(name: str, index: Any) -> None:
        """Arrays as an index: each is checked and broadcast, a mask is counted first."""
        arrays = list(_arrays(unwrap(index)))
        masks = sum(array.dtype == bool for array in arrays)
        _note("waits", f"{name} by a mask", masks)
        _note("launches", name, 1 if len(arrays) == 1 and not masks else 2 * len(arrays) + 2 * masks + bool(arrays))

    def __len__(self) -> int:
        return len(self.memory)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __float__(self) -> float:
        _note("waits", "float")
        return float(self.memory)

    def __int__(self) -> int:
        _note("waits", "int")
        return int(self.memory)

    def __bool__(self) -> bool:
        _note("waits", "bool")
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
            return functools.partial(self._uploaded, found)
        return on_device(silent(found) if found in self._SILENT else found)

    @staticmethod
    def _uploaded(function: Any, given: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(given, DeviceArray):
            _note("copies", function.__name__)
            return wrap(np.array(function(given, *args, **kwargs)))  # memory of its own, as on a card
        found = function(given.memory, *args, **kwargs)
        _count_call(function, (given.memory,), {}, found)
        return wrap(found)


class DeviceKernel:
    """A kernel whose arguments are device arrays."""

    def __init__(self, kernel: Any) -> None:
        self.__dict__["_kernel"] = kernel

    def __call__(self, grid: Any, block: Any, args: Any, **more: Any) -> None:
        _note("launches", self._kernel.name)
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
