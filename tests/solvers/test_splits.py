"""Held-out frames: as many as asked for, spread evenly, and never seen by the fit."""

from __future__ import annotations

import numpy as np
import pytest

from fluogan_core.solvers.splits import held_out_frames, seen_frames


@pytest.mark.parametrize(
    ("frames", "fraction", "expected"),
    [
        (20, 0.2, [2, 7, 12, 17]),
        (10, 0.1, [5]),
        (3, 0.5, [0, 2]),
        (4, 0.5, [1, 3]),
        (7, 0.3, [1, 5]),
        (5, 0.0, []),
        (4, 0.1, []),
    ],
)
def test_held_out_frames_lie_in_the_middle_of_equal_stretches(frames, fraction, expected):
    held = held_out_frames(frames, fraction)
    assert held.dtype == np.int64
    assert held.tolist() == expected
    seen = seen_frames(frames, held)
    assert sorted([*seen, *held]) == list(range(frames))
    assert seen.tolist() == [number for number in range(frames) if number not in expected]
