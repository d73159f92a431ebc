"""Figures of merit on images whose answer is known."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import fluogan_core as fg
from fluogan_core.metrics.images import blurred_agreement, nrmse, psnr
from fluogan_core.metrics.lines import RAYLEIGH_DIP, find_lines, line_fluxes, line_profile, pair_report
from fluogan_core.metrics.prediction import held_out_score
from fluogan_core.metrics.resolution import fourier_ring_correlation


def roi(separation, factor=4, **options):
    return fg.argolight_pattern((separation,), pixel_size_nm=100, factor=factor, shape=(32, 32), **options)


def blurred_lines(positions_nm, sigma_nm, fine_nm=25.0, size=128, heights=None):
    """A profile of Gaussian lines on no background."""
    centres = (np.arange(size) + 0.5) * fine_nm
    heights = np.ones(len(positions_nm)) if heights is None else heights
    return sum(h * np.exp(-0.5 * ((centres - p) / sigma_nm) ** 2) for h, p in zip(heights, positions_nm))


# -- distances --------------------------------------------------------------------------------------------------------


def test_brightness_is_matched_before_anything_is_compared():
    truth = roi(240).x
    assert nrmse(7.5 * truth, truth) == pytest.approx(0.0, abs=1e-12)
    assert psnr(7.5 * truth, truth) > 250


def test_known_errors_have_known_figures():
    truth = np.array([[0.0, 2.0], [2.0, 0.0]])
    x = np.array([[1.0, 1.0], [1.0, 1.0]])
    assert nrmse(x, truth) == pytest.approx(2.0 / math.sqrt(8.0))
    assert psnr(x, truth) == pytest.approx(10 * math.log10(4.0))
    assert psnr(truth, truth) == math.inf


@pytest.mark.parametrize("metric", [nrmse, psnr])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((3, 4)), "same shape"),
        (np.zeros((4, 4)), "positive sum"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.ones(16), "rows, columns"),
    ],
)
def test_what_cannot_be_compared_is_refused(metric, x, message):
    with pytest.raises(ValueError, match=message):
        metric(x, np.ones((4, 4)))


# -- lines ------------------------------------------------------------------------------------------------------------


def test_a_profile_averages_along_the_lines_and_within_the_span():
    x = np.arange(24.0).reshape(4, 6)
    assert np.array_equal(line_profile(x), x.mean(axis=0))
    assert np.array_equal(line_profile(x, axis=1), x.mean(axis=1))
    # Fine pixels of 10 nm: rows 1 and 2 have their centres, 15 and 25 nm, inside.
    assert np.array_equal(line_profile(x, fine_nm=10, span_nm=(14, 25)), x[1:3].mean(axis=0))


def test_a_span_needs_its_unit_and_some_pixels():
    with pytest.raises(TypeError, match="fine_nm"):
        line_profile(np.ones((4, 4)), span_nm=(0, 1))
    with pytest.raises(ValueError, match="no fine pixel"):
        line_profile(np.ones((4, 4)), fine_nm=10, span_nm=(41, 50))


@pytest.mark.parametrize("separation", fg.phantom.ARGOLIGHT_SEPARATIONS_NM)
@pytest.mark.parametrize("factor", [4, 6])
def test_the_truth_is_resolved_at_its_own_distance(separation, factor):
    pattern = roi(separation, factor)
    report = pair_report(pattern.x, pattern)
    assert report.resolved, report.reason
    # A line of constant brightness has its peak in the middle of the fine pixels that it covers wholly: each end is known
    # to a fine pixel, the middle to half of one, the distance to one.
    assert abs(report.distance_nm - separation) <= 100 / factor
    assert report.dip >= RAYLEIGH_DIP


@pytest.mark.parametrize("shift", [0.0, 4.0, 11.0, 20.0])
def test_peaks_are_found_between_the_pixels(shift):
    places = np.array([950.0, 1500.0, 1740.0, 2250.0]) + shift
    lines = find_lines(blurred_lines(places, 60.0), 100, 4)
    assert lines.reason == ""
    # Half the prominence lies 57 nm off a line of the pair; the other line adds 0.0095 there, on a slope of 0.0101 per nm, and
    # moves the middle by half of that, 0.5 nm.  Interpolating between samples adds 25^2 / 8 times the curvature over the
    # slope, below 0.3 nm where the flank is bent most.
    assert np.allclose(lines.positions_nm, places, atol=0.8)
    assert np.allclose(lines.distances_nm, np.diff(places), atol=1.6)
    # Two equal samples have no parabola and lie half a pixel, exp(-(12.5 / 60)^2 / 2) = 0.978, off the top.
    assert np.allclose(lines.heights, 1.0, atol=0.025)


def test_horns_move_the_peaks_but_not_the_middles():
    """Lines 100 nm wide whose outer edges overshoot by a third, as a deconvolution makes them."""
    pattern = roi(200)
    profile = pattern.x[64].copy()
    profile[[58, 69]] *= 4 / 3  # the pair's outermost fine pixels: the lines cover 1450 to 1550 and 1650 to 1750 nm
    report = pair_report(gaussian_filter(profile, 0.6), pattern)
    assert report.resolved
    assert report.peak_distance_nm > 240
    # the level rises by a sixth of a line's height on flanks that fall within two fine pixels: at most 25 / 3 nm per line
    assert report.error_nm == report.distance_nm - 200
    assert abs(report.error_nm) < 2 * 25 / 3


@pytest.mark.parametrize("separation", [120.0, 390.0])
def test_every_profile_can_be_judged(separation, rng):
    """Peaks anywhere, next to where the group's middle ends too."""
    pattern = roi(separation)
    for profile in gaussian_filter(rng.random((200, 128)) ** 4, (0, 1.0)):
        report = pair_report(profile, pattern)
        assert len(report.positions_nm) == len(report.peaks_nm)
        assert (report.distance_nm is None) == (len(report.peaks_nm) != 2)
        assert report.resolved == (report.reason == "")


def test_the_light_of_each_line_is_its_own():
    pattern = roi(240, shift_nm=(0.0, 13.0))
    amplitudes = np.array([1.0, 2.0, 3.0, 4.0])
    fine = 25.0
    edges = np.arange(129) * fine
    x = np.zeros_like(pattern.x)
    for place, level in zip(pattern.lines_nm[0], amplitudes):
        x += level * np.diff(np.clip(edges, place - 50, place + 50)) / fine
    # a line covers 100 / 25 fine pixels in each of 128 rows
    assert line_fluxes(x, pattern) == pytest.approx(amplitudes * 4 * 128)
    assert line_fluxes(x, pattern).sum() == pytest.approx(x.sum())
    with pytest.raises(ValueError, match="fine grid"):
        line_fluxes(x[:64], pattern)


def test_dips_are_those_of_the_profile():
    lines = find_lines(blurred_lines([1000.0, 1150.0], 60.0), 100, 4)
    top = 1 + math.exp(-0.5 * (150 / 60) ** 2)
    middle = 2 * math.exp(-0.5 * (75 / 60) ** 2)
    # Samples lie up to half a fine pixel from the middle, and the peaks lean a little towards each other.
    assert lines.dips[0] == pytest.approx(1 - middle / top, abs=0.03)


def test_lines_along_the_other_axis_are_found_too():
    image = np.tile(blurred_lines([1000.0, 1600.0], 60.0), (128, 1))
    down = find_lines(image.T, 100, 4, axis=1)
    assert np.allclose(down.positions_nm, find_lines(image, 100, 4).positions_nm)


def test_a_line_at_the_border_and_a_flat_top_are_peaks():
    profile = np.array([3.0, 1.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0])
    lines = find_lines(profile, 10, 1)
    # The border cuts the first line: it begins there and ends where the profile falls to 1.5, three quarters of the way on
    # from the first sample's middle.
    assert lines.positions_nm == ((0.0 + 12.5) / 2, 50.0)
    assert lines.distances_nm == (43.75,)
    assert lines.dips == (1.0,)


@pytest.mark.parametrize(
    ("profile", "reason"),
    [(np.full(32, 3.0), "flat"), (np.zeros(32), "flat"), (blurred_lines([1600.0], 60.0), "one line")],
)
def test_no_distances_come_with_a_reason(profile, reason):
    lines = find_lines(profile, 100, 4)
    assert lines.distances_nm == ()
    assert reason in lines.reason


def test_ripples_below_the_prominence_are_no_lines():
    places = [950.0, 1500.0, 1740.0, 2250.0]
    ripple = 0.03 * np.cos(np.arange(128) * 2.5)
    assert len(find_lines(blurred_lines(places, 60.0) + ripple, 100, 4).positions_nm) == 4
    assert len(find_lines(blurred_lines(places, 60.0) + ripple, 100, 4, prominence=0.001).positions_nm) > 4


def test_a_blurred_pair_is_one_peak_and_says_so():
    pattern = roi(180)
    report = pair_report(gaussian_filter(pattern.x, 135 / 25), pattern)
    assert not report.resolved
    assert report.distance_nm is None
    assert report.dip == 0
    assert "merged" in report.reason


@pytest.mark.parametrize("separation", [120.0, 240.0])
def test_a_uniform_bar_is_not_a_pair(separation):
    pattern = roi(separation, control=True)
    report = pair_report(pattern.x, pattern)
    assert not report.resolved
    split = pair_report(roi(separation).x, pattern)
    assert split.resolved  # a method that splits the bar is found out


def test_a_shallow_dip_does_not_count():
    pattern = roi(300)
    profile = blurred_lines(pattern.lines_nm[0], 121.0)
    report = pair_report(profile, pattern)
    assert len(report.peaks_nm) == 2
    assert 0.05 < report.dip < RAYLEIGH_DIP
    assert not report.resolved
    assert "dip" in report.reason


def test_a_line_in_the_wrong_place_does_not_count():
    pattern = roi(240)
    places = np.array(pattern.lines_nm[0])
    places[2] += 70
    report = pair_report(blurred_lines(places, 40.0), pattern)
    assert report.distance_nm == pytest.approx(310.0, abs=1.0)
    assert not report.resolved
    assert "70 nm off" in report.reason


def test_something_between_the_lines_does_not_count():
    pattern = roi(360)
    places = [*pattern.lines_nm[0], pattern.centres_nm[0]]
    report = pair_report(blurred_lines(places, 40.0, heights=[1, 1, 1, 1, 0.5]), pattern)
    assert not report.resolved
    assert "between" in report.reason


def test_the_flanks_of_the_outer_lines_are_not_the_pair():
    pattern = roi(240)
    places = pattern.lines_nm[0]
    report = pair_report(blurred_lines([places[0], places[3]], 150.0, heights=[3, 3]), pattern)
    assert report.peaks_nm == ()
    assert report.reason == "no peak"


def test_a_dark_middle_is_said_to_be_dark():
    pattern = roi(240)
    assert "dark" in pair_report(np.zeros_like(pattern.x), pattern).reason


def test_each_group_of_the_whole_pattern_is_judged_in_its_place():
    pattern = fg.argolight_pattern(pixel_size_nm=103, factor=6)
    reports = [pair_report(pattern.x, pattern, group) for group in range(10)]
    assert all(report.resolved for report in reports)
    assert [report.separation_nm for report in reports] == list(pattern.separations_nm)


def test_an_image_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="fine grid"):
        pair_report(np.ones((32, 32)), roi(240))
    with pytest.raises(ValueError, match="group"):
        pair_report(roi(240).x, roi(240), 1)


# -- resolution -------------------------------------------------------------------------------------------------------


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


# -- what is predicted of frames --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """A flickering scene on 12 x 10 camera pixels, and an operator with a skewed PSF."""
    axis = np.arange(9) - 4
    down, across = np.meshgrid(axis, axis, indexing="ij")
    psf = np.exp(-0.5 * (down**2 + across**2) / 2.0**2 + 0.05 * down * across)
    psi = fg.Psi(psf, (12, 10), 2, photons_per_emitter=8.0, backend="numpy")
    rng = np.random.default_rng(5)
    x = 0.5 * rng.random(psi.fine_shape)
    return fg.ForwardModel(psi, gain=2.0, noise_std=1.5), x, 1.0 + rng.random(psi.shape)


def dense_moments(model, x, b):
    """Mean and covariance of eq. (1) from the dense operator."""
    psi = model.psi
    operator = psi.forward(np.eye(x.size).reshape(-1, *psi.fine_shape)).reshape(x.size, -1).T
    rate = operator @ x.ravel() + b.ravel() + model.epsilon
    flicker = (operator * x.ravel()) @ operator.T
    return model.gain * rate, model.gain**2 * (np.diag(rate) + flicker) + model.noise_std**2 * np.eye(rate.size)


def test_the_score_is_the_gaussian_density_with_the_models_moments(small):
    from scipy.stats import multivariate_normal

    model, x, b = small
    frames = model.sample(x, b, 7, seed=1)
    mean, covariance = dense_moments(model, x, b)
    expected = multivariate_normal(mean, covariance).logpdf(frames.reshape(7, -1)) / mean.size
    score = held_out_score(frames, model, x, b)
    np.testing.assert_allclose(score.frame_log_density, expected, rtol=1e-9)
    assert score.log_density == pytest.approx(expected.mean(), rel=1e-9)
    off = frames.reshape(7, -1).mean(axis=0, dtype=np.float64) - mean
    assert score.mean_misfit == pytest.approx(7 * off @ np.linalg.solve(covariance, off) / mean.size, rel=1e-9)


def test_tiles_are_scored_each_on_its_own(small):
    from scipy.stats import multivariate_normal

    model, x, b = small
    frames = model.sample(x, b, 5, seed=2)
    mean, covariance = dense_moments(model, x, b)
    number = np.arange(120).reshape(12, 10)
    expected = 0.0
    for tile in (number[r : r + 4, c : c + 5].ravel() for r in (0, 4, 8) for c in (0, 5)):
        law = multivariate_normal(mean[tile], covariance[np.ix_(tile, tile)])
        expected += law.logpdf(frames.reshape(5, -1)[:, tile]).mean() / 120
    assert held_out_score(frames, model, x, b, block=5).log_density == pytest.approx(expected, rel=1e-9)


def test_the_truth_scores_best_and_its_ratios_are_one(small):
    model, x, b = small
    frames = 2000
    y = model.sample(x, b, frames, seed=3)
    truth = held_out_score(y, model, x, b)
    dim = fg.Psi(model.psi.psf, model.psi.shape, 2, photons_per_emitter=4.0, backend="numpy")
    halved = fg.ForwardModel(dim, gain=2.0, noise_std=1.5)
    wrong = {
        "another mean": held_out_score(y, model, 1.05 * x, b),
        "half of the photons per emission, the same mean": held_out_score(y, halved, 2 * x, b),
        "all light is background": held_out_score(y, model, 0 * x, b + model.psi.forward(x)),
    }
    assert all(score.log_density < truth.log_density for score in wrong.values())
    # chi square with 120 degrees of freedom over 120, five standard deviations
    assert truth.mean_misfit == pytest.approx(1.0, abs=5 * math.sqrt(2 / 120))
    assert wrong["another mean"].mean_misfit > 2
    # T frames of few correlated directions: each second moment is known to sqrt(2 / T) at worst
    assert truth.variance_ratio == pytest.approx(1.0, abs=5 * math.sqrt(2 / frames))
    assert truth.covariance_ratio == pytest.approx(1.0, abs=5 * math.sqrt(2 / frames) * 2)
    assert wrong["half of the photons per emission, the same mean"].covariance_ratio == pytest.approx(
        2.0, rel=10 * math.sqrt(2 / frames)
    )
    assert wrong["all light is background"].covariance_ratio is None


def test_what_cannot_be_scored_is_refused(small):
    model, x, b = small
    y = model.sample(x, b, 3, seed=1)
    with pytest.raises(ValueError, match="psi's field"):
        held_out_score(y[:, :5], model, x, b)
    with pytest.raises(ValueError, match="at least 2 frames"):
        held_out_score(y[:1], model, x, b)
    silent = fg.ForwardModel(model.psi, epsilon=0.0)
    with pytest.raises(ValueError, match="no variance"):
        held_out_score(y, silent, 0 * x, 0 * b)


# -- what is left after a blur ----------------------------------------------------------------------------------------


def test_a_blurred_truth_agrees_and_its_unit_does_not_matter(small):
    model, x, _ = small
    psi = model.psi
    mean = 3.0 * psi.forward(x) + 7.0
    agreement = blurred_agreement(x, mean, psi)
    assert agreement.rsp == pytest.approx(1.0)
    assert agreement.rse == pytest.approx(0.0, abs=1e-9 * mean.max())
    assert (agreement.scale, agreement.offset) == (pytest.approx(3.0), pytest.approx(7.0))
    # what is orthogonal to a constant and to the blurred image stays as it is
    rng = np.random.default_rng(0)
    blurred = psi.forward(x).ravel()
    basis, _ = np.linalg.qr(np.stack([np.ones_like(blurred), blurred], axis=1))
    noise = rng.standard_normal(blurred.size)
    noise -= basis @ (basis.T @ noise)
    spoilt = blurred_agreement(x, mean + noise.reshape(mean.shape), psi)
    power = 9 * blurred.var()
    assert spoilt.rse == pytest.approx(math.sqrt((noise**2).mean()))
    assert spoilt.rsp == pytest.approx(math.sqrt(power / (power + (noise**2).mean())))


def test_flat_images_agree_with_nothing_and_say_so(small):
    psi = small[0].psi
    assert blurred_agreement(np.zeros(psi.fine_shape), np.ones(psi.shape), psi).reason == "the blurred image is flat"
    mean = np.ones(psi.shape)
    assert blurred_agreement(small[1], mean, psi).rsp is None
    with pytest.raises(ValueError, match="psi's shape"):
        blurred_agreement(mean, mean, psi)
