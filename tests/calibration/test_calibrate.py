"""One owner of the chain from a raw stack to what a solver needs: the same as its links by hand, each measured once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.calibration import pixel_moments, stack_statistics
from fluogan_core.calibration.bad_pixels import without_bad_pixels
from fluogan_core.calibration.noise import stack_noise, temporal_moments
from fluogan_core.calibration.stack_statistics import StackStatistics
from fluogan_core.simulation.phantom import smooth_background
from fluogan_core.simulation.photokinetics import Blinking

SHAPE = (32, 32)


def operator(width: float = 1.0, **options) -> fg.Psi:
    return fg.Psi(fg.gaussian_psf(width * 318, 100, 2), SHAPE, 2, backend="numpy", **options)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Blinking lines, uint16."""
    pattern = fg.argolight_pattern((240.0,), pixel_size_nm=100, factor=2, shape=SHAPE, margin_nm=200)
    return fg.simulate_sofi(
        pattern, frames=300, density_per_um2=500, fwhm_nm=318, blinking=Blinking(photons_per_frame=40.0),
        background=smooth_background(SHAPE, 10.0, seed=2), seed=2,
    ).frames  # fmt: skip


def with_a_hot_pixel(frames: np.ndarray) -> np.ndarray:
    frames = frames.copy()
    frames[:, 5, 7] = 3000
    return frames


@pytest.mark.parametrize("described", [1.0, 1.1])
@pytest.mark.parametrize("damage", [lambda frames: frames, with_a_hot_pixel], ids=["whole", "hot"])
def test_it_is_the_chain_of_its_links(frames, described, damage):
    """By hand, on copies: the very same numbers."""
    frames = damage(frames)
    found = fg.calibrate(frames, operator(described))
    width = fg.estimate_psf_width(frames, operator(described))
    psi = operator(described).scaled(width.width)
    estimate = fg.estimate_camera(frames, psi)
    psi = psi.replaced(photons_per_emitter=estimate.photons_per_emitter)
    counts, bad = without_bad_pixels(frames.astype(np.float32) - np.float32(estimate.camera.offset), psi)
    assert (found.psf_width, found.estimate, found.camera) == (width, estimate, estimate.camera)
    assert (width.width == 1) == (described == 1)
    np.testing.assert_array_equal(found.psi.table, psi.table)
    assert found.psi.photons_per_emitter == estimate.photons_per_emitter
    assert found.noise == stack_noise(counts, psi)
    np.testing.assert_array_equal(found.bad_pixels, bad)
    assert bad.sum() == (damage is with_a_hot_pixel)
    np.testing.assert_array_equal(found.bad_pixel_values, counts[0, bad])
    np.testing.assert_array_equal(found.mean, counts.mean(axis=0, dtype=np.float64))
    assert found.remarks[: len(estimate.notes) + 1] == (*estimate.notes, width.note)
    assert any("left out of the fit: 1 " in remark for remark in found.remarks) == bad.any()


def test_moments_and_live_pixels_are_computed_once(frames, monkeypatch):
    """A PSF of another width asks for shifts that were not asked for before, and for these alone."""
    asked, looked = [], []

    def moments(stack, shifts):
        asked.append(shifts)
        return pixel_moments.pixel_moments(stack, shifts)

    def live(*arguments):
        looked.append(arguments)
        return pixel_moments.live_pixels(*arguments)

    monkeypatch.setattr(stack_statistics, "pixel_moments", moments)
    monkeypatch.setattr(stack_statistics, "live_pixels", live)
    assert fg.calibrate(frames, operator()).psf_width.width == 1
    assert (len(asked), len(looked)) == (1, 1)
    assert fg.calibrate(frames, operator(0.9)).psf_width.width > 1
    assert len(looked) == 2
    assert len(asked) == 3
    assert asked[2]
    assert not set(asked[1]) & set(asked[2])


def test_moments_of_more_shifts_are_those_of_all_at_once(frames):
    statistics = StackStatistics(frames)
    statistics.moments([(0, 1)])
    grown, whole = statistics.moments([(0, 1), (1, -1)]), pixel_moments.pixel_moments(frames, [(0, 1), (1, -1)])
    for mine, other in ((grown.fast, whole.fast), (grown.whole, whole.whole)):
        assert mine.keys() == other.keys()
        for shift in other:
            np.testing.assert_array_equal(mine[shift], other[shift])


CAMERA = fg.Camera(2.2, 100.0, 3.0)


def test_what_is_given_is_taken_and_the_rest_is_measured(frames):
    parts = {"gain": 2.2, "offset": 100.0, "noise_std": 3.0}
    by_camera, by_parts = fg.calibrate(frames, operator(1.1), camera=CAMERA), fg.calibrate(frames, operator(1.1), **parts)
    assert by_camera.estimate == by_parts.estimate
    assert by_camera.camera == CAMERA
    assert by_camera.estimate.given == ("gain", "offset", "noise_std")
    assert by_camera.psf_width.width != 1
    assert by_camera.psi.photons_per_emitter == by_camera.estimate.photons_per_emitter > 2
    given = fg.calibrate(frames, operator(), photons_per_emitter=7.0, psf_width=0.9)
    assert given.psi.photons_per_emitter == 7.0
    np.testing.assert_array_equal(given.psi.psf, operator().scaled(0.9).replaced(photons_per_emitter=7.0).psf)
    assert "0.9 times as described (given" in given.remarks[-1]


def test_the_brightness_that_psi_carries_is_ignored(frames):
    bright = fg.calibrate(frames, operator(photons_per_emitter=9.0), camera=CAMERA, psf_width=1)
    plain = fg.calibrate(frames, operator(), camera=CAMERA, psf_width=1)
    assert bright.psi.photons_per_emitter == pytest.approx(plain.psi.photons_per_emitter, rel=1e-9)


def test_a_stack_that_tells_no_gain_needs_none_where_all_is_given():
    flat = np.random.default_rng(0).normal(50.0, 7.0, (50, *SHAPE))
    with pytest.raises(ValueError, match="the gain cannot be read"):
        fg.calibrate(flat, operator())
    found = fg.calibrate(flat, operator(), camera=fg.Camera(), photons_per_emitter=1.0, psf_width=1)
    assert found.noise.variance == pytest.approx(49.0, rel=0.05)
    assert found.estimate.gain_error == 0


def test_the_stack_is_read_from_a_stack_and_not_written_to(frames):
    locked = frames.copy()
    locked.flags.writeable = False
    found = fg.calibrate(fg.Stack(with_a_hot_pixel(frames)), operator(), camera=CAMERA, psf_width=1)
    assert found.bad_pixels[5, 7]
    assert not fg.calibrate(locked, operator(), camera=CAMERA, psf_width=1).bad_pixels.any()
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.mean = None


def test_temporal_moments_in_bands_are_those_of_the_whole(frames, monkeypatch):
    whole = temporal_moments(frames, 97.3)
    monkeypatch.setenv("FLUOGAN_MEMORY_BUDGET", str(3 * 16 * frames.shape[0] * SHAPE[1]))
    for mine, other in zip(temporal_moments(frames, 97.3), whole):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"camera": CAMERA, "gain": 2.0}, "gain given beside camera="),
        ({"camera": CAMERA, "offset": 2.0, "noise_std": 1}, "offset and noise_std given beside camera="),
        ({"psf_width": 0}, "psf_width must be at least 0.1"),
        ({"photons_per_emitter": 0}, "photons_per_emitter must be greater than 0"),
        ({"gain": -1}, "gain must be greater than 0"),
    ],
)
def test_bad_arguments_are_named_before_any_work(given, message):
    with pytest.raises(ValueError, match=message):
        fg.calibrate(np.zeros((2, 3, 4)), operator(), **given)


def test_a_stack_of_another_field_is_refused(frames):
    with pytest.raises(ValueError, match="cut both alike"):
        fg.calibrate(frames[:, :20], operator())
