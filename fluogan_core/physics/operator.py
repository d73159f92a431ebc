r"""Operators of the user's own in place of Psi: a base class that makes one of the library's operators and two methods.

A field that is lit unevenly, a PSF that changes over the field or a stack of planes is another linear map from the fine grid to
the camera.  An object that is not derived from :class:`Operator` serves as well if it has the names in
:data:`fluogan_core.physics.requirements.READS`.
"""

from __future__ import annotations

import abc
import copy
import hashlib
import inspect
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from ..backend.arrays import Backend
from ..backend.checks import trailing_shape, whole_number
from ..backend.kinds import any_kind
from ..backend.typing import Array, ArrayLike, DTypeLike
from .norm import spectral_norm
from .psi import Psi
from .value import read_only

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import LinearOperator

__all__ = ["Operator"]


#: Methods that take one array.
_MAPS = ("forward", "adjoint", "squared_forward", "squared_adjoint")


class Operator(abc.ABC):
    r"""An operator of your own, made of one of the library's.

    A subclass gives :meth:`forward` and :meth:`adjoint` in terms of :attr:`nominal`.  The rest follows from these two.  Where
    a closed form is known, override ``squared_forward`` and ``squared_adjoint`` too: the default writes the operator out as a
    sparse matrix by M1 M2 adjoints, which is slow for large fields.

    Parameters
    ----------
    nominal : Psi
        The operator that yours departs from.  Noise, bad pixels and the width of the PSF are measured with it.

    Attributes
    ----------
    nominal : Psi
    shape, fine_shape, factor, binning, psf, photons_per_emitter, backend, memory_budget
        Those of ``nominal``.  A subclass may set ``shape`` and ``fine_shape`` to others.

    Notes
    -----
    The library checks an operator once, before it computes: forward, adjoint, columns, squares and norm must agree
    (:func:`fluogan_core.testing.assert_operator`).  An operator with a ``nominal`` of another PSF or kappa is made by
    :meth:`over`, which copies all other attributes.

    Examples
    --------
    A field that is lit unevenly:

    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> class Vignetted(fg.Operator):
    ...     def __init__(self, nominal, transmission):
    ...         super().__init__(nominal)
    ...         self.transmission = transmission
    ...     def forward(self, x):
    ...         return self.nominal.forward(x) * self.transmission.astype(x.dtype)
    ...     def adjoint(self, y):
    ...         return self.nominal.adjoint(y * self.transmission.astype(y.dtype))
    >>> psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (16, 16), 2, backend="numpy")
    >>> own = Vignetted(psi, np.linspace(0.3, 1, 16)[:, None])
    >>> fg.testing.assert_operator(own)
    >>> bool(own.column_sums[8, 16] < own.column_sums[24, 16]), own.replaced(photons_per_emitter=5.0).photons_per_emitter
    (True, 5.0)
    """

    shape: tuple[int, int]
    fine_shape: tuple[int, int]

    def __init_subclass__(cls, **settings: object) -> None:
        """Let the maps of a subclass take arrays of any kind, as those of the library do."""
        super().__init_subclass__(**settings)
        for name in _MAPS:
            own = vars(cls).get(name)
            if inspect.isfunction(own) and not hasattr(own, "__wrapped__"):
                setattr(cls, name, any_kind(list(inspect.signature(own).parameters)[1])(own))

    def __init__(self, nominal: Psi) -> None:
        self.nominal = nominal
        self.shape, self.fine_shape = nominal.shape, nominal.fine_shape

    def __repr__(self) -> str:
        return f"{type(self).__name__}(over {self.nominal!r})"

    @abc.abstractmethod
    def forward(self, x: Array) -> Array:
        """Return Psi x.

        Parameters
        ----------
        x : (..., N1, N2) float32 or float64
            Expected emissions per fine pixel.

        Returns
        -------
        y : (..., M1, M2), in the dtype of x
            Expected photons per camera pixel.
        """

    @abc.abstractmethod
    def adjoint(self, y: Array) -> Array:
        """Return Psi^T y.

        Parameters
        ----------
        y : (..., M1, M2) float32 or float64

        Returns
        -------
        x : (..., N1, N2), in the dtype of y
        """

    # -- what is taken over from the nominal operator ---------------------------------------------------------------------

    @property
    def factor(self) -> int:
        """Super-resolution factor L."""
        return self.nominal.factor

    @property
    def binning(self) -> str:
        """How a camera pixel takes its fine pixels, ``"sum"`` or ``"point"``."""
        return self.nominal.binning

    @property
    def psf(self) -> np.ndarray:
        """The nominal PSF, (K1, K2) float64."""
        return self.nominal.psf

    @property
    def photons_per_emitter(self) -> float:
        """kappa, detected photons per emission."""
        return self.nominal.photons_per_emitter

    @property
    def backend(self) -> Backend:
        """Where it computes."""
        return self.nominal.backend

    @property
    def memory_budget(self) -> int:
        """Bytes that intermediates may take."""
        return self.nominal.memory_budget

    @property
    def method(self) -> str:
        """How it is computed, for reports."""
        return type(self).__name__

    @property
    def axis_matrices(self) -> None:
        """None: nothing says that it is a product of two lines."""
        return None

    def over(self, nominal: Psi) -> Self:
        """Return the same departure from another nominal operator.

        Parameters
        ----------
        nominal : Psi
            Of the same shape and factor.

        Returns
        -------
        Operator
            A copy with all attributes of this one.
        """
        made = copy.copy(self)
        for name in [name for name in vars(made) if isinstance(getattr(type(made), name, None), cached_property)]:
            del vars(made)[name]
        vars(made).pop("_agrees", None)
        made.nominal = nominal
        return made

    def replaced(
        self, *, psf: ArrayLike | None = None, photons_per_emitter: float | None = None, method: str | None = None
    ) -> Self:
        """Return the operator over a nominal one with some parameters replaced.

        Parameters
        ----------
        psf, photons_per_emitter, method
            As in :meth:`fluogan_core.Psi.replaced`.  Attributes that are operators of the library's too get brighter or dimmer
            by as much as the nominal one.

        Returns
        -------
        Operator
        """
        made = self.over(self.nominal.replaced(psf=psf, photons_per_emitter=photons_per_emitter, method=method))
        brighter = made.nominal.photons_per_emitter / self.nominal.photons_per_emitter
        for name, value in vars(self).items():
            if isinstance(value, Psi) and name != "nominal" and brighter != 1:
                setattr(made, name, value.replaced(photons_per_emitter=brighter * value.photons_per_emitter))
        return made

    def scaled(self, width: float) -> Self:
        """Return the operator over a nominal one whose PSF is ``width`` times as wide.

        Parameters
        ----------
        width : float
            As in :meth:`fluogan_core.Psi.scaled`.

        Returns
        -------
        Operator
        """
        return self if width == 1 else self.over(self.nominal.scaled(width))

    # -- what follows from forward and adjoint ------------------------------------------------------------------------------

    @cached_property
    def matrix(self) -> csr_array:
        """The operator written out, (M1 M2, N1 N2) float64 on the host, by one adjoint for each camera pixel; read-only."""
        from scipy.sparse import csr_array, vstack

        pixels, fine = self.shape[0] * self.shape[1], self.fine_shape[0] * self.fine_shape[1]
        step = max(1, self.memory_budget // (32 * fine))
        rows = []
        for start in range(0, pixels, step):
            count = min(step, pixels - start)
            lit = np.zeros((count, pixels))
            lit[np.arange(count), start + np.arange(count)] = 1.0
            images = self.adjoint(self.backend.asarray(lit.reshape(count, *self.shape)))
            dense = self.backend.to_host(images).reshape(count, fine)
            # what a transform leaves of zero is rounding
            rows.append(csr_array(np.where(np.abs(dense) > 1e-13 * np.abs(dense).max(), dense, 0.0)))
        matrix = vstack(rows, format="csr")
        for part in (matrix.data, matrix.indices, matrix.indptr):
            part.setflags(write=False)
        return matrix

    @cached_property
    def _squares(self) -> csr_array:
        return self.matrix * self.matrix

    def _through(self, matrix: csr_array, images: Array, source: tuple[int, int], target: tuple[int, int], name: str) -> Array:
        trailing_shape(images, source, name, "this operator's grid")
        host = self.backend.to_host(images).reshape(-1, source[0] * source[1])
        made = (matrix @ host.T.astype(np.float64)).T.reshape(*images.shape[:-2], *target)
        return self.backend.asarray(made, dtype=images.dtype if images.dtype == np.float64 else np.float32)

    @any_kind("x")
    def squared_forward(self, x: Array) -> Array:
        r"""Return :math:`\sum_i \Psi_{ji}^2 x_i`.

        Parameters
        ----------
        x : (..., N1, N2) array

        Returns
        -------
        y : (..., M1, M2) array
            Photons^2 per camera pixel.
        """
        return self._through(self._squares, x, self.fine_shape, self.shape, "x")

    @any_kind("y")
    def squared_adjoint(self, y: Array) -> Array:
        r"""Return :math:`\sum_j \Psi_{ji}^2 y_j`.

        Parameters
        ----------
        y : (..., M1, M2) array

        Returns
        -------
        x : (..., N1, N2) array
        """
        return self._through(self._squares.T, y, self.shape, self.fine_shape, "y")

    def column(self, index: tuple[int, int]) -> Array:
        """Return the camera image of one emission.

        Parameters
        ----------
        index : (int, int)
            Row and column of the fine pixel.

        Returns
        -------
        image : (M1, M2) float64
        """
        lit = np.zeros(self.fine_shape)
        lit[tuple(whole_number(n, "index", low=0, high=size - 1) for n, size in zip(index, self.fine_shape))] = 1.0
        return self.forward(self.backend.asarray(lit))

    @cached_property
    def column_sums(self) -> Array:
        """Photons of one emission that the field catches, (N1, N2) float64, read-only."""
        return read_only(self.adjoint(self.backend.xp.ones(self.shape, dtype=np.float64)))

    @cached_property
    def column_energies(self) -> Array:
        """Sums of squared columns, photons^2, (N1, N2) float64, read-only."""
        return read_only(self.squared_adjoint(self.backend.xp.ones(self.shape, dtype=np.float64)))

    @cached_property
    def norm(self) -> float:
        """The largest singular value, photons per emission."""
        return spectral_norm(self)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the nominal operator and of what this one makes of two random images: 64 hexadecimal digits."""
        rng = np.random.default_rng(0)
        digest = hashlib.sha256(self.nominal.fingerprint.encode())
        for function, shape in ((self.forward, self.fine_shape), (self.adjoint, self.shape)):
            seen = self.backend.to_host(function(self.backend.asarray(rng.random(shape))))
            digest.update(np.asarray(seen, dtype="<f4").tobytes())
        return digest.hexdigest()

    def as_linear_operator(self, dtype: DTypeLike = "float32") -> LinearOperator:
        """Return it as SciPy's sparse solvers take an operator (:meth:`fluogan_core.Psi.as_linear_operator`).

        Parameters
        ----------
        dtype : {"float32", "float64"}

        Returns
        -------
        operator : (M1 M2, N1 N2) scipy.sparse.linalg.LinearOperator
        """
        from .linear_operator import FlatOperator

        return FlatOperator(self, dtype)
