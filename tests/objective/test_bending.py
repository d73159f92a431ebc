"""The penalty of the background: its filter, and what it leaves free."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.objective.bending import Bending


def bending_of(shape=(32, 32), scale=2.6, order=8, fidelity=1.7):
    return Bending(shape, fg.get_backend("numpy"), smoothness=fidelity * scale ** (2 * order), order=order, fidelity=fidelity)


def coordinates(shape):
    return np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")


@pytest.mark.parametrize(
    ("shape", "scale", "order"), [((32, 32), 2.6, 8), ((20, 33), 2.0, 3), ((9, 7), 1.1, 2), ((16, 16), 9.0, 1)]
)
def test_the_filter_is_where_the_gradient_vanishes(shape, scale, order, rng):
    bending, target = bending_of(shape, scale, order), rng.standard_normal(shape)
    for weight in (1.7, 3.4):
        b = bending.lowpass(target, weight)
        np.testing.assert_allclose(weight * (b - target) + bending.gradient(b), 0, atol=1e-7)


def test_slopes_and_bends_that_leave_the_field_pass():
    """A gradient, vignetting, a saddle: as they are, where cosines alone are off by a tenth of a photon and more."""
    v, u = coordinates((32, 32))
    bending = bending_of()
    for background in (5 + u - 2 * v, 10 - 3 * (u**2 + v**2), 4 + 2 * u * v):
        np.testing.assert_allclose(bending.lowpass(background, 1.7), background, atol=1e-9)
        assert bending.energy(background) == pytest.approx(0, abs=1e-6)
        cosines = bending_of()
        cosines.free = None
        assert np.abs(cosines.lowpass(background, 1.7) - background).max() > 0.1


def test_what_is_narrow_does_not_pass():
    """Of a bar three pixels wide hardly more than through the cosines alone."""
    bar = np.zeros((32, 32))
    bar[:, 15:18] = 1.0
    bending, cosines = bending_of(), bending_of()
    cosines.free = None
    assert bending.lowpass(bar, 1.7).max() < 1.1 * cosines.lowpass(bar, 1.7).max()


def test_polynomials_are_free_only_if_slower_than_what_passes():
    """The paper's p = 1 has none; a field of 12 pixels has planes, since a parabola there is as fast as what is held."""
    assert bending_of(order=1).free is None
    assert bending_of(scale=20.0).free is None
    assert len(bending_of(order=2).free) == 2
    assert len(bending_of((12, 12)).free) == 3
    assert len(bending_of().free) == 5


def test_the_gradient_is_the_energys(rng):
    bending, b, step = bending_of((12, 10), 1.5, 3), rng.standard_normal((12, 10)), 1e-4 * rng.standard_normal((12, 10))
    slope = (bending.energy(b + step) - bending.energy(b - step)) / 2
    assert slope == pytest.approx((bending.gradient(b) * step).sum(), rel=1e-5)
