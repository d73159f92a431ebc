"""Recordings that tests of several rooms share."""

from __future__ import annotations

import numpy as np

import fluogan_core as fg


def scene(shape=(6, 5), factor=2, kappa=3.0, frames=60, seed=0, psf=None):
    """A rough image, its model in photons, and frames of it."""
    rng = np.random.default_rng(seed)
    psf = fg.gaussian_psf(200, 100, factor, truncate=2) if psf is None else psf
    psi = fg.Psi(psf, shape, factor, photons_per_emitter=kappa, backend="numpy")
    model = fg.ForwardModel(psi, noise_std=0.7)
    x = rng.random(psi.fine_shape).astype(np.float32)
    b = (1 + rng.random(shape)).astype(np.float32)
    return model, x, b, model.sample(x, b, frames, seed)
