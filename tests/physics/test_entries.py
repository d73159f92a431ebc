"""Covariances in windows from the entries of an operator, and the skeleton that its pairs are combined from."""

from __future__ import annotations

import numpy as np
import pytest
from own_operators import SHAPE, Same, Vignetted, nominal, written_out

from fluogan_core.physics.covariance import WindowCovariances
from fluogan_core.physics.entries import EntryCovariances, Skeleton
from fluogan_core.physics.windows import windows_of


@pytest.fixture(scope="module")
def psi():
    return nominal()


def test_pairs_and_their_adjoint_are_those_of_the_entries(own, rng):
    windows = windows_of(SHAPE, 8)
    seen, entries = EntryCovariances(own, windows), written_out(own)
    x = rng.random(own.fine_shape, np.float32)
    chosen = np.array([0, 2, len(windows) - 1])
    found = seen.pairs(x, chosen)
    for number, covariance in zip(chosen, found):
        part = entries[windows.pixels[number]]
        np.testing.assert_allclose(covariance, (part * x.ravel()) @ part.T, rtol=1e-4, atol=1e-6 * float(covariance.max()))
    quadratics = rng.standard_normal(found.shape).astype(np.float32)
    pulled = seen.pull(quadratics, chosen)
    assert pulled.shape == tuple(own.fine_shape)
    assert float((found.astype(float) * quadratics).sum()) == pytest.approx(float((x.astype(float) * pulled).sum()), rel=1e-4)


def test_the_nominal_operators_entries_give_what_its_table_gives(psi, rng):
    windows = windows_of(SHAPE, 8)
    entries, table = EntryCovariances(Same(psi), windows), WindowCovariances(psi, windows)
    x, chosen = rng.random(psi.fine_shape, np.float32), np.arange(len(windows))
    found = entries.pairs(x, chosen)
    np.testing.assert_allclose(found, table.pairs(x, chosen), rtol=1e-4, atol=1e-6 * float(found.max()))
    np.testing.assert_allclose(entries.pull(found, chosen), table.pull(found, chosen), rtol=1e-4)


@pytest.mark.parametrize("error", [2e-2, 1e-3])
def test_a_skeleton_combines_all_pairs_within_its_error(own, error):
    entries = written_out(own)
    skeleton = Skeleton(own.matrix, own.fine_shape, error)
    # squared norms of differences of pairs, from their scalar products (C_i^T C_k)^2
    products, weights, places = (entries.T @ entries) ** 2, skeleton.weights.toarray().astype(float), skeleton.places
    apart = np.diagonal(products) - 2 * (weights * products[places]).sum(axis=0)
    apart = apart + (weights * (products[np.ix_(places, places)] @ weights)).sum(axis=0)
    assert apart.max() < 1.02 * error**2 * products.max()
    assert len(skeleton.places) < 0.7 * entries.shape[1]
    np.testing.assert_allclose(skeleton.weights.toarray()[:, skeleton.places], np.eye(len(skeleton.places)), atol=1e-6)


def test_columns_that_have_nothing_in_common_are_all_kept_and_dark_ones_are_not(psi, rng):
    from scipy.sparse import csr_array

    entries = np.zeros((60, 40))
    entries[np.arange(30), np.arange(30)] = 1.0 + rng.random(30)
    skeleton = Skeleton(csr_array(entries), (5, 8), 1e-3)
    assert sorted(skeleton.places) == list(range(30))
    half = Vignetted(psi, np.linspace(0, 1, SHAPE[0])[:, None] * np.ones(SHAPE[1]) > 0.5)
    entries = written_out(half)
    skeleton = Skeleton(half.matrix, half.fine_shape, 1e-3)
    assert (np.linalg.norm(entries[:, skeleton.places], axis=0) > 0).all()
