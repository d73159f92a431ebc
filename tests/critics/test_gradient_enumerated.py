"""Eq. (12) by exact enumeration, and the answer of the best critic."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scenes import used_by
from scipy.stats import poisson

import fluogan_core as fg
from fluogan_core.critics import scores


class Wavy(torch.nn.Module):
    """A smooth critic that is far from linear, with interactions between pixels."""

    def forward(self, y):
        weight = torch.arange(1, 1 + y[0].numel(), dtype=y.dtype).reshape(y.shape[1:])
        return torch.sin(0.3 * (y * weight).sum(dim=(1, 2))) + 0.05 * y.prod(dim=2).sum(dim=1)


# -- eq. (12) by exact enumeration ---------------------------------------------------------------------------------------

TINY = fg.Psi(np.array([[0.2, 0.5, 0.3]]), (1, 3), 1, photons_per_emitter=1.3)
GAIN = 2.0


def enumerated(x, b, critic, most_emissions=9, most_photons=24):
    """E[D(Y)] by summing over all emissions and all counts of three pixels, without noise; tails below 1e-9."""
    counts = np.arange(most_photons + 1)
    grid = np.stack(np.meshgrid(counts, counts, counts, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    score = scores.critic_values(critic, GAIN * grid.astype(np.float64)).reshape(3 * (most_photons + 1,))
    z = np.array(list(itertools.product(range(most_emissions + 1), repeat=3)), dtype=np.float64)
    chance = poisson.pmf(z, np.asarray(x, float).ravel()).prod(axis=1)
    rates = TINY.forward(z[:, None, :])[:, 0] + np.asarray(b, float).ravel()
    law = poisson.pmf(counts, rates[:, :, None])
    inner = np.einsum("zc,abc->zab", law[:, 2], score)
    return float(chance @ np.einsum("za,zb,zab->z", law[:, 0], law[:, 1], inner))


def exact_gradients(x, b, critic):
    base = enumerated(x, b, critic)
    gx = [enumerated(x, b + TINY.column((0, i)), critic) - base for i in range(3)]
    gb_rate = [enumerated(x, b + np.eye(3)[j], critic) - base for j in range(3)]
    return np.array(gx), np.array(gb_rate)


def central(function, v, h=1e-3):
    return np.array([(function(v + h * e[None]) - function(v - h * e[None])) / (2 * h) for e in np.eye(3)])


X = np.array([[0.4, 0.1, 0.7]])
B = np.array([[0.5, 0.8, 0.3]])


def test_equation_12_is_the_derivative_in_x():
    gx, _ = exact_gradients(X, B, Wavy())
    measured = central(lambda x: enumerated(x, B, Wavy()), X)
    np.testing.assert_allclose(gx, measured, rtol=1e-5, atol=1e-6)


def test_one_count_is_the_derivative_in_b_and_one_unit_of_rate_is_not():
    class Shifted(torch.nn.Module):
        def __init__(self, j):
            super().__init__()
            self.step = torch.zeros(1, 3, dtype=torch.float64)
            self.step[0, j] = GAIN

        def forward(self, y):
            return Wavy()(y + self.step) - Wavy()(y)

    measured = central(lambda b: enumerated(X, b, Wavy()), B)
    counted = np.array([enumerated(X, B, Shifted(j)) for j in range(3)])
    np.testing.assert_allclose(counted, measured, rtol=1e-5, atol=1e-6)
    _, rated = exact_gradients(X, B, Wavy())
    assert np.abs(rated - measured).max() > 0.1 * np.abs(measured).max()


@pytest.mark.parametrize("method", ["direct", "coupled", "corrected"])
@pytest.mark.parametrize("rule", ["count", "rate"])
def test_unbiased_estimators_reach_the_enumerated_gradient(method, rule):
    model = fg.ForwardModel(TINY, gain=GAIN, epsilon=0.0)
    gx, gb_rate = exact_gradients(X, B, Wavy())
    gb = gb_rate if rule == "rate" else central(lambda b: enumerated(X, b, Wavy()), B)
    options = used_by(method, background_rule=rule, corrected_frames=2000)
    got = fg.critic_gradient(Wavy(), model, X, B, frames=4000, seed=1, with_error=True, **options)
    for estimate, error, truth in ((got[0], got[2], gx), (got[1], got[3], gb)):
        assert np.abs((estimate.ravel() - truth) / error.ravel()).max() < 4
        assert error.max() < 0.2


# -- the best critic's answer: the score of the likelihood -------------------------------------------------------------


def likelihood_of_frames(x, b, most_emissions=9, most_photons=24):
    """p(y) and E[z | y] / x - 1 of every frame of three pixels, by summing over all emissions."""
    counts = np.arange(most_photons + 1)
    z = np.array(list(itertools.product(range(most_emissions + 1), repeat=3)), dtype=np.float64)
    chance = poisson.pmf(z, np.asarray(x, float).ravel()).prod(axis=1)
    law = poisson.pmf(counts, (TINY.forward(z[:, None, :])[:, 0] + np.asarray(b, float).ravel())[:, :, None])
    density = np.einsum("z,za,zb,zc->abc", chance, *law.transpose(1, 0, 2), optimize=True)
    weighted = [np.einsum("z,za,zb,zc->abc", chance * zi, *law.transpose(1, 0, 2), optimize=True) for zi in z.T]
    return density, np.array([w / np.maximum(density, 1e-300) / xi - 1 for w, xi in zip(weighted, np.ravel(x))])


class Looked(torch.nn.Module):
    """A critic that is a table of all frames of three pixels."""

    def __init__(self, table):
        super().__init__()
        self.table = torch.as_tensor(table)

    def forward(self, y):
        a, b, c = (y.reshape(len(y), 3) / GAIN).round().long().clamp(0, self.table.shape[0] - 1).T
        return self.table[a, b, c]


def test_equation_12_is_a_covariance_with_the_score_of_the_likelihood():
    """For D = log p, by enumeration, and by the coupled estimator."""
    density, score = likelihood_of_frames(X, B)
    log_density = np.log(np.maximum(density, 1e-30))
    critic = Looked(log_density)
    by_score = np.einsum("abc,abc,iabc->i", density, log_density, score)
    gx, _ = exact_gradients(X, B, critic)
    np.testing.assert_allclose(gx, by_score, atol=1e-5)
    assert np.abs(by_score).min() > 1e-3
    model = fg.ForwardModel(TINY, gain=GAIN, epsilon=0.0)
    got = fg.critic_gradient(critic, model, X, B, frames=4000, seed=3, with_error=True, method="coupled")
    assert np.abs((got[0].ravel() - by_score) / got[2].ravel()).max() < 4
    assert got[2].max() < 0.1


def test_the_critic_that_is_the_ratio_of_densities_answers_with_the_score_of_the_recorded_frames():
    """The gradient of the log likelihood, averaged over what is recorded, is eq. (12) for D = p_recorded / p_simulated."""
    density, score = likelihood_of_frames(X, B)
    recorded, _ = likelihood_of_frames(X * [1.2, 0.8, 1.0], B)
    ratio = recorded / np.maximum(density, 1e-300) * (density > 1e-25)
    gx, _ = exact_gradients(X, B, Looked(ratio))
    of_recorded = np.einsum("abc,iabc->i", recorded, score)
    np.testing.assert_allclose(gx, of_recorded, atol=1e-6)

    def log_likelihood(x):
        return float((recorded * np.log(np.maximum(likelihood_of_frames(x, B)[0], 1e-300))).sum())

    np.testing.assert_allclose(of_recorded, central(log_likelihood, X), rtol=1e-4, atol=1e-6)
