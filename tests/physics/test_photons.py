"""Sets of photons: they have the law of the columns of Psi, and depend on their counters alone."""

from __future__ import annotations

import numpy as np
from psfs import tiny_psf

import fluogan_core as fg
from fluogan_core.physics.photons import PlacementTable, draw_photons


def test_photon_sets_have_the_law_of_the_columns():
    psi = fg.Psi(tiny_psf(3, 0.1), (4, 3), 2, photons_per_emitter=2.0)
    table = PlacementTable(psi)
    n = psi.fine_shape[0] * psi.fine_shape[1]
    draws = 3000
    total = np.zeros((n, 12))
    square = np.zeros((n, 12))
    sets = draw_photons(table, np.arange(n), np.arange(draws), seed=1, step=0)
    assert len(sets) == draws * n
    for frame in range(draws):
        counts = sets.dense(psi.shape, frame * n, (frame + 1) * n).reshape(n, -1)
        total += counts
        square += counts**2
    mean = psi.forward(np.eye(n).reshape(n, *psi.fine_shape)).reshape(n, -1)
    seen = mean > 1e-6
    z = (total / draws - mean)[seen] / np.sqrt(mean[seen] / draws)
    assert np.abs(z).max() < 4.5
    assert total[~seen].sum() == 0
    variance = square / draws - (total / draws) ** 2
    busy = mean > 0.1
    # Poisson: variance = mean; its estimate has a spread of sqrt((mean + 2 mean^2) / draws)
    z = (variance - mean)[busy] / np.sqrt((mean + 2 * mean**2)[busy] / draws)
    assert np.abs(z).max() < 4.5


def test_photons_depend_on_their_counters_alone():
    psi = fg.Psi(tiny_psf(3), (4, 3), 2, photons_per_emitter=5.0)
    table = PlacementTable(psi)
    everywhere = draw_photons(table, np.arange(48), [2, 3], seed=1, step=2)
    few = draw_photons(table, np.array([5, 40]), [3], seed=1, step=2)
    for k, i in enumerate((5, 40)):
        mine = few.pixels[few.starts[k] : few.starts[k + 1]]
        same = everywhere.pixels[everywhere.starts[48 + i] : everywhere.starts[48 + i + 1]]
        np.testing.assert_array_equal(mine, same)
