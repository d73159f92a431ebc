"""Recordings of a line and a spot, and sweeps over them, that tests of several rooms share."""

from __future__ import annotations

import numpy as np

import fluogan_core as fg

CAMERA = fg.Camera(gain=2.0, offset=100.0, noise_std=1.5)
FRAMES, SHAPE, FWHM = 48, (12, 10), 250.0
MEAN = fg.SolverOptions(method="none", warm_steps=25)


def operator(shape: tuple[int, int] = SHAPE) -> fg.Psi:
    return fg.Psi(fg.gaussian_psf(FWHM, 100, 2, truncate=3), shape, 2, photons_per_emitter=6.0, backend="numpy")


def record(
    frames: int = FRAMES, shape: tuple[int, int] = SHAPE, brightness: float = 8.0, background: float = 3.0
) -> np.ndarray:
    """Double Poisson frames of a line and a spot, counts."""
    psi = operator(shape)
    x = np.zeros(psi.fine_shape, np.float32)
    x[4:20, 8] = x[6:8, 14] = brightness
    model = fg.ForwardModel(psi, gain=CAMERA.gain, noise_std=CAMERA.noise_std)
    return model.sample(x, np.full(shape, background, np.float32), frames, seed=3) + np.float32(CAMERA.offset)


def tried(stack: np.ndarray, vary: dict[str, tuple], **more) -> fg.Sweep:
    return fg.sweep(stack, **({"psi": operator(), "camera": CAMERA, "options": MEAN, "vary": vary} | more))
