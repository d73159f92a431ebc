"""Pairs of lines: resolved or not, how far apart, how bright, and a reason where no distance is given."""

import math

import numpy as np
import pytest
from scenes import region_of_a_pair
from scipy.ndimage import gaussian_filter

import fluogan_core as fg
from fluogan_core.metrics.lines import RAYLEIGH_DIP, find_lines, line_fluxes, line_profile, pair_report


def blurred_lines(positions_nm, sigma_nm, fine_nm=25.0, size=128, heights=None):
    """A profile of Gaussian lines on no background."""
    centres = (np.arange(size) + 0.5) * fine_nm
    heights = np.ones(len(positions_nm)) if heights is None else heights
    return sum(h * np.exp(-0.5 * ((centres - p) / sigma_nm) ** 2) for h, p in zip(heights, positions_nm))


def test_a_profile_averages_along_the_lines_and_within_the_span():
    x = np.arange(24.0).reshape(4, 6)
    assert np.array_equal(line_profile(x), x.mean(axis=0))
    assert np.array_equal(line_profile(x, axis=1), x.mean(axis=1))
    # Fine pixels of 10 nm: rows 1 and 2 have their centres, 15 and 25 nm, inside.
    assert np.array_equal(line_profile(x, fine_nm=10, span_nm=(14, 25)), x[1:3].mean(axis=0))


def test_a_span_needs_its_unit_and_some_pixels():
    with pytest.raises(TypeError, match="fine_nm"):
        line_profile(np.ones((4, 4)), span_nm=(0, 1))
    with pytest.raises(ValueError, match="no fine pixel"):
        line_profile(np.ones((4, 4)), fine_nm=10, span_nm=(41, 50))


@pytest.mark.parametrize("separation", fg.phantom.ARGOLIGHT_SEPARATIONS_NM)
@pytest.mark.parametrize("factor", [4, 6])
def test_the_truth_is_resolved_at_its_own_distance(separation, factor):
    pattern = region_of_a_pair(separation, factor)
    report = pair_report(pattern.x, pattern)
    assert report.resolved, report.reason
    # A line of constant brightness has its peak in the middle of the fine pixels that it covers wholly: each end is known
    # to a fine pixel, the middle to half of one, the distance to one.
    assert abs(report.distance_nm - separation) <= 100 / factor
    assert report.dip >= RAYLEIGH_DIP


@pytest.mark.parametrize("shift", [0.0, 4.0, 11.0, 20.0])
def test_peaks_are_found_between_the_pixels(shift):
    places = np.array([950.0, 1500.0, 1740.0, 2250.0]) + shift
    lines = find_lines(blurred_lines(places, 60.0), 100, 4)
    assert lines.reason == ""
    # Half the prominence lies 57 nm off a line of the pair; the other line adds 0.0095 there, on a slope of 0.0101 per nm, and
    # moves the middle by half of that, 0.5 nm.  Interpolating between samples adds 25^2 / 8 times the curvature over the
    # slope, below 0.3 nm where the flank is bent most.
    assert np.allclose(lines.positions_nm, places, atol=0.8)
    assert np.allclose(lines.distances_nm, np.diff(places), atol=1.6)
    # Two equal samples have no parabola and lie half a pixel, exp(-(12.5 / 60)^2 / 2) = 0.978, off the top.
    assert np.allclose(lines.heights, 1.0, atol=0.025)


def test_horns_move_the_peaks_but_not_the_middles():
    """Lines 100 nm wide whose outer edges overshoot by a third, as a deconvolution makes them."""
    pattern = region_of_a_pair(200)
    profile = pattern.x[64].copy()
    profile[[58, 69]] *= 4 / 3  # the pair's outermost fine pixels: the lines cover 1450 to 1550 and 1650 to 1750 nm
    report = pair_report(gaussian_filter(profile, 0.6), pattern)
    assert report.resolved
    assert report.peak_distance_nm > 240
    # the level rises by a sixth of a line's height on flanks that fall within two fine pixels: at most 25 / 3 nm per line
    assert report.error_nm == report.distance_nm - 200
    assert abs(report.error_nm) < 2 * 25 / 3


@pytest.mark.parametrize("separation", [120.0, 390.0])
def test_every_profile_can_be_judged(separation, rng):
    """Peaks anywhere, next to where the group's middle ends too."""
    pattern = region_of_a_pair(separation)
    for profile in gaussian_filter(rng.random((200, 128)) ** 4, (0, 1.0)):
        report = pair_report(profile, pattern)
        assert len(report.positions_nm) == len(report.peaks_nm)
        assert (report.distance_nm is None) == (len(report.peaks_nm) != 2)
        assert report.resolved == (report.reason == "")


def test_the_light_of_each_line_is_its_own():
    pattern = region_of_a_pair(240, shift_nm=(0.0, 13.0))
    amplitudes = np.array([1.0, 2.0, 3.0, 4.0])
    fine = 25.0
    edges = np.arange(129) * fine
    x = np.zeros_like(pattern.x)
    for place, level in zip(pattern.lines_nm[0], amplitudes):
        x += level * np.diff(np.clip(edges, place - 50, place + 50)) / fine
    # a line covers 100 / 25 fine pixels in each of 128 rows
    assert line_fluxes(x, pattern) == pytest.approx(amplitudes * 4 * 128)
    assert line_fluxes(x, pattern).sum() == pytest.approx(x.sum())
    with pytest.raises(ValueError, match="fine grid"):
        line_fluxes(x[:64], pattern)


def test_dips_are_those_of_the_profile():
    lines = find_lines(blurred_lines([1000.0, 1150.0], 60.0), 100, 4)
    top = 1 + math.exp(-0.5 * (150 / 60) ** 2)
    middle = 2 * math.exp(-0.5 * (75 / 60) ** 2)
    # Samples lie up to half a fine pixel from the middle, and the peaks lean a little towards each other.
    assert lines.dips[0] == pytest.approx(1 - middle / top, abs=0.03)


def test_lines_along_the_other_axis_are_found_too():
    image = np.tile(blurred_lines([1000.0, 1600.0], 60.0), (128, 1))
    down = find_lines(image.T, 100, 4, axis=1)
    assert np.allclose(down.positions_nm, find_lines(image, 100, 4).positions_nm)


def test_a_line_at_the_border_and_a_flat_top_are_peaks():
    profile = np.array([3.0, 1.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0])
    lines = find_lines(profile, 10, 1)
    # The border cuts the first line: it begins there and ends where the profile falls to 1.5, three quarters of the way on
    # from the first sample's middle.
    assert lines.positions_nm == ((0.0 + 12.5) / 2, 50.0)
    assert lines.distances_nm == (43.75,)
    assert lines.dips == (1.0,)


@pytest.mark.parametrize(
    ("profile", "reason"),
    [(np.full(32, 3.0), "flat"), (np.zeros(32), "flat"), (blurred_lines([1600.0], 60.0), "one line")],
)
def test_no_distances_come_with_a_reason(profile, reason):
    lines = find_lines(profile, 100, 4)
    assert lines.distances_nm == ()
    assert reason in lines.reason


def test_ripples_below_the_prominence_are_no_lines():
    places = [950.0, 1500.0, 1740.0, 2250.0]
    ripple = 0.03 * np.cos(np.arange(128) * 2.5)
    assert len(find_lines(blurred_lines(places, 60.0) + ripple, 100, 4).positions_nm) == 4
    assert len(find_lines(blurred_lines(places, 60.0) + ripple, 100, 4, prominence=0.001).positions_nm) > 4


def test_a_blurred_pair_is_one_peak_and_says_so():
    pattern = region_of_a_pair(180)
    report = pair_report(gaussian_filter(pattern.x, 135 / 25), pattern)
    assert not report.resolved
    assert report.distance_nm is None
    assert report.dip == 0
    assert "merged" in report.reason


@pytest.mark.parametrize("separation", [120.0, 240.0])
def test_a_uniform_bar_is_not_a_pair(separation):
    pattern = region_of_a_pair(separation, control=True)
    report = pair_report(pattern.x, pattern)
    assert not report.resolved
    split = pair_report(region_of_a_pair(separation).x, pattern)
    assert split.resolved  # a method that splits the bar is found out


def test_a_shallow_dip_does_not_count():
    pattern = region_of_a_pair(300)
    profile = blurred_lines(pattern.lines_nm[0], 121.0)
    report = pair_report(profile, pattern)
    assert len(report.peaks_nm) == 2
    assert 0.05 < report.dip < RAYLEIGH_DIP
    assert not report.resolved
    assert "dip" in report.reason


def test_a_line_in_the_wrong_place_does_not_count():
    pattern = region_of_a_pair(240)
    places = np.array(pattern.lines_nm[0])
    places[2] += 70
    report = pair_report(blurred_lines(places, 40.0), pattern)
    assert report.distance_nm == pytest.approx(310.0, abs=1.0)
    assert not report.resolved
    assert "70 nm off" in report.reason


def test_something_between_the_lines_does_not_count():
    pattern = region_of_a_pair(360)
    places = [*pattern.lines_nm[0], pattern.centres_nm[0]]
    report = pair_report(blurred_lines(places, 40.0, heights=[1, 1, 1, 1, 0.5]), pattern)
    assert not report.resolved
    assert "between" in report.reason


def test_the_flanks_of_the_outer_lines_are_not_the_pair():
    pattern = region_of_a_pair(240)
    places = pattern.lines_nm[0]
    report = pair_report(blurred_lines([places[0], places[3]], 150.0, heights=[3, 3]), pattern)
    assert report.peaks_nm == ()
    assert report.reason == "no peak"


def test_a_dark_middle_is_said_to_be_dark():
    pattern = region_of_a_pair(240)
    assert "dark" in pair_report(np.zeros_like(pattern.x), pattern).reason


def test_each_group_of_the_whole_pattern_is_judged_in_its_place():
    pattern = fg.argolight_pattern(pixel_size_nm=103, factor=6)
    reports = [pair_report(pattern.x, pattern, group) for group in range(10)]
    assert all(report.resolved for report in reports)
    assert [report.separation_nm for report in reports] == list(pattern.separations_nm)


def test_an_image_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="fine grid"):
        pair_report(np.ones((32, 32)), region_of_a_pair(240))
    with pytest.raises(ValueError, match="group"):
        pair_report(region_of_a_pair(240).x, region_of_a_pair(240), 1)
