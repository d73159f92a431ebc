"""The blinking simulator against the laws it claims: dwell times, bleaching, detection, optics."""

import math

import numpy as np
import pytest
from scipy.integrate import quad_vec
from scipy.linalg import expm
from scipy.special import ndtr

import fluogan_core as fg
from fluogan_core.simulation.detector import Detector
from fluogan_core.simulation.photokinetics import Blinking, erf_weights, on_fractions

NEVER = math.inf

# A deviation of this many standard errors has a chance of about 1e-5 per comparison.
SIGMAS = 4.5


def assert_mean(samples, expected):
    """The mean over independent samples (first axis) agrees with ``expected`` within its own standard error."""
    error = samples.std(axis=0, ddof=1) / math.sqrt(len(samples))
    assert np.all(np.abs(samples.mean(axis=0) - expected) <= SIGMAS * error)


@pytest.mark.parametrize(("on", "off"), [(20.0, 40.0), (20.0, 180.0), (0.5, 1.0), (300.0, 100.0)])
def test_on_fractions_have_the_duty_cycle_from_the_first_frame_on(on, off):
    f = on_fractions(4000, 12, 10.0, Blinking(on, off, NEVER), np.random.default_rng(1))
    assert f.min() >= 0
    assert f.max() <= 1 + 1e-9
    assert_mean(f, on / (on + off))


@pytest.mark.parametrize(("on", "off"), [(20.0, 40.0), (3.0, 5.0), (100.0, 60.0)])
def test_on_fractions_have_the_autocovariance_of_the_telegraph_process(on, off):
    blinking = Blinking(on, off, NEVER)
    f = on_fractions(4000, 30, 10.0, blinking, np.random.default_rng(2)) - blinking.duty
    for lag in (0, 1, 2, 5):
        per_emitter = (f[:, lag:] * f[:, : f.shape[1] - lag]).mean(axis=1)
        assert_mean(per_emitter, blinking.covariance(lag, 10.0))


@pytest.mark.parametrize("lag", [0, 1, 3])
@pytest.mark.parametrize("frame_ms", [1e-3, 10.0, 500.0])
def test_the_closed_covariance_is_the_integral_over_both_frames(lag, frame_ms):
    blinking = Blinking(20.0, 40.0)
    rate = 1 / 20 + 1 / 40

    def overlap(s):  # both times uniform in their frames: their difference has a triangular density
        return (1 - abs(s)) * np.exp(-rate * frame_ms * np.abs(s + lag))

    halves = [quad_vec(overlap, a, b, epsabs=1e-13)[0] for a, b in ((-1, 0), (0, 1))]
    expected = blinking.duty * (1 - blinking.duty) * sum(halves)
    assert blinking.covariance(lag, frame_ms) == pytest.approx(expected, rel=1e-7, abs=1e-12)


def test_bleaching_spends_time_on_and_not_time_on_the_clock():
    on, off, bleach, frame = 20.0, 60.0, 0.05, 10.0
    f = on_fractions(6000, 40, frame, Blinking(on, off, bleach), np.random.default_rng(3))
    # Dying at rate 1 / bleach only while on is a Markov chain with killing; integrate it exactly over each frame.
    rates = np.array([[-1 / on - 1 / (1e3 * bleach), 1 / off], [1 / on, -1 / off]])
    start = np.array([on, off]) / (on + off)
    inverse = np.linalg.inv(rates)
    edges = np.array([inverse @ expm(rates * frame * k) @ start for k in range(41)])
    expected = np.diff(edges[:, 0]) / frame
    assert expected[-1] < 0.3 * expected[0]
    assert_mean(f, expected)


def test_the_total_time_on_is_the_budget_once_all_have_bleached():
    f = on_fractions(5000, 400, 10.0, Blinking(20.0, 20.0, 0.05), np.random.default_rng(4))
    spent = f.sum(axis=1) * 10.0
    assert np.all(f[:, -50:] == 0)
    assert_mean(spent, 50.0)  # an exponential law has the mean and the standard deviation of the budget ...
    assert_mean((spent - 50.0) ** 2, 2500.0)


def test_batches_are_cut_without_losing_emitters(monkeypatch):
    monkeypatch.setattr("fluogan_core.simulation.photokinetics._DWELLS", 200)
    f = on_fractions(101, 5, 10.0, Blinking(20.0, 40.0), np.random.default_rng(5))
    assert f.shape == (101, 5)
    assert len(np.unique(f.round(12), axis=0)) > 50


def test_pixels_integrate_the_gaussian_exactly():
    places = np.array([0.0, 3.3, 7.9, 12.0])
    weights = erf_weights(places, 12, 1.35)
    expected = [[ndtr((k + 1 - p) / 1.35) - ndtr((k - p) / 1.35) for k in range(12)] for p in places]
    assert np.allclose(weights, expected, atol=1e-15)


def test_an_emitter_far_from_the_border_keeps_all_its_light():
    density = np.zeros((80, 80))
    density[40, 40] = 1.0
    stack = fg.simulate_sofi(
        density, pixel_size_nm=100, factor=2, density_per_um2=4000, fwhm_nm=250, frames=200, background=0.0, seed=6,
        detector=Detector("scmos", quantum_efficiency=1.0, gain=1.0, read_noise=0.0, offset=0.0, dark_per_s=0.0),
    )  # fmt: skip
    light = stack.brightness.sum()
    assert len(stack.brightness) > 0
    detected = stack.frames.sum(axis=(1, 2), dtype=np.float64).mean()
    assert abs(detected - light) <= SIGMAS * math.sqrt(light / 200)


@pytest.mark.parametrize(
    ("detector", "slope"),
    [(Detector(), 8.4), (Detector("scmos", gain=2.2), 2.2), (Detector(gain=3.0, quantum_efficiency=0.5), 3.0)],
)
def test_variance_grows_with_the_mean_by_the_gain(detector, slope):
    assert detector.slope == pytest.approx(slope)
    rng = np.random.default_rng(7)
    for photons in (0.0, 3.0, 40.0):
        counts = detector.expose(np.full((200, 1000), photons), 10.0, rng)
        events = detector.efficiency * photons + detector.dark(10.0)
        assert_mean(counts.ravel(), detector.offset + slope * events)
        deviations = (counts - (detector.offset + slope * events)) ** 2
        assert_mean(deviations.ravel(), slope**2 * events + detector.read_noise**2)


@pytest.mark.parametrize("kind", ["emccd", "scmos"])
def test_the_truth_explains_the_mean_image(kind):
    pattern = fg.argolight_pattern((240,), pixel_size_nm=100, factor=4, shape=(32, 32))
    background = fg.phantom.smooth_background((32, 32), 4.0)
    stack = fg.simulate_sofi(pattern, fwhm_nm=318, background=background, detector=Detector(kind), seed=8)
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (32, 32), 4, backend="numpy")
    mean = stack.photons_per_emitter * psi.forward(stack.x) + stack.background
    photons = (stack.frames.astype(np.float64) - stack.offset) / stack.gain
    # Emitters lie anywhere in a fine pixel (standard deviation 25 / sqrt(12) nm in a PSF of 135 nm) and the PSF of Psi is
    # sampled, not integrated: at most 1 % of the signal, besides the noise of the detection.
    noise = np.sqrt((mean + (stack.noise_std / stack.gain) ** 2) / len(photons))
    assert np.abs(photons.mean(axis=0) - mean).max() <= SIGMAS * noise.max() + 0.01 * mean.max()
    assert abs((photons.mean(axis=0) - mean).mean()) <= SIGMAS * math.sqrt((noise**2).mean() / mean.size)


def test_the_expected_truth_follows_the_pattern_and_the_drawn_one_scatters_about_it():
    pattern = fg.argolight_pattern((240,), pixel_size_nm=100, factor=2, shape=(24, 24))
    stack = fg.simulate_sofi(pattern, frames=50, density_per_um2=3000, blinking=Blinking(bleach_s=NEVER), seed=9)
    lit = pattern.x > 0
    assert np.ptp(stack.expected_x[lit] / pattern.x[lit]) <= 1e-12
    assert np.all(stack.x[~lit] == 0)
    emitters = len(stack.brightness)
    assert abs(stack.x.sum() / stack.expected_x.sum() - 1) <= SIGMAS * math.sqrt(2.0 / emitters)


def test_kappa_is_the_covariance_of_neighbours_per_mean():
    # Many emitters at one place: every pair of pixels has covariance kappa * C_j * C_k * x, free of shot noise.
    density = np.zeros((18, 18))
    density[9, 9] = 1.0
    blinking = Blinking(20.0, 40.0, NEVER, 400.0)
    stack = fg.simulate_sofi(
        density, pixel_size_nm=100, factor=2, density_per_um2=40_000, fwhm_nm=300, frames=4000, background=0.0,
        blinking=blinking, frame_ms=200.0, detector=Detector("scmos"), seed=10,
    )  # fmt: skip
    photons = (stack.frames - stack.offset).astype(np.float64) / stack.gain
    left, right = photons[:, :, :4].sum(axis=(1, 2)), photons[:, :, 4:].sum(axis=(1, 2))
    share = left.mean() / (left.mean() + right.mean())
    covariance = np.cov(left, right)[0, 1]
    kappa = covariance / (share * right.mean())
    # Frames are nearly independent here (ten mean cycles each): the error of a covariance of two correlated normals.
    error = math.sqrt((left.var() * right.var() + covariance**2) / 4000) / (share * right.mean())
    assert abs(kappa - stack.photons_per_emitter) <= SIGMAS * error
    assert error < 0.1 * kappa


def test_signal_and_background_are_added():
    pattern = np.ones((16, 16))
    options = {"pixel_size_nm": 100, "factor": 1, "frames": 200, "density_per_um2": 50, "seed": 11}
    with_it = fg.simulate_sofi(pattern, background=30.0, **options)
    without = fg.simulate_sofi(pattern, background=0.0, **options)
    assert np.array_equal(with_it.x, without.x)
    extra = (with_it.frames.mean(dtype=np.float64) - without.frames.mean(dtype=np.float64)) / with_it.gain
    light = with_it.background.mean() * 2 + with_it.photons_per_emitter * 2 * with_it.x.mean()
    assert abs(extra - 15.0) <= SIGMAS * math.sqrt(light / with_it.frames.size)


def test_a_seed_fixes_the_stack_and_integers_are_rounded_counts():
    pattern = fg.argolight_pattern((240,), pixel_size_nm=100, factor=2, shape=(24, 24))
    first, again = (fg.simulate_sofi(pattern, frames=5, seed=12) for _ in range(2))
    other = fg.simulate_sofi(pattern, frames=5, seed=13)
    assert np.array_equal(first.frames, again.frames)
    assert not np.array_equal(first.frames, other.frames)
    whole = fg.simulate_sofi(pattern, frames=5, seed=12, as_uint16=True).frames
    assert whole.dtype == np.uint16
    assert np.array_equal(whole, np.rint(first.frames))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"frames": 0}, ValueError, "frames"),
        ({"frame_ms": 0}, ValueError, "frame_ms"),
        ({"background": -1.0}, ValueError, "not negative"),
        ({"background": np.ones((3, 3))}, ValueError, "camera grid"),
        ({"factor": 3}, ValueError, "multiples of factor"),
        ({"factor": None}, TypeError, "needs pixel_size_nm"),
        ({"pattern": np.zeros((8, 8))}, ValueError, "not all zero"),
        ({"pattern": -np.ones((8, 8))}, ValueError, "non-negative"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_bad_settings_are_refused(options, error, message):
    settings = {"pattern": np.ones((8, 8)), "pixel_size_nm": 100, "factor": 2, **options}
    with pytest.raises(error, match=message):
        fg.simulate_sofi(settings.pop("pattern"), **settings)


def test_a_pattern_brings_its_own_pixel_size():
    pattern = fg.argolight_pattern((240,), pixel_size_nm=100, factor=2, shape=(24, 24))
    with pytest.raises(TypeError, match="brings its own"):
        fg.simulate_sofi(pattern, pixel_size_nm=100)


@pytest.mark.parametrize("make", [lambda: Blinking(on_ms=0), lambda: Blinking(bleach_s=-1), lambda: Detector("ccd")])
def test_impossible_instruments_are_refused(make):
    with pytest.raises(ValueError):
        make()
