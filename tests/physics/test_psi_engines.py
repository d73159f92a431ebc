"""Which engine an operator takes, and how much memory each engine takes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from psfs import tiny_psf
from scipy.signal import convolve

import fluogan_core as fg


def bent(by: float) -> np.ndarray:
    """A separable PSF of which one value off both axes is changed by this fraction of the largest."""
    psf = tiny_psf(5)
    psf[0, 1] += by * psf.max()
    return psf


@pytest.mark.parametrize("by", [0.0, 1e-11, 1e-10])
def test_a_psf_that_rounding_keeps_from_a_product_is_one(by):
    psi = fg.Psi(bent(by), (6, 6), 4, backend="numpy")
    assert psi.method == "products"
    assert psi.axis_matrices is not None


@pytest.mark.parametrize("by", [1e-8, 1e-6, 1e-2])
def test_a_psf_that_is_no_product_is_not_taken_for_one(by, rng):
    """The blur is exact to rounding: what distinguishes this PSF from a product is in the result."""
    psi = fg.Psi(bent(by), (6, 6), 4, backend="numpy")
    assert psi.method == "convolutions"
    assert psi.axis_matrices is None
    x = rng.random(psi.fine_shape)
    expected = convolve(x, psi.psf, mode="same").reshape(6, 4, 6, 4).sum(axis=(1, 3))
    np.testing.assert_allclose(psi.forward(x), expected, rtol=1e-13)


def peak(call) -> int:
    """The most memory that a call takes beside what it returns, bytes."""
    call()  # tables that are kept
    tracemalloc.start()
    try:
        result = call()
        return tracemalloc.get_traced_memory()[1] - result.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", ["products", "convolutions"])
@pytest.mark.parametrize("name", ["forward", "adjoint", "squared_forward", "squared_adjoint"])
def test_intermediates_stay_within_the_memory_budget(name, method, rng):
    """Both engines, both ways: a batch that would take more than the budget is cut, and the result does not change.

    Products take one image after the other, whatever the budget.
    """
    budget = 2**20
    large, small = (
        fg.Psi(tiny_psf(5), (24, 24), 4, method=method, memory_budget=bytes_, backend="numpy") for bytes_ in (2**30, budget)
    )
    batch = rng.random((160, *(large.fine_shape if name.endswith("forward") else large.shape)))
    needs = peak(lambda: getattr(large, name)(batch))
    assert needs < budget if method == "products" else needs > 2 * budget, "this batch must need more than the budget"
    assert peak(lambda: getattr(small, name)(batch)) < 1.25 * budget
    np.testing.assert_array_equal(getattr(small, name)(batch), getattr(large, name)(batch))


def test_one_image_is_computed_whatever_the_budget(rng):
    for method in ("products", "convolutions"):
        psi = fg.Psi(tiny_psf(5), (12, 12), 4, method=method, memory_budget=1, backend="numpy")
        x = rng.random((3, *psi.fine_shape))
        assert psi.forward(x).shape == (3, 12, 12)
        assert psi.adjoint(psi.forward(x)).shape == x.shape
