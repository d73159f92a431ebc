"""What a state must hold, field by field, and the check of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar, cast

import numpy as np

from ..objective.prior import Prior, SparseEdges

__all__ = [
    "ArrayOf",
    "EachOf",
    "ListOf",
    "NumberOf",
    "Optional",
    "Schema",
    "acceleration_schema",
    "check_state",
    "prior_schema",
]

T = TypeVar("T")

#: What a dict must hold: a schema of this module, a type, or a dict of them, by name.
Schema: TypeAlias = dict[str, object]


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

    schema: object


@dataclass(frozen=True)
class OneOrArrayOf(ArrayOf):
    """One finite number, or an array as :class:`ArrayOf` asks."""


@dataclass(frozen=True)
class ListOf:
    """A list with as many items as there are schemas, each as its own asks."""

    schemas: tuple[object, ...]


@dataclass(frozen=True)
class EachOf:
    """A dict with string keys of any name, each value as ``schema`` asks."""

    schema: object


def check_state(value: object, schema: object, name: str = "state") -> None:
    """Raise unless a state is as expected, field by field.

    Parameters
    ----------
    value : object
        What was read.
    schema : object
        A dict of schemas (exactly these keys), a type, :class:`ArrayOf`, :class:`NumberOf`, :class:`ListOf`,
        :class:`Optional` or :class:`EachOf`.
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
        fields = _of_type(value, dict, name)
        missing, unknown = schema.keys() - fields.keys(), fields.keys() - schema.keys()
        if missing or unknown:
            what = f"lacks {sorted(map(str, missing))}" if missing else f"has unknown fields {sorted(map(str, unknown))}"
            raise ValueError(f"{name} {what}")
        for key, inner in schema.items():
            check_state(fields[key], inner, f"{name}[{key!r}]")
    elif isinstance(schema, EachOf):
        for key, item in _of_type(value, dict, name).items():
            _of_type(key, str, f"a key of {name}")
            check_state(item, schema.schema, f"{name}[{key!r}]")
    elif isinstance(schema, ListOf):
        items = _of_type(value, list, name)
        if len(items) != len(schema.schemas):
            raise ValueError(f"{name} must have {len(schema.schemas)} items, got {len(items)}")
        for number, (item, inner) in enumerate(zip(items, schema.schemas)):
            check_state(item, inner, f"{name}[{number}]")
    elif isinstance(schema, NumberOf):
        _check_number(value, schema, name)
    elif isinstance(schema, OneOrArrayOf) and isinstance(value, int | float):
        _check_number(value, NumberOf(schema.low), name)
    elif isinstance(schema, ArrayOf):
        _check_array(value, schema, name)
    else:
        _of_type(value, cast(type, schema), name)


def _of_type(value: object, kind: type[T], name: str) -> T:
    """Return the value; raise if it is of another type."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
    return value


def _check_number(value: object, schema: NumberOf, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int if schema.whole else int | float):
        raise ValueError(f"{name} must be a {'whole ' if schema.whole else ''}number, got {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    if schema.low is not None and value < schema.low:
        raise ValueError(f"{name} must be at least {schema.low:g}, got {value:g}")


def _check_array(value: object, schema: ArrayOf, name: str) -> None:
    if not hasattr(value, "__array__") or isinstance(value, np.generic):  # of NumPy or torch
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


def acceleration_schema(*shapes: tuple[int, int]) -> Schema:
    """Return the schema of an :class:`fluogan_core.objective.fista.Acceleration` of images of these shapes."""
    images = ListOf(tuple(ArrayOf(shape) for shape in shapes))
    return {"t": NumberOf(1), "current": images, "ahead": images}


def prior_schema(prior: Prior) -> Schema | type:
    """Return the schema of a prior's state: field by field of the library's own, any dict of another's."""
    if not isinstance(prior, SparseEdges):
        return dict
    return {
        "sparsity": OneOrArrayOf(prior.shape, low=0),
        "edges": Optional(ArrayOf(prior.shape, low=0)),
        "dual": Optional(ArrayOf((4, *prior.shape))),
    }
