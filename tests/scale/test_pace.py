"""The pace of a covariance fit, measured in a core and followed elsewhere."""

from __future__ import annotations

import types

import numpy as np
import pytest

from fluogan_core.objective.fista import Acceleration
from fluogan_core.scale.pace import Pace, follow_pace, measure_pace
from fluogan_core.solvers.flicker import typical_brightness

STEPS = np.full((16, 16), 0.9, np.float32), 0.9


def descent(acceleration, slowest, iterations=60):
    """Accelerated steps down two quadratic forms, and the iterations at which momentum was dropped."""
    turned = []
    for number in range(iterations):
        z, b = acceleration.ahead
        acceleration.follow(z - STEPS[0] * slowest * (z - 1), b - STEPS[1] * 0.1 * b, steps=STEPS)
        if acceleration.t == 1.0:
            turned.append(number)
    return turned


def phase():
    return types.SimpleNamespace()


@pytest.fixture
def start():
    return np.zeros((16, 16), np.float32), np.ones((8, 8), np.float32)


def test_a_core_that_is_the_whole_decides_as_the_whole_does(start):
    whole, noting = Acceleration(*start), phase()
    pace = measure_pace(noting, (slice(0, 8), slice(0, 8)), 2)
    slowest = np.full((16, 16), 0.1, np.float32)
    assert descent(noting.accelerated(*start), slowest) == descent(whole, slowest) == pace.turns
    assert pace.turns, "momentum was dropped, or this test says nothing"


def test_what_lies_beyond_the_core_decides_nothing(start):
    turns = []
    for beyond in (0.1, 0.5):
        slowest = np.full((16, 16), beyond, np.float32)
        slowest[:8] = 0.05
        noting = phase()
        pace = measure_pace(noting, (slice(0, 4), slice(0, 8)), 2)
        descent(noting.accelerated(*start), slowest)
        image = np.ones((16, 16), np.float32)
        image[8:] = 100 * beyond
        assert noting.brightness_of(image) == 1.0
        assert pace.brightness == [1.0]
        turns.append(pace.turns)
    assert turns[0] == turns[1]
    assert turns[0]


def test_others_follow(start):
    following = phase()
    follow_pace(following, Pace([3, 7], [2.0, 5.0]))
    assert descent(following.accelerated(*start), np.full((16, 16), 0.1, np.float32)) == [3, 7]
    bright = np.full((4, 4), 9.0, np.float32)
    assert typical_brightness(bright) == 9.0
    assert [following.brightness_of(bright) for _ in range(3)] == [2.0, 5.0, 5.0], "the last one where there are no more"
