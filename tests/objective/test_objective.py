"""The terms of (11): gradients, steps, the best background; and the prox operators."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import tiny_psf
from scipy.optimize import nnls

import fluogan_core as fg
from fluogan_core.calibration.noise import StackNoise
from fluogan_core.objective.blur import GaussianKernel, psf_sigma
from fluogan_core.objective.prox import (
    prox_l1_nonnegative,
    prox_nonnegative,
    prox_step,
    prox_total_variation,
    total_variation,
)
from fluogan_core.objective.reweighting import ReweightedL1, darkness
from fluogan_core.objective.terms import Objective, WarmStart
from fluogan_core.solvers.mean_fit import MeanPhase, detail_for_snr, iterations_for_snr
from fluogan_core.testing import assert_adjoint, assert_gradient, assert_prox


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
    stiff = 2.5 * bending(b.shape, o.order)
    # no frequency is held more than ten thousand times as stiff as the fit
    values, vectors = np.linalg.eigh(stiff)
    bent = np.minimum(values, 1e4 * 1.7) * (vectors.T @ b.ravel()) ** 2
    assert terms["smoothness"] == pytest.approx(0.5 * bent.sum())
    o.charge(np.where(x > 0.5, 0.0, 0.7))
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
        x = prox_step(x, o.gradient_x(o.residual(x, b)), step=o.step_x, threshold=o.sparsity).x
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
    held = WarmStart()
    for _ in range(200):
        b = o.best_background(0 * mean, held=held)
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


def test_mean_fit_reaches_the_joint_minimum(rng):
    psi = fg.Psi(tiny_psf(5, 0.1), (7, 6), 2)
    truth = (rng.random(psi.fine_shape) < 0.1) * 20.0
    mean = (psi.forward(truth) + 3 + rng.standard_normal(psi.shape) * 0.1).astype(np.float32)
    o = Objective(psi, mean, fidelity=1.0, sparsity=0.01, smoothness=20.0)
    fit = MeanPhase(o)
    np.testing.assert_array_equal(fit.b, o.best_background(0 * mean))
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
        b = o.background_step(b, o.fidelity * o.residual(x, b), o.step_b)
    assert sum(o.terms(x, b).values()) > reached - 2e-3 * reached


def test_the_sieve_is_a_symmetric_blur_of_the_stated_width():
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (32, 32), 4)
    assert psf_sigma(psi.psf) == pytest.approx(318 / 2.3548 / 25, rel=1e-3)
    sieve = GaussianKernel(psi, 0.5)
    point = np.zeros(psi.fine_shape, dtype=np.float32)
    point[64, 60] = 1.0
    spot = sieve(point).astype(np.float64)
    place = np.arange(128)
    assert spot.sum() == pytest.approx(1.0, rel=1e-5)
    for axis, centre in ((0, 64), (1, 60)):
        profile = spot.sum(axis=1 - axis)
        assert profile @ place == pytest.approx(centre, abs=1e-3)
        # cut at four standard deviations
        assert np.sqrt(profile @ (place - centre) ** 2) == pytest.approx(0.5 * psf_sigma(psi.psf), rel=5e-3)
    assert_adjoint(sieve, sieve, psi.fine_shape, psi.fine_shape, dtype=np.float32)
    np.testing.assert_array_equal(GaussianKernel(psi, 0.0)(point), point)
    assert GaussianKernel(psi, 0.0).operator is psi


@pytest.mark.parametrize("shape", [(24, 20), (10, 11)])
def test_the_sieves_operator_is_psi_after_the_blur(shape, rng):
    """Where nothing leaves the field; in a field that is no larger than the PSF, too."""
    psi = fg.Psi(fg.gaussian_psf(318, 100, 2, truncate=3), shape, 2, photons_per_emitter=3.0)
    sieve = GaussianKernel(psi, 0.3)
    z = np.zeros(psi.fine_shape)
    reach = len(sieve.taps) - 1
    z[reach:-reach, reach:-reach] = rng.random((psi.fine_shape[0] - 2 * reach, psi.fine_shape[1] - 2 * reach))
    expected = psi.forward(sieve(z))
    # both PSFs are cut at three standard deviations, where the Gaussian is exp(-4.5) = 0.011 of its peak
    np.testing.assert_allclose(sieve.operator.forward(z), expected, rtol=0.012)


def test_a_fit_through_a_sieve_follows_its_own_light(rng):
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (32, 32), 4)
    truth = np.zeros(psi.fine_shape, dtype=np.float32)
    truth[40:90, 60:64] = 10.0
    mean = psi.forward(truth) + 3.0 + 0.1 * rng.standard_normal(psi.shape).astype(np.float32)
    fit = MeanPhase(Objective(psi, mean, sparsity=1e-3, smoothness=4.0**6, order=3), detail=0.3)
    for _ in range(200):
        fit.step()
    # away from the border, where nothing that the sieve moves out of the field can shine back
    inside = np.s_[8:-8, 8:-8]
    np.testing.assert_allclose(fit.light[inside], psi.forward(fit.x)[inside], rtol=1e-3)
    np.testing.assert_allclose(fit.light_ahead, fit.operator.forward(fit.ahead), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(fit.residual, fit.light + fit.b - mean, rtol=1e-4, atol=1e-4)
    assert fit.step_size > fit.objective.step_x  # what is blurred more bends less
    # the noise alone has a norm of 0.1 sqrt(M1 M2)
    assert np.linalg.norm(fit.residual) < 1.5 * 0.1 * 32


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


def test_the_total_variation_is_the_length_of_all_edges():
    disc = np.zeros((6, 8))
    disc[2:4, 3:6] = 2.0
    # 3 + 3 + 2 + 2 pixels of edge, less what the lower right corner saves: there both differences are of one pixel
    assert total_variation(disc) == pytest.approx(2.0 * (10 - 2 + np.sqrt(2)))
    assert total_variation(np.full((5, 5), 7.0)) == 0.0


@pytest.mark.parametrize("weight", [0.05, 0.4, 3.0])
def test_the_prox_of_the_total_variation_is_optimal(rng, weight):
    """The dual that comes with it is a certificate: primal and dual value meet at the optimum and nowhere else."""
    v = rng.normal(0.5, 1.0, (11, 14))
    dual = np.zeros((2, *v.shape))
    gaps = []
    for sweeps in (0, 30, 3000):
        x = prox_total_variation(v, weight, dual=dual, sweeps=sweeps)
        assert np.hypot(*dual).max() <= 1 + 1e-12
        divergence = dual.sum(axis=0)
        divergence[1:] -= dual[0, :-1]
        divergence[:, 1:] -= dual[1, :, :-1]
        primal = 0.5 * ((x - v) ** 2).sum() + weight * total_variation(x)
        # min over x >= 0 of 1/2 ||x - v||^2 - w <x, div p>
        lower = 0.5 * (v**2).sum() - 0.5 * (np.maximum(v + weight * divergence, 0) ** 2).sum()
        gaps.append(primal - lower)
    assert gaps[0] > gaps[1] > gaps[2] >= -1e-12
    assert gaps[2] < 1e-3 * gaps[0]
    assert_prox(lambda u: prox_total_variation(u, weight, dual=np.zeros((2, *u.shape)), sweeps=20000),
                lambda u: weight * total_variation(u), v[:4, :5])  # fmt: skip


@pytest.mark.parametrize("unequal", [False, True], ids=["edges alike", "edges of their own price"])
def test_the_prox_of_the_total_variation_in_another_metric_is_optimal(rng, unequal):
    """Steps that differ by a factor of a thousand from pixel to pixel, edges by a hundred: the dual is a certificate there."""
    v, w = rng.normal(0.5, 1.0, (11, 14)), 10 ** rng.uniform(-2, 1, (11, 14))
    edges = 10 ** rng.uniform(-1, 1, v.shape) if unequal else np.ones(v.shape)
    dual, gaps = np.zeros((2, *v.shape)), []
    for sweeps in (0, 30, 20000):
        x = prox_total_variation(v, w, dual=dual, sweeps=sweeps, edges=edges if unequal else None)
        assert (np.hypot(*dual) / edges).max() <= 1 + 1e-12
        divergence = dual.sum(axis=0)
        divergence[1:] -= dual[0, :-1]
        divergence[:, 1:] -= dual[1, :, :-1]
        down, across = np.diff(x, axis=0, append=x[-1:]), np.diff(x, axis=1, append=x[:, -1:])
        primal = (0.5 * (x - v) ** 2 / w).sum() + (edges * np.hypot(down, across)).sum()
        lower = (0.5 * (v**2 - np.maximum(v + w * divergence, 0) ** 2) / w).sum()
        gaps.append(primal - lower)
    assert gaps[0] > gaps[1] > gaps[2] >= -1e-12
    assert gaps[2] < 1e-3 * gaps[0]


def test_a_metric_that_is_the_same_everywhere_is_a_number(backend, rng):
    v, dtype = backend.asarray(rng.normal(size=(9, 7)), dtype=np.float32), np.float32
    duals = [backend.asarray(np.zeros((2, 9, 7)), dtype=dtype) for _ in range(2)]
    same = backend.asarray(np.full((9, 7), 0.3), dtype=dtype)
    number, image = (prox_total_variation(v, w, dual=d, sweeps=7) for w, d in zip((0.3, same), duals))
    np.testing.assert_allclose(backend.to_host(image), backend.to_host(number), rtol=1e-5, atol=1e-6)


def test_edges_that_cost_twice_as_much_are_twice_the_weight(backend, rng):
    v, dtype = backend.asarray(rng.normal(size=(9, 7)), dtype=np.float64), np.float64
    twice, alike = (backend.asarray(np.zeros((2, 9, 7)), dtype=dtype) for _ in range(2))
    edges = backend.asarray(np.full((9, 7), 2.0), dtype=dtype)
    image = prox_total_variation(v, 0.15, dual=twice, sweeps=3000, edges=edges)
    number = prox_total_variation(v, 0.3, dual=alike, sweeps=3000)
    np.testing.assert_allclose(backend.to_host(image), backend.to_host(number), atol=1e-6)


def test_the_prox_of_the_total_variation_keeps_light_and_flattens(rng):
    v = 5 + rng.normal(size=(12, 9))
    x = prox_total_variation(v, 100.0, dual=np.zeros((2, *v.shape)), sweeps=20000)
    # where edges cost more than they can gain, the mean is the answer
    np.testing.assert_allclose(x, v.mean(), rtol=1e-3)
    bar = np.zeros((3, 20))
    bar[:, 5:15] = 4.0
    flat = prox_total_variation(bar, 0.5, dual=np.zeros((2, *bar.shape)), sweeps=20000)
    # a step of height h and width n comes out lower by 2 w / n inside, and w / m higher on either side of m pixels
    np.testing.assert_allclose(flat[:, 5:15], 4.0 - 2 * 0.5 / 10, rtol=1e-4)
    np.testing.assert_allclose(flat[:, :5], 0.5 / 5, rtol=1e-3)


def test_a_dual_that_is_handed_on_goes_on_where_it_was(backend, rng):
    v = backend.asarray(rng.normal(size=(9, 7)), dtype=np.float32)
    once, parts = (backend.asarray(np.zeros((2, 9, 7)), dtype=np.float32) for _ in range(2))
    whole = prox_total_variation(v, 0.3, dual=once, sweeps=7)
    for sweeps in (3, 4):
        x = prox_total_variation(v, 0.3, dual=parts, sweeps=sweeps, out=backend.xp.empty_like(v))
    np.testing.assert_array_equal(backend.to_host(x), backend.to_host(whole))


def test_a_bar_stays_whole_where_edges_cost(rng):
    """What the total variation is for: an l1 norm alone splits a wide bar of noiseless light."""
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (24, 24), 4)
    bar = np.zeros(psi.fine_shape, dtype=np.float32)
    bar[20:76, 42:54] = 16.0
    light = psi.forward(bar) + 2.0

    def middle(weight):
        fit = MeanPhase(Objective(psi, light, sparsity=0.05, smoothness=2.0**6, order=3, total_variation=weight), detail=0.15)
        for _ in range(1000):
            fit.step()
        profile = fit.x[30:66].mean(axis=0)
        return profile[47:49].min() / profile[42:54].max()

    split, whole = middle(0.0), middle(0.03)
    assert split < 0.85 < 0.98 < whole


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
    dual = np.zeros((2, *b.shape), dtype=b.dtype)
    with pytest.raises(ValueError, match="weight must be greater than 0"):
        prox_total_variation(b, 0.0, dual=dual, sweeps=1)
    for wrong in (np.ones(3, b.dtype), np.zeros(b.shape, b.dtype), np.ones(b.shape, int)):
        with pytest.raises(ValueError, match="weight must be one number above 0 or"):
            prox_total_variation(b, wrong, dual=dual, sweeps=1)
        with pytest.raises(ValueError, match=r"edges must be numbers above 0, \(.*\) of them of float64"):
            prox_total_variation(b, 1.0, dual=dual, sweeps=1, edges=wrong)
    with pytest.raises(ValueError, match=r"dual must be \(2, "):
        prox_total_variation(b, 1.0, dual=dual[:, 1:], sweeps=1)
    with pytest.raises(TypeError, match=r"v must be an image \(N1, N2\) of float32 or float64"):
        prox_total_variation(dual, 1.0, dual=dual, sweeps=1)


def test_public_checks_catch_what_is_wrong(rng):
    a = rng.standard_normal((4, 3))
    assert_adjoint(lambda v: a @ v, lambda v: a.T @ v, (3,), (4,))
    with pytest.raises(AssertionError, match="apart"):
        assert_adjoint(lambda v: a @ v, lambda v: 1.001 * a.T @ v, (3,), (4,))
    with pytest.raises(AssertionError, match="gradient says"):
        assert_gradient(lambda v: float((v**2).sum()), lambda v: v, rng.standard_normal(3))


def lit(signal: float) -> StackNoise:
    return StackNoise(variance=1.0, excess=1.0, of_mean=1.0, signal=signal, signal_to_noise=signal)


@pytest.mark.parametrize(("signal", "steps"), [(20.0, 600), (500.0, 3000), (0.2, 10)])
def test_a_stack_deserves_steps_by_its_light(signal, steps):
    assert iterations_for_snr(lit(signal)) == steps


@pytest.mark.parametrize(("signal", "detail"), [(1e4, 0.09), (200.0, 0.09), (50.0, 0.18), (2.0, 0.9), (0.2, 1.0), (0.0, 1.0)])
def test_dim_light_is_sought_through_a_wider_blur(signal, detail):
    assert detail_for_snr(0.09, lit(signal)) == pytest.approx(detail)


def test_no_blur_stays_none_in_any_light():
    assert detail_for_snr(0.0, lit(1e-3)) == 0.0


# -- what light costs where ---------------------------------------------------------------------------------------------


def test_what_shines_is_not_charged_and_what_is_dark_is():
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (24, 24), 4, photons_per_emitter=3.0)
    x = np.zeros(psi.fine_shape, dtype=np.float32)
    x[:, 40:56:4] = 2.0  # a filled body that came out as ridges
    dim = np.zeros_like(x)
    dim[:, :4] = 0.002
    light = psi.forward(x)
    weights = darkness(x + dim, Objective(psi, light), noise=0.25)
    assert weights.dtype == np.float32
    assert weights.shape == x.shape
    assert weights[24:-24, 40:53].max() < 0.03  # the gaps between the ridges too
    assert weights[:, 80:].min() > 0.99
    assert weights[:, :4].min() > 0.99
    # lit is what shines with 24 times the noise, whatever an emission is worth
    at = np.full(psi.fine_shape, 24 * 0.25 / 16 / 3.0, dtype=np.float32)
    assert darkness(at, Objective(psi, light), noise=0.25)[48, 48] == pytest.approx(0.5, rel=1e-3)


def test_a_skirt_that_the_blur_gives_is_not_lit():
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (32, 32), 4)
    line = np.zeros(psi.fine_shape, dtype=np.float32)
    line[16:112, 62:66] = 1e3  # far above any noise, as is its blur 10 fine pixels beside it
    weights = darkness(line, Objective(psi, psi.forward(line)), noise=1e-2)
    assert weights[40:88, 62:66].max() < 0.02
    assert weights[40:88, 74:].min() > 0.5
    # beside it a dimmer body is still one: judged by the light around it, not by the brightest of the field
    line[16:112, 94:98] = 3e2
    assert darkness(line, Objective(psi, psi.forward(line)), noise=1e-2)[40:88, 94:98].max() < 0.05


def test_the_price_is_an_eighth_until_it_is_known_what_is_lit():
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (24, 24), 4)
    o = Objective(psi, np.zeros(psi.shape), sparsity=0.8)
    charge, dark = ReweightedL1(o, noise=1.0, steps=100), np.zeros(psi.fine_shape, dtype=np.float32)
    assert o.sparsity == pytest.approx(0.1)
    assert charge.renewals == {25, 50}
    charge.renew(dark)
    np.testing.assert_allclose(o.sparsity, np.full(psi.fine_shape, 0.8), rtol=1e-6)
    charge.renew(dark + 1e3)
    assert o.sparsity.max() < 1e-2
    assert charge.settled == 50
    for sparsity, steps in ((0.0, 100), (0.8, 0)):  # nothing to ask, or nobody to ask it of
        o.charge(sparsity)
        assert ReweightedL1(o, noise=1.0, steps=steps).settled == 0


def test_a_wide_bar_keeps_its_background(rng):
    """Light in x has a price and light in b has none: charged everywhere, the l1 norm hollows the bar."""
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (32, 32), 4)
    bar = np.zeros(psi.fine_shape, dtype=np.float32)
    bar[28:100, 56:73] = 10.0
    noise = 0.2
    mean = (psi.forward(bar) + 5.0 + noise * rng.standard_normal(psi.shape)).astype(np.float32)

    def fitted(reweighted):
        unit = noise * float(psi.column_energies.max()) ** 0.5
        price = 2.0
        o = Objective(psi, mean, sparsity=price * unit, smoothness=1.7**8, order=4, total_variation=0.002 * unit)
        fit = MeanPhase(o)
        charge = ReweightedL1(o, noise, 800) if reweighted else None
        for step in range(800):
            fit.step()
            if charge is not None and step + 1 in charge.renewals:
                charge.renew(fit.x)
                fit.start_anew()
        return fit.b[12:20, 14:18].mean() - 5.0

    everywhere, where_dark = fitted(False), fitted(True)
    assert everywhere > 1.5
    assert abs(where_dark) < 0.6


def test_a_charge_of_another_shape_is_refused(case):
    with pytest.raises(ValueError, match="sparsity must have shape"):
        case[0].charge(np.ones((3, 3)))
