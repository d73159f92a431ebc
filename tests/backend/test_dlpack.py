"""Arrays and tensors share memory, and the traps of doing so raise instead."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fluogan_core as fg
from fluogan_core.backend import dlpack

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
