"""Fourier ring correlation crosses where signal and noise say, or gives a reason."""

import math

import numpy as np
import pytest

from fluogan_core.metrics.resolution import fourier_ring_correlation


def two_noisy_copies(seed, size=192, width=0.08, ratio=40.0):
    """Two images of one object whose power falls as ratio * exp(-f^2 / width^2) against white noise of power 1."""
    rng = np.random.default_rng(seed)
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    spectrum = np.fft.fft2(rng.standard_normal((size, size))) * np.exp(-0.5 * (radius / width) ** 2)
    signal = math.sqrt(ratio) * np.fft.ifft2(spectrum).real
    return [10 + signal + rng.standard_normal(signal.shape) for _ in range(2)]


def test_ring_correlation_crosses_where_signal_and_noise_say():
    a, b = two_noisy_copies(0)
    found = fourier_ring_correlation(a, b, pixel_size_nm=20)
    # SNR / (SNR + 1) = 1/7 where SNR = 1/6: f = width sqrt(ln(6 ratio)).
    crossing = 0.08 * math.sqrt(math.log(6 * 40)) / 20
    # A ring of about 220 modes has a correlation to 1 / sqrt(220) = 0.07, on a slope of about 0.05 per ring of 1 / 192.
    assert found.resolution_nm == pytest.approx(1 / crossing, rel=3 * 1.4 / 36)
    assert found.reason == ""


def test_ring_correlation_follows_signal_and_noise():
    curves = [fourier_ring_correlation(*two_noisy_copies(seed), pixel_size_nm=20) for seed in range(8)]
    mean = np.mean([curve.correlation for curve in curves], axis=0)
    snr = 40 * np.exp(-((curves[0].frequency_per_nm * 20 / 0.08) ** 2))
    modes = np.pi * np.arange(1, mean.size + 1)  # independent ones in a ring, half of its 2 pi k being conjugates
    # The window mixes about two rings and leaves fewer independent modes: twice the plain standard error, at 4 sigma.
    assert np.all(np.abs(mean - snr / (snr + 1))[3:] <= 4 * 2 / np.sqrt(8 * modes[3:]))


def test_resolution_is_in_the_unit_of_the_pixels():
    a, b = two_noisy_copies(1)
    fine, coarse = (fourier_ring_correlation(a, b, pixel_size_nm=p) for p in (10, 30))
    assert coarse.resolution_nm == pytest.approx(3 * fine.resolution_nm)


@pytest.mark.parametrize("shape", [(64, 64), (40, 100), (33, 47)])
def test_equal_images_are_limited_by_their_pixels(shape):
    a = np.random.default_rng(2).random(shape)
    found = fourier_ring_correlation(a, a, pixel_size_nm=20)
    assert np.allclose(found.correlation, 1)
    assert found.resolution_nm is None
    assert "pixels limit" in found.reason
    assert np.all(np.diff(found.frequency_per_nm) > 0)


def test_opposite_or_flat_images_have_no_resolution_but_a_reason():
    a = np.random.default_rng(3).random((32, 32))
    opposite = fourier_ring_correlation(a, -a, pixel_size_nm=20)
    assert opposite.resolution_nm is None
    assert "first ring" in opposite.reason
    flat = fourier_ring_correlation(a, np.ones((32, 32)), pixel_size_nm=20)
    assert flat.resolution_nm is None
    assert "flat" in flat.reason
    assert np.isfinite(flat.correlation).all()


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.ones((32, 32)), np.ones((32, 31)), "same shape"),
        (np.ones((8, 32)), np.ones((8, 32)), "at least 16"),
        (np.full((32, 32), np.inf), np.ones((32, 32)), "infinite"),
    ],
)
def test_images_that_have_no_rings_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        fourier_ring_correlation(a, b, pixel_size_nm=20)
