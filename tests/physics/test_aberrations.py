"""PSFs of aberrated pupils: what they are without aberrations, their width and place, and what spans their changes."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.physics.aberrations import aberrated_psf, core_width, shape_changes

FWHM, SIZE = 6.36, 41


def test_without_aberrations_it_is_the_airy_psf():
    airy = fg.airy_psf(FWHM * 50 / 0.5145 * 1.2, 1.2, 100, 2, radius_nm=1000)
    psf = aberrated_psf(FWHM, np.zeros(7), SIZE)
    assert airy.shape == psf.shape
    assert np.linalg.norm(psf - airy) < 0.01 * np.linalg.norm(airy)


@pytest.mark.parametrize("waves", [np.eye(7)[2] * 0.08, [0.04, -0.02, 0.03, 0.02, -0.01, 0.02, -0.03]])
def test_the_core_is_as_wide_as_told_and_in_the_middle(waves):
    psf = aberrated_psf(FWHM, waves, SIZE)
    assert psf.sum() == pytest.approx(1.0)
    assert core_width(psf) == pytest.approx(FWHM, rel=0.01)
    core, axis = np.where(psf > 0.5 * psf.max(), psf, 0.0), np.arange(SIZE) - SIZE // 2
    # on whole pixels the border of the core is coarse
    assert np.abs([(core.sum(axis=1 - k) * axis).sum() / core.sum() for k in (0, 1)]).max() < 0.3


def test_a_round_psf_that_is_turned_has_the_turned_changes():
    """The span of the components holds the transpose and the mirror image of each of them."""
    changes = shape_changes(aberrated_psf(FWHM, np.zeros(7), SIZE), 0.06, 10, 0.03)
    assert np.abs(changes.sum(axis=(1, 2))).max() < 1e-12
    flat = changes.reshape(len(changes), -1)
    for turned in (changes.transpose(0, 2, 1), changes[:, ::-1], changes[:, :, ::-1]):
        turned = turned.reshape(len(changes), -1)
        left = turned - np.linalg.lstsq(flat.T, turned.T, rcond=None)[0].T @ flat
        assert np.linalg.norm(left, axis=1).max() < 1e-6 * np.linalg.norm(flat, axis=1).min()


def test_few_changes_span_mild_aberrations():
    """Pupils with all aberrations at once, which are none of those that the components are made of."""
    rng = np.random.default_rng(0)
    ideal = aberrated_psf(FWHM, np.zeros(7), SIZE)
    flat = shape_changes(ideal, 0.06, 10, 0.03).reshape(-1, SIZE**2)
    for _ in range(5):
        waves = rng.normal(size=7)
        change = (aberrated_psf(FWHM, 0.06 * waves / np.linalg.norm(waves), SIZE) - ideal).ravel()
        left = change - flat.T @ np.linalg.lstsq(flat.T, change, rcond=None)[0]
        assert np.linalg.norm(left) < 0.2 * np.linalg.norm(change)


def test_changes_have_the_shape_of_the_psf():
    psf = fg.gaussian_psf(318, 100, 2)[3:-3]
    changes = shape_changes(psf / psf.sum(), 0.06, 5, 0.03)
    assert changes.shape[1:] == psf.shape
    assert len(changes) >= 6
