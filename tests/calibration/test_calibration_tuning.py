"""Numbers by trial are passed in: another value reaches the place that uses it, and nothing is replaced in a module."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.calibration.bad_pixels import without_bad_pixels
from fluogan_core.calibration.flicker import PairKernels
from fluogan_core.calibration.noise import stack_noise, temporal_moments
from fluogan_core.calibration.odd_frames import find_odd_frames, without_odd_frames
from fluogan_core.calibration.row_shift import row_shift_from
from fluogan_core.calibration.unlit import unlit_pixels
from fluogan_core.tuning import DEFAULT, CalibrationTuning, calibration

BASE = DEFAULT.calibration
SIDE = 30


def tuned(section: str, **values) -> CalibrationTuning:
    return replace(BASE, **{section: replace(getattr(BASE, section), **values)})


@pytest.fixture(scope="module")
def psi() -> fg.Psi:
    return fg.Psi(fg.gaussian_psf(300, 100, 1), (SIDE, SIDE), 1, photons_per_emitter=12.0, backend="numpy")


@pytest.fixture(scope="module")
def frames(psi) -> np.ndarray:
    x = np.zeros(psi.fine_shape, np.float32)
    x[4:26, 8] = x[4:26, 20] = x[15, 4:26] = 5.0
    stack = fg.ForwardModel(psi, gain=2.2, noise_std=3.0).sample(x, np.full((SIDE, SIDE), 6.0, np.float32), 120, 0) + 100
    stack[:, 3, 3] += 400  # a hot pixel, and a frame without light
    dark = 100 + 3 * np.random.default_rng(0).standard_normal((SIDE, SIDE))
    return np.rint(np.insert(stack, 50, dark, axis=0))


def test_every_section_is_frozen_and_says_where_each_number_comes_from():
    sections = [field for field in dataclasses.fields(BASE)]
    named = {name for name in calibration.__all__ if name != "CalibrationTuning"}
    assert named <= {type(getattr(BASE, section.name)).__name__ for section in sections}
    for section in sections:
        value = getattr(BASE, section.name)
        for field in dataclasses.fields(value):
            assert field.name in type(value).__doc__
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, field.name, 0)


@pytest.mark.parametrize(
    ("section", "values", "what"),
    [
        ("camera", {"blocks": 3}, "gain_error"),
        ("camera", {"outlier": 1.5}, "gain"),
        ("camera", {"most_read_noise": 1.0}, "noise"),
        ("camera", {"least_variance": 0.9}, "gain_error"),
        ("camera", {"line_passes": 1}, "gain"),
        ("camera", {"flicker_passes": 1}, "kappa"),
        ("camera", {"psf_doubt": 50.0}, "kappa"),
        ("camera", {"psf_doubt": 0.9}, "kappa_error"),
        ("flicker", {"smooth": 4.0}, "kappa"),
        ("flicker", {"instrument": 1e9}, "kappa"),
        ("flicker", {"wiener": 0.1}, "kappa"),
        ("flicker", {"neighbours": 8}, "kappa"),
        ("flicker", {"distances": (1.0,)}, "kappa"),
        ("live_pixels", {"hot": 1e9}, "hot"),
        ("odd_frames", {"clear": 1e9}, "frames"),
        ("psf_width", {"blocks": 3}, "width_error"),
        ("psf_width", {"grid": 0.01}, "width"),
        ("psf_width", {"fewest_frames": 1000}, "width"),
        ("noise", {"edge": 0.3, "passed": 2.0}, "excess"),
        ("noise", {"bright": 0.5}, "signal"),
        ("bad_pixels", {"errors": 1e9}, "bad"),
        ("bad_pixels", {"brightest": 1e9}, "bad"),
        ("bad_pixels", {"fewest": 10_000}, "bad"),
    ],
)
def test_another_number_reaches_what_it_is_for(frames, psi, section, values, what):
    def measured(tuning: CalibrationTuning) -> float:
        found = fg.calibrate(frames, psi, tuning=tuning)
        return {
            "gain": found.camera.gain,
            "gain_error": found.estimate.gain_error,
            "noise": found.camera.noise_std,
            "kappa": found.estimate.photons_per_emitter,
            "kappa_error": found.estimate.photons_per_emitter_error,
            "hot": any("stand out alone" in remark for remark in found.remarks),
            "frames": len(found.left_out),
            "width": found.psf_width.measured,
            "width_error": found.psf_width.error,
            "excess": found.noise.excess,
            "signal": found.noise.signal,
            "bad": found.bad_pixels.sum(),
        }[what]

    assert measured(BASE) == measured(CalibrationTuning())
    assert measured(BASE) != measured(tuned(section, **values))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"few_frames": 500}, "only 120 frames"),
        ({"light_changed": 0.0}, "bleaching or drift"),
        ({"bent": 0.0, "bent_errors": 0.0}, "variance is not proportional"),
        ({"slow": -9.0, "slow_errors": -1e9}, "slow fluctuation"),
        ({"pairs_disagree": -1.0}, "does not fall with distance as this PSF predicts"),
    ],
)
def test_remarks_follow_their_bounds(frames, psi, values, said):
    assert any(said in note for note in fg.estimate_camera(frames, psi, tuning=tuned("camera", **values)).notes)
    assert not any(said in note for note in fg.estimate_camera(frames, psi).notes)


def test_refusals_follow_their_bounds(frames, psi):
    with pytest.raises(ValueError, match="gain cannot be read"):
        fg.estimate_camera(frames, psi, tuning=tuned("camera", clear_gain=1e9))
    with pytest.raises(ValueError, match="no camera is so quiet"):
        fg.estimate_camera(frames, psi, tuning=tuned("camera", least_noise=1e9))
    with pytest.raises(ValueError, match="at least 5000 are needed"):
        fg.estimate_camera(frames, psi, tuning=tuned("live_pixels", fewest=5000))
    with pytest.raises(ValueError, match="float32 cannot hold"):
        stack_noise(frames, psi, replace(BASE.noise, largest=50.0))
    with pytest.raises(ValueError, match="float32 cannot hold"):
        temporal_moments(frames, 0.0, replace(BASE.noise, largest=50.0))


def test_functions_of_a_room_take_their_own_section(frames, psi):
    assert find_odd_frames(frames).numbers == (50,)
    assert find_odd_frames(frames, replace(BASE.odd_frames, around=1000)).numbers == ()
    recording = fg.Stack(frames)
    assert without_odd_frames(recording, replace(BASE.odd_frames, around=1000))[1] == ""
    lit = np.delete(frames, 50, axis=0)
    assert without_bad_pixels(lit, psi)[1][3, 3]
    assert not without_bad_pixels(lit, psi, tuned("bad_pixels", errors=1e9))[1].any()
    assert len(PairKernels(psi, replace(BASE.flicker, strong=0.9)).near) < len(PairKernels(psi).near)
    variance, lowest = np.ones((5, 5)), np.full((5, 5), 0.9)
    variance[2, 2], lowest[2, 2] = 0.0, 1.0
    assert unlit_pixels(variance, lowest, 100)[2, 2]
    assert not unlit_pixels(variance, lowest, 100, replace(BASE.live_pixels, unlit_counts=5.0)).any()
    shifted = np.exp(-((np.arange(32) - 16 - 0.2 * (np.arange(32)[:, None] % 2)) ** 2) / 8)
    field = fg.Psi(fg.gaussian_psf(300, 100, 1), (32, 32), 1, backend="numpy")
    assert row_shift_from(shifted, np.full((32, 32), 1e-6), field).applied
    assert not row_shift_from(shifted, np.full((32, 32), 1e-6), field, replace(BASE.row_shift, least=1.0)).applied
