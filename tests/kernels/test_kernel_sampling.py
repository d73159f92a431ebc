"""The kernels of sampling and of the prox step equal the array functions that define them, whoever runs them."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_sets import mixed_means

import fluogan_core as fg
from fluogan_core.backend import random
from fluogan_core.backend.random import Stage, seed_words
from fluogan_core.kernels.cpu import philox as cpu_philox
from fluogan_core.kernels.cuda import double_poisson as cuda_double_poisson
from fluogan_core.objective.prox import prox_step, prox_total_variation
from fluogan_core.physics import photons

SEED = 0xFEDCBA9876543210
KEY = seed_words(SEED)

#: Published with Random123: counter, key, words.
RANDOM123 = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


def words(kernels, counters, key):
    if kernels.backend.cuda is None:
        return cpu_philox.philox_words(counters, *key)
    return kernels.get(cuda_double_poisson.philox_words(kernels.backend.cuda, kernels.put(counters), *key))


def model_of(shape, factor, *, gain=2.5, noise_std=1.5, kappa=20.0):
    psf = fg.gaussian_psf(200, 100, factor, truncate=2)
    psi = fg.Psi(psf, shape, factor, photons_per_emitter=kappa, backend="numpy")
    return fg.ForwardModel(psi, gain=gain, noise_std=noise_std)


def sparse_image(rng, shape, dtype=np.float32):
    """Mostly dark, the rest of means on both sides of the switch of rules."""
    x = np.exp(rng.uniform(-5, 4, shape)) * (rng.random(shape) < 0.2)
    return x.astype(dtype)


@pytest.mark.parametrize(("counter", "key", "expected"), RANDOM123)
def test_words_are_those_that_random123_publishes(kernels, counter, key, expected):
    assert words(kernels, np.array([counter], dtype=np.uint32), key)[0].tolist() == list(expected)


def test_words_are_equal_bit_for_bit(kernels, rng):
    counters = rng.integers(0, 2**32, (5000, 4), dtype=np.uint32)
    expected = np.stack(random.philox(*counters.T, KEY), axis=1)
    np.testing.assert_array_equal(words(kernels, counters, KEY), expected)


def test_counts_of_every_rule_are_equal(kernels, rng):
    mean = mixed_means(rng, 40_000).reshape(200, 200)
    numbers = np.array([0, 5, 2**32 - 1])
    out = kernels.empty((3, 200, 200))
    kernels.find("emissions")(kernels.put(mean), numbers, *KEY, Stage.DETECTION, 17, out)
    expected = random.poisson(
        np.broadcast_to(mean.ravel(), (3, mean.size)), SEED, Stage.DETECTION, 17, numbers[:, None], np.arange(mean.size)
    )
    np.testing.assert_array_equal(kernels.get(out).reshape(3, -1), expected)


@pytest.mark.parametrize(
    ("shape", "factor"),
    [((11, 13), 2), ((25, 27), 4)],
    ids=["one span", "several spans, the last one short"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_emissions_are_equal(kernels, shape, factor, dtype, rng, array_path):
    model = model_of(shape, factor)
    x = sparse_image(rng, model.psi.fine_shape, dtype)
    numbers = np.array([3, 4, 1000])
    out = kernels.empty((3, *model.psi.fine_shape))
    returned = kernels.find("emissions")(kernels.put(x), numbers, *KEY, Stage.EMISSION, 6, out)
    assert returned is out
    np.testing.assert_array_equal(kernels.get(out), model.emissions(x, numbers, SEED, 6))
    assert not kernels.get(out)[:, x == 0].any()


def test_a_dark_image_emits_nothing(kernels):
    out = kernels.empty((2, 8, 8))
    kernels.find("emissions")(kernels.put(np.zeros((8, 8))), [0, 1], *KEY, Stage.EMISSION, 0, out)
    assert not kernels.get(out).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("noise_std", [0.0, 1.5])
def test_detection_is_equal(kernels, dtype, noise_std, rng, array_path):
    model = model_of((19, 23), 2, noise_std=noise_std)
    blurred = rng.gamma(0.5, 20.0, (4, 19, 23)).astype(np.float32)
    blurred[:, 3] = -1e-6  # what an FFT may leave of nothing
    background = rng.gamma(1.0, 1.0, (19, 23)).astype(dtype)
    background[3, :5] = 0.0
    numbers = np.array([7, 8, 9, 2**31])
    expected = model.detect(blurred, background, numbers, SEED, 2)
    device_out = kernels.empty(blurred.shape)
    kernels.find("detect")(
        kernels.put(blurred),
        kernels.put(background),
        model.epsilon,
        numbers,
        *KEY,
        Stage.DETECTION,
        Stage.READ_NOISE,
        2,
        model.gain,
        noise_std,
        device_out,
    )
    out = kernels.get(device_out)
    # one unit in the last place of the larger of the two terms of y, where noise is added
    scale = 0 if noise_std == 0 else np.spacing(np.float32(np.abs(expected).max()))
    np.testing.assert_allclose(out, expected, rtol=0, atol=scale)
    if noise_std:
        quiet = model_of((19, 23), 2, noise_std=0.0).detect(blurred, background, numbers, SEED, 2)
        np.testing.assert_allclose(out - quiet, expected - quiet, rtol=1e-6, atol=scale)


def test_both_stages_make_the_samples_of_the_forward_model(kernels, rng, array_path):
    model = model_of((16, 12), 4)
    x = sparse_image(rng, model.psi.fine_shape)
    b = np.full((16, 12), 0.7, dtype=np.float32)
    numbers = np.arange(40, 46)
    z, y = kernels.empty((6, 64, 48)), kernels.empty((6, 16, 12))
    kernels.find("emissions")(kernels.put(x), numbers, *KEY, Stage.EMISSION, 1, z)
    blurred = kernels.put(model.psi.forward(kernels.get(z)))
    stages = (Stage.DETECTION, Stage.READ_NOISE)
    kernels.find("detect")(blurred, kernels.put(b), model.epsilon, numbers, *KEY, *stages, 1, model.gain, 1.5, y)
    expected = model.sample(x, b, 6, SEED, first_frame=40, step=1)
    np.testing.assert_allclose(kernels.get(y), expected, rtol=1e-6, atol=np.spacing(np.float32(expected.max())))


def test_an_array_that_cannot_be_written_in_place_is_refused(kernels):
    strided = kernels.empty((2, 8, 16))[:, :, ::2]
    with pytest.raises(ValueError, match=r"C-contiguous array of shape \(2, 8, 8\)"):
        kernels.find("emissions")(kernels.put(np.ones((8, 8))), [0, 1], *KEY, Stage.EMISSION, 0, strided)


@pytest.mark.parametrize("kappa", [0.4, 20.0])
@pytest.mark.parametrize("binning", ["sum", "point"])
def test_photons_are_equal_and_in_order(kernels, kappa, binning, rng, array_path):
    psf = fg.gaussian_psf(250, 100, 3, truncate=3)
    psi = fg.Psi(psf, (9, 8), 3, photons_per_emitter=kappa, binning=binning, backend="numpy")
    table = photons.PlacementTable(psi)
    corners = [0, 23, 26 * 24, 27 * 24 - 1]  # where photons get lost
    indices = np.concatenate([corners, rng.permutation(27 * 24)])
    frames = np.array([5, 0, 77])
    places = (kernels.put(a) for a in (table.totals, table.cumulative, table.rows, table.columns))
    starts, pixels = kernels.find("draw_photons")(
        *places, table.shape, table.factor, indices, frames, *KEY, Stage.COUPLED_COUNT, Stage.COUPLED_PLACE, 9
    )
    assert starts.dtype == np.int64
    assert pixels.dtype == np.int32
    expected = photons.draw_photons(table, indices, frames, seed=SEED, step=9)
    np.testing.assert_array_equal(kernels.get(starts), expected.starts)
    np.testing.assert_array_equal(kernels.get(pixels), expected.pixels)


def test_no_fine_pixels_have_no_photons(kernels):
    table = photons.PlacementTable(model_of((6, 6), 2).psi)
    places = (kernels.put(a) for a in (table.totals, table.cumulative, table.rows, table.columns))
    starts, pixels = kernels.find("draw_photons")(*places, table.shape, table.factor, [], 0, *KEY, 3, 4, 0)
    assert kernels.get(starts).tolist() == [0]
    assert pixels.size == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (37, 53), (300, 301)])
def test_the_prox_step_is_equal(kernels, dtype, shape, rng, array_path):
    x = rng.gamma(0.5, 2.0, shape).astype(dtype)
    grad = rng.normal(size=shape).astype(dtype)
    expected = prox_step(x, grad, step=0.3, threshold=0.2)
    step, old, slope, new = kernels.find("prox_step"), kernels.put(x), kernels.put(grad), kernels.empty(shape, dtype)
    change, size, total = step(old, slope, 0.3, 0.2, new)
    out = kernels.get(new)
    np.testing.assert_array_equal(out, expected.x)
    np.testing.assert_array_equal(kernels.get(old), x)
    wide = out.astype(np.float64)
    moved = (out - x).astype(np.float64)
    # n additions of non-negative float64 numbers
    tolerance = x.size * np.finfo(np.float64).eps
    np.testing.assert_allclose([change, size, total], [(moved**2).sum(), (wide**2).sum(), wide.sum()], rtol=tolerance)
    assert step(old, slope, 0.3, 0.2, old) == (change, size, total)
    np.testing.assert_array_equal(kernels.get(old), out)


def test_the_prox_step_may_overwrite_its_gradient(kernels, rng):
    x, grad = (kernels.put(a) for a in rng.random((2, 40, 40)))
    out, step = kernels.empty((40, 40), np.float64), kernels.find("prox_step")
    expected = step(x, grad, 0.3, 0.2, out)
    assert step(x, grad, 0.3, 0.2, grad) == expected
    np.testing.assert_array_equal(kernels.get(grad), kernels.get(out))


def test_the_prox_step_may_write_over_a_part_of_what_it_reads(kernels, rng):
    room = kernels.put(rng.random(5001))
    grad, out, step = kernels.put(rng.random(5000)), kernels.empty((5000,), np.float64), kernels.find("prox_step")
    expected = step(room[:-1].copy(), grad, 0.3, 0.2, out)
    assert step(room[:-1], grad, 0.3, 0.2, room[1:]) == expected
    np.testing.assert_array_equal(kernels.get(room[1:]), kernels.get(out))


def test_the_prox_step_refuses_what_it_cannot_write(kernels):
    x, step = kernels.put(np.ones((4, 4), dtype=np.float32)), kernels.find("prox_step")
    with pytest.raises(ValueError, match="grad must be a C-contiguous float32 array"):
        step(x, x.astype(np.float64), 0.1, 0.0, x)
    with pytest.raises(ValueError, match="x must be float32 or float64"):
        step(x.astype(int), x, 0.1, 0.0, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (37, 53)])
@pytest.mark.parametrize("unequal", [False, True], ids=["one weight", "weights and edges of their own"])
def test_the_prox_of_the_total_variation_is_equal(kernels, dtype, shape, unequal, rng, array_path):
    v = rng.normal(0.3, 1.0, shape).astype(dtype)
    weight, edges = (np.exp(rng.uniform(-2, 1, shape)).astype(dtype) for _ in range(2)) if unequal else (0.7, None)
    dual = np.zeros((4, *shape), dtype)
    prox, held, new = kernels.find("prox_total_variation"), kernels.put(dual), kernels.empty(shape, dtype)
    more = [kernels.put(weight), kernels.put(edges)] if unequal else [weight, None]
    for sweeps in (0, 1, 4):  # each from where the last one ended
        expected = prox_total_variation(v, weight, dual=dual, sweeps=sweeps, edges=edges)
        prox(kernels.put(v), more[0], held, sweeps, new, more[1])
        np.testing.assert_array_equal(kernels.get(new), expected)
        np.testing.assert_array_equal(kernels.get(held), dual)
    assert v.size < 100 or (expected == 0).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_far_below_rounding_in_a_dual_becomes_nothing(kernels, dtype, array_path):
    """Denormal numbers would slow every later sweep down; what is larger stays as it is."""
    dual = np.zeros((4, 3, 3), dtype)
    dual[0, 0, 0], dual[1, 0, 1], dual[2, 1, 0] = 1e-17, -1e-20, 1e-15
    held, prox = kernels.put(dual), kernels.find("prox_total_variation")
    v = np.full((3, 3), -1, dtype)  # an image of zeros, which leaves a dual as it is
    prox(kernels.put(v), 0.1, held, 1, kernels.empty((3, 3), dtype))
    prox_total_variation(v, 0.1, dual=dual, sweeps=1)
    np.testing.assert_array_equal(kernels.get(held), dual)
    assert (dual[0, 0, 0], dual[1, 0, 1], dual[2, 1, 0]) == (0, 0, dtype(1e-15))


def test_the_prox_of_the_total_variation_may_overwrite_its_image(kernels, rng):
    v, duals = kernels.put(rng.random((40, 40))), [kernels.put(np.zeros((4, 40, 40))) for _ in range(2)]
    out, prox = kernels.empty((40, 40), np.float64), kernels.find("prox_total_variation")
    prox(v, 0.3, duals[0], 3, out)
    prox(v, 0.3, duals[1], 3, v)
    np.testing.assert_array_equal(kernels.get(v), kernels.get(out))


def test_the_prox_of_the_total_variation_refuses_what_it_cannot_write(kernels):
    v, prox = kernels.put(np.ones((4, 4), dtype=np.float32)), kernels.find("prox_total_variation")
    with pytest.raises(ValueError, match=r"dual must be a C-contiguous float32 array of shape \(4, 4, 4\)"):
        prox(v, 0.1, kernels.put(np.zeros((4, 4, 5), dtype=np.float32)), 1, kernels.empty((4, 4), np.float32))
    with pytest.raises(ValueError, match="v must be float32 or float64"):
        prox(v.astype(int), 0.1, v, 1, v)
