"""The covariance of a recording: what each pixel pair shares, by blocks, and its adjoint."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.physics.covariance import parts_of
from fluogan_core.tuning import CovarianceTuning


@pytest.mark.parametrize(("factor", "binning"), [(1, "sum"), (2, "sum"), (3, "point")])
@pytest.mark.parametrize("group_side", [5, 10, 64])
def test_pairs_of_any_psf_are_the_dense_formulas(factor, binning, group_side, rng):
    """Lop-sided PSFs, in parts of one tile, of some, and in one part of all."""
    psi = fg.Psi(rng.random((7, 11)), (17, 22), factor, binning=binning, photons_per_emitter=3.0, backend="numpy")
    x = rng.standard_normal(psi.fine_shape).astype(np.float32)  # steps run ahead of x, and may leave the positive
    columns = psi.adjoint(np.eye(17 * 22).reshape(-1, 17, 22)).reshape(17 * 22, -1)
    dense = ((columns * x.ravel()) @ columns.T).reshape(17, 22, 17, 22)
    parts = parts_of(psi, 5, tuning=CovarianceTuning(group_side=group_side))
    assert len(parts) == {5: 20, 10: 6, 64: 1}[group_side]
    covered = np.zeros(psi.shape)
    for part in parts:
        for (rows, cols), pairs in zip(part.cameras, part.pairs(x[part.fine]), strict=True):
            covered[rows, cols] += 1
            expected = dense[rows, cols][:, :, rows, cols].reshape(pairs.shape)
            np.testing.assert_allclose(pairs, expected, rtol=0, atol=2e-6 * np.abs(dense).max())
        sizes = [(rows.stop - rows.start) * (cols.stop - cols.start) for rows, cols in part.cameras]
        quadratics = [rng.standard_normal((size, size)).astype(np.float32) for size in sizes]
        expected = 0
        for (rows, cols), quadratic in zip(part.cameras, quadratics):
            own = columns.reshape(17, 22, -1)[rows, cols].reshape(len(quadratic), -1)
            expected = expected + ((quadratic @ own) * own).sum(axis=0).reshape(psi.fine_shape)
        seen = expected[part.fine].copy()
        np.testing.assert_allclose(part.pull(quadratics), seen, rtol=0, atol=1e-5 * np.abs(seen).max())
        expected[part.fine] = 0  # and nothing reaches these tiles from elsewhere
        assert np.abs(expected).max() < 1e-12
    assert (covered == 1).all()
