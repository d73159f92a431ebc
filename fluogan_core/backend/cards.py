"""CUDA devices: whether one can be used, and what the launchers of kernels know of it."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from ..kernels.cuda.device import Device

__all__ = ["borrowed_stream", "cuda_device", "why_no_gpu"]


def why_no_gpu() -> str | None:
    """Say why CuPy cannot be used here.

    Returns
    -------
    reason : str or None
        None if it can be used.
    """
    try:
        import cupy
    except ImportError:
        return "cupy is not installed (pip install 'fluogan-core[cuda13]' or [cuda12])"
    except Exception as error:  # a broken CUDA install raises many things on import
        return f"cupy does not import: {error}"
    if getattr(cupy.cuda.runtime, "is_hip", False):
        return "this cupy is built for ROCm; the kernels need CUDA (pip install 'fluogan-core[cuda13]' or [cuda12])"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return f"cupy finds no usable driver: {error}"
    return None if count else "no CUDA device is visible (see CUDA_VISIBLE_DEVICES)"


def cuda_device(cupy: Any, number: int) -> Device:
    """What the launchers know of a card; nothing is compiled before a kernel is asked for."""
    from ..kernels.cuda.device import Device

    def compiler(text: str, name: str, options: tuple[str, ...]) -> Any:
        return cupy.RawModule(code=text, options=options)

    attributes = cupy.cuda.Device(number).attributes
    return Device(
        cupy,
        compiler,
        multiprocessors=attributes["MultiProcessorCount"],
        shared_memory_per_block=attributes["MaxSharedMemoryPerBlockOptin"],
        shared_memory_per_multiprocessor=attributes["MaxSharedMemoryPerMultiprocessor"],
    )


class Stream(Protocol):
    """What is used of a stream of CuPy."""

    def wait_event(self, event: object) -> None: ...

    def record(self) -> object: ...

    def __enter__(self) -> object: ...

    def __exit__(self, *error: object) -> None: ...


class _Foreign:
    """A stream of another library, by the protocol of CUDA streams."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer


def borrowed_stream(cuda: ModuleType, pointer: int, device: int) -> Stream:
    """Another library's stream as one of CuPy, which from version 14 on calls its former class deprecated."""
    if hasattr(cuda.Stream, "from_external"):
        return cast(Stream, cuda.Stream.from_external(_Foreign(pointer)))
    return cast(Stream, cuda.ExternalStream(pointer, device))
