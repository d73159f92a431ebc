"""The camera read from a stack: against stacks whose camera and flicker are known, and four recorded ones."""

import math
from pathlib import Path

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.calibration import flicker, pixel_moments
from fluogan_core.simulation.detector import Detector
from fluogan_core.simulation.phantom import smooth_background
from fluogan_core.simulation.photokinetics import Blinking

REAL = Path(__file__).resolve().parents[3] / "shared/data/real"

# An estimate may lie this many of its own standard errors from the truth (chance about 6e-5 if the error is right).
SIGMAS = 4.0


def optics(shape=(32, 32), factor=2, fwhm=318.0, **options):
    return fg.Psi(fg.gaussian_psf(fwhm, 100, factor), shape, factor, backend="numpy", **options)


def double_poisson(seed, kappa, *, light=80.0, frames=300, gain=2.2, offset=100.0, noise=3.0, lamp=0.0, row=0.0):
    """Frames of eq. (1) drawn with NumPy: lines of ``light`` photons per fine pixel on a smooth background."""
    rng = np.random.default_rng(seed)
    pattern = fg.argolight_pattern((240,), pixel_size_nm=100, factor=2, shape=(32, 32), margin_nm=200)
    psi = optics()
    emitted = rng.poisson(pattern.x * light / kappa, size=(frames, 64, 64)).astype(np.float32)
    rate = np.maximum(psi.forward(kappa * emitted), 0) + smooth_background((32, 32), light / 8, seed=seed)
    rate = rate * np.maximum(1 + lamp * rng.standard_normal((frames, 1, 1)), 0)
    counts = offset + gain * rng.poisson(rate) + noise * rng.standard_normal(rate.shape)
    return counts + row * rng.standard_normal((frames, 32, 1)), psi


def steady(seed, *, frames=200, shape=(24, 40), gain=2.2, offset=100.0, noise=3.0, decay=0.0):
    """Frames of a steady ramp of light, without flicker; ``decay`` is the loss of light over the stack."""
    rng = np.random.default_rng(seed)
    ramp = np.broadcast_to(np.linspace(1.0, 200.0, shape[1]), shape)
    fade = 1.0 - decay * np.linspace(0, 1, frames)[:, None, None]
    return offset + gain * rng.poisson(ramp * fade) + noise * rng.standard_normal((frames, *shape))


def assert_found(value, error, truth, *, at_most):
    """The truth within a few errors, and the error small enough to be worth something."""
    assert abs(value - truth) <= SIGMAS * error
    assert error <= at_most


# -- the camera -------------------------------------------------------------------------------------------------------


def test_counts_become_photons_and_back():
    counts = np.array([[100, 122], [144, 90]], dtype=np.uint16)
    photons = fg.Camera(gain=2.2, offset=100, noise_std=1).to_photons(counts)
    assert photons.dtype == np.float32
    assert np.allclose(photons, [[0, 10], [20, -10 / 2.2]])


@pytest.mark.parametrize("values", [{"gain": 0}, {"gain": -1}, {"noise_std": -1}, {"offset": math.nan}])
def test_impossible_cameras_are_refused(values):
    with pytest.raises(ValueError):
        fg.Camera(**values)


def test_photons_are_made_of_arrays_only():
    with pytest.raises(TypeError, match="counts"):
        fg.Camera().to_photons([1, 2])


# -- gain, offset, noise ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_steady_light_gives_gain_and_offset_bleaching_or_not(seed, decay):
    found = fg.estimate_camera(steady(seed, decay=decay))
    assert_found(found.camera.gain, found.gain_error, 2.2, at_most=0.1)
    assert_found(found.camera.offset, found.offset_error, 100.0, at_most=2.5 * 2.2)
    assert_found(found.camera.noise_std, found.noise_std_error, 3.0, at_most=3.0)
    assert any("falls to 5" in note for note in found.notes) == (decay > 0)


def test_the_intercept_is_kept_whatever_read_noise_is_assumed():
    found = fg.estimate_camera(steady(2))
    crossing = found.camera.offset - found.camera.noise_std**2 / found.camera.gain
    # Only where the variance would vanish is known: 9 / 2.2 counts below the offset.
    assert crossing == pytest.approx(100 - 9 / 2.2, abs=1.0)


@pytest.mark.parametrize(
    "given",
    [
        {"gain": 2.2},
        {"offset": 100.0},
        {"noise_std": 3.0},
        {"gain": 2.2, "offset": 100.0},
        {"gain": 2.2, "noise_std": 3.0},
        {"offset": 100.0, "noise_std": 3.0},
        {"gain": 2.2, "offset": 100.0, "noise_std": 3.0, "photons_per_emitter": 4.0},
    ],
)
def test_what_is_given_is_kept_and_sharpens_the_rest(given):
    found = fg.estimate_camera(steady(3), **given)
    values = {
        "gain": (found.camera.gain, found.gain_error, 2.2, 0.06),
        "offset": (found.camera.offset, found.offset_error, 100.0, 1.0),
        "noise_std": (found.camera.noise_std, found.noise_std_error, 3.0, 0.6),
    }
    assert set(found.given) == set(given)
    for name, (value, error, truth, limit) in values.items():
        if name in given:
            assert value == given[name]
            assert error == 0
        elif len(given) >= 2 or (name != "gain" and set(given) & {"offset", "noise_std"}):
            assert_found(value, error, truth, at_most=limit)
        else:
            assert abs(value - truth) <= SIGMAS * error
    if "photons_per_emitter" in given:
        assert (found.photons_per_emitter, found.photons_per_emitter_error) == (4.0, 0.0)


def test_an_offset_that_leaves_no_read_noise_still_gives_the_gain():
    found = fg.estimate_camera(steady(4, noise=0.0), offset=99.0)
    # The line through (99, 0) instead of (100, 0): the slope changes by one count in the mean brightness of 220.
    assert found.camera.gain == pytest.approx(2.2, rel=0.02)
    assert found.camera.noise_std <= SIGMAS * found.noise_std_error


# -- flicker ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("light", [80.0, 8.0])
@pytest.mark.parametrize("kappa", [1.0, 20.0])
def test_the_double_poisson_model_is_read_back(kappa, light):
    stack, psi = double_poisson(5, kappa, light=light)
    found = fg.estimate_camera(stack, psi)
    assert_found(found.camera.gain, found.gain_error, 2.2, at_most=0.12)
    assert abs(found.camera.offset - 100.0) <= SIGMAS * found.offset_error
    assert_found(found.photons_per_emitter, found.photons_per_emitter_error, kappa, at_most=0.25 * kappa)


def test_flicker_would_double_the_gain_were_it_not_taken_off():
    stack, psi = double_poisson(6, 20.0)
    with_psi, without = fg.estimate_camera(stack, psi), fg.estimate_camera(stack)
    assert without.camera.gain > 3.3
    assert any("too high; describe the PSF" in note for note in without.notes)
    assert without.photons_per_emitter == 1.0
    assert math.isinf(without.photons_per_emitter_error)
    assert_found(with_psi.camera.gain, with_psi.gain_error, 2.2, at_most=0.15)


@pytest.mark.parametrize("detector", [Detector(), Detector("scmos", gain=2.2)])
@pytest.mark.parametrize("off_ms", [40.0, 180.0])
def test_blinking_emitters_are_read_back(detector, off_ms):
    pattern = fg.argolight_pattern((240,), pixel_size_nm=100, factor=2, shape=(32, 32))
    background = smooth_background((32, 32), 10)
    stack = fg.simulate_sofi(
        pattern,
        fwhm_nm=318,
        background=background,
        blinking=Blinking(20, off_ms),
        detector=detector,
        seed=7,
        frames=400,
    )
    found = fg.estimate_camera(stack.frames, optics())
    assert_found(found.camera.gain, found.gain_error, stack.gain, at_most=0.1 * stack.gain)
    assert abs(found.camera.offset - stack.offset) <= SIGMAS * found.offset_error
    assert abs(found.photons_per_emitter / stack.photons_per_emitter - 1) < 0.2
    assert any("slow fluctuation" in note for note in found.notes)


def test_the_brightness_that_psi_carries_is_ignored_and_its_binning_is_not():
    stack, psi = double_poisson(8, 20.0)
    plain = fg.estimate_camera(stack, psi)
    bright = fg.estimate_camera(stack, optics(photons_per_emitter=7.0))
    assert bright.photons_per_emitter == pytest.approx(plain.photons_per_emitter, rel=1e-9)
    # Columns of a point-sampled operator sum to a quarter: the same light is emissions of four times as many photons.
    point = fg.estimate_camera(stack, optics(binning="point"))
    assert point.photons_per_emitter == pytest.approx(4 * plain.photons_per_emitter, rel=0.15)


def test_a_flickering_lamp_is_named_and_does_no_harm():
    stack, psi = double_poisson(9, 1.0, lamp=0.03)
    found = fg.estimate_camera(stack, psi)
    (note,) = (note for note in found.notes if "illumination" in note)
    # 300 frames give a standard deviation to 1 / sqrt(600) = 4 %.
    assert float(note.split(" by ")[1].split("%")[0]) == pytest.approx(3.0, rel=4 * 0.041)
    assert_found(found.camera.gain, found.gain_error, 2.2, at_most=0.12)
    assert_found(found.photons_per_emitter, found.photons_per_emitter_error, 1.0, at_most=0.5)


def test_noise_common_to_a_row_is_named_and_is_no_flicker():
    stack, psi = double_poisson(10, 1.0, row=2.0)
    found = fg.estimate_camera(stack, psi)
    (note,) = (note for note in found.notes if note.startswith("noise common to a row"))
    assert float(note.split(": ")[1].split()[0]) == pytest.approx(2.0, abs=0.35)
    assert_found(found.photons_per_emitter, found.photons_per_emitter_error, 1.0, at_most=0.25)


def test_no_flicker_is_said_to_be_none():
    found = fg.estimate_camera(steady(11, frames=400), optics((24, 40)))
    assert found.photons_per_emitter <= SIGMAS * found.photons_per_emitter_error
    assert_found(found.camera.gain, found.gain_error, 2.2, at_most=0.15)
    assert any("hardly any flicker" in note or "not determined" in note for note in found.notes)


@pytest.mark.parametrize("binning", ["sum", "point"])
def test_covariances_follow_from_the_mean_image(binning):
    psi = optics((20, 24), factor=2, fwhm=250, binning=binning)
    rng = np.random.default_rng(12)
    # Emission uniform inside each camera pixel, which the prediction takes for granted, and away from the border.
    emission = np.zeros((20, 24))
    emission[6:14, 6:18] = rng.random((8, 12))
    fine = np.kron(emission, np.ones((2, 2))) / 4
    # The columns of psi in camera pixels: for each camera pixel of emission, mean over its fine pixels.
    columns = np.stack([psi.column((n1, n2)) for n1 in range(40) for n2 in range(48)])
    seen = flicker.PairKernels(psi)
    predict = seen.predictor(psi.forward(fine))
    for shift in [(0, 0), (0, 1), (1, 0), (1, -1), (2, 1)]:
        first, second = pixel_moments.windows(shift, (20, 24))
        exact = np.tensordot(fine.ravel(), columns[:, *first] * columns[:, *second], axes=1)
        # The filter gives up frequencies that the PSF passes to less than sqrt(0.002) = 4 %: an error of a few per cent.
        assert np.abs(predict(shift)[first] - exact).max() <= 0.12 * exact.max()
        assert predict(shift)[first].sum() == pytest.approx(exact.sum(), rel=0.02)


def test_the_strength_of_a_shift_is_the_covariance_of_uniform_emission():
    psi = optics((16, 16), factor=2, fwhm=250)
    columns = np.stack([psi.column((n1, n2)) for n1 in range(32) for n2 in range(32)])
    seen = flicker.PairKernels(psi)
    for shift in [(0, 0), (0, 1), (2, -1)]:
        exact = (columns[:, 8, 8] * columns[:, 8 + shift[0], 8 + shift[1]]).sum() / psi.factor**2
        assert seen.strength[shift] == pytest.approx(exact, rel=1e-9)


# -- pixels and stacks that go wrong ----------------------------------------------------------------------------------


def test_saturated_pixels_are_left_out_and_named():
    stack = np.minimum(np.rint(steady(13)), 480).astype(np.uint16)
    found = fg.estimate_camera(stack)
    touched = (stack == 480).any(axis=0)
    assert touched.mean() > 0.1
    assert not found.diagnostics["used"][touched].any()
    assert any(note.startswith("saturation") and "480" in note for note in found.notes)
    assert_found(found.camera.gain, found.gain_error, 2.2, at_most=0.12)


def test_photon_counts_with_a_natural_top_do_not_saturate():
    stack = np.random.default_rng(14).poisson(np.linspace(0.1, 3, 900).reshape(30, 30), size=(200, 30, 30))
    found = fg.estimate_camera(stack.astype(np.uint8), offset=0.0, noise_std=0.0)
    assert not any("saturation" in note for note in found.notes)
    assert_found(found.camera.gain, found.gain_error, 1.0, at_most=0.05)


@pytest.mark.parametrize("with_psi", [False, True])
def test_dead_and_hot_pixels_do_no_harm(with_psi):
    stack, psi = double_poisson(15, 1.0)
    rng = np.random.default_rng(15)
    stack[:, 3, 4] = 100.0
    stack[:, 10, 20] += 60 * rng.standard_normal(len(stack))
    stack[:, 25, 7] += 3000 + 90 * rng.standard_normal(len(stack))
    found = fg.estimate_camera(stack, psi if with_psi else None)
    assert any("left out: 1 that never change" in note for note in found.notes)
    assert any("left out: 1 that stand out alone" in note for note in found.notes)
    assert not found.diagnostics["used"][[3, 10, 25], [4, 20, 7]].any()
    assert found.diagnostics["used"].mean() > 0.98
    assert abs(found.camera.gain / 2.2 - 1) < 0.1


def test_bands_of_rows_change_nothing(monkeypatch):
    stack, psi = double_poisson(16, 20.0, frames=60)
    whole = fg.estimate_camera(stack, psi)
    monkeypatch.setenv("FLUOGAN_MEMORY_BUDGET", "1")
    bands = fg.estimate_camera(stack, psi)
    assert bands.camera.gain == pytest.approx(whole.camera.gain, rel=1e-5)
    assert bands.photons_per_emitter == pytest.approx(whole.photons_per_emitter, rel=1e-4)
    assert np.array_equal(bands.diagnostics["used"], whole.diagnostics["used"])


def test_the_stack_is_not_written_to():
    stack = np.rint(steady(17)).astype(np.float32)
    stack.flags.writeable = False
    before = stack.copy()
    fg.estimate_camera(stack, optics((24, 40)))
    assert np.array_equal(stack, before)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    blocks = np.random.default_rng(18).standard_normal(25)
    leave_one_out = (blocks.sum() - blocks) / 24
    error = flicker.jackknife(np.concatenate([[blocks.mean()], leave_one_out])[:, None])
    assert error[0] == pytest.approx(blocks.std(ddof=1) / 5)


@pytest.mark.parametrize(
    ("stack", "error", "message"),
    [
        (np.ones((10, 12)), ValueError, "frames, rows, columns"),
        (np.ones((1, 12, 12)), ValueError, "at least 2 frames"),
        (np.full((5, 12, 12), np.nan), ValueError, "NaN or infinite"),
        (np.ones((5, 12, 12), dtype=complex), TypeError, "integers or floats"),
        (np.ones((5, 12, 12)), ValueError, "do not change at all"),
        (np.random.default_rng(0).poisson(50.0, (50, 12, 12)), ValueError, "gain cannot be read"),
    ],
)
def test_stacks_that_say_nothing_are_refused(stack, error, message):
    with pytest.raises(error, match=message):
        fg.estimate_camera(stack)


def test_a_uniform_field_needs_a_given_gain_only():
    stack = 100 + 2.0 * np.random.default_rng(19).poisson(50.0, (100, 20, 20))
    found = fg.estimate_camera(stack, gain=2.0)
    crossing = found.camera.offset - found.camera.noise_std**2 / 2.0
    # variance 200 at mean 200: its standard error over 100 frames of 400 pixels is 200 sqrt(3 / 40000) = 1.7, half of
    # that in the crossing.
    assert crossing == pytest.approx(100.0, abs=SIGMAS * 0.9)


def test_psi_must_fit_the_frames():
    with pytest.raises(ValueError, match="cut both alike"):
        fg.estimate_camera(steady(20), optics((32, 32)))


@pytest.mark.parametrize("bad", [{"gain": 0}, {"noise_std": -1}, {"photons_per_emitter": 0}])
def test_given_values_are_checked(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        fg.estimate_camera(steady(21), **bad)


# -- recorded stacks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_psi", [False, True])
@pytest.mark.parametrize(
    ("name", "wavelength_nm", "gain", "crossing"),
    [
        ("mito_014_525nm_na1.4_80nm.tif", 525, 2.26, 94),
        ("cardiomyoblast_510nm_na1.4_80nm.tif", 510, 2.11, 97),
        ("mito_dsred_608nm_24ms.tif", 608, 2.33, 70),
        ("mito_008_bleaching.tif", 600, 2.47, 78),
    ],
)
def test_recorded_stacks_give_the_known_gain_and_offset(name, wavelength_nm, gain, crossing, with_psi):
    if not (REAL / name).exists():
        pytest.skip("the recorded stacks are not here")
    tifffile = pytest.importorskip("tifffile")
    stack = tifffile.imread(REAL / name)
    psf = fg.gaussian_psf(0.51 * wavelength_nm / 1.4, 80, 2)
    found = fg.estimate_camera(stack, fg.Psi(psf, stack.shape[1:], 2, backend="numpy") if with_psi else None)
    # The values beside the stacks come from an unweighted fit that leaves the flicker in the slope; 0.46 electrons per
    # count, one kind of camera, explains them all once the flicker is taken off.
    assert abs(found.camera.gain - (1 / 0.46 if with_psi else gain)) <= 3 * found.gain_error
    assert abs(found.camera.offset - crossing) <= 3 * found.offset_error
    assert found.gain_error < 0.1 * found.camera.gain
