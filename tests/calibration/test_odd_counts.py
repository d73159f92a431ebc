"""Counts that no camera manual foresees: a large offset, no change at all, hardly any pixels, a ceiling."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg

PSI = fg.Psi(fg.gaussian_psf(250, 100, 2), (20, 14), 2, backend="numpy")


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    """Molecules of 50 photons that blink in 60 frames, whole counts."""
    rng = np.random.default_rng(5)
    x = np.where(rng.random(PSI.fine_shape) < 0.05, 0.5, 0.0).astype(np.float32)
    model = fg.ForwardModel(PSI.replaced(photons_per_emitter=50.0), gain=2.0, noise_std=3.0)
    return np.rint(model.sample(x, np.full(PSI.shape, 5, np.float32), 60, 1)).astype(np.int64)


@pytest.mark.parametrize("offset", [32768, 100_000, 5_000_000, -3_000_000])
def test_a_large_offset_changes_nothing_but_the_offset(counts, offset):
    """Signed counts that became unsigned ones, cameras of 32 bits: 0.00088 photons per emission were found for 49."""
    plain, raised = (fg.estimate_camera(counts + each, PSI) for each in (100, offset))
    assert plain.photons_per_emitter > 20
    assert raised.photons_per_emitter == pytest.approx(plain.photons_per_emitter, rel=1e-3)
    assert raised.camera.gain == pytest.approx(plain.camera.gain, rel=1e-3)
    assert raised.camera.noise_std == pytest.approx(plain.camera.noise_std, rel=1e-3)
    assert raised.camera.offset - offset == pytest.approx(plain.camera.offset - 100, abs=0.05)


@pytest.mark.parametrize("call", [fg.calibrate, fg.estimate_camera, fg.estimate_psf_width, fg.estimate_psf_shape])
@pytest.mark.parametrize(
    ("dtype", "offset", "words"),
    [
        (np.int64, 10**9, "float32 holds steps of 64 only: subtract a constant from all counts"),
        (np.uint64, 2**63, "subtract a constant"),
        (np.float64, 5e6, "float32 holds steps of 0.5 only"),
    ],
)
def test_counts_that_float32_rounds_away_are_refused(counts, call, dtype, offset, words):
    with pytest.raises(ValueError, match=words):
        call(counts.astype(dtype) + dtype(offset), PSI)


def test_whole_numbers_that_float32_holds_are_not(counts):
    """Up to 2^24, whatever their range."""
    assert fg.estimate_camera(counts + 10_000_000, PSI).camera.gain == pytest.approx(
        fg.estimate_camera(counts, PSI).camera.gain, rel=1e-3
    )


@pytest.mark.parametrize("given", [{}, {"camera": fg.Camera(2.0, 100.0, 3.0)}])
@pytest.mark.parametrize("value", [np.uint8(255), np.uint16(0), 7.5, -3])
def test_a_stack_that_never_changes_is_refused_as_such(value, given):
    with pytest.raises(ValueError, match="the frames do not change at all"):
        fg.calibrate(np.full((20, *PSI.shape), value), PSI, **given)


def test_a_stack_of_too_few_pixels_says_how_many_and_what_helps(counts):
    few = fg.Psi(fg.gaussian_psf(60, 100, 2, truncate=1), (3, 5), 2, backend="numpy")
    with pytest.raises(ValueError, match=r"15 of 15 pixels fluctuate .* at least 16 are needed: take a larger part"):
        fg.calibrate(counts[:, :3, :5], few, camera=fg.Camera(2.0, 0.0, 3.0))
    white = np.minimum(counts + 100, counts.min() + 102).astype(np.uint8)
    with pytest.raises(ValueError, match="record with less light if it saturates"):
        fg.calibrate(white, PSI)
