"""The library's prior as a proximal operator of pyproximal."""

from __future__ import annotations

from ..backend.checks import image_shape
from ..backend.typing import Array
from ._host import cupy_only_where_usable, needs
from ._proximal import Penalty

cupy_only_where_usable()
with needs("pyproximal"):
    from pyproximal import ProxOperator
    from pyproximal.ProxOperator import _check_tau

__all__ = ["SparseEdges"]


class SparseEdges(ProxOperator):
    r"""The penalty :math:`\lambda_1 \sum_i z_i + \lambda_3 \sum_c |(\nabla z)_c|` over :math:`z \ge 0`, without memory.

    Parameters
    ----------
    shape : (N1, N2)
        Of the image; vectors are images, row by row.
    sparsity, total_variation : float
        The two weights, 0 or more; either may be 0.
    tolerance : float
        Of the proximal operator, relative to the image.
    sweeps : int
        Most sweeps of its dual.

    Raises
    ------
    TypeError, ValueError
        If a number is not one, or is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from fluogan_core.interop.pyproximal import SparseEdges
    >>> edges = SparseEdges((2, 4), total_variation=1.0)
    >>> edges.prox(np.repeat([[0.0, 0.0, 4.0, 4.0]], 2, axis=0).ravel(), 1.0).reshape(2, 4).round(3)
    array([[0.25, 0.25, 3.75, 3.75],
           [0.25, 0.25, 3.75, 3.75]])
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        sparsity: float = 0.0,
        total_variation: float = 0.0,
        tolerance: float = 1e-7,
        sweeps: int = 5000,
    ) -> None:
        super().__init__(None, False)
        self.dims = image_shape(shape)
        self.penalty = Penalty(sparsity, total_variation, tolerance, sweeps)

    def __call__(self, x: Array) -> float:
        return self.penalty.value(self._image(x))

    @_check_tau
    def prox(self, x: Array, tau: float) -> Array:
        return self.penalty.prox(self._image(x), tau).ravel()

    def _image(self, x: Array) -> Array:
        (rows, columns), shape = self.dims, getattr(x, "shape", type(x).__name__)
        if shape not in ((rows * columns,), self.dims):
            raise ValueError(
                f"x must be an image of {rows} x {columns} pixels, or the vector of its {rows * columns} pixels row by row, "
                f"got {shape}"
            )
        return x.reshape(self.dims)
