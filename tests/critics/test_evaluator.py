"""An evaluator that is kept: the same numbers as a fresh one, also while the critic is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fluogan_core as fg
from fluogan_core.critics.training import CriticTrainer
from fluogan_core.physics.photons import PhotonSets


@pytest.fixture
def critic():
    return fg.Critic((8, 7), channels=3, depth=2, seed=0, input_mean=5.0, input_std=2.0)


def differences(critic, y):
    return [fg.critic_differences(critic, y, 0.7, method=method) for method in ("exact", "linear")]


def test_it_follows_every_way_to_change_the_weights(critic, rng):
    y = rng.poisson(5, (3, 8, 7)).astype(np.float32)
    evaluator = fg.CriticEvaluator(critic, (8, 7))

    def train():
        real, simulated = (torch.from_numpy(rng.poisson(k, (6, 8, 7)).astype(np.float32)) for k in (5, 6))
        CriticTrainer(critic).step(real, simulated, torch.full((6,), 0.5))

    def behind_autograds_back():
        critic.head.weight.data.mul_(1.5)  # no version counter moves

    def one_bias():
        with torch.no_grad():
            critic.convolutions[1].bias[0] += 0.3

    def hook():
        critic.register_forward_hook(lambda module, inputs, output: -output)

    last = differences(evaluator, y)
    for change in (train, behind_autograds_back, one_bias, lambda: critic.normalise(4.0, 3.0), hook):
        change()
        found = differences(evaluator, y)
        for a, fresh, before in zip(found, differences(critic, y), last):
            np.testing.assert_array_equal(a, fresh)
            assert not np.array_equal(a, before)
        last = found


def test_a_network_is_laid_out_once_while_the_weights_stay(critic, rng, monkeypatch):
    made = []
    real = fg.Backend.kernel

    def kernel(backend, name):
        found = real(backend, name)
        if name != "make_network":
            return found
        return lambda *a, **k: made.append(name) or found(*a, **k)

    monkeypatch.setattr(fg.Backend, "kernel", kernel)
    evaluator = fg.CriticEvaluator(critic, (8, 7))
    for y in rng.poisson(5, (4, 1, 8, 7)).astype(np.float32):
        differences(evaluator, y)
    assert len(made) == 1


def test_gradients_take_an_evaluator_too(critic):
    psi = fg.Psi(np.ones((3, 3)), (8, 7), 2, photons_per_emitter=3.0, backend="numpy")
    model, evaluator = fg.ForwardModel(psi), fg.CriticEvaluator(critic, (8, 7), memory_budget=psi.memory_budget)
    x, b = np.full(psi.fine_shape, 0.2, np.float32), np.ones(psi.shape, np.float32)
    for method in ("corrected", "coupled", "direct"):
        for a, e in zip(*(fg.critic_gradient(c, model, x, b, frames=2, method=method) for c in (evaluator, critic))):
            np.testing.assert_array_equal(a, e)


def test_what_does_not_fit_an_evaluator_is_said(critic):
    evaluator = fg.CriticEvaluator(critic, (8, 7))
    with pytest.raises(ValueError, match="frames of 8 x 7 pixels on cpu, but these are 7 x 8"):
        fg.critic_differences(evaluator, np.zeros((1, 7, 8), np.float32), 1.0)
    with pytest.raises(ValueError, match="memory_budget belongs to the CriticEvaluator"):
        fg.critic_differences(evaluator, np.zeros((1, 8, 7), np.float32), 1.0, memory_budget=100)
    with pytest.raises(ValueError, match="memory_budget must be at least 1"):
        fg.CriticEvaluator(critic, (8, 7), memory_budget=0)
    assert repr(evaluator) == "CriticEvaluator(Critic, shape=(8, 7), backend='cpu')"


@pytest.mark.parametrize("critic", [lambda y: y.sum(dim=(1, 2)), fg.Critic((8, 7), channels=2, depth=1, seed=0)])
@pytest.mark.parametrize("shape", [(3, 7, 8), (3, 8), (8, 7), (3, 1, 8, 7)])
def test_frames_of_another_shape_than_the_evaluators_are_refused(critic, shape):
    """A critic of sums would take them, and answer for frames that it was not made for."""
    evaluator = fg.CriticEvaluator(critic, (8, 7))
    frames = np.ones(shape, np.float32)
    for call in (evaluator.values, evaluator.slope, lambda y: evaluator.pixel_differences(y, 1.0)):
        with pytest.raises(ValueError, match=r"y must be frames \(S, 8, 7\), got shape"):
            call(frames)


@pytest.mark.parametrize("kernel_size", [3, 7])  # of the kernels' family on a card, and evaluated frame by frame there
@pytest.mark.parametrize("linear", [False, True])
def test_sets_and_pixels_together_are_what_they_are_apart(backend, rng, kernel_size, linear):
    critic = fg.Critic((8, 8), channels=3, depth=2, kernel_size=kernel_size, seed=0, input_mean=5.0, input_std=2.0)
    evaluator = fg.CriticEvaluator(critic, (8, 8), backend)
    y = backend.asarray(rng.poisson(5, (2, 8, 8)), dtype=np.float32)
    # two sets a frame: several photons, and one that a pixel of its own asks for too
    sets = PhotonSets(backend.asarray([0, 2, 3, 3, 4]), backend.asarray(np.array([9, 10, 33, 12], np.int32)))
    slope = evaluator.slope(y) if linear else None
    found = evaluator.node_and_pixel_differences(y, sets, 0.7, slope)
    if slope is None:
        apart = evaluator.photon_differences(y, sets, 0.7), evaluator.pixel_differences(y, 0.7)
    else:
        apart = evaluator.photon_remainders(y, slope, sets, 0.7), evaluator.pixel_differences(y, 0.7) - 0.7 * slope
    for together, alone in zip(found, apart, strict=True):
        np.testing.assert_allclose(backend.to_host(together), backend.to_host(alone), atol=1e-6)
    assert float(abs(found[1]).max()) > 1e-4


def test_one_that_stands_still_looks_at_the_weights_once(critic, rng):
    y = rng.poisson(5, (2, 8, 7)).astype(np.float32)
    evaluator = fg.CriticEvaluator(critic, (8, 7))
    still, before = evaluator.still(), differences(evaluator, y)
    critic.head.weight.data.mul_(1.5)
    np.testing.assert_array_equal(fg.critic_differences(still, y, 0.7), before[0])
    for follow in (evaluator, evaluator.still(), evaluator.still(changed=True)):
        np.testing.assert_allclose(fg.critic_differences(follow, y, 0.7), 1.5 * before[0], rtol=1e-5, atol=1e-6)
