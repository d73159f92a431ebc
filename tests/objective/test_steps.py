"""Step sizes that differ from pixel to pixel: the curvature is a bound, the longest step is what eigenvalues allow."""

from __future__ import annotations

import numpy as np
import pytest

from fluogan_core.objective.steps import curvature_at, longest_step


def nonnegative(rng, size):
    """A second derivative with entries of 0 or more."""
    factor = rng.random((2 * size, size)) ** 3
    return factor.T @ factor


def test_the_curvature_lies_nowhere_below_the_second_derivative(rng):
    for image in (rng.gamma(0.3, 1.0, (3, 4)) + 1e-3, np.ones((3, 4))):
        second = nonnegative(rng, 12)
        bent = (second @ image.ravel()).reshape(3, 4)
        curvature = curvature_at(image, bent, 0.0)
        np.testing.assert_allclose(curvature * image, bent, rtol=1e-14)
        left = np.linalg.eigvalsh(np.diag(curvature.ravel()) - second)
        assert left.min() > -1e-12 * left.max()


def test_the_curvature_is_no_less_than_a_part_of_its_maximum():
    image = np.array([[2.0, 1.0, 4.0]], np.float32)
    found = curvature_at(image, np.array([[8.0, 0.1, 8.0]], np.float32), 0.25)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[4.0, 1.0, 2.0]])


def test_the_longest_step_is_what_the_largest_eigenvalue_allows(rng):
    """Of two unknowns together, one with a curvature for each pixel, the other with one for all."""
    second = nonnegative(rng, 10)
    curvatures = [0.2 + rng.random((2, 3)), np.array(0.7)]
    scale = np.concatenate([curvatures[0].ravel(), np.full(4, 0.7)]) ** -0.5
    largest = np.linalg.eigvalsh(scale[:, None] * second * scale).max()

    def product(u, v):
        bent = second @ np.concatenate([u.ravel(), v.ravel()])
        return bent[:6].reshape(2, 3), bent[6:].reshape(1, 4)

    start = [np.ones((2, 3)), np.ones((1, 4))]
    found = longest_step(product, curvatures, start, iterations=300, margin=1.0)
    assert found == pytest.approx(1 / largest, rel=1e-12)
    assert longest_step(product, curvatures, start, iterations=300, margin=1.25) == pytest.approx(0.8 / largest, rel=1e-12)
    # the step approaches its limit from above, from the second iteration on: norms of a power iteration rise
    steps = [longest_step(product, curvatures, start, iterations=count, margin=1.0) for count in range(2, 8)]
    assert np.all(np.diff(steps) < 0)
    assert steps[-1] > 1 / largest


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_an_iteration_is_one_product(iterations):
    """Of a diagonal second derivative the norms are known: those of the k-th powers of its entries, one over the other."""
    entries, calls = np.array([[3.0, 1.0]]), []

    def product(u):
        calls.append(u)
        return (entries * u,)

    start = np.full((1, 2), np.sqrt(0.5))
    found = longest_step(product, [np.full((1, 2), 4.0)], [start], iterations=iterations, margin=1.0)
    powers = [np.linalg.norm((entries / 4) ** k * start) for k in (iterations - 1, iterations)]
    assert found == pytest.approx(powers[0] / powers[1], rel=1e-12)
    assert len(calls) == iterations
