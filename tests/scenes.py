"""Recordings that tests of several rooms share."""

from __future__ import annotations

import numpy as np

import fluogan_core as fg
from fluogan_core.critics.estimators import estimator_named


def scene(shape=(6, 5), factor=2, kappa=3.0, frames=60, seed=0, psf=None):
    """A rough image, its model in photons, and frames of it."""
    rng = np.random.default_rng(seed)
    psf = fg.gaussian_psf(200, 100, factor, truncate=2) if psf is None else psf
    psi = fg.Psi(psf, shape, factor, photons_per_emitter=kappa, backend="numpy")
    model = fg.ForwardModel(psi, noise_std=0.7)
    x = rng.random(psi.fine_shape).astype(np.float32)
    b = (1 + rng.random(shape)).astype(np.float32)
    return model, x, b, model.sample(x, b, frames, seed)


def flickering():
    """A flickering scene on 12 x 10 camera pixels, and an operator with a skewed PSF."""
    axis = np.arange(9) - 4
    down, across = np.meshgrid(axis, axis, indexing="ij")
    psf = np.exp(-0.5 * (down**2 + across**2) / 2.0**2 + 0.05 * down * across)
    psi = fg.Psi(psf, (12, 10), 2, photons_per_emitter=8.0, backend="numpy")
    rng = np.random.default_rng(5)
    x = 0.5 * rng.random(psi.fine_shape)
    return fg.ForwardModel(psi, gain=2.0, noise_std=1.5), x, 1.0 + rng.random(psi.shape)


def region_of_a_pair(separation, factor=4, **options):
    """The pattern of one pair of lines in its frame."""
    return fg.argolight_pattern((separation,), pixel_size_nm=100, factor=factor, shape=(32, 32), **options)


def used_by(method, *, background_rule="count", **options):
    """Options of critic_gradient for this method, without those that it does not use and would refuse."""
    mine = estimator_named(method).options
    options |= {"background_rule": background_rule if "background_rule" in mine else "count", "method": method}
    return {name: value for name, value in options.items() if name in mine or name not in ("corrected_frames", "lattice")}
