"""The part of a field with the largest sum."""

from __future__ import annotations

import numpy as np
import pytest

from fluogan_core.calibration.brightest import brightest_part


@pytest.mark.parametrize(("shape", "side"), [((9, 13), 4), ((9, 13), 1), ((6, 13), 9), ((5, 5), 5), ((1, 7), 3)])
def test_no_part_of_that_size_holds_more(rng, shape, side):
    """Values of either sign, such as covariances have: every part is summed."""
    image = rng.integers(-50, 50, shape).astype(np.int16)
    found = brightest_part(image, side)
    down, across = (min(side, n) for n in shape)
    assert image[found].shape == (down, across)
    sums = [
        int(image[top : top + down, left : left + across].sum())
        for top in range(shape[0] - down + 1)
        for left in range(shape[1] - across + 1)
    ]
    assert int(image[found].sum()) == max(sums)
