"""The mean phase: it reaches the minimum, keeps the background, and takes its steps and its blur from the light."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from psfs import tiny_psf

import fluogan_core as fg
from fluogan_core.calibration.noise import StackNoise
from fluogan_core.objective.blur import GaussianKernel
from fluogan_core.objective.prox import (
    prox_step,
)
from fluogan_core.objective.reweighting import ReweightedL1
from fluogan_core.objective.terms import Objective
from fluogan_core.solvers.mean_fit import MeanPhase
from fluogan_core.solvers.weights import detail_for_snr, iterations_for_snr


def mean_phase(objective: Objective, detail: float = 0.0, **more) -> MeanPhase:
    return MeanPhase(objective, GaussianKernel(objective.psi, detail), planned=10**6, **more)


def test_mean_fit_reaches_the_joint_minimum(rng):
    psi = fg.Psi(tiny_psf(5, 0.1), (7, 6), 2)
    truth = (rng.random(psi.fine_shape) < 0.1) * 20.0
    mean = (psi.forward(truth) + 3 + rng.standard_normal(psi.shape) * 0.1).astype(np.float32)
    o = Objective(psi, mean, fidelity=1.0, sparsity=0.01, smoothness=20.0)
    fit = mean_phase(o)
    np.testing.assert_allclose(fit.b, o.best_background(0 * mean), rtol=1e-6)
    for _ in range(3000):
        fit.iterate()
    x, b = (image.astype(np.float64) for image in fit.images[1:])
    residual = o.residual(x, b)
    slope_x, slope_b = o.gradient_x(residual) + o.prior.sparsity, o.gradient_b(residual, b)
    assert np.abs(slope_x[x > 1e-3]).max() < 2e-3
    assert slope_x.min() > -2e-3
    assert np.abs(slope_b).max() < 2e-3
    # a plain, slow proximal descent on both blocks ends no lower
    reached = sum(o.terms(x, b).values())
    for _ in range(3000):
        x = prox_step(x, o.gradient_x(o.residual(x, b)), step=o.step_x, threshold=o.prior.sparsity).x
        b = o.background_step(b, o.fidelity * o.residual(x, b), o.step_b)
    assert sum(o.terms(x, b).values()) > reached - 2e-3 * reached


def test_a_fit_through_a_blur_follows_its_own_light(rng):
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (32, 32), 4)
    truth = np.zeros(psi.fine_shape, dtype=np.float32)
    truth[40:90, 60:64] = 10.0
    mean = psi.forward(truth) + 3.0 + 0.1 * rng.standard_normal(psi.shape).astype(np.float32)
    fit = mean_phase(Objective(psi, mean, sparsity=1e-3, smoothness=4.0**6, order=3), detail=0.3)
    for _ in range(200):
        fit.iterate()
    # away from the border, where nothing that the blur moves out of the field can shine back
    inside = np.s_[8:-8, 8:-8]
    (_, light, _), (ahead, light_ahead, _) = fit.acceleration.current, fit.acceleration.ahead
    np.testing.assert_allclose(light[inside], psi.forward(fit.images.x)[inside], rtol=1e-3)
    np.testing.assert_allclose(light_ahead, fit.operator.forward(ahead), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(fit.fitted, light + fit.images.b, rtol=1e-4, atol=1e-4)
    assert fit.step_size > fit.objective.step_x  # what is blurred more bends less
    # the noise alone has a norm of 0.1 sqrt(M1 M2)
    assert np.linalg.norm(fit.fitted - mean) < 1.5 * 0.1 * 32


def test_steps_that_go_with_the_image_are_safe_and_faster(rng):
    """Points on a flat background: 1200 steps with a size for every pixel come further than 2400 with one."""
    psi = fg.Psi(fg.gaussian_psf(300, 100, 3), (20, 20), 3)
    truth = (rng.random(psi.fine_shape) < 0.01) * 400.0
    mean = (psi.forward(truth) + 5 + 0.1 * rng.standard_normal(psi.shape)).astype(np.float32)
    usual = fg.Tuning().mean_phase
    never = dataclasses.replace(usual, measured=())

    def reached(steps, tuning):
        o = Objective(psi, mean, sparsity=0.01, smoothness=3.0**8, order=4, total_variation=1e-4)
        fit = MeanPhase(o, GaussianKernel(psi, 0.1), planned=steps, tuning=tuning)
        totals = [sum(o.terms(fit.acceleration.current[0], fit.b).values()) for _ in range(steps) if fit.step()]
        return fit, totals

    (fit, totals), (_, slower) = reached(1200, usual), reached(2400, never)
    assert totals[-1] < slower[-1]
    assert max(totals[300:]) < totals[0]  # nothing diverges
    # no direction bends more than 1 over the steps: x^T H x <= sum x^2 / step
    for _ in range(20):
        u = fit.step_size**0.5 * rng.standard_normal(psi.fine_shape)
        light = fit.operator.forward(u)
        assert fit.objective.fidelity * float((light * light).sum()) <= float((u * u / fit.step_size).sum())
    assert np.median(fit.step_size[truth > 0]) > 3 * np.median(fit.step_size[truth == 0])


@pytest.mark.parametrize("turn", [lambda a: a[..., ::-1, :], lambda a: a[..., ::-1], lambda a: a.swapaxes(-1, -2)])
def test_the_image_of_a_turned_mean_frame_is_the_turned_image(rng, turn):
    """Bright light: in single precision rounding errors of 1e-7 became percents."""
    psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (24, 24), 2, backend="numpy")
    truth = (rng.random(psi.fine_shape) < 0.02) * 300.0
    stack = rng.poisson(psi.forward(truth) + 5, (100, 24, 24))
    given = {"psi": psi, "camera": fg.Camera(), "options": fg.SolverOptions(method="none"), "progress": False}
    plain, turned = fg.reconstruct(stack, **given).x, fg.reconstruct(np.ascontiguousarray(turn(stack)), **given).x
    assert np.abs(turn(plain) - turned).max() < 1e-4 * plain.max()


def test_a_bar_stays_whole_where_edges_cost(rng):
    """What the total variation is for: an l1 norm alone splits a wide bar of noiseless light."""
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (24, 24), 4)
    bar = np.zeros(psi.fine_shape, dtype=np.float32)
    bar[20:76, 42:54] = 16.0
    light = psi.forward(bar) + 2.0

    def middle(weight):
        fit = mean_phase(Objective(psi, light, sparsity=0.05, smoothness=2.0**6, order=3, total_variation=weight), detail=0.15)
        for _ in range(1000):
            fit.iterate()
        profile = fit.images.x[30:66].mean(axis=0)
        return profile[47:49].min() / profile[42:54].max()

    split, whole = middle(0.0), middle(0.03)
    assert split < 0.85 < 0.98 < whole


def lit(signal: float) -> StackNoise:
    return StackNoise(variance=1.0, excess=1.0, of_mean=1.0, signal=signal, signal_to_noise=signal)


@pytest.mark.parametrize(("signal", "steps"), [(20.0, 720), (500.0, 900), (0.05, 10)])
def test_iterations_follow_the_signal_to_noise(signal, steps):
    assert iterations_for_snr(lit(signal)) == steps


@pytest.mark.parametrize(("signal", "detail"), [(1e4, 0.09), (200.0, 0.09), (50.0, 0.18), (2.0, 0.9), (0.2, 1.0), (0.0, 1.0)])
def test_dim_light_is_sought_through_a_wider_blur(signal, detail):
    assert detail_for_snr(0.09, lit(signal)) == pytest.approx(detail)


def test_no_blur_stays_none_in_any_light():
    assert detail_for_snr(0.0, lit(1e-3)) == 0.0


def test_a_wide_bar_keeps_its_background(rng):
    """The l1 penalty acts on x only: with the same weight everywhere, b absorbs the centre of the bar."""
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (32, 32), 4)
    bar = np.zeros(psi.fine_shape, dtype=np.float32)
    bar[28:100, 56:73] = 10.0
    noise = 0.2
    mean = (psi.forward(bar) + 5.0 + noise * rng.standard_normal(psi.shape)).astype(np.float32)

    def fitted(reweighted):
        unit = noise * float(psi.column_energies.max()) ** 0.5
        price = 2.0
        o = Objective(psi, mean, sparsity=price * unit, smoothness=1.7**8, order=4, total_variation=0.002 * unit)
        fit = mean_phase(o, reweighting=ReweightedL1(o, 24 * noise, 800) if reweighted else None)
        for _ in range(800):
            fit.step()
        return fit.b[12:20, 14:18].mean() - 5.0

    everywhere, where_dark = fitted(False), fitted(True)
    assert everywhere > 1.5
    assert abs(where_dark) < 0.6


def test_dim_structures_keep_their_light(rng):
    """A disc as wide as half the field, at a signal-to-noise ratio of 15, on no background: a third of it went there."""
    psi = fg.Psi(fg.gaussian_psf(300, 100, 4), (28, 28), 4, backend="numpy")
    down, across = np.mgrid[:112, :112] / 4 - 14
    x = (0.6 * (np.hypot(down, across) < 6)).astype(np.float32)
    stack = rng.poisson(psi.forward(x)[None] + 0.5, (25, 28, 28))
    options = fg.SolverOptions(method="none")
    camera = fg.Camera(noise_std=0.1)
    found = fg.reconstruct(stack, psi=psi, camera=camera, options=options, progress=False)
    light = found.x * found.psi.photons_per_emitter
    assert light.sum() == pytest.approx(x.sum(), rel=0.15)


@pytest.mark.parametrize("level", [3.0, -4.0], ids=["no bound met", "the bound met"])
def test_a_record_has_the_terms_of_the_objective(rng, level):
    psi = fg.Psi(tiny_psf(5, 0.1), (17, 16), 2)
    truth = (rng.random(psi.fine_shape) < 0.1) * 20.0
    mean = psi.forward(truth) + level + rng.standard_normal(psi.shape) * 0.1
    o = Objective(psi, mean, fidelity=0.7, sparsity=0.01, smoothness=20.0, total_variation=0.01, order=2)
    fit = mean_phase(o)
    for _ in range(5):
        record = fit.step()
        z, light, _ = fit.acceleration.current
        residual = light + fit.b - mean
        terms = o.terms(z, fit.b, residual)
        assert {name: record[name] for name in terms} == pytest.approx(terms, rel=1e-9)
        assert record["objective"] == pytest.approx(sum(terms.values()), rel=1e-9)
        assert record["residual"] == pytest.approx(np.linalg.norm(residual), rel=1e-9)
    assert (fit.b.min() == 0) == (level < 0)
    known = Objective(psi, mean, smoothness=20.0, background=np.full(psi.shape, 3.0, np.float32))
    assert mean_phase(known).step()["smoothness"] == 0.0
