"""The operator for any shape, factor, PSF and binning: what the dense formula says, and its adjoint."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve

import fluogan_core as fg
from fluogan_core.testing import assert_adjoint


@st.composite
def operators(draw: st.DrawFn) -> fg.Psi:
    """Fields from one pixel on, PSFs up to the field's size, products of two lines or not, budgets of one image and of many."""
    shape, factor = draw(st.tuples(st.integers(1, 7), st.integers(1, 7))), draw(st.integers(1, 5))
    sides = [draw(st.integers(0, (n * factor - 1) // 2).map(lambda reach: 2 * reach + 1)) for n in shape]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    separable = draw(st.booleans())
    psf = np.outer(rng.random(sides[0]), rng.random(sides[1])) if separable else rng.random(sides)
    return fg.Psi(
        psf + 1e-3 * psf.max(),
        shape,
        factor,
        binning=draw(st.sampled_from(["sum", "point"])),
        photons_per_emitter=draw(st.sampled_from([1.0, 7.5])),
        method=draw(st.sampled_from(["auto", "convolutions"])),
        memory_budget=draw(st.sampled_from([1, 2**28])),
        backend="numpy",
    )


@given(operators())
@settings(max_examples=80, deadline=None, derandomize=True, database=None)
def test_forward_is_the_dense_formula_and_adjoint_its_transpose(psi):
    rows, columns = psi.shape
    x = np.random.default_rng(1).standard_normal((2, *psi.fine_shape))
    reach = [n // 2 for n in psi.psf.shape]
    blurred = np.stack([convolve(image, psi.psf, mode="full", method="direct") for image in x])
    blurred = blurred[:, reach[0] : reach[0] + psi.fine_shape[0], reach[1] : reach[1] + psi.fine_shape[1]]
    blocks = blurred.reshape(2, rows, psi.factor, columns, psi.factor)
    middle = psi.factor // 2
    expected = blocks.sum(axis=(2, 4)) if psi.binning == "sum" else blocks[:, :, middle, :, middle]
    expected = psi.photons_per_emitter * expected
    # rounding is that of the sum of all absolute values, which may be far above a sum that cancels
    np.testing.assert_allclose(psi.forward(x), expected, rtol=0, atol=1e-13 * psi.photons_per_emitter * np.abs(x).sum())
    fine, camera = (2, *psi.fine_shape), (2, *psi.shape)
    assert_adjoint(psi.forward, psi.adjoint, fine, camera)
    assert_adjoint(psi.squared_forward, psi.squared_adjoint, fine, camera)
