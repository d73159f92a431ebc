"""The penalty of the background: its filter, and what it leaves free."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.objective.bending import Bending
from fluogan_core.tuning import DEFAULT


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


@pytest.mark.parametrize(("i", "j"), [(0, 0), (1, 0), (0, 2), (3, 5), (11, 8), (11, 9)])
def test_a_cosine_costs_what_its_frequency_says(i, j):
    """With p = 1 nothing is free: half of the smoothness times the eigenvalue of the second differences, to a power."""
    shape, smoothness = (12, 10), 0.7
    cosine = np.outer(*(np.cos(np.pi * k * (np.arange(n) + 0.5) / n) for k, n in zip((i, j), shape)))
    eigenvalue = sum(2 - 2 * np.cos(np.pi * k / n) for k, n in zip((i, j), shape))
    one = Bending(shape, fg.get_backend("numpy"), smoothness=smoothness, order=1, fidelity=1.0)
    assert one.energy(cosine) == pytest.approx(0.5 * smoothness * eigenvalue * (cosine**2).sum(), abs=1e-12)
    np.testing.assert_allclose(one.gradient(cosine), smoothness * eigenvalue * cosine, atol=1e-12)
    # what is fast is held as hard as the tuning says, and no harder: the field is too small for anything to be free
    tuning = dataclasses.replace(DEFAULT.objective, stiffest=50.0)
    stiff = Bending(shape, fg.get_backend("numpy"), smoothness=2.0 * 9.0**6, order=3, fidelity=2.0, tuning=tuning)
    assert stiff.free is None
    expected = min(2.0 * 9.0**6 * eigenvalue**3, 100.0)
    assert stiff.energy(cosine) == pytest.approx(0.5 * expected * (cosine**2).sum(), abs=1e-9)
    passed = stiff.lowpass(cosine, 25.0)
    np.testing.assert_allclose(passed, 25 / (25 + expected) * cosine, atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "scale", "order"),
    [((12, 40), 2.6, 8), ((20, 24), 2.6, 8), ((40, 12), 2.6, 3), ((20, 20), 3.0, 2), ((30, 50), 5, 8)],
)
def test_free_are_the_polynomials_that_are_slower_than_what_passes(shape, scale, order):
    """Up to the second degree and below p: in any coordinates, since a lower degree is slower."""
    bending = bending_of(shape, scale, order)
    u, v = coordinates(shape)
    free = 0
    for i in range(4):
        for j in range(4):
            image = (u + 0.3) ** i * (v - 0.2) ** j
            slow = i + j <= 2 and i + j < order and (np.pi * i / shape[0]) ** 2 + (np.pi * j / shape[1]) ** 2 < 1 / scale**2
            free += slow and i + j > 0
            cosines = bending_of(shape, scale, order)
            cosines.free = None
            held, alone = bending.energy(image), cosines.energy(image)
            assert (held < 1e-6 * max(alone, 1e-3)) == slow, (i, j)
            assert held <= (1 + 1e-9) * alone + 1e-9, "what is free only takes away"
    assert (0 if bending.free is None else len(bending.free)) == free


def test_many_weights_in_turn_are_as_if_each_was_the_first(rng):
    target = rng.standard_normal((12, 12)) + 3
    for order in (1, 8):
        used = bending_of((12, 12), order=order)
        for weight in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 0.1, 0.2):
            np.testing.assert_array_equal(
                used.lowpass(target, weight), bending_of((12, 12), order=order).lowpass(target, weight)
            )
            assert len(used._filters) <= 4


def test_without_smoothness_everything_passes(rng):
    free = Bending((8, 9), fg.get_backend("numpy"), smoothness=0.0, order=3, fidelity=1.0)
    target = rng.standard_normal((8, 9)).astype(np.float32)
    found = free.lowpass(target, 1.3)
    assert found.dtype == free.gradient(target).dtype == np.float32
    np.testing.assert_allclose(found, target, atol=1e-6)
    assert free.energy(target) == 0.0
    assert not free.gradient(target).any()


class Card:
    """The arrays of the CPU, and a kernel that notes what it is given."""

    def __init__(self):
        self.host, self.given = fg.get_backend("numpy"), []

    def __getattr__(self, name):
        return getattr(self.host, name)

    def kernel(self, name):
        assert name == "bounded_background"
        return lambda *given: self.given.append(given) or given[1]


@pytest.mark.parametrize("order", [1, 8])
def test_a_kernel_of_the_card_is_given_what_makes_the_same_filters(order, rng):
    """Cosine transforms as matrices, and the filters of the weight and of twice the weight, as its documentation has them."""
    shape, card = (20, 24), Card()
    used = Bending(shape, card, smoothness=1.7 * 2.6 ** (2 * order), order=order, fidelity=1.7)
    target, start = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    for weight in (0.1, 1.7, 0.4, 0.8, 3.2, 6.4, 0.1):
        assert used.bounded(target, start, weight, 30, 1.6) is start, "what the kernel gives"
        got, begun, turns, relaxation, (down, right, back), (gains, seen, added) = card.given.pop()
        assert got is target
        assert begun is start
        assert (turns, relaxation) == (30, 1.6)
        for matrix in (down, right, back, gains, seen, added):
            assert matrix.dtype == np.float32
            assert matrix.flags.c_contiguous
        np.testing.assert_array_equal(back, right.T)
        assert seen.shape == added.shape == (2, 0 if used.free is None else len(used.free), *shape)
        spectrum = down @ target @ back
        for number in range(2):
            found = (seen[number] * spectrum).sum(axis=(1, 2))
            passed = spectrum * gains[number] + np.tensordot(found, added[number], axes=1)
            expected = used.lowpass(target, (1 + number) * weight)
            np.testing.assert_allclose(down.T @ passed @ right, expected, rtol=0, atol=2e-5)
    assert len(used._pairs) <= 4
    assert used.bounded(target.astype(np.float64), start, 1.7, 30, 1.6) is None, "the kernel is one of single precision"
    assert bending_of(shape, order=order).bounded(target, start, 1.7, 30, 1.6) is None, "there is no such kernel on a CPU"
    assert not card.given


@pytest.mark.parametrize("shape", [(16, 16), (29, 31), (7, 97), (64, 48), (1, 5)])
def test_two_products_are_the_cosine_transform(shape, rng):
    """Filter, gradient and energy do not depend on which of the two a field's size makes the faster one."""
    target, found = rng.random(shape), []
    for by_products in (False, True):
        bending = bending_of(shape)
        bending._short = by_products
        b = bending.lowpass(target, 1.7)
        found.append((b, bending.gradient(b), bending.energy(target)))
        single = bending.lowpass(target.astype(np.float32), 1.7)
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, b, atol=2e-6)
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=0, atol=1e-9)
    assert found[1][2] == pytest.approx(found[0][2], rel=1e-9, abs=1e-12)
