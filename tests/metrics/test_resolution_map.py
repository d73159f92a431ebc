"""The rolling Fourier ring correlation: crossings that theory says, and no number where there is none."""

import math

import numpy as np
import pytest

from fluogan_core.metrics import fourier_ring_correlation, resolution_map

WIDTH, RATIO = 0.08, 40.0
#: SNR / (SNR + 1) = 1/7 where SNR = 1/6, for a signal of power RATIO exp(-f^2 / WIDTH^2) against noise of power 1.
CROSSING = WIDTH * math.sqrt(math.log(6 * RATIO))


def signal(seed, size=257, width=WIDTH):
    rng = np.random.default_rng(seed)
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    spectrum = np.fft.fft2(rng.standard_normal((size, size))) * np.exp(-0.5 * (radius / width) ** 2)
    return math.sqrt(RATIO) * np.fft.ifft2(spectrum).real


def noisy(image, seed):
    rng = np.random.default_rng(1000 + seed)
    return [image + rng.standard_normal(image.shape) for _ in range(2)]


def test_blocks_cross_where_signal_and_noise_say():
    found = resolution_map(*noisy(signal(0), 0), pixel_size_nm=20, step=32)
    assert np.isfinite(found.resolution_nm).all()
    # 49 blocks that overlap by half, each to 10 %
    assert found.median_nm == pytest.approx(20 / CROSSING, rel=3 * 0.1 / math.sqrt(49 / 2))
    assert found.reason == ""


def test_two_halves_of_a_field_have_each_its_own():
    fine, coarse = signal(1, 192), signal(2, 192, WIDTH / 2)
    image = np.where(np.arange(192) < 96, fine, coarse)
    found = resolution_map(*noisy(image, 1), pixel_size_nm=20, step=16)
    left, right = np.median(found.resolution_nm[:, :40]), np.median(found.resolution_nm[:, -40:])
    expected = [20 / (w * math.sqrt(math.log(6 * RATIO))) for w in (WIDTH, WIDTH / 2)]
    assert [left, right] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("shape", [(257, 256), (256, 257), (257, 257)])
def test_one_row_more_changes_nothing(shape):
    a, b = noisy(signal(3), 3)
    whole = resolution_map(a[:256, :256], b[:256, :256], pixel_size_nm=20, step=48)
    more = resolution_map(a[: shape[0], : shape[1]], b[: shape[0], : shape[1]], pixel_size_nm=20, step=48)
    assert more.resolution_nm.shape == shape
    assert np.array_equal(more.resolution_nm[:256, :256], whole.resolution_nm)
    assert more.median_nm == whole.median_nm


def test_the_whole_field_is_the_same_at_256_and_257_pixels():
    a, b = noisy(signal(4), 4)
    even = fourier_ring_correlation(a[:256, :256], b[:256, :256], pixel_size_nm=20).resolution_nm
    odd = fourier_ring_correlation(a, b, pixel_size_nm=20).resolution_nm
    assert odd == pytest.approx(even, rel=0.02)


def test_images_of_noise_have_no_number():
    """Of 400 blocks of noise at most a few; without the test of the rings it would be four in ten."""
    rng = np.random.default_rng(5)
    numbers = [resolution_map(*rng.standard_normal((2, 320, 320)), pixel_size_nm=20, side=32, step=32) for _ in range(4)]
    assert sum(np.isfinite(found.resolution_nm[::32, ::32]).sum() for found in numbers) <= 4
    assert not any(found.limited_by_pixels.any() for found in numbers)


def test_weak_signal_is_found_and_noise_beside_it_is_not():
    image = np.zeros((64, 192))
    image[:, :64] = 0.6 * signal(6)[:64, :64]
    found = resolution_map(*noisy(image, 6), pixel_size_nm=20, step=64)
    assert np.isfinite(found.resolution_nm[32]).tolist() == [True] * 64 + [False] * 128


@pytest.mark.parametrize("level", [0.0, 7.3, 1e6])
def test_flat_images_have_none_and_say_so(level):
    flat = np.full((70, 70), level)
    found = resolution_map(flat, flat, pixel_size_nm=20)
    assert np.isnan(found.resolution_nm).all()
    assert not found.limited_by_pixels.any()
    assert found.median_nm is None
    assert "nothing in common" in found.reason


def test_equal_images_are_limited_by_their_pixels():
    image = np.random.default_rng(7).random((64, 80))
    found = resolution_map(image, image, pixel_size_nm=20)
    assert found.limited_by_pixels.all()
    assert np.isnan(found.resolution_nm).all()
    assert "pixels limit" in found.reason


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [((40, 90), {}, "smaller side"), ((64, 64), {"side": 8}, "16"), ((64, 64), {"step": 0}, "step")],
)
def test_what_does_not_fit_is_refused(shape, options, said):
    with pytest.raises(ValueError, match=said):
        resolution_map(np.ones(shape), np.ones(shape), pixel_size_nm=20, **options)
