"""Frames of two lines, and options for a short run, that tests of the solver share."""

from __future__ import annotations

import numpy as np

import fluogan_core as fg
from fluogan_core.solvers.options import SolverOptions

CAMERA = fg.Camera(gain=2.0, offset=100.0, noise_std=1.5)


def simulate(shape=(16, 16), factor=4, frames=200, kappa=10.0, columns=(22, 42), brightness=20.0, background=8.0, seed=1):
    """Double-Poisson frames of two lines two fine pixels wide."""
    psi = fg.Psi(fg.gaussian_psf(318, 100, factor, truncate=4), shape, factor, photons_per_emitter=kappa)
    x = np.zeros(psi.fine_shape, np.float32)
    for c in columns:
        x[10:-10, c : c + 2] = brightness / kappa
    b = np.full(shape, background, np.float32)
    model = fg.ForwardModel(psi, gain=CAMERA.gain, noise_std=CAMERA.noise_std)
    return psi, x, b, model.sample(x, b, frames, seed=seed) + CAMERA.offset


SMALL = SolverOptions(steps=6, critic_steps=2, batch=8, gradient_frames=8, channels=4, warm_steps=40, method="corrected")
