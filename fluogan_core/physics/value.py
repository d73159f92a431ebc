"""An operator as a value: fixed once it is made, compared and hashed by what it is made of, pickled without its caches."""

from __future__ import annotations

import hashlib
import pickle
from functools import cached_property
from typing import Self

import numpy as np

from ..backend.arrays import Backend
from ..backend.typing import Array

__all__ = ["OperatorValue", "read_only"]

#: What an operator is made of.
_PARAMETERS = ("psf", "shape", "factor", "binning", "photons_per_emitter", "backend")
#: What follows from that and is fixed as well.
_DERIVED = ("fine_shape", "table", "origin", "method")
#: What is kept beside both, without being part of what an operator is.
_KEPT = ("_asked_method", "memory_budget", "_tables", "_engine", "_fixed", "_agrees")


def read_only(array: Array) -> Array:
    """Make an array of the host refuse to be written to, and return it; a device's array has no such switch."""
    if isinstance(array, np.ndarray):
        array.setflags(write=False)
    return array


class OperatorValue:
    """The base of :class:`fluogan_core.Psi`: identity, copies and protection, without any computation.

    A subclass sets the attributes below, calls ``_build`` for all that follows from them, and sets ``_fixed`` there.
    """

    psf: np.ndarray
    shape: tuple[int, int]
    factor: int
    binning: str
    photons_per_emitter: float
    backend: Backend
    method: str
    memory_budget: int
    _asked_method: str

    def _build(self) -> None:
        raise NotImplementedError

    def __setattr__(self, name: str, value: object) -> None:
        if self.__dict__.get("_fixed") and (name in _PARAMETERS or name in _DERIVED or self._is_computed(name)):
            raise AttributeError(f"{name} of an operator is fixed; make another one, with psi.replaced(...) or Psi(...)")
        super().__setattr__(name, value)

    def _is_computed(self, name: str) -> bool:
        """Whether an attribute follows from the parameters; a subclass of the user may set what it computes otherwise."""
        own = OperatorValue in type(self).__bases__
        return own and isinstance(getattr(type(self), name, None), cached_property)

    def __getstate__(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in (*_PARAMETERS, "_asked_method", "memory_budget")} | self._added()

    def _added(self) -> dict[str, object]:
        """What a subclass of the user keeps beside the parameters, without cached values."""
        known = {*_PARAMETERS, *_DERIVED, *_KEPT}
        names = (name for name in self.__dict__ if name not in known)
        return {name: getattr(self, name) for name in names if not isinstance(getattr(type(self), name, None), cached_property)}

    def _of_kind(self, other: OperatorValue) -> Self:
        """Another operator's parameters with the class and the attributes of this one."""
        made = object.__new__(type(self))
        made.__setstate__(self._added() | other.__getstate__())
        return made

    @property
    def nominal(self) -> Self:
        """The operator with one PSF for the whole field that this one departs from: itself."""
        return self

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._build()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the operator, 64 hexadecimal digits: of PSF, shape, factor, binning and photons per emission.

        It is the same in every process and on every machine.  Backend, method and memory budget are not part of it: they change
        a result by rounding at most.
        """
        psf = np.ascontiguousarray(self.psf, dtype="<f8")
        made_of = ("Psi", psf.shape, self.shape, self.factor, self.binning, self.photons_per_emitter.hex())
        added = self._added()
        of_subclass = pickle.dumps((type(self).__qualname__, sorted(added.items())), protocol=4) if added else b""
        return hashlib.sha256(repr(made_of).encode() + psf.tobytes() + of_subclass).hexdigest()

    def _identity(self) -> tuple[object, ...]:
        return type(self), self.method, self.backend, self.fingerprint

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OperatorValue):
            return NotImplemented
        return self is other or self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())
