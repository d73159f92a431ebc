"""The backend follows the arrays, and nothing is copied silently."""

from __future__ import annotations

import logging
import types

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core import backend as room


def test_auto_says_what_it_took_and_why(caplog):
    with caplog.at_level(logging.INFO, logger="fluogan_core"):
        chosen = fg.get_backend("auto")
    assert chosen.name in ("numpy", "cupy")
    if chosen.name == "numpy":
        assert room.why_no_gpu() in caplog.text


def test_cupy_is_refused_with_the_reason_where_it_cannot_be_used(monkeypatch):
    monkeypatch.setattr(room, "why_no_gpu", lambda: "no driver")
    with pytest.raises(RuntimeError, match="no driver; choose backend='numpy'"):
        fg.get_backend("cupy")


def test_unknown_backends_and_arrays_are_refused():
    with pytest.raises(ValueError, match="'auto', 'numpy', 'cupy'"):
        fg.get_backend("tpu")
    with pytest.raises(TypeError, match="y must be a NumPy or CuPy array, got list"):
        fg.backend_of(x=np.zeros(3), y=[1, 2])


def test_a_mixture_raises_and_says_how_to_mend_it():
    elsewhere = type("ndarray", (), {"__module__": "cupy", "device": types.SimpleNamespace(id=0)})()
    with pytest.raises(ValueError, match=r"x is on the host but b is on cuda:0; move one with backend.asarray"):
        fg.backend_of(x=np.zeros(3), b=elsewhere)


def test_memory_budget_can_be_stated(monkeypatch):
    monkeypatch.setenv("FLUOGAN_MEMORY_BUDGET", "1e6")
    assert fg.get_backend("numpy").memory_budget() == 1_000_000
    monkeypatch.setenv("FLUOGAN_MEMORY_BUDGET", "plenty")
    with pytest.raises(ValueError, match="number of bytes"):
        fg.get_backend("numpy").memory_budget()
    monkeypatch.delenv("FLUOGAN_MEMORY_BUDGET")
    assert 64 * 2**20 <= fg.get_backend("numpy").memory_budget() <= 2 * 2**30
