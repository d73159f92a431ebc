"""Psi between flattened images, as the sparse solvers of SciPy take an operator."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ..backend.arrays import Backend
from ..backend.checks import floating_dtype, one_of, refuse_masked
from ..backend.typing import Array, DTypeLike

__all__ = ["FlatOperator"]


class OnImages(Protocol):
    """What is needed of an operator: :class:`fluogan_core.Psi`, for one."""

    shape: tuple[int, int]
    fine_shape: tuple[int, int]

    @property
    def backend(self) -> Backend: ...

    def forward(self, x: Array) -> Array: ...

    def adjoint(self, y: Array) -> Array: ...


class FlatOperator(LinearOperator):
    """The matrix of an operator, (M1 M2, N1 N2), that is never written out.

    Images are flattened row by row.  Several columns are transformed as one batch.

    Parameters
    ----------
    psi : Psi
    dtype : {"float32", "float64"} or dtype
        In which products are computed and returned.
    transposed : bool
        Whether it is the transposed matrix.

    Raises
    ------
    TypeError
        From products, for vectors that are masked or do not hold real numbers.
    ValueError
        If ``dtype`` is another one.
    """

    def __init__(self, psi: OnImages, dtype: DTypeLike = "float32", *, transposed: bool = False) -> None:
        name = one_of(np.dtype(dtype).name, "dtype", ("float32", "float64"))
        shape = (psi.shape[0] * psi.shape[1], psi.fine_shape[0] * psi.fine_shape[1])
        super().__init__(np.dtype(name), shape[::-1] if transposed else shape)
        self.psi, self.transposed = psi, transposed

    def _product(self, columns: np.ndarray, adjoint: bool) -> np.ndarray:
        """The product with all columns of a matrix, as one batch of images on the operator's device."""
        refuse_masked(columns, "x")
        if np.iscomplexobj(columns):
            raise TypeError("Psi is real: apply it to the real and to the imaginary part")
        floating_dtype(columns, "x")
        psi, count = self.psi, columns.shape[1]
        apply, shape = (psi.adjoint, psi.shape) if adjoint else (psi.forward, psi.fine_shape)
        rows = np.ascontiguousarray(columns.T, dtype=self.dtype).reshape(count, *shape)
        found = psi.backend.to_host(apply(psi.backend.asarray(rows)))
        return found.reshape(count, found.shape[1] * found.shape[2]).T

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._product(X, self.transposed)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self._product(X, not self.transposed)

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._matmat(x.reshape(-1, 1))

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        return self._rmatmat(x.reshape(-1, 1))

    # SciPy's own transposes, and its operator @, would take masks off before they are seen here

    def _adjoint(self) -> FlatOperator:
        return FlatOperator(self.psi, self.dtype, transposed=not self.transposed)

    _transpose = _adjoint

    def dot(self, x: object) -> object:
        """Return the product with a vector, a matrix, a number or another operator."""
        refuse_masked(x, "x")
        return super().dot(x)

    def __rmatmul__(self, other: Any) -> Any:
        refuse_masked(other, "x")
        return super().__rmatmul__(other)
