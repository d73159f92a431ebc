"""Stacks whose variance is nearly all flicker: the gain is right within its error, or it is refused with what to give.

The PSF passes nothing at high frequencies, so there the noise is free of flicker.  Through a narrow PSF it is not.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

import fluogan_core as fg

PX, FWHM, SHAPE = 110.0, 280.0, (30, 34)
PSI = fg.Psi(fg.gaussian_psf(FWHM, PX, 2), SHAPE, 2, backend="numpy")
NARROW_FWHM = 130.0
NARROW = fg.Psi(fg.gaussian_psf(NARROW_FWHM, PX, 2), SHAPE, 2, backend="numpy")


def molecules(
    seed: int, count: int, frames: int, *, photons: float, share: float, frames_on: float, fwhm: float = FWHM
) -> np.ndarray:
    """Photons per pixel and frame of molecules on a ring, that are on for so many frames in a row on average."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * np.pi, count), rng.normal(9, 1.5, count)
    at = np.c_[SHAPE[0] / 2 + radius * np.sin(angle), SHAPE[1] / 2 + radius * np.cos(angle)]
    sigma = fwhm / 2.3548 / PX
    rows, columns = (
        np.diff(erf((np.arange(n + 1)[:, None] - at[:, k]) / sigma / 2**0.5), axis=0) / 2 for k, n in enumerate(SHAPE)
    )
    on = np.zeros((frames, count))
    on[0] = rng.random(count) < share
    for t in range(1, frames):
        draw = rng.random(count)
        on[t] = np.where(on[t - 1] > 0, draw > 1 / frames_on, draw < share / (1 - share) / frames_on)
    return photons * np.einsum("rn,tn,cn->trc", rows, on, columns, optimize=True)


def record(light: np.ndarray, seed: int, gain: float, offset: float, noise: float) -> np.ndarray:
    rng = np.random.default_rng(500 + seed)
    return (
        np.rint(gain * rng.poisson(light) + offset + noise * rng.standard_normal(light.shape)).clip(0, 65535).astype(np.uint16)
    )


def within_errors_or_refused(stack: np.ndarray, gain: float, psi: fg.Psi = PSI) -> bool:
    """Whether it was refused; fails where neither holds."""
    try:
        found = fg.estimate_camera(stack, psi)
    except ValueError as refusal:
        text = str(refusal)
    else:
        assert abs(found.camera.gain - gain) <= 4.0 * found.gain_error
        return False
    assert "gain cannot be read" in text
    assert "give the gain" in text
    return True


@pytest.mark.parametrize("frames", [40, 120])
@pytest.mark.parametrize(("gain", "background", "noise"), [(1.0, 600.0, 18.0), (2.5, 25.0, 4.0), (0.4, 60.0, 1.5)])
def test_few_bright_molecules_do_not_make_a_gain_of_dozens(frames, gain, background, noise):
    for seed in range(2):
        light = molecules(seed, 300, frames, photons=4000.0, share=0.03, frames_on=2.5) + background
        refused = within_errors_or_refused(record(light, seed, gain, 300.0, noise), gain)
        assert not refused or background == 600.0  # photons of the background hide those of the molecules
        light = molecules(seed, 300, frames, photons=4000.0, share=0.03, frames_on=2.5, fwhm=NARROW_FWHM) + background
        within_errors_or_refused(record(light, seed, gain, 300.0, noise), gain, NARROW)


def test_the_errors_of_the_gain_are_those_of_the_scatter_however_few_and_bright_the_molecules_and_short_the_stack():
    pulls = []
    for seed in range(30):
        light = molecules(seed, 300, 40, photons=4000.0, share=0.03, frames_on=2.5) + 25.0
        found = fg.estimate_camera(record(light, seed, 2.5, 300.0, 4.0), PSI)
        assert found.gain_error < 0.3
        pulls.append((found.camera.gain - 2.5) / found.gain_error)
    assert abs(np.mean(pulls)) < 0.6
    assert 0.65 < np.std(pulls) < 1.35


def test_many_dim_molecules_are_not_refused():
    for seed in range(3):
        light = molecules(seed, 1500, 200, photons=90.0, share=0.15, frames_on=2.0) + np.linspace(4, 16, SHAPE[1])
        assert not within_errors_or_refused(record(light, seed, 2.1, 100.0, 2.0), 2.1)


@pytest.mark.parametrize(("background", "noise"), [(600.0, 18.0), (25.0, 4.0)])
def test_a_given_gain_is_not_refused(background, noise):
    for seed in range(4):
        light = molecules(seed, 300, 40, photons=4000.0, share=0.03, frames_on=2.5) + background
        found = fg.estimate_camera(record(light, seed, 2.5, 300.0, noise), PSI, gain=2.5)
        assert found.camera.gain == 2.5
        assert abs(found.photons_per_emitter / 4000.0 - 1) < 0.7


def test_a_refusal_names_the_frames_after_the_bleaching():
    light = molecules(8, 300, 120, photons=4000.0, share=0.03, frames_on=2.5, fwhm=NARROW_FWHM) + 600.0
    fade = 0.2 + 0.8 * np.exp(-np.arange(120) / 15.0)
    with pytest.raises(ValueError, match=r"after most of the bleaching \(--frames \d+:120\)") as refusal:
        fg.estimate_camera(record(light * fade[:, None, None], 8, 1.0, 300.0, 18.0), NARROW)
    assert 15 <= int(str(refusal.value).split("(--frames ")[1].split(":")[0]) <= 35
