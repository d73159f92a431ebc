"""Where arrays live and who computes on them: NumPy on the host, CuPy on a CUDA card.

The backend follows the arrays: code asks :func:`backend_of` and never copies between host and card by itself.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import numbers
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from .cards import borrowed_stream, cuda_device, why_no_gpu
from .checks import one_of, refuse_masked
from .memory import CEILING, default_memory_budget, stated_budget
from .once import once
from .typing import Array, ArrayLike, DTypeLike

if TYPE_CHECKING:
    from ..kernels.cuda.device import Device

__all__ = ["Backend", "backend_of", "backend_on", "default_memory_budget", "device_of", "get_backend", "why_no_gpu"]

log = logging.getLogger("fluogan_core")


class Backend:
    """An array module with its FFT, device and memory, chosen by :func:`get_backend`.

    Attributes
    ----------
    name : str
        ``"numpy"`` or ``"cupy"``.
    device : str
        ``"cpu"`` or ``"cuda:N"``; also the torch device that goes with it.
    xp : module
        The array module, ``numpy`` or ``cupy``.
    fft, ndimage : module
        Its FFT and image modules, of ``scipy`` or ``cupyx.scipy``.
    cuda : fluogan_core.kernels.cuda.device.Device or None
        The device that the CUDA kernels are compiled for; None for those of the CPU.

    Notes
    -----
    Two backends are equal if they compute with the same kind of arrays on the same device.  A backend is pickled by its name
    and device.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> home = fg.get_backend("numpy")
    >>> home.asarray([1, 2], dtype="float32").dtype.name
    'float32'
    """

    def __init__(
        self, name: str, device: str, xp: ModuleType, fft: ModuleType, ndimage: ModuleType, cuda: Device | None = None
    ) -> None:
        self.name = name
        self.device = device
        self.xp = xp
        self.fft = fft
        self.ndimage = ndimage
        self.cuda = cuda

    def __repr__(self) -> str:
        return f"<Backend {self.name} on {self.device}>"

    def __eq__(self, other: object) -> bool:
        """Equal backends compute with the same kind of arrays on the same device."""
        if not isinstance(other, Backend):
            return NotImplemented
        return self is other or (self.name, self.device) == (other.name, other.device)

    def __hash__(self) -> int:
        return hash((self.name, self.device))

    def __reduce__(self) -> tuple[Any, ...]:
        number = None if self.name == "numpy" else int(self.device.split(":")[1])
        return get_backend, (self.name, number)

    def asarray(self, array: ArrayLike, dtype: DTypeLike | None = None) -> Array:
        """Move or convert ``array`` to this backend: the one explicit copy between host and card.

        Parameters
        ----------
        array : array_like
            Of NumPy, CuPy, or nested sequences of numbers.
        dtype : dtype, optional
            That of ``array`` by default.

        Returns
        -------
        array : array of this backend
            The very array if it is one already, of this dtype.
        """
        taken: Any = array
        if self.name == "numpy" and hasattr(taken, "__cuda_array_interface__"):
            taken = taken.get() if hasattr(taken, "get") else taken
        return self.xp.asarray(taken, dtype=dtype)

    def to_host(self, array: Array) -> np.ndarray:
        """Return ``array`` as a NumPy array.

        Parameters
        ----------
        array : array
            Of NumPy or CuPy.

        Returns
        -------
        array : numpy.ndarray
            The very array if it lives on the host; a copy otherwise.
        """
        return array if isinstance(array, np.ndarray) else array.get()

    def kernel(self, name: str) -> Callable[..., Any] | None:
        """Return a hand-written kernel for this backend.

        Parameters
        ----------
        name : str
            As in ``kernels/README.md``.

        Returns
        -------
        kernel : callable or None
            None where there is none: array code computes then.
        """
        if self.cuda is None:
            return _cpu_kernel(name)
        self._must_be_current()
        from ..kernels import cuda

        return cuda.find(name, self.cuda) if name in cuda.TABLE else None

    def _must_be_current(self) -> None:
        """Raise unless this backend's card is the calling thread's: CuPy launches and allocates on the current one."""
        if self.name != "cupy":
            return
        current = int(self.xp.cuda.runtime.getDevice())
        if self.device != f"cuda:{current}":
            raise RuntimeError(
                f"the arrays are on {self.device} but this thread's current card is cuda:{current}; "
                f"call fluogan_core.get_backend('cupy', device={self.device.split(':')[1]}) in this thread first"
            )

    @contextlib.contextmanager
    def linalg_raises(self) -> Iterator[None]:
        """Let a matrix that cannot be inverted or factorised raise LinAlgError on a card, as it does on the CPU.

        Otherwise CuPy returns NaN, or worse, and says nothing.  The host waits for the card at every such call.

        Yields
        ------
        None
        """
        if self.name != "cupy":
            yield
            return
        with importlib.import_module("cupyx").errstate(linalg="raise"):
            yield

    def bounds(self, array: Array) -> tuple[float, float]:
        """Return the smallest and the largest element of an array.

        Parameters
        ----------
        array : array

        Returns
        -------
        low, high : float
            Both NaN if one element is, both 0 if there is none.  The host waits once for the device.
        """
        if not array.size:
            return 0.0, 0.0
        low, high = self.xp.stack([array.min(), array.max()]).tolist()
        return low, high

    @contextlib.contextmanager
    def on_stream(self, pointer: int) -> Iterator[None]:
        """Compute on a CUDA stream, which may be another library's; on the CPU this does nothing.

        Work that was queued on the current stream is done before, and work that is queued there afterwards is done behind.

        Parameters
        ----------
        pointer : int
            Address of the stream.

        Yields
        ------
        None
        """
        if self.name != "cupy":
            yield
            return
        cuda = self.xp.cuda
        outer = cuda.get_current_stream()
        if outer.ptr == pointer:
            yield
            return
        inner = borrowed_stream(cuda, pointer, int(self.device.split(":")[1]))
        inner.wait_event(outer.record())
        try:
            with inner:
                yield
        finally:
            outer.wait_event(inner.record())

    def allocate_with(self, allocate: Callable[[int, int, int], int], free: Callable[[int], None]) -> None:
        """Take device memory from another library's pool from now on, so that free memory of one pool serves both.

        Parameters
        ----------
        allocate : callable
            ``allocate(bytes, device, stream)`` returns an address; ``stream`` is the address of the current stream.
        free : callable
            ``free(address)``.
        """
        cuda = self.xp.cuda

        def malloc(size: int, device: int) -> int:
            return allocate(size, device, cuda.get_current_stream().ptr)

        def release(address: int, device: int) -> None:
            if not sys.is_finalizing():  # the other library may be gone by then, and its memory with it
                free(address)

        cuda.set_allocator(cuda.PythonFunctionAllocator(malloc, release).malloc)

    def synchronize(self) -> None:
        """Wait until the device has done what it was given (for timings)."""
        if self.name == "cupy":
            self.xp.cuda.get_current_stream().synchronize()

    def memory_budget(self) -> int:
        """Return the memory that chunked computations may take: a quarter of what is free, at most 2 GiB.

        Returns
        -------
        bytes : int
            The environment variable ``FLUOGAN_MEMORY_BUDGET`` (bytes) overrides it.
        """
        if self.name == "cupy" and stated_budget() is None:
            return min(CEILING, int(self.xp.cuda.runtime.memGetInfo()[0]) // 4)
        return default_memory_budget()


@functools.cache
def _cpu_kernel(name: str) -> Callable[..., Any] | None:
    from ..kernels import cpu

    return cpu.find(name) if name in cpu.TABLE else None


@once
def _numpy_backend() -> Backend:
    import scipy.fft
    import scipy.ndimage

    return Backend("numpy", "cpu", np, scipy.fft, scipy.ndimage)


@once
def _cupy_backend(device: int) -> Backend:
    cupy = importlib.import_module("cupy")
    fft = importlib.import_module("cupyx.scipy.fft")
    ndimage = importlib.import_module("cupyx.scipy.ndimage")
    return Backend("cupy", f"cuda:{device}", cupy, fft, ndimage, cuda_device(cupy, device))


def get_backend(name: str | Backend = "auto", device: int | None = None) -> Backend:
    """Return the backend called ``name``.

    Parameters
    ----------
    name : {"auto", "numpy", "cupy"} or Backend
        ``"auto"`` takes a usable CUDA device if there is one, else the CPU, and says which in the log.
    device : int, optional
        The CUDA device, which becomes the calling thread's current one; the current one by default.  Ignored by ``"numpy"``.

    Returns
    -------
    Backend
        The same object for every call with the same device, in every thread.

    Raises
    ------
    ValueError
        If there is no such backend, or ``name`` is a backend on another device than ``device``.
    RuntimeError
        If ``"cupy"`` or a device is asked for and cannot be used; the message says why.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> fg.get_backend("numpy")
    <Backend numpy on cpu>
    """
    if isinstance(name, Backend):
        if device is not None and name.device != f"cuda:{device}":
            raise ValueError(f"the backend computes on {name.device}, but device {device} is asked for too; name one")
        return name
    one_of(name, "backend", ("auto", "numpy", "cupy"))
    if name == "numpy":
        return _numpy_backend()
    reason = why_no_gpu()
    if reason is None:
        import cupy

        number = int(cupy.cuda.runtime.getDevice()) if device is None else int(device)
        count = int(cupy.cuda.runtime.getDeviceCount())
        if not 0 <= number < count:
            raise RuntimeError(f"CUDA device {number} was asked for, but the devices are 0 to {count - 1}")
        cupy.cuda.Device(number).use()
        log.info("computing on cuda:%d (cupy)", number)
        return _cupy_backend(number)
    if name == "cupy":
        raise RuntimeError(f"backend 'cupy' cannot be used: {reason}; choose backend='numpy' or 'auto'")
    if device is not None:
        raise RuntimeError(f"CUDA device {device} was asked for and cannot be used: {reason}; name none to use the CPU")
    log.info("no GPU found, computing on the CPU")
    log.debug("why no GPU is used: %s", reason)
    return _numpy_backend()


def backend_on(device: str) -> Backend:
    """Return the backend of a device, ``"cpu"`` or ``"cuda:N"``; the calling thread's current card stays what it is."""
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"nothing computes on {device} here; move the array to the CPU or to a CUDA device")
    return _numpy_backend() if kind == "cpu" else _cupy_backend(int(number))


def device_of(array: object) -> str | None:
    """Return ``"cpu"``, ``"cuda:N"``, or None for something that is not an array of NumPy or CuPy."""
    if isinstance(array, np.ndarray | np.generic):
        return "cpu"
    if type(array).__module__.split(".")[0] == "cupy":
        return f"cuda:{array.device.id}"  # type: ignore[attr-defined]
    return None


def backend_of(**arrays: Array | None) -> Backend:
    """Return the one backend on which all arrays live.

    Parameters
    ----------
    **arrays : array or None
        By the names that an error shall use; None is passed over.

    Returns
    -------
    Backend

    Raises
    ------
    TypeError
        If one is not a NumPy or CuPy array, or is a masked array, or there is none.
    ValueError
        If they live in different places: nothing is copied silently.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> fg.backend_of(x=np.zeros(3), b=np.zeros(2))
    <Backend numpy on cpu>
    """
    if arrays and {*map(type, arrays.values())} == {np.ndarray}:  # a fit asks tens of times in each iteration
        return _numpy_backend()
    places: dict[str, str] = {}
    for name, array in arrays.items():
        if array is None:
            continue
        refuse_masked(array, name)
        place = device_of(array)
        if place is None:
            number = isinstance(array, numbers.Real)
            remedy = f"make an image of it with numpy.full(shape, {array})" if number else "convert it with numpy.asarray"
            raise TypeError(f"{name} must be a NumPy or CuPy array, got {type(array).__name__}; {remedy}")
        places[name] = place
    if not places:
        raise TypeError("at least one array is needed to choose a backend")
    first, home = next(iter(places.items()))
    for name, place in places.items():
        if place != home:
            here, there = ("on the host" if on == "cpu" else f"on {on}" for on in (home, place))
            raise ValueError(f"{first} is {here} but {name} is {there}; move one with backend.asarray")
    return backend_on(home)
