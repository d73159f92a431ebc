"""A given gain or offset that the stack contradicts is taken as given, and said."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg

SHAPE = (28, 32)
PSI = fg.Psi(fg.gaussian_psf(310, 100, 2), SHAPE, 2, backend="numpy")
GAIN, OFFSET, NOISE = 1.8, 110.0, 2.5


@pytest.fixture(scope="module")
def stack() -> np.ndarray:
    rng = np.random.default_rng(31)
    x = np.zeros(PSI.fine_shape, dtype=np.float32)
    x[6:-6, 14] = x[6:-6, 40] = 60.0
    x[20, 10:50] = 40.0
    rate = np.maximum(PSI.forward(rng.poisson(x / 15, (250, *x.shape)).astype(np.float32) * 15), 0) + np.linspace(
        2, 9, SHAPE[1]
    )
    return np.rint(GAIN * rng.poisson(rate) + OFFSET + NOISE * rng.standard_normal(rate.shape)).astype(np.uint16)


def said(stack: np.ndarray, **given: float) -> list[str]:
    return [note for note in fg.estimate_camera(stack, PSI, **given).notes if "was given, but" in note]


def test_the_inverse_gain_is_recognised(stack):
    (note,) = said(stack, gain=0.55, offset=OFFSET)
    assert float(note.split("suggests ")[1].split()[0]) == pytest.approx(GAIN, rel=0.1)
    assert "1/0.55 = 1.82 is near it: was it given in electrons per count?" in note
    assert fg.estimate_camera(stack, PSI, gain=0.55).camera.gain == 0.55


def test_another_wrong_gain_is_said_without_a_guess(stack):
    (note,) = said(stack, gain=6.0)
    assert "electrons per count" not in note


@pytest.mark.parametrize("given", [{"gain": GAIN}, {"gain": 1.1 * GAIN, "offset": OFFSET}, {"offset": OFFSET - 3}, {}])
def test_what_the_stack_allows_is_not_remarked_on(stack, given):
    assert said(stack, **given) == []


def test_an_offset_above_the_darkest_pixels_is_said(stack):
    (note,) = said(stack, offset=OFFSET + 40)
    assert "offset 150 was given, but the darkest pixels are 11" in note


def test_it_is_said_where_everything_is_given(stack):
    camera = fg.Camera(0.55, OFFSET, NOISE)
    found = fg.calibrate(stack, PSI, camera=camera, photons_per_emitter=15.0, psf_width=1)
    assert found.camera == camera
    assert sum("electrons per count" in remark for remark in found.remarks) == 1
    right = fg.calibrate(stack, PSI, camera=fg.Camera(GAIN, OFFSET, NOISE), photons_per_emitter=15.0, psf_width=1)
    assert not any("was given, but" in remark for remark in right.remarks)


def test_a_stack_that_does_not_tell_contradicts_nothing():
    flat = 100 + 5.0 * np.random.default_rng(32).standard_normal((60, *SHAPE))
    with pytest.raises(ValueError, match="gain cannot be read"):
        fg.estimate_camera(flat, PSI)
    assert said(flat, gain=5.0) == []
