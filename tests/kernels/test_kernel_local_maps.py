"""Local maps by kernels and by array code, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_sets import CUDA, NUMBA, kernel_set

import fluogan_core as fg
from fluogan_core.backend.products import ONE_THREAD, product
from fluogan_core.kernels.cpu import local_maps
from fluogan_core.physics.local_maps import Separable, Stencil


@pytest.fixture(params=["array code", NUMBA[0], *CUDA])
def backend(request, monkeypatch):
    if request.param == "array code":
        monkeypatch.setattr(fg.Backend, "kernel", lambda backend, name: None)
        return fg.get_backend("numpy")
    return kernel_set(request.param).backend


def test_a_separable_map_is_two_matrix_products(backend, rng):
    matrices = [np.triu(np.tril(rng.random(shape), 4), -2) for shape in ((7, 9), (12, 10))]
    matrices[0][3] = 0
    found = Separable(*matrices, backend)
    x, y = (rng.standard_normal(shape).astype(np.float32) for shape in ((9, 10), (7, 12)))
    forward, adjoint = (backend.to_host(f(backend.asarray(v))) for f, v in ((found.forward, x), (found.adjoint, y)))
    np.testing.assert_allclose(forward, matrices[0] @ x @ matrices[1].T, rtol=0, atol=1e-5)
    np.testing.assert_allclose(adjoint, matrices[0].T @ y @ matrices[1], rtol=0, atol=1e-5)


def test_a_banded_map_of_more_than_a_block(backend, rng):
    rows, columns = (np.triu(np.tril(rng.random((n, n)), 3), -3) for n in (70, 45))
    x = rng.standard_normal((70, 45)).astype(np.float32)
    found = backend.to_host(Separable(rows, columns, backend).forward(backend.asarray(x)))
    np.testing.assert_allclose(found, rows @ x @ columns.T, rtol=0, atol=2e-5)


@pytest.mark.parametrize("columns", [[-2, -1, 0, 1, 2], [0, 1, 3, 4, 6], [3, 4, 5, 6, 7], [0, 0, 2, 2, 5]])
def test_a_stencil_is_its_sum_and_its_adjoint(backend, columns, rng):
    rows, shape = np.array([-1, 0, 2, 4]), (5, 8)
    values = rng.standard_normal((4, 3, 2, 5)).astype(np.float32)
    dense = np.zeros((4, 5, *shape))
    for i, a, b, j in np.ndindex(values.shape):
        r, c = rows[i] + a, columns[j] + b
        if 0 <= r < shape[0] and 0 <= c < shape[1]:
            dense[i, j, r, c] += values[i, a, b, j]
    found = Stencil(backend.asarray(values), rows, np.array(columns), shape, backend)
    x, y = (rng.standard_normal(size).astype(np.float32) for size in (shape, (4, 5)))
    forward, adjoint = (backend.to_host(f(backend.asarray(v))) for f, v in ((found.forward, x), (found.adjoint, y)))
    np.testing.assert_allclose(forward, np.tensordot(dense, x, 2), rtol=0, atol=1e-5)
    np.testing.assert_allclose(adjoint, np.tensordot(y, dense, 2), rtol=0, atol=1e-5)


def test_kernels_refuse_to_read_beyond_an_image():
    image = np.zeros((4, 4), np.float32)
    with pytest.raises(ValueError, match="do not fit an image of 4 rows"):
        local_maps.banded(np.array([3]), np.ones((1, 2), np.float32), image)
    for call in (local_maps.stencil, lambda *most: local_maps.stencil_adjoint(*most, image.shape)):
        with pytest.raises(ValueError, match="does not fit 4 pixels"):
            call(np.zeros((1, 1, 2, 4), np.float32), np.array([0]), np.arange(4), image)


@pytest.mark.parametrize(("left", "right"), [((3, 70, 90), (90, 110)), ((300, 400), (2, 400, 5)), ((2, 9, 70000), (70000, 3))])
def test_products_in_pieces_are_products(left, right, rng):
    assert left[-2] * left[-1] * right[-1] > ONE_THREAD
    a, b = rng.standard_normal(left), rng.standard_normal(right)
    np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-9, atol=1e-9 * left[-1])
