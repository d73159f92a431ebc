"""Psi between flattened images, as the sparse solvers of SciPy take an operator."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ..backend.arrays import Backend
from ..backend.checks import one_of, refuse_masked
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

    Raises
    ------
    ValueError
        If ``dtype`` is another one.
    """

    def __init__(self, psi: OnImages, dtype: DTypeLike = "float32") -> None:
        name = one_of(np.dtype(dtype).name, "dtype", ("float32", "float64"))
        super().__init__(np.dtype(name), (psi.shape[0] * psi.shape[1], psi.fine_shape[0] * psi.fine_shape[1]))
        self.psi = psi

    def _images(self, columns: np.ndarray, shape: tuple[int, int]) -> Array:
        """The columns of a matrix as images on the operator's device, in the dtype of the computation."""
        refuse_masked(columns, "x")
        if np.iscomplexobj(columns):
            raise TypeError("Psi is real: apply it to the real and to the imaginary part")
        rows = np.ascontiguousarray(columns.T, dtype=self.dtype)
        return self.psi.backend.asarray(rows.reshape(-1, *shape))

    def _columns(self, images: Array) -> np.ndarray:
        host = self.psi.backend.to_host(images)
        return host.reshape(len(host), -1).T

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._columns(self.psi.forward(self._images(X, self.psi.fine_shape)))

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self._columns(self.psi.adjoint(self._images(X, self.psi.shape)))

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._matmat(x.reshape(-1, 1))

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        return self._rmatmat(x.reshape(-1, 1))
