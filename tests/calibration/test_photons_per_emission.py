"""Photons per emission beside a background that does not flicker, and where they cannot be told."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.calibration import camera
from fluogan_core.calibration.pixel_moments import in_two, pixel_moments

SHAPE, KAPPA, CAMERA = (28, 28), 30.0, {"gain": 2.0, "offset": 100.0, "noise_std": 3.0}
PSI = fg.Psi(fg.gaussian_psf(300, 100, 2), SHAPE, 2, photons_per_emitter=KAPPA, backend="numpy")


def lines() -> np.ndarray:
    x = np.zeros(PSI.fine_shape, np.float32)
    x[10:46, 20] = x[10:46, 36] = x[30, 10:46] = 8.0 / KAPPA
    return x


def background(kind: str) -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] / SHAPE[0]
    corner = 60.0 * np.exp(-3.0 * np.hypot(y, x))
    bump = 60.0 * np.exp(-8.0 * ((y - 0.5) ** 2 + (x - 0.4) ** 2))
    return {"none": np.zeros(SHAPE), "flat": np.full(SHAPE, 30.0), "corner": corner, "bump": bump}[kind].astype(np.float32)


def recorded(x: np.ndarray, b: np.ndarray, seed: int, frames: int = 200) -> np.ndarray:
    return fg.ForwardModel(PSI, gain=2.0, noise_std=3.0).sample(x, b, frames, seed=seed) + np.float32(100)


def estimated(stack: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> tuple[fg.CameraEstimate, float]:
    """The estimate, and by how many standard errors light is told from a background."""
    strength, clear = camera.flicker_strength, []

    def noted(*arguments):
        clear.append(strength(*arguments))
        return clear[-1]

    with monkeypatch.context() as patch:
        patch.setattr(camera, "flicker_strength", noted)
        return fg.estimate_camera(stack, PSI, **CAMERA), clear[-1].clear


@pytest.mark.parametrize("kind", ["none", "flat", "corner", "bump"])
def test_no_background_makes_emissions_dimmer_than_the_error_says(kind):
    found = [fg.estimate_camera(recorded(lines(), background(kind), seed), PSI, **CAMERA) for seed in range(6)]
    pulls = np.array([(e.photons_per_emitter - KAPPA) / e.photons_per_emitter_error for e in found])
    assert np.abs(pulls).max() < 3.5
    assert abs(pulls.mean()) < 1.5
    # how smooth a background is stays open where it is bright and curved
    assert np.mean([e.photons_per_emitter_error for e in found]) < (0.6 if kind in ("corner", "bump") else 0.15) * KAPPA


def test_a_dim_sample_does_not_make_emissions_dimmer():
    """The noise of the mean frame is not light: least squares on it would find about half of the photons."""
    found = [fg.estimate_camera(recorded(lines() / 8, background("none") + 1, seed, 100), PSI, **CAMERA) for seed in range(8)]
    pulls = np.array([(e.photons_per_emitter - KAPPA) / e.photons_per_emitter_error for e in found])
    assert np.isfinite(pulls).all()
    assert np.abs(pulls).max() < 3.5
    assert abs(np.mean([e.photons_per_emitter for e in found]) / KAPPA - 1) < 0.2


def test_a_sample_that_fills_the_field_leaves_them_open(monkeypatch):
    even = np.full(PSI.fine_shape, 3.0 / KAPPA, np.float32)
    found, clear = estimated(recorded(even, background("flat"), 1), monkeypatch)
    assert clear < 4
    assert math.isinf(found.photons_per_emitter_error)
    assert found.photons_per_emitter < KAPPA
    assert any("photons if nothing is background, else more" in note for note in found.notes)


def test_where_nothing_flickers_the_part_of_other_frames_is_noise(monkeypatch):
    steady = np.random.default_rng(0)
    light = PSI.forward(lines()).astype(np.float64) + background("flat")
    clear = []
    for _ in range(40):
        stack = 2.0 * steady.poisson(light, (60, *SHAPE)) + 100 + 3.0 * steady.standard_normal((60, *SHAPE))
        found, one = estimated(stack.astype(np.float32), monkeypatch)
        clear.append(one)
        assert math.isinf(found.photons_per_emitter_error)
    # the mean of 40 is known to 0.16, their standard deviation to 11 %
    assert abs(np.mean(clear)) < 0.6
    assert 0.65 < np.std(clear) < 1.35


@pytest.mark.parametrize("frames", [2, 3, 5, 8, 9, 30, 41])
def test_halves_hold_every_frame_once_and_together_what_all_say(frames):
    order, first = in_two(frames)
    assert sorted(order) == list(range(frames))
    assert 0 < first <= frames
    assert first >= frames - first
    stack = np.random.default_rng(frames).normal(100, 5, (frames, 6, 7)).astype(np.float32)
    found = pixel_moments(stack, [(0, 1), (2, -1)])
    shares = np.array([first, frames - first]) / frames
    np.testing.assert_allclose(np.tensordot(shares, found.halves.mean, 1), found.mean, rtol=1e-5)
    for shift, whole in found.whole.items():
        np.testing.assert_allclose(np.tensordot(shares, found.halves.whole[shift], 1), whole, rtol=1e-6, atol=1e-6)


def test_molecules_that_stay_on_are_in_both_halves():
    """Each is on once, for eight frames: with one half before the other, none would be in both."""
    rng, light, at = np.random.default_rng(3), np.zeros((96, *PSI.fine_shape), np.float32), []
    for start in range(0, 96, 8):
        at.append(tuple(rng.integers(10, 46, 2)))
        light[start : start + 8, *at[-1]] = 40.0 / KAPPA * 20
    counts = 2.0 * rng.poisson(np.maximum(PSI.forward(light), 0) + 2.0) + 100 + 3.0 * rng.standard_normal((96, *SHAPE))
    found = fg.estimate_camera(counts.astype(np.float32), PSI, **CAMERA)
    # on for a twelfth of the time, each sends 800 photons a frame then
    assert found.photons_per_emitter == pytest.approx(800 * 11 / 12, rel=0.25)
