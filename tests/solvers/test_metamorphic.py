"""A stack that is mirrored, transposed, shifted, permuted or scaled has the mirrored, ... image: nothing else may change it."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import fluogan_core as fg

SIDE, FACTOR = 22, 2
CAMERA = fg.Camera(gain=2.0, offset=100.0, noise_std=2.0)
MEAN_FIT = fg.SolverOptions(method="none", warm_steps=300, tolerance=0.0)

TURNS = {
    "up-down": lambda a: a[..., ::-1, :],
    "left-right": lambda a: a[..., ::-1],
    "transposed": lambda a: a.swapaxes(-1, -2),
    "a quarter turn": lambda a: np.rot90(a, axes=(-2, -1)),
}


def operator(side: int) -> fg.Psi:
    return fg.Psi(fg.gaussian_psf(300, 100, FACTOR), (side, side), FACTOR, backend="numpy")


@functools.cache
def recording(frames: int = 60, side: int = SIDE) -> np.ndarray:
    """Lines and spots of molecules that blink, dark at the border."""
    rng, psi = np.random.default_rng(11), operator(side)
    across, down = (np.c_[np.full(30, at), rng.integers(12, 34, 30)] for at in (17, 24))
    where = np.concatenate([across, down[:, ::-1], rng.integers(12, 34, (10, 2))]) + (side - SIDE) * FACTOR // 2
    light = np.empty((frames, side, side), np.float32)
    for number in range(frames):
        x = np.zeros(psi.fine_shape, np.float32)
        np.add.at(x, tuple(where.T), 120.0 * (rng.random(len(where)) < 0.2))
        light[number] = psi.forward(x) + 6.0
    stack = np.rint(2.0 * rng.poisson(light) + 100 + rng.normal(0, 2, light.shape)).astype(np.uint16)
    stack.flags.writeable = False
    return stack


def fitted(stack: np.ndarray, camera: fg.Camera = CAMERA, weights: fg.Weights | None = None) -> tuple[np.ndarray, np.ndarray]:
    psi, stack = operator(stack.shape[1]), np.ascontiguousarray(stack)
    found = fg.reconstruct(stack, psi=psi, camera=camera, options=MEAN_FIT, weights=weights, progress=False)
    return found.x, found.b


@pytest.fixture(scope="module")
def plain() -> tuple[np.ndarray, np.ndarray]:
    return fitted(recording())


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_the_mean_fit_of_a_turned_stack_is_the_turned_image(plain, turn):
    x, b = fitted(turn(recording()))
    assert np.abs(x - turn(plain[0])).max() <= 1e-3 * plain[0].max()
    assert np.abs(b - turn(plain[1])).max() <= 1e-3 * plain[1].max()


@pytest.mark.parametrize("seed", [2, 4])
def test_rounding_errors_do_not_grow_in_the_longest_fits(seed):
    """900 iterations of bright points, where the background meets its bound: inexact proximal operators may amplify them."""
    rng, psi = np.random.default_rng(seed), operator(24)
    light = psi.forward((rng.random(psi.fine_shape) < 0.02) * 300.0)
    stack = rng.poisson(light + 5, (100, 24, 24))
    solver = fg.Solver(stack, psi=psi, options=fg.SolverOptions(method="none"))
    assert solver.weights.iterations == 900
    x = solver.run(progress=False).x
    turned = fg.reconstruct(np.ascontiguousarray(stack.swapaxes(1, 2)), psi=psi, options=solver.options, progress=False).x
    assert np.abs(turned - x.T).max() <= 1e-3 * x.max()


def test_a_scene_that_is_shifted_by_whole_pixels_is_shifted():
    """Dark pixels that leave the field come in on the other side: what is left is the background, which knows the border.

    The weights are held: they follow from the noise, which is read from differences of neighbours.
    """
    stack = recording(side=36)
    weights = fg.Solver(stack, psi=operator(36), camera=CAMERA, options=MEAN_FIT).weights
    x = fitted(stack, weights=weights)[0]
    for rows, columns in ((1, 0), (2, -3)):
        shifted = fitted(np.roll(stack, (rows, columns), axis=(1, 2)), weights=weights)[0]
        expected = np.roll(x, (rows * FACTOR, columns * FACTOR), axis=(0, 1))
        assert np.abs(shifted - expected)[6:-6, 6:-6].max() <= 0.02 * x.max()


def test_the_order_of_frames_does_not_matter_to_the_mean_fit(plain):
    stack = recording()
    x, _ = fitted(stack[np.random.default_rng(0).permutation(len(stack))])
    # what does: held-out frames and the noise that is read from consecutive ones
    assert np.linalg.norm(x - plain[0]) <= 0.05 * np.linalg.norm(plain[0])


def test_counts_scaled_by_a_power_of_two_and_another_dtype_are_the_same_bytes(plain):
    stack = recording()
    for same in (stack.astype(np.float64), stack.astype(np.int32), stack.astype(">u2"), np.asfortranarray(stack)):
        np.testing.assert_array_equal(fitted(same)[0], plain[0])
    doubled = fitted(2 * stack.astype(np.int32), fg.Camera(gain=4.0, offset=200.0, noise_std=4.0))
    np.testing.assert_array_equal(doubled[0], plain[0])


def test_another_offset_moves_nothing_but_rounding(plain):
    raised = fitted(recording().astype(np.int32) + 1000, fg.Camera(gain=2.0, offset=1100.0, noise_std=2.0))
    assert np.abs(raised[0] - plain[0]).max() <= 1e-3 * plain[0].max()
