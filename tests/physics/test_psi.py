"""The operator: against brute force, its adjoint, columns, energies and norm, on both paths."""

from __future__ import annotations

import numpy as np
import pytest
from psfs import tiny_psf
from scipy.signal import convolve

import fluogan_core as fg
from fluogan_core.testing import assert_adjoint

CASES = [
    # shape, factor, PSF
    ((6, 6), 4, "separable"),
    ((7, 5), 3, "skewed"),
    ((5, 9), 2, "separable"),
    ((8, 3), 5, "skewed"),
    ((9, 11), 1, "skewed"),
    ((1, 6), 5, "separable"),
]


def make(shape, factor, kind, **options):
    return fg.Psi(tiny_psf(5, skew=0.0 if kind == "separable" else 0.15), shape, factor, **options)


def methods(kind):
    return ("products", "convolutions") if kind == "separable" else ("convolutions",)


@pytest.mark.parametrize("binning", ["sum", "point"])
@pytest.mark.parametrize(("shape", "factor", "kind"), CASES)
def test_forward_is_blur_then_binning(backend, rng, shape, factor, kind, binning):
    for method in methods(kind):
        psi = make(shape, factor, kind, binning=binning, photons_per_emitter=3.0, method=method, backend=backend)
        x = rng.standard_normal((2, 3, *psi.fine_shape))
        blurred = np.stack([convolve(image, psi.psf, mode="full") for image in x.reshape(-1, *psi.fine_shape)])
        r1, r2 = (n // 2 for n in psi.psf.shape)
        blurred = blurred[:, r1 : r1 + psi.fine_shape[0], r2 : r2 + psi.fine_shape[1]]
        blocks = blurred.reshape(-1, shape[0], factor, shape[1], factor)
        expected = blocks.sum(axis=(2, 4)) if binning == "sum" else blocks[:, :, factor // 2, :, factor // 2]
        got = backend.to_host(psi.forward(backend.asarray(x)))
        assert got.dtype == np.float64
        np.testing.assert_allclose(got.reshape(expected.shape), 3.0 * expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("binning", ["sum", "point"])
@pytest.mark.parametrize(("shape", "factor", "kind"), CASES)
def test_adjoint(backend, shape, factor, kind, binning, dtype):
    for method in methods(kind):
        psi = make(shape, factor, kind, binning=binning, method=method, backend=backend)
        fine, camera = (3, *psi.fine_shape), (3, *psi.shape)
        assert_adjoint(psi.forward, psi.adjoint, fine, camera, dtype=dtype, backend=backend)
        assert_adjoint(psi.squared_forward, psi.squared_adjoint, fine, camera, dtype=dtype, backend=backend)


@pytest.mark.parametrize("binning", ["sum", "point"])
@pytest.mark.parametrize(("shape", "factor", "kind"), CASES)
def test_columns_are_forward_of_unit_images(backend, shape, factor, kind, binning):
    psi = make(shape, factor, kind, binning=binning, photons_per_emitter=2.5, backend=backend)
    n = psi.fine_shape[0] * psi.fine_shape[1]
    matrix = backend.to_host(psi.forward(backend.asarray(np.eye(n).reshape(n, *psi.fine_shape)))).reshape(n, -1)
    columns = np.stack([backend.to_host(psi.column(divmod(i, psi.fine_shape[1]))).ravel() for i in range(n)])
    np.testing.assert_allclose(columns, matrix, atol=1e-13)
    np.testing.assert_allclose(backend.to_host(psi.column_sums).ravel(), matrix.sum(axis=1), atol=1e-13)
    np.testing.assert_allclose(backend.to_host(psi.column_energies).ravel(), (matrix**2).sum(axis=1), atol=1e-13)
    squared = backend.to_host(psi.squared_forward(backend.asarray(np.ones(psi.fine_shape)))).ravel()
    np.testing.assert_allclose(squared, (matrix**2).sum(axis=0), atol=1e-13)
    assert psi.norm == pytest.approx(np.linalg.svd(matrix, compute_uv=False)[0], rel=1e-12)


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, -2), (2, 1), (-1, 3), (9, 0)])
@pytest.mark.parametrize(("shape", "factor", "kind"), CASES)
def test_pairs_of_pixels_share_the_light_of_the_same_emissions(backend, rng, shape, factor, kind, shift):
    for method in methods(kind):
        psi = make(shape, factor, kind, photons_per_emitter=2.5, method=method, backend=backend)
        x = rng.random((2, *psi.fine_shape))
        units = backend.asarray(np.eye(shape[0] * shape[1]).reshape(-1, *shape))
        rows = backend.to_host(psi.adjoint(units)).reshape(*shape, -1)
        got = backend.to_host(psi.paired_forward(backend.asarray(x), shift))
        assert got.shape == (2, *shape)
        for j in np.ndindex(*shape):
            k = (j[0] + shift[0], j[1] + shift[1])
            if 0 <= k[0] < shape[0] and 0 <= k[1] < shape[1]:
                expected = (rows[j] * rows[k] * x.reshape(2, -1)).sum(axis=1)
                np.testing.assert_allclose(got[:, j[0], j[1]], expected, atol=1e-12)


def test_both_paths_agree_in_float32_on_a_realistic_field(rng):
    psf = fg.gaussian_psf(318, 100, 4)
    x = rng.random((3, 68, 84), dtype=np.float32)
    products, convolutions = (fg.Psi(psf, (17, 21), 4, method=m) for m in ("products", "convolutions"))
    y = products.forward(x)
    assert y.dtype == np.float32
    np.testing.assert_allclose(convolutions.forward(x), y, atol=2e-6 * float(y.max()))


def test_columns_sum_to_kappa_inside_the_field():
    psf = fg.gaussian_psf(200, 100, 2, truncate=4)
    integrating = fg.Psi(psf, (20, 20), 2, photons_per_emitter=7.0)
    assert integrating.column_sums[20, 20] == pytest.approx(7.0)
    sampling = fg.Psi(psf, (20, 20), 2, binning="point", photons_per_emitter=7.0)
    assert sampling.column_sums[18:22, 18:22].mean() == pytest.approx(7.0 / 4, rel=1e-3)
    assert sampling.column_sums.max() < 7.0


def test_auto_takes_products_for_narrow_psfs_and_convolutions_for_wide_ones():
    narrow, wide = (fg.gaussian_psf(fwhm, 100, 4) for fwhm in (318, 4000))
    assert fg.Psi(narrow, (32, 32), 4, backend="numpy").method == "products"
    assert fg.Psi(narrow, (512, 512), 4, backend="numpy").method == "products"
    assert fg.Psi(wide, (512, 512), 4, backend="numpy").method == "convolutions"
    assert fg.Psi(tiny_psf(5, skew=0.1), (16, 16), 4).method == "convolutions"


def test_batches_do_not_depend_on_the_memory_budget(rng):
    small, large = (fg.Psi(tiny_psf(5, 0.1), (6, 7), 3, memory_budget=m) for m in (1, 2**30))
    x = rng.standard_normal((5, 18, 21))
    np.testing.assert_array_equal(small.forward(x), large.forward(x))
    y = rng.standard_normal((5, 6, 7))
    np.testing.assert_array_equal(small.adjoint(y), large.adjoint(y))


def test_inputs_are_left_alone_and_integers_become_float32(rng):
    psi = fg.Psi(tiny_psf(), (6, 6), 2)
    x = rng.integers(0, 9, psi.fine_shape)
    before = x.copy()
    assert psi.forward(x).dtype == np.float32
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fg.Psi(tiny_psf(5), (1, 1), 2), "larger than the field"),
        (lambda: fg.Psi(np.ones((4, 4)), (8, 8), 2), "odd sizes"),
        (lambda: fg.Psi(-np.ones((3, 3)), (8, 8), 2), "non-negative"),
        (lambda: fg.Psi(np.ones(3), (8, 8), 2), "2-D"),
        (lambda: fg.Psi(tiny_psf(), (8, 8), 0), "factor must be at least 1"),
        (lambda: fg.Psi(tiny_psf(), (8, 8), 2, binning="mean"), "binning must be one of"),
        (lambda: fg.Psi(tiny_psf(), (8, 8), 2, photons_per_emitter=0), "photons_per_emitter must be greater than 0"),
        (lambda: fg.Psi(tiny_psf(5, 0.1), (8, 8), 2, method="products"), "separable"),
        (lambda: fg.Psi(tiny_psf(), 8, 2), r"shape must be \(rows, columns\)"),
        (lambda: fg.Psi(tiny_psf(), (8, 8), 2).forward(np.zeros((8, 8))), r"x must have shape \(..., 16, 16\)"),
        (lambda: fg.Psi(tiny_psf(), (8, 8), 2).forward([[0.0]]), "x must be a NumPy or CuPy array"),
        (lambda: fg.Psi(tiny_psf(), (8, 8), 2).forward(np.zeros((16, 16), complex)), "real"),
        (lambda: fg.Psi(tiny_psf(), (8, 8), 2).column((16, 0)), "outside the field"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises((ValueError, TypeError, IndexError), match=message):
        call()


def test_another_psf_leaves_all_else_alike():
    psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (20, 22), 2, binning="point", photons_per_emitter=3.0, memory_budget=2**26)
    wider = fg.gaussian_psf(400, 100, 2)
    other = psi.replaced(psf=wider)
    np.testing.assert_allclose(other.psf, wider, rtol=1e-12)  # normalised once more
    for name in ("shape", "factor", "binning", "photons_per_emitter", "backend", "memory_budget"):
        assert getattr(other, name) == getattr(psi, name), name


def test_a_scaled_operator_is_that_of_the_wider_psf_cut_to_the_field():
    psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (32, 32), 2, photons_per_emitter=3.0, backend="numpy")
    assert psi.scaled(1) is psi
    wider, wanted = psi.scaled(1.1), psi.replaced(psf=fg.gaussian_psf(1.1 * 318, 100, 2))
    x = np.random.default_rng(0).random(psi.fine_shape)
    np.testing.assert_allclose(wider.forward(x), wanted.forward(x), rtol=2e-3)
    narrow = fg.Psi(fg.gaussian_psf(318, 100, 2), (15, 20), 2, backend="numpy")
    assert narrow.scaled(1.3).psf.shape == (29, 39)
    with pytest.raises(ValueError, match="width must be at least"):
        psi.scaled(0)
