"""Operators of the user's own: what follows from forward and adjoint, and what their copies keep."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from own_operators import (
    SHAPE,
    Dimmed,
    Varying,
    Vignetted,
    nominal,
    quadratic_score,
    transmission,
    wider,
    written_out,
)

import fluogan_core as fg
from fluogan_core.testing import assert_operator


@pytest.fixture(scope="module")
def psi():
    return nominal()


# -- what follows from forward and adjoint ----------------------------------------------------------


def test_an_operator_of_ones_own_agrees_with_its_entries(own, rng):
    assert_operator(own)
    entries = written_out(own)
    x, y = rng.random(own.fine_shape), rng.random(own.shape)
    np.testing.assert_allclose(own.matrix.toarray(), entries, atol=1e-12)
    with pytest.raises(ValueError, match="read-only"):
        own.matrix.data[:] = 0
    np.testing.assert_allclose(own.squared_forward(x).ravel(), entries**2 @ x.ravel(), rtol=1e-9)
    np.testing.assert_allclose(own.squared_adjoint(y).ravel(), (entries**2).T @ y.ravel(), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(own.column_sums.ravel(), entries.sum(axis=0), rtol=1e-9)
    np.testing.assert_allclose(own.column_energies.ravel(), (entries**2).sum(axis=0), rtol=1e-9)
    np.testing.assert_allclose(own.norm, np.linalg.norm(entries, 2), rtol=1e-7)
    np.testing.assert_allclose(own.column((3, 5)).ravel(), entries[:, 3 * own.fine_shape[1] + 5], rtol=1e-9, atol=1e-14)
    assert own.squared_forward(x.astype(np.float32)).dtype == np.float32


def test_an_operator_of_ones_own_takes_any_kind(own, rng):
    torch = pytest.importorskip("torch")
    x, y = rng.random(own.fine_shape), rng.random(own.shape)
    for function, image in ((own.forward, x), (own.adjoint, y), (own.squared_forward, x), (own.squared_adjoint, y)):
        found = function(torch.from_numpy(image))
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found.numpy(), function(image))


def test_sampled_frames_have_the_mean_and_variance_of_the_operator(own, rng):
    model = fg.ForwardModel(own, gain=2.0, noise_std=1.0)
    x, b = rng.random(own.fine_shape).astype(np.float32), np.full(own.shape, 2.0, np.float32)
    frames = model.sample(x, b, 3000, seed=5).astype(np.float64)
    entries = written_out(own)
    light = (entries @ x.ravel()).reshape(own.shape) + 2.0
    variance = 4 * (light + (entries**2 @ x.ravel()).reshape(own.shape)) + 1.0
    np.testing.assert_allclose(model.mean(x, b), 2 * light, rtol=1e-5)
    np.testing.assert_allclose(model.variance(x, b), variance, rtol=1e-5)
    pulls = (frames.mean(axis=0) - 2 * light) / np.sqrt(variance / len(frames))
    assert abs(pulls.mean()) < 4 / np.sqrt(pulls.size)
    assert 0.8 < pulls.std() < 1.2
    np.testing.assert_allclose(frames.var(axis=0).mean(), variance.mean(), rtol=0.03)


@pytest.mark.parametrize("method", ["linear", "photon", "coupled", "corrected"])
def test_the_critics_gradient_is_that_of_the_operators_entries(psi, method):
    own, small = Vignetted(psi, transmission()), np.full((24, 28), 0.2, np.float32)
    model = fg.ForwardModel(own)
    found = fg.critic_gradient(quadratic_score, model, small, np.ones(SHAPE, np.float32), 400, 3, method, with_error=True)
    # of a sum S of all pixels: E[D(S + n) - D(S)] for n photons of mean m; several at once only where emissions are whole
    sums = own.column_sums
    mean = float((sums * small).sum()) + SHAPE[0] * SHAPE[1]
    several = {"linear": 0.0, "photon": 1.0}.get(method)
    square = sums + sums**2 if several is None else several * sums
    expected = (2 * sums * (mean - 100.0) + square) / 1000
    pulls = (found.x - expected) / found.x_error
    # all pixels share their frames, so their errors are one: the mean pull is that of one number
    assert abs(pulls.mean()) < 4
    np.testing.assert_allclose(found.x, expected, atol=5 * float(found.x_error.max()))
    assert np.corrcoef(found.x.ravel(), expected.ravel())[0, 1] > 0.95


def test_photons_of_an_operators_columns_are_poisson_with_its_entries(psi):
    from fluogan_core.physics.photons import ColumnTable, draw_photons, placement_of

    own = Varying(psi, wider(psi))
    table = placement_of(own)
    assert isinstance(table, ColumnTable)
    indices = np.array([0, 300, 27, 671])
    sets = draw_photons(table, indices, np.arange(4000), seed=1, step=2)
    counts = sets.dense(own.shape, 0, len(sets)).reshape(4000, len(indices), -1)
    expected = written_out(own)[:, indices].T
    np.testing.assert_allclose(counts.mean(axis=0), expected, atol=5 * np.sqrt(expected.max() / 4000))
    np.testing.assert_allclose(counts.sum(axis=2).var(axis=0), expected.sum(axis=1), rtol=0.15)
    # a frame's photons depend on its number, not on what is drawn with it
    alone = draw_photons(table, indices[1:2], np.array([17]), seed=1, step=2)
    np.testing.assert_array_equal(alone.dense(own.shape, 0, 1)[0].ravel(), counts[17, 1])


# -- kinds ------------------------------------------------------------------------------------------


def test_replaced_and_scaled_keep_the_kind(psi):
    own = Vignetted(psi, transmission())
    assert own.norm > float(own.column_sums.min())  # cached values that must not be carried over
    for made in (own.replaced(photons_per_emitter=8.0), own.scaled(0.8)):
        assert type(made) is Vignetted
        assert made.transmission is own.transmission
        assert_operator(made)
        np.testing.assert_allclose(made.norm, Vignetted(made.nominal, transmission()).norm)
    assert own.scaled(1) is own
    np.testing.assert_allclose(own.replaced(photons_per_emitter=8.0).column_sums, 2 * own.column_sums)


def test_a_subclass_of_psi_keeps_its_class_and_attributes(psi):
    made = Dimmed(psi.psf, SHAPE, 2, backend="numpy")
    made.share = 0.25
    for other in (made.replaced(photons_per_emitter=3.0), made.scaled(0.9), pickle.loads(pickle.dumps(made))):
        assert type(other) is Dimmed
        assert other.share == 0.25
        assert "_agrees" not in vars(other)
    assert made != Dimmed(psi.psf, SHAPE, 2, backend="numpy"), "attributes of a subclass are part of what it is"
    twin = Dimmed(psi.psf, SHAPE, 2, backend="numpy")
    twin.share = 0.25
    assert made == twin
    assert hash(made) == hash(twin)
    assert made.nominal is made
