"""A torch critic as a function of arrays: scores, input gradients, and its weights for the kernels."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch import nn

from ..backend.arrays import Backend, backend_of, get_backend
from ..backend.dlpack import home_of, to_array, to_tensor
from .network import Critic

__all__ = ["activation_bytes", "critic_input_gradient", "critic_values", "slim_arrays"]


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
    if type(critic) is not Critic or critic.head.weight.dtype != torch.float32 or home_of(critic.head.weight) != backend.device:
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
