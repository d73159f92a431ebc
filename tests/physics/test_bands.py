"""Products with a matrix that has a band, block by block, against the whole matrix."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.physics import bands
from fluogan_core.physics.bands import BandMatrix

NUMPY = fg.get_backend("numpy")


def band(rng, rows: int, columns: int, reach: int) -> np.ndarray:
    """A matrix whose rows hold ``reach`` entries around the diagonal."""
    place = np.arange(columns)[None] * (rows / columns) - np.arange(rows)[:, None]
    return np.where(abs(place) <= reach * rows / columns, rng.normal(size=(rows, columns)), 0)


@pytest.mark.parametrize("shape", [(40, 160, 9), (160, 40, 3), (7, 7, 20), (1, 5, 1), (300, 300, 2)])
@pytest.mark.parametrize("lead", [(), (3,)])
def test_blocks_are_the_whole_matrix(shape, lead, rng):
    rows, columns, reach = shape
    dense = band(rng, rows, columns, reach)
    matrix = BandMatrix(dense, NUMPY, np.dtype(np.float64))
    images = rng.normal(size=(*lead, columns, 6))
    np.testing.assert_allclose(matrix.times(images), dense @ images, atol=1e-12)
    turned = images.swapaxes(-1, -2)
    out = np.full((*lead, 6, rows), np.nan)
    matrix.beside(turned, out)
    np.testing.assert_allclose(out, turned @ dense.T, atol=1e-12)


def test_rows_of_zeros_give_zeros(rng):
    dense = np.zeros((50, 60))
    dense[3, 4] = 2.0
    found = BandMatrix(dense, NUMPY, np.dtype(np.float32)).times(np.ones((60, 2), np.float32))
    np.testing.assert_array_equal(found, (dense @ np.ones((60, 2))).astype(np.float32))


def test_the_work_grows_with_the_band_and_not_with_the_square(rng, monkeypatch):
    """Multiplications of a field twice as long are about twice as many."""
    counted: list[int] = []

    def counting(left, right, out):
        counted.append(left.shape[-2] * left.shape[-1] * right.shape[-1])
        np.matmul(left, right, out=out)

    monkeypatch.setattr(bands, "product", counting)
    work = []
    for rows in (200, 400):
        counted.clear()
        BandMatrix(band(rng, rows, 4 * rows, 30), NUMPY, np.dtype(np.float32)).times(np.ones((4 * rows, 1), np.float32))
        work.append(sum(counted))
    assert 1.8 < work[1] / work[0] < 2.2
    assert work[1] < 400 * 4 * 400 / 3
