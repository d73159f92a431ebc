"""A torch critic as a function of arrays: scores, input gradients, the contract that it keeps, its weights for the kernels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from ..backend.arrays import Backend, backend_of, get_backend
from ..backend.dlpack import home_of, to_array, to_tensor
from ..backend.readings import check
from ..backend.typing import Array, CriticLike
from .network import Critic, is_slim
from .settings import in_eval_mode, neutral

__all__ = [
    "activation_bytes",
    "all_weights",
    "as_module",
    "check_scores",
    "critic_input_gradient",
    "critic_values",
    "finite",
    "frames_dtype",
    "home_of_critic",
    "in_kernels_family",
    "kernel_arrays",
    "refuse_half_precision",
    "same",
    "slim_arrays",
]


#: How often the first frame is scored in one batch when a critic is checked.
_COPIES = 15


class _Function(nn.Module):
    """A plain function as a module."""

    def __init__(self, function: CriticLike) -> None:
        super().__init__()
        self.function = function

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.function(frames)


def as_module(critic: CriticLike) -> nn.Module:
    """Return the critic as a torch module: itself, or a module that calls it."""
    if isinstance(critic, nn.Module):
        return critic
    if isinstance(critic, type):
        raise TypeError(f"a critic must be a module, got the class {critic.__name__}: make one of it, {critic.__name__}(...)")
    if not callable(critic):
        raise TypeError(f"a critic must be a torch.nn.Module or a function of frames (S, M1, M2), got {type(critic).__name__}")
    return _Function(critic)


def _tensors(critic: nn.Module) -> Iterator[torch.Tensor]:
    """Its parameters and buffers of floating-point numbers, of which the first says where and in what precision it computes."""
    for tensors in (critic.parameters(), critic.buffers()):
        yield from (tensor for tensor in tensors if tensor.is_floating_point())


def home_of_critic(critic: nn.Module) -> str | None:
    """Return the backends' name of the device that the critic is on, None if nothing says so."""
    first = next(_tensors(critic), None)
    return None if first is None else home_of(first)


def frames_dtype(critic: nn.Module, frames: Array) -> np.dtype:
    """Return the dtype that frames are given to the critic in: its own; float32 or float64 as they are where it has none."""
    first = next(_tensors(critic), None)
    if first is None:
        return frames.dtype if frames.dtype in (np.float32, np.float64) else np.dtype(np.float32)
    return np.dtype(np.float64 if first.dtype == torch.float64 else np.float32)


@contextlib.contextmanager
def _evaluated(critic: nn.Module, frames: Array) -> Iterator[tuple[torch.Tensor, Backend]]:
    """Frames as a tensor that the critic takes, perhaps in the caller's memory, and their backend; the critic in eval mode."""
    backend = backend_of(frames=frames)
    frames = frames.astype(frames_dtype(critic, frames), copy=False)
    if isinstance(frames, np.ndarray) and not (frames.flags.writeable and all(s >= 0 for s in frames.strides)):
        frames = frames.copy()
    with neutral(torch.device(backend.device)), in_eval_mode(critic):
        tensor, first = to_tensor(frames), next(_tensors(critic), None)
        if first is not None:
            if first.device != tensor.device:
                raise ValueError(
                    f"the critic is on {first.device} but the frames are on {tensor.device}; move it with critic.to()"
                )
            tensor = tensor.to(first.dtype)  # half precision
        yield tensor, backend


def _scores(critic: nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    # a critic of the user may work in place: it gets a copy
    score = critic(tensor if is_slim(critic) else tensor.clone())
    if not isinstance(score, torch.Tensor):
        raise TypeError(f"a critic must return a tensor of scores (S,), got {type(score).__name__}")
    if score.is_complex():
        raise TypeError(f"a critic must return real scores, got {score.dtype}; return its .real or its .abs()")
    if score.dtype in (torch.float16, torch.bfloat16):
        raise TypeError(
            f"a critic must return scores of float32 or float64, got {score.dtype}, in which one more count is often lost"
        )
    if not score.is_floating_point():  # counts of something
        score = score.to(tensor.dtype)
    if score.shape == (len(tensor), 1):
        score = score[:, 0]
    if score.shape != (len(tensor),):
        raise ValueError(f"a critic must map (S, M1, M2) to (S,), got {tuple(score.shape)} for {tuple(tensor.shape)}")
    return score


def critic_values(critic: CriticLike, frames: Array) -> Array:
    """Return D(y) of each frame, in eval mode.

    Parameters
    ----------
    critic : torch.nn.Module or callable
        Maps (S, M1, M2) counts to (S,).
    frames : (S, M1, M2) array
        Counts; cast to the critic's dtype, and not changed.

    Returns
    -------
    (S,) array, in the critic's precision

    Raises
    ------
    FloatingPointError
        If a score is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from fluogan_core.critics.scores import critic_values
    >>> critic_values(lambda y: y.mean(dim=(1, 2)), np.full((2, 4, 4), 3.0))
    array([3., 3.])
    """
    critic = as_module(critic)
    with _evaluated(critic, frames) as (tensor, backend), torch.no_grad():
        return finite(to_array(_scores(critic, tensor), backend), critic, "scores")


def finite(found: Array, critic: nn.Module, what: str) -> Array:
    """Return what a critic gives for frames; FloatingPointError if some of it is not finite."""
    backend = backend_of(found=found)

    def judge(sound: bool) -> None:
        if sound:
            return
        named = critic.function if isinstance(critic, _Function) else type(critic)
        name = getattr(named, "__name__", type(named).__name__)
        raise FloatingPointError(
            f"the critic {name} gives {what} that are NaN or infinite: look in its forward for a division by zero, and for a "
            "root or a logarithm of counts, which may be 0 or, by read noise, negative; look whether weights and frames are "
            "finite"
        )

    check(backend, backend.xp.isfinite(found).all(), judge)
    return found


def critic_input_gradient(critic: CriticLike, frames: Array) -> Array:
    """Return the gradient of D with respect to each frame, by one backward pass in eval mode.

    Parameters
    ----------
    critic, frames
        As for :func:`critic_values`.

    Returns
    -------
    (S, M1, M2) array, in the critic's precision

    Raises
    ------
    ValueError
        If the score cannot be differentiated.
    FloatingPointError
        If the gradient is NaN or infinite somewhere.
    """
    critic = as_module(critic)
    with _evaluated(critic, frames) as (tensor, backend), torch.enable_grad():
        tensor = tensor.detach().requires_grad_(True)
        score = _scores(critic, tensor)
        if not score.requires_grad:
            raise ValueError(
                "the critic's score cannot be differentiated with respect to its frames: its forward detaches them, or runs "
                "under no_grad or inference_mode; let autograd see it, or take method='coupled', which needs no gradient"
            )
        (slope,) = torch.autograd.grad(score.sum(), tensor, materialize_grads=True)
        return finite(to_array(slope, backend), critic, "gradients")


def check_scores(critic: CriticLike, frames: Array) -> None:
    """Raise if the score of a frame depends on chance, or on the other frames of the batch.

    Differences of scores mean nothing then.  The first of ``frames`` is scored alone, once more, and several times beside
    another frame: two draws of a random layer may agree.

    Parameters
    ----------
    critic, frames
        As for :func:`critic_values`; one frame or more.

    Raises
    ------
    ValueError
        If the scores differ by more than a hundredth of what tells the two frames apart, from one call to the next by more than
        a hundred-thousandth, and by more than rounding explains.
    """
    critic, first = as_module(critic), frames[:1]
    xp = backend_of(frames=frames).xp
    pattern = (xp.arange(first.size) % 7).reshape(first.shape).astype(first.dtype)
    with np.errstate(all="ignore"):
        other = first + (1 + abs(first)) * pattern
    alone, again = (float(critic_values(critic, first)[0]) for _ in range(2))
    far, *copies = critic_values(critic, xp.concatenate([other] + [first] * _COPIES)).tolist()
    # limits of a check, which no result depends on: a score is a sum of many numbers, so that it is rounded by more than its
    # last digit
    precision = 100 * float(np.finfo(frames_dtype(critic, first)).eps)
    apart, rounding = abs(far - alone), precision * max(abs(alone), abs(far))
    if abs(again - alone) > 1e-5 * apart + rounding:
        raise ValueError(
            f"the critic's score of one frame is {alone:g} at one call and {again:g} at the next, though it is in eval mode: "
            "differences of scores would be noise; leave out of its forward what is random, or let nn.Dropout do it"
        )
    if max(copies) - min(copies) > 0.01 * apart + rounding:
        raise ValueError(
            f"the critic's scores of the same frame, {_COPIES} times in one batch, range from {min(copies):g} to "
            f"{max(copies):g}, though it is in eval mode: they depend on chance or on the place in the batch; leave out of its "
            "forward what is random, or let nn.Dropout do it"
        )
    if abs(copies[0] - alone) > 0.01 * apart + rounding:
        raise ValueError(
            f"the critic's score of one frame is {alone:g} alone and {copies[0]:g} beside another frame: it must not depend on "
            "the other frames of the batch; normalise each frame by itself (nn.GroupNorm), or with nn.BatchNorm2d's running "
            "statistics (track_running_stats=True)"
        )


def activation_bytes(critic: CriticLike, shape: tuple[int, int]) -> int:
    """Return the bytes that one frame of ``shape`` takes in all layers of a critic together, by running one."""
    critic, total = as_module(critic), 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal total
        if isinstance(output, torch.Tensor) and not list(module.children()):
            total += output.numel() * output.element_size()

    scripted = [module for module in critic.modules() if isinstance(module, torch.jit.ScriptModule)]
    # TorchScript takes no hooks: as if every weight (of several axes) made an image per output channel
    for weight in {id(w): w for module in scripted for w in module.parameters() if w.dim() > 1}.values():
        total += len(weight) * shape[0] * shape[1] * weight.element_size()
    handles = [module.register_forward_hook(count) for module in critic.modules() if module not in scripted]
    try:
        first = next(_tensors(critic), torch.empty(0, dtype=torch.float32, device="cpu"))
        with neutral(first.device), in_eval_mode(critic), torch.no_grad():
            critic(torch.zeros((1, *shape), dtype=first.dtype, device=first.device))
    finally:
        for handle in handles:
            handle.remove()
    # functional activations and pooling leave no module output behind: as much again, and the frame itself
    return 3 * total + 8 * shape[0] * shape[1]


def refuse_half_precision(critic: nn.Module) -> None:
    """Raise if the critic computes in float16 or bfloat16, in which one more count is often lost."""
    first = next(_tensors(critic), None)
    if first is not None and first.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"the critic is in {str(first.dtype).removeprefix('torch.')}, in which one more count is often lost: "
            "call critic.float()"
        )


def in_kernels_family(critic: nn.Module, backend: Backend) -> bool:
    """Return whether the hand-written kernels of this backend compute what the critic does: a float32 :class:`Critic` there."""
    return (
        is_slim(critic)
        and {tensor.dtype for tensor in _tensors(critic)} == {torch.float32}
        and home_of_critic(critic) == backend.device
    )


def all_weights(critic: nn.Module) -> torch.Tensor:
    """Return a copy of all parameters and buffers in one row."""
    with neutral(next(_tensors(critic)).device, full_precision=False), torch.no_grad():
        return torch.cat([tensor.detach().flatten() for tensor in _tensors(critic)])


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether two rows of weights are equal."""
    return a.shape == b.shape and torch.equal(a, b)


def slim_arrays(critic: nn.Module, backend: Backend | None = None) -> dict[str, object] | None:
    """Return the weights of a float32 :class:`Critic` for the hand-written kernels, or None for any other critic.

    Parameters
    ----------
    critic : torch.nn.Module
    backend : Backend, optional
        Whose arrays to return, NumPy's by default; None comes back if the critic lives on another device.  They share the
        critic's memory.
    """
    backend = get_backend("numpy") if backend is None else backend
    return kernel_arrays(critic, backend) if in_kernels_family(critic, backend) else None


def kernel_arrays(critic: nn.Module, backend: Backend) -> dict[str, object]:
    """Return the weights of a :class:`Critic` as the arguments of the kernels' ``make_network``, in the critic's memory."""

    def share(tensor: torch.Tensor | None) -> Array:
        return to_array(cast(torch.Tensor, tensor), backend)

    critic = cast(Critic, critic)
    layers = [cast(nn.Conv2d, layer) for layer in critic.convolutions]
    return {
        "weights": [share(layer.weight) for layer in layers],
        "biases": [share(layer.bias) for layer in layers],
        "head": share(critic.head.weight)[0],
        "head_bias": share(critic.head.bias)[0],
        "kernel_size": critic.kernel_size,
        "pool": critic.pool,
        "slope": critic.negative_slope,
        "mean": share(critic.input_mean),
        "std": share(critic.input_std),
    }
