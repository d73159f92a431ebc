"""The covariance fit counts by a share: little that changes in the frames changes little in the image."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.solvers.covariance_fit import CovariancePhase
from fluogan_core.solvers.phase import Stop, StopReason
from fluogan_core.solvers.shares import average, share_of_fit
from fluogan_core.solvers.solver import Solver
from fluogan_core.solvers.weights import Weights
from fluogan_core.tuning import DEFAULT

CAMERA = fg.Camera(gain=1.0, offset=100.0, noise_std=1.0)
SIDE, FACTOR, PHOTONS = 16, 2, 60.0


@pytest.fixture(scope="module")
def recording() -> tuple[fg.Psi, np.ndarray]:
    psi = fg.Psi(fg.gaussian_psf(300, 100, FACTOR), (SIDE, SIDE), FACTOR, photons_per_emitter=PHOTONS, backend="numpy")
    x = np.zeros(psi.fine_shape, np.float32)
    x[10:22, 16] = 0.06
    frames = fg.ForwardModel(psi, noise_std=1.0).sample(x, np.full(psi.shape, 5, np.float32), 60, seed=3)
    return psi, frames + np.float32(100)


def solved(psi: fg.Psi, frames: np.ndarray, weights: Weights | None = None, **changes: float) -> Solver:
    phase = dataclasses.replace(DEFAULT.covariance_phase, **changes)
    solver = Solver(
        frames,
        psi=psi,
        camera=CAMERA,
        options=fg.SolverOptions(warm_steps=60, steps=6),
        weights=weights,
        tuning=dataclasses.replace(DEFAULT, covariance_phase=phase),
    )
    solver.run(progress=False)
    return solver


def test_the_share_falls_without_a_jump():
    t = DEFAULT.covariance_phase
    in_errors = np.linspace(-5, 5, 1001)
    shares = np.array([share_of_fit(2.0 * gain, 2.0, 1.0) for gain in in_errors])
    assert (shares[in_errors <= -t.worse - t.doubt - 1e-9] == 0).all()
    assert (shares[in_errors >= -t.worse + t.doubt + 1e-9] == 1).all()
    assert np.diff(shares).min() >= 0
    assert np.diff(shares).max() <= 1.01 * 0.01 / (2 * t.doubt)
    flicker = np.linspace(0, 1, 1001)
    shares = np.array([share_of_fit(math.nan, math.nan, share) for share in flicker])
    assert (shares[flicker <= t.least_flicker] == 0).all()
    assert (shares[flicker >= t.enough_flicker] == 1).all()
    assert np.diff(shares).max() <= 1.01 * 0.001 / (t.enough_flicker - t.least_flicker)
    forced = dataclasses.replace(t, least_flicker=0.0, enough_flicker=0.0, worse=math.inf)
    assert share_of_fit(-1.0, 0.0, 0.0, forced) == 1.0


def test_images_are_averaged_by_the_share():
    before, own = np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)
    (half,) = average((before,), (own,), 0.25)
    assert half.dtype == np.float32
    np.testing.assert_array_equal(half, 0.25)
    assert average((before,), (own,), 1.0)[0] is own


def test_only_standard_errors_count_and_the_two_shares_multiply():
    t = DEFAULT.covariance_phase
    gains, flickers = (
        np.linspace(-t.worse - 1.2 * t.doubt, -t.worse + 1.2 * t.doubt, 7),
        np.linspace(0, 1.2 * t.enough_flicker, 5),
    )
    for flicker in flickers:
        by_flicker = share_of_fit(math.nan, math.nan, flicker)
        assert share_of_fit(math.nan, 1.0, flicker) == by_flicker
        for gain in gains:
            for unit in (1e-6, 1.0, 1e3):
                found = share_of_fit(unit * gain, unit, flicker)
                assert found == pytest.approx(by_flicker * share_of_fit(gain, 1.0, 1.0), abs=1e-9)
    # the middle of the doubtful range, and errors of 0: the sign decides
    assert share_of_fit(-t.worse, 1.0, 1.0) == pytest.approx(0.5)
    assert share_of_fit(math.nan, 1.0, 0.5 * (t.least_flicker + t.enough_flicker)) == pytest.approx(0.5)
    assert [share_of_fit(gain, 0.0, 1.0) for gain in (-1e-9, 0.0, 1e-9)] == [0.0, 1.0, 1.0]


def test_all_images_are_averaged_and_none_is_written_to():
    before, own = (np.full((2, 3), 4.0, np.float32), np.float64([1.0])), (np.full((2, 3), 8.0, np.float32), np.float64([3.0]))
    found = average(before, own, 0.75)
    assert [image.dtype for image in found] == [np.float32, np.float64]
    assert [image.max() for image in found] == [image.min() for image in found] == [7.0, 2.5]
    assert [image.max() for image in (*before, *own)] == [4.0, 1.0, 8.0, 3.0]
    assert [image.max() for image in average(before, own, 0.0)] == [4.0, 1.0]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_outcome_is_the_average_by_the_share_of_the_stop(recording, share, monkeypatch):
    monkeypatch.setattr(CovariancePhase, "share", share)
    solver = solved(*recording)
    phase, result = solver.phases[1], solver.result()
    assert solver.result().stops["covariance"].share == share
    phase.stop = Stop(StopReason.STEPS, phase.taken)
    full = phase.outcome
    expected = result.x_mean_fit + share * (full.x - result.x_mean_fit)
    np.testing.assert_allclose(result.x, expected, rtol=0, atol=1e-5 * full.x.max())
    np.testing.assert_allclose(result.b, result.b_mean_fit + share * (full.b - result.b_mean_fit), rtol=1e-5)
    assert ("averaged with the mean fit" in result.stop_reason) == (share == 0.3)
    assert ("rejected" in result.stop_reason) == (share == 0.0)
    assert Stop.from_state(result.stops["covariance"].state_dict()) == result.stops["covariance"]


def test_a_thousandth_of_the_noise_moves_the_image_little_where_frames_cannot_decide(recording):
    """Bounds are put where these frames are half way between them, so that what decided by a hair's breadth would jump.

    The weights of the objective are held: what unseen photons choose follows from a draw of its own.
    """
    psi, frames = recording
    first = solved(psi, frames, worse=math.inf)
    phase = first.phases[1]
    gain, error = phase.gain_over(phase.first.x, phase.first.b)
    flicker = phase.critic.flicker_share(phase.first.x)
    apart = np.linalg.norm(phase.outcome.x - phase.first.x)
    assert apart > 0.05 * np.linalg.norm(phase.first.x)
    at_bound = {"worse": -gain / error, "least_flicker": 0.0, "enough_flicker": 0.0}
    by_flicker = {"worse": math.inf, "least_flicker": flicker - 0.025, "enough_flicker": flicker + 0.025}
    rng = np.random.default_rng(0)
    for bounds in (at_bound, by_flicker):
        found = []
        for _ in range(2):
            other = frames + 1e-3 * frames.std(axis=0) * rng.standard_normal(frames.shape).astype(np.float32)
            solver = solved(psi, other, first.weights, **bounds)
            assert 0.2 < solver.phases[1].stop.share < 0.8
            found.append(solver.outcome.x)
        for x in found[1:]:
            assert np.abs(x - found[0]).max() <= 0.02 * found[0].max()
