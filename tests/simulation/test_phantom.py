"""Patterns with a known answer: geometry, exact edges, flux, and backgrounds."""

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.simulation.phantom import ARGOLIGHT_SEPARATIONS_NM, smooth_background


def roi(separation=180.0, **options):
    return fg.argolight_pattern((separation,), pixel_size_nm=100, factor=4, shape=(32, 32), **options)


def test_the_default_pattern_has_the_ten_groups_of_the_paper():
    pattern = fg.argolight_pattern(pixel_size_nm=103, factor=6)
    assert pattern.separations_nm == ARGOLIGHT_SEPARATIONS_NM == tuple(range(390, 90, -30))
    assert pattern.x.shape == (pattern.shape[0] * 6, pattern.shape[1] * 6)
    assert np.allclose(np.diff(pattern.centres_nm), 2700)
    for centre, d, lines in zip(pattern.centres_nm, pattern.separations_nm, pattern.lines_nm):
        assert np.allclose(lines, [centre - 650, centre - d / 2, centre + d / 2, centre + 650])
    assert pattern.x.min() == 0
    assert pattern.x.max() == 1


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.7, -11.3)])
def test_each_fine_pixel_holds_its_covered_fraction(shift):
    pattern = roi(135.0, shift_nm=shift)
    # Oracle: the same geometry counted on a grid of 0.1 nm, whose error per fine pixel of 25 nm is two cells per line.
    cells = (np.arange(32_000) + 0.5) * 0.1
    across = np.zeros(cells.size)
    for line in pattern.lines_nm[0]:
        across += np.abs(cells - line) < 50
    down = ((cells > pattern.span_nm[0]) & (cells < pattern.span_nm[1])).astype(float)
    expected = np.outer(down.reshape(128, 250).mean(axis=1), across.reshape(128, 250).mean(axis=1))
    assert np.abs(pattern.x - expected).max() <= 3 / 250


@pytest.mark.parametrize(("pixel", "factor"), [(100, 4), (64.5, 3), (103, 6)])
def test_the_flux_is_the_area_of_the_lines_on_any_grid(pixel, factor):
    pattern = fg.argolight_pattern((390, 120), pixel_size_nm=pixel, factor=factor, shift_nm=(1.1, 2.2))
    length = pattern.span_nm[1] - pattern.span_nm[0]
    area = pattern.x.sum() * (pixel / factor) ** 2
    assert area == pytest.approx(8 * 100 * length, rel=1e-12)


def test_a_margin_keeps_the_border_dark_and_no_margin_reaches_it():
    inside = roi().x
    assert max(inside[0].max(), inside[-1].max(), inside[:, 0].max(), inside[:, -1].max()) == 0
    through = roi(margin_nm=0).x
    assert np.array_equal(through[0], through[64])
    assert through[0].max() == 1


@pytest.mark.parametrize("separation", [100.0, 120.0, 390.0])
def test_a_control_has_one_uniform_bar_of_the_same_flux_and_width(separation):
    pair, bar = roi(separation), roi(separation, control=True)
    assert bar.control
    assert not pair.control
    assert bar.x.sum() == pytest.approx(pair.x.sum(), rel=1e-12)
    across = bar.x[64]
    middle = (np.arange(128) + 0.5) * 25
    inside = np.abs(middle - bar.centres_nm[0]) < (separation + 100) / 2 - 25
    assert np.ptp(across[inside]) <= 1e-12
    assert across[inside].max() == pytest.approx(200 / (separation + 100))
    outside = np.abs(middle - bar.centres_nm[0]) > (separation + 100) / 2 + 25
    assert np.array_equal(across[outside], pair.x[64][outside])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"separations_nm": ()}, "at least one"),
        ({"separations_nm": (90,)}, "at least 100"),
        ({"shape": (32, 12)}, "larger shape"),
        ({"shape": (6, 32)}, "larger shape"),
        ({"shift_nm": (0, 1000)}, "larger shape"),
        ({"shift_nm": (0,)}, "down, right"),
        ({"outer_nm": 150}, "outer_nm"),
        ({"pitch_nm": 500}, "pitch_nm"),
        ({"pixel_size_nm": 0}, "pixel_size_nm"),
    ],
)
def test_impossible_patterns_are_refused(options, message):
    settings = {"separations_nm": (180,), "pixel_size_nm": 100, "factor": 4, "shape": (32, 32), **options}
    with pytest.raises(ValueError, match=message):
        fg.argolight_pattern(**settings)


def test_a_single_number_is_not_a_list_of_separations():
    with pytest.raises(TypeError, match="one distance per group"):
        fg.argolight_pattern(180, pixel_size_nm=100, factor=4)


@pytest.mark.parametrize("shape", [(32, 32), (50, 17), (2, 1)])
def test_a_background_keeps_its_level_its_sign_and_its_seed(shape):
    b = smooth_background(shape, 5.0, variation=0.6, seed=3)
    assert b.shape == shape
    assert b.mean() == pytest.approx(5.0, rel=1e-12)
    assert np.abs(b / 5.0 - 1).max() == pytest.approx(0.6)
    assert np.array_equal(b, smooth_background(shape, 5.0, variation=0.6, seed=3))
    assert not np.array_equal(b, smooth_background(shape, 5.0, variation=0.6, seed=4))


def test_a_background_is_smooth():
    b = smooth_background((64, 64), 1.0, variation=0.9, seed=0)
    # Cosines up to order 2 summed to at most 0.9: no step exceeds that of the fastest one (Bernstein's inequality).
    for axis in (0, 1):
        assert np.abs(np.diff(b, axis=axis)).max() <= 2 * np.pi / 64 * 0.9 * 1.05


def test_a_single_pixel_has_a_constant_background():
    assert np.array_equal(smooth_background((1, 1), 4.0), [[4.0]])
