"""A PSF, a prior, an estimator's critic and a quadratic critic of one's own: each in a few lines, from outside the package."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import fluogan_core as fg

CAMERA = fg.Camera(gain=2.0, offset=100.0, noise_std=0.5)
SHAPE, FACTOR = (16, 16), 2


def ring_psf(radius: float) -> np.ndarray:
    """A PSF of one's own is an array on the fine grid: odd sides, centred, not negative."""
    axis = np.arange(-6, 7)
    distance = np.hypot(*np.meshgrid(axis, axis))
    return np.exp(-((distance - radius) ** 2))


def operator(psf: np.ndarray | None = None, kappa: float = 20.0) -> fg.Psi:
    psf = fg.gaussian_psf(250, 100, FACTOR, truncate=3) if psf is None else psf
    return fg.Psi(psf, SHAPE, FACTOR, photons_per_emitter=kappa, backend="numpy")


def recorded(psi: fg.Psi, frames: int = 120) -> tuple[np.ndarray, np.ndarray]:
    x = np.zeros(psi.fine_shape, np.float32)
    x[8:24, 10:12] = x[8:24, 20:22] = 3.0 / psi.photons_per_emitter
    model = fg.ForwardModel(psi, gain=CAMERA.gain, noise_std=CAMERA.noise_std)
    return x, model.sample(x, np.full(SHAPE, 1.0, np.float32), frames, seed=1) + np.float32(CAMERA.offset)


def test_a_psf_of_ones_own():
    psi = operator(ring_psf(3.0))
    x, stack = recorded(psi)
    found = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=fg.SolverOptions(method="none"))
    assert np.corrcoef(gaussian_filter(found.x, 1).ravel(), gaussian_filter(x, 1).ravel())[0, 1] > 0.9


class Denoiser(fg.Prior):
    """Plug-and-play: a denoiser in place of a proximal operator."""

    def __init__(self, width: float) -> None:
        self.width = width

    def value(self, z):
        return 0.0

    def prox(self, v, step):
        return np.maximum(gaussian_filter(v, self.width), 0)


class Capped(fg.Prior):
    """No pixel brighter than so much: an indicator, whose prox is the projection."""

    def __init__(self, most: float) -> None:
        self.most = most

    def value(self, z):
        return 0.0 if z.max() <= self.most else np.inf

    def prox(self, v, step):
        return np.clip(v, 0, self.most)


@pytest.mark.parametrize("method", ["none", "moments", "linear"])
def test_a_prior_of_ones_own_rules_every_phase(method):
    psi = operator()
    _, stack = recorded(psi)
    small = {"steps": 2, "critic_steps": 1, "batch": 4, "gradient_frames": 4, "channels": 2}
    options = fg.SolverOptions(method="linear", warm_steps=60, **small).for_method(method)
    free = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options)
    most = 0.5 * float(free.x.max())
    capped = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options, prior=Capped(most))
    # x is the capped image after the narrow blur, which keeps the bound
    assert 0.5 * most < capped.x.max() <= most * (1 + 1e-5)
    assert (capped.history["prior"] == 0).all()
    assert np.isnan(capped.history["sparsity"]).all()


def test_a_denoiser_is_a_prior():
    psi = operator()
    x, stack = recorded(psi)
    options = fg.SolverOptions(method="none", warm_steps=200)
    rough, smooth = (
        fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options, prior=Denoiser(width)) for width in (0.01, 0.4)
    )
    detail = [np.abs(np.diff(found.x, axis=0)).sum() for found in (rough, smooth)]
    assert detail[1] < 0.8 * detail[0]
    assert np.corrcoef(gaussian_filter(smooth.x, 1).ravel(), gaussian_filter(x, 1).ravel())[0, 1] > 0.9


class Deaf(fg.QuadraticCritic):
    """A quadratic critic that listens to the mean alone."""

    def slope(self, x, b):
        light = self.model.psi.forward(x) + b - self.mean
        return self.model.psi.adjoint(light), light

    def value(self, x, b, other=None):
        light = self.model.psi.forward(x) + b - self.mean
        return super().value(x, b, other)._replace(mean=0.5 * float((light * light).sum()), covariance=0.0)


def test_a_quadratic_critic_of_ones_own():
    psi = operator()
    _, stack = recorded(psi)
    go = {"psi": psi, "camera": CAMERA, "options": fg.SolverOptions(warm_steps=60, steps=3)}
    usual = fg.reconstruct(stack, **go)
    deaf = fg.reconstruct(stack, quadratic_critic=Deaf, **go)
    assert deaf.stops["covariance"].steps == 3
    assert (deaf.history["adversarial"][deaf.history["phase"] == 1] == 0).all()
    assert not np.array_equal(deaf.x, usual.x)
