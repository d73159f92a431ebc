"""Estimates to 30 bits: near, on a grid of their own, twice the value for twice the value."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fluogan_core.calibration.digits import nine_digits


def test_thirty_bits_are_kept(rng):
    values = rng.standard_normal(200) * 10.0 ** rng.uniform(-200, 200, 200)
    for value in values:
        found = nine_digits(value)
        mantissa, _ = math.frexp(found)
        assert math.ldexp(mantissa, 30).is_integer()
        assert abs(found - value) <= 2.0**-30 * abs(value)
        assert nine_digits(found) == found
        assert nine_digits(-value) == -found
        assert nine_digits(2 * value) == 2 * found
    grid = 1 + np.arange(4) * 2.0**-29  # between 1 and 2
    assert [nine_digits(value) for value in grid] == grid.tolist()
    assert [nine_digits(value + 0.4 * 2.0**-29) for value in grid] == grid.tolist()


@pytest.mark.parametrize("value", [0.0, math.inf, -math.inf, 5e-324, np.float32(3.0)])
def test_what_has_no_more_digits_is_as_it_was(value):
    found = nine_digits(value)
    assert found == value
    assert type(found) is float


def test_nan_stays_nan():
    assert math.isnan(nine_digits(math.nan))
