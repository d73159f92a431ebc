"""Pixels of unequal gain and offset: corrected, the stack is that of a camera with equal ones."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

import fluogan_core as fg
from fluogan_core.cli import main

SHAPE = (24, 20)


def camera_maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return 2.0 * rng.lognormal(0, 0.15, SHAPE), 100 + 8 * rng.standard_normal(SHAPE)


def photons(frames: int = 80) -> np.ndarray:
    return np.random.default_rng(1).poisson(np.linspace(2, 120, SHAPE[1]), (frames, *SHAPE))


def test_corrected_counts_are_those_of_equal_pixels_in_parts_or_whole(monkeypatch):
    gains, offsets = camera_maps(0)
    raw = photons() * gains + offsets
    frames, camera = fg.corrected_counts(raw, gain_map=gains, offset_map=offsets)
    assert camera == {"gain": np.median(gains), "offset": np.median(offsets)}
    assert np.allclose((frames - camera["offset"]) / camera["gain"], photons(), atol=1e-3)
    monkeypatch.setattr("fluogan_core.calibration.pixel_maps.default_memory_budget", lambda: 16 * 480 * 7)
    assert np.array_equal(fg.corrected_counts(raw, gain_map=gains, offset_map=offsets)[0], frames)


def test_the_mean_frame_has_no_noise_of_unequal_pixels_any_more():
    gains, offsets = camera_maps(2)
    raw = photons(300) * gains + offsets
    psi = fg.Psi(fg.gaussian_psf(300, 100, 2), SHAPE, 2, backend="numpy")
    uncorrected = fg.calibrate(raw, psi, gain=2.0, offset=100.0, noise_std=0.0, photons_per_emitter=1.0, psf_width=1)
    frames, camera = fg.corrected_counts(raw, gain_map=gains, offset_map=offsets)
    found = fg.calibrate(frames, psi, **camera, noise_std=0.0, photons_per_emitter=1.0, psf_width=1)
    assert uncorrected.noise.excess > 5
    assert found.noise.excess < 1.2


@pytest.mark.parametrize(
    ("maps", "match"),
    [
        ({"offset_map": np.ones((20, 24))}, "cut both alike"),
        ({"offset_map": np.full(SHAPE, np.nan)}, "NaN"),
        ({"offset_map": np.ones(SHAPE), "gain_map": np.zeros(SHAPE)}, "480 values that are not above 0"),
    ],
)
def test_maps_that_cannot_be_are_refused(maps, match):
    with pytest.raises(ValueError, match=match):
        fg.corrected_counts(photons(4), **maps)


def test_the_command_line_takes_maps_of_the_field_or_of_the_region(tmp_path, capsys):
    gains, offsets = camera_maps(3)
    tifffile.imwrite(tmp_path / "stack.tif", (photons() * gains + offsets).astype(np.float32))
    tifffile.imwrite(tmp_path / "gains.tif", gains)
    np.save(tmp_path / "offsets.npy", offsets)
    command = ["estimate", str(tmp_path / "stack.tif"), "--json", "--offset-map", str(tmp_path / "offsets.npy")]
    assert main([*command, "--gain-map", str(tmp_path / "gains.tif")]) == 0
    assert f'"gain": {np.median(gains):.4f}'[:-1] in capsys.readouterr().out
    assert main([*command, "--gain-map", str(tmp_path / "gains.tif"), "--roi", "2,0,20,20"]) == 0
    assert f'"gain": {np.median(gains[2:22]):.4f}'[:-1] in capsys.readouterr().out
    assert main([*command, "--offset", "100"]) == 2
    assert "both given" in capsys.readouterr().err
    assert main(["estimate", str(tmp_path / "stack.tif"), "--gain-map", str(tmp_path / "gains.tif")]) == 2
    assert "needs --offset-map" in capsys.readouterr().err
