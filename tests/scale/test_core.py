"""What a tile decides for all does not depend on what lies at its border."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.scale.core import CoreCritic, flicker_of_core

from .conftest import CAMERA, operator

CORE = slice(0, 36), slice(12, 48)


@pytest.fixture(scope="module")
def field():
    psi, rng = operator((48, 48)), np.random.default_rng(0)
    x = np.zeros(psi.fine_shape, np.float32)
    x[tuple(rng.integers(0, 96, (2, 60)))] = 6.0
    b = np.full(psi.shape, 5.0, np.float32)
    model = fg.ForwardModel(psi, gain=CAMERA.gain, noise_std=CAMERA.noise_std)
    return psi, x, b, model, model.sample(x, b, 100, seed=1)


def disturbed(field):
    """The same frames, with light that neither x nor b explains along the borders within the field."""
    frames = field[-1].copy()
    frames[:, 40:] += 300 * np.random.default_rng(2).random((100, 1, 1), dtype=np.float32)
    frames[:, :, :8] += 200
    return frames


def test_without_a_border_it_is_the_quadratic_critic(field):
    _, x, b, model, frames = field
    plain, core = fg.QuadraticCritic(frames, model), CoreCritic(frames, model, core=(slice(0, 48), slice(0, 48)))
    for critic in (plain, core):
        critic.measure_flicker(x, b)
        critic.update_weights(x, b)
    assert plain.flicker == core.flicker
    assert plain.value(0.9 * x, b) == core.value(0.9 * x, b)


def test_value_of_the_mean_and_flicker_are_those_of_the_core(field):
    _, x, b, model, frames = field
    found = []
    for stack in (frames, disturbed(field)):
        critic = CoreCritic(stack, model, core=CORE)
        critic.measure_flicker(x, b)
        flicker = float(critic.flicker)
        critic.update_weights(x, b)
        found.append((flicker, critic.value(0.9 * x, b).mean))
        assert len(critic.chosen) == len(critic.recorded), "the fit itself sees all windows"
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    plain = fg.QuadraticCritic(disturbed(field), model)
    plain.measure_flicker(x, b)
    assert abs(float(plain.flicker) - found[0][0]) > 0.1, "the border would have said something else"


def test_brightness_and_share_are_those_of_the_core(field):
    psi, x, b, model, frames = field
    critic = CoreCritic(frames, model, core=CORE)
    bright = x.copy()
    bright[90:], bright[:, :8] = 50.0, 50.0
    measure = flicker_of_core(CORE, psi.factor)
    one, other = (measure([critic], image, b) for image in (x, bright))
    assert one.brightness == other.brightness == pytest.approx(6.0, rel=0.5)
    assert one.strengths == pytest.approx(other.strengths, rel=0.05), "PSFs reach a little into the core"
