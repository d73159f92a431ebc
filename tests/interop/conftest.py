"""A result that files and viewers are given."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg


@pytest.fixture(scope="session")
def counts() -> np.ndarray:
    """A recording of 20 frames, 12 x 10 camera pixels, with a bright bar."""
    light = np.full((12, 10), 5.0)
    light[3:9, 4] = 60.0
    return (np.random.default_rng(0).poisson(light, (20, 12, 10)) + 100).astype(np.uint16)


@pytest.fixture(scope="session")
def result(counts: np.ndarray) -> fg.Result:
    psi = fg.Psi(fg.gaussian_psf(150, 100, 2, truncate=2), (12, 10), 2, backend="numpy")
    options = fg.SolverOptions(method="none", warm_steps=5)
    return fg.reconstruct(counts, psi=psi, camera=fg.Camera(offset=100.0), options=options)
