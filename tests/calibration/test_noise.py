"""The noise of a stack and of its mean frame."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import fft, stats

import fluogan_core as fg
from fluogan_core.calibration import noise
from fluogan_core.calibration.noise import (
    StackNoise,
    check_largest,
    check_resolved,
    noise_from,
    stack_noise,
    temporal_moments,
    white_power,
)
from fluogan_core.tuning import DEFAULT

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
    found = stack_noise(fixed, narrow)
    assert (found.excess, found.patterned) == (1.0, 0.0)


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
    found = stack_noise(rng.poisson(20.0, (50, 8, 8)).astype(np.float64), psi)
    assert (found.excess, found.patterned) == (1.0, 0.0)


def test_counts_beyond_all_numbers_are_refused(rng):
    with pytest.raises(ValueError, match="divide all counts by one factor"):
        stack_noise(np.float32(1e25) * rng.random((5, 32, 36)).astype(np.float32), PSI)


def test_frames_that_never_change_are_refused():
    with pytest.raises(ValueError, match="do not change at all"):
        stack_noise(np.ones((5, *PSI.shape)), PSI)


def passed_by(psi):
    """What a PSF passes of each cosine of the camera's field, by a Fourier transform of the PSF that is padded with zeros."""
    shape, psf = psi.shape, psi.psf
    padded = np.zeros([2 * psi.factor * n for n in shape])
    padded[: psf.shape[0], : psf.shape[1]] = psf
    return np.abs(np.fft.fft2(padded))[: shape[0], : shape[1]]


def read_frequencies(psi):
    """The frequencies at which the noise is read: high down or across, and next to nothing passes."""
    tuning = DEFAULT.calibration.noise
    down, across = (np.arange(n) / n for n in psi.shape)
    return (np.maximum(down[:, None], across) >= tuning.edge) & (passed_by(psi) < tuning.passed)


def psi_of(widths, shape=(40, 40)):
    """An operator whose PSF is wider along one axis than along the other, FWHM in nm; camera pixels of 100 nm."""
    down, across = (fg.gaussian_psf(width, 100, 4).sum(axis=0) for width in widths)
    return fg.Psi(np.outer(down, across), shape, 4, backend="numpy")


@pytest.mark.parametrize("widths", [(318, 318), (318, 240), (230, 318), (318, 190), (205, 205)])
def test_noise_is_read_where_the_psf_passes_nothing(rng, widths):
    """Power at those frequencies counts, elsewhere it does not; of a PSF two pixels wide they are the corners."""
    psi, tuning = psi_of(widths), DEFAULT.calibration.noise
    read = read_frequencies(psi)
    assert 0.01 < read.mean() < 0.4
    variance = np.ones(psi.shape)
    spectrum = rng.standard_normal(psi.shape)
    elsewhere, there = (fft.idctn(np.where(where, spectrum, 0.0), norm="ortho") for where in (~read, read))
    assert noise_from(elsewhere, variance, 100, psi).excess == pytest.approx(tuning.least), "nothing there"
    power = (spectrum[read] ** 2).mean()
    # 100 frames of variance 1: the noise of the mean is 0.1
    assert noise_from(there, variance, 100, psi).excess == pytest.approx(np.sqrt(power) / 0.1, rel=0.1)


@pytest.mark.parametrize("fwhm_nm", [200, 210, 225, 260])
def test_unequal_pixels_are_found_with_a_narrow_psf(rng, fwhm_nm):
    """A tenth of a photon of each pixel's own, three times what 200 frames leave of the noise."""
    psi = psi_of((fwhm_nm, fwhm_nm))
    x = np.zeros(psi.fine_shape)
    x[20:-20, 70] = 0.2
    light = psi.forward(x) + 0.2
    counts = rng.poisson(light, (200, *psi.shape)) + 0.1 * rng.standard_normal(psi.shape)
    expected = np.sqrt(0.1**2 + light.mean() / 200)
    assert stack_noise(counts.astype(np.float32), psi).of_mean == pytest.approx(expected, rel=0.1)


def test_a_psf_that_passes_everything_leaves_the_noise_unmeasured(rng):
    psi = psi_of((100, 100))
    assert not read_frequencies(psi).any()
    assert noise_from(rng.standard_normal(psi.shape), np.ones(psi.shape), 100, psi).excess == 1.0


def test_stripes_are_a_pattern_and_no_white_noise(rng):
    counts, light = frames(rng)
    plain = stack_noise(counts, PSI)
    assert plain.patterned == 0.0
    rows = np.where(np.arange(PSI.shape[0]) % 2, 3.0, -3.0)[:, None]
    striped = stack_noise(counts + rows, PSI)
    assert striped.excess == pytest.approx(plain.excess, abs=0.1)
    # all the power of the stripes, 9 a pixel, beside the white noise of the frequencies that are read
    read = 1 - (0.8 * PSI.shape[0] // 1 + 1) * (0.8 * PSI.shape[1] // 1 + 1) / np.prod(PSI.shape)
    white = light.mean() / 200 * read
    assert striped.patterned == pytest.approx(9.0 / (9.0 + white), rel=0.02)


def test_units_offset_and_orientation_change_nothing(rng):
    counts, _ = frames(rng, pattern=1.0)
    found = stack_noise(counts, PSI)
    double = stack_noise(2 * counts, PSI)
    assert double == dataclasses.replace(found, variance=4 * found.variance, of_mean=2 * found.of_mean, signal=2 * found.signal)
    raised = stack_noise(counts + 64.0, PSI)
    for name in ("variance", "excess", "of_mean", "signal", "signal_to_noise"):
        assert getattr(raised, name) == pytest.approx(getattr(found, name), rel=1e-7), name
    assert stack_noise(np.ascontiguousarray(counts[:, ::-1]), PSI) == found
    assert stack_noise(np.ascontiguousarray(counts.swapaxes(1, 2)), PSI) == found, "only the PSF matters, and it is round"


def test_noise_follows_from_moments(rng):
    """Of pixels alike: the brightest are 1 % of the field, on a slope that is no signal."""
    mean = rng.standard_normal(PSI.shape) * 0.1
    variance = rng.gamma(20.0, 0.2, PSI.shape)
    bright = np.zeros(PSI.shape, bool)
    bright[4:8, 4:9] = True  # 20 of 1152 pixels
    mean[bright] += 50.0
    variance[bright] = 9.0
    found = noise_from(mean, variance, 25, PSI)
    assert found.variance == pytest.approx(variance.mean(), rel=1e-8)
    assert found.of_mean == pytest.approx(np.sqrt(variance.mean() / 25) * found.excess, rel=1e-8)
    assert found.signal == pytest.approx(50.0, abs=0.6)
    assert found.signal_to_noise == pytest.approx(found.signal / (3.0 / 5 * found.excess), rel=1e-8)
    # saturated pixels do not change: their noise is taken for that of the field
    variance[bright] = 0.0
    still = noise_from(mean, variance, 25, PSI)
    loud = np.sqrt(variance.mean() / 25) * still.excess
    assert still.signal_to_noise == pytest.approx(still.signal / loud, rel=1e-8)
    assert still.signal < 1.0, "what stands still is neither bright nor dark"


def test_a_background_of_second_degree_is_no_signal():
    down, across = np.meshgrid(*(np.linspace(-1, 1, n) for n in PSI.shape), indexing="ij")
    for background in (3 + 5 * down, 2 * across**2, down * across - down**2, 7 + across - 2 * down * across):
        found = noise_from(20 * background, np.ones(PSI.shape), 100, PSI)
        assert found.signal == pytest.approx(0.0, abs=1e-9)
        assert np.isfinite(dataclasses.astuple(found)).all(), "half of its frequencies have no power at all"


@pytest.mark.parametrize("budget", [1, 16 * 20 * 7 * 3, 10**9])
def test_moments_of_a_stack_do_not_depend_on_the_bands(rng, monkeypatch, budget):
    stack = rng.integers(0, 60000, (20, 11, 7)).astype(np.uint16)
    bands = []

    def noted(counts, tuning):
        bands.append(counts.shape)
        return moments(counts, tuning)

    moments = noise._moments
    monkeypatch.setattr(noise, "_moments", noted)
    monkeypatch.setattr(noise, "default_memory_budget", lambda: budget)
    mean, variance = temporal_moments(stack, 100.0)
    wide = stack.astype(float)
    np.testing.assert_allclose(mean, wide.mean(axis=0) - 100, rtol=1e-12)
    np.testing.assert_allclose(variance, 0.5 * (np.diff(wide, axis=0) ** 2).mean(axis=0), rtol=1e-6)
    assert max(shape[1] for shape in bands) == {1: 1, 16 * 20 * 7 * 3: 3, 10**9: 11}[budget]


def test_the_largest_counts_are_those_of_either_sign():
    limit = DEFAULT.calibration.noise.largest
    check_largest(limit)
    with pytest.raises(ValueError, match="divide all counts by one factor"):
        check_largest(1.001 * limit)
    for value in (2 * limit, -2 * limit):
        counts = np.zeros((3, *PSI.shape))
        counts[1, 2, 3] = value
        with pytest.raises(ValueError, match="divide all counts by one factor"):
            stack_noise(counts, PSI)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_a_pattern_is_what_few_frequencies_have_more_than_white_noise(unit):
    """A half of the power at one frequency, or a sixth of the frequencies: both are clear, and the rest is still white."""
    edge, variance = round(0.8 * 40), np.full((40, 40), unit**2)
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (40, 40), 4, backend="numpy")
    white = np.random.default_rng(3).standard_normal((40, 40))
    white[:edge, :edge] = 0.0
    white *= np.sqrt((1600 - edge**2) / (white**2).sum())  # its mean power is 1 where it is read
    one, many = white.copy(), white.copy()
    one[35, 3] = np.sqrt(1600 - edge**2)
    many[:, 34] = 8.0
    many[34, :] = 8.0
    share = 1 - 1 / (many**2)[~((np.arange(40) < edge)[:, None] & (np.arange(40) < edge))].mean()
    for spectrum, patterned in ((white, 0.0), (one, 0.5), (many, share)):
        # 100 frames of variance 1: the noise of the mean is 0.1
        found = noise_from(0.1 * unit * fft.idctn(spectrum, norm="ortho"), variance, 100, psi)
        assert found.patterned == pytest.approx(patterned, abs=0.04)
        assert found.excess == pytest.approx(1.0, rel=0.06)


@pytest.mark.parametrize(("excess", "unexplained"), [(0.7, 1.0), (1.25, 1.0), (1.375, 1.1875), (1.5, 1.5), (8.0, 8.0)])
def test_an_excess_that_may_be_chance_explains_nothing(excess, unexplained):
    """Where it is doubtful it counts by degrees: no image hangs on a hair's breadth of it."""
    noise = StackNoise(1.0, excess, 1.0, 1.0, 1.0)
    assert noise.unexplained == unexplained
    assert noise.patterned == 0.0, "unless it is said"


def test_no_frequency_moves_the_noise_by_a_jump(rng):
    """White noise is found beside stripes of any power, and changes smoothly as that grows."""
    tuning, powers = DEFAULT.calibration.noise, rng.chisquare(1, 400)
    passed = np.linspace(1.0, 0.0, 400) ** 4
    plain, light = white_power(powers, passed, tuning)
    assert plain + light == pytest.approx(powers.mean(), rel=0.05)
    assert light < 0.25  # of powers that are random
    found = []
    for stripe in np.geomspace(1.0, 1e4, 400):
        powers[::50] = stripe
        found.append(white_power(powers, passed, tuning)[0])
    assert found[-1] == pytest.approx(plain, rel=0.05)
    assert max(found) < 1.2 * plain
    assert np.abs(np.diff(found)).max() < 0.02 * plain
    assert white_power(np.zeros(8), passed[::50], tuning) == (0.0, 0.0)


def test_light_that_the_psf_has_passed_is_no_noise(rng):
    """Of bright structures it arrives at the frequencies where noise is read."""
    tuning, passed = DEFAULT.calibration.noise, np.linspace(1.0, 0.0, 400) ** 4
    for light in (0.0, 1.0, 30.0):
        found = [white_power((1.0 + light * passed) * rng.chisquare(1, 400), passed, tuning) for _ in range(40)]
        white, arrived = np.mean(found, axis=0)
        assert white == pytest.approx(1.0, abs=0.08)
        assert arrived == pytest.approx(light * passed.mean(), abs=0.12 * light + 0.05)


@pytest.mark.parametrize(("low", "high", "passes"), [(1.0, 2.0, 60), (0.5, 4.0, 60), (5.0, 10.0, 60), (5.0, 10.0, 1)])
def test_white_noise_has_the_power_that_it_has_wherever_large_powers_are_left_out(low, high, passes):
    """Powers as chi-square with one degree of freedom has them, of mean 1; the median, where it begins, is right already."""
    tuning = dataclasses.replace(DEFAULT.calibration.noise, doubtful=low, outlying=high, passes=passes)
    powers = stats.chi2(1).ppf((np.arange(20_000) + 0.5) / 20_000)
    white, light = white_power(powers, np.zeros(powers.size), tuning)
    assert white == pytest.approx(1.0, rel=2e-3)
    assert light == 0.0


def test_light_is_never_less_than_none():
    """Where the PSF passes more, there is less power: chance, or a pattern."""
    passed = np.linspace(1.0, 0.0, 400) ** 4
    powers = stats.chi2(1).ppf((np.arange(400) * 237 % 400 + 0.5) / 400) * (1.0 - 0.7 * passed)
    white, light = white_power(powers, passed, DEFAULT.calibration.noise)
    assert light == 0.0
    assert white == pytest.approx(powers.mean(), rel=0.05)


@pytest.mark.parametrize(("widths", "shape"), [((318, 250), (32, 44)), ((260, 330), (41, 30))])
def test_light_is_where_the_psf_passes_it(rng, widths, shape):
    """Ten times the power of the noise, at the frequencies that a Fourier transform of the PSF says."""
    psi = psi_of(widths, shape)
    passed, read = passed_by(psi) ** 2, read_frequencies(psi)
    power = 1.0 + 10.0 * passed / passed[read].mean()
    found = [
        noise_from(0.1 * fft.idctn(np.sqrt(power) * rng.standard_normal(shape), norm="ortho"), np.ones(shape), 100, psi).excess
        for _ in range(30)
    ]
    # 100 frames of variance 1: the noise of the mean is 0.1
    assert np.square(found).mean() == pytest.approx(1.0, abs=0.06)


def test_white_noise_alone_is_no_pattern(rng):
    for _ in range(20):
        found = noise_from(0.1 * rng.standard_normal(PSI.shape), np.ones(PSI.shape), 100, PSI)
        assert found.patterned == 0.0
        assert found.excess == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "held"),
    [
        (10_000_000, 10_000_050, np.int64, True),  # whole numbers up to 2^24 are held one by one
        (20_000_000, 20_000_050, np.int64, False),
        (20_000_000, 20_100_000, np.int64, True),  # steps of 2, of 50 000 levels
        (-20_000_050, -20_000_000, np.int64, False),
        (10_000_000, 10_000_050, np.float64, False),
        (100.0, 100.5, np.float64, True),
        (2**63, 2**63 + 50, np.uint64, False),
        (2**40, 2**40, np.int64, True),  # frames that do not change have a message of their own
    ],
)
def test_counts_that_float32_rounds_away(low, high, dtype, held):
    stack = np.array([[[low]], [[high]]], dtype=dtype)
    if held:
        check_resolved(stack)
    else:
        with pytest.raises(ValueError, match="subtract a constant from all counts"):
            check_resolved(stack)
