"""The covariance fit of a stack that is mirrored, transposed, shifted, scaled, ...: the same, within stated bounds."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.solvers.weights import Weights

SIDE, FACTOR, PHOTONS = 24, 2, 120.0
#: So many that held-out frames and chunks lie alike from either end.
FRAMES = 67
CAMERA = fg.Camera(gain=2.0, offset=100.0, noise_std=2.0)
OPTIONS = fg.SolverOptions(warm_steps=150, steps=8, tolerance=0.0)

TURNS = {
    "up-down": lambda a: a[..., ::-1, :],
    "left-right": lambda a: a[..., ::-1],
    "transposed": lambda a: a.swapaxes(-1, -2),
    "a quarter turn": lambda a: np.rot90(a, axes=(-2, -1)),
}


def operator() -> fg.Psi:
    psf = fg.gaussian_psf(250, 100, FACTOR)
    return fg.Psi(psf, (SIDE, SIDE), FACTOR, photons_per_emitter=PHOTONS, backend="numpy")


@functools.cache
def recording() -> np.ndarray:
    """Two lines and some spots of molecules that blink, dark from six camera pixels off the border."""
    rng, psi = np.random.default_rng(11), operator()
    lines = [np.c_[np.full(12, at), rng.integers(14, 34, 12)] for at in (19, 25)]
    where = np.concatenate([*lines, rng.integers(14, 34, (4, 2))])
    emitting = rng.random((FRAMES, len(where))) < 0.2
    light = np.empty((FRAMES, SIDE, SIDE), np.float32)
    for number, on in enumerate(emitting):
        x = np.zeros(psi.fine_shape, np.float32)
        np.add.at(x, tuple(where.T), on.astype(np.float32))
        light[number] = psi.forward(x) + 6.0
    stack = np.rint(2.0 * rng.poisson(light) + 100 + rng.normal(0, 2, light.shape)).astype(np.uint16)
    stack.flags.writeable = False
    return stack


def fitted(stack: np.ndarray, camera: fg.Camera = CAMERA, weights: Weights | None = None) -> fg.Result:
    solver = fg.Solver(np.ascontiguousarray(stack), psi=operator(), camera=camera, options=OPTIONS, weights=weights)
    return solver.run(progress=False)


@pytest.fixture(scope="module")
def plain() -> fg.Result:
    result = fitted(recording())
    stop = result.stops["covariance"]
    assert stop.steps >= 4
    assert stop.share == 1
    assert np.linalg.norm(result.x - result.x_mean_fit) > 0.1 * np.linalg.norm(result.x)
    return result


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_a_turned_stack_has_the_turned_image(plain, turn):
    found = fitted(turn(recording()))
    assert np.abs(found.x - turn(plain.x)).max() <= 0.01 * plain.x.max()
    assert np.abs(found.b - turn(plain.b)).max() <= 0.01 * plain.b.max()


@pytest.fixture(scope="module")
def held() -> tuple[Weights, fg.Result]:
    """Weights of (11) that are held, since those of a field follow from its noise, and a shift brings in other pixels."""
    weights = fg.Solver(recording(), psi=operator(), camera=CAMERA, options=OPTIONS).weights
    return weights, fitted(recording(), weights=weights)


@pytest.mark.parametrize("shift", [(1, 0), (2, -3)])
def test_a_shifted_scene_has_the_shifted_image(held, shift):
    """With windows whose squared amplitudes add up to one it is moved by 10 % of its maximum.

    The background is a smooth fit of the whole field: other pixels at its border move it by less than its error, and the image
    of the mean with it.
    """
    weights, plain = held
    found = fitted(np.roll(recording(), shift, axis=(1, 2)), weights=weights)
    for image, there, bound in ((found.x, plain.x, 0.04), (found.x_mean_fit, plain.x_mean_fit, 0.03)):
        back = np.roll(image, tuple(-FACTOR * by for by in shift), axis=(0, 1))
        assert np.abs(back - there)[8:-8, 8:-8].max() <= bound * there.max()


def test_weights_that_are_given_say_how_much_covariances_weigh(held):
    """The noise of a shifted stack is read from other differences of neighbours: it must not weigh anew."""
    weights, _ = held
    shifted = np.ascontiguousarray(np.roll(recording(), (2, -3), axis=(1, 2)))
    scales = [
        float(fg.Solver(stack, psi=operator(), camera=CAMERA, options=OPTIONS, weights=given).phases[1].scale)
        for stack, given in ((recording(), weights), (shifted, weights), (shifted, None))
    ]
    assert scales[0] == scales[1]
    assert scales[0] != scales[2]


def test_counts_of_another_kind_and_twice_as_large_are_the_same_bytes(plain):
    stack = recording()
    for same in (stack.astype(np.float64), stack.astype(">u2"), np.asfortranarray(stack)):
        np.testing.assert_array_equal(fitted(same).x, plain.x)
    doubled = fitted(2 * stack.astype(np.int32), fg.Camera(gain=4.0, offset=200.0, noise_std=4.0))
    np.testing.assert_array_equal(doubled.x, plain.x)
    np.testing.assert_array_equal(doubled.b, plain.b)


def test_another_offset_moves_nothing_but_rounding(plain):
    raised = fitted(recording().astype(np.int32) + 1000, fg.Camera(gain=2.0, offset=1100.0, noise_std=2.0))
    assert np.abs(raised.x - plain.x).max() <= 1e-3 * plain.x.max()


def test_frames_in_reversed_order_have_the_same_image(plain):
    """Chunks and held-out frames lie as in a mirror, and differences of consecutive frames are the same but for their sign."""
    turned = fitted(recording()[::-1])
    assert np.abs(turned.x - plain.x).max() <= 1e-3 * plain.x.max()


def test_the_order_of_frames_matters_less_than_another_recording_would(plain):
    shuffled = fitted(recording()[np.random.default_rng(0).permutation(FRAMES)])
    assert np.linalg.norm(shuffled.x - plain.x) <= 0.15 * np.linalg.norm(plain.x)
