"""Psi as an operator of SciPy: the matrix itself, its adjoint, and what SciPy's solvers make of it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from psfs import tiny_psf
from scipy.sparse.linalg import aslinearoperator, lsmr, lsqr, svds

import fluogan_core as fg


@pytest.fixture(params=["separable", "any"])
def psi(request):
    psf = fg.gaussian_psf(200, 100, 2, truncate=2) if request.param == "separable" else tiny_psf(5, 0.1)
    return fg.Psi(psf, (7, 9), 2, photons_per_emitter=3.0)


def dense(psi):
    """The matrix by its columns, row by row of the fine grid."""
    n1, n2 = psi.fine_shape
    return np.stack([psi.backend.to_host(psi.column((i, j))).ravel() for i in range(n1) for j in range(n2)], axis=1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_are_those_of_the_matrix(psi, dtype, rng):
    operator, matrix = psi.as_linear_operator(dtype), dense(psi)
    assert operator.shape == matrix.shape
    assert operator.dtype == dtype
    close = {"rtol": 0, "atol": (2e-6 if dtype == "float32" else 1e-13) * np.abs(matrix).sum(axis=1).max()}
    x, y = rng.random((matrix.shape[1], 5)), rng.random((matrix.shape[0], 4))
    for got, expected in (
        (operator.matmat(x), matrix @ x),
        (operator.rmatmat(y), matrix.T @ y),
        (operator.matvec(x[:, 0]), matrix @ x[:, 0]),
        (operator.rmatvec(y[:, 0]), matrix.T @ y[:, 0]),
        (operator @ np.asfortranarray(x), matrix @ x),
        (operator.T @ y, matrix.T @ y),
        (operator.matvec(x[:, :1]), matrix @ x[:, :1]),
        ((2 * operator).H @ y, 2 * matrix.T @ y),
    ):
        assert isinstance(got, np.ndarray)
        assert got.dtype == dtype or got.dtype == np.float64  # a product with a Python number
        np.testing.assert_allclose(got, expected, **close)
    assert operator.matvec(x[:, 0]).dtype == operator.rmatmat(y).dtype == dtype


def test_least_squares_are_those_of_the_matrix(psi, rng):
    operator, matrix = psi.as_linear_operator("float64"), dense(psi)
    y = matrix @ rng.random(matrix.shape[1]) + rng.random(matrix.shape[0])
    damped = np.vstack([matrix, 0.3 * np.eye(matrix.shape[1])])
    expected = np.linalg.lstsq(damped, np.concatenate([y, np.zeros(matrix.shape[1])]), rcond=None)[0]
    by_lsqr = lsqr(operator, y, damp=0.3, atol=1e-12, btol=1e-12, iter_lim=2000)[0]
    by_lsmr = lsmr(operator, y, damp=0.3, atol=1e-12, btol=1e-12, maxiter=2000)[0]
    for found in (by_lsqr, by_lsmr):
        np.testing.assert_allclose(found, expected, atol=1e-7 * np.abs(expected).max())


def test_singular_values_are_those_of_the_matrix(psi):
    found = np.sort(svds(psi.as_linear_operator("float64"), k=4, return_singular_vectors=False))[::-1]
    np.testing.assert_allclose(found, np.linalg.svd(dense(psi), compute_uv=False)[:4], rtol=1e-9)
    assert found[0] == pytest.approx(psi.norm, rel=1e-9)


def test_all_columns_of_a_matrix_are_one_batch(psi, monkeypatch, rng):
    batches = []
    for name in ("forward", "adjoint"):
        plain = getattr(fg.Psi, name)
        monkeypatch.setattr(fg.Psi, name, lambda self, a, plain=plain: batches.append(a.shape) or plain(self, a))
    operator = psi.as_linear_operator()
    operator.matmat(rng.random((operator.shape[1], 32)))
    operator.rmatmat(rng.random((operator.shape[0], 32)))
    assert batches == [(32, *psi.fine_shape), (32, *psi.shape)]


def test_it_is_an_operator_of_scipy_and_can_be_sent_to_another_process(psi, rng):
    operator = psi.as_linear_operator()
    assert aslinearoperator(operator) is operator
    x = rng.random(operator.shape[1])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(operator)).matvec(x), operator.matvec(x))


def test_what_it_cannot_take_is_named(psi):
    with pytest.raises(ValueError, match="dtype must be one of 'float32', 'float64', got 'complex128'"):
        psi.as_linear_operator(complex)
    with pytest.raises(TypeError, match="Psi is real"):
        psi.as_linear_operator().matvec(np.zeros(psi.fine_shape[0] * psi.fine_shape[1], complex))
    with pytest.raises(ValueError, match="dimension mismatch"):
        psi.as_linear_operator().matvec(np.zeros(7))
    operator = psi.as_linear_operator()
    fine, camera = (np.zeros(pixels) for pixels in operator.shape[::-1])
    for products, x in (
        ((operator.matvec, operator.dot, lambda x: operator @ x, lambda x: x @ operator.T, operator.T.rmatvec), fine),
        ((operator.rmatvec, lambda x: operator.H @ x, lambda x: operator.T @ x, lambda x: x @ operator), camera),
    ):
        for product in products:
            with pytest.raises(TypeError, match="x is a masked array"):
                product(np.ma.masked_array(x))
            with pytest.raises(TypeError, match="x must be real, got dtype object"):
                product(x.astype(object))


def test_transposes_are_those_of_the_matrix(psi, rng):
    operator = psi.as_linear_operator("float64")
    dense, x, y = operator @ np.eye(operator.shape[1]), rng.random(operator.shape[1]), rng.random(operator.shape[0])
    for found, wanted in (
        (operator.T @ y, dense.T @ y),
        (operator.H @ y, dense.T @ y),
        (y @ operator, y @ dense),
        (operator.T.T @ x, dense @ x),
        ((operator.H @ operator) @ x, dense.T @ (dense @ x)),
        (pickle.loads(pickle.dumps(operator.H)) @ y, dense.T @ y),
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_a_matrix_without_columns_has_no_products(psi):
    operator = psi.as_linear_operator()
    assert (operator @ np.zeros((operator.shape[1], 0))).shape == (operator.shape[0], 0)
    assert (operator.H @ np.zeros((operator.shape[0], 0))).shape == (operator.shape[1], 0)
