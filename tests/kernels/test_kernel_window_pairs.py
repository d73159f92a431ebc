"""What windows add to the stencils of a second derivative, by kernels and by array code, against sums term by term."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_sets import NUMBA, kernel_set

import fluogan_core as fg
from fluogan_core.critics.window_pairs import squared_near, squared_pairs
from fluogan_core.kernels.cpu import window_pairs

TOPS, LEFTS = np.array([0, 2]), np.array([1, 0])


@pytest.fixture(params=["array code", NUMBA[0], "cuda-on-cpu-forward"])
def backend(request, monkeypatch):
    if request.param == "array code":
        monkeypatch.setattr(fg.Backend, "kernel", lambda backend, name: None)
        return fg.get_backend("numpy")
    return kernel_set(request.param).backend


@pytest.mark.parametrize("dark", [0, 1, 3], ids=["whole columns", "a dark row", "dark columns"])
@pytest.mark.parametrize("factors", [True, False], ids=["two factors", "columns"])
@pytest.mark.parametrize("reach", [1, 3])
def test_pairs_of_nodes_are_sums_term_by_term(backend, reach, factors, dark, rng):
    (high, wide), (down, across) = (3, 5), (4, 6)
    seen = rng.standard_normal((2, high, wide, down, across)).astype(np.float32)
    axes = rng.standard_normal((high, down)).astype(np.float32), rng.standard_normal((wide, across)).astype(np.float32)
    axes[0][:dark] = 0
    total = rng.standard_normal((7, reach + 1, 2 * reach + 1, 8)).astype(np.float32)
    expected, columns = total.astype(np.float64), np.einsum("rp,cq->rcpq", *axes)
    pairs = np.einsum("rcpq,wrcst->wpqst", columns, seen) ** 2
    for (w, p, q, s, t), value in np.ndenumerate(pairs):
        if 0 <= s - p <= reach and abs(t - q) <= reach:
            expected[TOPS[w] + p, s - p, t - q + reach, LEFTS[w] + q] += value
    out = backend.asarray(total.copy())
    squared_pairs(backend.asarray(seen), axes if factors else columns, TOPS, LEFTS, out)
    np.testing.assert_allclose(backend.to_host(out), expected, rtol=0, atol=1e-6 * expected.max())


def test_what_lies_near_a_pixel_is_added_there(backend, rng):
    values = rng.standard_normal((2, 3, 4, 5, 6)).astype(np.float32)
    rows, columns = np.array([-1, 1, 3]), np.array([-3, 0, 2, 9])
    total = rng.standard_normal((5, 3, 2, 6)).astype(np.float32)
    expected = total.astype(np.float64)
    for w, i, a, j, b in np.ndindex(2, 3, 3, 4, 2):
        if 0 <= rows[i] + a < 5 and 0 <= columns[j] + b < 6:
            expected[TOPS[w] + i, a, b, LEFTS[w] + j] += float(values[w, i, j, rows[i] + a, columns[j] + b]) ** 2
    out = backend.asarray(total.copy())
    squared_near(backend.asarray(values), rows, columns, TOPS, LEFTS, out)
    np.testing.assert_allclose(backend.to_host(out), expected, rtol=0, atol=1e-6 * expected.max())


def test_kernels_refuse_windows_outside():
    total, values = np.zeros((4, 2, 3, 4), np.float32), np.zeros((1, 2, 2, 2, 2), np.float32)
    ones = np.ones((2, 2), np.float32)
    for starts in ((np.array([3]), np.array([0])), (np.array([0]), np.array([-1]))):
        with pytest.raises(ValueError, match="do not fit 4"):
            window_pairs.squared_pairs(values, ones, ones, *starts, total)
        with pytest.raises(ValueError, match="do not fit 4"):
            window_pairs.squared_near(values, np.zeros(2, int), np.zeros(2, int), *starts, total)
