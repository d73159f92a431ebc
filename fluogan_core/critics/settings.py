"""Torch's settings that a host program may have changed, set to what the library's results rest on, and restored."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

__all__ = ["in_eval_mode", "neutral"]

#: Critics that are being evaluated in eval mode: how many times at once, and the modes of their modules before.
_EVALUATED: WeakKeyDictionary[nn.Module, tuple[int, list[bool]]] = WeakKeyDictionary()
#: Kinds of devices on which float32 products are exact now: for how many at once, and what restores the host's switches.
_PRECISE: dict[str, tuple[int, Callable[[], None]]] = {}
_LOCK = threading.Lock()


@contextlib.contextmanager
def in_eval_mode(critic: nn.Module) -> Iterator[None]:
    """Put a critic into eval mode, and every module of it into its own mode again afterwards.

    In train mode BatchNorm and Dropout make the score of a frame depend on the other frames, or on chance.  Several threads may
    evaluate one critic: the last one restores the modes.
    """
    modules = list(critic.modules())
    with _LOCK:
        count, modes = _EVALUATED.get(critic, (0, [module.training for module in modules]))
        _EVALUATED[critic] = (count + 1, modes)
        if count == 0 and any(modes):
            critic.eval()
    try:
        yield
    finally:
        with _LOCK:
            count, modes = _EVALUATED.pop(critic)
            if count > 1:
                _EVALUATED[critic] = (count - 1, modes)
            elif any(modes):
                for module, mode in zip(modules, modes):
                    module.training = mode


@contextlib.contextmanager
def neutral(device: torch.device, *, full_precision: bool = True) -> Iterator[None]:
    """Compute on ``device`` as if the host had set nothing: neither inference mode, nor autocast, nor another default device.

    With ``full_precision`` products of float32 numbers are not rounded to TF32 or bfloat16 either: differences of scores would
    drown in that rounding.
    """
    with contextlib.ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        default = torch.get_default_device()
        if default.type not in ("cpu", device.type):
            stack.enter_context(device)
        if full_precision:
            stack.enter_context(_full_precision(device.type))
        yield


def _operations(kind: str) -> list[Any]:
    """The switches of torch >= 2.9 that say how float32 products are computed on this kind of device."""
    backends: Any = torch.backends
    if kind == "cuda":
        return [backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul]
    return [backends.mkldnn.conv, backends.mkldnn.matmul]


@contextlib.contextmanager
def _full_precision(kind: str) -> Iterator[None]:
    """Multiply float32 numbers as float32 numbers on this kind of device ("cpu", "cuda").

    The switches are those of the whole process.  Where several threads compute, the first one sets them and the last one
    restores them.
    """
    with _LOCK:
        count, restore = _PRECISE.get(kind) or (0, _switched(kind))
        _PRECISE[kind] = (count + 1, restore)
    try:
        yield
    finally:
        with _LOCK:
            count, restore = _PRECISE.pop(kind)
            if count > 1:
                _PRECISE[kind] = (count - 1, restore)
            else:
                restore()


def _switched(kind: str) -> Callable[[], None]:
    """Set the switches, and return what restores them.

    Torch 2.9 has a second interface to these switches and refuses the first one where the second was used.  The second reads
    and sets what the first one has set, so it alone is used where it exists.
    """
    stack = contextlib.ExitStack()
    if not hasattr(torch.backends, "fp32_precision"):
        stack.enter_context(_full_precision_before_2_9(kind))
        return stack.close
    for operation in _operations(kind):
        before = operation.fp32_precision
        if before in ("none", "ieee"):
            continue
        # a switch that only repeats that of all operations goes on doing so
        operation.fp32_precision = "none"
        stack.callback(setattr, operation, "fp32_precision", "none" if operation.fp32_precision == before else before)
        operation.fp32_precision = "ieee"
    return stack.close


@contextlib.contextmanager
def _full_precision_before_2_9(kind: str) -> Iterator[None]:
    """The same by the first interface, which knows CUDA only."""
    if kind != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with cudnn.flags(enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = before
