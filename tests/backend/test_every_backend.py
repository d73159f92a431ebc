"""The library gives the same on every backend: Numba's kernels, CUDA's on the CPU and on a card, and plain array code."""

from __future__ import annotations

import numpy as np
import pretend_card
import pytest
from psfs import tiny_psf
from scenes import used_by

import fluogan_core as fg
from fluogan_core.backend import random
from fluogan_core.physics.photons import PlacementTable, draw_photons
from fluogan_core.solvers import checkpoint


@pytest.fixture
def plain(monkeypatch):
    """Compute with NumPy's array code alone: what it returns is the definition."""

    def compute(function):
        with monkeypatch.context() as patch:
            patch.setattr(fg.Backend, "kernel", lambda backend, name: None)
            return function(fg.get_backend("numpy"))

    return compute


def model_on(backend, shape=(7, 9), kappa=5.0):
    psi = fg.Psi(tiny_psf(5, 0.1), shape, 3, photons_per_emitter=kappa, backend=backend)
    return fg.ForwardModel(psi, gain=2.0, noise_std=1.0)


def images(shape, rng):
    fine = (3 * shape[0], 3 * shape[1])
    x = (rng.gamma(0.5, 2.0, fine) * (rng.random(fine) < 0.3)).astype(np.float32)
    return x, rng.gamma(2.0, 2.0, shape).astype(np.float32)


def test_frames(backend, plain, rng):
    x, b = images((7, 9), rng)

    def draw(on):
        return on.to_host(model_on(on).sample(on.asarray(x), on.asarray(b), 12, seed=5, first_frame=3, step=2))

    # Psi z is rounded differently on a real card, which now and then moves a count across a threshold
    differing = (np.abs(draw(backend) - plain(draw)) > 1e-4).mean()
    assert differing <= (0.01 if backend.device.startswith("cuda") else 0.0)


@pytest.mark.parametrize("kappa", [1.0, 20.0])
def test_photon_sets_and_their_images(backend, plain, kappa):
    def draw(on):
        table = PlacementTable(model_on(on, kappa=kappa).psi)
        sets = draw_photons(table, np.arange(0, 21 * 27, 2), [4, 9], seed=1, step=2)
        return [on.to_host(a) for a in (sets.starts, sets.pixels, sets.dense((7, 9), 3, 100))]

    for got, expected in zip(draw(backend), plain(draw)):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("method", ["coupled", "corrected", "photon", "linear"])
@pytest.mark.parametrize("rule", ["count", "rate"])
def test_gradients(backend, plain, method, rule, rng):
    x, b = images((8, 8), rng)

    def gradient(on):
        critic = fg.Critic((8, 8), channels=4, depth=2, seed=3).to(on.device)
        model = model_on(on, (8, 8))
        options = used_by(method, background_rule=rule, corrected_frames=2, lattice=1)
        parts = fg.critic_gradient(critic, model, on.asarray(x), on.asarray(b), 3, 1, **options)
        return [on.to_host(part) for part in parts]

    for got, expected in zip(gradient(backend), plain(gradient)):
        # values of a float32 critic are subtracted in the plain path
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


OPTIONS = fg.SolverOptions("corrected", steps=2, warm_steps=3, batch=8, gradient_frames=4, channels=4, depth=2, critic_steps=2)


@pytest.fixture
def recorded(backend, rng):
    """A model on an 8 x 8 field and a stack of it on the backend."""
    model = model_on(backend, (8, 8))
    x, b = images((8, 8), rng)
    return model, model.sample(backend.asarray(x), backend.asarray(b), 40)


@pytest.mark.parametrize("method", ["moments", "corrected"])
def test_a_short_reconstruction(backend, recorded, method):
    model, stack = recorded
    options = OPTIONS.for_method(method)
    result = fg.reconstruct(stack, psi=model.psi, camera=fg.Camera(2.0, 0.0, 1.0), options=options)
    assert result.x.shape == (24, 24)
    assert np.isfinite(result.x).all()
    assert (result.history["phase"] == 1).sum() == 2
    assert result.device == backend.device


@pytest.mark.parametrize("where", ["backend", "host"])
def test_a_sweep_of_a_stack_here_or_there(backend, recorded, where):
    model, stack = recorded
    frames = stack if where == "backend" else backend.to_host(stack)
    vary, camera = {"sparsity": (1.0, 1e5)}, fg.Camera(2.0, 0.0, 1.0)
    swept = fg.sweep(frames, psi=model.psi, camera=camera, options=fg.SolverOptions(method="none", warm_steps=20), vary=vary)
    assert [trial.failure for trial in swept.trials] == ["", ""]
    assert swept.best == 0
    assert swept.behind(1).told_apart
    assert type(swept.trials[0].fit.x) is np.ndarray


@pytest.mark.parametrize(
    "mixture",
    [
        lambda array: array + np.ones(3),
        lambda array: np.ones(3) * array,
        lambda array: array + random.Stage.EMISSION,
        lambda array: random.Stage.EMISSION + array,
        lambda array: pretend_card.backend().xp.maximum(array, None),
        lambda array: array[np.arange(2)],
        lambda array: np.asarray(array),
    ],
)
def test_the_pretended_card_refuses_what_is_not_its_own(pretended_card, mixture):
    array = pretended_card.asarray([1.0, 2.0, 3.0])
    assert (array + 1 + np.float32(2) + True).tolist() == [5.0, 6.0, 7.0]
    with pytest.raises(TypeError):
        mixture(array)


def test_elementwise_functions_of_the_pretended_card_return_c_order(pretended_card):
    array = pretended_card.asarray(np.zeros((3, 4)).T)
    for result in (array + 1, -array, pretended_card.xp.maximum(array, 0.5)):
        assert result.flags.c_contiguous
    assert not array.flags.c_contiguous


def test_a_matrix_that_cannot_be_inverted_raises_where_errors_are_asked_for(backend):
    linalg, singular, indefinite = backend.xp.linalg, backend.asarray(np.zeros((3, 3))), backend.asarray(-np.eye(3))
    right = backend.asarray(np.ones((3, 2)))
    calls = (lambda: linalg.inv(singular), lambda: linalg.solve(singular, right), lambda: linalg.cholesky(indefinite))
    for call in calls:
        if backend.name == "cupy":
            call()  # says nothing
        with pytest.raises(np.linalg.LinAlgError), backend.linalg_raises():
            call()


def test_a_covariance_that_is_none_raises_on_every_backend(backend, recorded):
    """Negative light has a negative variance: no Gaussian has it, and a score of NaN would pass for one."""
    model, stack = recorded
    critic = fg.QuadraticCritic(stack, model, stack.mean(axis=0))
    x, b = backend.asarray(np.full((24, 24), -1.0), dtype=np.float32), backend.asarray(np.zeros((8, 8)), dtype=np.float32)
    with pytest.raises(np.linalg.LinAlgError):
        critic.log_density(stack, x, b)


def test_a_state_with_arrays_of_the_backend_survives_its_file(backend, rng, tmp_path):
    array = rng.random((3, 4))
    checkpoint.write_state({"images": {"x": backend.asarray(array)}}, tmp_path / "state.pt")
    np.testing.assert_array_equal(checkpoint.read_state(tmp_path / "state.pt")["images"]["x"], array)


def test_the_camera_is_estimated_from_a_stack_on_the_backend(backend, recorded):
    model, stack = recorded
    there, here = (fg.estimate_camera(a, model.psi, gain=2.0).camera for a in (stack, backend.to_host(stack)))
    assert (there.offset, there.noise_std) == pytest.approx((here.offset, here.noise_std), rel=1e-5)
