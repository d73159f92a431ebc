"""Weights by unseen photons: two halves with independent noise, a choice that flips with the field, and what it chooses."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy import stats

import fluogan_core as fg
from fluogan_core.solvers.chosen_weights import chosen_weights
from fluogan_core.solvers.unseen_photons import Predicted, Trial, noise_from_values, predicting_weights, thinned
from fluogan_core.solvers.weights import weights_for
from fluogan_core.tuning import DEFAULT, Tuning

#: The eight ways in which a camera can hang.
WAYS = [lambda a, k=k, t=t: np.rot90(a.T if t else a, k) for k in range(4) for t in (False, True)]


def problem(x: np.ndarray, light: float, *, frames: int = 100, level: float | np.ndarray = 10.0, seed: int = 0) -> fg.Problem:
    """Frames of x, scaled to this light in the brightest pixel, without flicker; the camera is known."""
    size = x.shape[0] // 2
    psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (size, size), 2, backend="numpy")
    mean = psi.forward(x.astype(np.float32))
    stack = np.random.default_rng(seed).poisson(mean * (light / mean.max()) + level, (frames, size, size))
    return fg.Problem.of(stack, psi=psi, camera=fg.Camera())


def spots(size: int = 48) -> np.ndarray:
    x = np.zeros((size, size))
    x[8::16, 8::16] = 1
    return x


def square(size: int = 48) -> np.ndarray:
    x = np.zeros((size, size))
    x[4:-4, 4:-4] = 1
    return x


def bump(size: int, *, height: float, at: tuple[int, int], width: float = 8.0) -> np.ndarray:
    """A background of 4 photons with a bump that varies as fast as the usual length scale of a background allows."""
    down, across = np.mgrid[:size, :size]
    return 4.0 + height * np.exp(-0.5 * ((down - at[0]) ** 2 + (across - at[1]) ** 2) / width**2)


def chosen(given: fg.Problem, tuning: Tuning = DEFAULT) -> tuple[float, float, float, float]:
    """Detail and light from which a structure is lit: by the light alone, and by unseen photons."""
    options = fg.SolverOptions(method="none")
    weights = weights_for(given, options)
    found = chosen_weights(weights, given, options, tuning=tuning)
    return weights.detail, found.detail, weights.lit, found.lit


def test_the_noise_is_standard_normal_and_the_same_in_all_directions(rng):
    image = rng.poisson(4000.0, (96, 128))
    noise = noise_from_values(image)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    # neighbours share what is hashed, but not the outcome
    for there, here in ((noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1])):
        assert abs(np.corrcoef(there.ravel(), here.ravel())[0, 1]) < 4 / np.sqrt(here.size)
    assert abs(np.corrcoef(noise.ravel(), image.ravel())[0, 1]) < 4 / np.sqrt(noise.size)
    for way in WAYS:
        np.testing.assert_array_equal(noise_from_values(way(image)), way(noise))
    np.testing.assert_array_equal(noise_from_values(image[3:, 5:])[1:, 1:], noise[4:, 6:])


def test_seen_and_unseen_photons_are_independent(rng):
    truth = np.full((64, 64), 5.0)
    variance = np.full_like(truth, 0.3)
    mean = (truth + np.sqrt(variance) * rng.normal(size=truth.shape)).astype(np.float32)
    tuning = DEFAULT.unseen_photons
    pair = thinned(mean, variance, tuning)
    for seen, unseen in pair:
        apart = np.corrcoef((seen - truth).ravel(), (unseen - truth).ravel())[0, 1]
        assert abs(apart) < 4 / np.sqrt(truth.size)
        assert (seen - truth).var() == pytest.approx(0.3 * (1 + tuning.noise**2), rel=0.1)
        assert (unseen - truth).var() == pytest.approx(0.3 * (1 + tuning.noise**-2), rel=0.1)
    for both in zip(*pair):  # with one noise and its negative
        np.testing.assert_allclose(np.mean(both, axis=0), mean, rtol=1e-6)


def test_dim_spots_are_sought_through_a_finer_blur_than_their_light_alone_says():
    wide, found, _, _ = chosen(problem(spots(), light=4.0, level=1.0, frames=400))
    assert wide > 0.2
    assert found == pytest.approx(0.09, rel=0.05)


def test_wide_blobs_are_sought_through_a_coarser_blur_than_their_light_alone_says():
    down, across = np.mgrid[:48, :48]
    blobs = sum(np.exp(-((down - i) ** 2 + (across - j) ** 2) / (2 * 5.0**2)) for i, j in ((14, 16), (32, 30)))
    given = problem(blobs, light=20.0, level=2.0, frames=400)
    wide, found, _, _ = chosen(given)
    assert found > 1.3 * wide

    def error(detail: float) -> float:
        options = fg.SolverOptions(method="none")
        weights = dataclasses.replace(chosen_weights(weights_for(given, options), given, options), detail=detail)
        x = fg.Solver(problem=given, options=options, weights=weights).run(progress=False).x
        return float(np.linalg.norm(x / x.sum() - blobs / blobs.sum()))

    assert error(found) < 0.9 * error(wide)


def test_lines_are_not_sought_through_a_coarser_blur():
    x = np.zeros((48, 48))
    x[8:40, 20] = x[8:40, 27] = 1
    wide, found, _, _ = chosen(problem(x, light=20.0, level=2.0, frames=400))
    assert found < 1.05 * wide


def test_nats_are_those_of_a_known_difference():
    """Half of its square over the variance, on average over the noise; less where a misfit makes it scatter more."""
    given = problem(spots(32), light=1e-3, level=10.0, frames=50)
    weights = weights_for(given, fg.SolverOptions(method="none"))
    other = dataclasses.replace(weights, detail=0.5)
    trial, rng = Trial(given, None, DEFAULT), np.random.default_rng(0)
    truth, spread = np.full(trial.mean.shape, 10.0), np.sqrt(trial.variance)
    wave = np.cos(np.arange(trial.mean.size)).reshape(trial.mean.shape) * spread * 0.25
    expected = 0.5 * float((wave**2 / trial.variance).sum())

    def nats(misfit: float) -> float:
        seen = truth + spread * (rng.normal(size=truth.shape) + misfit * rng.normal(size=truth.shape))
        trial._found = {
            dataclasses.replace(w, iterations=min(w.iterations, DEFAULT.unseen_photons.iterations)): Predicted(
                fitted, (seen - fitted) ** 2 / trial.variance, 1.0
            )
            for w, fitted in ((weights, truth + wave), (other, truth))
        }
        return trial.nats(other, weights)

    drawn = np.array([nats(0.0) for _ in range(300)])
    assert expected > 3
    assert abs(drawn.mean() - expected) < 4 * drawn.std() / np.sqrt(len(drawn)) + 0.05 * expected
    misfit = np.array([nats(3.0) for _ in range(300)])
    assert misfit.mean() < 0.3 * drawn.mean()


def test_light_of_a_wide_structure_is_lit_where_that_predicts_better():
    given = problem(square(), light=8.0, level=4.0, frames=100)
    # with the usual background: a stiffer one leaves that light to x by itself
    usual = dataclasses.replace(DEFAULT, unseen_photons=dataclasses.replace(DEFAULT.unseen_photons, lengths=(2.6,)))
    _, _, cautious, found = chosen(given, usual)
    assert found < 0.75 * cautious
    truth = 8.0 / given.psi.forward(square().astype(np.float32)).max() * square().sum()

    def light(**weights):
        kept = dataclasses.replace(weights_for(given, fg.SolverOptions(method="none")), **weights)
        solver = fg.Solver(problem=given, options=fg.SolverOptions(method="none"), weights=kept)
        return solver.run(progress=False).x.sum() / truth

    assert abs(light(lit=found) - 1) < abs(light() - 1)


def length(given: fg.Problem, **options: Any) -> float:
    """Length scale of the background that unseen photons choose, camera pixels."""
    asked = fg.SolverOptions(method="none", **options)
    found = chosen_weights(weights_for(given, asked), given, asked)
    return found.length


def test_a_background_is_as_stiff_as_predicts_unseen_photons():
    flat = problem(spots(56), light=8.0, level=4.0, frames=200)
    assert length(flat) == pytest.approx(DEFAULT.unseen_photons.lengths[-2], rel=0.05)
    bumped = problem(spots(56), light=8.0, level=bump(28, height=8.0, at=(9, 14)), frames=200)
    assert length(bumped) == pytest.approx(2.6, rel=0.05)
    # what is asked for is taken
    assert length(flat, smoothness=2.6) == pytest.approx(2.6, rel=1e-6)


def test_a_bump_counts_wherever_in_a_larger_field_it_is():
    """The brightest part, 32 x 32 pixels, does not show it."""
    x = np.zeros((128, 128))
    x[8:56:16, 8:56:16] = 1
    flat = problem(x, light=8.0, level=4.0)
    assert length(flat) > 4.0
    assert length(problem(x, light=8.0, level=bump(64, height=8.0, at=(48, 45)), frames=400)) == pytest.approx(2.6, rel=0.05)


def test_frames_without_structure_leave_the_cautious_weights():
    """Noise makes nothing else much likelier: detail and light hardly move."""
    details, lights = [], []
    for seed in range(6):
        wide, found, lit, lighter = chosen(problem(spots(32), light=1e-3, frames=20, seed=seed))
        details.append(found / wide)
        lights.append(lighter / lit)
    for ratios in (details, lights):
        assert min(ratios) > 0.5
        assert 0.75 < np.median(ratios) < 1.2


def test_bright_frames_leave_nothing_to_choose(monkeypatch):
    given = problem(spots(), light=2000.0)
    options = fg.SolverOptions(method="none")
    weights = weights_for(given, options)
    monkeypatch.setattr("fluogan_core.solvers.trial_field.build_objective", None)  # nothing is fitted
    assert predicting_weights(weights, given, options) is weights


def test_the_choice_flips_with_the_field():
    given = problem(spots(32)[:, ::-1] + 0.2 * spots(32).T, light=4.0, level=1.0, frames=800)
    options = fg.SolverOptions(method="none", warm_steps=400)
    weights = weights_for(given, options)
    found = chosen_weights(weights, given, options)
    assert found != weights
    for way in WAYS[1:]:
        turned = dataclasses.replace(given, mean=np.ascontiguousarray(way(given.mean)), bad_pixels=way(given.bad_pixels))
        other = chosen_weights(weights, turned, options)
        assert (other.detail, other.lit) == pytest.approx((found.detail, found.lit), rel=1e-3)


def test_a_solver_asks_before_its_first_step_and_a_resumed_one_agrees(tmp_path):
    given = problem(spots(32), light=4.0, level=1.0, frames=1600)
    options = fg.SolverOptions(method="none", warm_steps=400)
    solver = fg.Solver(problem=given, options=options)
    usual = weights_for(given, options)
    assert solver.weights == usual
    solver.step()
    assert solver.weights.detail < usual.detail
    solver.save(tmp_path / "state.npz")
    whole = solver.run(progress=False)
    resumed = fg.Solver(problem=given, options=options)
    resumed.load(tmp_path / "state.npz")
    np.testing.assert_array_equal(resumed.run(progress=False).x, whole.x)
    # what was chosen is the state's, whatever this processor's rounding would choose; the other weights are still compared
    saved = solver.state_dict()
    saved["weights"] = saved["weights"] | {"detail": 0.5 * (solver.weights.detail + usual.detail)}
    other = fg.Solver(problem=given, options=options)
    other.load_state_dict(saved)
    assert other.weights.detail == saved["weights"]["detail"]
    for name, value in (
        ("detail", 2 * usual.detail),
        ("lit", -1.0),
        ("sparsity", 2 * usual.sparsity),
        ("smoothness", 0.5 * usual.smoothness),
    ):
        wrong = saved | {"weights": saved["weights"] | {name: value}}
        with pytest.raises(ValueError, match="belongs to another reconstruction: weights"):
            fg.Solver(problem=given, options=options).load_state_dict(wrong)
    # weights of one's own are taken as they are
    own = fg.Solver(problem=given, options=options, weights=usual)
    own.run(progress=False)
    assert own.weights == usual


def test_the_noise_does_not_know_the_camera(rng):
    """Estimates of gain and offset that differ in their last digits draw the same noise."""
    counts = rng.poisson(400.0, (100, 40, 40)).sum(axis=0) / 100 * 2.0
    tuning = DEFAULT.unseen_photons

    def noise(gain: float, offset: float) -> np.ndarray:
        mean = ((counts.astype(np.float32) - np.float32(offset)) / np.float32(gain)).astype(np.float32)
        variance = np.full(mean.shape, (mean.mean() / 100))
        return (thinned(mean, variance, tuning, gain)[0][0] - mean) / np.sqrt(variance)

    plain = noise(2.0, 100.0)
    for gain, offset in ((2.0003, 100.0), (2.0, 100.02), (1.9994, 99.97)):
        same = np.abs(noise(gain, offset) - plain) < 1e-3
        assert same.mean() > 0.97
    # and counts of twice the gain are the same frame
    counts *= 2
    np.testing.assert_array_equal(noise(4.0, 200.0), plain)
