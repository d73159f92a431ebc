"""The terms of (11): gradients, steps, the best background."""

from __future__ import annotations

import numpy as np
import pytest
from psfs import tiny_psf
from scipy.optimize import nnls

import fluogan_core as fg
from fluogan_core.objective.prox import (
    prox_step,
)
from fluogan_core.objective.terms import Objective, WarmStart
from fluogan_core.testing import assert_gradient


def bending(shape: tuple[int, int], order: int) -> np.ndarray:
    """The matrix of the background's penalty from forward differences, none across the border."""
    down, across = (np.diff(np.eye(n), axis=0) for n in shape)
    matrix = np.kron(down.T @ down, np.eye(shape[1])) + np.kron(np.eye(shape[0]), across.T @ across)
    return np.linalg.matrix_power(matrix, order)


@pytest.fixture(params=[1, 2, 3])
def case(request, rng):
    psi = fg.Psi(tiny_psf(5, 0.1), (7, 6), 2, photons_per_emitter=3.0)
    x, b = rng.random(psi.fine_shape), 1 + rng.random(psi.shape)
    mean = 10 * rng.random(psi.shape)
    objective = Objective(psi, mean, fidelity=1.7, sparsity=0.3, smoothness=2.5, order=request.param)
    return objective, x, b


@pytest.mark.parametrize("case", [1, 2, 3, 6], indirect=True)
def test_gradients(case):
    o, x, b = case
    assert_gradient(lambda v: o.terms(v, b)["fidelity"], lambda v: o.gradient_x(o.residual(v, b)), x)
    smooth = lambda v: o.terms(x, v)["fidelity"] + o.terms(x, v)["smoothness"]  # noqa: E731
    assert_gradient(smooth, lambda v: o.gradient_b(o.residual(x, v), v), b)


@pytest.mark.parametrize("case", [1, 2, 3, 6], indirect=True)
def test_terms_by_hand(case):
    o, x, b = case
    terms = o.terms(x, b)
    assert terms["fidelity"] == pytest.approx(0.5 * 1.7 * ((o.psi.forward(x) + b - o.mean) ** 2).sum())
    assert terms["sparsity"] == pytest.approx(0.3 * x.sum())
    # no frequency is held more than ten thousand times as stiff as the fit
    values, vectors = np.linalg.eigh(2.5 * bending(b.shape, o.order))
    stiff = vectors @ np.diag(np.minimum(values, 1e4 * 1.7)) @ vectors.T
    # polynomials as slow as what passes are free: planes from p = 2 on, then what 7 by 6 pixels allow
    row, column = (grid.ravel() for grid in np.mgrid[: b.shape[0], : b.shape[1]])
    free = [[], [row, column], [row, column, row * column, row**2]][min(o.order, 3) - 1]
    free = np.array([np.ones(b.size), *free]).T
    root = np.linalg.cholesky(stiff + 1e-9 * np.eye(b.size)).T
    away = b.ravel() - free @ np.linalg.lstsq(root @ free, root @ b.ravel(), rcond=None)[0]
    assert terms["smoothness"] == pytest.approx(0.5 * away @ stiff @ away, rel=1e-5)
    o.prior.set_sparsity(np.where(x > 0.5, 0.0, 0.7))
    assert o.terms(x, b)["sparsity"] == pytest.approx(0.7 * x[x <= 0.5].sum())


def test_a_stiff_background_is_not_charged_for_rounding_errors():
    """In float32, at the order that is the default: the stiff frequencies hold next to nothing but rounding errors."""
    psi = fg.Psi(tiny_psf(5, 0.1), (32, 32), 2)
    slow = 10 + np.cos(np.pi * (np.arange(32) + 0.5) / 32)[:, None] * np.ones((32, 32))
    o = Objective(psi, slow, smoothness=2.6**16, order=8)
    exact, rounded = (o.terms(np.zeros(psi.fine_shape), slow.astype(t))["smoothness"] for t in (np.float64, np.float32))
    assert rounded == pytest.approx(exact, abs=1e-6)
    assert exact < 1e-3


def test_safe_steps_never_raise_the_objective(case):
    o, x, b = case

    def value(x, b):
        return sum(o.terms(x, b).values())

    for _ in range(30):
        before = value(x, b)
        x = prox_step(x, o.gradient_x(o.residual(x, b)), step=o.step_x, threshold=o.prior.sparsity).x
        middle = value(x, b)
        b = o.background_step(b, o.fidelity * o.residual(x, b), o.step_b)
        assert value(x, b) <= middle * (1 + 1e-12) <= before * (1 + 1e-11)


def test_a_whole_background_step_is_the_best_background(case):
    """Of a quadratic fidelity, whose safe step reaches its minimum at once."""
    o, x, b = case
    o.mean = o.mean + 10  # nowhere near the bound
    reached = o.background_step(b, o.fidelity * o.residual(x, b), o.step_b)
    np.testing.assert_allclose(reached, o.best_background(o.psi.forward(x)), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("order", [1, 2])
def test_a_background_at_the_bound_is_the_constrained_minimiser_of_any_order(order, rng):
    """Against non-negative least squares on the stacked system, at the solver's own stiffness."""
    psi = fg.Psi(tiny_psf(5, 0.1), (9, 8), 2)
    mean = rng.standard_normal(psi.shape) + np.linspace(-2, 3, 9)[:, None]
    o = Objective(psi, mean, smoothness=4.0 ** (2 * order), order=order)
    values, vectors = np.linalg.eigh(o.smoothness * bending(psi.shape, order))
    root = vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T
    expected, _ = nnls(np.concatenate([np.eye(72), root]), np.concatenate([mean.ravel(), np.zeros(72)]))
    b = o.best_background(0 * mean)
    assert (expected == 0).any()

    def value(b):
        return 0.5 * ((b - mean) ** 2).sum() + 0.5 * ((root @ b.ravel()) ** 2).sum()

    least = value(expected.reshape(9, 8))
    free = np.linalg.solve(np.eye(72) + root @ root, mean.ravel()).reshape(9, 8)
    # what cutting the free minimiser at zero costs is what there is to gain
    assert b.min() >= 0
    assert value(b) - least < 0.05 * (value(np.maximum(free, 0)) - least)
    # and who goes on where the last call left off gets closer with every few turns
    warm = WarmStart()
    for _ in range(200):
        b = o.best_background(0 * mean, warm=warm)
    assert value(b) - least < 1e-4 * (value(np.maximum(free, 0)) - least)


@pytest.mark.parametrize("case", [1], indirect=True)
@pytest.mark.parametrize("shift", [4.0, -6.0])
def test_best_background_is_the_constrained_minimiser(case, shift):
    o, x, _ = case
    o.mean = o.mean + shift  # shifted down, part of it would be negative
    b = o.best_background(o.psi.forward(x))
    slope = o.gradient_b(o.residual(x, b), b)
    assert b.min() >= 0
    assert (b == 0).any() == (shift < 0)
    # Karush-Kuhn-Tucker: no slope where free, none downhill at the bound
    tolerance = 1e-9 if shift > 0 else 1e-3
    assert np.abs(slope[b > 0]).max() < tolerance * 10
    assert slope[b == 0].min(initial=0) > -tolerance * 10


def test_bad_input_is_named(case):
    o, _, _ = case
    with pytest.raises(ValueError, match="fidelity must be greater than 0"):
        Objective(o.psi, o.mean, fidelity=0)
    with pytest.raises(ValueError, match="mean must have shape"):
        Objective(o.psi, np.zeros((3, 3)))


def test_l1_weights_of_another_shape_are_refused(case):
    with pytest.raises(ValueError, match="sparsity must have shape"):
        case[0].prior.set_sparsity(np.ones((3, 3)))
