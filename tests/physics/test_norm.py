"""The norm of the operator: exact for every kind of PSF and field, and found in few products."""

from __future__ import annotations

import numpy as np
import pytest
from psfs import tiny_psf

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


class Counted(fg.Psi):
    """Counts its products."""

    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return super().forward(x)


def counted(psf, shape, factor, **more):
    psi = Counted(psf, shape, factor, backend="numpy", **more)
    Counted.calls = 0
    return psi


@pytest.mark.parametrize("size", [36, 96])
@pytest.mark.parametrize("psf", [fg.airy_psf(680, 1.1, 100, 2), tiny_psf(7, 0.3)], ids=["Airy", "skew"])
def test_a_psf_that_is_no_product_takes_few_products(psf, size):
    """Their number does not grow with the field."""
    psi = counted(psf, (size, size), 2)
    assert psi.axis_matrices is None
    norm = psi.norm
    assert 0 < Counted.calls <= 12
    # Schur's bound from above, any image from below
    bound = float(np.sqrt(psi.column_sums.max() * psi.forward(np.ones(psi.fine_shape)).max()))
    y = np.outer(*(np.sin(np.pi * (np.arange(size) + 1) / (size + 1)),) * 2)
    below = np.linalg.norm(psi.adjoint(y)) / np.linalg.norm(y)
    assert below <= norm <= bound
    assert bound / below < 1.2


def ring(size):
    return (np.abs(np.hypot(*np.indices((size, size)) - size // 2) - size / 3) < 1).astype(float)


@pytest.mark.parametrize(
    ("psf", "shape", "factor"),
    [
        (np.eye(11)[:3], (10, 13), 1),  # a line: the diagonals of the field hardly touch each other
        (np.eye(33)[:17], (19, 24), 4),
        (ring(15), (13, 9), 3),
        (np.random.default_rng(1).random((9, 9)), (11, 12), 2),
        (np.random.default_rng(2).random((13, 5)) ** 8, (20, 8), 1),
    ],
    ids=["line", "line, fine", "ring", "noise", "dots"],
)
@pytest.mark.parametrize("binning", ["sum", "point"])
def test_the_norm_of_a_psf_unlike_a_blur(psf, shape, factor, binning):
    psi = fg.Psi(psf, shape, factor, binning=binning, backend="numpy")
    assert psi.axis_matrices is None
    with np.errstate(all="raise"):
        norm = psi.norm
    assert norm == pytest.approx(largest_singular_value(psi), rel=1e-12)


def test_sines_that_do_not_serve_leave_it_to_lanczos():
    psi = counted(np.eye(33)[:17], (19, 24), 4, binning="point")
    assert psi.norm == pytest.approx(largest_singular_value(psi), rel=1e-12)
    assert Counted.calls > 25
