"""How large tiles and halos are: what the physics asks for, and the largest that memory allows."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.scale.sizes import AT_REST, LARGEST_TILE, fitting, halo_of, size_of_tiles, tile_bytes

MEAN, COVARIANCE = fg.SolverOptions(method="none"), fg.SolverOptions()
GIB = 2**30


def point(*shape, factor=4):
    psf = np.zeros(shape)
    psf[shape[0] // 2, shape[1] // 2] = 1.0
    return fg.Psi(psf, (32, 32), factor, backend="numpy")


def test_a_halo_holds_the_psf_and_nine_lengths_of_the_background():
    assert halo_of(point(41, 11), 1.0) == (11, 2)  # 41 fine pixels reach into 11 of the camera
    assert halo_of(point(11, 41), 1.0) == (11, 2)
    assert halo_of(point(11, 11), 2.6) == (24, 6)  # ceil(23.4)
    assert halo_of(point(11, 11), 0.1) == (8, 2)
    assert halo_of(point(39, 11, factor=2), 4.0) == (36, 9)
    assert halo_of(point(9, 9), 1.0) == (9, 2)


def test_bytes_grow_with_the_area_and_what_is_held_of_each_pixel():
    def of_pixels(outer, frames, factor, options):
        return tile_bytes(outer, frames, factor, options) - AT_REST

    assert 2**27 < AT_REST < 3 * 2**28, "what a process takes that has loaded the numerical libraries"
    one = of_pixels(50, 300, 4, COVARIANCE)
    assert of_pixels(100, 300, 4, COVARIANCE) == 4 * one
    # a fit of the mean holds the mean frame and its variance, whatever the number of frames
    assert of_pixels(50, 300, 4, MEAN) == of_pixels(50, 2, 4, MEAN)
    per_frame = (one - of_pixels(50, 200, 4, COVARIANCE)) / 100
    assert per_frame >= 50**2 * 4, "frames are float32"
    assert of_pixels(50, 300, 4, fg.SolverOptions(method="corrected")) - of_pixels(50, 200, 4, MEAN) == 298 * per_frame
    # four matrices of a window of 12 x 12, one for every 36 pixels, float32
    assert one - of_pixels(50, 300, 4, fg.SolverOptions(method="corrected")) == pytest.approx(
        50**2 * 4 * 144**2 * 4 / 36, rel=2e-3
    )
    by_factor = [of_pixels(50, 2, factor, MEAN) for factor in (1, 2, 3)]
    assert (by_factor[2] - by_factor[1]) * 3 == (by_factor[1] - by_factor[0]) * 5  # areas of fine pixels: 9 - 4 and 4 - 1
    of_fine = (by_factor[1] - by_factor[0]) / 3
    assert of_fine >= 50**2 * 4
    assert by_factor[0] - of_fine == 2 * per_frame, "the mean frame and its variance, and nothing else without covariances"


@pytest.mark.parametrize("size", [256, 100, 33, 32, 20])
def test_the_largest_size_that_fits_is_taken_in_steps_of_eight(size):
    halo, rest = 24, (200, 2, COVARIANCE)
    smallest = min(size, 32)
    candidates = [*range(size, smallest, -8), smallest]
    for wanted in candidates:
        budget = tile_bytes(wanted + 2 * halo, *rest)
        assert fitting(size, halo, *rest, budget) == wanted, "what fits to the byte fits"
        if wanted > smallest:
            assert fitting(size, halo, *rest, budget - 1) < wanted
    assert fitting(size, halo, *rest, 0) == smallest


def test_what_was_asked_for_and_is_not_taken_is_said(caplog):
    rest = (24, 200, 2, COVARIANCE)
    with caplog.at_level("WARNING", "fluogan_core"):
        assert size_of_tiles(None, *rest, 100 * GIB) == LARGEST_TILE
        assert size_of_tiles(100, *rest, 100 * GIB) == 100
        assert size_of_tiles(None, *rest, tile_bytes(64 + 48, *rest[1:])) == 64
        assert caplog.text == "", "taken as asked, or nothing was asked for"
        size_of_tiles(100, *rest, tile_bytes(92 + 48, *rest[1:]))
        assert "tiles of 100 camera pixels do not fit the memory budget: they are made of 92" in caplog.text
        caplog.clear()
        needed = tile_bytes(32 + 48, *rest[1:])
        assert size_of_tiles(100, *rest, needed - 1) == 32
        said = f"the smallest tiles take about {needed / GIB:.2g} GiB, more than the budget of {(needed - 1) / GIB:.2g} GiB"
        assert said in caplog.text
        assert "are made of" not in caplog.text
