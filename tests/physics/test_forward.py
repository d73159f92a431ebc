"""The forward model: eq. (10) by Monte Carlo, streams that can be cut anywhere, rates that are never negative."""

from __future__ import annotations

import numpy as np
import pytest
from psfs import tiny_psf

import fluogan_core as fg
from fluogan_core.objective.terms import expected_squared_distance


def make(binning="sum", kappa=3.0, shape=(5, 6), factor=3, **options):
    psi = fg.Psi(tiny_psf(5, 0.1), shape, factor, binning=binning, photons_per_emitter=kappa)
    return fg.ForwardModel(psi, **options)


def images(model, rng):
    x = rng.random(model.psi.fine_shape, dtype=np.float32)
    x[rng.random(x.shape) < 0.5] = 0
    return x, (rng.random(model.psi.shape, dtype=np.float32) + 0.5) * 4


@pytest.mark.parametrize("binning", ["sum", "point"])
@pytest.mark.parametrize(("kappa", "gain", "noise_std"), [(1.0, 1.0, 0.0), (20.0, 2.5, 1.5)])
def test_mean_variance_and_equation_10(rng, binning, kappa, gain, noise_std):
    model = make(binning, kappa, gain=gain, noise_std=noise_std)
    x, b = images(model, rng)
    frames = 4000
    y = model.sample(x, b, frames, seed=3).astype(np.float64)
    # per pixel, border included: 30 means and variances, each within 4.5 standard errors
    variance = y.var(axis=0, ddof=1)
    assert np.abs((y.mean(axis=0) - model.mean(x, b)) / np.sqrt(variance / frames)).max() < 4.5
    centred = (y - y.mean(axis=0)) ** 2
    spread = np.sqrt(centred.var(axis=0) / frames)
    assert np.abs((variance - model.variance(x, b)) / spread).max() < 4.5
    # eq. (10) against an image that is not the mean
    target = model.mean(x, b) + gain * rng.standard_normal(model.psi.shape)
    distance = ((y - target) ** 2).sum(axis=(1, 2))
    error = distance.std() / np.sqrt(frames)
    assert abs(distance.mean() - expected_squared_distance(model, x, b, target)) < 4 * error
    at_the_mean = expected_squared_distance(model, x, b, model.mean(x, b))
    assert at_the_mean == pytest.approx(float(model.variance(x, b).sum()), rel=1e-5)


def test_covariance_between_pixels_is_that_of_the_shared_emissions(rng):
    model = make(kappa=20.0, gain=2.0)
    x, b = images(model, rng)
    frames = 6000
    y = model.sample(x, b, frames, seed=5).astype(np.float64).reshape(frames, -1)
    n = x.size
    matrix = model.psi.forward(np.eye(n).reshape(n, *model.psi.fine_shape)).reshape(n, -1)
    expected = 4.0 * (matrix * x.ravel().astype(float)[:, None]).T @ matrix
    centred = y - y.mean(axis=0)
    products = centred[:, :, None] * centred[:, None, :]
    error = products.std(axis=0) / np.sqrt(frames)
    off_diagonal = ~np.eye(y.shape[1], dtype=bool)
    z = ((products.mean(axis=0) - expected) / error)[off_diagonal]
    assert np.abs(z).max() < 4.7  # 870 correlated pairs
    assert np.abs(expected[off_diagonal] / error[off_diagonal]).max() > 20  # and the test would see them missing


def test_frames_drawn_apart_equal_frames_drawn_together(rng):
    model = make(gain=2.0, noise_std=1.0)
    x, b = images(model, rng)
    together = model.sample(x, b, 20, seed=7, step=2)
    apart = [model.sample(x, b, n, seed=7, step=2, first_frame=f) for f, n in ((0, 3), (3, 10), (13, 7))]
    np.testing.assert_array_equal(np.concatenate(apart), together)


def test_seed_step_and_frame_change_the_draw(rng):
    model = make()
    x, b = images(model, rng)
    base = model.sample(x, b, 1, seed=1)
    for other in ({"seed": 2}, {"seed": 1, "step": 1}, {"seed": 1, "first_frame": 1}, {"seed": 1 + 2**32}):
        assert not np.array_equal(model.sample(x, b, 1, **other), base)


def test_samples_do_not_depend_on_the_memory_budget(rng):
    model = make()
    x, b = images(model, rng)
    whole = model.sample(x, b, 9, seed=1)
    model.psi.memory_budget = 1
    np.testing.assert_array_equal(model.sample(x, b, 9, seed=1), whole)


def test_a_dark_field_and_fft_round_off_give_no_negative_rate(rng):
    psi = fg.Psi(tiny_psf(5, 0.1), (9, 9), 3)
    model = fg.ForwardModel(psi)
    x = np.zeros(psi.fine_shape, np.float32)
    x[0, 0] = 1e6
    blurred = psi.forward(x)
    assert blurred.min() < 0  # the FFT does round below zero here
    y = model.sample(x, np.zeros(psi.shape, np.float32), 3, seed=0)
    assert np.isfinite(y).all()
    assert y.min() >= 0
    assert model.sample(0 * x, np.zeros(psi.shape, np.float32), 3).sum() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, x, b: m.sample(-x - 1, b, 2), "x must be finite and not negative"),
        (lambda m, x, b: m.sample(x, b - 100, 2), "b must be finite and not negative"),
        (lambda m, x, b: m.sample(x * np.nan, b, 2), "x must be finite"),
        (lambda m, x, b: m.sample(b, b, 2), "x must have shape"),
        (lambda m, x, b: m.sample(x[None], b, 2), "x must be one image"),
        (lambda m, x, b: m.sample(x, b, 0), "frames must be at least 1"),
        (lambda m, x, b: m.sample(x, b, 2, seed=-1), "seed must be a whole number"),
        (lambda m, x, b: m.sample(x, b, 2, seed=1.5), "seed must be a whole number"),
        (lambda m, x, b: fg.ForwardModel(m.psi, gain=0), "gain must be greater than 0"),
        (lambda m, x, b: fg.ForwardModel(m.psi, noise_std=-1), "noise_std must be at least 0"),
    ],
)
def test_bad_input_is_named(rng, change, message):
    model = make()
    with pytest.raises((ValueError, TypeError), match=message):
        change(model, *images(model, rng))


def test_check_returns_two_arrays_in_the_dtype_of_the_computation(rng):
    model = make()
    x, b = images(model, rng)
    checked = model.check(x, b)
    assert type(checked) is tuple
    assert checked[0] is x
    assert checked[1] is b
    for given, wanted in (("<f8", "float64"), (">f8", "float64"), ("f2", "float32"), ("i4", "float32"), ("?", "float32")):
        taken = model.check(x.astype(given), b.astype(given))
        assert [array.dtype for array in taken] == [np.dtype(wanted)] * 2
        assert all(array.dtype.isnative for array in taken)


@pytest.mark.parametrize("which", ["x", "b"])
def test_masked_arrays_are_refused_by_name(rng, which):
    model = make()
    given = dict(zip("xb", images(model, rng)))
    given[which] = np.ma.masked_less(given[which], 0.5)
    for call in (model.mean, model.variance, lambda x, b: model.sample(x, b, 2)):
        with pytest.raises(TypeError, match=f"{which} is a masked array"):
            call(**given)
    with pytest.raises(TypeError, match="y is a masked array"):
        model.psi.adjoint(np.ma.ones(model.psi.shape))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e-6, 1e6, 1e20, 1e30, 1e36, 1e37, 3e38, 1e200])
def test_results_are_finite_or_refused(rng, dtype, scale):
    """float32 ends at 3.4e38."""
    model = make(kappa=100.0, gain=3.0, noise_std=2.0)
    with np.errstate(over="ignore"):
        x, b = ((image * scale).astype(dtype) for image in map(np.float64, images(model, rng)))
    refusals = []
    for call in (model.mean, model.variance, lambda x, b: model.sample(x, b, 3)):
        try:
            assert np.isfinite(call(x, b)).all()
        except ValueError as error:
            refusals.append(str(error))
    assert all("exceeds what float32 can hold" in text or "must be finite" in text for text in refusals), refusals
    assert not refusals or scale > 1e30


@pytest.mark.parametrize("name", ["gain", "noise_std", "epsilon"])
def test_numbers_whose_squares_leave_float32_are_refused(name):
    psi = make().psi
    assert getattr(fg.ForwardModel(psi, **{name: 1e15}), name) == 1e15
    with pytest.raises(ValueError, match=rf"{name} must be .*at most 1e\+15, got 1e\+30"):
        fg.ForwardModel(psi, **{name: 1e30})


def test_light_that_overflows_is_refused_and_not_taken_for_dark():
    """Transforms turn an overflow into NaN."""
    model = make(kappa=100.0)
    assert model.psi.method == "convolutions"
    x, b = np.full(model.psi.fine_shape, 1e37, np.float32), np.ones(model.psi.shape, np.float32)
    with pytest.raises(ValueError, match="the light on a pixel exceeds what float32 can hold"):
        model.sample(x, b, 1)


def test_a_number_in_place_of_an_image_is_told_how_to_become_one():
    model = fg.ForwardModel(fg.Psi(np.ones((1, 1)), (4, 5), 1, backend="numpy"))
    with pytest.raises(TypeError, match=r"b must be a NumPy or CuPy array, got float; .* numpy\.full\(shape, 2\.0\)"):
        model.sample(np.ones((4, 5)), 2.0, 3)


def test_a_batch_of_no_images_has_no_moments():
    psi = fg.Psi(np.ones((3, 3)), (6, 5), 2, backend="numpy")
    model, x, b = fg.ForwardModel(psi), np.zeros((0, *psi.fine_shape)), np.zeros((0, *psi.shape))
    assert model.mean(x, b).shape == model.variance(x, b).shape == (0, *psi.shape)
