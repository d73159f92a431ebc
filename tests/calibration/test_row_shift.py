"""Odd and even rows that are shifted against each other, as a bidirectional scan leaves them."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.calibration.noise import stack_noise
from fluogan_core.calibration.row_shift import estimate_row_shift, row_shift_notes

FWHM, PX = 300.0, 110.0


def lines(shift: float, *, centres=(9.4, 20.0, 22.0, 33.7), shape=(36, 44), brightness=3.0) -> np.ndarray:
    """Vertical lines in photons per pixel, odd rows ``shift`` pixels to the right of even ones."""
    sigma = FWHM / 2.3548 / PX
    column = np.arange(shape[1])
    light = np.full(shape, 0.002)
    for row in range(shape[0]):
        for centre in centres:
            light[row] += brightness * np.exp(-0.5 * ((column - centre - shift * (row % 2 - 0.5)) / sigma) ** 2)
    return light


def recorded(light: np.ndarray, seed: int, frames: int = 300) -> np.ndarray:
    return np.random.default_rng(seed).poisson(light, (frames, *light.shape)).astype(np.uint16)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shift", [-0.5, 0.0, 0.12, 0.9])
def test_the_shift_is_measured_along_rows_and_columns(shift, axis):
    errors = []
    for seed in range(8):
        mean = recorded(lines(shift), seed).mean(axis=0)
        found = estimate_row_shift(mean.T if axis else mean, axis=axis)
        errors.append((found.shift - shift) / found.error)
        assert found.error < 0.03
        assert found.clear == (shift != 0)
    assert np.abs(errors).max() < 4
    assert abs(np.mean(errors)) < 1.5


def test_without_light_or_without_rows_nothing_is_measured():
    noise = np.random.default_rng(3).standard_normal((40, 40))
    assert np.isnan(estimate_row_shift(noise).shift)
    assert np.isnan(estimate_row_shift(lines(0.3)[:10]).shift)
    # lines along the columns say nothing of a shift of columns along themselves
    long = recorded(np.broadcast_to(lines(0.0)[18], (36, 44)), 4).mean(axis=0)
    assert not estimate_row_shift(long, axis=1).clear
    assert estimate_row_shift(np.full((40, 40), 5.0)).error == np.inf


def test_the_camera_estimate_says_by_how_much_rows_are_shifted():
    found = fg.estimate_camera(recorded(lines(0.3), 5), gain=1.0, offset=0.0, noise_std=0.0)
    (note,) = (note for note in found.notes if "bidirectional" in note)
    assert float(note.split("lie ")[1].split()[0]) == pytest.approx(0.3, abs=0.04)
    assert not any("columns lie" in note for note in found.notes)
    assert row_shift_notes(recorded(lines(0.0), 6).mean(axis=0)) == []


def test_a_hot_pixel_is_no_shift():
    stack = recorded(lines(0.0), 7)
    stack[:, 17, 22] += 500
    found = fg.estimate_camera(stack, gain=1.0, offset=0.0, noise_std=0.0)
    assert not any("bidirectional" in note for note in found.notes)


def test_shifted_rows_are_no_white_noise_of_the_mean():
    psi = fg.Psi(fg.gaussian_psf(FWHM, PX, 4), (36, 44), 4)
    straight, shifted = (stack_noise(recorded(lines(shift), 8).astype(float), psi) for shift in (0.0, 0.4))
    assert straight.patterned == 0
    assert straight.excess == pytest.approx(1.0, abs=0.12)
    assert shifted.patterned > 0.5
    assert shifted.excess == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("columns", [False, True])
def test_a_pair_of_lines_comes_apart_although_rows_are_shifted(columns):
    light = lines(0.36, shape=(24, 44))
    stack = recorded(light.T if columns else light, 9, frames=400)
    stack = np.ascontiguousarray(stack)
    psi = fg.Psi(fg.gaussian_psf(FWHM, PX, 4), stack.shape[1:], 4)
    x = fg.reconstruct(stack, psi=psi, camera=fg.Camera()).x
    across = (x.T if columns else x)[24:-24].sum(axis=0)
    first, second = (int(4 * (centre + 0.5)) for centre in (20.0, 22.0))
    between = across[first : second + 1].min()
    assert between < 0.7 * min(across[first - 2 : first + 3].max(), across[second - 2 : second + 3].max())
