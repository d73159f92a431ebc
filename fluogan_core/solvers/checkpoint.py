"""The state of a solver in a file: written in one move with its SHA-256, read with checks of every field."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from ..backend.replace import replace_file
from ..backend.typing import State

if TYPE_CHECKING:
    import cupy

__all__ = ["read_state", "write_state"]


#: First bytes of every checkpoint; the SHA-256 of the rest follows.
_MAGIC = b"fluogan_core checkpoint\n"
#: Marks the tensors of a written state that were arrays.
_ARRAY = "__array__"


# -- what a state must hold --------------------------------------------------------------------------------------------


# -- files -------------------------------------------------------------------------------------------------------------


def write_state(state: State, path: Path) -> None:
    """Write a nested dict of arrays, tensors, numbers and strings to ``path``, which is replaced in one move."""
    buffer = io.BytesIO()
    torch.save(_tensors(state), buffer)
    content = buffer.getbuffer()
    digest = hashlib.sha256(content).digest()
    replace_file(path, lambda handle: [handle.write(part) for part in (_MAGIC, digest, content)])


def read_state(path: Path) -> State:
    """Read what :func:`write_state` wrote; arrays come back as NumPy arrays, a critic's tensors as tensors.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no checkpoint, was cut short, or is damaged by as little as one bit.
    """
    content = memoryview(path.read_bytes())
    start = len(_MAGIC) + hashlib.sha256().digest_size
    if content[: len(_MAGIC)] != _MAGIC:
        raise ValueError(f"{path} is not a checkpoint of this version of fluogan_core; start without it")
    if hashlib.sha256(content[start:]).digest() != content[len(_MAGIC) : start]:
        raise ValueError(f"the checkpoint {path} is damaged or was cut short: its digest does not fit; start without it")
    try:
        state = _arrays(torch.load(io.BytesIO(content[start:]), map_location="cpu", weights_only=True))
    except Exception as error:  # a whole file, but of something else
        raise ValueError(f"{path} is not a checkpoint ({type(error).__name__}); start without it") from error
    if not isinstance(state, dict):
        raise ValueError(f"the checkpoint {path} holds a {type(state).__name__}, not a state; start without it")
    return state


def _tensors(value: object) -> object:
    if isinstance(value, dict):
        return {key: _tensors(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tensors(item) for item in value]
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(value.copy())}
    if hasattr(value, "__cuda_array_interface__") and not isinstance(value, torch.Tensor):
        return {_ARRAY: torch.from_numpy(cast("cupy.ndarray", value).get())}
    return value


def _arrays(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return value[_ARRAY].numpy()
        return {key: _arrays(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_arrays(item) for item in value]
    return value
