"""A small stack, and what was found on it."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg


@pytest.fixture(scope="module")
def scene():
    """A stack of two spots, what was found on it, and its mean fit."""
    psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (16, 16), 2, photons_per_emitter=20.0, backend="numpy")
    x = np.zeros(psi.fine_shape, np.float32)
    x[7:9, 7:9], x[22:24, 20:23] = 1.0, 0.5
    model = fg.ForwardModel(psi, gain=2.0, noise_std=2.0)
    frames = model.sample(x, np.full(psi.shape, 5, np.float32), 60, seed=1) + 100
    frames = np.round(frames).astype(np.uint16)
    found = fg.calibrate(frames, psi, camera=fg.Camera(2.0, 100.0, 2.0), photons_per_emitter=20.0)
    result = fg.reconstruct(frames, calibration=found, options=fg.SolverOptions(method="none", warm_steps=60))
    return frames, found, result
