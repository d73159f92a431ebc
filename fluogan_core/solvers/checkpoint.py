"""The state of a solver in a file: written in one move, read with checks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["read_state", "write_state"]


#: Marks the tensors of a written state that were arrays.
_ARRAY = "__array__"


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
