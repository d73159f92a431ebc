"""What is measured on a mirrored or transposed stack is the same to rounding: no decision can differ by a hair's breadth."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg

TURNS = {
    "up-down": lambda a: a[..., ::-1, :],
    "left-right": lambda a: a[..., ::-1],
    "transposed": lambda a: a.swapaxes(-1, -2),
}


def recording(side: int, photons: float) -> np.ndarray:
    """Molecules that blink, unevenly spread, so that nothing about the field is symmetric."""
    rng = np.random.default_rng(5)
    psi = fg.Psi(fg.gaussian_psf(280, 100, 2), (side, side), 2, backend="numpy")
    where = np.minimum(rng.exponential(side / 2, (60, 2)), 2 * side - 1).astype(int)
    light = np.empty((80, side, side))
    for frame in light:
        x = np.zeros(psi.fine_shape, np.float32)
        np.add.at(x, tuple(where.T), photons * (rng.random(60) < 0.3))
        frame[:] = psi.forward(x) + 5.0
    return np.rint(2.0 * rng.poisson(light) + 100 + rng.normal(0, 2, light.shape)).astype(np.uint16)


@pytest.mark.parametrize(("side", "photons"), [(24, 400.0), (27, 30.0)])
def test_the_calibration_of_a_turned_stack_is_the_same(side, photons):
    stack, psi = recording(side, photons), fg.Psi(fg.gaussian_psf(280, 100, 2), (side, side), 2, backend="numpy")

    def numbers(frames: np.ndarray) -> tuple[float, ...]:
        found = fg.calibrate(np.ascontiguousarray(frames), psi)
        e = found.estimate
        return (
            *(getattr(found.camera, name) for name in ("gain", "offset", "noise_std")),
            *(found.psi.photons_per_emitter, found.psf_width.measured, found.psf_width.width, found.noise.of_mean),
            *(found.psf_shape.change, found.psf_shape.error),
            *(e.gain_error, e.offset_error, e.noise_std_error, e.photons_per_emitter_error),
        )

    plain = numbers(stack)
    for turn in TURNS.values():
        assert numbers(turn(stack)) == pytest.approx(plain, rel=1e-6)
