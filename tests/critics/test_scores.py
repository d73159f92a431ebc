"""Scores of any module: values, gradients, memory, and the arrays of the slim critic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fluogan_core as fg
from fluogan_core.critics import scores


def test_values_and_gradient_of_any_module(rng):
    class Quadratic(torch.nn.Module):
        def forward(self, y):
            return 0.5 * (y * y).sum(dim=(1, 2))[:, None]

    y = rng.standard_normal((4, 3, 5))
    y.flags.writeable = False
    np.testing.assert_allclose(scores.critic_values(Quadratic(), y), 0.5 * (y**2).sum(axis=(1, 2)))
    np.testing.assert_allclose(scores.critic_input_gradient(Quadratic(), y[::-1]), y[::-1])
    with pytest.raises(ValueError, match=r"must map \(S, M1, M2\) to \(S,\)"):
        scores.critic_values(torch.nn.Identity(), y)


def test_activation_bytes_grow_with_the_field():
    small = scores.activation_bytes(fg.Critic((16, 16), channels=8), (16, 16))
    large = scores.activation_bytes(fg.Critic((32, 32), channels=8), (32, 32))
    # the first layer alone keeps 8 channels of float32
    assert small > 8 * 16 * 16 * 4
    assert large == pytest.approx(4 * small, rel=0.01)


def test_slim_arrays_are_those_of_the_slim_critic_alone():
    critic = fg.Critic((8, 8), channels=2, depth=2, seed=0)
    arrays = scores.slim_arrays(critic)
    assert [w.shape for w in arrays["weights"]] == [(2, 1, 3, 3), (4, 2, 3, 3)]
    assert scores.slim_arrays(torch.nn.Linear(2, 2)) is None
    assert scores.slim_arrays(critic.double()) is None

    class Other(fg.Critic):
        pass

    assert scores.slim_arrays(Other((8, 8), channels=2)) is None
