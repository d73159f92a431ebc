"""The image of a bead becomes a PSF: no pedestal of noise, and what spoils it is named."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy.special import erf

import fluogan_core as fg
from fluogan_core.physics.psf import FWHM_PER_SIGMA, psf_sigma

PX, ZOOM, FWHM = 100.0, 4, 300.0


def bead(
    window: int, photons: float, seed: int, *, at=((0.2, -0.3),), light=7.0, offset=90.0, noise=2.5, gain=1.0
) -> np.ndarray:
    """Counts of Gaussian beads seen through camera pixels, placed relative to the middle of the window."""
    rng = np.random.default_rng(seed)
    edges = np.arange(window + 1)
    image = np.full((window, window), light)
    for place in at:
        lines = [np.diff(erf((edges - window / 2 - where) * PX * FWHM_PER_SIGMA / FWHM / np.sqrt(2))) / 2 for where in place]
        image += photons * np.outer(*lines)
    return np.rint(gain * rng.poisson(image) + 90.0 + noise * rng.standard_normal(image.shape))


def width_and_far_light(psf: np.ndarray) -> tuple[float, float]:
    """FWHM of a Gaussian of equal energy, nm, and the part of the light beyond 450 nm."""
    down, across = (np.arange(size) - size // 2 for size in psf.shape)
    far = np.hypot(down[:, None], across) * PX / ZOOM > 450
    return psf_sigma(psf) * FWHM_PER_SIGMA * PX / ZOOM, float(psf[far].sum())


@pytest.mark.parametrize("window", [17, 25, 42])
@pytest.mark.parametrize("photons", [3000, 10_000, 100_000])
def test_noise_leaves_no_pedestal(window, photons):
    found = np.array([width_and_far_light(fg.measured_psf(bead(window, photons, seed), zoom=ZOOM)) for seed in range(12)])
    assert abs(np.mean(found[:, 0]) / FWHM - 1) < 0.015
    assert np.abs(found[:, 0] / FWHM - 1).max() < (0.05 if photons == 3000 else 0.03)
    assert found[:, 1].mean() < 0.015
    assert found[:, 1].max() < 0.03


def test_the_background_may_be_given_and_the_gain_does_not_matter():
    image = bead(25, 20_000, 3, gain=2.2)
    plain, given = fg.measured_psf(image, zoom=ZOOM), fg.measured_psf(image, background=90 + 2.2 * 7, zoom=ZOOM)
    for psf in (plain, given):
        width, far = width_and_far_light(psf)
        assert width == pytest.approx(FWHM, rel=0.02)
        assert far < 0.02


@pytest.mark.parametrize("top", [0.5, 0.7])
def test_a_saturated_bead_is_refused(top):
    image = bead(25, 10_000, 4)
    with pytest.raises(ValueError, match=r"saturated: .* less exposure"):
        fg.measured_psf(np.minimum(image, np.rint(top * image.max())), zoom=ZOOM)


@pytest.mark.parametrize("place", [(11.5, 0.0), (-3.0, -12.2)])
def test_a_bead_at_the_border_is_refused(place):
    for at in ((place,), ((0.0, 0.0), place)):
        with pytest.raises(ValueError, match="at the border; cut the image out"):
            fg.measured_psf(bead(25, 8000, 5, at=at), zoom=ZOOM)


@pytest.mark.parametrize("place", [(5.0, 4.0), (0.0, -5.5)])
def test_a_second_bead_is_named(place, caplog):
    with caplog.at_level(logging.WARNING, "fluogan_core"):
        fg.measured_psf(bead(27, 8000, 6), zoom=ZOOM)
        assert not caplog.messages
        fg.measured_psf(bead(27, 8000, 6, at=((0.0, 0.0), place)), zoom=ZOOM)
    assert "second maximum at row" in caplog.text


def test_a_far_second_bead_does_not_widen_the_first(caplog):
    psf = fg.measured_psf(bead(31, 9000, 7, at=((-4.0, -4.0), (8.0, 8.0))), zoom=ZOOM)
    width, far = width_and_far_light(psf)
    assert width == pytest.approx(FWHM, rel=0.04)
    assert far < 0.03


def test_rings_of_an_airy_pattern_are_not_other_beads(caplog):
    psf = fg.airy_psf(600, 1.2, 50, 1)
    image = np.random.default_rng(8).poisson(2e5 * psf + 20) + 100.0
    with caplog.at_level(logging.WARNING, "fluogan_core"):
        found = fg.measured_psf(image)
    assert not caplog.messages
    assert psf_sigma(found) == pytest.approx(psf_sigma(psf), rel=0.03)


@pytest.mark.parametrize("window", [15, 31, 64])
def test_noise_without_a_bead_is_refused(window):
    for seed in range(8):
        noise = 100 + np.random.default_rng(seed).normal(0, 4, (window, window))
        with pytest.raises(ValueError, match="shows no bead"):
            fg.measured_psf(noise)


@pytest.mark.parametrize("bright", [150, 5000])
def test_a_hot_pixel_is_no_bead(bright):
    for seed in range(4):
        image = 100 + np.random.default_rng(seed).normal(0, 4, (25, 25))
        image[11, 13] += bright
        with pytest.raises(ValueError, match="in one pixel, row 11, column 13"):
            fg.measured_psf(image, zoom=4)
