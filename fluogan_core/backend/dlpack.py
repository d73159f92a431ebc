"""Between arrays and torch: DLPack without its traps, stream order, and a critic seen as a function of arrays.

With :mod:`fluogan_core.critics.network` the only module that imports torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

from .arrays import Backend, backend_of
from .once import once
from .typing import Array

__all__ = ["on_torch_stream", "to_array", "to_tensor"]


def to_tensor(array: Array) -> torch.Tensor:
    """Return a tensor that shares the memory of a NumPy or CuPy array.

    Raises
    ------
    ValueError
        For an array with a negative stride (torch would abort the process) or a read-only one (torch would hand out a
        writable tensor of it): pass a copy.
    """
    if not isinstance(array, np.ndarray):
        backend_of(array=array)
    if min(array.strides, default=0) < 0:
        raise ValueError("an array with a negative stride cannot be shared with torch; pass numpy.ascontiguousarray(array)")
    if isinstance(array, np.ndarray):
        if not array.flags.writeable:
            raise ValueError("a read-only array cannot be shared with torch, which would write to it; pass array.copy()")
        if not array.dtype.isnative:
            raise ValueError(f"torch knows the machine's own byte order only, got dtype {array.dtype.str}; convert with astype")
    return torch.from_dlpack(array)


def to_array(tensor: torch.Tensor, backend: Backend) -> Array:
    """Return an array of ``backend`` that shares the memory of a tensor on its device.

    Raises
    ------
    ValueError
        If the tensor lives elsewhere.
    TypeError
        For bfloat16, which NumPy does not know.
    """
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        raise TypeError("bfloat16 has no NumPy counterpart; convert the tensor with .float() first")
    home = home_of(tensor)
    if home != backend.device:
        raise ValueError(f"the tensor is on {home} but the arrays are on {backend.device}; move the tensor with .to()")
    # NumPy shares the same memory by either, and from_dlpack takes four times as long
    return tensor.numpy() if backend.xp is np else backend.xp.from_dlpack(tensor)


def home_of(tensor: torch.Tensor) -> str:
    """The backends' name of the device that a tensor lives on."""
    kind = tensor.device.type
    return f"cuda:{tensor.device.index or 0}" if kind == "cuda" else kind


def on_torch_stream(backend: Backend) -> contextlib.AbstractContextManager[None]:
    """Run array work on torch's current stream and out of torch's memory; nothing to do on the CPU.

    Neither side overtakes the other, inside or at either end (:meth:`fluogan_core.Backend.on_stream`).
    """
    return _on_stream(backend) if backend.name == "cupy" else contextlib.nullcontext()


@contextlib.contextmanager
def _on_stream(backend: Backend) -> Iterator[None]:
    _share_memory(backend)
    with backend.on_stream(torch.cuda.current_stream(torch.device(backend.device)).cuda_stream):
        yield


@once
def _share_memory(backend: Backend) -> None:
    """Let arrays come out of torch's pool, once per backend: from then on one library's free memory serves the other."""
    backend.allocate_with(torch.cuda.caching_allocator_alloc, torch.cuda.caching_allocator_delete)
