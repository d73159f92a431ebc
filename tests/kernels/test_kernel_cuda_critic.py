"""What only the CUDA critic kernels have: several ways to launch one result."""

from __future__ import annotations

import dataclasses

import cuda_on_cpu
import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.critics import scores
from fluogan_core.critics.evaluator import CriticEvaluator
from fluogan_core.kernels import cuda
from fluogan_core.kernels.cuda import critic_passes
from fluogan_core.physics.photons import PhotonSets

pytestmark = pytest.mark.skipif(bool(cuda_on_cpu.why_no_compiler()), reason=str(cuda_on_cpu.why_no_compiler()))

SHAPE = (14, 17)


@pytest.fixture(scope="module")
def critic():
    rng = np.random.default_rng(4)
    return fg.Critic(SHAPE, channels=5, input_mean=rng.random(SHAPE) * 9, input_std=rng.random(SHAPE) + 2, seed=1)


@pytest.fixture
def asked(rng):
    """Frames, and sets of none, one, a few and many photons, up to all over the field."""
    y = rng.poisson(9, (3, *SHAPE)).astype(np.float32)
    sizes = np.array([0, 1, 1, 2, 2, 3, 5, 40, 9, 1])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    pixels = rng.integers(0, SHAPE[0] * SHAPE[1], starts[-1])
    pixels[4:8] = pixels[4] // SHAPE[1] * SHAPE[1] + np.arange(4)  # neighbours too
    return y, np.array([2, 0, 1, 0, 1, 2, 0, 0, 2, 0]), starts, pixels


def results(device, critic, asked):
    network = cuda.find("make_network", device)(**scores.slim_arrays(critic))
    y, *sets = asked
    single = cuda.find("critic_differences", device)(network, y, 2.0)
    return single, cuda.find("perturbation_differences", device)(network, y, *sets, 2.0)


@pytest.mark.parametrize("shared", [0, 12 * 1024, 24 * 1024])
def test_less_shared_memory_changes_nothing(critic, asked, shared):
    # fewer warps to a block, and with none at all a warp works in device memory
    device = cuda_on_cpu.device("random")
    expected = results(device, critic, asked)
    found = results(dataclasses.replace(device, shared_memory_per_block=shared, _kernels={}), critic, asked)
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_groups_of_frames_change_nothing(critic, asked, monkeypatch):
    device = cuda_on_cpu.device("reverse")
    expected = results(device, critic, asked)
    network = cuda.find("make_network", device)(**scores.slim_arrays(critic))
    for frames in (1, 2):
        monkeypatch.setattr(critic_passes, "_GROUP_BYTES", frames * network.units * 32)
        assert [g.stop - g.start for g in critic_passes.frame_groups(network, 3)] == ([1, 1, 1] if frames == 1 else [2, 1])
        for got, want in zip(results(device, critic, asked), expected, strict=True):
            np.testing.assert_array_equal(got, want)


def test_no_frames_and_no_sets_are_no_error(critic):
    device = cuda_on_cpu.device()
    network = cuda.find("make_network", device)(**scores.slim_arrays(critic))
    nothing, none = np.zeros((0, *SHAPE), np.float32), np.zeros(0, np.int64)
    assert cuda.find("critic_differences", device)(network, nothing, 1.0).shape == nothing.shape
    for y in (nothing, np.zeros((2, *SHAPE), np.float32)):
        assert cuda.find("perturbation_differences", device)(network, y, none, np.zeros(1, int), none, 1.0).shape == (0,)


def test_a_critic_too_large_for_registers_is_evaluated_frame_by_frame(rng):
    critic = fg.Critic((12, 12), channels=2, depth=2, kernel_size=7, seed=0)
    backend = cuda_on_cpu.backend("forward")
    assert backend.kernel("make_network")(**scores.slim_arrays(critic)) is None
    evaluator = CriticEvaluator(critic, (12, 12), backend)
    y = rng.poisson(4, (2, 12, 12)).astype(np.float32)
    sets = PhotonSets(np.array([0, 2, 3]), np.array([5, 18, 40], np.int32))
    several = evaluator.photon_differences(y, sets, 1.0)
    linear = evaluator.slope(y).reshape(2, -1)
    predicted = np.array([linear[0, [5, 18]].sum(), linear[1, 40]])
    np.testing.assert_allclose(evaluator.photon_remainders(y, evaluator.slope(y), sets, 1.0), several - predicted, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_size": 2}, "kernel_size must be odd"),
        ({"pool": 0}, "pool must be at least 1"),
        ({"pool": 3}, "too small for 3 poolings by 3"),
        ({"slope": 1.5}, "slope must be from 0 to 1"),
        ({"weights": []}, "at least one convolution"),
        ({"weights": [np.zeros((5, 2, 3, 3))]}, r"weights\[0\] must have shape"),
        ({"biases": []}, "one bias per channel"),
        ({"head": np.zeros(3)}, "head must have"),
        ({"head_bias": np.nan}, "must be finite"),
        ({"std": np.zeros(SHAPE)}, "std must be positive"),
        ({"std": np.ones(3)}, "images of one shape"),
    ],
)
def test_a_critic_that_does_not_fit_together_is_named(critic, change, message):
    with pytest.raises(ValueError, match=message):
        cuda.find("make_network", cuda_on_cpu.device())(**(scores.slim_arrays(critic) | change))
