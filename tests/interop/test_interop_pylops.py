"""Psi as an operator of pylops, and the prior as one of pyproximal: against those packages' own checks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hosts import assert_nearly_prox, need
from psfs import tiny_psf

import fluogan_core as fg
from fluogan_core.objective.fista import Acceleration
from fluogan_core.objective.prior import SparseEdges as OwnPrior
from fluogan_core.tuning import DEFAULT

need("pylops", "pyproximal")

import pylops  # noqa: E402
import pyproximal  # noqa: E402

from fluogan_core.interop.pylops import PsiOperator  # noqa: E402
from fluogan_core.interop.pyproximal import SparseEdges  # noqa: E402


@pytest.fixture
def psi() -> fg.Psi:
    return fg.Psi(tiny_psf(skew=0.1), (8, 7), 2, photons_per_emitter=3.0, backend="numpy")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_the_dot_test_of_pylops(psi, dtype, tolerance):
    operator = PsiOperator(psi, dtype)
    assert pylops.utils.dottest(operator, rtol=tolerance)
    assert (operator @ np.ones(operator.dims)).dtype == dtype


def test_a_matrix_is_one_batch(psi, rng, monkeypatch):
    operator, columns = PsiOperator(psi, "float64"), rng.random((psi.fine_shape[0] * psi.fine_shape[1], 6))
    wanted = np.stack([operator.matvec(column) for column in columns.T], axis=1)
    calls = []
    real = fg.Psi.forward
    monkeypatch.setattr(fg.Psi, "forward", lambda self, x: calls.append(len(x)) or real(self, x))
    np.testing.assert_allclose(operator.matmat(columns), wanted, rtol=1e-12)
    assert calls == [6]
    np.testing.assert_allclose(operator.todense() @ columns, wanted, rtol=1e-9)


def test_complex_vectors_and_other_dtypes_are_refused(psi):
    with pytest.raises(TypeError, match="Psi is real"):
        PsiOperator(psi).matvec(np.zeros(psi.fine_shape[0] * psi.fine_shape[1], complex))
    with pytest.raises(ValueError, match="dtype must be one of"):
        PsiOperator(psi, "int32")
    with pytest.raises(TypeError, match=r"adapter to another toolkit reads shape, .* of an operator, which int does not have"):
        PsiOperator(3)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (np.ma.masked_array, "x is a masked array"),
        (lambda x: x.astype(object), "x must be real, got dtype object"),
        (torch.from_numpy, "x must be a NumPy or CuPy array, got Tensor"),
    ],
)
def test_vectors_that_would_be_misread_are_refused(psi, spoil, message):
    operator = PsiOperator(psi)
    for product, pixels in ((operator, operator.shape[1]), (operator.H, operator.shape[0])):
        with pytest.raises(TypeError, match=message):
            product @ spoil(np.zeros(pixels))


def test_a_matrix_without_columns_has_no_products(psi):
    operator = PsiOperator(psi)
    assert operator.matmat(np.zeros((operator.shape[1], 0))).shape == (operator.shape[0], 0)
    assert operator.rmatmat(np.zeros((operator.shape[0], 0))).shape == (operator.shape[1], 0)


def test_a_sparse_inversion_finds_two_spots():
    psi = fg.Psi(fg.gaussian_psf(200, 100, 2, truncate=3), (16, 16), 2, backend="numpy")
    x = np.zeros(psi.fine_shape)
    x[10, 10], x[20, 18] = 50.0, 80.0
    operator = PsiOperator(psi, "float64")
    found = pylops.optimization.sparsity.fista(operator, psi.forward(x).ravel(), niter=300, eps=0.1, tol=0)[0].reshape(x.shape)
    assert set(map(tuple, np.argwhere(found > 0.5 * found.max()))) <= {(10, 10), (20, 18)}
    assert np.linalg.norm(psi.forward(found - x)) < 0.02 * np.linalg.norm(psi.forward(x))


def test_fista_of_pyproximal_and_that_of_the_library_take_the_same_steps(rng):
    psi = fg.Psi(fg.gaussian_psf(200, 100, 2, truncate=3), (8, 8), 2, backend="numpy")
    truth = np.zeros(psi.fine_shape)
    truth[4:12, 5] = 40.0
    y = psi.forward(truth) + rng.normal(size=psi.shape)
    weights, step, steps = {"sparsity": 0.5, "total_variation": 0.5}, 1 / psi.norm**2, 150
    theirs = pyproximal.optimization.primal.ProximalGradient(
        pyproximal.L2(PsiOperator(psi, "float64"), y.ravel()),
        SparseEdges(psi.fine_shape, **weights, tolerance=1e-8),
        x0=np.zeros(truth.size),
        tau=step,
        niter=steps,
        acceleration="fista",
    ).reshape(truth.shape)

    own = OwnPrior(psi.fine_shape, psi.backend, **weights, tuning=dataclasses.replace(DEFAULT.objective, dual_iterations=1000))
    own.dual = np.zeros((4, *psi.fine_shape))
    objective, b = fg.Objective(psi, y, prior=own), np.zeros(psi.shape)
    images = Acceleration(np.zeros(psi.fine_shape))
    for _ in range(steps):
        (ahead,) = images.ahead
        new = own.step(ahead, objective.gradient_x(objective.residual(ahead, b)), step).x
        images.advance(new)
    ours = images.current[0]
    assert ours.max() > 10
    assert np.linalg.norm(theirs - ours) <= 1e-5 * np.linalg.norm(ours)
    values = [sum(objective.terms(image, b).values()) for image in (theirs, ours)]
    assert values[0] == pytest.approx(values[1], rel=1e-7)


def test_the_proximal_operator_has_no_memory_and_is_one(rng):
    edges = SparseEdges((6, 5), sparsity=0.3, total_variation=0.7)
    v, other = rng.normal(size=30), 9 * rng.normal(size=30)
    first = edges.prox(v, 0.5)
    edges.prox(other, 2.0)
    assert np.array_equal(edges.prox(v, 0.5), first)
    assert_nearly_prox(lambda image: edges.prox(image, 1.0), edges, v)


def test_an_image_of_another_shape_is_refused_though_it_has_as_many_pixels(rng):
    edges, image = SparseEdges((6, 5), total_variation=0.7), rng.normal(size=(6, 5))
    assert np.array_equal(edges.prox(image, 0.5), edges.prox(image.ravel(), 0.5))
    for wrong in (image.T, image.ravel()[1:], image[None], image.tolist()):
        for call in (lambda x: edges.prox(x, 0.5), edges):
            with pytest.raises(ValueError, match=r"x must be an image of 6 x 5 pixels, or the vector of its 30 pixels"):
                call(wrong)


@pytest.mark.parametrize(("weights", "wanted"), [({}, [0, 2]), ({"sparsity": 0.5}, [0, 1.5])])
def test_weights_may_be_zero(weights, wanted):
    assert SparseEdges((1, 2), **weights).prox(np.array([-1.0, 2.0]), 1.0).tolist() == wanted
