"""The witness of mean and covariance, its fit: the critic's equations, adjoints, resumed runs, what it wins."""

from __future__ import annotations

import dataclasses
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.critics.quadratic import QuadraticCritic
from fluogan_core.objective.prox import edge_lengths
from fluogan_core.physics import covariance as pair_products
from fluogan_core.physics.covariance import parts_of
from fluogan_core.solvers import covariance_fit as moment_fit
from fluogan_core.solvers.covariance_fit import CovariancePhase
from fluogan_core.solvers.history import QUANTITIES
from fluogan_core.solvers.solver import Solver


def scene(shape=(6, 5), factor=2, kappa=3.0, frames=60, seed=0, psf=None):
    """A rough image, its model in photons, and frames of it."""
    rng = np.random.default_rng(seed)
    psf = fg.gaussian_psf(200, 100, factor, truncate=2) if psf is None else psf
    psi = fg.Psi(psf, shape, factor, photons_per_emitter=kappa, backend="numpy")
    model = fg.ForwardModel(psi, noise_std=0.7)
    x = rng.random(psi.fine_shape).astype(np.float32)
    b = (1 + rng.random(shape)).astype(np.float32)
    return model, x, b, model.sample(x, b, frames, seed)


def witness_of(model, frames, **more):
    return QuadraticCritic(frames, model, frames.mean(axis=0), **more)


def moments(model, x, b):
    """Mean and covariance by columns: one emission after the other."""
    fine = model.psi.fine_shape
    columns = np.stack([model.psi.column(i).ravel() for i in np.ndindex(*fine)], axis=1)
    mean = columns @ x.ravel().astype(np.float64) + b.ravel()
    return mean, np.diag(mean + model.noise_std**2) + (columns * x.ravel()) @ columns.T, columns


# -- the critic -------------------------------------------------------------------------------------------------------


def test_the_slope_is_eq_12_summed_over_the_photons_of_one_more_emission():
    """-slope_i = E[D(Y + P(C_i)) - D(Y)], the two frames that D compares each counted, by summing over all counts."""
    model, x, b, frames = scene(shape=(2, 2), factor=2, kappa=1.0, psf=np.ones((3, 3)))
    witness = witness_of(model, frames)
    witness.believe(x * 1.5, b)
    (tile,) = witness.tiles
    mean, covariance, columns = moments(model, x, b)
    w = tile.weight.astype(np.float64)
    linear = -w @ (mean - frames.mean(axis=0).ravel())
    quadratic = -w @ (covariance - tile.recorded) @ w
    most = 10  # more than nine photons where at most one is expected: less than 1e-6
    counts = np.array(list(itertools.product(range(most), repeat=4)))
    factorials = np.array([math.factorial(k) for k in range(most)], dtype=np.float64)
    change = counts @ linear + 0.5 * ((counts @ quadratic) * counts).sum(axis=1)
    expected = []
    for column in columns.T:
        weights = np.prod(column**counts * np.exp(-column) / factorials[counts], axis=1)
        assert weights.sum() == pytest.approx(1, abs=1e-6)
        expected.append(weights @ change)
    slope_x, slope_b = witness.slope(x, b)
    np.testing.assert_allclose(-slope_x.ravel(), expected, rtol=2e-4, atol=2e-5 * np.abs(expected).max())
    # one more photon of the background: D(y + e_j) - D(y)
    np.testing.assert_allclose(-slope_b.ravel(), linear + 0.5 * np.diag(quadratic), rtol=2e-4, atol=2e-5)


def test_flicker_that_is_not_as_predicted_is_measured():
    """Photons per emission four times too many, emissions four times too few: a quarter of the covariance that is predicted."""
    model, x, b, frames = scene(kappa=30.0, frames=4000)
    psi = fg.Psi(model.psi.psf, model.psi.shape, model.psi.factor, photons_per_emitter=120.0, backend="numpy")
    wrong, right = witness_of(fg.ForwardModel(psi, noise_std=0.7), frames), witness_of(model, frames)
    wrong.measure_flicker(x / 4, b)
    right.measure_flicker(x, b)
    assert wrong.flicker == pytest.approx(0.25, rel=0.05)
    assert right.flicker == pytest.approx(1.0, rel=0.05)
    # what it then predicts is what the right model does, and its slope that of its value
    for witness, at in ((wrong, x / 4), (right, x)):
        witness.believe(at, b)
    assert sum(wrong.value(x / 5, b)) == pytest.approx(sum(right.value(x / 1.25, b)), rel=0.05)
    slope, _ = wrong.slope(x / 5, b)
    ahead, behind = (sum(wrong.value(x * np.float32(f / 5), b)) for f in (1.01, 0.99))
    assert float((slope * x / 5).sum()) * 0.02 == pytest.approx(ahead - behind, rel=2e-2)


def test_no_quadratic_critic_does_better(rng):
    model, x, b, frames = scene()
    witness = witness_of(model, frames)
    witness.believe(x * 0.5, b)
    (tile,) = witness.tiles
    mean, covariance, _ = moments(model, x, b)
    values, vectors = np.linalg.eigh(tile.weight.astype(np.float64))
    root = (vectors * np.sqrt(values)) @ vectors.T

    def told(v, m):
        """E[D recorded] - E[D simulated] less the penalty."""
        apart = v @ root @ (frames.mean(axis=0).ravel() - mean) + 0.5 * np.trace(root @ m @ root @ (tile.recorded - covariance))
        return apart - 0.5 * (v @ v) - 0.25 * (m * m).sum()

    v = -root @ (mean - frames.mean(axis=0).ravel())
    m = -root @ (covariance - tile.recorded) @ root
    best = told(v, m)
    assert sum(witness.value(x, b)) == pytest.approx(best, rel=1e-4)
    for size in (1e-2, 1.0):
        for _ in range(20):
            other = rng.standard_normal(m.shape)
            assert told(v + size * rng.standard_normal(v.shape), m + size * (other + other.T)) < best


@pytest.mark.parametrize("psf", [None, np.array([[0, 1, 0], [1, 3, 2], [0, 1, 1.0]])], ids=["separable", "any"])
@pytest.mark.parametrize("block", [16, 3])
def test_the_slope_is_the_values_derivative(psf, block, rng):
    """The value is quadratic: central differences are exact but for rounding, 1e-7 of the value over the step."""
    model, x, b, frames = scene(psf=psf)
    witness = witness_of(model, frames, block=block)
    witness.believe(x, b)
    assert len(witness.tiles) == (1 if block == 16 else 4)
    slope_x, slope_b = witness.slope(x, b)
    dx, db = rng.standard_normal(x.shape).astype(np.float32), rng.standard_normal(b.shape).astype(np.float32)
    ahead, behind = (sum(witness.value(x + sign * dx, b + sign * db)) for sign in (1, -1))
    expected = float((slope_x * dx).sum() + (slope_b * db).sum())
    assert (ahead - behind) / 2 == pytest.approx(expected, rel=1e-3, abs=1e-5 * (ahead + behind))


def test_the_curvature_is_the_slopes_derivative_but_for_shot_noise():
    """Along one pixel at a time, and where an emission brings many photons."""
    model, x, b, frames = scene(kappa=300.0)
    witness = witness_of(model, frames)
    witness.believe(x, b)
    curvature, of_b = witness.curvature(x)
    zero_x, zero_b = witness.slope(0 * x, 0 * b)
    for at in ((0, 0), (3, 4), (7, 9), (11, 2)):
        unit = np.zeros_like(x)
        unit[at] = 1.0
        exact = (witness.slope(unit, 0 * b)[0] - zero_x)[at]
        assert curvature[at] == pytest.approx(exact, rel=0.25)
    unit = np.zeros_like(b)
    unit[2, 2] = 1.0
    assert (witness.slope(0 * x, unit)[1] - zero_b)[2, 2] <= of_b * 1.001


def test_a_few_steps_reach_what_many_do(monkeypatch):
    """Dark and bright pixels have steps of their own length, so that the phase settles well before it ends."""
    psi, _, _, stack = blinking()
    solver = Solver(stack[:300], psi=psi, camera=CAMERA, options=dataclasses.replace(SMALL, steps=30))
    monkeypatch.setattr(moment_fit, "_SETTLED", 0.0)
    made = {}
    while solver.phase != "done":
        solver.step()
        made[solver.critic_phase_steps] = solver.x
    start, last = made[0], made[30]
    assert np.linalg.norm(last - start) > 0.2 * np.linalg.norm(last)
    assert np.linalg.norm(made[10] - last) < 0.1 * np.linalg.norm(last - start)


@pytest.mark.parametrize(("shape", "block"), [((9, 7), 5), ((20, 11), 4), ((5, 30), 2)])
def test_pairs_by_spectra_are_those_by_lines_and_both_pull_as_their_adjoints(shape, block, rng):
    model, x, _, frames = scene(shape=shape)
    separable = witness_of(model, frames, block=block)
    model.psi.__dict__["axis_matrices"] = None  # as if the PSF were no product
    dense = witness_of(model, frames, block=block)
    assert [tile.camera for tile in sorted_tiles(dense)] == [tile.camera for tile in separable.tiles]
    quadratics = {str(tile.camera): rng.standard_normal(tile.recorded.shape).astype(np.float32) for tile in dense.tiles}
    pulled = []
    for witness in (separable, dense):
        pairs = [pair for part in witness.parts for pair in part.pairs(x[part.fine])]
        mine = [quadratics[str(tile.camera)] for tile in witness.tiles]
        pulled.append(witness._pulled(mine))
        told = sum(float((pair * quadratic).sum()) for pair, quadratic in zip(pairs, mine, strict=True))
        assert told == pytest.approx(float((x * pulled[-1]).sum()), rel=1e-3, abs=1e-3)
    np.testing.assert_allclose(pulled[0], pulled[1], rtol=1e-4, atol=1e-4 * np.abs(pulled[0]).max())


def sorted_tiles(witness):
    return sorted(witness.tiles, key=lambda tile: (tile.camera[0].start, tile.camera[1].start))


@pytest.mark.parametrize(("factor", "binning"), [(1, "sum"), (2, "sum"), (3, "point")])
@pytest.mark.parametrize("at_once", [5, 10, 64])
def test_pairs_of_any_psf_are_the_dense_formulas(factor, binning, at_once, rng, monkeypatch):
    """Lop-sided PSFs, in parts of one tile, of some, and in one part of all."""
    monkeypatch.setattr(pair_products, "_AT_ONCE", at_once)
    psi = fg.Psi(rng.random((7, 11)), (17, 22), factor, binning=binning, photons_per_emitter=3.0, backend="numpy")
    x = rng.standard_normal(psi.fine_shape).astype(np.float32)  # steps run ahead of x, and may leave the positive
    columns = psi.adjoint(np.eye(17 * 22).reshape(-1, 17, 22)).reshape(17 * 22, -1)
    dense = ((columns * x.ravel()) @ columns.T).reshape(17, 22, 17, 22)
    parts = parts_of(psi, 5)
    assert len(parts) == {5: 20, 10: 6, 64: 1}[at_once]
    covered = np.zeros(psi.shape)
    for part in parts:
        for (rows, cols), pairs in zip(part.cameras, part.pairs(x[part.fine]), strict=True):
            covered[rows, cols] += 1
            expected = dense[rows, cols][:, :, rows, cols].reshape(pairs.shape)
            np.testing.assert_allclose(pairs, expected, rtol=0, atol=2e-6 * np.abs(dense).max())
        sizes = [(rows.stop - rows.start) * (cols.stop - cols.start) for rows, cols in part.cameras]
        quadratics = [rng.standard_normal((size, size)).astype(np.float32) for size in sizes]
        expected = 0
        for (rows, cols), quadratic in zip(part.cameras, quadratics):
            own = columns.reshape(17, 22, -1)[rows, cols].reshape(len(quadratic), -1)
            expected = expected + ((quadratic @ own) * own).sum(axis=0).reshape(psi.fine_shape)
        seen = expected[part.fine].copy()
        np.testing.assert_allclose(part.pull(quadratics), seen, rtol=0, atol=1e-5 * np.abs(seen).max())
        expected[part.fine] = 0  # and nothing reaches these tiles from elsewhere
        assert np.abs(expected).max() < 1e-12
    assert (covered == 1).all()


def test_fidelity_weighs_the_mean_against_covariances():
    model, _, _, frames = scene(shape=(12, 12), kappa=20.0, frames=200)
    fits = {}
    for fidelity in (1 / 30, 1.0, 30.0):
        options = fg.SolverOptions(warm_steps=100, steps=8, fidelity=fidelity)
        solver = Solver(frames, psi=model.psi, camera=fg.Camera(1.0, 0.0, 0.7), options=options)
        solver.run(progress=False)
        fits[fidelity] = solver.moment_fit
    of_covariance = [fit.witness.value(fit.x, fit.b)[1] for fit in fits.values()]
    assert of_covariance[0] < of_covariance[1] < of_covariance[2]


def test_the_log_density_is_a_gaussians():
    from scipy.stats import multivariate_normal

    model, x, b, frames = scene()
    mean, covariance, _ = moments(model, x, b)
    on = np.arange(len(mean))
    covariance[on, on] += 1e-3 * np.diag(covariance).mean()  # what keeps dark pixels from outweighing all others
    expected = multivariate_normal(mean, covariance).logpdf(frames.reshape(len(frames), -1)) / len(mean)
    found = witness_of(model, frames).log_density(frames, x, b)
    np.testing.assert_allclose(found - 0.5 * math.log(2 * math.pi), expected, rtol=1e-4)


def test_bleaching_is_not_taken_for_flicker():
    model, _, _, frames = scene(frames=400, kappa=1.0)
    fading = frames * np.linspace(1.5, 0.5, len(frames), dtype=np.float32)[:, None, None]
    plain = np.cov(fading.reshape(len(fading), -1).T)
    (tile,) = witness_of(model, fading).tiles
    level = frames.mean(axis=0).ravel()
    trend = np.outer(level, level) / 12  # the variance of a line from 1.5 to 0.5
    assert np.trace(plain) > 0.8 * np.trace(trend)
    # 16 chunks leave a sixteenth of the line in each, and a 256th of its variance
    assert np.trace(tile.recorded) < np.trace(plain) - 0.9 * np.trace(trend)


# -- the fit ----------------------------------------------------------------------------------------------------------


def blinking(shape=(14, 14), frames=300, kappa=20.0, seed=1):
    """Four lines of rare, bright emissions over a background that a fit of the mean cannot tell from them."""
    pattern = fg.argolight_pattern((120.0,), pixel_size_nm=100, factor=4, shape=shape, outer_nm=450, margin_nm=200)
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4, truncate=4), shape, 4, photons_per_emitter=kappa, backend="numpy")
    x, b = (pattern.x * (2.0 / kappa)).astype(np.float32), np.full(shape, 0.2, np.float32)
    model = fg.ForwardModel(psi, gain=CAMERA.gain, noise_std=CAMERA.noise_std)
    return psi, x, b, model.sample(x, b, 2 * frames, seed=seed) + np.float32(CAMERA.offset)


CAMERA = fg.Camera(gain=2.0, offset=100.0, noise_std=0.5)
SMALL = fg.SolverOptions(method="moments", steps=5, warm_steps=60, tolerance=0.0)


def test_covariances_tell_background_from_light_and_predict_unseen_frames():
    """On every recording a little of what the mean fit lacks of the truth, on four a fifth, and most of the background."""
    lacks, off = [], []
    for seed in (1, 2, 3, 4):
        psi, x, b, stack = blinking(seed=seed)
        options = dataclasses.replace(SMALL, warm_steps=None, steps=40)
        result = fg.reconstruct(stack[:300], psi=psi, camera=CAMERA, options=options, progress=False)
        model = fg.ForwardModel(psi, gain=CAMERA.gain, noise_std=CAMERA.noise_std)
        unseen = stack[300:] - np.float32(CAMERA.offset)
        images = ((x, b), (result.x_mean_fit, result.b_mean_fit), (result.x, result.b))
        true, fit, full = (fg.metrics.held_out_score(unseen, model, *pair).log_density for pair in images)
        assert full > fit, seed
        lacks.append((true - fit, true - full))
        off.append([np.abs(found - b).mean() for found in (result.b_mean_fit, result.b)])
        assert off[-1][1] < 0.7 * off[-1][0], seed
        assert min(result.x.min(), result.b.min()) >= 0
    of_fit, of_full = np.sum(lacks, axis=0)
    assert of_full < 0.8 * of_fit
    of_fit, of_full = np.sum(off, axis=0)
    assert of_full < 0.4 * of_fit


def test_edges_are_dear_where_the_mean_fit_has_drawn_none(monkeypatch):
    monkeypatch.setattr(CovariancePhase, "flicker_share", 0.5)
    psi, x, b, stack = blinking(frames=60)
    solver = Solver(stack, psi=psi, camera=CAMERA, options=SMALL)
    fit, drawn = solver.moment_fit, np.zeros_like(x)
    drawn[20:36, 20:30], drawn[20:36, 40:44] = 0.4, 0.02
    fit.start(drawn, b)
    price, most, least = fit.image_step.edges, 9 * 0.75**2, max(1.0, 9 * 0.75**8)
    assert most > 5 * least
    np.testing.assert_allclose([price[0, 0], price[28, 25]], most, rtol=1e-5)
    step = np.abs(np.diff(fit.x[28]))[29]  # x is z through the sieve
    brightness = (fit.x**2).sum() / fit.x.sum()
    assert price[28, 29] == pytest.approx(max(least, most / (1 + (4 * step / brightness) ** 2)), rel=1e-4)
    assert least <= price[28, 29] < 0.4 * most
    assert price[28, 43] > 0.8 * most  # a tenth of the step that halves it
    monkeypatch.setattr(CovariancePhase, "flicker_share", 1.0)  # what the mean shows are single molecules
    fit.start(drawn, b)
    np.testing.assert_array_equal(fit.image_step.edges, 9.0)
    monkeypatch.undo()
    fit.start(0 * drawn, b)  # no light, and no flicker to speak of
    np.testing.assert_array_equal(fit.image_step.edges, 1.0)


@pytest.mark.parametrize("stop_after", [30, 61, 63])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, stop_after):
    psi, _, _, stack = blinking(frames=40)
    whole = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=SMALL, progress=False)
    path = tmp_path / "checkpoint.pt"

    class Killed(Exception):
        pass

    def kill(solver, record):
        if solver.steps_done == stop_after:
            raise Killed

    go = {"psi": psi, "camera": CAMERA, "options": SMALL, "checkpoint": path, "progress": False}
    with pytest.raises(Killed):
        fg.reconstruct(stack, callback=kill, **go)
    resumed = fg.reconstruct(stack, resume=True, **go)
    assert resumed.x.tobytes() == whole.x.tobytes()
    assert resumed.b.tobytes() == whole.b.tobytes()
    for name in set(QUANTITIES) - {"seconds"}:
        np.testing.assert_array_equal(resumed.history[name], whole.history[name])
    second = whole.history["phase"] == 1
    assert second.sum() == 5
    for name in (
        "fidelity",
        "adversarial",
        "sparsity",
        "total_variation",
        "smoothness",
        "w_train",
        "w_held_out",
        "change_x",
        "step_x",
    ):
        assert np.isfinite(whole.history[name][second]).all(), name


def test_a_finished_run_can_go_further(tmp_path):
    psi, _, _, stack = blinking(frames=40)
    go = {"psi": psi, "camera": CAMERA, "checkpoint": tmp_path / "c.pt", "progress": False}
    fg.reconstruct(stack, options=dataclasses.replace(SMALL, steps=3), **go)
    further = fg.reconstruct(stack, options=SMALL, resume=True, **go)
    whole = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=SMALL, progress=False)
    assert further.x.tobytes() == whole.x.tobytes()


def test_what_predicts_unseen_frames_clearly_worse_is_left():
    psi, _, _, stack = blinking(frames=60)
    solver = Solver(stack, psi=psi, camera=CAMERA, options=dataclasses.replace(SMALL, steps=1))
    while solver.phase != "done":
        solver.step()
    gain, error = solver.moment_fit.gain_over(solver.x_mean_fit, solver.b_mean_fit)
    assert gain > -2 * error
    np.testing.assert_array_equal(solver.result().x, solver.moment_fit.x)
    solver.moment_fit.x = 2 * solver.moment_fit.x  # twice the light, twice the flicker
    assert solver.moment_fit.gain_over(solver.x_mean_fit, solver.b_mean_fit)[0] < -2 * error
    solver._finish_critic("all {} steps taken")
    kept = solver.result()
    np.testing.assert_array_equal(kept.x, kept.x_mean_fit)
    np.testing.assert_array_equal(kept.b, kept.b_mean_fit)
    assert kept.stop_reason.endswith("and left: the fit of the mean predicts unseen frames better")


def test_between_two_looks_the_recorded_objective_falls():
    """It is what the steps descend on, unequal prices of edges included."""
    psi, _, _, stack = blinking()
    solver = Solver(stack, psi=psi, camera=CAMERA, options=dataclasses.replace(SMALL, steps=8))
    while solver.phase != "done":
        solver.step()
    h, fit = solver.history.arrays(), solver.moment_fit
    assert fit.image_step.edges.max() > 2
    priced = solver.objective.total_variation * (fit.image_step.edges * edge_lengths(fit.z)).sum(dtype=np.float64)
    assert h["total_variation"][-1] == pytest.approx(priced, rel=1e-6)
    of_one_look = h["objective"][h["phase"] == 1][4:8]  # looks at 0, 1, 2, 4, 8
    assert of_one_look[-1] < of_one_look[0]
    assert np.diff(of_one_look).max() < 1e-4 * abs(of_one_look[0])


def test_without_light_the_phase_is_left_out():
    psi, _, _, stack = blinking(frames=60)
    dark = np.full_like(stack, CAMERA.offset) + np.random.default_rng(0).normal(0, 0.5, stack.shape).astype(np.float32)
    dark += 20  # a background, and not a molecule
    result = fg.reconstruct(dark, psi=psi, camera=CAMERA, options=dataclasses.replace(SMALL, sparsity=1e3), progress=False)
    assert result.x.max() == 0
    assert result.stop_reason.endswith("critic: left out, there is no light in x")


def test_too_few_frames_beside_the_held_out_ones_are_refused():
    psi, _, _, stack = blinking(frames=60)
    with pytest.raises(ValueError, match=r"held_out=0.5 leaves 1 of 2: lower held_out"):
        fg.reconstruct(stack[:2], psi=psi, camera=CAMERA, options=dataclasses.replace(SMALL, held_out=0.5), progress=False)


def test_where_light_hardly_flickers_covariances_are_left_out(tmp_path):
    """One photon per emission: the phase is not begun, more steps do not change that, and a resumed run says so too."""
    psi, x, b, _ = blinking(frames=60)
    single = fg.Psi(psi.psf, psi.shape, psi.factor, backend="numpy")
    model = fg.ForwardModel(single, gain=CAMERA.gain, noise_std=CAMERA.noise_std)
    stack = model.sample(20 * x, b, 120, seed=3) + np.float32(CAMERA.offset)
    go = {"psi": single, "camera": CAMERA, "checkpoint": tmp_path / "c.pt", "progress": False}
    result = fg.reconstruct(stack, options=SMALL, **go)
    assert "critic: left out, flicker makes" in result.stop_reason
    assert (result.history["phase"] == 0).all()
    np.testing.assert_array_equal(result.x, result.x_mean_fit)
    again = fg.reconstruct(stack, options=dataclasses.replace(SMALL, steps=9), resume=True, **go)
    assert again.stop_reason == result.stop_reason
    assert again.x.tobytes() == result.x.tobytes()


def test_the_share_of_flicker_is_the_variances(rng):
    model, x, b, frames = scene(kappa=7.0)
    witness = witness_of(model, frames, block=3)
    _, covariance, _ = moments(model, x, 0 * b)
    light = model.psi.forward(x)
    on_diagonal = np.diag(covariance) - model.noise_std**2
    assert witness.flicker_share(x) == pytest.approx(1 - light.sum() / on_diagonal.sum(), rel=1e-4)
    witness.flicker = np.float32(0.0)
    assert witness.flicker_share(x) == 0
    assert math.isnan(witness.flicker_share(0 * x))


def test_the_phase_ends_where_it_changes_nothing_any_more(tmp_path, monkeypatch):
    monkeypatch.setattr(moment_fit, "_SETTLED", 0.05)
    psi, _, _, stack = blinking()
    go = {"psi": psi, "camera": CAMERA, "checkpoint": tmp_path / "c.pt", "progress": False}
    result = fg.reconstruct(stack[:300], options=dataclasses.replace(SMALL, steps=40), **go)
    steps = int((result.history["phase"] == 1).sum())
    assert steps in (5, 9, 17, 33)  # right after the witness has looked anew
    assert f"critic: settled after {steps} steps" in result.stop_reason
    again = fg.reconstruct(stack[:300], options=dataclasses.replace(SMALL, steps=60), resume=True, **go)
    assert again.stop_reason == result.stop_reason
    assert len(again.history["phase"]) == len(result.history["phase"])


def test_what_has_no_hope_is_ended_early(monkeypatch):
    psi, _, _, stack = blinking(frames=60)
    monkeypatch.setattr(moment_fit, "_SETTLED", 0.0)
    monkeypatch.setattr(moment_fit.CovariancePhase, "gain_over", lambda fit, x, b: (-5.1, 1.0))
    result = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=dataclasses.replace(SMALL, steps=40), progress=False)
    assert "critic: ended after 9 steps, and left: the fit of the mean" in result.stop_reason
    np.testing.assert_array_equal(result.x, result.x_mean_fit)


def test_no_network_is_loaded_and_none_is_taken(tmp_path):
    code = (
        "import sys, numpy as np, fluogan_core as fg\n"
        "psi = fg.Psi(np.ones((3, 3)), (8, 8), 2, backend='numpy')\n"
        "stack = np.random.default_rng(0).poisson(9, (20, 8, 8))\n"
        "options = fg.SolverOptions(method='moments', steps=1, warm_steps=2)\n"
        "fg.reconstruct(stack, psi=psi, camera=fg.Camera(), options=options)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    psi, _, _, stack = blinking(frames=10)
    with pytest.raises(ValueError, match="method='moments' trains no network"):
        Solver(stack, psi=psi, camera=CAMERA, options=SMALL, critic=fg.Critic(psi.shape))
