"""The largest singular value of an operator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..backend.arrays import Backend
from ..backend.typing import Array

__all__ = ["LinearOnImages", "spectral_norm"]

#: Camera pixels up to which the operator is written out as a matrix: below some 20, Lanczos has no room for its vectors.
_DENSE = 64
#: The eigenvector is found where its residual, relative to the eigenvalue, is below this.  The eigenvalue's error is the square
#: of that over the gap to the next one: rounding.
_RESIDUAL = 1e-7
#: Steps with the preconditioner before Lanczos takes over.  PSFs that blur take 5 to 12 (tests/physics/test_norm.py).
_STEPS = 25


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
    the largest eigenvalue of :math:`\Psi \Psi^T` on the camera grid.  That matrix is nearly a convolution, which sines nearly
    diagonalise: conjugate gradients on the Rayleigh quotient, with sines as preconditioner (LOBPCG, Knyazev 2001), take 5 to
    12 products with Psi and its adjoint whatever the size of the field.  Operators without a table, and PSFs that blur in one
    direction only, take 20 to 120 Lanczos iterations.

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

    def gram(y: np.ndarray) -> np.ndarray:
        image = home.asarray(y.reshape(psi.shape), dtype=np.float64)
        return home.to_host(psi.forward(psi.adjoint(image))).ravel()

    # Psi is non-negative, and so is its leading singular vector: one that is positive everywhere is never orthogonal to it.
    start = np.outer(*(np.sin(np.pi * np.arange(1, size + 1) / (size + 1)) for size in psi.shape)).ravel()
    table = getattr(psi, "table", None)
    if table is not None:
        value, settled = _ascended(gram, _sine_preconditioner(table, psi.shape), start)
        if settled:
            return math.sqrt(value)
    from scipy.sparse.linalg import LinearOperator, eigsh

    operator = LinearOperator((pixels, pixels), matvec=gram, dtype=np.float64)
    found = eigsh(operator, k=1, which="LA", v0=start, tol=_RESIDUAL, return_eigenvectors=False)
    return math.sqrt(float(found[0]))


def _largest_of_gram(matrix: np.ndarray) -> float:
    """The largest eigenvalue of ``matrix @ matrix.T``, of the square of the largest singular value."""
    from scipy.linalg import eigvalsh

    last = len(matrix) - 1
    return float(eigvalsh(matrix @ matrix.T, subset_by_index=[last, last])[0])


def _sine_preconditioner(table: np.ndarray, shape: tuple[int, int]) -> Callable[[np.ndarray], np.ndarray]:
    r"""The inverse of :math:`\lambda - \Psi \Psi^T` as if sines diagonalised it, for a lambda above all its eigenvalues."""
    from scipy.fft import dstn, idstn

    sizes = tuple(2 * taps - 1 for taps in table.shape[2:])
    power = (np.abs(np.fft.rfft2(table, sizes)) ** 2).sum(axis=(0, 1))
    kernel = np.fft.fftshift(np.fft.irfft2(power, sizes))  # of the convolution that Psi Psi^T is far from the border
    down, across = (
        np.cos(np.pi / (size + 1) * np.outer(np.arange(1, size + 1), np.arange(lags) - lags // 2))
        for size, lags in zip(shape, sizes)
    )
    eigenvalues = down @ kernel @ across.T
    second, first = np.sort(eigenvalues, axis=None)[-2:]
    # a tenth of the gap above the largest; where there is none, enough to divide by
    distance = first - eigenvalues + max(0.1 * (first - second), 1e-6 * first)
    return lambda y: idstn(dstn(y.reshape(shape), type=1) / distance, type=1).ravel()


def _ascended(
    gram: Callable[[np.ndarray], np.ndarray], precondition: Callable[[np.ndarray], np.ndarray], start: np.ndarray
) -> tuple[float, bool]:
    """Maximise the Rayleigh quotient: its value, and whether it is an eigenvalue.

    Each step takes the best vector of the space of the current one, its preconditioned residual, and the last step.
    """
    basis = start[:, None] / np.linalg.norm(start)
    images = gram(basis[:, 0])[:, None]
    for _ in range(_STEPS):
        vector, image = basis[:, 0], images[:, 0]
        value = float(vector @ image)
        residual = image - value * vector
        if np.linalg.norm(residual) <= _RESIDUAL * value:
            return value, True
        further = precondition(residual / value)
        further -= (vector @ further) * vector
        further /= np.linalg.norm(further)
        basis = np.column_stack([basis, further])
        images = np.column_stack([images, gram(further)])
        orthonormal, factors = np.linalg.qr(basis)
        images = np.linalg.solve(factors.T, images.T).T
        best = np.linalg.eigh(orthonormal.T @ images)[1][:, -1]
        step = best.copy()
        step[0] = 0.0
        step /= np.linalg.norm(step)
        mixing = np.stack([best, step], axis=1)
        basis, images = orthonormal @ mixing, images @ mixing
    return value, False
