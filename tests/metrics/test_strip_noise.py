"""The mean of a strip scatters as much as is said, whatever its molecules do."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.metrics.evidence_map import _Test
from fluogan_core.metrics.sections import Optic, Section
from fluogan_core.metrics.strip_noise import noise_of_mean, whitening

PSI = fg.Psi(fg.gaussian_psf(318, 100, 4), (20, 20), 4, backend="numpy")
ONES = np.ones(PSI.fine_shape)
SEEN = PSI.forward(ONES)
B, FRAMES = 5.0, 240


def scatter_of(recorded, mean, x, b, seeds=14):
    """Mean square of the bins of upright strips about their mean, over the stated variance."""
    section = Section(PSI.shape, Optic(PSI.psf, 4), (39.5, 39.5), 0.0, 24.0)
    squares = []
    for seed in range(seeds):
        test = _Test(recorded(np.random.default_rng(seed)), fg.ForwardModel(PSI), x, np.full(PSI.shape, b), None, True)
        strip = test.strip(section, (39.5, 39.5))
        squares.append(np.mean(strip.white(section.of(test.mean - mean)) ** 2))
    return np.mean(squares)


def flashes(rng, kappa, stay, frames=FRAMES):
    """Molecules that stay on for a time of this mean, with kappa photons per frame each; 60 photons per pixel on average."""
    rate = 60.0 / float(SEEN[10, 10]) / kappa / stay
    starts = rng.poisson(rate, (frames + 20 * stay, ONES.size))
    on = np.empty_like(starts)
    alive = np.zeros(ONES.size, dtype=int)
    for t, new in enumerate(starts):
        alive = rng.binomial(alive, 1 - 1 / stay) + new if stay > 1 else new
        on[t] = alive
    light = [PSI.forward(kappa * now.reshape(ONES.shape)) for now in on[-frames:]]
    return rng.poisson(np.maximum(light, 0) + B).astype(np.float64)


LEVEL = 60.0 / float(SEEN[10, 10])


@pytest.mark.parametrize("taken", [0.0, 0.9])
def test_light_that_the_fit_took_for_background_flickers_all_the_same(taken):
    mean = LEVEL * SEEN + B
    x, b = (1 - taken) * LEVEL * ONES, B + taken * 60
    found = scatter_of(lambda rng: flashes(rng, 50.0, 1), mean, x, b)
    assert found == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize(("frames", "most"), [(FRAMES, 1.25), (48, 1.55)])
def test_molecules_that_stay_on_for_a_part_of_a_block(frames, most):
    """Independent blocks would say 1.4 times too little; 24 of them in 48 frames 1.7 times, their neighbours counted too."""
    found = scatter_of(lambda rng: flashes(rng, 20.0, 4, frames), LEVEL * SEEN + B, LEVEL * ONES, B, 25)
    assert 0.75 < found < most


def test_bleaching_is_no_scatter():
    fall = np.exp(-np.arange(FRAMES) / 150)
    fall /= fall.mean()
    lit = np.abs(np.arange(80) - 39.5) < 8
    x = 4 * LEVEL * np.outer(np.abs(np.arange(80) - 39.5) < 30, lit)
    seen = np.maximum(PSI.forward(x), 0)
    frames = lambda rng: rng.poisson(seen * fall[:, None, None] + B).astype(np.float64)  # noqa: E731
    assert scatter_of(frames, seen + B, x, B) == pytest.approx(1, abs=0.25)


def test_frames_that_do_not_blink_scatter_by_shot_noise():
    section = Section(PSI.shape, Optic(PSI.psf, 4), (39.5, 39.5), 0.0, 24.0)
    rng, mean = np.random.default_rng(0), LEVEL * SEEN + B
    detection = section.covariance(mean / FRAMES)
    more = []
    for _ in range(10):
        bins = section.of(rng.poisson(mean, (FRAMES, *PSI.shape)).astype(float))
        white = np.linalg.solve(whitening(detection), noise_of_mean(section, bins, detection, section.of(mean - B)))
        more.append(np.trace(np.linalg.solve(whitening(detection), white.T)) / len(detection))
    assert min(more) > 1 - 1e-7
    assert np.mean(more) < 1.2


def test_a_strip_without_light_has_no_noise_but_that_of_detection():
    section = Section(PSI.shape, Optic(PSI.psf, 4), (39.5, 39.5), math.pi / 2, 24.0)
    detection = section.covariance(np.full(PSI.shape, B / FRAMES))
    still = np.full((4, len(detection)), 7.0)
    assert noise_of_mean(section, still, detection, np.zeros(len(detection))) == pytest.approx(detection)
