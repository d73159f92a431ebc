"""The largest singular value of an operator."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from ..backend.arrays import Backend
from ..backend.typing import Array

__all__ = ["LinearOnImages", "spectral_norm"]

#: Camera pixels up to which the operator is written out as a matrix: below some 20, Lanczos has no room for its vectors.
_DENSE = 64


class LinearOnImages(Protocol):
    """What the norm needs of an operator: :class:`fluogan_core.Psi`, for one."""

    shape: tuple[int, int]

    @property
    def backend(self) -> Backend: ...

    @property
    def axis_matrices(self) -> tuple[np.ndarray, np.ndarray] | None: ...

    def forward(self, x: Array) -> Array: ...

    def adjoint(self, y: Array) -> Array: ...


def spectral_norm(psi: LinearOnImages) -> float:
    r"""Return the largest singular value of Psi, to rounding.

    For a separable PSF, :math:`\Psi x = R x C^T`, it is the product of those of R and C.  For any other PSF, it is the root of
    the largest eigenvalue of :math:`\Psi \Psi^T` by Lanczos iterations on the camera grid, which take some 20 to 60 products
    with Psi and its adjoint.

    Parameters
    ----------
    psi : Psi

    Returns
    -------
    norm : float
        Photons per emission.
    """
    matrices = getattr(psi, "axis_matrices", None)
    if matrices is not None:
        down, across = (_largest_of_gram(matrix) for matrix in matrices)
        return math.sqrt(down * across)
    pixels, home = psi.shape[0] * psi.shape[1], psi.backend
    if pixels <= _DENSE:
        rows = home.to_host(psi.adjoint(home.asarray(np.eye(pixels).reshape(-1, *psi.shape))))
        return math.sqrt(_largest_of_gram(rows.reshape(pixels, -1)))
    from scipy.sparse.linalg import LinearOperator, eigsh

    def gram(y: np.ndarray) -> np.ndarray:
        image = home.asarray(y.reshape(psi.shape), dtype=np.float64)
        return home.to_host(psi.forward(psi.adjoint(image))).ravel()

    # Psi is non-negative, and so is its leading singular vector: ones is never orthogonal to it.
    operator = LinearOperator((pixels, pixels), matvec=gram, dtype=np.float64)
    found = eigsh(operator, k=1, which="LA", v0=np.ones(pixels), tol=1e-9, return_eigenvectors=False)
    return math.sqrt(float(found[0]))


def _largest_of_gram(matrix: np.ndarray) -> float:
    """The largest eigenvalue of ``matrix @ matrix.T``, of the square of the largest singular value."""
    from scipy.linalg import eigvalsh

    last = len(matrix) - 1
    return float(eigvalsh(matrix @ matrix.T, subset_by_index=[last, last])[0])
