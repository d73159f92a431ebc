"""The covariance phase: what it wins over the mean fit, when it ends, resumed runs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from scenes import scene

import fluogan_core as fg
from fluogan_core.objective.prox import edge_lengths
from fluogan_core.solvers.covariance_fit import CovariancePhase
from fluogan_core.solvers.frame_critics import FrameCritics
from fluogan_core.solvers.history import QUANTITIES
from fluogan_core.solvers.phase import Images, StopReason
from fluogan_core.solvers.solver import Solver
from fluogan_core.tuning import DEFAULT


def tuned(**changes):
    """The numbers by trial, with other ones for the covariance phase."""
    return dataclasses.replace(DEFAULT, covariance_phase=dataclasses.replace(DEFAULT.covariance_phase, **changes))


def test_a_few_steps_reach_what_many_do():
    """Dark and bright pixels have steps of their own length, so that the phase settles well before it ends."""
    psi, _, _, stack = blinking()
    options = dataclasses.replace(SMALL, steps=40)
    solver = Solver(stack[:300], psi=psi, camera=CAMERA, options=options, tuning=tuned(settled=0.0))
    made = {}
    while solver.phase != "done":
        solver.step()
        made[solver.phases[1].taken] = solver.images.x
    start, last = made[0], made[max(made)]
    assert np.linalg.norm(last - start) > 0.2 * np.linalg.norm(last)
    assert np.linalg.norm(made[16] - last) < 0.15 * np.linalg.norm(last - start)


def test_fidelity_weighs_the_mean_against_covariances():
    model, _, _, frames = scene(shape=(12, 12), kappa=20.0, frames=200)
    fits = {}
    for fidelity in (1 / 30, 1.0, 30.0):
        options = fg.SolverOptions(warm_steps=100, steps=20, fidelity=fidelity)
        solver = Solver(frames, psi=model.psi, camera=fg.Camera(1.0, 0.0, 0.7), options=options)
        solver.run(progress=False)
        fits[fidelity] = solver.phases[1]
    judge = fits[1.0].critic
    of_covariance = [judge.value(*fit.images[1:])[1] for fit in fits.values()]
    assert of_covariance[0] < of_covariance[1] < of_covariance[2]


def test_pixels_noisier_than_told_are_not_taken_for_background():
    """Every pixel has a read noise of its own, told as their median: its variance is not explained by light."""
    rng = np.random.default_rng(3)
    psi, x, b, _ = blinking(shape=(20, 20))
    light = fg.ForwardModel(psi).sample(x, b, 400, seed=2)
    noise = 1.5 * np.exp(0.3 * rng.standard_normal(psi.shape))
    frames = light + noise * rng.standard_normal(light.shape)
    solver = Solver(frames.astype(np.float32), psi=psi, camera=fg.Camera(1.0, 0.0, 1.5), options=SMALL)
    solver.run(progress=False)
    _, found, background = solver.phases[1].images
    beyond = float((frames.mean(axis=0) - psi.forward(found) - background).mean())
    left = float((noise**2).mean()) - 1.5**2
    assert left > 0.3, "so much would the background be too bright where variance alone told of it"
    assert abs(beyond) < 0.05 * left


def test_what_pixels_differ_by_counts_less_in_unseen_frames():
    psi, x, b, stack = blinking()
    offsets = 2.0 * np.random.default_rng(4).standard_normal(psi.shape).astype(np.float32)
    light = psi.forward(x) + b
    for frames in (stack, stack + offsets):
        problem = fg.Solver(frames, psi=psi, camera=CAMERA, options=SMALL).problem
        critics = FrameCritics(problem, SMALL, fg.QuadraticCritic)
        held_out, compared = critics.frames_held_out, critics.held_out_against(light)
        apart, nearer = held_out.mean(axis=0) - light, compared.mean(axis=0) - light
        more = 1 + (problem.noise.unexplained**2 - 1) * len(held_out) / len(frames)
        np.testing.assert_allclose(nearer, apart / np.sqrt(more), atol=2e-5)
        np.testing.assert_allclose(compared - nearer, held_out - apart, atol=1e-4)
    assert more > 1.5


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
    """On four recordings a tenth of what the mean fit lacks, on none a clear loss; half of the background's error."""
    lacks, off = [], []
    for seed in (1, 2, 3, 4):
        psi, x, b, stack = blinking(seed=seed)
        options = dataclasses.replace(SMALL, warm_steps=None, steps=40)
        result = fg.reconstruct(stack[:300], psi=psi, camera=CAMERA, options=options, progress=False)
        model = fg.ForwardModel(psi, gain=CAMERA.gain, noise_std=CAMERA.noise_std)
        unseen = stack[300:] - np.float32(CAMERA.offset)
        images = ((x, b), (result.x_mean_fit, result.b_mean_fit), (result.x, result.b))
        true, fit, full = (fg.metrics.held_out_score(unseen, model, *pair).log_density for pair in images)
        assert true - full < 1.1 * (true - fit), seed
        lacks.append((true - fit, true - full))
        off.append([np.abs(found - b).mean() for found in (result.b_mean_fit, result.b)])
        assert off[-1][1] < 1.02 * off[-1][0] + 0.1 * b.mean(), seed  # some are right to 4 % from the start
        assert min(result.x.min(), result.b.min()) >= 0
    of_fit, of_full = np.sum(lacks, axis=0)
    assert of_full < 0.93 * of_fit
    of_fit, of_full = np.sum(off, axis=0)
    assert of_full < 0.6 * of_fit


def test_edges_weigh_more_where_the_mean_fit_has_none(monkeypatch):
    monkeypatch.setattr(fg.QuadraticCritic, "flicker_share", lambda critic, x: 0.5)
    psi, x, b, stack = blinking(frames=60)
    solver = Solver(stack, psi=psi, camera=CAMERA, options=SMALL, tuning=tuned(edges=9.0))
    fit, drawn = solver.phases[1], np.zeros_like(x)

    def start(z):
        fit.start(Images(z, fit.kernel(z), b))
        return fit.prior.edges

    drawn[20:36, 20:30], drawn[20:36, 40:44] = 0.4, 0.02
    price, most, least = start(drawn), 9 * 0.75**2, max(1.0, 9 * 0.75**8)
    assert most > 5 * least
    np.testing.assert_allclose([price[0, 0], price[28, 25]], most, rtol=2e-3)
    step = np.abs(np.diff(fit.x[28]))[29]  # x is z blurred
    brightness = (fit.x**2).sum() / fit.x.sum()
    assert price[28, 29] == pytest.approx(max(least, most / (1 + (4 * step / brightness) ** 2)), rel=1e-4)
    assert least <= price[28, 29] < 0.4 * most
    assert price[28, 43] > 0.8 * most  # a tenth of the step that halves it
    monkeypatch.setattr(fg.QuadraticCritic, "flicker_share", lambda critic, x: 1.0)  # what the mean shows are single molecules
    np.testing.assert_array_equal(start(drawn), 9.0)
    monkeypatch.undo()
    np.testing.assert_array_equal(start(0 * drawn), 1.0)  # no light, and no flicker to speak of


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


def test_images_that_predict_unseen_frames_clearly_worse_are_rejected():
    psi, _, _, stack = blinking(frames=60)
    solver = Solver(stack, psi=psi, camera=CAMERA, options=dataclasses.replace(SMALL, steps=1))
    while solver.phase != "done":
        solver.step()
    mean, fit = solver.phases
    gain, error = fit.gain_over(*mean.outcome[1:])
    assert gain > -2 * error
    assert not solver.result().stops["covariance"].rejected
    np.testing.assert_array_equal(solver.result().x, fit.outcome.x)
    fit.x = 2 * fit.x  # twice the light, twice the flicker
    assert fit.gain_over(*mean.outcome[1:])[0] < -2 * error
    fit.stop = fit._stopped(settled=False, updated=False)
    kept = solver.result()
    np.testing.assert_array_equal(kept.x, kept.x_mean_fit)
    np.testing.assert_array_equal(kept.b, kept.b_mean_fit)
    assert kept.stops["covariance"].rejected
    assert kept.stop_reason.endswith("and rejected: the mean fit predicts unseen frames better")


def test_between_two_updates_of_the_weights_the_recorded_objective_falls():
    """It is what the steps descend on, unequal weights of edges included."""
    psi, _, _, stack = blinking()
    solver = Solver(stack, psi=psi, camera=CAMERA, options=dataclasses.replace(SMALL, steps=8))
    while solver.phase != "done":
        solver.step()
    h, fit = solver.history.arrays(), solver.phases[1]
    assert fit.prior.edges.max() > 1.5
    expected = fit.prior.total_variation * (fit.prior.edges * edge_lengths(fit.images.z)).sum(dtype=np.float64)
    assert h["total_variation"][-1] == pytest.approx(expected, rel=1e-6)
    of_one_update = h["objective"][h["phase"] == 1][4:8]  # updates at 0, 1, 2, 4, 8
    assert of_one_update[-1] < of_one_update[0]
    assert np.diff(of_one_update).max() < 1e-4 * abs(of_one_update[0])


def test_without_light_the_phase_is_left_out():
    psi, _, _, stack = blinking(frames=60)
    dark = np.full_like(stack, CAMERA.offset) + np.random.default_rng(0).normal(0, 0.5, stack.shape).astype(np.float32)
    dark += 20  # a background, and not a molecule
    result = fg.reconstruct(dark, psi=psi, camera=CAMERA, options=dataclasses.replace(SMALL, sparsity=1e3), progress=False)
    assert result.x.max() == 0
    assert result.stop_reason.endswith("covariance fit: left out, there is no light in x")
    assert result.stops["covariance"].reason is StopReason.NO_LIGHT


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
    assert "covariance fit: left out, flicker makes" in result.stop_reason
    assert (result.history["phase"] == 0).all()
    np.testing.assert_array_equal(result.x, result.x_mean_fit)
    again = fg.reconstruct(stack, options=dataclasses.replace(SMALL, steps=9), resume=True, **go)
    assert again.stop_reason == result.stop_reason
    assert again.x.tobytes() == result.x.tobytes()


def test_the_phase_ends_where_it_changes_nothing_any_more(tmp_path):
    psi, _, _, stack = blinking()
    go = {"psi": psi, "camera": CAMERA, "checkpoint": tmp_path / "c.pt", "progress": False, "tuning": tuned(settled=0.05)}
    result = fg.reconstruct(stack[:300], options=dataclasses.replace(SMALL, steps=40), **go)
    steps = int((result.history["phase"] == 1).sum())
    objective = result.history["objective"][result.history["phase"] == 1]
    assert 2 < steps < 40
    # each update of the second moments makes another objective: its values differ by little, not one way
    assert abs(objective[-2] - objective[-1]) < 0.03 * abs(objective[-1])
    assert f"covariance fit: settled after {steps} steps" in result.stop_reason
    again = fg.reconstruct(stack[:300], options=dataclasses.replace(SMALL, steps=60), resume=True, **go)
    assert again.stop_reason == result.stop_reason
    assert len(again.history["phase"]) == len(result.history["phase"])


@pytest.mark.parametrize("start", [0.0, 1e-30])
def test_a_fit_that_starts_from_a_dark_image_goes_on(start):
    """As where pixels are so unequal that edges cost more than all light is worth."""
    psi, x, b, stack = blinking(frames=60)
    options = dataclasses.replace(SMALL, warm_steps=0, steps=3)
    dark = np.full_like(x, start)
    result = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options, x0=dark, b0=b, progress=False)
    assert np.isfinite(result.x).all()
    assert np.isfinite(result.b).all()


def test_what_has_no_hope_is_ended_early(monkeypatch):
    psi, _, _, stack = blinking(frames=60)
    monkeypatch.setattr(CovariancePhase, "gain_over", lambda fit, x, b: (-5.1, 1.0))
    options = dataclasses.replace(SMALL, steps=40)
    result = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options, progress=False, tuning=tuned(settled=0.0))
    assert result.stops["covariance"] == fg.Stop(StopReason.UNSEEN_FRAMES, 9, share=0.0)
    assert "covariance fit: ended after 9 steps, unseen frames speak against it, and rejected" in result.stop_reason
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
