"""What is measured once for a field: on a part of it, but with the noise and the bad pixels of the whole."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.io.lazy import open_lazily
from fluogan_core.scale import field

from .conftest import KNOWN, OPTIONS, operator, scene


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    frames, _ = scene((80, 120), 60)
    frames[:, 70, 7] = 60000  # hot
    frames[:, 11, 90] = 3
    path = tmp_path_factory.mktemp("field") / "stack.npy"
    np.save(path, frames)
    return frames, open_lazily(path)


def test_moments_of_blocks_are_those_of_the_whole(stack):
    frames, source = stack
    found = field.field_moments(source, range(60), (3, 40), budget=1)
    kept = np.delete(frames, (3, 40), axis=0).astype(float)
    np.testing.assert_allclose(found.mean, kept.mean(axis=0))
    np.testing.assert_allclose(found.variance, 0.5 * (np.diff(kept, axis=0) ** 2).mean(axis=0))
    np.testing.assert_allclose(found.at_lowest, (kept == kept.min()).mean(axis=0))
    assert found.frames == 58


def test_a_field_measured_in_part_is_like_one_measured_whole(stack, monkeypatch):
    frames, source = stack
    monkeypatch.setattr(field, "_LARGEST", 64)
    found = fg.scale.calibrate_field(source, operator((32, 32)), **KNOWN)
    whole = fg.calibrate(frames, operator((80, 120)), **KNOWN)
    assert found.mean.shape == (80, 120)
    np.testing.assert_array_equal(found.bad_pixels, whole.bad_pixels)
    assert found.bad_pixels[70, 7]
    assert found.bad_pixels[11, 90]
    np.testing.assert_allclose(found.bad_pixel_values, whole.bad_pixel_values, rtol=1e-3)
    for name in ("variance", "of_mean", "signal", "signal_to_noise"):
        assert getattr(found.noise, name) == pytest.approx(getattr(whole.noise, name), rel=1e-3), name


def test_the_camera_of_a_part_is_that_of_the_field(stack, monkeypatch):
    frames, source = stack
    monkeypatch.setattr(field, "_LARGEST", 64)
    given = {"offset": 100.0, "noise_std": 3.0, "psf_width": 1.0}
    found = fg.scale.calibrate_field(source, operator((32, 32)), **given)
    whole = fg.calibrate(frames, operator((80, 120)), **given)
    errors = np.hypot(found.estimate.gain_error, whole.estimate.gain_error)
    assert abs(found.camera.gain - whole.camera.gain) < 3 * errors


@pytest.mark.parametrize(
    ("change", "message"), [({"tile": 4}, "tile must be at least 8"), ({"halo": 1}, "halo must be at least 2")]
)
def test_sizes_are_refused_before_anything_is_measured(recording, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        fg.scale.prepare(recording, tmp_path, psi=operator((32, 32)), **change)


def test_halo_and_tile_go_as_far_as_the_field(recording, tmp_path):
    for name, sizes in {"halo": {"tile": 48, "halo": 1e300}, "tile": {"tile": 1e30, "halo": 2}}.items():
        plan = fg.scale.prepare(recording, tmp_path / name, psi=operator((32, 32)), **sizes, options=OPTIONS, **KNOWN)
        assert all(tile.shape == (64, 96) for tile in plan.grid.tiles)
        assert getattr(plan.grid, {"halo": "halo", "tile": "size"}[name]) == 96
