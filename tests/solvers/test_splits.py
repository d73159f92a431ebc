"""Held-out frames: as many as asked for, in runs that are spread evenly, and never seen by the fit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fluogan_core.solvers.splits import held_out_frames, seen_frames


@pytest.mark.parametrize(
    ("frames", "fraction", "expected"),
    [
        (20, 0.2, [8, 9, 10, 11]),
        (10, 0.1, [5]),
        (3, 0.5, [1, 2]),
        (4, 0.5, [1, 2]),
        (7, 0.3, [3, 4]),
        (22, 0.5, [3, 4, 5, 6, 7, 13, 14, 15, 16, 17, 18]),
        (5, 0.0, []),
        (4, 0.1, []),
    ],
)
def test_held_out_frames_are_runs_in_the_middle_of_equal_stretches(frames, fraction, expected):
    held = held_out_frames(frames, fraction)
    assert held.dtype == np.int64
    assert held.tolist() == expected
    seen = seen_frames(frames, held)
    assert sorted([*seen, *held]) == list(range(frames))
    assert seen.tolist() == [number for number in range(frames) if number not in expected]


@pytest.mark.parametrize("frames", [2, 3, 7, 30, 44, 100, 101, 500, 1999])
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_runs_are_few_and_spread_over_the_stack(frames, fraction):
    held = held_out_frames(frames, fraction, length=10, most=6)
    assert len(held) == round(fraction * frames)
    assert sorted({*held}) == held.tolist()
    assert set(held) <= set(range(frames))
    if not len(held) or fraction > 0.5:
        return
    runs = np.split(held, np.flatnonzero(np.diff(held) > 1) + 1)
    assert len(runs) == min(6, -(-len(held) // 10))
    lengths, gaps = [len(run) for run in runs], [b[0] - a[-1] - 1 for a, b in itertools.pairwise(runs)]
    assert max(lengths) - min(lengths) <= 1
    assert not gaps or max(gaps) - min(gaps) <= 2
    assert abs(runs[0][0] - (frames - 1 - runs[-1][-1])) <= 2
