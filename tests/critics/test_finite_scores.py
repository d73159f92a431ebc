"""Scores that are not finite, or whose slope is not: refused with the critic's name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fluogan_core as fg


class Logarithm(nn.Module):
    """Of counts that may be zero: minus infinity there, and NaN below."""

    def forward(self, y):
        return y.log().mean(dim=(1, 2))


def root_of_spread(y):
    """Finite where a frame is even, with a slope that is not."""
    return y.flatten(1).var(dim=1).sqrt()


def diverged(kind):
    """A slim critic whose weights have grown until its scores overflow."""
    critic = fg.Critic((8, 7), channels=2, depth=2, seed=0)
    with torch.no_grad():
        for weight in critic.parameters():
            weight.mul_(1e30)
    return critic if kind == "kernels" else nn.Sequential(critic)


@pytest.mark.parametrize("method", ["exact", "linear"])
@pytest.mark.parametrize(
    ("critic", "name"), [(Logarithm(), "Logarithm"), (diverged("kernels"), "Critic"), (diverged("torch"), "Sequential")]
)
def test_differences_of_a_critic_without_a_finite_score_are_refused(critic, name, method):
    frames = np.zeros((2, 8, 7), np.float32)
    frames[..., ::2] = 5
    with pytest.raises(FloatingPointError, match=f"the critic {name} gives .* that are NaN or infinite"):
        fg.critic_differences(critic, frames, 1.0, method)


def test_a_score_that_is_finite_where_its_slope_is_not():
    frames = np.full((1, 8, 7), 3.0, np.float32)
    assert np.isfinite(fg.critic_differences(root_of_spread, frames, 1.0)).all()
    with pytest.raises(FloatingPointError, match="the critic root_of_spread gives gradients that are NaN"):
        fg.critic_differences(root_of_spread, frames, 1.0, "linear")


@pytest.mark.parametrize("critic", [Logarithm(), diverged("kernels")])
@pytest.mark.parametrize("method", ["corrected", "coupled", "photon", "linear", "direct"])
def test_gradients_of_a_critic_without_a_finite_score_are_refused(critic, method):
    model = fg.ForwardModel(fg.Psi(np.ones((3, 3)), (8, 7), 2, photons_per_emitter=4.0, backend="numpy"))
    x, b = np.full(model.psi.fine_shape, 0.01, np.float32), np.full(model.psi.shape, 0.1, np.float32)
    for differentiated in (fg.critic_gradient, fg.expected_score):
        with pytest.raises(FloatingPointError, match="NaN or infinite: look in its forward"):
            differentiated(critic, model, x, b, frames=4, method=method)
