"""The falling curve through the light of frames, and what it leaves of their covariances."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.critics.moments import WindowMoments
from fluogan_core.physics.bleaching import (
    bleaching_curves,
    falling_curve,
    light_of_frames,
    orthonormal_trend,
    without_bleaching,
)

NUMPY = fg.get_backend("numpy")
SHAPE = (16, 16)


def operator(kappa: float = 15.0) -> fg.Psi:
    return fg.Psi(fg.gaussian_psf(300, 100, 2), SHAPE, 2, photons_per_emitter=kappa, backend="numpy")


def sample(psi: fg.Psi) -> np.ndarray:
    x = np.zeros(psi.fine_shape, "f4")
    x[6:26, 10:12] = x[6:26, 20:22] = 2.5
    return x


def falling(frames: int, left: float) -> np.ndarray:
    """A factor per frame, mean 1: half of the light falls fast."""
    time = np.arange(frames) / (frames - 1)
    curve = np.exp(np.log(left) * time) + 0.5 * np.exp(-8 * time)
    return curve / curve.mean()


def recorded(psi: fg.Psi, factor: np.ndarray, seed: int) -> np.ndarray:
    model, b = fg.ForwardModel(psi, noise_std=1.0), np.full(SHAPE, 4, "f4")
    return np.concatenate([model.sample(sample(psi) * f, b, 1, seed, first_frame=t) for t, f in enumerate(factor)])


@pytest.mark.parametrize("frames", [40, 300])
@pytest.mark.parametrize("left", [0.5, 0.1])
def test_the_curve_falls_ever_more_slowly_and_goes_through_the_light(frames, left):
    truth = 80 * falling(frames, left) + 100
    light = truth + np.random.default_rng(3).normal(0, 2, frames)
    found = falling_curve(light)
    assert found.clear
    step = np.diff(found.fit)
    assert (step < 0).all()
    assert (np.diff(step) > -1e-9).all()
    assert np.sqrt(((found.fit - truth) ** 2).mean()) < 2 * np.sqrt(9 / frames)
    assert found.loss == pytest.approx(truth[0] - truth[-1], abs=4 * found.error)


def test_the_unit_and_the_offset_of_light_do_not_matter():
    light = falling(100, 0.3) + np.random.default_rng(0).normal(0, 0.02, 100)
    one, other = falling_curve(light), falling_curve(1e4 * light - 3e3)
    np.testing.assert_allclose(other.fit, 1e4 * one.fit - 3e3, rtol=1e-6)
    assert other.loss / other.error == pytest.approx(one.loss / one.error, rel=1e-6)


@pytest.mark.parametrize(
    "light", [np.full(60, 3.0), np.linspace(1, 2, 60), np.linspace(2, 1, 8)], ids=["flat", "rising", "short"]
)
def test_light_that_does_not_fall_has_no_curve(light):
    found = falling_curve(light)
    assert not found.clear
    np.testing.assert_allclose(found.fit, light.mean())


def test_light_that_walks_is_not_said_to_bleach():
    """Molecules that stay on for a few frames: light that is alike from frame to frame, and keeps its mean."""
    rng, said = np.random.default_rng(11), 0
    for _ in range(200):
        light = np.zeros(200)
        for t in range(1, 200):
            light[t] = 0.7 * light[t - 1] + rng.normal()
        said += falling_curve(light).clear
    assert said == 0


def test_signal_and_background_are_told_apart():
    psi = operator()
    signal = psi.forward(sample(psi))
    up = np.linspace(1, 2, 50)[:, None, None]
    bright, dark = light_of_frames(signal + 7 * up, NUMPY).T
    np.testing.assert_allclose(np.diff(bright), np.diff(dark), rtol=1e-4)
    assert bright[0] - dark[0] > 0.3 * signal.max()


def test_a_trend_is_orthonormal_and_none_where_the_base_has_it():
    curves = np.column_stack([falling(50, 0.2), falling(50, 0.6), 2 * falling(50, 0.2) - 1])
    base = np.full((50, 1), 50**-0.5)
    trend = orthonormal_trend(curves, base)
    assert trend.shape == (50, 2)
    both = np.hstack([base, trend])
    np.testing.assert_allclose(both.T @ both, np.eye(3), atol=1e-10)


def test_the_trend_alone_is_taken_and_the_mean_is_kept():
    psi = operator()
    still = (falling(100, 0.1)[:, None, None] * psi.forward(sample(psi)) + 3).astype("f4")
    steady = without_bleaching(still, NUMPY)
    np.testing.assert_allclose(steady.mean(axis=0), still.mean(axis=0), rtol=1e-4)
    assert steady.std(axis=0).max() < 0.02 * still.std(axis=0).max()


def test_frames_that_do_not_bleach_are_returned_as_they_are():
    frames = recorded(operator(), np.ones(50), 2)
    assert bleaching_curves(frames, NUMPY).shape == (50, 0)
    assert without_bleaching(frames, NUMPY) is frames


def test_flicker_of_eq_1_is_what_it_is_without_bleaching():
    """Covariances of different pixels, over seeds, in units of those that the mean image predicts."""
    psi = operator()
    moments = WindowMoments(fg.ForwardModel(psi))
    chosen = np.arange(len(moments.windows.pixels))
    expected = moments.without_diagonal(moments.flickering.pairs(sample(psi), chosen))
    found = []
    for seed in range(4):
        seen, _ = moments.recorded(without_bleaching(recorded(psi, falling(100, 0.1), seed), NUMPY))
        found.append(float((moments.without_diagonal(seen) * expected).sum() / (expected**2).sum()))
    error = np.std(found, ddof=1) / 2
    assert error < 0.1
    assert np.mean(found) == pytest.approx(1, abs=3 * error)
