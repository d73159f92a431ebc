"""Arrays and tensors share memory, and the traps of doing so raise instead."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fluogan_core as fg
from fluogan_core.backend import dlpack
from fluogan_core.critics import scores
from fluogan_core.solvers import checkpoint as checkpoints

CPU = fg.get_backend("numpy")


def test_memory_is_shared_both_ways():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    t = dlpack.to_tensor(a)
    t[0, 0] = 7
    assert a[0, 0] == 7
    dlpack.to_array(t, CPU)[1, 1] = -1
    assert a[1, 1] == -1


def test_what_would_abort_or_leak_raises_instead():
    a = np.zeros((3, 4), np.float32)
    with pytest.raises(ValueError, match="negative stride"):
        dlpack.to_tensor(a[::-1])
    a.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        dlpack.to_tensor(a)
    with pytest.raises(ValueError, match="byte order"):
        dlpack.to_tensor(np.zeros(3, ">f4"))
    with pytest.raises(TypeError, match="bfloat16"):
        dlpack.to_array(torch.zeros(3, dtype=torch.bfloat16), CPU)
    with pytest.raises(TypeError, match="NumPy or CuPy array, got Tensor"):
        dlpack.to_tensor(torch.zeros(3))


def test_tensors_with_gradients_and_lazy_negation_come_out_right():
    t = torch.arange(3.0, requires_grad=True)
    np.testing.assert_array_equal(dlpack.to_array(t * 2, CPU), [0, 2, 4])
    lazy = torch.complex(torch.zeros(3), torch.arange(3.0)).conj().imag
    assert lazy.is_neg()
    np.testing.assert_array_equal(dlpack.to_array(lazy, CPU), [0, -1, -2])


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


def test_a_state_survives_the_file_and_a_cut_file_is_named(tmp_path, rng):
    state = {"a": rng.random((2, 3)), "n": 3, "nested": {"t": torch.arange(3), "list": [1.5, "x", None]}}
    path = tmp_path / "state.pt"
    checkpoints.write_state(state, path)
    back = checkpoints.read_state(path)
    np.testing.assert_array_equal(back["a"], state["a"])
    assert isinstance(back["a"], np.ndarray)
    assert torch.equal(back["nested"]["t"], state["nested"]["t"])
    assert back["nested"]["list"] == [1.5, "x", None]
    assert list(tmp_path.iterdir()) == [path]
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="not a checkpoint, or was cut short"):
        checkpoints.read_state(path)


def test_slim_arrays_are_those_of_the_slim_critic_alone():
    critic = fg.Critic((8, 8), channels=2, depth=2, seed=0)
    arrays = scores.slim_arrays(critic)
    assert [w.shape for w in arrays["weights"]] == [(2, 1, 3, 3), (4, 2, 3, 3)]
    assert scores.slim_arrays(torch.nn.Linear(2, 2)) is None
    assert scores.slim_arrays(critic.double()) is None

    class Other(fg.Critic):
        pass

    assert scores.slim_arrays(Other((8, 8), channels=2)) is None
