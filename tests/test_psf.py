"""Point spread functions: centred, normalised, of the width asked for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import j1

import fluogan_core as fg


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
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
