"""Recordings as they come from microscopes, by simulations of their own: every kind that the library once got wrong.

Nothing here uses the library's simulators: spots are Gaussians integrated over pixels, molecules are chains of on and off.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from scipy.special import erf

import fluogan_core as fg
from fluogan_core.cli import main

GAIN, OFFSET, READ = 2.2, 100.0, 3.0
OPTICS = ["--pixel-size-nm", "100", "--fwhm-nm", "300"]


def images(at: np.ndarray, photons: np.ndarray, side: int, fwhm_px: float = 3.0) -> np.ndarray:
    """Light of molecules at these places, camera pixels, with (T, n) photons per frame: (T, side, side)."""
    scale = np.sqrt(8 * np.log(2)) / fwhm_px / np.sqrt(2)
    row, column = (np.diff(erf((np.arange(side + 1) - place[:, None]) * scale), axis=1) / 2 for place in at.T)
    return np.einsum("tn,nr,nc->trc", photons, row, column, optimize=True)


def switching(molecules: int, frames: int, share: float, stays: float, rng: np.random.Generator) -> np.ndarray:
    """(T, n) of 0 and 1: on for ``stays`` frames on average, and ``share`` of the time."""
    on = [rng.random(molecules) < share]
    for _ in range(frames - 1):
        lit = rng.random(molecules)
        on.append(np.where(on[-1], lit >= 1 / stays, lit < share / (1 - share) / stays))
    return np.array(on, dtype=float)


def counts(
    light: np.ndarray, rng: np.random.Generator, gain: float = GAIN, offset: float = OFFSET, read: float = READ
) -> np.ndarray:
    return np.rint(gain * rng.poisson(light) + offset + read * rng.standard_normal(light.shape)).clip(0).astype(np.uint16)


def two_lines(seed: int, frames: int) -> np.ndarray:
    """Two lines 220 nm apart of molecules that blink, on a flat background."""
    rng = np.random.default_rng(seed)
    along = rng.uniform(4, 28, 2880)
    at = np.column_stack([np.where(np.arange(2880) < 1440, 14.9, 17.1), along])
    return counts(images(at, 120.0 * switching(2880, frames, 0.15, 2.0, rng), 32) + 10, rng)


def estimate(path, capsys) -> dict:
    assert main(["estimate", str(path), *OPTICS, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def is_right(found: dict) -> bool:
    return abs(found["gain"] - GAIN) < 4 * found["gain_error"] and found["gain_error"] < 0.3


def test_sixty_pages_that_were_appended_one_by_one_are_read_and_give_the_gain(tmp_path, capsys):
    for page in two_lines(1, 60):
        tifffile.imwrite(tmp_path / "pages.tif", page, append=True)
    assert is_right(estimate(tmp_path / "pages.tif", capsys))


def test_sixty_frames_of_two_hundred_that_the_header_promises_are_read_and_give_the_gain(tmp_path, capsys):
    header = "ImageJ=1.53k\nimages=200\nframes=200\n"
    tifffile.imwrite(tmp_path / "stopped.tif", two_lines(2, 60), description=header, metadata=None)
    assert is_right(estimate(tmp_path / "stopped.tif", capsys))


def test_frames_that_were_lost_on_the_way_are_named_and_leave_the_gain_right(tmp_path, capsys):
    stack = two_lines(3, 120)
    stack[[40, 41, 90]] = 0
    tifffile.imwrite(tmp_path / "lost.tif", stack)
    assert main(["estimate", str(tmp_path / "lost.tif"), *OPTICS, "--json"]) == 0
    said = capsys.readouterr()
    assert is_right(json.loads(said.out))
    assert all(number in said.err for number in ("40", "41", "90"))


def test_electrons_per_count_given_for_counts_per_photon_are_contradicted():
    found = fg.calibrate(two_lines(4, 150), fg.Psi(fg.gaussian_psf(300, 100, 2), (32, 32), 2), gain=0.46, offset=OFFSET)
    assert any("electrons per count" in remark for remark in found.remarks)


@pytest.mark.parametrize("seed", [0, 1])
def test_isolated_molecules_keep_their_light(seed):
    rng = np.random.default_rng(seed)
    at = np.array([(5.5 + 10 * i, 5.5 + 10 * j) for i in range(3) for j in range(3)])
    photons = 500 * np.column_stack([switching(1, 200, share, 5.0, rng)[:, 0] for share in np.linspace(0.04, 0.3, 9)])
    psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (32, 32), 2)
    stack = counts(images(at, photons, 32) + 5, rng)
    found = fg.calibrate(stack, psi, gain=GAIN, offset=OFFSET, noise_std=READ)
    result = fg.reconstruct(stack, calibration=found)
    row, column = (np.arange(64)[:, None] + 0.5) / 2, (np.arange(64)[None, :] + 0.5) / 2
    for place, truth in zip(at, photons.mean(axis=0)):
        near = np.hypot(row - place[0], column - place[1]) < 4
        light = result.psi.photons_per_emitter * result.x[near].sum()
        error = np.sqrt((truth + 50 * (5 + (READ / GAIN) ** 2)) / 200)
        assert abs(light - truth) < max(0.1 * truth, 3 * error)


@pytest.mark.parametrize("seed", range(4))
def test_few_bright_molecules_give_the_gain_within_its_error_or_none(seed):
    rng = np.random.default_rng(seed)
    turn = np.sqrt(np.linspace(1.0, 180.0, 400))
    at = 16 + turn[:, None] * np.column_stack([np.sin(1.7 * turn), np.cos(1.7 * turn)])
    light = images(at, 3000.0 * switching(400, 50, 0.03, 3.0, rng), 32, fwhm_px=2.0) + 800
    stack = counts(light, rng, 1.0, 800.0, 20.0)
    try:
        found = fg.estimate_camera(stack, fg.Psi(fg.gaussian_psf(256, 128, 2), (32, 32), 2))
    except ValueError as refusal:
        said = str(refusal)
    else:
        assert abs(found.camera.gain - 1.0) < 3 * found.gain_error
        return
    assert "give the gain" in said


def test_two_lines_stay_two_where_a_scan_has_shifted_every_second_row():
    columns, rng = np.arange(41), np.random.default_rng(0)
    light = np.zeros((40, 40))
    for row in range(40):
        for centre in (8.3, 17.1, 19.2, 30.4):
            ends = (columns - centre - 0.17 * (-1) ** row) / 1.38 / np.sqrt(2)
            light[row] += 1.6 * np.diff(erf(ends))
    stack = rng.poisson(np.broadcast_to(light + 0.001, (500, 40, 40))).astype(np.uint8)
    psi = fg.Psi(fg.gaussian_psf(325, 103, 3), (40, 40), 3)
    found = fg.calibrate(stack, psi, gain=1.0, offset=0.0, noise_std=0.0)
    assert any("odd rows lie" in remark for remark in found.remarks)
    profile = fg.reconstruct(stack, calibration=found).x.sum(axis=0)
    left, middle, right = (profile[int(3 * at) - 2 : int(3 * at) + 3] for at in (17.1, 18.15, 19.2))
    assert middle.min() < 0.735 * min(left.max(), right.max())


def test_a_uniform_bar_on_a_bump_of_the_background_is_one():
    rng = np.random.default_rng(0)
    across = np.concatenate([np.linspace(-1.55, 1.55, 40), np.linspace(-7.5, -6.6, 13), np.linspace(6.6, 7.5, 13)])
    at = np.array([(down, 16 + place) for down in np.linspace(4, 28, 121) for place in across])
    row, column = np.mgrid[:32, :32] / 32
    bump = 5 * (0.6 + 0.8 * np.exp(-((column - 0.3) ** 2 + (row - 0.6) ** 2) / 0.3))
    light = images(at, np.full((1, len(at)), 3.2), 32, fwhm_px=3.18)[0] + bump
    stack = counts(np.broadcast_to(light, (500, 32, 32)), rng, read=2.2)
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (32, 32), 4)
    result = fg.reconstruct(stack, psi=psi, camera=fg.Camera(GAIN, OFFSET, 2.2))
    profile = result.x[24:104].sum(axis=0)[56:72]
    dips = [1 - profile[k] / min(profile[:k].max(), profile[k + 1 :].max()) for k in range(1, 15)]
    assert max(dips) < 0.265


def test_a_bead_on_read_noise_is_as_wide_as_it_is():
    rng = np.random.default_rng(0)
    spot = images(np.array([[12.5, 12.5]]), np.array([[3000.0]]), 25)[0] + 8
    bead = rng.poisson(spot) + 100 + 2 * rng.standard_normal(spot.shape)
    psf = fg.measured_psf(bead, zoom=4)
    middle = psf.shape[0] // 2
    profile = psf.sum(axis=0)
    place = np.arange(len(profile)) - middle
    width = np.sqrt((profile * place**2).sum()) * np.sqrt(8 * np.log(2)) * 25
    assert abs(width / 300 - 1) < 0.05
