"""Checkpoints: no bit may flip unseen, and what is whole but wrong is refused by the name of the field."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fluogan_core.solvers.checkpoint import read_state, write_state
from fluogan_core.solvers.schema import ArrayOf, EachOf, NumberOf, Optional, check_state

SCHEMA = {
    "phase": str,
    "ended": bool,
    "steps": NumberOf(0, whole=True),
    "images": {"x": ArrayOf((6, 5), low=0), "b": ArrayOf((6, 5))},
    "critic": Optional({"weights": ArrayOf((None, 3)), "rate": NumberOf(0)}),
    "timings": EachOf(NumberOf(0)),
    "history": EachOf(ArrayOf((None,), finite=False)),
}


def state() -> dict:
    rng = np.random.default_rng(0)
    return {
        "phase": "mean",
        "ended": False,
        "steps": 12,
        "images": {"x": rng.random((6, 5)).astype(np.float32), "b": rng.normal(size=(6, 5)).astype(np.float32)},
        "critic": {"weights": torch.arange(6.0).reshape(2, 3), "rate": 1e-4},
        "timings": {"total": 2.5, "mean fit": 1},
        "history": {"step": np.arange(3.0), "w": np.array([np.nan, 1.0, 2.0])},
    }


def test_a_state_comes_back_as_it_was(tmp_path):
    write_state(state(), tmp_path / "c.pt")
    read = read_state(tmp_path / "c.pt")
    check_state(read, SCHEMA)
    np.testing.assert_array_equal(read["images"]["x"], state()["images"]["x"])
    np.testing.assert_array_equal(read["history"]["w"], state()["history"]["w"])
    assert isinstance(read["critic"]["weights"], torch.Tensor)
    assert (read["phase"], read["ended"], read["steps"], read["timings"]) == ("mean", False, 12, state()["timings"])
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_every_single_flipped_bit_is_refused(tmp_path):
    path = tmp_path / "c.pt"
    write_state(state(), path)
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for place in [*range(60), *rng.integers(0, len(content), 200)]:
        mutant = bytearray(content)
        mutant[place] ^= 1 << rng.integers(8)
        path.write_bytes(mutant)
        with pytest.raises(ValueError, match=r"c\.pt"):
            read_state(path)
    for length in (0, 10, 24, 40, 56, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"c\.pt"):
            read_state(path)
    path.write_bytes(content)
    assert read_state(path)["steps"] == 12


def test_files_of_other_programs_and_none_are_refused(tmp_path):
    torch.save(state()["critic"], tmp_path / "old.pt")
    with pytest.raises(ValueError, match="not a checkpoint of this version"):
        read_state(tmp_path / "old.pt")
    with pytest.raises(FileNotFoundError):
        read_state(tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("field", "wrong", "message"),
    [
        (("phase",), 3, r"state\['phase'\] must be a str, got int"),
        (("ended",), 1, r"state\['ended'\] must be a bool"),
        (("steps",), -1, r"state\['steps'\] must be at least 0, got -1"),
        (("steps",), 1.5, r"state\['steps'\] must be a whole number, got float"),
        (("steps",), True, r"state\['steps'\] must be a whole number, got bool"),
        (("images",), [1], r"state\['images'\] must be a dict, got list"),
        (("images", "x"), np.zeros((5, 6)), r"state\['images'\]\['x'\] must have the shape \(6, 5\), got \(5, 6\)"),
        (("images", "x"), np.eye(6, 5) - np.eye(6, 5, 1), r"state\['images'\]\['x'\] must be at least 0 everywhere, got -1"),
        (("images", "b"), np.full((6, 5), np.nan), r"state\['images'\]\['b'\] holds NaN or infinite values"),
        (("images", "b"), "none", r"state\['images'\]\['b'\] must be an array, got str"),
        (("images", "more"), 1, r"state\['images'\] has unknown fields \['more'\]"),
        (("critic", "weights"), torch.full((2, 3), torch.inf), r"\['weights'\] holds NaN or infinite"),
        (("critic", "weights"), torch.zeros(3), r"\['weights'\] must have the shape \(None, 3\), got \(3,\)"),
        (("critic", "rate"), float("nan"), r"\['rate'\] must be finite, got nan"),
        (("critic",), 7, r"state\['critic'\] must be a dict"),
        (("timings", "total"), "long", r"state\['timings'\]\['total'\] must be a number, got str"),
        (("timings", 3), 1.0, r"a key of state\['timings'\] must be a str, got int"),
        (("history", "w"), np.zeros((2, 2)), r"state\['history'\]\['w'\] must have the shape"),
    ],
)
def test_whole_files_with_wrong_content_are_refused_by_field(tmp_path, field, wrong, message):
    broken = state()
    inner = broken
    for key in field[:-1]:
        inner = inner[key]
    inner[field[-1]] = wrong
    write_state(broken, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=message):
        check_state(read_state(tmp_path / "c.pt"), SCHEMA)


def test_a_missing_field_is_named_and_none_is_taken_where_it_may_be(tmp_path):
    short = state()
    del short["steps"]
    with pytest.raises(ValueError, match=r"state lacks \['steps'\]"):
        check_state(short, SCHEMA)
    check_state(state() | {"critic": None}, SCHEMA)
    with pytest.raises(ValueError, match="must be a str, got NoneType"):
        check_state(state() | {"phase": None}, SCHEMA)
