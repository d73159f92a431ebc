"""What users are told of a camera: numbers that can be, that can be read, and that can be typed back."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.calibration.flicker import SHAPED, SPREAD, Flicker
from fluogan_core.calibration.pixel_moments import Halves, PixelMoments, live_pixels
from fluogan_core.calibration.plain import change_of_light, plain
from fluogan_core.calibration.remarks import camera_notes, flicker_notes, gain_refusal, usable_brightness
from fluogan_core.io.report import estimate_rows
from fluogan_core.tuning import DEFAULT


def moments_of(brightness: np.ndarray) -> PixelMoments:
    return PixelMoments(
        np.full((4, 4), brightness.mean()), np.ones((4, 4)), {}, {}, brightness, Halves(np.ones((2, 4, 4)), {}, {})
    )


def flicker_of(disagreement: float) -> Flicker:
    fast = np.zeros((26, SHAPED + SPREAD))
    return Flicker(fast, fast, np.zeros((SHAPED + 1, 4, 4)), disagreement, 0.0)


@pytest.mark.parametrize("value", [0.0, 7.0, -0.012345, 2.0209, 99.99951, 3.2668e4, -3.267e4, 65535.0, 1.5e12, 1.2e-9])
@pytest.mark.parametrize("digits", [2, 3, 4, 6])
def test_a_number_in_a_message_can_be_typed_back_and_has_all_digits_before_its_point(value, digits):
    text = plain(value, digits)
    assert re.fullmatch(r"-?\d+(\.\d+)?", text)
    assert float(text) == pytest.approx(value, rel=0.5 * 10.0 ** (1 - digits), abs=0)
    assert abs(float(text) - value) <= 0.5 or abs(value) < 1


def test_what_is_not_finite_is_named():
    assert [plain(value) for value in (float("inf"), -float("inf"), float("nan"))] == ["inf", "-inf", "nan"]


def test_an_offset_below_nothing_is_printed_in_full():
    found = fg.CameraEstimate(fg.Camera(2.0209, -32668.4, 2.917), 134.2, 0.087, 12345.6, 1.51, float("inf"))
    rows = {row[0]: row[1:3] for row in estimate_rows(found)}
    assert rows["offset"] == ("-32668", "12346")
    assert rows["gain"] == ("2.021", "0.087")
    assert rows["photons per emitter"] == ("134.2", "inf")


@pytest.mark.parametrize(("last", "said"), [(8.3, "falls by 17%"), (0.0, "falls by 100%"), (13.0, "rises by 30%")])
def test_light_falls_by_all_of_it_at_most(last, said):
    assert change_of_light(10.0, last) == said


@pytest.mark.parametrize("last", [20.0, 45.0, 123456.0])
def test_light_that_doubles_or_more_is_told_as_a_factor(last):
    assert change_of_light(10.0, last) == f"rises to {last / 10:g} times its value".replace("12345.6", "12346")


@pytest.mark.parametrize("given", [{}, {"offset": 103.0}])
def test_light_that_ends_below_the_offset_is_no_fall_by_more_than_all(given):
    brightness = np.linspace(150.0, 100.0, 200)
    notes = camera_notes(moments_of(brightness), (2.0, 2.0, 2.0), 0.1, 103.0, given)
    (note,) = (note for note in notes if note.startswith("bleaching or drift"))
    assert f"not above the {'given' if given else 'estimated'} offset of 103 counts" in note
    assert "%" not in note


def test_light_that_ends_above_the_offset_falls_by_its_part():
    brightness = np.repeat([200.0, 150.0], 100)
    notes = camera_notes(moments_of(brightness), (2.0, 2.0, 2.0), 0.1, 100.0, {"offset": 100.0})
    assert notes == ["bleaching or drift: the light above the offset falls by 50% over the stack"]
    assert camera_notes(moments_of(np.full(200, 150.0)), (2.0, 2.0, 2.0), 0.1, 100.0, {"offset": 100.0}) == []


def test_pairs_that_disagree_are_told_in_photons():
    (note,) = flicker_notes(flicker_of(13.53), np.array([4.0, 4.0]), np.array([0.5, 0.5]))
    assert "closer and wider pairs of pixels give photons per emission that differ by 54; all" in note
    assert note.endswith("together give 4")
    assert "%" not in note
    assert flicker_notes(flicker_of(0.19), np.array([4.0, 4.0]), np.array([0.5, 0.5])) == []


@pytest.mark.parametrize(("changes", "shown"), [(2.48, "62%"), (-3.0, "0%")])
def test_slow_flicker_says_of_what_changes_show_a_part(changes, shown):
    (note,) = flicker_notes(flicker_of(0.0), np.array([4.0, changes]), np.array([0.1, 0.1]))
    assert f"differences of consecutive frames show only {shown} of the flicker's variance over the whole stack" in note


def test_photons_per_emission_that_were_not_measured_say_why_and_what_is_taken():
    nothing = "photons per emission: not measured, because no PSF was given; 1 photon per emission is assumed"
    assert usable_brightness(math.nan, math.inf, True) == (1.0, math.inf, nothing)
    assert usable_brightness(4.0, 1.0, True) == (4.0, 1.0, "")
    value, error, note = usable_brightness(3.0, 20000.0, False)
    assert (value, error) == (1.0, math.inf)
    assert "not determined by this stack (3 +- 20000 photons); 1 photon per emission is assumed" in note
    value, error, note = usable_brightness(-0.1, 0.11, False)
    assert (value, error) == (0.11, math.inf)
    assert "hardly any flicker (-0.1 +- 0.11 photons); the larger of value and error is used" in note


def test_photons_per_emission_that_are_measured_but_vague_keep_their_error():
    value, error, note = usable_brightness(400.0, 500.0, True)
    assert (value, error) == (500.0, 500.0)
    assert "hardly any flicker (400 +- 500 photons)" in note
    strict = dataclasses.replace(DEFAULT.calibration.camera, clear_kappa=5.0, vague_kappa=0.5)
    assert usable_brightness(4.0, 1.0, True, strict)[:2] == (4.0, 1.0)
    assert "hardly any flicker" in usable_brightness(4.0, 1.0, True, strict)[2]
    assert "not determined" in usable_brightness(4.0, 1.0, False, strict)[2]


def test_light_that_may_be_background_leaves_the_photons_per_emission_open():
    value, error, note = usable_brightness(4.0, 1.0, False)
    assert (value, error) == (4.0, math.inf)
    assert note == "photons per emission: 4 +- 1 photons if nothing is background, else more: the sample is not told from it"


def test_the_refusal_of_a_gain_prints_no_exponent():
    said = gain_refusal(moments_of(np.full(100, 5.0)), 123456.0, 23456.0, 98765.4)
    assert "slope of variance on mean 123456 +- 23456" in said
    assert "change the slope by 98765 " in said
    assert "e+" not in said


def test_saturation_prints_the_largest_value_in_full():
    stack = np.random.default_rng(0).integers(0, 1_000_000, (30, 8, 8))
    stack[:, 2, 2] = 1_234_567
    _, notes = live_pixels(stack, stack.mean(axis=0), stack.var(axis=0), np.zeros((8, 8), dtype=bool))
    assert notes[0] == "saturation: 1.56% of the values are 1234567, the largest one; their pixels are left out"


def test_unequal_pixels_and_a_psf_below_a_pixel_are_said_and_stripes_are_no_unequal_pixels():
    rng = np.random.default_rng(0)
    light = np.broadcast_to(np.linspace(5, 60, 24), (24, 24))
    given = {"gain": 1.0, "offset": 100.0, "noise_std": 0.0, "photons_per_emitter": 1.0, "psf_width": 1}

    def said(pattern, fwhm_nm=300.0):
        stack = rng.poisson(light, (200, 24, 24)) + 100 + pattern
        found = fg.calibrate(stack, fg.Psi(fg.gaussian_psf(fwhm_nm, 100, 3), (24, 24), 3, backend="numpy"), **given)
        return " ".join(found.remarks)

    unequal, stripes = 3 * rng.standard_normal((24, 24)), 3 * rng.standard_normal((24, 1))
    assert "times noisier than its fluctuations explain" in said(unequal)
    assert "noisier" not in said(stripes)
    assert "noisier" not in said(0)
    assert "is the pixel size right" in said(0, 80.0)
    assert "is the pixel size right" not in said(0)
