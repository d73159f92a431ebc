"""Arrays of the caller's kind: taken without a copy through DLPack, answered in the same kind on the same device.

Inside, the library computes with NumPy and CuPy arrays alone.  Its public functions also take tensors of torch, arrays of JAX,
and those of any other library with the array API standard and DLPack.  :func:`any_kind` is the one place where they come in
and go out.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from .arrays import backend_on, device_of
from .checks import refuse_masked
from .typing import Array

__all__ = ["Kind", "any_kind", "as_array", "kind_of"]

Given = ParamSpec("Given")
Answer = TypeVar("Answer")

#: What is no array and may stand where one could: numbers, and None for an array that is left out.
_NO_ARRAY = frozenset({type(None), int, float, bool, str})
#: What an array that cannot be shared raises, by library: wrong layout, no memory, a traced value, an unknown dtype.
_NOT_SHARED = (AttributeError, BufferError, RuntimeError, TypeError, ValueError)
#: Device types of DLPack that a CUDA card answers to: its own memory, pinned, managed.
_CUDA = (2, 3, 13)


class Kind:
    """The library that an array belongs to; this one is that of NumPy and CuPy, where nothing has to be done.

    Attributes
    ----------
    name : str
        As messages call such an array.
    remedy : str
        How another array becomes one.
    """

    name = "a NumPy or CuPy array"
    remedy = "numpy.asarray, or psi.backend.asarray for a card"

    def taken(self, value: Any, name: str) -> Array:
        """Return an array of ours that shares the memory of ``value``, with the machine's byte order and real numbers.

        Parameters
        ----------
        value : array of this kind
        name : str
            As an error calls it.

        Returns
        -------
        array of NumPy or CuPy

        Raises
        ------
        TypeError
            If it is masked or complex, or cannot be shared.
        """
        refuse_masked(value, name)
        return _checked(value.view(np.ndarray) if isinstance(value, np.ndarray) else value, name)

    def given(self, array: Array) -> Any:
        """Return an array of this kind that shares the memory of one of ours.

        Parameters
        ----------
        array : array of NumPy or CuPy

        Returns
        -------
        array of this kind
        """
        return array


class _Torch(Kind):
    """Tensors of torch."""

    name = "a torch tensor"
    remedy = "torch.as_tensor"

    def taken(self, value: Any, name: str) -> Array:
        from .dlpack import home_of, to_array, torch

        if value.requires_grad and torch.is_grad_enabled():
            raise TypeError(
                f"{name} requires a gradient, and this function is not part of torch's graph: pass {name}.detach(), or take "
                "the functions of fluogan_core.interop.torch, which are differentiable"
            )
        if value.device.type not in ("cpu", "cuda"):
            raise TypeError(f"{name} is a tensor on {value.device}; move it to the CPU or to a CUDA device with {name}.to()")
        home = backend_on(home_of(value))
        return _checked(_shared(lambda: to_array(value, home), value, name), name)

    def given(self, array: Array) -> Any:
        from .dlpack import to_tensor

        plain = not isinstance(array, np.ndarray) or (array.flags.writeable and all(stride >= 0 for stride in array.strides))
        return to_tensor(array if plain else array.copy())


class _Standard(Kind):
    """Arrays with the array API standard and DLPack: JAX's, array_api_strict's, and others."""

    remedy = "the asarray of that library"

    def __init__(self, value: Any) -> None:
        self.space, self.device = value.__array_namespace__(), getattr(value, "device", None)
        self.name = f"an array of {self.space.__name__}"

    def taken(self, value: Any, name: str) -> Array:
        def shared() -> Array:
            device, number = (int(part) for part in value.__dlpack_device__())
            return backend_on(f"cuda:{number}" if device in _CUDA else "cpu").xp.from_dlpack(value)

        return _checked(_shared(shared, value, name), name)

    def given(self, array: Array) -> Any:
        if isinstance(array, np.ndarray) and not array.flags.writeable:
            array = array.copy()
        made = self.space.from_dlpack(array)
        return made if self.device in (None, made.device) else made.to_device(self.device)


_OURS, _TORCH = Kind(), _Torch()


def kind_of(value: object) -> Kind | None:
    """Return the kind of an array, None for what is no array of a known kind.

    Parameters
    ----------
    value : object

    Returns
    -------
    Kind or None

    Examples
    --------
    >>> import numpy as np
    >>> from fluogan_core.backend.kinds import kind_of
    >>> kind_of(np.zeros(3)).name, kind_of([0.0])
    ('a NumPy or CuPy array', None)
    """
    if device_of(value) is not None:
        return _OURS
    torch = sys.modules.get("torch")  # a tensor comes from a torch that is loaded
    if torch is not None and isinstance(value, torch.Tensor):
        return _TORCH
    if hasattr(value, "__array_namespace__") and hasattr(value, "__dlpack__"):
        return _Standard(value)
    return None


def as_array(value: object, name: str) -> Any:
    """Return an array of any kind as one of NumPy or CuPy that shares its memory; what is no array comes back as it is.

    Parameters
    ----------
    value : array of any kind, or something else
    name : str
        As an error calls it.

    Returns
    -------
    array of NumPy or CuPy

    Raises
    ------
    TypeError
        If it is masked or complex, requires a gradient, or cannot be shared.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from fluogan_core.backend.kinds import as_array
    >>> tensor = torch.zeros(2)
    >>> as_array(tensor, "x")[0] = 5
    >>> tensor
    tensor([5., 0.])
    """
    kind = kind_of(value)
    return value if kind is None else kind.taken(value, name)


def any_kind(
    *names: str, writes: tuple[str, ...] = (), answers: bool = True
) -> Callable[[Callable[Given, Answer]], Callable[Given, Answer]]:
    """Let a function take arrays of any kind and answer in the same kind.

    The function itself sees NumPy or CuPy arrays with real numbers in the machine's byte order, which share the caller's
    memory.  All arrays that it returns, alone or in tuples, become arrays of the caller's kind.  An array that came in and is
    returned is the caller's own object.  All arrays of one call are of one kind, where NumPy and CuPy are one; a mixture is
    refused.

    Parameters
    ----------
    *names : str
        The parameters that are arrays.  A number or None may stand there too.
    writes : tuple of str
        Those of them that the function writes to.
    answers : bool
        Whether arrays are answered.  If not, the answer is a number or a report: it is left as it is, and kinds may mix.

    Returns
    -------
    decorator

    Examples
    --------
    >>> import torch
    >>> from fluogan_core.backend.kinds import any_kind
    >>> @any_kind("x")
    ... def twice(x):
    ...     return 2 * x
    >>> twice(torch.ones(2))
    tensor([2., 2.])
    """

    def decorate(function: Callable[Given, Answer]) -> Callable[Given, Answer]:
        order = list(inspect.signature(function).parameters)
        places = tuple((name, order.index(name)) for name in names)

        @functools.wraps(function)
        def called(*args: Given.args, **kwargs: Given.kwargs) -> Answer:
            count = len(args)
            for name, place in places:
                value = args[place] if place < count else kwargs.get(name)
                if not _settled(value) or (name in writes and _read_only(value)):
                    break
            else:
                return function(*args, **kwargs)
            call = _Call(answers)
            positional, named = list(args), dict(kwargs)
            for name, place in places:
                if place < count:
                    positional[place] = call.take(args[place], name, name in writes)
                elif name in named:
                    named[name] = call.take(named[name], name, name in writes)
            return call.answer(function(*positional, **named))  # type: ignore[arg-type]

        return called

    return decorate


def _settled(value: object) -> bool:
    """Whether a function can take a value as it is: the check that each call of each public function pays for."""
    if type(value) is np.ndarray:
        return value.dtype.isnative and value.dtype.kind in "biuf"
    return type(value) in _NO_ARRAY


def _read_only(value: object) -> bool:
    return isinstance(value, np.ndarray) and not value.flags.writeable


def _same_memory(array: np.ndarray, value: object) -> bool:
    return not isinstance(value, np.ndarray) or np.may_share_memory(array, value)


class _Call:
    """The arrays of one call: all of one kind if arrays are answered."""

    def __init__(self, answers: bool) -> None:
        self.answers = answers
        self.kind: Kind = _OURS
        self.first = ""
        self.pairs: list[tuple[Array, Any]] = []

    def take(self, value: Any, name: str, written: bool) -> Any:
        kind = kind_of(value)
        if kind is None:
            return value
        if self.answers and self.first and kind.name != self.kind.name:
            raise TypeError(
                f"{self.first} is {self.kind.name} but {name} is {kind.name}; give both of one kind: {self.kind.remedy} makes "
                f"one like {self.first}, {kind.remedy} one like {name}"
            )
        self.kind, self.first = kind, self.first or name
        array = kind.taken(value, name)
        if written and isinstance(array, np.ndarray) and not (array.flags.writeable and _same_memory(array, value)):
            raise ValueError(
                f"{name} is written to, and a {type(value).__name__} that is read-only or of foreign byte order cannot be: "
                "pass a writable one"
            )
        self.pairs.append((array, value))
        return array

    def answer(self, value: Any) -> Any:
        for array, original in self.pairs:
            if value is array:
                return original
        if self.kind is _OURS or not self.answers:
            return value
        if type(value) in (tuple, list):
            return type(value)(self.answer(part) for part in value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(self.answer(part) for part in value))
        if isinstance(value, np.generic) or device_of(value) is None:
            return value
        return self.kind.given(value)


def _shared(share: Callable[[], Array], value: object, name: str) -> Array:
    """The shared array, or why there is none."""
    try:
        return share()
    except _NOT_SHARED as error:
        traced = " (inside jit, grad or vmap of JAX or torch: use fluogan_core.interop there)"
        raise TypeError(
            f"{name} is of type {type(value).__name__} and its memory cannot be shared{traced}: pass a dense array of real "
            f"numbers that NumPy knows, on the CPU or a CUDA device ({error})"
        ) from error


def _checked(array: Array, name: str) -> Array:
    """The array in the machine's byte order, if it holds real numbers."""
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
