"""Covariances of pixels in windows, their adjoint, the windows, and the nodes that stand for fine pixels."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.physics.covariance import WindowCovariances
from fluogan_core.physics.nodes import Nodes
from fluogan_core.physics.windows import windows_of


def separable(rng):
    return np.outer(rng.random(7), rng.random(11))


@pytest.mark.parametrize(("factor", "binning"), [(1, "sum"), (2, "sum"), (3, "point")])
@pytest.mark.parametrize("kind", ["separable", "any"])
def test_pairs_in_windows_are_the_dense_formulas(factor, binning, kind, rng):
    """Lop-sided PSFs; windows at the border and inside."""
    psf = separable(rng) if kind == "separable" else rng.random((7, 11))
    psi = fg.Psi(psf, (17, 22), factor, binning=binning, photons_per_emitter=3.0, backend="numpy")
    assert (psi.axis_matrices is None) == (kind == "any")
    x = rng.standard_normal(psi.fine_shape).astype(np.float32)  # steps run ahead of x, and may leave the positive
    columns = psi.adjoint(np.eye(17 * 22).reshape(-1, 17, 22)).reshape(17 * 22, -1)
    windows = windows_of(psi.shape, 5)
    seen, chosen = WindowCovariances(psi, windows), [0, 3, 30, len(windows) - 1]
    quadratics = rng.standard_normal((len(chosen), 25, 25)).astype(np.float32)
    pulled = 0
    for number, pairs, quadratic in zip(chosen, seen.pairs(x, chosen), quadratics):
        own = columns[windows.pixels[number]]
        expected = (own * x.ravel()) @ own.T
        np.testing.assert_allclose(pairs, expected, rtol=0, atol=2e-6 * np.abs(expected).max())
        pulled = pulled + ((quadratic @ own) * own).sum(axis=0).reshape(psi.fine_shape)
    np.testing.assert_allclose(seen.pull(quadratics, chosen), pulled, rtol=0, atol=1e-5 * np.abs(pulled).max())
    places = np.arange(-8, 20, 3), np.arange(-5, 17, 2)
    axes = seen.axis_columns(*places)
    assert (axes is None) == (kind == "any")
    if axes is not None:
        np.testing.assert_allclose(np.kron(*axes), seen.columns(*places), rtol=0, atol=1e-6 * seen.columns(*places).max())


@pytest.mark.parametrize("shape", [(12, 12), (13, 40), (5, 30), (31, 17), (3, 2)])
@pytest.mark.parametrize("side", [12, 5, 2, 1])
def test_windows_cover_the_field_evenly_whichever_way_it_is_turned(shape, side):
    windows = windows_of(shape, side)
    total = np.bincount(windows.pixels.ravel(), weights=(windows.amplitude**4).ravel(), minlength=shape[0] * shape[1])
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)
    assert windows.sides == tuple(min(side, size) for size in shape)
    for starts, size, own in zip((windows.rows, windows.columns), shape, windows.sides):
        there = np.unique(starts)
        assert (there[0], there[-1]) == (0, size - own)
        assert np.diff(there).max(initial=0) <= max(1, own // 2 + own % 2)
    mirrored = {(shape[0] - windows.sides[0] - r, c) for r, c in zip(windows.rows, windows.columns)}
    assert mirrored == set(zip(windows.rows, windows.columns))
    turned = windows_of(shape[::-1], side)
    assert {(c, r) for r, c in zip(turned.rows, turned.columns)} == set(zip(windows.rows, windows.columns))


@pytest.mark.parametrize(("fwhm", "factor", "step"), [(318, 4, 3), (250, 4, 2), (318, 2, 1)])
def test_columns_of_psi_are_interpolated_from_nodes(fwhm, factor, step, rng):
    psi = fg.Psi(fg.gaussian_psf(fwhm, 100, factor, truncate=4), (18, 16), factor, photons_per_emitter=5.0, backend="numpy")
    nodes = Nodes(psi, 3 * factor, 2e-3)
    assert nodes.step == step
    x = rng.random(psi.fine_shape).astype(np.float32)
    at = nodes.map.forward(x)
    windows = windows_of(psi.shape, 6)
    seen = WindowCovariances(psi, windows)
    for number in (0, len(windows) // 2, len(windows) - 1):
        places = [
            first + nodes.step * np.arange(count) - start * factor
            for first, count, start in zip(nodes.firsts, nodes.shape, (windows.rows[number], windows.columns[number]))
        ]
        columns = seen.columns(*places)
        (expected,) = seen.pairs(x, [number])
        np.testing.assert_allclose((columns * at.ravel()) @ columns.T, expected, rtol=0, atol=2e-3 * expected.max())
    y = rng.standard_normal(nodes.shape).astype(np.float32)
    assert float((y * at).sum()) == pytest.approx(float((nodes.map.adjoint(y) * x).sum()), rel=1e-4)


@pytest.mark.parametrize("part", [(slice(20, 61), slice(0, 40)), (slice(0, 44), slice(9, 70)), (slice(33, 70), slice(5, 12))])
def test_windows_of_a_part_are_those_of_the_field_away_from_its_borders(part):
    whole, own = windows_of((70, 70), 12), windows_of((70, 70), 12, part)
    assert own.shape == tuple(along.stop - along.start for along in part)
    weights = np.zeros(own.shape)
    np.add.at(weights.reshape(-1), own.pixels, own.amplitude**4)
    np.testing.assert_allclose(weights, 1, rtol=1e-12)
    if min(own.shape) < 12:
        return
    within = [(12 if along.start else 0, -12 if along.stop < 70 else None) for along in part]
    found = []
    for windows, offset in ((whole, (0, 0)), (own, (part[0].start, part[1].start))):
        corners = zip(windows.rows + offset[0], windows.columns + offset[1], windows.amplitude)
        found.append({(int(row), int(column)): amplitude for row, column, amplitude in corners})
    rows, columns = ([along.start + low, along.stop + (high or 0)] for along, (low, high) in zip(part, within))
    inner = [at for at in found[0] if all(a <= n <= b - 12 for n, (a, b) in zip(at, (rows, columns)))]
    assert inner, "some lie there"
    for at in inner:
        np.testing.assert_allclose(found[1][at], found[0][at], rtol=1e-12)
