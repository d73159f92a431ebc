"""A state survives its file, and a damaged file is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fluogan_core.solvers import checkpoint as checkpoints


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
