"""Gaps that an image shows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fluogan_core.metrics.dips import find_dips

ROWS, COLUMNS = np.mgrid[:120, :120] - 59.5


@pytest.mark.parametrize("angle", [0.0, 0.6, math.pi / 2, 2.5])
def test_the_gap_of_a_pair_is_found_where_it_is(angle):
    q = ROWS * math.sin(angle) + COLUMNS * math.cos(angle)
    t = ROWS * math.cos(angle) - COLUMNS * math.sin(angle)
    image = sum(np.exp(-0.5 * ((q - s * 5) / 2) ** 2) for s in (-1, 1)) * (np.abs(t) < 25)
    (dip,) = find_dips(image, 13.0)
    assert math.hypot(dip.row - 59.5, dip.column - 59.5) < 1.5
    assert abs(math.sin(dip.angle - angle)) < 0.05
    assert dip.separation == pytest.approx(10, abs=1)
    assert dip.length == pytest.approx(50, abs=8)
    assert dip.depth == pytest.approx(1 - 2 * math.exp(-0.5 * 2.5**2), abs=0.06)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((60, 60)),
        np.ones((60, 60)),
        np.exp(-0.01 * (ROWS**2 + COLUMNS**2)),
        (np.abs(COLUMNS) < 5) * (np.abs(ROWS) < 30) * 1.0,
    ],
    ids=["dark", "flat", "blob", "bar"],
)
def test_no_gap_where_there_is_none(image):
    assert find_dips(image, 13.0) == []


def test_a_bent_gap_comes_in_straight_pieces():
    radius = np.hypot(ROWS + 50, COLUMNS)
    image = sum(np.exp(-0.5 * ((radius - r) / 2) ** 2) for r in (45, 55)) * (ROWS > -40)
    dips = [dip for dip in find_dips(image, 13.0) if dip.length > 10]
    assert len(dips) >= 2
    for dip in dips:
        assert abs(math.hypot(dip.row - 9.5, dip.column - 59.5) - 50) < 3
        # across the gap is along the radius
        assert abs(math.sin(dip.angle - math.atan2(dip.row - 9.5, dip.column - 59.5))) < 0.25


def test_a_gap_between_bars_lies_in_their_middle():
    """Where a side is flat, its middle counts, on both sides alike."""
    image = np.zeros((60, 60))
    image[10:50, 20:24] = image[10:50, 36:40] = 1.0
    (dip,) = [dip for dip in find_dips(image, 12.0) if abs(np.sin(dip.angle)) < 0.1]
    assert dip.column == pytest.approx(29.5, abs=0.3)
    assert dip.separation == pytest.approx(16, abs=0.6)
