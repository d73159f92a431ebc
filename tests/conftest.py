"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.backend import why_no_gpu


@pytest.fixture(params=["numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> fg.Backend:
    """Every backend in turn; CuPy is skipped, and said to be, where there is no card."""
    if request.param == "cupy" and (reason := why_no_gpu()):
        pytest.skip(reason)
    return fg.get_backend(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240527)


@pytest.fixture(scope="session")
def real_stacks() -> Path:
    """The folder of recorded stacks, which the project does not redistribute."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / "real"
    if not folder.is_dir():
        pytest.skip("the recorded stacks are not here")
    return folder


def tiny_psf(size: int = 5, skew: float = 0.0) -> np.ndarray:
    """A small PSF; with ``skew`` it is neither separable nor symmetric."""
    axis = np.arange(size) - size // 2
    a, b = np.meshgrid(axis, axis, indexing="ij")
    psf = np.exp(-0.5 * (a**2 + b**2) / 1.3**2 + skew * (a * b + 0.5 * a))
    return psf / psf.sum()
