"""The CPU kernels of sampling and of the prox step equal the array functions that define them."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core import photons, random
from fluogan_core.kernels.cpu import _compile, double_poisson, elementary, philox, poisson
from fluogan_core.kernels.cpu import photons as kernel_photons
from fluogan_core.kernels.cpu import prox_step as kernel_prox
from fluogan_core.prox import prox_step
from fluogan_core.random import Stage, seed_words

SEED = 0xFEDCBA9876543210
KEY = seed_words(SEED)


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request, monkeypatch):
    """Run on so many threads, with the little work of a test counted as worth sharing."""
    monkeypatch.setattr("fluogan_core.kernels.cpu.threads.thread_count", lambda: request.param)
    monkeypatch.setattr(poisson, "_WORTH_A_BLOCK", 1)


@pytest.fixture
def array_path(monkeypatch):
    """Let the library compute without its kernels: what it returns then is the definition."""
    monkeypatch.setattr(fg.Backend, "kernel", lambda backend, name: None)


def mixed_means(rng, size):
    """Means of every rule: dark, dim, either side of the switches, and beyond float32's whole numbers."""
    edges = [0.0, 1e-12, np.nextafter(10.0, 0), 10.0, 2.0**24, np.nextafter(2.0**24, np.inf), 1e8]
    return rng.permutation(np.concatenate([edges, np.exp(rng.uniform(-7, 7, size - len(edges)))]))


def test_restated_constants_are_those_of_the_definition():
    assert poisson.POISSON_INVERSION_BELOW == random.POISSON_INVERSION_BELOW
    assert poisson.POISSON_NORMAL_ABOVE == random.POISSON_NORMAL_ABOVE
    assert poisson.HALF_LOG_TWO_PI == random.HALF_LOG_TWO_PI
    assert tuple(poisson.LOG_FACTORIALS) == random.LOG_FACTORIALS


def test_words_are_equal_bit_for_bit(rng):
    counters = rng.integers(0, 2**32, (5000, 4), dtype=np.uint32)
    expected = np.stack(random.philox(*counters.T, KEY), axis=1)
    np.testing.assert_array_equal(philox.philox_words(counters, *KEY), expected)


@pytest.mark.parametrize(
    ("function", "reference", "low", "high"),
    [
        (elementary.log, math.log, 1e-300, 1e-3),
        (elementary.log, math.log, 0.5, 2.0),
        (elementary.log, math.log, 1.0, 1e300),
        (elementary.exp, math.exp, -10.0, 0.0),
        (elementary.exp, math.exp, -700.0, 700.0),
        # cos(2 pi v) of the library loses digits at its zeros to the rounding of 2 pi v; a shift by exact quarters does not
        (elementary.cos_turns, lambda v: math.sin(2 * math.pi * (abs(v - 0.5) - 0.25)), 0.0, 1.0),
    ],
)
def test_elementary_functions_are_within_3_ulp(function, reference, low, high, rng):
    uniform = rng.random(20_000)
    x = np.concatenate([[low, high], low + (high - low) * uniform])
    if low > 0 and high / low > 1e6:
        x = np.concatenate([x, np.exp(np.log(low) + np.log(high / low) * uniform)])
    evaluate = numba.vectorize(["float64(float64)"])(lambda v: function(v))
    expected = np.array([reference(v) for v in x])
    assert (np.abs(evaluate(x) - expected) <= 3 * np.spacing(np.abs(expected))).all()


def test_cosine_of_turns_is_the_cosine(rng):
    v = rng.random(1000)
    evaluate = numba.vectorize(["float64(float64)"])(lambda v: elementary.cos_turns(v))
    np.testing.assert_allclose(evaluate(v), np.cos(2 * np.pi * v), rtol=0, atol=1e-15)


def test_counts_are_equal(rng, threads):
    mean = mixed_means(rng, 40_000).reshape(8, 5000)
    frame, pixel = np.arange(8)[:, None], rng.integers(0, 2**32, 5000)
    expected = random.poisson(mean, SEED, Stage.DETECTION, 17, frame, pixel)
    np.testing.assert_array_equal(poisson.poisson(mean, *KEY, Stage.DETECTION, 17, frame, pixel), expected)


def test_counts_drawn_one_by_one_are_equal(rng):
    @numba.njit
    def draw(mean, key, stage, step, out):
        for i in range(mean.size):
            out[i] = poisson_scalar(mean[i], np.uint64(i), np.uint64(3), stage, step, key[0], key[1])

    poisson_scalar = poisson.poisson_scalar
    mean, out = mixed_means(rng, 20_000), np.empty(20_000, dtype=np.float32)
    draw(mean, np.array(KEY, dtype=np.uint64), np.uint64(Stage.EMISSION), np.uint64(4), out)
    np.testing.assert_array_equal(out, random.poisson(mean, SEED, Stage.EMISSION, 4, 3, np.arange(mean.size)))


def sparse_image(rng, shape, dtype=np.float32):
    """Mostly dark, the rest of means on both sides of the switch of rules."""
    x = np.exp(rng.uniform(-5, 4, shape)) * (rng.random(shape) < 0.2)
    return x.astype(dtype)


def model_of(shape, factor, *, gain=2.5, noise_std=1.5, kappa=20.0):
    psf = fg.gaussian_psf(200, 100, factor, truncate=2)
    psi = fg.Psi(psf, shape, factor, photons_per_emitter=kappa, backend="numpy")
    return fg.ForwardModel(psi, gain=gain, noise_std=noise_std)


@pytest.mark.parametrize(
    ("shape", "factor"),
    [((11, 13), 2), ((25, 27), 4)],
    ids=["one span", "two spans, the last one short"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_emissions_are_equal(shape, factor, dtype, rng, threads, array_path):
    model = model_of(shape, factor)
    x = sparse_image(rng, model.psi.fine_shape, dtype)
    numbers = np.array([3, 4, 1000])
    out = np.full((3, *model.psi.fine_shape), np.nan, dtype=np.float32)
    returned = double_poisson.emissions(x, numbers, *KEY, Stage.EMISSION, 6, out)
    assert returned is out
    np.testing.assert_array_equal(out, model.emissions(x, numbers, SEED, 6))
    assert not out[:, x == 0].any()


def test_a_dark_image_emits_nothing(threads):
    out = np.full((2, 8, 8), np.nan, dtype=np.float32)
    assert not double_poisson.emissions(np.zeros((8, 8)), [0, 1], *KEY, Stage.EMISSION, 0, out).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("noise_std", [0.0, 1.5])
def test_detection_is_equal(dtype, noise_std, rng, threads, array_path):
    model = model_of((19, 23), 2, noise_std=noise_std)
    blurred = rng.gamma(0.5, 20.0, (4, 19, 23)).astype(np.float32)
    blurred[:, 3] = -1e-6  # what an FFT may leave of nothing
    background = rng.gamma(1.0, 1.0, (19, 23)).astype(dtype)
    background[3, :5] = 0.0
    numbers = np.array([7, 8, 9, 2**31])
    expected = model.detect(blurred, background, numbers, SEED, 2)
    out = np.empty(blurred.shape, dtype=np.float32)
    double_poisson.detect(
        blurred,
        background,
        model.epsilon,
        numbers,
        *KEY,
        Stage.DETECTION,
        Stage.READ_NOISE,
        2,
        model.gain,
        noise_std,
        out,
    )
    # one unit in the last place of the larger of the two terms of y, where noise is added
    scale = 0 if noise_std == 0 else np.spacing(np.float32(np.abs(expected).max()))
    np.testing.assert_allclose(out, expected, rtol=0, atol=scale)
    if noise_std:
        quiet = model_of((19, 23), 2, noise_std=0.0).detect(blurred, background, numbers, SEED, 2)
        np.testing.assert_allclose(out - quiet, expected - quiet, rtol=1e-6, atol=scale)


def test_both_stages_make_the_samples_of_the_forward_model(rng, array_path):
    model = model_of((16, 12), 4)
    x = sparse_image(rng, model.psi.fine_shape)
    b = np.full((16, 12), 0.7, dtype=np.float32)
    numbers = np.arange(40, 46)
    z, y = np.empty((6, 64, 48), dtype=np.float32), np.empty((6, 16, 12), dtype=np.float32)
    double_poisson.emissions(x, numbers, *KEY, Stage.EMISSION, 1, z)
    stages = (Stage.DETECTION, Stage.READ_NOISE)
    double_poisson.detect(model.psi.forward(z), b, model.epsilon, numbers, *KEY, *stages, 1, model.gain, 1.5, y)
    expected = model.sample(x, b, 6, SEED, first_frame=40, step=1)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=np.spacing(np.float32(expected.max())))


def test_an_array_that_cannot_be_written_in_place_is_refused():
    strided = np.empty((2, 8, 16), dtype=np.float32)[:, :, ::2]
    with pytest.raises(ValueError, match=r"C-contiguous array of shape \(2, 8, 8\)"):
        double_poisson.emissions(np.ones((8, 8)), [0, 1], *KEY, Stage.EMISSION, 0, strided)


@pytest.mark.parametrize("kappa", [0.4, 20.0])
@pytest.mark.parametrize("binning", ["sum", "point"])
def test_photons_are_equal_and_in_order(kappa, binning, rng, threads, array_path):
    psf = fg.gaussian_psf(250, 100, 3, truncate=3)
    psi = fg.Psi(psf, (9, 8), 3, photons_per_emitter=kappa, binning=binning, backend="numpy")
    table = photons.PlacementTable(psi)
    corners = [0, 23, 26 * 24, 27 * 24 - 1]  # where photons get lost
    indices = np.concatenate([corners, rng.permutation(27 * 24)])
    frames = np.array([5, 0, 77])
    starts, pixels = kernel_photons.draw_photons(
        table.totals, table.cumulative, table.rows, table.columns, table.shape, table.factor, indices, frames, *KEY,
        Stage.COUPLED_COUNT, Stage.COUPLED_PLACE, 9,
    )  # fmt: skip
    assert starts.dtype == np.int64
    assert pixels.dtype == np.int32
    expected = photons.draw_photons(table, indices, frames, seed=SEED, step=9)
    np.testing.assert_array_equal(starts, expected.starts)
    np.testing.assert_array_equal(pixels, expected.pixels)


def test_no_fine_pixels_have_no_photons():
    table = photons.PlacementTable(model_of((6, 6), 2).psi)
    starts, pixels = kernel_photons.draw_photons(
        table.totals, table.cumulative, table.rows, table.columns, table.shape, table.factor, [], 0, *KEY, 3, 4, 0
    )
    assert starts.tolist() == [0]
    assert pixels.size == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (37, 53)])
def test_the_prox_step_is_equal(dtype, shape, rng, array_path):
    x = rng.gamma(0.5, 2.0, shape).astype(dtype)
    grad = rng.normal(size=shape).astype(dtype)
    expected = prox_step(x, grad, step=0.3, threshold=0.2)
    before = x.copy()
    out = np.empty_like(x)
    change, size, total = kernel_prox.prox_step(x, grad, 0.3, 0.2, out)
    np.testing.assert_array_equal(out, expected.x)
    np.testing.assert_array_equal(x, before)
    new = out.astype(np.float64)
    moved = (out - x).astype(np.float64)
    # n additions of non-negative float64 numbers
    tolerance = x.size * np.finfo(np.float64).eps
    np.testing.assert_allclose([change, size, total], [(moved**2).sum(), (new**2).sum(), new.sum()], rtol=tolerance)
    assert kernel_prox.prox_step(x, grad, 0.3, 0.2, x) == (change, size, total)
    np.testing.assert_array_equal(x, out)


def test_the_prox_step_may_overwrite_its_gradient(rng):
    x, grad = rng.random((2, 40, 40))
    out = np.empty_like(x)
    expected = kernel_prox.prox_step(x, grad, 0.3, 0.2, out)
    assert kernel_prox.prox_step(x, grad, 0.3, 0.2, grad) == expected
    np.testing.assert_array_equal(grad, out)


def test_the_prox_step_refuses_what_it_cannot_write():
    x = np.ones((4, 4), dtype=np.float32)
    with pytest.raises(ValueError, match="grad must be a C-contiguous float32 array"):
        kernel_prox.prox_step(x, x.astype(np.float64), 0.1, 0.0, x)
    with pytest.raises(ValueError, match="x must be float32 or float64"):
        kernel_prox.prox_step(x.astype(int), x, 0.1, 0.0, x)


PROBE = """
import numpy as np
from ._compile import kernel
from .philox import philox4x32

@kernel()
def first_word():
    return philox4x32(0, 0, 0, 0, 0, 0)[0]

print(hex(first_word()), sum(first_word.stats.cache_hits.values()))
"""


def test_an_edit_in_another_module_of_the_folder_recompiles(tmp_path):
    """Numba's own cache would go on running the old Philox: it looks at the kernel's file alone."""
    folder = tmp_path / "kernels" / "cpu"
    shutil.copytree(Path(_compile.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "probe.py").write_text(PROBE, encoding="utf-8")
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run() -> list[str]:
        command = [sys.executable, "-c", "import kernels.cpu.probe"]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        ).stdout.split()

    assert run() == ["0x6627e8d5", "0"]
    assert run() == ["0x6627e8d5", "1"]
    source = (folder / "philox.py").read_text(encoding="utf-8")
    (folder / "philox.py").write_text(source.replace("0xD2511F53", "0xD2511F55"), encoding="utf-8")
    word, hits = run()
    assert word != "0x6627e8d5"
    assert hits == "0"
