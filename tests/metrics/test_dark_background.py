"""The background below a structure, from the dark places around it."""

from __future__ import annotations

import numpy as np

from fluogan_core.metrics.dark_background import background_about

ROWS, COLUMNS = np.mgrid[:40, :40]
LIGHT = 50.0 * np.exp(-0.5 * ((COLUMNS - 20) / 1.4) ** 2)


def test_its_error_is_the_one_it_makes():
    smooth = 5 + 1.5 * np.cos(np.pi * ROWS / 40) + 0.8 * np.cos(2 * np.pi * COLUMNS / 40)
    variance = (LIGHT + smooth) / 5
    pulls = []
    for seed in range(40):
        mean = LIGHT + smooth + np.random.default_rng(seed).standard_normal(LIGHT.shape) * np.sqrt(variance)
        found, error = background_about(mean, LIGHT, np.full_like(LIGHT, 4.0), variance, (20.0, 20.0), 3.2)
        pulls.append((found[20, 20] / smooth[20, 20] - 1) / error)
    # a part of it is that the background is no sum of the window's cosines, the same in each
    assert 0.3 < np.sqrt(np.mean(np.square(pulls))) < 1.5


def test_without_dark_places_it_is_not_known():
    flat = np.full((40, 40), 50.0)
    _, error = background_about(flat + 5, flat, np.full_like(flat, 5.0), flat / 100, (20.0, 20.0), 3.2)
    assert error > 0.4


def test_what_is_no_smooth_background_makes_the_error_larger():
    variance = np.full(LIGHT.shape, 0.01)
    bumpy = 5 + 2 * np.cos(ROWS) * np.cos(COLUMNS)
    errors = [
        background_about(LIGHT + b, LIGHT, np.full_like(LIGHT, 5.0), variance, (20.0, 20.0), 3.2)[1] for b in (5.0, bumpy)
    ]
    assert errors[1] > 1.5 * errors[0]
