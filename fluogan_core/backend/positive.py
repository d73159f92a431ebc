"""Inverses and whitening by positive definite matrices: by Cholesky factors on a CPU, the least work."""

from __future__ import annotations

import numpy as np

from .arrays import Backend
from .typing import Array

__all__ = ["inverses", "whitened"]


def inverses(matrices: Array, backend: Backend) -> Array:
    """Return the inverses of positive definite matrices.

    Parameters
    ----------
    matrices : (B, n, n) float64
        Symmetric.
    backend : Backend

    Returns
    -------
    (B, n, n) float64
        Symmetric.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a matrix is not positive definite (on a card: if it is singular).

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.backend.positive import inverses
    >>> inverses(np.array([[[4.0, 2.0], [2.0, 5.0]]]), fg.get_backend("numpy"))
    array([[[ 0.3125, -0.125 ],
            [-0.125 ,  0.25  ]]])
    """
    if backend.cuda is not None:
        with backend.linalg_raises():
            return backend.xp.linalg.inv(matrices)
    from scipy.linalg.lapack import dpotri

    found = np.linalg.cholesky(matrices)  # lower factors by rows: upper ones by columns, as LAPACK has them
    for factor in found:
        inverse, failed = dpotri(factor.T, lower=0, overwrite_c=1)
        if failed:
            raise np.linalg.LinAlgError("Singular matrix")
        factor[...] = inverse.T
    below, beside = np.tril_indices(found.shape[1], -1)
    found[:, beside, below] = found[:, below, beside]
    return found


def whitened(covariance: Array, values: Array, backend: Backend) -> tuple[Array, float]:
    """Return values in coordinates in which a covariance is the unit matrix, and half the logarithm of its determinant.

    Parameters
    ----------
    covariance : (n, n) float64
    values : (n, S) float64
    backend : Backend

    Returns
    -------
    values : (n, S) float64
    half_log_determinant : float

    Raises
    ------
    numpy.linalg.LinAlgError
        If the covariance is not positive definite.
    """
    xp = backend.xp
    with backend.linalg_raises():
        factor = xp.linalg.cholesky(covariance)
        if backend.cuda is not None:
            found = xp.linalg.solve(factor, values)
        else:
            from scipy.linalg import solve_triangular

            found = solve_triangular(factor, values, lower=True, check_finite=False)
    return found, float(xp.log(xp.diagonal(factor)).sum())
