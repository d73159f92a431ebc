"""Between arrays and torch: DLPack without its traps, stream order, and a critic seen as a function of arrays.

With :mod:`fluogan_core.critic` the only module that imports torch.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .backend import Backend, backend_of, get_backend
from .critic import Critic

#: Marks the tensors of a written state that were arrays.
_ARRAY = "__array__"

__all__ = [
    "activation_bytes",
    "critic_input_gradient",
    "critic_values",
    "on_torch_stream",
    "read_state",
    "slim_arrays",
    "to_array",
    "to_tensor",
    "write_state",
]


def to_tensor(array: Any) -> torch.Tensor:
    """Return a tensor that shares the memory of a NumPy or CuPy array.

    Raises
    ------
    ValueError
        For an array with a negative stride (torch would abort the process) or a read-only one (torch would hand out a
        writable tensor of it): pass a copy.
    """
    backend_of(array=array)
    if any(stride < 0 for stride in array.strides):
        raise ValueError("an array with a negative stride cannot be shared with torch; pass numpy.ascontiguousarray(array)")
    if isinstance(array, np.ndarray):
        if not array.flags.writeable:
            raise ValueError("a read-only array cannot be shared with torch, which would write to it; pass array.copy()")
        if not array.dtype.isnative:
            raise ValueError(f"torch knows the machine's own byte order only, got dtype {array.dtype.str}; convert with astype")
    return torch.from_dlpack(array)


def to_array(tensor: torch.Tensor, backend: Backend) -> Any:
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
    home = _home(tensor)
    if home != backend.device:
        raise ValueError(f"the tensor is on {home} but the arrays are on {backend.device}; move the critic with .to()")
    return backend.xp.from_dlpack(tensor)


def _home(tensor: torch.Tensor) -> str:
    """The backends' name of the device that a tensor lives on."""
    return "cpu" if tensor.device.type == "cpu" else f"cuda:{tensor.device.index or 0}"


@contextlib.contextmanager
def on_torch_stream(backend: Backend) -> Iterator[None]:
    """Run array work on torch's current stream and out of torch's memory; nothing to do on the CPU.

    Neither side overtakes the other, inside or at either end (:meth:`fluogan_core.Backend.on_stream`).
    """
    if backend.name != "cupy":
        yield
        return
    _share_memory(backend)
    with backend.on_stream(torch.cuda.current_stream(torch.device(backend.device)).cuda_stream):
        yield


@functools.cache
def _share_memory(backend: Backend) -> None:
    """Let arrays come out of torch's pool, once per backend: from then on one library's free memory serves the other."""
    backend.allocate_with(torch.cuda.caching_allocator_alloc, torch.cuda.caching_allocator_delete)


def _prepared(critic: nn.Module, frames: Any) -> tuple[torch.Tensor, Backend]:
    """Frames as a tensor of the critic's dtype, and the backend to return to."""
    backend = backend_of(frames=frames)
    if isinstance(frames, np.ndarray) and not (frames.flags.writeable and all(s >= 0 for s in frames.strides)):
        frames = frames.copy()
    tensor = to_tensor(frames)
    first = next(critic.parameters(), None)
    if first is not None:
        if first.device != tensor.device:
            raise ValueError(f"the critic is on {first.device} but the frames are on {tensor.device}; move it with critic.to()")
        tensor = tensor.to(first.dtype)
    return tensor, backend


def _scores(critic: nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    score = critic(tensor)
    if score.shape == (len(tensor), 1):
        score = score[:, 0]
    if score.shape != (len(tensor),):
        raise ValueError(f"a critic must map (S, M1, M2) to (S,), got {tuple(score.shape)} for {tuple(tensor.shape)}")
    return score


def _full_precision(tensor: torch.Tensor) -> contextlib.AbstractContextManager[None]:
    """Convolve in float32 on a card, not in TF32 as is torch's default: differences of scores would drown in its rounding."""
    if tensor.device.type != "cuda":
        return contextlib.nullcontext()
    cudnn = torch.backends.cudnn
    return cudnn.flags(enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False)


def critic_values(critic: nn.Module, frames: Any) -> Any:
    """Return D(y) for frames (S, M1, M2), as an array (S,) in the critic's precision."""
    tensor, backend = _prepared(critic, frames)
    with torch.no_grad(), _full_precision(tensor):
        return to_array(_scores(critic, tensor), backend)


def critic_input_gradient(critic: nn.Module, frames: Any) -> Any:
    """Return the gradient of D with respect to each frame, (S, M1, M2), by one backward pass."""
    tensor, backend = _prepared(critic, frames)
    tensor = tensor.detach().requires_grad_(True)
    with torch.enable_grad(), _full_precision(tensor):
        (slope,) = torch.autograd.grad(_scores(critic, tensor).sum(), tensor)
    return to_array(slope, backend)


def activation_bytes(critic: nn.Module, shape: tuple[int, int]) -> int:
    """Return the bytes that one frame of ``shape`` takes in all layers of a critic together, by running one."""
    total = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal total
        if isinstance(output, torch.Tensor) and not list(module.children()):
            total += output.numel() * output.element_size()

    handles = [module.register_forward_hook(count) for module in critic.modules()]
    try:
        first = next(critic.parameters(), torch.empty(0))
        with torch.no_grad():
            critic(torch.zeros((1, *shape), dtype=first.dtype, device=first.device))
    finally:
        for handle in handles:
            handle.remove()
    # functional activations and pooling leave no module output behind: as much again, and the frame itself
    return 3 * total + 8 * shape[0] * shape[1]


def slim_arrays(critic: nn.Module, backend: Backend | None = None) -> dict[str, Any] | None:
    """Return the weights of a float32 :class:`Critic` for the hand-written kernels, or None for any other module.

    Parameters
    ----------
    critic : torch.nn.Module
    backend : Backend, optional
        Whose arrays to return, NumPy's by default; None comes back if the critic lives on another device.  They share the
        critic's memory.
    """
    backend = get_backend("numpy") if backend is None else backend
    if type(critic) is not Critic or critic.head.weight.dtype != torch.float32 or _home(critic.head.weight) != backend.device:
        return None

    def share(tensor: torch.Tensor) -> Any:
        return to_array(tensor, backend)

    layers = [layer for layer in critic.convolutions if isinstance(layer, nn.Conv2d)]
    return {
        "weights": [share(layer.weight) for layer in layers],
        "biases": [share(layer.bias) for layer in layers if layer.bias is not None],
        "head": share(critic.head.weight)[0],
        "head_bias": float(critic.head.bias.detach()),
        "kernel_size": critic.kernel_size,
        "pool": critic.pool,
        "slope": critic.negative_slope,
        "mean": share(critic.input_mean),
        "std": share(critic.input_std),
    }


def write_state(state: dict[str, Any], path: Path) -> None:
    """Write a nested dict of arrays, tensors, numbers and strings to ``path``, which is replaced in one move."""
    temporary = path.with_name(path.name + ".part")
    try:
        torch.save(_tensors(state), temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_state(path: Path) -> dict[str, Any]:
    """Read what :func:`write_state` wrote; arrays come back as NumPy arrays, a critic's tensors as tensors.

    Raises
    ------
    ValueError
        If the file is not such a file, or was cut short.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path} is not a checkpoint, or was cut short ({type(error).__name__}); start without it") from error
    return _arrays(state)


def _tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tensors(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tensors(item) for item in value]
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(value.copy())}
    if hasattr(value, "__cuda_array_interface__") and not isinstance(value, torch.Tensor):
        return {_ARRAY: torch.from_numpy(value.get())}
    return value


def _arrays(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return value[_ARRAY].numpy()
        return {key: _arrays(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_arrays(item) for item in value]
    return value
