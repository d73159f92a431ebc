"""Pulls, (estimate - truth) / stated error: the benchmark of them on few seeds, with bounds for so few."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.bench_pulls import double_poisson, pulls_of, steady

SEEDS = 16


@pytest.mark.parametrize("regime", [steady(100), double_poisson(120, 6.0, 60.0)], ids=["steady", "double Poisson"])
def test_stated_errors_are_those_that_are_made(regime):
    found = [pulls_of(regime, np.random.default_rng([41, seed])) for seed in range(SEEDS)]
    for name in found[0]:
        pulls = np.array([each[name] for each in found])
        # of 16 pulls the mean is known to 0.25 and the deviation to 18 %
        assert abs(pulls.mean()) < 0.3 + 3 * 0.25, name
        assert 0.8 * (1 - 3 * 0.18) < pulls.std(ddof=1) < 1.3 * (1 + 3 * 0.18), name


def test_a_regime_without_emissions_has_no_pulls_of_them():
    assert set(pulls_of(steady(40), np.random.default_rng(0))) == {"gain", "offset", "read noise"}
    assert set(pulls_of(double_poisson(40, 6.0, 60.0), np.random.default_rng(0))) == {
        "gain",
        "offset",
        "read noise",
        "photons per emission",
        "PSF width",
    }
