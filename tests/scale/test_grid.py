"""Tiles cover a field, and their weights add up to one."""

from __future__ import annotations

import numpy as np
import pytest

from fluogan_core.scale.grid import Grid, slices


@pytest.mark.parametrize(
    ("shape", "size", "halo", "blend"),
    [((64, 96), 48, 16, 4), ((100, 33), 30, 9, 5), ((40, 40), 64, 8, 2), ((97, 65), 16, 9, 0)],
)
@pytest.mark.parametrize("factor", [1, 4])
def test_weights_add_up_to_one_and_cores_cover_the_field_once(shape, size, halo, blend, factor):
    grid = Grid(shape, size, halo, blend)
    total, covered = np.zeros([factor * n for n in shape]), np.zeros(shape, int)
    for tile in grid.tiles:
        whole = ((0, shape[0]), (0, shape[1]))
        total[slices(tile.kept, whole, factor)] += grid.weight(tile, factor)
        covered[slices(tile.core, whole)] += 1
        assert all(a <= b and c >= d for (a, c), (b, d) in zip(tile.outer, tile.kept))
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert (covered == 1).all()
    assert max(grid.core_shape) <= size


def test_neighbours_are_those_whose_kept_parts_reach_into_a_core():
    grid = Grid((90, 90), 30, 10, 4)
    assert [tile.number for tile in grid.beside(0)] == [0, 1, 3, 4]
    assert [tile.number for tile in grid.beside(4)] == list(range(9))
    assert [tile.number for tile in Grid((90, 90), 30, 10, 0).beside(4)] == [4]


def test_a_halo_that_is_all_blended_is_refused():
    with pytest.raises(ValueError, match="halo must be wider"):
        Grid((64, 64), 32, 4, 4)
    with pytest.raises(ValueError, match="are too small"):
        Grid((64, 64), 8, 12, 6)
