"""The norm of the operator: exact for every kind of PSF and field, and found in few products."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import tiny_psf

import fluogan_core as fg


def largest_singular_value(psi):
    pixels = psi.shape[0] * psi.shape[1]
    rows = psi.adjoint(np.eye(pixels).reshape(-1, *psi.shape)).reshape(pixels, -1)
    return np.linalg.svd(rows, compute_uv=False)[0]


@pytest.mark.parametrize("binning", ["sum", "point"])
@pytest.mark.parametrize("skew", [0.0, 0.15])
@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (3, 4), (8, 8), (5, 13), (13, 14)])
def test_the_norm_is_the_largest_singular_value(shape, skew, binning):
    """Products of lines, few pixels and many."""
    psi = fg.Psi(tiny_psf(5, skew), shape, 5, binning=binning, photons_per_emitter=3.7, backend="numpy")
    assert psi.norm == pytest.approx(largest_singular_value(psi), rel=1e-12)


@pytest.mark.parametrize("kappa", [1e-12, 1.0, 1e12])
def test_the_norm_grows_with_the_photons_per_emission(kappa):
    for skew in (0.0, 0.15):
        psi = fg.Psi(tiny_psf(5, skew), (12, 12), 2, photons_per_emitter=kappa, backend="numpy")
        assert psi.norm == pytest.approx(kappa * psi.replaced(photons_per_emitter=1).norm, rel=1e-12)


def test_both_engines_have_one_norm():
    psi = fg.Psi(tiny_psf(5), (12, 13), 3, method="products", backend="numpy")
    assert psi.replaced(method="convolutions").norm == pytest.approx(psi.norm, rel=1e-12)


@pytest.mark.parametrize("size", [36, 48])
def test_a_psf_that_is_no_product_takes_few_products(size, monkeypatch):
    psi = fg.Psi(fg.airy_psf(680, 1.1, 100, 2), (size, size), 2, backend="numpy")
    assert psi.axis_matrices is None
    calls, forward = [], fg.Psi.forward
    monkeypatch.setattr(fg.Psi, "forward", lambda self, x: calls.append(1) or forward(self, x))
    norm = psi.norm
    assert 0 < len(calls) <= 60
    # Schur's bound from above, any image from below
    bound = float(np.sqrt(psi.column_sums.max() * forward(psi, np.ones(psi.fine_shape)).max()))
    y = np.outer(*(np.sin(np.pi * (np.arange(size) + 1) / (size + 1)),) * 2)
    below = np.linalg.norm(psi.adjoint(y)) / np.linalg.norm(y)
    assert below <= norm <= bound
    assert bound / below < 1.2
