"""Where the fine grid lies: the image of one emission has its centre there."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.physics.grid import placement


@pytest.mark.parametrize("binning", ["sum", "point"])
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_the_image_of_an_emission_is_centred_where_its_fine_pixel_lies(factor, binning):
    psi = fg.Psi(fg.gaussian_psf(250, 100, factor), (24, 24), factor, binning=binning, backend="numpy")
    spacing, first = placement(factor, binning)
    for index in (11 * factor, 11 * factor + 1, 12 * factor + factor // 2):
        image = psi.column((index, index))
        centre = (image.sum(axis=1) * np.arange(24)).sum() / image.sum()
        assert centre == pytest.approx(first + spacing * index, abs=2e-3)  # the PSF is cut at 4 standard deviations


def test_camera_pixels_are_covered_edge_to_edge():
    spacing, first = placement(4, "sum")
    assert first - spacing / 2 == -0.5
    assert first + 3 * spacing + spacing / 2 == 0.5
