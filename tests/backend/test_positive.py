"""Inverses and whitening by positive definite matrices, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.backend.positive import inverses, whitened

NUMPY = fg.get_backend("numpy")


def covariances(rng, count: int, size: int) -> np.ndarray:
    y = rng.standard_normal((count, 3 * size, size))
    return y.swapaxes(1, 2) @ y


def test_inverses_are_symmetric_and_leave_their_argument_alone(rng):
    matrices = covariances(rng, 3, 20)
    before = matrices.copy()
    found = inverses(matrices, NUMPY)
    np.testing.assert_array_equal(matrices, before)
    np.testing.assert_array_equal(found, found.swapaxes(1, 2))
    np.testing.assert_allclose(found @ matrices, np.broadcast_to(np.eye(20), (3, 20, 20)), atol=1e-10)


def test_whitened_values_have_the_length_that_the_covariance_gives_them(rng):
    (covariance,), values = covariances(rng, 1, 12), rng.standard_normal((12, 5))
    found, log_root = whitened(covariance, values, NUMPY)
    np.testing.assert_allclose((found**2).sum(axis=0), (values * np.linalg.solve(covariance, values)).sum(axis=0), rtol=1e-9)
    assert log_root == pytest.approx(0.5 * np.linalg.slogdet(covariance)[1])


@pytest.mark.parametrize("wrong", [np.diag([1.0, -1.0]), np.zeros((2, 2))])
def test_what_is_not_positive_definite_is_refused(wrong):
    with pytest.raises(np.linalg.LinAlgError):
        inverses(wrong[None], NUMPY)
    with pytest.raises(np.linalg.LinAlgError):
        whitened(wrong, np.ones((2, 1)), NUMPY)
