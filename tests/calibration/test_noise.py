"""The noise of a stack and of its mean frame."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.calibration.noise import stack_noise

PSI = fg.Psi(fg.gaussian_psf(318, 100, 4), (32, 36), 4)


def frames(rng, count=200, trend=0.0, pattern=0.0):
    """Poisson frames of a blurred line of 100 photons on 10, with a trend in time and a fixed pattern of the camera."""
    x = np.zeros(PSI.fine_shape)
    x[20:-20, 70] = 20.0
    light = PSI.forward(x) + 10
    fall = np.linspace(1 + trend, 1 - trend, count)[:, None, None]
    return rng.poisson(light * fall) + pattern * rng.standard_normal(PSI.shape), light


def test_variance_is_that_of_the_shot_noise_whatever_the_trend(rng):
    counts, light = frames(rng)
    assert stack_noise(counts, PSI).variance == pytest.approx(light.mean(), rel=0.01)
    fading, _ = frames(rng, trend=0.3)
    assert stack_noise(fading, PSI).variance == pytest.approx(light.mean(), rel=0.01)


def test_signal_to_noise_of_the_bright_pixels(rng):
    counts, light = frames(rng)
    bright = np.quantile(light, 0.99)
    expected = (bright - 10) / np.sqrt(light[light >= bright].mean() / 200)
    assert stack_noise(counts, PSI).signal_to_noise == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("slope", [(0.0, 0.0), (6.0, 0.0), (3.0, 4.0)])
def test_a_background_that_rises_across_the_field_is_no_signal(rng, slope):
    """Nor is its noise that of the light: up to 400 photons of background for 90 of the line."""
    x = np.zeros(PSI.fine_shape)
    x[20:-20, 70] = 20.0
    light = PSI.forward(x)
    down, across = np.mgrid[: PSI.shape[0], : PSI.shape[1]]
    found = stack_noise(rng.poisson(light + 10 + slope[0] * down + slope[1] * across, (200, *PSI.shape)), PSI)
    assert found.signal == pytest.approx(np.quantile(light, 0.99), rel=0.15)


def test_a_fixed_pattern_is_seen_in_the_mean_and_not_in_the_variance(rng):
    plain, light = frames(rng)
    fixed, _ = frames(rng, pattern=2.0)
    clean, noisy = stack_noise(plain, PSI), stack_noise(fixed, PSI)
    assert clean.excess == pytest.approx(1.0, abs=0.15)
    assert clean.of_mean == pytest.approx(np.sqrt(light.mean() / 200), rel=0.15)
    # some 400 frequencies are read: an amplitude is known to 3.5 %
    assert noisy.excess == pytest.approx(np.sqrt(1 + 4.0 / (light.mean() / 200)), rel=0.14)
    assert noisy.variance == pytest.approx(clean.variance, rel=0.02)
    # the pattern also pushes the brightest pixels up a little
    assert 1.0 < noisy.signal_to_noise * noisy.excess / (clean.signal_to_noise * clean.excess) < 1.3


def test_flicker_is_no_noise_of_the_mean(rng):
    """It makes frames vary, but what it leaves in the mean has gone through the PSF."""
    emissions = np.zeros((200, *PSI.fine_shape), dtype=np.float32)
    emissions[:, 30:-30, 30:-30] = rng.poisson(0.5, emissions[:, 30:-30, 30:-30].shape)
    counts = rng.poisson(20.0 * PSI.forward(emissions) + 10)
    noise = stack_noise(counts, PSI)
    shot = np.sqrt(counts.mean() / noise.variance)
    assert shot < 0.85
    assert noise.excess == pytest.approx(shot, rel=0.12)


def test_a_narrow_psf_tells_nothing_of_the_pattern(rng):
    narrow = fg.Psi(fg.gaussian_psf(120, 100, 4), PSI.shape, 4)
    fixed, _ = frames(rng, pattern=2.0)
    assert stack_noise(fixed, narrow).excess == 1.0


@pytest.mark.parametrize("stuck", [False, True])
def test_pixels_that_stand_still_are_not_the_best_known_ones(rng, stuck):
    """Saturated ones, or stuck at a level of their own."""
    counts, _ = frames(rng)
    plain = stack_noise(counts, PSI)
    if stuck:
        counts[:, 5, 5:25] = 4000.0
    else:
        counts = np.minimum(counts, np.quantile(counts, 0.93))
        assert (counts.var(axis=0) == 0).sum() > 3
    found = stack_noise(counts, PSI)
    assert found.signal <= 1.05 * plain.signal
    assert found.signal_to_noise < 1.5 * plain.signal_to_noise


def test_a_field_of_too_few_pixels_tells_nothing_of_the_pattern(rng):
    """No frequency of so few pixels lies beyond what this PSF passes."""
    psi = fg.Psi(fg.gaussian_psf(224, 100, 4, truncate=3), (8, 8), 4)
    assert stack_noise(rng.poisson(20.0, (50, 8, 8)).astype(np.float64), psi).excess == 1.0


def test_counts_beyond_all_numbers_are_refused(rng):
    with pytest.raises(ValueError, match="divide all counts by one factor"):
        stack_noise(np.float32(1e25) * rng.random((5, 32, 36)).astype(np.float32), PSI)


def test_frames_that_never_change_are_refused():
    with pytest.raises(ValueError, match="do not change at all"):
        stack_noise(np.ones((5, *PSI.shape)), PSI)
