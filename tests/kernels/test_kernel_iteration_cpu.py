"""Sums and blurs of a fit's iterations, by kernels and by array code, against their definitions in float64."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_sets import NUMBA, kernel_set
from psfs import tiny_psf

import fluogan_core as fg
from fluogan_core.kernels import cpu
from fluogan_core.objective.blur import GaussianKernel
from fluogan_core.objective.fista import step_sums
from fluogan_core.objective.prox import penalties, total_variation

SHAPES = [(1, 1), (1, 7), (6, 1), (37, 53)]


@pytest.fixture(params=[NUMBA[0], "cuda-on-cpu-forward"])
def backend(request):
    return kernel_set(request.param).backend


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("unequal", [False, True], ids=["one weight", "weights and edges of their own"])
def test_penalties_are_their_definitions(backend, shape, dtype, unequal, rng):
    z, sparsity, edges = (rng.normal(0.4, 1.0, shape).astype(dtype) for _ in range(3))
    sparsity, edges = (abs(sparsity), abs(edges) + 1) if unequal else (0.3, None)
    given = [backend.asarray(a) if isinstance(a, np.ndarray) else a for a in (z, sparsity, edges)]
    expected = (sparsity * abs(z.astype(np.float64))).sum(), total_variation(z.astype(np.float64), edges)
    np.testing.assert_allclose(penalties(*given), expected, rtol=1e-6 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_of_a_step_are_their_definitions(backend, shape, dtype, rng):
    new, last = (rng.normal(size=shape).astype(dtype) for _ in range(2))
    wide = [a.astype(np.float64) for a in (new, last)]
    parts = ((wide[0] - wide[1]) ** 2, wide[0] ** 2, wide[0])
    within = (1e-6 if dtype == np.float32 else 1e-13) * np.array([abs(part).sum() for part in parts])
    assert (abs(np.array(step_sums(*map(backend.asarray, (new, last)))) - [part.sum() for part in parts]) <= within).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("unequal", [False, True], ids=["one step", "steps of their own"])
def test_a_descent_is_its_definition(shape, unequal, rng):
    z, slope, price = (rng.normal(size=shape).astype(np.float32) for _ in range(3))
    steps = np.exp(rng.normal(size=shape)).astype(np.float32) if unequal else 0.25
    point, weight = cpu.find("descend")(z, slope, steps, price if unequal else 0.5, 3.0)
    expected = z - steps * (slope + (price if unequal else np.float32(0.5)))
    np.testing.assert_allclose(point, expected, rtol=0, atol=1e-6 * abs(expected).max())
    np.testing.assert_allclose(weight, 3.0 * steps, rtol=1e-6)
    assert point.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_point_ahead_is_its_definition(dtype, rng):
    new, last = (rng.normal(size=(3, 5)).astype(dtype) for _ in range(2))
    found = cpu.find("extrapolate")(new, last, 0.7)
    np.testing.assert_allclose(found, new + 0.7 * (new - last), rtol=0, atol=1e-6 if dtype == np.float32 else 1e-14)
    assert found.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 5), (7, 6)])
def test_the_blur_is_two_sums_along_lines(backend, shape, dtype, rng):
    kernel = GaussianKernel(fg.Psi(tiny_psf(5), shape, 2, backend=backend), 1.0)
    assert len(kernel.taps) > 2
    image = rng.normal(size=kernel.psi.fine_shape).astype(dtype)
    matrices = []
    for size in image.shape:
        apart = abs(np.subtract.outer(np.arange(size), np.arange(size)))
        matrices.append(np.where(apart < len(kernel.taps), kernel.taps[np.minimum(apart, len(kernel.taps) - 1)], 0))
    found = kernel(backend.asarray(image))
    assert found.dtype == dtype
    expected = matrices[0] @ image @ matrices[1].T
    np.testing.assert_allclose(backend.to_host(found), expected, rtol=0, atol=(1e-6 if dtype == np.float32 else 1e-14))
