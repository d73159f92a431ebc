r""":math:`\Psi` as an operator of pylops."""

from __future__ import annotations

import numpy as np

from ..backend.arrays import backend_of
from ..backend.checks import floating_dtype, one_of, refuse_masked
from ..backend.typing import Array, DTypeLike
from ..physics.psi import Psi
from ..physics.requirements import usable
from ._host import cupy_only_where_usable, needs

cupy_only_where_usable()
with needs("pylops"):
    from pylops import LinearOperator

__all__ = ["PsiOperator"]


class PsiOperator(LinearOperator):
    r""":math:`\Psi` between flattened images, as the solvers of pylops and pyproximal take an operator.

    Parameters
    ----------
    psi : Psi
        Arrays live on its backend: NumPy or CuPy.
    dtype : {"float32", "float64"}
        In which products are computed and returned.

    Raises
    ------
    TypeError
        If ``psi`` is no operator; from products, for vectors that are masked or do not hold real numbers.
    ValueError
        If ``dtype`` is another one, or ``psi`` does not agree with itself.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> from fluogan_core.interop.pylops import PsiOperator
    >>> operator = PsiOperator(fg.Psi(fg.gaussian_psf(318, 100, 2), (16, 16), 2, backend="numpy"))
    >>> operator.shape, operator.dims, operator.dimsd
    ((256, 1024), (32, 32), (16, 16))
    """

    def __init__(self, psi: Psi, dtype: DTypeLike = "float32") -> None:
        name, psi = one_of(np.dtype(dtype).name, "dtype", ("float32", "float64")), usable(psi, "adapter to another toolkit")
        super().__init__(dtype=np.dtype(name), dims=psi.fine_shape, dimsd=psi.shape)
        self.psi = psi

    def _batch(self, columns: Array, shape: tuple[int, int]) -> Array:
        """The columns of a matrix as images in the dtype of the computation."""
        home = backend_of(x=columns)
        refuse_masked(columns, "x")
        if columns.dtype.kind == "c":
            raise TypeError("Psi is real: apply it to the real and to the imaginary part")
        floating_dtype(columns, "x")
        return home.xp.ascontiguousarray(columns.T, dtype=self.dtype).reshape(columns.shape[1], *shape)

    def _matmat(self, X: Array) -> Array:
        return self.psi.forward(self._batch(X, self.psi.fine_shape)).reshape(X.shape[1], self.shape[0]).T

    def _rmatmat(self, X: Array) -> Array:
        return self.psi.adjoint(self._batch(X, self.psi.shape)).reshape(X.shape[1], self.shape[1]).T

    def _matvec(self, x: Array) -> Array:
        return self._matmat(x.reshape(-1, 1)).ravel()

    def _rmatvec(self, x: Array) -> Array:
        return self._rmatmat(x.reshape(-1, 1)).ravel()
