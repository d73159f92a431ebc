"""Pixels without a count: dark where the light around them explains it, dead where it does not."""

from __future__ import annotations

import logging

import numpy as np

import fluogan_core as fg
from fluogan_core.calibration.bad_pixels import without_bad_pixels
from fluogan_core.calibration.unlit import unlit_pixels


def spot(peak: float, frames: int = 200, shape=(30, 34), seed: int = 0) -> np.ndarray:
    """Photon counts of one blurred spot on almost no background."""
    r, c = np.mgrid[: shape[0], : shape[1]]
    light = peak * np.exp(-((r - 14) ** 2 + (c - 16) ** 2) / 40) + 0.0005
    return np.random.default_rng(seed).poisson(light, (frames, *shape)).astype(np.uint16)


def unlit(stack: np.ndarray) -> np.ndarray:
    return unlit_pixels(stack.var(axis=0), (stack == stack.min()).mean(axis=0), len(stack))


def test_pixels_that_no_photon_meets_are_not_called_dead():
    stack = spot(3.0)
    still = stack.var(axis=0) == 0
    assert still.sum() > 100
    assert np.array_equal(unlit(stack), still)
    found = fg.estimate_camera(stack, offset=0.0, noise_std=0.0)
    assert not any("never change" in note for note in found.notes)
    assert abs(found.camera.gain - 1) < 4 * found.gain_error


def test_a_dead_pixel_in_the_light_is_still_dead():
    stack = spot(3.0)
    stack[:, 14, 16] = 0
    assert not unlit(stack)[14, 16]
    found = fg.estimate_camera(stack, offset=0.0, noise_std=0.0)
    assert any("left out: 1 that never change" in note for note in found.notes)


def test_the_rim_of_a_registration_and_a_pixel_stuck_at_a_level_are_not_unlit():
    stack = spot(3.0) + 100
    stack[:, :4] = 0
    assert not unlit(stack).any()
    stuck = spot(3.0)
    stuck[:, 2, 2] = 7
    assert not unlit(stuck)[2, 2]


def test_a_dark_border_is_not_taken_for_a_registration(caplog):
    stack = spot(0.4, shape=(44, 28), seed=1)
    stack[:, :2] = stack[:, -6:] = 0
    assert unlit(stack)[-6:].all()
    psi = fg.Psi(fg.gaussian_psf(400, 100, 2), (44, 28), 2)
    with caplog.at_level(logging.WARNING, "fluogan_core"):
        without_bad_pixels(stack, psi)
    assert "registration" not in caplog.text
    stack[:, 2:-6] += 50
    with caplog.at_level(logging.WARNING, "fluogan_core"):
        without_bad_pixels(stack, psi)
    assert "registration" in caplog.text
