"""The terms of (11): gradients, steps, the best background; and the prox operators."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import tiny_psf

import fluogan_core as fg
from fluogan_core.mean_fit import MeanFit
from fluogan_core.objective import Objective, gradient_energy, laplacian
from fluogan_core.prox import prox_l1_nonnegative, prox_nonnegative, prox_step
from fluogan_core.testing import assert_adjoint, assert_gradient, assert_prox


@pytest.fixture
def case(rng):
    psi = fg.Psi(tiny_psf(5, 0.1), (7, 6), 2, photons_per_emitter=3.0)
    x, b = rng.random(psi.fine_shape), 1 + rng.random(psi.shape)
    objective = Objective(psi, 10 * rng.random(psi.shape), fidelity=1.7, sparsity=0.3, smoothness=2.5)
    return objective, x, b


def test_gradients(case):
    o, x, b = case
    assert_gradient(lambda v: o.terms(v, b)["fidelity"], lambda v: o.gradient_x(o.residual(v, b)), x)
    smooth = lambda v: o.terms(x, v)["fidelity"] + o.terms(x, v)["smoothness"]  # noqa: E731
    assert_gradient(smooth, lambda v: o.gradient_b(o.residual(x, v), v), b)
    assert_gradient(lambda v: 0.5 * gradient_energy(v), laplacian, b)


def test_the_laplacian_is_symmetric_and_below_eight():
    assert_adjoint(laplacian, laplacian, (5, 6), (5, 6))
    eye = np.eye(30).reshape(30, 5, 6)
    matrix = np.stack([laplacian(e) for e in eye]).reshape(30, 30)
    assert np.linalg.eigvalsh(matrix).max() < 8


def test_terms_by_hand(case):
    o, x, b = case
    terms = o.terms(x, b)
    assert terms["fidelity"] == pytest.approx(0.5 * 1.7 * ((o.psi.forward(x) + b - o.mean) ** 2).sum())
    assert terms["sparsity"] == pytest.approx(0.3 * x.sum())
    assert terms["smoothness"] == pytest.approx(0.5 * 2.5 * ((np.diff(b, axis=0) ** 2).sum() + (np.diff(b, axis=1) ** 2).sum()))


def test_safe_steps_never_raise_the_objective(case):
    o, x, b = case

    def value(x, b):
        return sum(o.terms(x, b).values())

    for _ in range(30):
        before = value(x, b)
        x = prox_step(x, o.gradient_x(o.residual(x, b)), step=o.step_x, threshold=o.sparsity).x
        middle = value(x, b)
        b = prox_step(b, o.gradient_b(o.residual(x, b), b), step=o.step_b).x
        assert value(x, b) <= middle * (1 + 1e-12) <= before * (1 + 1e-11)


@pytest.mark.parametrize("shift", [4.0, -6.0])
def test_best_background_is_the_constrained_minimiser(case, shift):
    o, x, _ = case
    o.mean = o.mean + shift  # shifted down, part of it would be negative
    b = o.best_background(x)
    slope = o.gradient_b(o.residual(x, b), b)
    assert b.min() >= 0
    assert (b == 0).any() == (shift < 0)
    # Karush-Kuhn-Tucker: no slope where free, none downhill at the bound
    tolerance = 1e-9 if shift > 0 else 1e-3
    assert np.abs(slope[b > 0]).max() < tolerance * 10
    assert slope[b == 0].min(initial=0) > -tolerance * 10


def test_mean_fit_reaches_the_joint_minimum(rng):
    psi = fg.Psi(tiny_psf(5, 0.1), (7, 6), 2)
    truth = (rng.random(psi.fine_shape) < 0.1) * 20.0
    mean = (psi.forward(truth) + 3 + rng.standard_normal(psi.shape) * 0.1).astype(np.float32)
    o = Objective(psi, mean, fidelity=1.0, sparsity=0.01, smoothness=20.0)
    fit = MeanFit(o)
    for _ in range(3000):
        fit.step()
    x, b = fit.x.astype(np.float64), fit.b.astype(np.float64)
    residual = o.residual(x, b)
    slope_x, slope_b = o.gradient_x(residual) + o.sparsity, o.gradient_b(residual, b)
    assert np.abs(slope_x[x > 1e-3]).max() < 2e-3
    assert slope_x.min() > -2e-3
    assert np.abs(slope_b).max() < 2e-3
    # a plain, slow proximal descent on both blocks ends no lower
    reached = sum(o.terms(x, b).values())
    for _ in range(3000):
        x = prox_step(x, o.gradient_x(o.residual(x, b)), step=o.step_x, threshold=o.sparsity).x
        b = prox_step(b, o.gradient_b(o.residual(x, b), b), step=o.step_b).x
    assert sum(o.terms(x, b).values()) > reached - 2e-3 * reached


def test_prox_operators_are_optimal(rng):
    v = 3 * rng.standard_normal((4, 5))
    assert_prox(prox_nonnegative, lambda u: 0.0, v)
    assert_prox(lambda u: prox_l1_nonnegative(u, 0.7), lambda u: 0.7 * np.abs(u).sum(), v)
    with pytest.raises(AssertionError, match="better"):
        assert_prox(lambda u: prox_l1_nonnegative(u, 0.5), lambda u: 0.7 * np.abs(u).sum(), v)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_prox_step_is_the_prox_of_the_gradient_step(backend, rng, dtype):
    x, grad = (backend.asarray(rng.standard_normal((6, 7)), dtype=dtype) for _ in range(2))
    x = abs(x)
    taken = prox_step(x, grad, step=0.3, threshold=0.2)
    expected = prox_l1_nonnegative(x - 0.3 * grad, 0.3 * 0.2)
    host = backend.to_host
    np.testing.assert_allclose(host(taken.x), host(expected), rtol=1e-6, atol=1e-7)
    assert taken.x.dtype == dtype
    assert taken.change == pytest.approx(float(np.linalg.norm(host(taken.x) - host(x))), rel=1e-5)
    assert taken.size == pytest.approx(float(np.linalg.norm(host(taken.x))), rel=1e-5)
    assert taken.total == pytest.approx(float(host(taken.x).sum()), rel=1e-5)
    same = prox_step(x, grad, step=0.3, threshold=0.2, out=x)
    assert same.x is x
    np.testing.assert_array_equal(host(x), host(taken.x))


def test_bad_input_is_named(case):
    o, _, b = case
    with pytest.raises(ValueError, match="fidelity must be greater than 0"):
        Objective(o.psi, o.mean, fidelity=0)
    with pytest.raises(ValueError, match="mean must have shape"):
        Objective(o.psi, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="one shape"):
        prox_step(b, b[1:], step=1.0)
    with pytest.raises(TypeError, match="float32 or float64"):
        prox_step(b.astype(int), b, step=1.0)


def test_public_checks_catch_what_is_wrong(rng):
    a = rng.standard_normal((4, 3))
    assert_adjoint(lambda v: a @ v, lambda v: a.T @ v, (3,), (4,))
    with pytest.raises(AssertionError, match="apart"):
        assert_adjoint(lambda v: a @ v, lambda v: 1.001 * a.T @ v, (3,), (4,))
    with pytest.raises(AssertionError, match="gradient says"):
        assert_gradient(lambda v: float((v**2).sum()), lambda v: v, rng.standard_normal(3))
