"""Frames of several kinds that take turns: their number is found, and what one sample does is not taken for it."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.calibration.in_turn import frames_in_turn

SHAPE = (24, 24)


def sample(seed: int, frames: int = 120, on: float = 0.3, stays: float = 1.0) -> np.ndarray:
    """Rates of 30 molecules that blink, on for ``stays`` frames on average, photons."""
    rng = np.random.default_rng(seed)
    r, c = np.mgrid[: SHAPE[0], : SHAPE[1]]
    at = rng.uniform(3, SHAPE[0] - 3, (30, 2))
    images = np.array([np.exp(-((r - a) ** 2 + (c - b) ** 2) / 3.6) / (3.6 * np.pi) for a, b in at])
    state, shown = rng.random(30) < on, []
    for _ in range(frames):
        draw = rng.random(30)
        state = np.where(state, draw > 1 / stays, draw < on / (1 - on) / stays) if stays > 1 else draw < on
        shown.append(state)
    return np.tensordot(np.array(shown, dtype=float), images, axes=1) * 600 + 8


def camera(light: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(900 + seed)
    return np.rint(2.0 * rng.poisson(light) + 100 + 2.0 * rng.standard_normal(light.shape)).astype(np.uint16)


def turning(period: int, seed: int) -> np.ndarray:
    """Samples with the same light at other places, frame after frame."""
    kinds = [sample(50 * kind + seed) for kind in range(period)]
    return camera(np.array([kinds[t % period][t] for t in range(120)]), seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("period", [2, 3, 4])
def test_the_number_of_kinds_is_found(period, seed):
    found = frames_in_turn(turning(period, seed))
    assert found.period == period
    assert found.contrast > 0.4
    assert f"frames 0, {period}, {2 * period}, ... and frames 1, " in found.note
    assert f"--frames 0::{period}" in found.note


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [{}, {"on": 0.03}, {"stays": 3.0}, {"frames": 30}, {"frames": 20}], ids=str)
def test_one_sample_takes_no_turns(kind, seed):
    assert frames_in_turn(camera(sample(seed, **kind), seed)).period == 1


@pytest.mark.parametrize("fall", [1.0, 3.0])
def test_bleaching_takes_no_turns(fall):
    light = sample(5, on=0.9) * np.exp(-fall * np.linspace(0, 1, 120))[:, None, None]
    assert frames_in_turn(camera(light, 5)).period == 1


def test_nothing_is_said_of_frames_without_noise_or_structure():
    assert frames_in_turn(np.full((40, 8, 8), 7)).note == ""


def test_the_calibration_names_them_once():
    psi = fg.Psi(fg.gaussian_psf(316, 100, 2), SHAPE, 2, backend="numpy")
    said = fg.calibrate(turning(2, 0), psi, camera=fg.Camera(2.0, 100.0, 2.0), photons_per_emitter=400, psf_width=1).remarks
    assert sum("show different images" in remark for remark in said) == 1
