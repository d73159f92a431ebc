"""The score of unseen frames: the model's Gaussian density, and the truth scores best."""

import math

import numpy as np
import pytest
from scenes import flickering

import fluogan_core as fg
from fluogan_core.metrics.prediction import held_out_score


@pytest.fixture(scope="module")
def small():
    return flickering()


def dense_moments(model, x, b):
    """Mean and covariance of eq. (1) from the dense operator."""
    psi = model.psi
    operator = psi.forward(np.eye(x.size).reshape(-1, *psi.fine_shape)).reshape(x.size, -1).T
    rate = operator @ x.ravel() + b.ravel() + model.epsilon
    flicker = (operator * x.ravel()) @ operator.T
    return model.gain * rate, model.gain**2 * (np.diag(rate) + flicker) + model.noise_std**2 * np.eye(rate.size)


def test_the_score_is_the_gaussian_density_with_the_models_moments(small):
    from scipy.stats import multivariate_normal

    model, x, b = small
    frames = model.sample(x, b, 7, seed=1)
    mean, covariance = dense_moments(model, x, b)
    expected = multivariate_normal(mean, covariance).logpdf(frames.reshape(7, -1)) / mean.size
    score = held_out_score(frames, model, x, b)
    np.testing.assert_allclose(score.frame_log_density, expected, rtol=1e-9)
    assert score.log_density == pytest.approx(expected.mean(), rel=1e-9)
    off = frames.reshape(7, -1).mean(axis=0, dtype=np.float64) - mean
    assert score.mean_misfit == pytest.approx(7 * off @ np.linalg.solve(covariance, off) / mean.size, rel=1e-9)


def test_tiles_are_scored_each_on_its_own(small):
    from scipy.stats import multivariate_normal

    model, x, b = small
    frames = model.sample(x, b, 5, seed=2)
    mean, covariance = dense_moments(model, x, b)
    number = np.arange(120).reshape(12, 10)
    expected = 0.0
    for tile in (number[r : r + 4, c : c + 5].ravel() for r in (0, 4, 8) for c in (0, 5)):
        law = multivariate_normal(mean[tile], covariance[np.ix_(tile, tile)])
        expected += law.logpdf(frames.reshape(5, -1)[:, tile]).mean() / 120
    assert held_out_score(frames, model, x, b, block=5).log_density == pytest.approx(expected, rel=1e-9)


def test_the_truth_scores_best_and_its_ratios_are_one(small):
    model, x, b = small
    frames = 2000
    y = model.sample(x, b, frames, seed=3)
    truth = held_out_score(y, model, x, b)
    dim = fg.Psi(model.psi.psf, model.psi.shape, 2, photons_per_emitter=4.0, backend="numpy")
    halved = fg.ForwardModel(dim, gain=2.0, noise_std=1.5)
    wrong = {
        "another mean": held_out_score(y, model, 1.05 * x, b),
        "half of the photons per emission, the same mean": held_out_score(y, halved, 2 * x, b),
        "all light is background": held_out_score(y, model, 0 * x, b + model.psi.forward(x)),
    }
    assert all(score.log_density < truth.log_density for score in wrong.values())
    # chi square with 120 degrees of freedom over 120, five standard deviations
    assert truth.mean_misfit == pytest.approx(1.0, abs=5 * math.sqrt(2 / 120))
    assert wrong["another mean"].mean_misfit > 2
    # T frames of few correlated directions: each second moment is known to sqrt(2 / T) at worst
    assert truth.variance_ratio == pytest.approx(1.0, abs=5 * math.sqrt(2 / frames))
    assert truth.covariance_ratio == pytest.approx(1.0, abs=5 * math.sqrt(2 / frames) * 2)
    assert wrong["half of the photons per emission, the same mean"].covariance_ratio == pytest.approx(
        2.0, rel=10 * math.sqrt(2 / frames)
    )
    assert wrong["all light is background"].covariance_ratio is None


def test_what_cannot_be_scored_is_refused(small):
    model, x, b = small
    y = model.sample(x, b, 3, seed=1)
    with pytest.raises(ValueError, match="psi's field"):
        held_out_score(y[:, :5], model, x, b)
    with pytest.raises(ValueError, match="at least 2 frames"):
        held_out_score(y[:1], model, x, b)
    silent = fg.ForwardModel(model.psi, epsilon=0.0)
    with pytest.raises(ValueError, match="no variance"):
        held_out_score(y, silent, 0 * x, 0 * b)
