"""Rows that a scan has shifted: one value for the field, whatever part of it is measured or fitted."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.calibration.row_shift import straightened
from fluogan_core.io.lazy import open_lazily
from fluogan_core.scale import field, fit

from .conftest import CAMERA, KNOWN, OPTIONS, images, operator, tiled

SHIFT = 0.3


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """Blurred points in a field of 81 x 96 pixels whose odd rows lie to the right, and one hot pixel."""
    rng, psi = np.random.default_rng(4), operator((81, 96))
    x = np.where(rng.random(psi.fine_shape) < 0.02, 4.0, 0.0)
    light = straightened(psi.forward(x), -SHIFT) + 10.0
    frames = rng.poisson(light, (40, 81, 96)) * CAMERA.gain + CAMERA.offset + rng.normal(0, 3, (40, 81, 96))
    frames[:, 50, 60] = 4000
    frames = np.rint(frames).astype(np.uint16)
    path = tmp_path_factory.mktemp("scanned") / "stack.npy"
    np.save(path, frames)
    return frames, path


@pytest.mark.parametrize("rows", [slice(8, 72), slice(9, 73)])
@pytest.mark.parametrize("given", [{}, {"row_shift": SHIFT}])
def test_a_part_that_begins_with_an_odd_row_tells_the_shift_of_the_field(scanned, monkeypatch, rows, given):
    frames, path = scanned
    whole = fg.calibrate(frames, operator((81, 96)), **KNOWN, **given)
    monkeypatch.setattr(field, "_LARGEST", 64)
    monkeypatch.setattr(field, "sample_window", lambda mean, side: (rows, slice(16, 80)))
    found = fg.scale.calibrate_field(open_lazily(path), operator((32, 32)), **KNOWN, **given)
    assert whole.row_shift.applied == pytest.approx(SHIFT, abs=0.02)
    assert found.row_shift.applied == pytest.approx(whole.row_shift.applied, abs=0.02)
    np.testing.assert_allclose(found.mean, whole.mean, atol=0.02 * np.ptp(whole.mean))
    assert f"{found.row_shift.shift:+.2f}" in found.remarks[-1]


def test_a_tile_has_the_counts_that_the_whole_field_has(scanned, tmp_path):
    frames, path = scanned
    found = fg.calibrate(frames, operator((81, 96)), **KNOWN)
    whole = fg.Problem.of(frames, calibration=found).counts
    for method in ("moments", "none"):
        options = fg.SolverOptions(method=method, warm_steps=5)
        settings = {"psi": operator((32, 32)), "options": options, "tile": 48, "halo": 16} | KNOWN
        plan = fg.scale.prepare(path, tmp_path / method, **settings)
        again = fg.scale.load_plan(tmp_path / method)
        assert again.measured[0].row_shift == plan.measured[0].row_shift
        assert any(tile.outer[0][0] % 2 for tile in plan.grid.tiles)
        for tile in plan.grid.tiles:
            problem = fit.tile_problem(again, open_lazily(path), tile, 0)
            rows, columns = tile.window
            inside = tuple(slice(4, n - 4) for n in tile.shape)
            wanted = whole[:, rows, columns].mean(axis=0)[inside]
            np.testing.assert_allclose(CAMERA.gain * problem.mean[inside], wanted, atol=0.02 * np.ptp(wanted))


def test_tiles_of_a_scan_are_like_the_whole(scanned, tmp_path):
    frames, path = scanned
    plan = tiled(path, tmp_path / "tiles")
    result = fg.reconstruct(frames, calibration=fg.calibrate(frames, operator((81, 96)), **KNOWN), options=OPTIONS)
    made = images(plan)["x"]
    assert np.linalg.norm(made - result.x) < 0.05 * np.linalg.norm(result.x)
