"""Hot, dead and stuck pixels: found, made up for, and left out of both phases; light never taken for them."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.calibration import bad_pixels
from fluogan_core.calibration.bad_pixels import without_bad_pixels
from fluogan_core.critics.quadratic import QuadraticCritic

FACTOR, SHAPE, FRAMES = 4, (24, 24), 200
CAMERA = fg.Camera(gain=2.0, offset=100.0, noise_std=2.0)
#: On a line.
LIT = (12, 10)


def operator(fwhm_nm: float = 318.0, kappa: float = 1.0) -> fg.Psi:
    return fg.Psi(fg.gaussian_psf(fwhm_nm, 100, FACTOR, truncate=4), SHAPE, FACTOR, photons_per_emitter=kappa, backend="numpy")


def record(psi: fg.Psi, brightness: float = 10.0, seed: int = 0) -> np.ndarray:
    """Two lines and a spot, counts."""
    x = np.zeros(psi.fine_shape, np.float32)
    x[20:76, 40:42] = x[20:76, 52:54] = brightness / psi.photons_per_emitter
    x[70, 75] = 40 * brightness / psi.photons_per_emitter
    model = fg.ForwardModel(psi, gain=CAMERA.gain, noise_std=CAMERA.noise_std)
    return model.sample(x, np.full(SHAPE, 8.0, np.float32), FRAMES, seed) + np.float32(CAMERA.offset)


def noisy(level: float, spread: float, count: int = 1) -> np.ndarray:
    return np.squeeze(level + spread * np.random.default_rng(1).standard_normal((FRAMES, count)))


DAMAGES = {
    "hot in the dark": (((2, 3),), noisy(2000, 40)),
    "warm in the dark": (((2, 3),), noisy(170, 6)),
    "hot in a corner": (((0, 0),), noisy(2000, 40)),
    "saturated, always": ((LIT,), 65535.0),
    "dead, by the offset": ((LIT,), noisy(100, 2)),
    "dead, nought": ((LIT,), 0.0),
    "four in a square": (tuple((LIT[0] + i, LIT[1] + j) for i in (0, 1) for j in (0, 1)), noisy(100, 2, 4)),
    "a row, nought": (tuple((LIT[0], j) for j in range(SHAPE[1])), 0.0),
}


def damaged(stack: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The stack with these pixels, and where they are."""
    places, level = DAMAGES[name]
    rows, columns = np.transpose(places)
    stack, bad = stack.copy(), np.zeros(SHAPE, dtype=bool)
    stack[:, rows, columns] = level if np.ndim(level) != 1 else level[:, None]
    bad[rows, columns] = True
    return stack, bad


@pytest.mark.parametrize("name", DAMAGES)
def test_bad_pixels_are_found_and_made_up_for(name, caplog):
    psi = operator()
    whole = record(psi)
    stack, wrong = damaged(whole, name)
    before = stack.copy()
    made, bad = without_bad_pixels(stack, psi)
    np.testing.assert_array_equal(bad, wrong)
    np.testing.assert_array_equal(stack, before)
    np.testing.assert_array_equal(made[:, ~bad], stack[:, ~bad])
    assert (made[:, bad] == made[0, bad]).all()
    off = (made.mean(axis=0) - whole.mean(axis=0))[bad]
    errors = whole.std(axis=0)[bad] / np.sqrt(FRAMES)
    assert np.sqrt(np.mean((off / errors) ** 2)) < 6  # in a corner; elsewhere less
    assert f"left out of the fit: {bad.sum()} " in caplog.text


@pytest.mark.parametrize("described", [0.9, 1.0, 1.1])
@pytest.mark.parametrize("brightness", [0.3, 10.0])
def test_light_is_no_bad_pixel(described, brightness):
    """Through a PSF a tenth too narrow or too wide, a point of light among it."""
    stack = record(operator(), brightness)
    made, bad = without_bad_pixels(stack, operator(318 * described))
    assert not bad.any()
    assert made is stack


def test_under_a_psf_as_narrow_as_a_pixel_points_of_light_may_be_anything():
    psi = operator(90.0)
    assert not without_bad_pixels(record(psi), psi)[1].any()
    assert without_bad_pixels(damaged(record(psi), "hot in the dark")[0], psi)[1].sum() == 1


@pytest.mark.parametrize("name", ["mito_dsred_608nm_24ms.tif", "mito_014_525nm_na1.4_80nm.tif"])
@pytest.mark.parametrize("fwhm_nm", [170, 190, 220])
def test_recorded_stacks_have_none(real_stacks, name, fwhm_nm):
    """Pixels of 80 nm, of a camera whose offsets are not equal."""
    frames = fg.read_stack(real_stacks / name).frames
    psi = fg.Psi(fg.gaussian_psf(fwhm_nm, 80, FACTOR), frames.shape[1:], FACTOR, backend="numpy")
    assert not without_bad_pixels(frames, psi)[1].any()


def test_pixels_of_unequal_offset_are_no_bad_ones():
    psi = operator()
    stack = record(psi) + np.random.default_rng(0).normal(0, 5, SHAPE).astype(np.float32)
    assert not without_bad_pixels(stack, psi)[1].any()


def test_too_many_are_left_as_they_are_and_said(caplog):
    psi = operator()
    stack = record(psi)
    places = np.random.default_rng(2).permutation(stack[0].size)[:40]
    stack[:, places // SHAPE[1], places % SHAPE[1]] = 100
    made, bad = without_bad_pixels(stack, psi)
    assert made is stack
    assert not bad.any()
    assert "more than 5 % of the pixels cannot be explained by light through this PSF" in caplog.text


def test_a_border_that_registration_left_is_said_with_what_to_cut_to(caplog):
    psi = operator()
    stack = record(psi)
    stack[:, :2] = 0
    stack[:, :, -3:] = 0
    without_bad_pixels(stack, psi)
    assert "top, left, rows, columns = 2, 0, 22, 21 (roi)" in caplog.text
    caplog.clear()
    stack = record(psi)
    stack[:, 7] = 0  # not at the border
    without_bad_pixels(stack, psi)
    assert "(roi)" not in caplog.text


def test_fields_too_small_or_without_any_change_are_not_looked_at():
    psi = fg.Psi(np.ones((1, 1)), (3, 4), 1, backend="numpy")
    assert not without_bad_pixels(np.arange(24.0).reshape(2, 3, 4), psi)[1].any()
    assert not without_bad_pixels(np.full((5, *SHAPE), 7), operator())[1].any()


def test_the_prediction_is_that_of_a_gaussian_field():
    """By the dense formula: the conditional mean of some pixels given the others."""
    psi = fg.Psi(fg.gaussian_psf(200, 100, 2, truncate=3), (7, 9), 2, backend="numpy")
    prediction = bad_pixels._Prediction(psi, 5.0, 0.3)
    prediction.inverse[0, 0] = 0.01  # so that there is a covariance
    prediction.diagonal = np.diag(_dense(prediction)).reshape(7, 9)
    precision = _dense(prediction)
    image = np.random.default_rng(0).normal(size=63)
    bad = np.zeros(63, dtype=bool)
    bad[[3, 4, 30, 62]] = True
    covariance = np.linalg.inv(precision)
    expected = covariance[np.ix_(bad, ~bad)] @ np.linalg.solve(covariance[np.ix_(~bad, ~bad)], image[~bad])
    filled = prediction.filled(image.reshape(7, 9), bad.reshape(7, 9)).ravel()
    np.testing.assert_allclose(filled[bad], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(filled[~bad], image[~bad])
    one = np.zeros(63, dtype=bool)
    one[30] = True
    alone = covariance[30, ~one] @ np.linalg.solve(covariance[np.ix_(~one, ~one)], image[~one])
    assert prediction.misses(image.reshape(7, 9)).ravel()[30] == pytest.approx(image[30] - alone, rel=1e-6)


def _dense(prediction) -> np.ndarray:
    units = np.eye(63).reshape(63, 7, 9)
    return np.stack([prediction._precision(unit).ravel() for unit in units])


@pytest.mark.parametrize("name", ["hot in the dark", "dead, nought", "a row, nought"])
@pytest.mark.parametrize("method", ["none", "moments"])
def test_the_image_is_that_of_the_whole_stack(name, method):
    psi = operator(kappa=10.0)
    whole = record(psi)
    stack, wrong = damaged(whole, name)
    options = fg.SolverOptions(warm_steps=400, steps=3).for_method(method)
    x, made = (fg.reconstruct(frames, psi=psi, camera=CAMERA, options=options) for frames in (whole, stack))
    np.testing.assert_array_equal(made.bad_pixels, wrong)
    assert not x.bad_pixels.any()
    assert np.corrcoef(x.x.ravel(), made.x.ravel())[0, 1] > (0.9 if name.startswith("a row") else 0.99)
    assert made.x.sum() == pytest.approx(x.x.sum(), rel=0.03)


def test_the_quadratic_critic_leaves_them_out():
    """Whatever is recorded there, nothing that it says of x changes."""
    psi = operator(kappa=10.0)
    model = fg.ForwardModel(psi, gain=1.0, noise_std=1.0)
    stack = record(psi) - np.float32(CAMERA.offset)
    bad = np.zeros(SHAPE, dtype=bool)
    bad[LIT] = bad[2, 3] = True
    other = np.where(bad, np.float32(500.0) + stack[::-1] * 3, stack)
    x, b = np.full(psi.fine_shape, 0.05, np.float32), np.full(SHAPE, 8.0, np.float32)
    said = []
    for frames in (stack, other):
        critic = QuadraticCritic(frames, model, frames.mean(axis=0), bad_pixels=bad)
        critic.measure_flicker(x, b)
        critic.update_weights(x, b)
        said.append((critic.flicker, *critic.slope(x, b), *critic.slope(1.5 * x, b)))
    assert said[0][0] == pytest.approx(said[1][0], rel=1e-3)
    for mine, theirs in zip(said[0][1:], said[1][1:]):
        assert np.abs(mine - theirs).max() < 1e-3 * np.abs(mine).max()


def test_a_critic_is_blind_to_them_and_a_sweep_leaves_them_out():
    psi = operator(kappa=10.0)
    stack, wrong = damaged(record(psi), "hot in the dark")
    options = fg.SolverOptions(method="linear", warm_steps=20, steps=1, channels=2, depth=1)
    solver = fg.Solver(stack, psi=psi, camera=CAMERA, options=options)
    assert (solver.phases[1].critic.input_std.numpy()[wrong] > 1e9).all()
    vary = {"detail": (0.1, 0.3)}
    mean = fg.SolverOptions(method="none", warm_steps=60)
    whole, made = (fg.sweep(frames, psi=psi, camera=CAMERA, options=mean, vary=vary) for frames in (record(psi), stack))
    np.testing.assert_array_equal(made.bad_pixels, wrong)
    for one, other in zip(whole.trials, made.trials):
        assert other.fit.mean_misfit == pytest.approx(one.fit.mean_misfit, rel=0.2)
        assert np.corrcoef(one.fit.x.ravel(), other.fit.x.ravel())[0, 1] > 0.99
