"""Frames that stand apart: each kind is found by number, and what a sample does by itself is not."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.calibration.odd_frames import find_odd_frames, without_odd_frames
from fluogan_core.cli import main

SHAPE = (26, 30)


def molecules(seed: int, *, frames=120, count=30, on=0.1, photons=600.0, background=6.0, decay=0.0, lamp=0.0) -> np.ndarray:
    """Rates of molecules that are on in a share of the frames, each frame anew, photons per pixel."""
    rng = np.random.default_rng(seed)
    r, c = np.mgrid[: SHAPE[0], : SHAPE[1]]
    images = [
        np.exp(-((r - row) ** 2 + (c - column) ** 2) / 3.6) / (3.6 * np.pi)
        for row, column in zip(rng.uniform(3, SHAPE[0] - 3, count), rng.uniform(3, SHAPE[1] - 3, count))
    ]
    light = np.tensordot(rng.random((frames, count)) < on, np.array(images), axes=1) * photons + background
    light *= np.exp(-decay * np.linspace(0, 1, frames))[:, None, None]
    return light * (1 + lamp * rng.standard_normal((frames, 1, 1)))


def camera(light: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(1000 + seed)
    return np.rint(1.7 * rng.poisson(light) + 100 + 2.0 * rng.standard_normal(light.shape)).astype(np.uint16)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "sample",
    [{}, {"count": 3, "on": 0.03, "photons": 4000}, {"decay": 1.5}, {"lamp": 0.05}, {"frames": 24}, {"background": 0.3}],
)
def test_what_samples_and_lamps_do_does_not_stand_apart(sample, seed):
    assert find_odd_frames(camera(molecules(seed, **sample), seed)).numbers == ()


@pytest.mark.parametrize("seed", range(3))
def test_every_kind_is_found_by_number(seed):
    light = molecules(seed, decay=0.5)
    light[0] = 2.2 * light.mean(axis=0)
    light[33] = 0
    stack = camera(light, seed)
    stack[[7, 90]] = 0
    stack[50] = stack[49]
    stack[70] = 65535
    stack[71, :20] = 65535
    found = find_odd_frames(stack)
    assert found.kinds == {"empty": (7, 70, 90), "dark": (33,), "bright": (0,), "saturated": (71,), "repeated": (50,)}
    assert found.numbers == (0, 7, 33, 50, 70, 71, 90)
    assert found.sentence(first=10, step=2).startswith("24, 150, 190 (one value everywhere")


@pytest.mark.parametrize("seed", range(2))
def test_copies_are_named_however_many_they_are(seed):
    """A recording in which every frame was doubled, and one that was saved twice: half of the frames hold nothing."""
    stack = camera(molecules(seed), seed)
    assert find_odd_frames(np.repeat(stack[:60], 2, axis=0)).kinds == {"repeated": tuple(range(1, 120, 2))}
    twice = np.concatenate([stack, stack])
    twice[7] = 0
    assert find_odd_frames(twice).kinds == {"empty": (7,), "repeated": tuple(k for k in range(120, 240) if k != 127)}


@pytest.mark.parametrize("seed", range(3))
def test_a_double_exposure_and_a_flash_of_a_blinking_sample_are_bright(seed):
    light = molecules(seed, count=200, on=0.3)
    light[30] += light[31]
    light[60] *= 3
    light[90] += 200
    assert find_odd_frames(camera(light, seed)).kinds == {"bright": (30, 60, 90)}


def test_few_molecules_that_are_on_at_the_start_are_no_bright_frame():
    assert find_odd_frames(camera(molecules(14, decay=2.3, photons=2000), 14)).numbers == ()


def test_frames_of_a_few_photons_may_be_empty_or_alike():
    stack = np.random.default_rng(5).poisson(0.002, (400, 20, 20)).astype(np.uint8)
    assert (stack.max(axis=(1, 2)) == 0).sum() > 50
    assert find_odd_frames(stack).numbers == ()


def test_half_of_the_frames_do_not_stand_apart():
    stack = camera(molecules(6), 6)
    stack[::2] = 0
    assert find_odd_frames(stack).numbers == ()


def test_the_camera_is_that_of_the_other_frames():
    stack = camera(molecules(7, count=500, photons=60.0, background=20.0, frames=240), 7)
    spoiled = np.insert(stack, (40, 40, 80), 0, axis=0)
    psi = fg.Psi(fg.gaussian_psf(316, 100, 2), SHAPE, 2, backend="numpy")
    clean, found = fg.estimate_camera(stack, psi), fg.estimate_camera(spoiled, psi)
    assert found.camera == clean.camera
    assert found.photons_per_emitter == clean.photons_per_emitter
    assert "40, 41, 82 (one value everywhere" in found.notes[0]


def test_the_command_leaves_them_out_and_says_which(tmp_path, capsys):
    tifffile = pytest.importorskip("tifffile")
    stack = camera(molecules(8), 8)
    stack[[12, 40]] = 0
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack)
    options = ["--pixel-size-nm", "100", "--fwhm-nm", "316", "--gain", "1.7", "--offset", "100", "--noise-std", "2"]
    steps = ["--warm-steps", "3", "--method", "none", "--factor", "2", "--frames", "10:120"]
    assert main(["reconstruct", str(path), "--output", str(tmp_path / "out"), *options, *steps, "--no-figure"]) == 0
    assert "12, 40 (one value everywhere" in capsys.readouterr().err
    facts = json.loads((tmp_path / "out" / "report.json").read_text())["input"]
    assert facts["frames_left_out"] == [12, 40]
    assert facts["frames"] == 108


def test_a_recording_keeps_what_it_is_and_says_what_it_lost():
    stack = fg.Stack(camera(molecules(9), 9), pixel_size_nm=90.0, taken=range(5, 125))
    assert without_odd_frames(stack) == (stack, "")
    stack.frames[3] = 0
    cut, note = without_odd_frames(stack)
    assert cut.left_out == (8,)
    assert cut.pixel_size_nm == 90.0
    assert np.array_equal(cut.frames, np.delete(stack.frames, 3, axis=0))
    assert "8 (one value everywhere" in note
    assert cut.notes == (note,)
