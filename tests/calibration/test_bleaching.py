"""Stacks that bleach: the factor of every frame, and a calibration that the loss of light does not move."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg

SHAPE, KAPPA = (24, 24), 15.0


def bleached(left: float, seed: int, frames: int = 100, fading: float = 1.0) -> np.ndarray:
    """Frames of eq. (1), counts: molecules and background that fade to these parts."""
    psi = fg.Psi(fg.gaussian_psf(300, 100, 2), SHAPE, 2, photons_per_emitter=KAPPA, backend="numpy")
    x, time = np.zeros(psi.fine_shape, "f4"), np.arange(frames) / (frames - 1)
    x[8:40, 14:17] = x[8:40, 30:33] = 1.5
    model = fg.ForwardModel(psi, gain=2.0, noise_std=3.0)
    b = np.full(SHAPE, 8.0, "f4")
    parts = [model.sample(x * left**t, b * fading**t, 1, seed, first_frame=k) for k, t in enumerate(time)]
    return np.rint(np.concatenate(parts) + 100).astype(np.uint16)


def operator() -> fg.Psi:
    return fg.Psi(fg.gaussian_psf(300, 100, 2), SHAPE, 2, backend="numpy")


@pytest.mark.parametrize("left", [0.5, 1 / 3, 0.1])
def test_the_factor_of_every_frame_is_found(left):
    truth = left ** (np.arange(100) / 99)
    found = [fg.estimate_bleaching(bleached(left, seed, fading=0.7)) for seed in range(4)]
    for one in found:
        assert one.clear
        assert one.left == pytest.approx(left, abs=4 * one.error)
        assert one.error < 0.05
        assert one.factor.mean() == pytest.approx(1)
        np.testing.assert_allclose(one.factor, truth / truth.mean(), atol=0.08 * one.factor[0])


def test_a_sample_that_keeps_its_light_is_not_said_to_bleach():
    for seed in range(6):
        found = fg.estimate_bleaching(bleached(1.0, seed, fading=0.5))
        assert not found.clear
        assert found.note == ""
        assert (found.factor == 1).all()


def test_frames_that_stand_apart_are_not_looked_at():
    stack = bleached(1 / 3, 1)
    stack[[4, 50]] = 0
    found = fg.estimate_bleaching(stack)
    assert found.frames.tolist() == [k for k in range(100) if k not in (4, 50)]
    assert len(found.signal) == len(found.factor) == 98
    assert found.left == pytest.approx(1 / 3, abs=4 * found.error)


def test_the_calibration_is_that_of_a_sample_that_keeps_its_light():
    """A fall to a tenth: gain and photons per emission are the true ones within their errors, over seeds."""
    pulls = []
    for seed in range(4):
        found = fg.calibrate(bleached(0.1, seed), operator(), offset=100.0, psf_width=1)
        estimate = found.estimate
        pulls.append(
            (
                (found.camera.gain - 2.0) / estimate.gain_error,
                (estimate.photons_per_emitter - KAPPA) / estimate.photons_per_emitter_error,
            )
        )
        said = [remark for remark in found.remarks if "bleaching" in remark]
        assert len(said) == 1
        assert said[0].startswith("bleaching: the light of the sample falls to ")
        assert found.bleaching.left < 0.2
    assert np.abs(np.mean(pulls, axis=0)).max() < 2
    assert np.abs(pulls).max() < 4


def test_a_problem_compares_frames_that_keep_their_light():
    """The covariance fit measures the flicker that there is, and no trend."""
    stack, psi = bleached(0.1, 3), operator().replaced(photons_per_emitter=KAPPA)
    problem = fg.Problem.of(stack, psi=psi, camera=fg.Camera(2.0, 100.0, 3.0))
    np.testing.assert_allclose(problem.steady.mean(axis=0), problem.counts.mean(axis=0), atol=0.02)
    ends = (slice(0, 20), slice(-20, None))
    change, steady = (abs(part[ends[0]].mean() - part[ends[1]].mean()) for part in (problem.counts, problem.steady))
    assert steady < 0.05 * change
    solver = fg.Solver(stack, psi=psi, camera=problem.camera)
    solver.run()
    (phase,) = (phase for phase in solver.phases if phase.name == "covariance")
    assert float(phase.critic.flicker) == pytest.approx(1, abs=0.2)
