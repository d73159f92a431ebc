"""The state of a solver in a file: written in one move with its SHA-256, read with checks of every field."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..backend.replace import replace_file

__all__ = ["ArrayOf", "EachOf", "NumberOf", "Optional", "check_state", "read_state", "write_state"]


#: First bytes of every checkpoint; the SHA-256 of the rest follows.
_MAGIC = b"fluogan_core checkpoint\n"
#: Marks the tensors of a written state that were arrays.
_ARRAY = "__array__"


# -- what a state must hold --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ArrayOf:
    """An array or tensor of numbers.

    Attributes
    ----------
    shape : tuple of (int or None), optional
        None for any size along an axis, or of any shape.
    low : float, optional
        The least value that an element may have.
    finite : bool
        Whether NaN and infinities are refused.
    """

    shape: tuple[int | None, ...] | None = None
    low: float | None = None
    finite: bool = True


@dataclass(frozen=True)
class NumberOf:
    """A finite number, not below ``low``; ``whole`` asks for an int."""

    low: float | None = None
    whole: bool = False


@dataclass(frozen=True)
class Optional:
    """What ``schema`` asks for, or None."""

    schema: Any


@dataclass(frozen=True)
class EachOf:
    """A dict with string keys of any name, each value as ``schema`` asks."""

    schema: Any


def check_state(value: Any, schema: Any, name: str = "state") -> None:
    """Raise unless a state is as expected, field by field.

    Parameters
    ----------
    value : object
        What was read.
    schema : object
        A dict of schemas (exactly these keys), a type, :class:`ArrayOf`, :class:`NumberOf`, :class:`Optional` or
        :class:`EachOf`.
    name : str
        What the message calls ``value``.

    Raises
    ------
    ValueError
        If a field is missing, unknown, of another type or shape, not finite or too small; the message names it.

    Examples
    --------
    >>> check_state({"steps": 3, "x": np.ones((2, 2))}, {"steps": NumberOf(0, whole=True), "x": ArrayOf((2, 2), low=0)})
    >>> check_state({"steps": -1}, {"steps": NumberOf(0, whole=True)})
    Traceback (most recent call last):
    ...
    ValueError: state['steps'] must be at least 0, got -1
    """
    if isinstance(schema, Optional):
        if value is not None:
            check_state(value, schema.schema, name)
    elif isinstance(schema, Mapping):
        _is(value, dict, name)
        missing, unknown = schema.keys() - value.keys(), value.keys() - schema.keys()
        if missing or unknown:
            what = f"lacks {sorted(map(str, missing))}" if missing else f"has unknown fields {sorted(map(str, unknown))}"
            raise ValueError(f"{name} {what}")
        for key, inner in schema.items():
            check_state(value[key], inner, f"{name}[{key!r}]")
    elif isinstance(schema, EachOf):
        _is(value, dict, name)
        for key, item in value.items():
            _is(key, str, f"a key of {name}")
            check_state(item, schema.schema, f"{name}[{key!r}]")
    elif isinstance(schema, NumberOf):
        _check_number(value, schema, name)
    elif isinstance(schema, ArrayOf):
        _check_array(value, schema, name)
    else:
        _is(value, schema, name)


def _is(value: Any, kind: type, name: str) -> None:
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")


def _check_number(value: Any, schema: NumberOf, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int if schema.whole else int | float):
        raise ValueError(f"{name} must be a {'whole ' if schema.whole else ''}number, got {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    if schema.low is not None and value < schema.low:
        raise ValueError(f"{name} must be at least {schema.low:g}, got {value:g}")


def _check_array(value: Any, schema: ArrayOf, name: str) -> None:
    if not isinstance(value, np.ndarray | torch.Tensor):
        raise ValueError(f"{name} must be an array, got {type(value).__name__}")
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, got {array.dtype}")
    if schema.shape is not None and (
        array.ndim != len(schema.shape) or any(want not in (None, size) for want, size in zip(schema.shape, array.shape))
    ):
        raise ValueError(f"{name} must have the shape {schema.shape}, got {array.shape}")
    if schema.finite and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    if schema.low is not None and array.size and not float(np.nanmin(array)) >= schema.low:
        raise ValueError(f"{name} must be at least {schema.low:g} everywhere, got {float(np.nanmin(array)):g}")


# -- files -------------------------------------------------------------------------------------------------------------


def write_state(state: dict[str, Any], path: Path) -> None:
    """Write a nested dict of arrays, tensors, numbers and strings to ``path``, which is replaced in one move."""
    buffer = io.BytesIO()
    torch.save(_tensors(state), buffer)
    content = buffer.getbuffer()
    digest = hashlib.sha256(content).digest()
    replace_file(path, lambda handle: [handle.write(part) for part in (_MAGIC, digest, content)])


def read_state(path: Path, schema: Any = None) -> dict[str, Any]:
    """Read what :func:`write_state` wrote; arrays come back as NumPy arrays, a critic's tensors as tensors.

    Parameters
    ----------
    path : Path
    schema : object, optional
        What the state must hold, for :func:`check_state`.

    Returns
    -------
    dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no checkpoint, was cut short, is damaged by as little as one bit, or does not hold what ``schema``
        asks for.
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
    if schema is not None:
        try:
            check_state(state, schema)
        except ValueError as error:
            raise ValueError(f"the checkpoint {path} cannot be used: {error}; start without it") from None
    return state


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
