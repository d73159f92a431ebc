"""Least squares from normal equations, and errors by leaving blocks out, against what is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from fluogan_core.calibration.regression import jackknife, solve_normal


def test_normal_equations_give_the_least_squares(rng):
    design, values = rng.normal(size=(40, 3)) * (1.0, 1e4, 1e-5), rng.normal(size=(40, 2))
    expected = np.linalg.lstsq(design, values, rcond=None)[0]
    np.testing.assert_allclose(solve_normal(design.T @ design, design.T @ values), expected, rtol=1e-8)


def test_terms_that_never_occur_get_nothing(rng):
    design, values = rng.normal(size=(40, 3)), rng.normal(size=(40, 1))
    design[:, 1] = 0
    found = solve_normal(design.T @ design, design.T @ values)
    expected = np.linalg.lstsq(design[:, [0, 2]], values, rcond=None)[0]
    assert found[1] == 0
    np.testing.assert_allclose(found[[0, 2]], expected, rtol=1e-10)
    # of two that differ by less than their rounding lets through each gets a half: their difference is noise
    design[:, 1] = design[:, 0] + 1e-6 * rng.normal(size=40)
    found = solve_normal(design.T @ design, design.T @ values)
    np.testing.assert_allclose(found[[0, 1], 0], expected[0, 0] / 2, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_never_reaches_lapack(bad):
    normal, right = np.eye(3), np.ones((3, 1))
    for spoiled in ("normal", "right"):
        given = {"normal": normal.copy(), "right": right.copy()}
        given[spoiled][1, 0] = bad
        with pytest.raises(ValueError, match="moments of this stack are not finite: its counts, or a given gain"):
            solve_normal(**given)


def test_the_jackknife_of_a_mean_is_its_standard_error(rng):
    values = rng.normal(size=(30, 2))
    replicates = np.concatenate([[values.mean(axis=0)], [np.delete(values, k, axis=0).mean(axis=0) for k in range(30)]])
    np.testing.assert_allclose(jackknife(replicates), values.std(axis=0, ddof=1) / np.sqrt(30), rtol=1e-10)
    replicates[0] = 1e9  # the full sample has no part in it
    np.testing.assert_allclose(jackknife(replicates), values.std(axis=0, ddof=1) / np.sqrt(30), rtol=1e-10)
