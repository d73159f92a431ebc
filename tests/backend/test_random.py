"""Random words and counts, the array functions and the CPU kernels alike: published vectors, exact laws, independence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fluogan_core.backend import random
from fluogan_core.backend.random import Stage
from fluogan_core.kernels.cpu import philox as kernel_philox
from fluogan_core.kernels.cpu import poisson as kernel_poisson

# Known answers published with Random123 for philox4x32 at 10 rounds: counter, key, words.
ONES = 0xFFFFFFFF
KNOWN = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)
MEANS = (1e-3, 0.05, 1.0, 5.0, 9.99, 10.0, 30.0, 300.0, 5000.0, 1e6, 1e8)
DRAWS = 100_000
# Every check against a law is one of fewer than 100; together they raise a false alarm for one seed in a thousand.
FALSE_ALARM = 1e-3 / 100


def array_words(counter, key):
    return [int(w) for w in random.philox(*counter, key)]


def kernel_words(counter, key):
    return kernel_philox.philox_words(np.array([counter]), *key)[0].tolist()


def array_counts(mean, seed, stage, step, frame, pixel):
    return random.poisson(mean, seed, stage, step, frame, pixel)


def kernel_counts(mean, seed, stage, step, frame, pixel):
    return kernel_poisson.poisson(mean, *random.seed_words(seed), stage, step, frame, pixel)


both = pytest.mark.parametrize("draw", [array_counts, kernel_counts], ids=["arrays", "kernel"])


@pytest.mark.parametrize("words", [array_words, kernel_words], ids=["arrays", "kernel"])
@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN, ids=["zeros", "ones", "pi"])
def test_philox_gives_the_published_words(words, counter, key, expected):
    assert words(counter, key) == list(expected)


def test_seed_words_split_a_seed():
    assert random.seed_words(0x0123456789ABCDEF) == (0x89ABCDEF, 0x01234567)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, "7"])
def test_a_bad_seed_is_refused(seed):
    with pytest.raises(ValueError, match="seed must be a whole number"):
        random.seed_words(seed)


@pytest.mark.parametrize("word", [0, ONES])
def test_uniforms_are_inside_the_open_interval(word, monkeypatch):
    monkeypatch.setattr(random, "philox", lambda *_, **__: (np.array([word], dtype=np.uint64),) * 4)
    for u in random.uniform(0, 0, 0, 0, 0):
        assert 0.0 < u[0] < 1.0


def test_uniforms_are_uniform():
    u, v = random.uniform(3, Stage.BATCH, 0, 0, np.arange(DRAWS))
    assert stats.kstest(u, "uniform").pvalue > FALSE_ALARM
    assert stats.kstest(v, "uniform").pvalue > FALSE_ALARM
    assert abs(np.corrcoef(u, v)[0, 1]) < 5 / math.sqrt(DRAWS)


def test_normals_are_normal():
    z = random.normal(11, Stage.READ_NOISE, 2, 7, np.arange(DRAWS))
    assert stats.kstest(z, "norm").pvalue > FALSE_ALARM


def quantile_edges(mean: float) -> np.ndarray:
    """Whole numbers that cut the law into at most 40 parts of 20 expected draws or more."""
    edges = np.unique(stats.poisson.ppf(np.linspace(0, 1, 41)[1:-1], mean))
    if mean > random.POISSON_NORMAL_ABOVE:
        # between two neighbouring float32, so that rounding a count does not carry it over an edge
        spacing = float(np.spacing(np.float32(mean)))
        edges = np.unique((np.floor(edges / spacing) + 0.5) * spacing)
    tail = DRAWS * stats.poisson.sf(edges, mean)
    edges = edges[tail >= 20]
    head = DRAWS * stats.poisson.cdf(edges, mean)
    return edges[head >= 20]


@both
@pytest.mark.parametrize("mean", MEANS)
def test_counts_follow_the_exact_law(draw, mean):
    counts = draw(np.full(DRAWS, mean), 5, Stage.EMISSION, 1, 3, np.arange(DRAWS)).astype(np.float64)
    assert (counts >= 0).all()
    assert (counts == np.floor(counts)).all()

    edges = quantile_edges(mean)
    seen = np.bincount(np.searchsorted(edges, counts), minlength=len(edges) + 1)
    expected = DRAWS * np.diff(stats.poisson.cdf(edges, mean), prepend=0.0, append=1.0)
    assert stats.chisquare(seen, expected).pvalue > FALSE_ALARM

    # Var of a sample variance: (mu4 - var^2) / n, with mu4 = mean + 3 mean^2
    assert abs(counts.mean() - mean) < 5 * math.sqrt(mean / DRAWS)
    assert abs(counts.var() - mean) < 5 * math.sqrt((mean + 2 * mean**2) / DRAWS)


@both
def test_the_tail_of_a_small_mean_is_there(draw):
    """Counts that one draw in a thousand reaches, at a mean where most counts are 0."""
    mean, n = 0.05, 400_000
    counts = draw(np.full(n, mean), 8, Stage.EMISSION, 0, 0, np.arange(n))
    expected = n * stats.poisson.sf(1, mean)
    assert abs((counts >= 2).sum() - expected) < 5 * math.sqrt(expected)


@both
def test_zero_means_give_zero(draw):
    assert not draw(np.zeros(1000), 1, Stage.EMISSION, 0, 0, np.arange(1000)).any()


@both
def test_counters_that_differ_anywhere_give_independent_counts(draw):
    mean = np.full(DRAWS, 4.0)
    pixel = np.arange(DRAWS)
    base = draw(mean, 1, Stage.EMISSION, 0, 0, pixel)
    others = {
        "seed": draw(mean, 2, Stage.EMISSION, 0, 0, pixel),
        "high word of the seed": draw(mean, 1 + 2**32, Stage.EMISSION, 0, 0, pixel),
        "stage": draw(mean, 1, Stage.DETECTION, 0, 0, pixel),
        "step": draw(mean, 1, Stage.EMISSION, 1, 0, pixel),
        "frame": draw(mean, 1, Stage.EMISSION, 0, 1, pixel),
        "pixel": draw(mean, 1, Stage.EMISSION, 0, 0, pixel + 1),
    }
    np.testing.assert_array_equal(others["pixel"][:-1], base[1:])
    for name, other in others.items():
        assert abs(np.corrcoef(base, other)[0, 1]) < 5 / math.sqrt(DRAWS), name


@both
def test_means_apart_share_nothing_but_the_counter(draw):
    """A count depends on its own mean and counter, not on its neighbours in the array, their order or their number."""
    rng = np.random.default_rng(0)
    mean = np.concatenate([rng.uniform(0, 40, 900), [0.0, 1e9, 3e7, 1e-12]])
    frame, pixel = rng.integers(0, 2**32, (2, mean.size))
    whole = draw(mean, 6, Stage.DETECTION, 9, frame, pixel)
    pieces = [draw(mean[i : i + 37], 6, Stage.DETECTION, 9, frame[i : i + 37], pixel[i : i + 37]) for i in range(0, 904, 37)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    order = rng.permutation(mean.size)
    np.testing.assert_array_equal(draw(mean[order], 6, Stage.DETECTION, 9, frame[order], pixel[order]), whole[order])


@both
def test_shapes_broadcast_and_counts_are_float32(draw):
    counts = draw(np.full((3, 4), 2.5), 1, Stage.EMISSION, 0, np.arange(3)[:, None], np.arange(4)[None, :])
    assert counts.shape == (3, 4)
    assert counts.dtype == np.float32


def test_no_uniform_runs_past_the_end_of_the_distribution_function(monkeypatch):
    """The sum of the terms may stop a few 1e-16 short of 1; a uniform above it must not be searched for ever."""
    mean = np.linspace(0.01, 9.99, 999)
    top = np.full(mean.shape, 1 - 2.0**-53)
    monkeypatch.setattr(random, "uniform", lambda *_, **__: (top, top))
    arrays = random.poisson(mean, 0, 0, 0, 0, np.arange(mean.size))
    where, kernel = np.empty(mean.size, dtype=np.int64), np.empty(mean.size)
    assert kernel_poisson.invert_block(mean, np.exp(-mean), top, where, kernel) == mean.size
    for counts in (arrays, kernel):
        assert (stats.poisson.sf(counts, mean) < 1e-13).all()
        assert (stats.poisson.sf(counts - 1, mean) > 1e-18).all()


def test_log_factorial_is_accurate():
    k = np.arange(3000)
    exact = np.array([math.log(math.factorial(int(i))) for i in k])
    np.testing.assert_allclose(random.log_factorial(k.astype(float)), exact, rtol=1e-13, atol=1e-15)
    large = np.array([1e4, 123456.0, 1e6, 2.0**24])
    np.testing.assert_allclose(random.log_factorial(large), [math.lgamma(v + 1) for v in large], rtol=1e-14)
