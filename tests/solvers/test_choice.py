"""method="auto": the gain by which it chooses, what it keeps, and what it says."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from psfs import tiny_psf
from scipy import stats
from test_likelihood_fit import CAMERA, LENIENT, lacks, recorded, tuned

import fluogan_core as fg
from fluogan_core.physics.emissions import Brightness
from fluogan_core.solvers.emission_work import overlap_of, too_much_work
from fluogan_core.solvers.unseen_gain import Pair, UnseenGain, unseen_gain
from fluogan_core.tuning import DEFAULT

AUTO = fg.SolverOptions(method="auto", steps=6, warm_steps=60, tolerance=0.0)


def test_the_gain_is_the_difference_of_enumerated_log_likelihoods():
    """All numbers of emissions at two places; images and backgrounds differ by factors, and so do their likelihoods."""
    model = fg.ForwardModel(fg.Psi(tiny_psf(3), (3, 4), 1, photons_per_emitter=6.0, backend="numpy"))
    places, pairs = [(0, 1), (1, 2)], []
    for values, b in (((0.9, 0.2), 0.8), ((0.3, 0.7), 0.5)):
        x = np.full((3, 4), 1e-9)
        x[tuple(zip(*places))] = values
        pairs.append(Pair(x, np.full((3, 4), b)))
    light = [model.psi.forward(one.reshape(3, 4)) for one in np.eye(12)[[1, 6]]]
    frames = np.random.default_rng(0).poisson(0.6 + 0.8 * light[0] + 0.6 * light[1], (30, 3, 4))

    def log_likelihood(frame, pair):
        total = 0.0
        for n in itertools.product(range(10), repeat=2):
            rate = pair.b + model.epsilon + n[0] * light[0] + n[1] * light[1]
            prior = stats.poisson.logpmf(n, [pair.x[place] for place in places]).sum()
            total += math.exp(prior + stats.poisson.logpmf(frame, rate).sum())
        return math.log(total)

    exact = np.array([log_likelihood(frame, pairs[1]) - log_likelihood(frame, pairs[0]) for frame in frames])
    more = {"seed": 2, "step": 0, "tuning": dataclasses.replace(DEFAULT.likelihood_phase, gain_sweeps=150)}
    found = unseen_gain(frames.astype(np.float32), model, *pairs, Brightness(), np.full(30, 40), **more)
    assert abs(exact.sum()) > 3  # there is something to be found
    assert found.total == pytest.approx(exact.sum(), abs=0.8)
    # the part of the background is spread evenly over the frames
    assert np.corrcoef(found.of_frames, exact)[0, 1] > 0.8
    back = unseen_gain(frames.astype(np.float32), model, *pairs[::-1], Brightness(), np.full(30, 40), **more)
    assert back.total == pytest.approx(-exact.sum(), abs=0.8)
    assert unseen_gain(frames.astype(np.float32), model, pairs[0], pairs[0], Brightness(), np.full(30, 40), **more).total == 0


def test_the_error_of_a_gain_is_that_of_a_sum_over_frames():
    rng = np.random.default_rng(0)
    assert UnseenGain(rng.normal(0.2, 3.0, 4000)).error == pytest.approx(3.0 * math.sqrt(4000), rel=0.1)
    assert UnseenGain(np.ones(1)).error == math.inf
    # of molecules that stay on, frames in a row tell the same
    assert UnseenGain(np.repeat(rng.normal(0.2, 3.0, 400), 10)).error == pytest.approx(30.0 * math.sqrt(400), rel=0.1)


@pytest.mark.parametrize(("frames", "spread"), [(60, 1.0), (12, 1.0)])
def test_the_error_of_few_frames_is_right_in_the_mean(frames, spread):
    rng = np.random.default_rng(1)
    squares = [UnseenGain(rng.normal(0.2, spread, frames)).error ** 2 for _ in range(400)]
    assert np.mean(squares) == pytest.approx(frames * spread**2, rel=0.15)


def test_few_and_bright_emissions_are_fitted_by_all_that_frames_say():
    psi, x, stack = recorded(frames=300, kappa=1000.0, emissions=1.5, seed=2)
    given = {"psi": psi, "camera": CAMERA, "progress": False}
    result = fg.reconstruct(stack, **given, options=fg.SolverOptions(method="auto", warm_steps=400))
    default = fg.reconstruct(stack, **given, options=fg.SolverOptions(warm_steps=400))
    assert result.stops["likelihood"].reason is fg.StopReason.CHOSEN, result.stop_reason
    assert "150 unseen frames are likelier by " in result.stop_reason
    assert lacks(result.x, x) < lacks(default.x, x)


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"clear_loss": -1e9, **LENIENT}, "NOT_BETTER", "unseen frames speak against it (30 unseen frames are likelier by"),
        ({"clear_loss": 1e9, **LENIENT, "largest_r_hat": 0.0}, "NOT_MIXED", "its chains did not mix"),
        ({"most_overlap": 0.1}, "NOT_TRIED", "emissions overlap each other, more than 0.1"),
        ({"fewest_unseen": 31}, "NOT_TRIED", "30 frames could be set aside to judge it by, 31 are needed"),
    ],
)
def test_in_doubt_the_image_is_that_of_the_default_method(changes, reason, words):
    psi, _, stack = recorded()
    given = {"psi": psi, "camera": CAMERA, "progress": False}
    result = fg.reconstruct(stack, **given, options=AUTO, tuning=tuned(gain_start=2, gain_sweeps=2, **changes))
    default = fg.reconstruct(stack, **given, options=AUTO.for_method("moments"))
    assert result.stops["likelihood"].reason is fg.StopReason[reason]
    assert words in result.stop_reason
    for name in ("x", "b"):
        np.testing.assert_array_equal(getattr(result, name), getattr(default, name))


def test_without_light_nothing_is_tried():
    psi, _, _ = recorded()
    dark = fg.ForwardModel(psi, gain=2.0, noise_std=1.0).sample(np.zeros(psi.fine_shape), np.full(psi.shape, 3.0), 60, 0) + 100
    result = fg.reconstruct(dark, psi=psi, camera=CAMERA, options=dataclasses.replace(AUTO, sparsity=50.0), progress=False)
    assert result.x.max() == 0
    assert result.stops["likelihood"].reason is fg.StopReason.NO_LIGHT


@pytest.mark.parametrize("stop_after", [62, 68, 70, 71])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, stop_after):
    psi, _, stack = recorded()
    tuning = tuned(clear_loss=1e9, gain_start=2, gain_sweeps=2, **LENIENT)
    more = {"psi": psi, "camera": CAMERA, "options": AUTO, "tuning": tuning, "progress": False}
    whole, path = fg.reconstruct(stack, **more), tmp_path / "checkpoint.pt"
    assert whole.stops["likelihood"].reason is fg.StopReason.CHOSEN

    def stop(solver, record):
        if record["step"] == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fg.reconstruct(stack, **more, callback=stop, checkpoint=path)
    resumed = fg.reconstruct(stack, **more, checkpoint=path, resume=True)
    for name in ("x", "b"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
    assert resumed.stop_reason == whole.stop_reason


def test_overlap_counts_the_emissions_within_the_psf():
    """Sparse places of which no two overlap: each is overlapped by its own emissions only."""
    psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (40, 40), 2, backend="numpy")
    x = np.zeros(psi.fine_shape, np.float32)
    x[20, 20], x[60, 60] = 2.0, 1.0
    assert overlap_of(x, psi) == pytest.approx((2 * 2 + 1 * 1) / 3, rel=0.01)
    assert overlap_of(0 * x, psi) == 0.0
    assert overlap_of(np.full_like(x, 0.1), psi) == pytest.approx(0.1 * 4 * math.pi * (300 / 2.3548 / 50) ** 2, rel=0.2)


def test_where_hundreds_of_emissions_overlap_the_likelihood_is_not_begun():
    assert not too_much_work(np.full(24, 2000), 40, 150.0)
    assert too_much_work(np.full(24, 2000), 2, 400.0).startswith("400 emissions overlap each other")
