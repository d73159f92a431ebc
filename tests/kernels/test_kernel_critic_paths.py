"""Every way through the difference kernels gives the critic's own differences: by suspects or in full, with tables or without.

Which way a set takes depends on what is cheaper; here each is forced in turn, on critics of the whole family, and on critics of
whole numbers, for which float32 makes no rounding at all.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fluogan_core as fg
from fluogan_core.critics.scores import slim_arrays
from fluogan_core.kernels.cpu import critic_differences as kernels
from fluogan_core.kernels.cpu import responses
from fluogan_core.kernels.cpu.network import make_network

#: Largest error allowed, as a part of the largest difference: some ten float32 roundings (6e-8 each) per layer.
TOLERANCE = 3e-6

FAMILIES = {
    "default": {"shape": (16, 16), "channels": 8},
    "odd field": {"shape": (19, 13), "channels": 5},
    "depth 1": {"shape": (9, 8), "channels": 8, "depth": 1},
    "depth 2, pool 3, kernel 5": {"shape": (13, 19), "channels": 8, "depth": 2, "pool": 3, "kernel_size": 5},
    "depth 4": {"shape": (17, 18), "channels": 4, "depth": 4},
    "no pooling": {"shape": (6, 7), "channels": 8, "depth": 3, "pool": 1},
    "pool 4": {"shape": (20, 21), "channels": 6, "depth": 2, "pool": 4},
    "kernel 1": {"shape": (8, 9), "channels": 17, "depth": 2, "kernel_size": 1},
    "ReLU": {"shape": (12, 12), "channels": 8, "depth": 2, "negative_slope": 0.0},
    "no rectifier": {"shape": (12, 12), "channels": 8, "depth": 2, "negative_slope": 1.0},
}


def network_of(critic):
    return make_network(**slim_arrays(critic))


def oracle(critic, y, frame, images, step):
    """D(y + step * photons) - D(y) by whole forward passes in float64."""
    size = {"kernel_size": critic.kernel_size, "pool": critic.pool, "negative_slope": critic.negative_slope}
    wide = fg.Critic(critic.shape, critic.channels, critic.depth, **size).double()
    wide.load_state_dict(critic.state_dict())
    y = torch.as_tensor(y, dtype=torch.float64)
    with torch.no_grad():
        before = wide(y)
        parts = zip(np.array_split(frame, 8), np.array_split(images, 8), strict=True)
        return (torch.cat([wide(y[f] + step * torch.as_tensor(i)) for f, i in parts]) - before[frame]).numpy()


def single_oracle(critic, y, step):
    count, size = len(y), y[0].size
    images = np.tile(np.eye(size).reshape(size, *critic.shape), (count, 1, 1))
    return oracle(critic, y, np.repeat(np.arange(count), size), images, step).reshape(y.shape)


def sets_around(rng, shape, count, largest, spread=2, frames=2):
    """Sets of 0 to ``largest`` photons, each around a pixel of its own, and their images; borders and coincidences included."""
    size = rng.integers(0, largest + 1, count)
    starts = np.concatenate([[0], np.cumsum(size)])
    centre = np.repeat(rng.integers(0, shape, (count, 2)), size, axis=0)
    place = np.clip(centre + rng.integers(-spread, spread + 1, centre.shape), 0, np.array(shape) - 1)
    images = np.zeros((count, *shape))
    np.add.at(images, (np.repeat(np.arange(count), size), place[:, 0], place[:, 1]), 1.0)
    pixels = (place[:, 0] * shape[1] + place[:, 1]).astype(np.int32)
    return (rng.integers(0, frames, count), starts, pixels), images


def assert_close(actual, expected):
    assert np.isfinite(actual).all()
    assert np.abs(actual - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.fixture(params=["suspects", "cheaper", "in full"])
def pruned(request, monkeypatch):
    """The last layer by its suspects alone, by whichever way is cheaper, or in full."""
    if request.param == "suspects":
        monkeypatch.setattr(kernels, "_SUSPECT_COST", 1)
    return request.param != "in full"


@pytest.fixture(params=[True, False], ids=["tables", "no tables"])
def tabulated(request, monkeypatch):
    monkeypatch.setattr(kernels, "_shares_pixels", lambda sets, order: request.param)


@pytest.fixture(params=FAMILIES.values(), ids=FAMILIES.keys())
def critic(request):
    """Random weights, and a normalisation that differs from pixel to pixel."""
    rng = np.random.default_rng(3)
    mean, std = rng.uniform(2, 6, request.param["shape"]), rng.uniform(1, 3, request.param["shape"])
    return fg.Critic(**request.param, seed=3, input_mean=mean, input_std=std)


def test_single_photons(critic, rng, pruned):
    y = rng.poisson(5.0, (2, *critic.shape)).astype(np.float32)
    assert_close(kernels.critic_differences(network_of(critic), y, 1.7, pruned=pruned), single_oracle(critic, y, 1.7))


def test_sets_of_photons(critic, rng, pruned, tabulated):
    y = rng.poisson(5.0, (2, *critic.shape)).astype(np.float32)
    (frame, starts, pixels), images = sets_around(rng, critic.shape, 160, 8)
    expected = oracle(critic, y, frame, images, 1.3)
    network = network_of(critic)
    assert_close(kernels.perturbation_differences(network, y, frame, starts, pixels, 1.3, pruned=pruned), expected)
    slope, _ = kernels.input_gradient(network, y)
    rest = expected - 1.3 * np.einsum("pij,pij->p", images, slope[frame].astype(np.float64))
    actual = kernels.perturbation_differences(network, y, frame, starts, pixels, 1.3, remainder=True, pruned=pruned)
    assert np.abs(actual - rest).max() <= TOLERANCE * np.abs(expected).max()


def test_photons_all_over_the_field(rng, pruned, tabulated):
    critic = fg.Critic((21, 18), 4, seed=3, input_mean=5.0, input_std=2.0)
    y = rng.poisson(5.0, (1, *critic.shape)).astype(np.float32)
    pixels = rng.permutation(y.size)[:200]
    images = np.zeros((2, y.size))
    images[0, pixels[:150]] = images[1, pixels[150:]] = 1
    expected = oracle(critic, y, np.zeros(2, dtype=int), images.reshape(2, *critic.shape), 1.0)
    actual = kernels.perturbation_differences(network_of(critic), y, [0, 0], [0, 150, 200], pixels, 1.0, pruned=pruned)
    assert_close(actual, expected)


@pytest.mark.parametrize("level", [5.0, 5000.0])
def test_the_input_need_not_be_normalised(rng, pruned, level):
    """Differences are propagated, not subtracted, and kinks are located in float64."""
    critic = fg.Critic((16, 16), 8, seed=2)
    with torch.no_grad():
        critic.head.bias.fill_(1e6)
    y = rng.poisson(level, (1, 16, 16)).astype(np.float32)
    assert_close(kernels.critic_differences(network_of(critic), y, 1.0, pruned=pruned), single_oracle(critic, y, 1.0))


def whole_number_critic(rng, depth=2):
    """Small whole weights and a slope of 1/2: ties and kinks are met exactly, and no result is rounded."""
    critic = fg.Critic((13, 12), 4, depth, negative_slope=0.5)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.copy_(torch.as_tensor(rng.integers(-2, 3, parameter.shape)))
    return critic


@pytest.mark.parametrize("frame", ["constant", "zero", "whole numbers"])
@pytest.mark.parametrize("step", [1.0, -3.0, 0.0])
def test_ties_and_kinks_are_exact(rng, pruned, tabulated, frame, step):
    critic = whole_number_critic(rng)
    y = {"constant": 2.0, "zero": 0.0, "whole numbers": rng.integers(0, 3, (1, *critic.shape))}[frame]
    y = np.array(np.broadcast_to(np.float32(y), (1, *critic.shape)))
    network = network_of(critic)
    actual = kernels.critic_differences(network, y, step, pruned=pruned)
    np.testing.assert_array_equal(actual, single_oracle(critic, y, step))
    (where, starts, pixels), images = sets_around(rng, critic.shape, 200, 6, frames=1)
    actual = kernels.perturbation_differences(network, y, where, starts, pixels, step, pruned=pruned)
    np.testing.assert_array_equal(actual, oracle(critic, y, where, images, step))


def test_bent_units_are_counted(rng):
    """The first layer's count against units whose true change is not the linearised one, without rounding."""
    critic = whole_number_critic(rng, depth=1)
    y = rng.integers(0, 4, (1, *critic.shape)).astype(np.float32)
    frames = torch.as_tensor(y + 2 * np.eye(y.size, dtype=np.float32).reshape(-1, *critic.shape))
    weight, bias = critic.convolutions[0].weight, critic.convolutions[0].bias
    pool, rectify = torch.nn.functional.max_pool2d, torch.nn.LeakyReLU(0.5)
    with torch.no_grad():
        before, after = (
            torch.nn.functional.conv2d(f.unsqueeze(1), weight, bias, padding=1) for f in (torch.as_tensor(y), frames)
        )
        top, winner = pool(before, 2, return_indices=True)
        change = (
            (after - before).flatten(2).gather(2, winner.flatten(2).expand(len(frames), -1, -1)).unflatten(2, top.shape[2:])
        )
        true = rectify(pool(after, 2)) - rectify(top)
        expected = int((true != torch.where(top > 0, change, 0.5 * change)).sum())
    counters = np.zeros((1, 3), dtype=np.int64)
    kernels.critic_differences(network_of(critic), y, 2.0, counters=counters)
    assert counters[0, 2] == expected > 0


def test_room_for_caches_and_tables_changes_nothing(rng, monkeypatch):
    """Groups of frames and dropped tables: to the last bit."""
    critic = fg.Critic((24, 24), 8, seed=1, input_mean=5.0, input_std=2.0)
    network, y = network_of(critic), rng.poisson(5.0, (3, 24, 24)).astype(np.float32)
    (frame, starts, pixels), _ = sets_around(rng, critic.shape, 900, 6, frames=3)

    def results():
        several = kernels.perturbation_differences(network, y, frame, starts, pixels, 1.0)
        return kernels.critic_differences(network, y, 1.0), several, *kernels.input_gradient(network, y)

    expected = results()
    monkeypatch.setattr(kernels, "_GROUP_BYTES", 1)
    monkeypatch.setattr(responses, "_BYTES", 1)
    for one, other in zip(expected, results(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_any_real_dtype_and_layout(rng):
    network = network_of(fg.Critic((16, 18), 8, seed=1))
    y = rng.poisson(5.0, (2, 16, 18)).astype(np.float32)
    expected = kernels.critic_differences(network, y, 1.0)
    for other in (y.astype(np.float64), y.astype(np.int32), np.asfortranarray(y)):
        np.testing.assert_array_equal(kernels.critic_differences(network, other, 1.0), expected)


def test_no_frames_and_no_sets(rng):
    network = network_of(fg.Critic((16, 18), 8, seed=1))
    y = rng.poisson(5.0, (3, 16, 18)).astype(np.float32)
    none = np.zeros(0, dtype=np.int64)
    assert kernels.critic_differences(network, y[:0], 1.0).shape == (0, 16, 18)
    assert kernels.perturbation_differences(network, y, none, [0], none, 1.0).shape == (0,)
    assert (kernels.perturbation_differences(network, y, [0, 2], [0, 0, 0], none, 1.0) == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": np.full((1, 16, 16), np.nan)}, "NaN"),
        ({"pixels": [-1]}, "pixels must lie in"),
        ({"pixels": [0.5]}, "integers"),
        ({"step": np.inf}, "finite"),
        ({"counters": np.zeros((2, 3), dtype=np.int64)}, "counters"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    good = {"y": np.zeros((1, 16, 16)), "frame": [0], "starts": [0, 1], "pixels": [7], "step": 1.0}
    with pytest.raises(ValueError, match=message):
        kernels.perturbation_differences(network_of(fg.Critic((16, 16), 8)), **(good | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 4}, "odd"),
        ({"pool": 0}, "pool"),
        ({"slope": 1.5}, "slope"),
        ({"std": np.zeros((6, 6))}, "positive"),
        ({"mean": np.zeros((6, 5))}, "one shape"),
        ({"biases": []}, "one bias per convolution"),
        ({"biases": [np.zeros(3)]}, r"weights\[0\]"),
        ({"head": np.zeros(17)}, "head"),
        ({"pool": 7}, "too small"),
        ({"head_bias": np.nan}, "finite"),
    ],
)
def test_networks_that_do_not_fit_are_refused(arguments, message):
    good = {"weights": [np.ones((2, 1, 3, 3))], "biases": [np.zeros(2)], "head": np.ones(18), "head_bias": 0.0}
    good |= {"kernel_size": 3, "pool": 2, "slope": 0.2, "mean": np.zeros((6, 6)), "std": np.ones((6, 6))}
    make_network(**good)
    with pytest.raises(ValueError, match=message):
        make_network(**(good | arguments))


@pytest.mark.parametrize("scale", [1e-11, 1e11], ids=["squares underflow", "squares overflow"])
def test_changes_whose_squares_no_float32_holds(rng, pruned, scale):
    """Layers 1 and 2 times a scale and the head over its square: the same function, and changes far from 1 in between."""
    critic = fg.Critic((12, 12), channels=8, seed=3, input_mean=5.0, input_std=2.0)
    with torch.no_grad():
        for layer in critic.convolutions:
            layer.bias.zero_()
        for layer in critic.convolutions[:2]:
            layer.weight.mul_(scale)
        critic.convolutions[2].weight[:, :, 0, 0] = 0  # a tap without weight, times a bound without limit, is no number
        critic.head.weight.div_(scale).div_(scale)
    y = rng.poisson(5.0, (2, 12, 12)).astype(np.float32)
    got = kernels.critic_differences(network_of(critic), y, 1.7, pruned=pruned)
    assert np.abs(got).max() > 0
    assert_close(got, single_oracle(critic, y, 1.7))


@pytest.mark.parametrize("step", [1e39, -1e39, np.inf, np.nan])
def test_a_step_that_no_float32_holds_is_refused(step):
    critic = fg.Critic((8, 8), channels=4, seed=0)
    with pytest.raises(ValueError, match="step must be finite in float32"):
        kernels.critic_differences(network_of(critic), np.zeros((1, 8, 8), np.float32), step)


def test_a_deviation_without_an_inverse_is_refused():
    critic = fg.Critic((8, 8), channels=4, seed=0, input_std=1.0)
    arrays = slim_arrays(critic) | {"std": np.full((8, 8), 1e-40, np.float32)}
    with pytest.raises(ValueError, match="a normal float32"):
        make_network(**arrays)
