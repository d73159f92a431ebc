"""Each thing that spoils a calibration has a message of its own, with the frames or the switch to use."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.calibration.pixel_moments import Halves, PixelMoments
from fluogan_core.calibration.remarks import gain_refusal

SHAPE = (24, 24)


def operator(fwhm_nm: float = 300.0) -> fg.Psi:
    return fg.Psi(fg.gaussian_psf(fwhm_nm, 100, 2), SHAPE, 2, backend="numpy")


def light(seed: int, frames: int = 120) -> np.ndarray:
    """Blinking molecules on a dim background, photons."""
    rng, psi = np.random.default_rng(seed), operator()
    x = np.zeros((frames, *psi.fine_shape), np.float32)
    where = rng.integers(4, 44, (60, 2))
    x[:, where[:, 0], where[:, 1]] = 400.0 * (rng.random((frames, 60)) < 0.2)
    return np.stack([psi.forward(image) for image in x]) + 8.0


def camera(photons: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.rint(2.0 * rng.poisson(photons) + 100 + rng.normal(0, 2, photons.shape)).astype(np.uint16)


def alternating(seed: int) -> np.ndarray:
    photons = light(seed)
    photons[1::2] *= 0.3
    return camera(photons, seed)


def every_other_lost(seed: int) -> np.ndarray:
    stack = camera(light(seed), seed)
    stack[::2] = 0
    return stack


def some_lost(seed: int) -> np.ndarray:
    stack = camera(light(seed), seed)
    stack[[3, 50, 51]] = 0
    return stack


def bright_first(seed: int) -> np.ndarray:
    photons = light(seed)
    photons[0] *= 8
    return camera(photons, seed)


def bleaching(seed: int) -> np.ndarray:
    photons = light(seed)
    return camera(photons * np.exp(-np.arange(len(photons)) / 20.0)[:, None, None] + 2, seed)


CAUSES = {
    "alternating colours": (alternating, r"every other frame is darker .*stack\[::2\]"),
    "every other frame lost": (every_other_lost, r"every other frame is darker .* frames lost\?"),
    "zero frames": (some_lost, r"frames left out .*: 3, 50, 51 \(one value everywhere"),
    "a bright first frame": (bright_first, r"frames left out .*: 0 \(far brighter"),
    "strong bleaching": (
        bleaching,
        r"bleaching: the light of the sample falls to|after most of the bleaching \(--frames",
    ),
    "few frames": (lambda seed: camera(light(seed, 6), seed), r"only 6 frames|6 frames are too few"),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("stack", "message"), CAUSES.values(), ids=CAUSES)
def test_each_cause_is_named(stack, message, seed):
    try:
        said = " | ".join(fg.calibrate(stack(seed), operator()).remarks)
    except ValueError as refused:
        said = str(refused)
    assert re.search(message, said), said
    others = {name: pattern for name, (_, pattern) in CAUSES.items() if pattern != message and "every other" in pattern}
    assert "every other" in message or not any(re.search(pattern, said) for pattern in others.values())


def test_a_sound_stack_has_none_of_them():
    said = " | ".join(fg.calibrate(camera(light(5), 5), operator()).remarks)
    assert not any(re.search(message, said) for _, message in CAUSES.values()), said


def test_a_wrong_pixel_size_and_a_psf_of_noise_are_named(rng):
    stack = camera(light(6), 6)
    try:
        said = " | ".join(fg.calibrate(stack, operator(30.0)).remarks)
    except ValueError as refused:
        said = str(refused)
    assert "0.27 camera pixels wide" in said or "so narrow a PSF" in said
    noise = fg.Psi(rng.random((21, 21)), SHAPE, 2, backend="numpy")
    said = " | ".join(fg.calibrate(stack, noise).remarks)
    assert "another PSF" in said or "fit no PSF" in said or "a PSF of another shape" in said, said


def moments(brightness: np.ndarray) -> PixelMoments:
    mean = np.linspace(100, 130, 576).reshape(SHAPE)
    return PixelMoments(mean, mean, {}, {}, brightness, Halves(np.array([mean, mean]), {}, {}))


@pytest.mark.parametrize(
    ("brightness", "fwhm", "unexplained", "said"),
    [
        (np.tile([100.0, 140.0], 30), 3.0, 0.0, r"every other frame is darker"),
        (np.full(5, 100.0), 3.0, 0.0, r"5 frames are too few .* record 20 or more"),
        (np.full(60, 100.0), 0.27, 0.0, r"0.27 camera pixels .*--pixel-size-nm, --fwhm-nm"),
        (100 + 50 * np.exp(-np.arange(60) / 10.0), 3.0, 0.0, r"bleaches away .*--frames \d+:60"),
        (np.full(60, 100.0), 3.0, 9.0, r"most of its variance is flicker"),
        (np.full(60, 100.0), 3.0, 0.0, r"too alike, or too few"),
    ],
)
def test_a_refused_gain_names_its_cause_alone(brightness, fwhm, unexplained, said):
    message = gain_refusal(moments(brightness), 1.2, 3.0, unexplained, fwhm_pixels=fwhm)
    assert re.search(said, message), message
    assert len(message) < 330
