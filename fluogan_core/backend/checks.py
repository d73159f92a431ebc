"""Checks of what a user passes in: each error says what was expected, what came, and what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .typing import Array, ArrayLike

__all__ = [
    "LARGEST",
    "field_of",
    "floating_dtype",
    "host_array",
    "host_image",
    "image_shape",
    "instance_of",
    "length_or_time",
    "one_of",
    "real_number",
    "refuse_masked",
    "squarable",
    "trailing_shape",
    "whole_number",
]

#: The largest gain, noise or number of photons per emission: its square, and that square's product with a number of photons,
#: stay within the range of float32 (3.4e38).
LARGEST = 1e15
#: Largest absolute value of an image, and one over the smallest: fourth powers are summed in float64, which ends at 1.8e308.
SQUARABLE = 1e60


def real_number(value: object, name: str, *, low: float = -math.inf, high: float = math.inf, open_low: bool = False) -> float:
    """Return ``value`` as a finite float in ``[low, high]`` (``(low, high]`` with ``open_low``)."""
    try:
        number = None if isinstance(value, str | bytes) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise TypeError(f"{name} must be a number, got {type(value).__name__} {value!r}")
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    if number < low or number > high or (open_low and number == low):
        bound = f"greater than {low:g}" if open_low else f"at least {low:g}"
        if math.isinf(low):
            bound = f"at most {high:g}"
        elif not math.isinf(high):
            bound += f" and at most {high:g}"
        raise ValueError(f"{name} must be {bound}, got {number:g}")
    return number


def instance_of(value: object, kind: type, name: str) -> None:
    """Raise unless ``value`` is of this class."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")


def length_or_time(value: object, name: str) -> float:
    """Return a length in nm or a time in ms as a float, 1e-9 to 1e15: beyond, it is no such thing, and its square overflows."""
    real_number(value, name, low=0, open_low=True)
    return real_number(value, name, low=1e-9, high=LARGEST)


def whole_number(value: object, name: str, *, low: int | None = None, high: int | None = None) -> int:
    """Return ``value`` as an int within ``[low, high]``; a float that is not whole is refused."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        if isinstance(value, (float, np.floating)) and float(value).is_integer():
            value = int(value)
        else:
            raise TypeError(f"{name} must be a whole number, got {value!r}")
    number = int(value)
    if low is not None and number < low:
        raise ValueError(f"{name} must be at least {low}, got {number}")
    if high is not None and number > high:
        raise ValueError(f"{name} must be at most {high}, got {number}")
    return number


def one_of(value: object, name: str, choices: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return str(value)


def image_shape(shape: Sequence[int], name: str = "shape") -> tuple[int, int]:
    """Return ``shape`` as (rows, columns), both positive."""
    try:
        rows, columns = shape
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be (rows, columns), got {shape!r}") from None
    return whole_number(rows, f"{name}[0]", low=1), whole_number(columns, f"{name}[1]", low=1)


def trailing_shape(array: Array, shape: tuple[int, int], name: str, meaning: str) -> None:
    """Raise unless ``array`` is an array, and its last two axes are ``shape``."""
    if not hasattr(array, "ndim") or not hasattr(array, "shape"):
        raise TypeError(f"{name} must be an array ({meaning}), got {type(array).__name__}; convert it with numpy.asarray")
    if array.ndim < 2 or tuple(array.shape[-2:]) != tuple(shape):
        raise ValueError(f"{name} must have shape (..., {shape[0]}, {shape[1]}) ({meaning}), got {tuple(array.shape)}")


def field_of(psi: Any, name: str = "psi") -> tuple[int, int]:
    """Return the camera grid of an operator; raise TypeError for what is none."""
    if not hasattr(psi, "fine_shape") or not hasattr(psi, "shape"):
        raise TypeError(f"{name} must be an operator, fluogan_core.Psi say, got {type(psi).__name__}")
    rows, columns = psi.shape
    return rows, columns


def refuse_masked(array: object, name: str) -> None:
    """Raise TypeError for a masked array: the functions of this library would use the values under the mask."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, and masks are ignored here: pass {name}.filled(value), or cut out what is masked"
        )


def floating_dtype(array: Array, name: str) -> np.dtype[Any]:
    """Return the dtype to compute in: float64 for floats of 64 bits or more in any byte order, float32 for all other numbers.

    Raises
    ------
    TypeError
        If ``array`` does not hold real numbers.
    """
    if not hasattr(array, "dtype"):
        raise TypeError(f"{name} must be an array of real numbers, got {type(array).__name__}")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real, got dtype {array.dtype}")
    return np.dtype(np.float64 if array.dtype.kind == "f" and array.dtype.itemsize >= 8 else np.float32)


def host_array(values: ArrayLike, name: str) -> np.ndarray:
    """Return ``values`` as a float64 array on the host; masked arrays and what does not become numbers are refused."""
    refuse_masked(values, name)
    taken: Any = values
    if hasattr(taken, "__cuda_array_interface__") and hasattr(taken, "get"):
        taken = taken.get()
    try:
        array = np.asarray(taken)
        if array.dtype.kind == "c":
            raise TypeError
        return array.astype(np.float64, copy=False)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must hold real numbers, got {type(values).__name__}") from None


def squarable(array: np.ndarray, name: str) -> None:
    """Raise ValueError unless sums of squares of a finite array neither overflow nor vanish in float64."""
    largest = float(np.abs(array).max())
    if largest > SQUARABLE or 0 < largest < 1 / SQUARABLE:
        raise ValueError(
            f"the largest absolute value of {name} is {largest:g}: outside {1 / SQUARABLE:g} to {SQUARABLE:g}, products of its "
            f"powers do not fit float64; divide {name} by {largest:g}"
        )


def host_image(image: ArrayLike, name: str, *, dimensions: tuple[int, ...] = (2,)) -> np.ndarray:
    """Return ``image`` as a finite float64 array on the host, with one of these numbers of dimensions and squares in range."""
    array = host_array(image, name)
    if array.ndim not in dimensions or array.size == 0:
        raise ValueError(f"{name} must be an image (rows, columns), got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are NaN or infinite")
    squarable(array, name)
    return array
