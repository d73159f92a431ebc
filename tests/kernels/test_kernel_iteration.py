"""Kernels of the covariance fit that only a card has, against array code: steps, momentum, smooth backgrounds."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_sets import CUDA, kernel_set

import fluogan_core as fg
from fluogan_core.backend import arrays as room
from fluogan_core.critics.quadratic import QuadraticCritic
from fluogan_core.objective.blur import GaussianKernel
from fluogan_core.objective.fista import Acceleration
from fluogan_core.objective.prior import SparseEdges
from fluogan_core.objective.terms import Objective


@pytest.fixture(params=CUDA)
def backend(request, monkeypatch):
    chosen = kernel_set(request.param).backend
    if chosen.name == "numpy":
        monkeypatch.setattr(room, "_numpy_backend", lambda: chosen)
    return chosen


@pytest.fixture
def plain(monkeypatch):
    """Compute with NumPy's array code alone: what it returns is the definition."""

    def compute(function, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(fg.Backend, "kernel", lambda backend, name: None)
            return function(room.Backend("numpy", "cpu", np, *_scipy()), *arguments)

    return compute


def _scipy():
    import scipy.fft
    import scipy.ndimage

    return scipy.fft, scipy.ndimage


def psi_on(backend, shape=(20, 17)):
    return fg.Psi(fg.gaussian_psf(300, 100, 2), shape, 2, photons_per_emitter=4.0, backend=backend)


def images(rng, shape, count):
    return [rng.standard_normal(shape).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("sparsity", [0.3, "image"])
def test_the_step_of_an_image_is_that_of_array_code(backend, plain, sparsity, rng):
    shape = (37, 41)
    price = rng.random(shape, dtype=np.float32) if sparsity == "image" else sparsity
    z, slope = images(rng, shape, 2)
    steps = np.exp(rng.standard_normal(shape)).astype(np.float32)
    edges = (1 + rng.random(shape)).astype(np.float32)

    def moved(on):
        cost = on.asarray(price) if sparsity == "image" else price
        prior = SparseEdges(shape, on, sparsity=cost, total_variation=0.4, edges=on.asarray(edges))
        found = [prior.moved(*(on.asarray(image) for image in (z, slope, steps))) for _ in range(2)]
        return [on.to_host(image) for image in (*found, prior.dual)]

    for got, expected in zip(moved(backend), plain(moved)):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_an_image_that_is_measured_is_the_one_that_is_moved(backend, rng):
    shape = (12, 9)
    z, slope = images(rng, shape, 2)
    for weight, step in ((0.4, np.full(shape, 0.2, np.float32)), (0.4, 0.2), (0.0, 0.2)):
        given = [backend.asarray(image) for image in (abs(z), slope)]
        step = backend.asarray(step) if np.ndim(step) else step
        made = [SparseEdges(shape, backend, sparsity=0.1, total_variation=weight) for _ in range(2)]
        found = [backend.to_host(image) for image in (made[0].step(*given, step).x, made[1].moved(*given, step))]
        np.testing.assert_array_equal(*found)


def test_the_points_ahead_are_those_of_array_code(backend, plain, rng):
    start, background = images(rng, (23, 31), 1)[0], images(rng, (5, 7), 1)[0]
    news = [(image, b) for image, b in zip(images(rng, (23, 31), 7), images(rng, (5, 7), 7))]

    def sequence(on):
        followed = Acceleration(on.asarray(start), on.asarray(background))
        for number, new in enumerate(news):
            followed.advance(*map(on.asarray, new))
            if number == 3:
                followed.restart()
                np.testing.assert_array_equal(on.to_host(followed.ahead[0]), new[0])
        resumed = Acceleration(*followed.current)
        resumed.load_state_dict(followed.state_dict(), on.asarray)
        assert resumed.t == followed.t
        return [followed.t, *map(on.to_host, followed.ahead)]

    (t, *ahead), (expected_t, *expected) = sequence(backend), plain(sequence)
    assert t == expected_t > 2.0
    for got, wanted, (new, last) in zip(ahead, expected, zip(news[-1], news[-2])):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
        # t is 1 after the restart: 1.618, 2.194, 2.750; the last step goes on by 1.194 / 2.750
        np.testing.assert_allclose(got, new + 0.4340 * (new - last), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "order", "level"), [((20, 17), 3, 5.0), ((20, 17), 3, 0.05), ((32, 14), 1, 0.05), ((14, 40), 2, -1.0)]
)
def test_a_step_of_the_background_is_that_of_array_code(backend, plain, shape, order, level, rng):
    mean = rng.random(shape, dtype=np.float32)
    b, slope = np.full(shape, max(level, 0), np.float32), rng.standard_normal(shape).astype(np.float32) - np.float32(level)

    def stepped(on):
        objective = Objective(psi_on(on, shape), on.asarray(mean), fidelity=2.0, smoothness=30.0, order=order)
        return on.to_host(objective.background_step(on.asarray(b), on.asarray(slope), 0.5))

    expected = plain(stepped)
    assert (expected == 0).any() == (level < 1)  # the bound matters, or it does not
    np.testing.assert_allclose(stepped(backend), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_a_field_too_large_for_one_block_is_smoothed_by_array_code(backend, plain, rng):
    shape = (130, 130)
    b = rng.random(shape, dtype=np.float32)

    def stepped(on):
        objective = Objective(psi_on(on, shape), on.asarray(b), smoothness=30.0)
        return on.to_host(objective.background_step(on.asarray(b), on.asarray(0 * b), 1.0))

    assert backend.kernel("bounded_background") is not None
    np.testing.assert_allclose(stepped(backend), plain(stepped), rtol=0, atol=1e-6)


def test_the_blur_is_that_of_array_code(backend, plain, rng):
    image = rng.random((40, 34), dtype=np.float32)

    def blurred(on):
        return on.to_host(GaussianKernel(psi_on(on), 0.5)(on.asarray(image)))

    np.testing.assert_allclose(blurred(backend), plain(blurred), rtol=0, atol=1e-6)


def test_the_slope_of_the_quadratic_critic_is_that_of_array_code(backend, plain, rng):
    x, b = rng.random((40, 34), dtype=np.float32), 1 + rng.random((20, 17), dtype=np.float32)

    def slopes(on):
        model = fg.ForwardModel(psi_on(on), noise_std=0.5)
        frames = on.asarray(np.random.default_rng(1).poisson(9.0, (40, 20, 17)), dtype=np.float32)
        critic = QuadraticCritic(frames, model)
        critic.update_weights(on.asarray(x), on.asarray(b))
        return [on.to_host(part) for part in critic.slope(on.asarray(1.1 * x), on.asarray(b + 0.2))]

    for got, expected in zip(slopes(backend), plain(slopes)):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
