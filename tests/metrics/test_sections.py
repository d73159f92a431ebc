"""Cross-sections of a mean frame, and the cones of profiles."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.metrics.sections import Optic, Section, distance, line_spread, width_of

PSF = fg.gaussian_psf(318, 100, 4)
PSI = fg.Psi(PSF, (36, 36), 4, backend="numpy")
OPTIC = Optic(PSF, 4)
MIDDLE = (71.5, 71.5)


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 4, math.pi / 2])
def test_the_line_spread_has_the_light_and_the_second_moment_of_psf_and_pixel(angle):
    spread = line_spread(PSF, 4, True, angle)
    assert spread.sum() / 4 == pytest.approx(1)
    variance = (PSF.sum(axis=0) * (np.arange(len(PSF)) - len(PSF) // 2) ** 2).sum() + (4**2 - 1) / 12
    q = (np.arange(len(spread)) - len(spread) // 2) / 4
    assert (spread * q * q).sum() / spread.sum() == pytest.approx(variance, rel=1e-6)
    assert width_of(spread) == pytest.approx(math.sqrt(8 * math.log(2) * variance), rel=2e-3)


def test_the_tails_of_an_airy_pattern_do_not_count_for_its_width():
    """A line through a lens without aberrations is 0.47 to 0.55 wavelengths over NA wide, camera pixel included."""
    assert Optic(fg.airy_psf(525, 1.4, 80, 4), 4).width * 20 == pytest.approx(0.51 * 525 / 1.4, rel=0.08)


def image(profile, angle, askew=0.0):
    """An image of stripes whose profile across them is given."""
    rows, columns = np.mgrid[:144, :144] - 71.5
    q = rows * math.sin(angle + askew) + columns * math.cos(angle + askew)
    return profile(q)


def lines(q, separation=9.0):
    return sum(np.exp(-0.5 * ((q - s * separation / 2) / 1.5) ** 2) for s in (-1, 1))


@pytest.mark.parametrize("angle", [0.0, 0.5, math.pi / 3])
def test_a_section_of_the_blurred_image_is_the_blurred_profile(angle):
    section = Section(PSI.shape, OPTIC, MIDDLE, angle, 40.0)
    seen = section.of(PSI.forward(image(lines, angle)))
    expected = section.spread @ lines(section.sources) * 16
    assert seen == pytest.approx(expected, abs=2e-4 * expected.max())


def test_a_strip_that_is_askew_still_sees_a_non_negative_profile():
    section = Section(PSI.shape, OPTIC, MIDDLE, 0.0, 40.0)
    seen = section.of(PSI.forward(image(lines, 0.0, askew=0.02)))
    assert distance(seen, section.spread)[0] < 1e-3 * np.linalg.norm(seen)


def test_profiles_with_one_top_are_in_the_cone_and_pairs_are_not():
    section = Section(PSI.shape, OPTIC, MIDDLE, 0.0, 40.0)
    cone = section.without_gap(1.0, 20.0)
    for bar in ((-6, 9), (-2, 1.0), (1.0, 3.5)):
        target = section.bars(np.array([bar[0]]), np.array([bar[1]]))[:, 0]
        assert distance(target, cone)[0] < 3e-3 * np.linalg.norm(target)
    pair = section.pair(12.0)[:, 0]
    away, weights = distance(pair, cone)
    assert away > 0.03 * np.linalg.norm(pair)
    assert np.linalg.norm(cone @ weights - pair) == pytest.approx(away)


def test_gaussians_are_as_fine_as_they_are():
    section = Section(PSI.shape, OPTIC, MIDDLE, 0.0, 40.0)
    bell = section.spread @ np.exp(-4 * math.log(2) * (section.sources / 10) ** 2)
    assert distance(bell, section.no_finer(10.0))[0] < 1e-6 * np.linalg.norm(bell)
    assert distance(bell, section.no_finer(8.0))[0] < 1e-4 * np.linalg.norm(bell)
    assert distance(bell, section.no_finer(13.0))[0] > 0.01 * np.linalg.norm(bell)


def test_the_noise_of_the_bins_is_what_independent_pixels_give():
    section = Section(PSI.shape, OPTIC, MIDDLE, 0.7, 30.0)
    variance = np.random.default_rng(0).uniform(1, 3, PSI.shape)
    draws = np.random.default_rng(1).standard_normal((4000, *PSI.shape)) * np.sqrt(variance)
    assert np.cov(section.of(draws).T) == pytest.approx(
        section.covariance(variance), abs=0.15 * section.covariance(variance).max()
    )


def test_a_strip_at_the_border_has_what_lies_inside():
    section = Section(PSI.shape, OPTIC, (2.0, 71.5), math.pi / 2, 40.0)
    assert len(section.spread) < len(Section(PSI.shape, OPTIC, MIDDLE, math.pi / 2, 40.0).spread)
    assert np.isfinite(section.spread).all()
