"""What only the Numba kernels have: elementary functions, counts one by one, threads, a cache that sees every edit."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from kernel_sets import mixed_means

from fluogan_core.backend import random
from fluogan_core.backend.random import Stage, seed_words
from fluogan_core.kernels.cpu import _compile, elementary, poisson

SEED = 0xFEDCBA9876543210
KEY = seed_words(SEED)


def test_restated_constants_are_those_of_the_definition():
    assert poisson.POISSON_INVERSION_BELOW == random.POISSON_INVERSION_BELOW
    assert poisson.POISSON_NORMAL_ABOVE == random.POISSON_NORMAL_ABOVE
    assert poisson.HALF_LOG_TWO_PI == random.HALF_LOG_TWO_PI
    assert tuple(poisson.LOG_FACTORIALS) == random.LOG_FACTORIALS


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


def test_counts_drawn_one_by_one_are_equal(rng):
    @numba.njit
    def draw(mean, key, stage, step, out):
        for i in range(mean.size):
            out[i] = poisson_scalar(mean[i], np.uint64(i), np.uint64(3), stage, step, key[0], key[1])

    poisson_scalar = poisson.poisson_scalar
    mean, out = mixed_means(rng, 20_000), np.empty(20_000, dtype=np.float32)
    draw(mean, np.array(KEY, dtype=np.uint64), np.uint64(Stage.EMISSION), np.uint64(4), out)
    np.testing.assert_array_equal(out, random.poisson(mean, SEED, Stage.EMISSION, 4, 3, np.arange(mean.size)))


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
        return subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout.split()

    assert run() == ["0x6627e8d5", "0"]
    assert run() == ["0x6627e8d5", "1"]
    source = (folder / "philox.py").read_text(encoding="utf-8")
    (folder / "philox.py").write_text(source.replace("0xD2511F53", "0xD2511F55"), encoding="utf-8")
    word, hits = run()
    assert word != "0x6627e8d5"
    assert hits == "0"


@pytest.fixture
def fresh_kernel(tmp_path, monkeypatch):
    """Compile or load a small kernel as a new process does; returns its results and how often the cache had it."""
    source = tmp_path / "small.py"
    source.write_text("def twice(x):\n    return x + x\n", encoding="utf-8")
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(tmp_path / "cache"))

    def run() -> tuple[float, int, int]:
        specification = importlib.util.spec_from_file_location("small", source)
        module = importlib.util.module_from_spec(specification)
        monkeypatch.setitem(sys.modules, "small", module)
        specification.loader.exec_module(module)
        twice = _compile.kernel()(module.twice)
        return twice(1.5), twice(2), sum(twice.stats.cache_hits.values())

    return run


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b"",
        lambda b: b[:20],
        lambda b: b[:-7],
        lambda b: bytes(len(b)),
        lambda b: b[:-9] + bytes([b[-9] ^ 4]) + b[-8:],
    ],
    ids=["empty", "cut within the digest", "cut", "zeros", "one bit"],
)
def test_a_damaged_cache_is_compiled_anew(tmp_path, fresh_kernel, suffix, damage):
    """An interpreter that was killed, a full disk: Numba's own raises UnpicklingError or EOFError in every later process."""
    assert fresh_kernel() == (3.0, 4, 0)
    assert fresh_kernel() == (3.0, 4, 2)
    files = list((tmp_path / "cache").rglob(f"*{suffix}"))
    assert files
    for file in files:
        file.write_bytes(damage(file.read_bytes()))
    assert fresh_kernel() == (3.0, 4, 0)
    assert fresh_kernel() == (3.0, 4, 2)


def test_a_cache_that_cannot_be_written_costs_no_work(fresh_kernel, monkeypatch):
    def full(self, path):
        raise OSError(28, os.strerror(28), path)

    monkeypatch.setattr(_compile.IndexDataCacheFile, "_open_for_write", full)
    assert fresh_kernel() == (3.0, 4, 0)
    assert fresh_kernel() == (3.0, 4, 0)
