"""Point spread functions: centred, normalised, of the width asked for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import j1

import fluogan_core as fg
from fluogan_core.physics.psf import FWHM_PER_SIGMA, cut_psf, scaled_psf


@pytest.mark.parametrize("factor", [1, 2, 4, 5])
def test_gaussian_is_centred_normalised_and_as_wide_as_asked(factor):
    psf = fg.gaussian_psf(fwhm_nm=318, pixel_size_nm=100, factor=factor, truncate=8)
    assert psf.shape[0] % 2 == 1
    assert psf.sum() == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(psf, psf[::-1, ::-1], rtol=0, atol=1e-18)
    axis = (np.arange(psf.shape[0]) - psf.shape[0] // 2) * 100 / factor
    line = psf.sum(axis=1)
    # the sampled second moment equals sigma^2 to aliasing error, far below 1e-6 at this width
    assert (line * axis**2).sum() == pytest.approx((318 / 2.354820045) ** 2, rel=1e-6)
    centre = psf.shape[0] // 2
    assert psf[centre, centre] == psf.max()


def test_airy_has_its_zero_at_061_wavelength_over_na():
    psf = fg.airy_psf(wavelength_nm=600, na=1.2, pixel_size_nm=100, factor=20)
    line = psf[psf.shape[0] // 2, psf.shape[0] // 2 :]
    first_minimum = int(np.flatnonzero((line[1:-1] < line[:-2]) & (line[1:-1] < line[2:]))[0] + 1) * 5.0
    assert first_minimum == pytest.approx(0.61 * 600 / 1.2, abs=5.0)
    assert psf.sum() == pytest.approx(1)
    v = 2 * np.pi * 1.2 / 600 * 50.0
    assert line[10] / line[0] == pytest.approx((2 * j1(v) / v) ** 2, rel=1e-12)


def test_measured_psf_is_recentred_and_trimmed():
    image = np.full((14, 15), 3.0)
    image[6:9, 7:10] += np.outer([1, 2, 1], [1, 2, 1])
    psf = fg.measured_psf(image)
    assert psf.shape == (13, 13)
    assert psf.sum() == pytest.approx(1)
    assert np.unravel_index(psf.argmax(), psf.shape) == (6, 6)


def test_a_measured_psf_between_pixels_is_moved_onto_one():
    axis = np.arange(31.0)
    image = 5 + np.exp(-0.5 * (((axis[:, None] - 14.7) / 3) ** 2 + ((axis - 15.4) / 3) ** 2))
    psf = fg.measured_psf(image, background=5)
    np.testing.assert_allclose(psf, psf[::-1, ::-1], rtol=0, atol=1e-3 * psf.max())
    wanted = fg.gaussian_psf(3 * FWHM_PER_SIGMA, 1, 1)
    assert np.abs(psf - cut_psf(wanted, psf.shape)).max() < 1e-3 * psf.max()


@pytest.mark.parametrize(("pixel_nm", "tolerance"), [(100.0, 1e-2), (25.0, 1e-6), (10.0, 1e-4)])
def test_a_measured_psf_of_other_pixels_is_sampled_on_the_fine_grid(pixel_nm, tolerance):
    """A Gaussian seen out to 700 nm through pixels of its own, onto a fine grid of 25 nm; larger ones take means."""
    axis = np.arange(-round(700 / pixel_nm), round(700 / pixel_nm) + 1) * pixel_nm
    inside = (np.arange(round(pixel_nm / 25)) - (round(pixel_nm / 25) - 1) / 2) * 25 if pixel_nm > 25 else np.zeros(1)
    line = np.exp(-0.5 * ((axis[:, None] + inside) * FWHM_PER_SIGMA / 318) ** 2).mean(axis=1)
    psf = fg.measured_psf(7 * np.outer(line, line), background=0, zoom=pixel_nm / 25)
    assert psf.shape == (57, 57)
    wanted = cut_psf(fg.gaussian_psf(318, 100, 4, truncate=8), psf.shape)
    assert np.abs(psf - wanted).max() < tolerance * wanted.max()


@pytest.mark.parametrize("width", [0.8, 0.95, 1.05, 1.4])
def test_a_scaled_gaussian_is_the_gaussian_of_that_width(width):
    psf = fg.gaussian_psf(318, 100, 4)
    scaled = scaled_psf(psf, width)
    wanted = fg.gaussian_psf(318 * width, 100, 4, truncate=8)
    radius = scaled.shape[0] // 2
    middle = wanted.shape[0] // 2
    wanted = wanted[middle - radius : middle + radius + 1, middle - radius : middle + radius + 1]
    assert scaled.sum() == pytest.approx(1, abs=1e-14)
    assert np.abs(scaled - wanted).max() < 2e-4 * wanted.max()
    np.testing.assert_allclose(scaled, scaled[::-1, ::-1], rtol=0, atol=1e-15)


def test_scaling_by_one_changes_nothing_and_sizes_differ_by_axis():
    psf = np.outer([1, 2, 1], [1, 3, 5, 3, 1]) / 52
    np.testing.assert_allclose(scaled_psf(psf, 1.0), psf, rtol=1e-14)
    assert scaled_psf(psf, 1.5).shape == (5, 7)
    assert scaled_psf(psf, 0.5).shape == (3, 3)


def test_a_psf_is_cut_about_its_centre():
    psf = np.arange(35.0).reshape(5, 7)
    np.testing.assert_array_equal(cut_psf(psf, (5, 4)), psf[:, 2:5])
    np.testing.assert_array_equal(cut_psf(psf, (9, 9)), psf)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fg.gaussian_psf(0, 100, 4), "fwhm_nm must be greater than 0"),
        (lambda: fg.gaussian_psf(318, 0, 4), "pixel_size_nm must be greater than 0"),
        (lambda: fg.gaussian_psf(318, 100, 2.5), "factor must be a whole number"),
        (lambda: fg.gaussian_psf(float("nan"), 100, 4), "fwhm_nm must be finite"),
        (lambda: fg.airy_psf(600, -1, 100, 4), "na must be greater than 0"),
        (lambda: fg.measured_psf(np.zeros((5, 5))), "dark"),
        (lambda: fg.measured_psf(np.full((5, 5), np.nan)), "NaN"),
        (lambda: fg.measured_psf(np.zeros(5)), "2-D"),
        (lambda: fg.measured_psf(np.eye(9)[:1].T * np.eye(9)[:1], background=0), "centroid at .0.0, 0.0."),
        (lambda: fg.measured_psf(np.eye(5), zoom=0), "zoom must be at least 0.02"),
        (lambda: scaled_psf(np.ones((4, 3)), 1.1), "odd sizes"),
        (lambda: scaled_psf(-np.ones((3, 3)), 1.1), "negative"),
        (lambda: scaled_psf(np.ones((3, 3)), 0), "width must be at least 0.1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
