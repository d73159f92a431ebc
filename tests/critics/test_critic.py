"""The slim critic and its training step."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch.nn import functional

import fluogan_core as fg
from fluogan_core.critics.training import CriticTrainer


def test_forward_is_the_stated_network(rng):
    critic = fg.Critic((11, 9), channels=4, depth=2, kernel_size=5, input_mean=3.0, input_std=2.0, seed=1)
    y = torch.as_tensor(rng.random((3, 11, 9)), dtype=torch.float32) * 10
    h = ((y - 3) / 2)[:, None]
    for layer in critic.convolutions:
        h = functional.max_pool2d(functional.leaky_relu(functional.conv2d(h, layer.weight, layer.bias, padding=2), 0.2), 2)
    expected = h.reshape(3, -1) @ critic.head.weight[0] + critic.head.bias
    torch.testing.assert_close(critic(y), expected)
    assert [layer.out_channels for layer in critic.convolutions] == [4, 8]


def test_the_seed_fixes_the_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a, b, c = (fg.Critic((8, 8), channels=2, seed=s) for s in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(a.head.weight, b.head.weight)
    assert not torch.equal(a.head.weight, c.head.weight)


def test_loss_is_equation_5(rng):
    critic = fg.Critic((8, 8), channels=3, depth=2, seed=0).double()
    real, simulated = (torch.as_tensor(rng.random((6, 8, 8))) for _ in range(2))
    eta = torch.as_tensor(rng.random(6))
    scale = 2.0
    mixed = (eta[:, None, None] * real + (1 - eta[:, None, None]) * simulated).requires_grad_()
    (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed)
    penalty = ((scale * slope).flatten(1).norm(dim=1) - 1).square().mean()
    wasserstein = critic(real).mean() - critic(simulated).mean()
    got = CriticTrainer(critic, scale=scale).step(real, simulated, eta)
    torch.testing.assert_close(got, (wasserstein.detach(), penalty.detach()), rtol=1e-10, atol=0)


def test_the_step_follows_the_gradient_of_the_whole_loss(rng):
    # Adam's first step is the sign of the gradient: compare with a loss differentiated by hand, parameter by parameter.
    critic = fg.Critic((8, 8), channels=2, depth=1, seed=0).double()
    real, simulated = (torch.as_tensor(rng.random((5, 8, 8))) for _ in range(2))
    eta = torch.as_tensor(rng.random(5))

    def loss():
        mixed = (eta[:, None, None] * real + (1 - eta[:, None, None]) * simulated).requires_grad_()
        (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
        return critic(simulated).mean() - critic(real).mean() + 10 * (slope.flatten(1).norm(dim=1) - 1).square().mean()

    gradient = torch.autograd.grad(loss(), list(critic.parameters()), allow_unused=True)
    before = [p.detach().clone() for p in critic.parameters()]
    CriticTrainer(critic, learning_rate=1e-3).step(real, simulated, eta)
    for p, old, g in zip(critic.parameters(), before, gradient, strict=True):
        if g is None:
            continue
        moved = g.abs() > 1e-6
        torch.testing.assert_close((p - old)[moved], -1e-3 * torch.sign(g)[moved], rtol=1e-2, atol=0)


@pytest.mark.parametrize("slope", [0.2, 0.0, 1.0])
def test_the_written_out_slope_is_autograds_and_so_is_its_derivative_in_the_weights(rng, slope):
    critic = fg.Critic((11, 9), channels=3, depth=2, negative_slope=slope, seed=1, input_std=rng.random((11, 9)) + 0.5).double()
    y = torch.as_tensor(rng.standard_normal((4, 11, 9))).requires_grad_()
    (expected,) = torch.autograd.grad(critic(y).sum(), y, create_graph=True)
    got = critic.slope(y)
    torch.testing.assert_close(got, expected)
    weights = [layer.weight for layer in critic.convolutions] + [critic.head.weight]  # a bias moves no slope
    for a, e in zip(
        torch.autograd.grad(got.square().sum(), weights), torch.autograd.grad(expected.square().sum(), weights), strict=True
    ):
        torch.testing.assert_close(a, e)


def test_training_tells_bright_frames_from_dark_ones(rng):
    real = torch.as_tensor(rng.poisson(12, (200, 8, 8)), dtype=torch.float32)
    simulated = torch.as_tensor(rng.poisson(10, (200, 8, 8)), dtype=torch.float32)
    critic = fg.Critic((8, 8), channels=4, depth=2, input_mean=11, input_std=3.3, seed=0)
    trainer = CriticTrainer(critic, learning_rate=3e-3, scale=3.3)
    history = [trainer.step(real, simulated, torch.as_tensor(rng.random(200), dtype=torch.float32)) for _ in range(120)]
    # a critic of slope 1 sees the mean shift of 2 counts in each of 64 pixels: 8 * 2 / 3.3
    assert history[-1][0].item() == pytest.approx(8 * 2 / 3.3, rel=0.2)
    assert history[-1][1].item() < 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fg.Critic((7, 32)), "needs fields of at least 8 x 8"),
        (lambda: fg.Critic((8, 8), kernel_size=4), "must be odd"),
        (lambda: fg.Critic((8, 8), channels=0), "channels must be at least 1"),
        (lambda: fg.Critic((8, 8), input_std=0), "standard deviation positive"),
        (lambda: fg.Critic((8, 8))(torch.zeros(1, 9, 8)), r"frames must be \(S, 8, 8\)"),
        (lambda: CriticTrainer(torch.nn.Identity()), "no parameters"),
        (lambda: CriticTrainer(fg.Critic((8, 8)), penalty=-1), "penalty must be at least 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_state_dict_restores_the_critic_exactly(rng):
    y = torch.as_tensor(np.asarray(rng.random((2, 8, 8)), dtype=np.float32))
    a = fg.Critic((8, 8), channels=2, seed=0, input_mean=rng.random((8, 8)), input_std=2.0)
    b = fg.Critic((8, 8), channels=2, seed=1)
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(y), b(y))


def test_weights_are_those_that_torch_draws_and_no_generator_is_shared():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        made = fg.Critic((16, 16), channels=3, depth=2, kernel_size=3, seed=11)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(11)
        convolutions = [torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.Conv2d(3, 6, 3, padding=1)]
        head = torch.nn.Linear(made.head.in_features, 1)
    for own, plain in zip((*made.convolutions, made.head), (*convolutions, head), strict=True):
        torch.testing.assert_close(own.weight.contiguous(), plain.weight, rtol=1e-6, atol=0)
        torch.testing.assert_close(own.bias, plain.bias, rtol=1e-6, atol=0)


def test_critics_that_are_made_in_several_threads_have_the_weights_of_their_seed():
    expected = [fg.Critic((16, 16), channels=16, depth=2, seed=seed).state_dict() for seed in range(4)]
    meet, found = threading.Barrier(4), [[] for _ in range(4)]

    def make(seed):
        meet.wait()
        for _ in range(40):
            found[seed].append(fg.Critic((16, 16), channels=16, depth=2, seed=seed).state_dict())

    threads = [threading.Thread(target=make, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for states, right in zip(found, expected):
        assert len(states) == 40
        assert all(torch.equal(state[name], right[name]) for state in states for name in right)
