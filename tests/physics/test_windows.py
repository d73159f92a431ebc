"""Windows of a field and of its parts: where they stand, which pixels they hold, how they fade."""

from __future__ import annotations

import numpy as np
import pytest

from fluogan_core.physics.windows import windows_of


@pytest.mark.parametrize("side", range(1, 14))
def test_no_more_windows_than_overlap_by_half_asks_for_evenly_spread(side):
    """One more at most, where the middle one would stand off the middle."""
    for size in range(side, 60):
        starts = np.unique(windows_of((size, 1), side).rows)
        fewest = 1 + int(np.ceil((size - side) / max(1, side // 2)))
        assert fewest <= len(starts) <= fewest + 1
        assert len(starts) == fewest or ((size - side) % 2 == 1 and fewest % 2 == 1)
        assert np.ptp(np.diff(starts)) <= 1 if len(starts) > 1 else size == side
        np.testing.assert_array_equal(starts, size - side - starts[::-1], "a mirrored field has mirrored windows")


def test_a_window_holds_the_rectangle_from_its_start():
    windows = windows_of((20, 13), 6)
    assert (windows.shape, windows.sides) == ((20, 13), (6, 6))
    flat = np.arange(20 * 13).reshape(20, 13)
    for row, column, pixels in zip(windows.rows, windows.columns, windows.pixels):
        np.testing.assert_array_equal(pixels.reshape(6, 6), flat[row : row + 6, column : column + 6])


def test_weights_fade_like_a_sine_where_windows_overlap_by_half():
    """The squares of a sine and of one half a window further add up to one: these are the fourth powers."""
    windows = windows_of((32, 1), 8)
    assert windows.rows.tolist() == [0, 4, 8, 12, 16, 20, 24]
    fade = np.sqrt(np.sin(np.pi * (np.arange(8) + 0.5) / 8))
    np.testing.assert_allclose(windows.amplitude[1:-1], np.tile(fade, (5, 1)), rtol=1e-14)
    np.testing.assert_allclose(windows.amplitude[0], np.where(np.arange(8) < 4, 1, fade), rtol=1e-14)
    crossed = windows_of((32, 24), 8)
    middle = np.flatnonzero((crossed.rows == 12) & (crossed.columns == 8))
    np.testing.assert_allclose(crossed.amplitude[middle].reshape(8, 8), np.outer(fade, fade), rtol=1e-14)


@pytest.mark.parametrize("part", [(slice(6, 33), slice(0, 23)), (slice(0, 9), slice(3, 21)), (slice(12, 17), slice(2, 6))])
def test_windows_of_a_part_are_those_of_the_field_and_one_at_each_border(part):
    shape, side = (41, 23), 8
    whole, own = windows_of(shape, side), windows_of(shape, side, part)
    assert own.shape == tuple(along.stop - along.start for along in part)
    assert own.sides == tuple(min(side, size) for size in own.shape)
    for starts, all_starts, along, size, side_here in zip(
        (own.rows, own.columns), (whole.rows, whole.columns), part, own.shape, own.sides
    ):
        inside = {start - along.start for start in all_starts if along.start <= start <= along.stop - side_here}
        assert set(starts) == inside | {0, size - side_here}
    total = np.bincount(own.pixels.ravel(), weights=(own.amplitude**4).ravel(), minlength=own.shape[0] * own.shape[1])
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)


def test_deep_in_a_part_weights_are_those_of_the_field():
    whole, own = windows_of((48, 1), 8), windows_of((48, 1), 8, (slice(6, 46), slice(0, 1)))
    at = {int(start): amplitude for start, amplitude in zip(whole.rows, whole.amplitude)}
    deep = [(start, amplitude) for start, amplitude in zip(own.rows, own.amplitude) if 8 <= start <= 24]
    assert len(deep) == 4
    for start, amplitude in deep:
        np.testing.assert_array_equal(amplitude, at[int(start) + 6])
