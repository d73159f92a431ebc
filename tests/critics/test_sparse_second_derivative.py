"""The second derivative of the covariance term for an operator of the user's own, against its definition."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from own_operators import MAKE, nominal, written_out

import fluogan_core as fg
from fluogan_core.critics.moments import WindowMoments
from fluogan_core.critics.second_derivative import second_derivative_of
from fluogan_core.critics.sparse_second_derivative import SparseSecondDerivative
from fluogan_core.tuning import DEFAULT


@pytest.fixture(scope="module")
def psi():
    return nominal()


def defined(moments, entries, weights, chosen, flicker, x, light):
    """The gradient of sum_w tr(W D W D) / 4 with D = diag(light) + flicker Psi diag(x) Psi^T."""
    of_x, of_light = np.zeros(entries.shape[1]), np.zeros(entries.shape[0])
    for weight, number in zip(weights.astype(float), chosen):
        pixels = moments.windows.pixels[number]
        columns = entries[pixels]
        change = np.diag(light.ravel()[pixels]) + flicker * (columns * x.ravel()) @ columns.T
        quadratic = 0.5 * weight @ change @ weight
        of_x += flicker * ((quadratic @ columns) * columns).sum(axis=0)
        of_light[pixels] += np.diagonal(quadratic)
    return of_x.reshape(x.shape), of_light.reshape(light.shape)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize(("exact", "bound"), [(True, 1e-3), (False, 0.02)])
def test_it_is_the_gradient_of_the_covariance_term(psi, name, exact, bound, rng):
    own = MAKE[name](psi)
    tuning = DEFAULT.quadratic_critic
    if exact:
        tuning = dataclasses.replace(tuning, node_error=1e-5, least_inside=0.0, least_entry=0.0)
    moments = WindowMoments(fg.ForwardModel(own, noise_std=0.5), side=8, tuning=tuning)
    x, light = rng.random(own.fine_shape, np.float32), 1 + rng.random(own.shape, np.float32)
    chosen = np.array([0, 1, 3])
    weights = moments.weights(moments.predicted(x, light, np.float32(1.0), chosen), chosen)
    second = second_derivative_of(moments)
    assert isinstance(second, SparseSecondDerivative)
    second.update(weights, chosen, 0.7)
    images = (rng.random(own.fine_shape, np.float32), rng.random(own.shape, np.float32))
    found = second.slope(*images)
    for got, wanted in zip(found, defined(moments, written_out(own), weights, chosen, 0.7, *images)):
        assert got.dtype == np.float32
        assert np.linalg.norm(got - wanted) < bound * np.linalg.norm(wanted)


def test_blocks_are_added_up_however_little_memory_there_is(psi, rng):
    own = MAKE["varying"](psi)
    x, light = rng.random(own.fine_shape, np.float32), 1 + rng.random(own.shape, np.float32)
    found = []
    for memory in (2**26, 1000):
        tuning = dataclasses.replace(DEFAULT.quadratic_critic, batch_bytes=memory)
        moments = WindowMoments(fg.ForwardModel(own, noise_std=0.5), side=8, tuning=tuning)
        chosen = np.arange(len(moments.windows))
        weights = moments.weights(moments.predicted(x, light, np.float32(1.0), chosen), chosen)
        second = second_derivative_of(moments)
        second.update(weights, chosen, 1.0)
        found.append(second.slope(x, light))
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=1e-4)
