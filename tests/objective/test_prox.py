"""Proximal operators: each is optimal, the kernels' is the array code's, and light is kept."""

from __future__ import annotations

import numpy as np
import pytest

from fluogan_core.objective.prox import (
    edge_lengths,
    penalties,
    prox_l1_nonnegative,
    prox_nonnegative,
    prox_step,
    prox_total_variation,
    total_variation,
)
from fluogan_core.testing import assert_prox


def test_prox_operators_are_optimal(rng):
    v = 3 * rng.standard_normal((4, 5))
    assert_prox(prox_nonnegative, lambda u: 0.0, v)
    assert_prox(lambda u: prox_l1_nonnegative(u, 0.7), lambda u: 0.7 * np.abs(u).sum(), v)
    with pytest.raises(AssertionError, match="better"):
        assert_prox(lambda u: prox_l1_nonnegative(u, 0.5), lambda u: 0.7 * np.abs(u).sum(), v)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_prox_step_is_the_prox_of_the_gradient_step(backend, rng, dtype):
    x, grad = (backend.asarray(rng.standard_normal((6, 7)), dtype=dtype) for _ in range(2))
    x = abs(x)
    taken = prox_step(x, grad, step=0.3, threshold=0.2)
    expected = prox_l1_nonnegative(x - 0.3 * grad, 0.3 * 0.2)
    host = backend.to_host
    np.testing.assert_allclose(host(taken.x), host(expected), rtol=1e-6, atol=1e-7)
    assert taken.x.dtype == dtype
    assert taken.change == pytest.approx(float(np.linalg.norm(host(taken.x) - host(x))), rel=1e-5)
    assert taken.size == pytest.approx(float(np.linalg.norm(host(taken.x))), rel=1e-5)
    assert taken.total == pytest.approx(float(host(taken.x).sum()), rel=1e-5)
    same = prox_step(x, grad, step=0.3, threshold=0.2, out=x)
    assert same.x is x
    np.testing.assert_array_equal(host(x), host(taken.x))


def cells(x):
    """The four differences of each cell, (4, N1, N2), upper, lower, left, right, over the root of 2: written out one by one."""
    p = np.zeros((4, *x.shape))
    for i in range(x.shape[0] - 1):
        for j in range(x.shape[1] - 1):
            p[:, i, j] = (
                x[i, j + 1] - x[i, j],
                x[i + 1, j + 1] - x[i + 1, j],
                x[i + 1, j] - x[i, j],
                x[i + 1, j + 1] - x[i, j + 1],
            )
    return p / np.sqrt(2)


def divergence_of(dual):
    """Minus the adjoint of :func:`cells`, times what the dual is divided by: (N1, N2)."""
    out = np.zeros(dual.shape[1:])
    for i in range(out.shape[0] - 1):
        for j in range(out.shape[1] - 1):
            for p, first, second in zip(dual[:, i, j], ((0, 0), (1, 0), (0, 0), (0, 1)), ((0, 1), (1, 1), (1, 0), (1, 1))):
                out[i + first[0], j + first[1]] += p
                out[i + second[0], j + second[1]] -= p
    return out


def lengths_of(dual):
    return np.sqrt(2 * (dual**2).sum(axis=0))


TURNS = {
    "up-down": lambda a: a[::-1],
    "left-right": lambda a: a[:, ::-1],
    "transposed": lambda a: a.T,
    "a quarter turn": np.rot90,
}


def test_the_total_variation_is_the_length_of_all_edges(rng):
    disc = np.zeros((6, 8))
    disc[2:4, 3:6] = 2.0
    # 3 + 3 + 2 + 2 pixels of edge: a corner's cell holds a half of each of its two edges, and is as steep as one
    assert total_variation(disc) == pytest.approx(2.0 * 10)
    assert total_variation(np.full((5, 5), 7.0)) == 0.0
    x = rng.random((5, 7))
    assert total_variation(x) == pytest.approx(np.sqrt((cells(x) ** 2).sum(axis=0)).sum(), rel=1e-12)
    np.testing.assert_allclose(edge_lengths(x), np.sqrt((cells(x) ** 2).sum(axis=0)), rtol=1e-12)


def test_no_grain_is_free(rng):
    """Only a constant image costs nothing: a chessboard, which sums of diagonal differences would not see, costs the most."""
    board = (np.indices((8, 8)).sum(axis=0) % 2).astype(float)
    assert total_variation(board) == pytest.approx(49 * np.sqrt(2))
    along = np.linspace(0, 1, 9)[:, None] * np.ones(9)
    slanted = (along + along.T) / np.sqrt(2)
    assert total_variation(slanted) == pytest.approx(total_variation(along))  # a slope costs the same in all directions


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS.keys())
def test_the_total_variation_has_no_preferred_corner(backend, rng, turn):
    """Value and prox of a turned image, with weights and edges of their own for each pixel, are the turned ones."""
    v, xp = rng.gamma(1.0, 2.0, (9, 12)), backend.xp
    assert total_variation(turn(v)) == pytest.approx(total_variation(v), rel=1e-13)
    w, e = np.exp(rng.uniform(-3, 1, v.shape)), np.exp(rng.uniform(-1, 1, (8, 11)))

    def padded(edges, shape):
        out = np.ones(shape)
        out[:-1, :-1] = edges
        return out

    for weight, edges in ((lambda t: 0.4, None), (lambda t: backend.asarray(np.ascontiguousarray(t(w)), dtype=np.float64), e)):
        images = []
        for how in (lambda a: a, turn):
            image = np.ascontiguousarray(how(v))
            given = None if edges is None else backend.asarray(padded(how(edges), image.shape), dtype=np.float64)
            dual = xp.zeros((4, *image.shape))
            x = prox_total_variation(backend.asarray(image, dtype=np.float64), weight(how), dual=dual, sweeps=5, edges=given)
            images.append(backend.to_host(x))
        np.testing.assert_allclose(images[1], turn(images[0]), rtol=0, atol=1e-13 * v.max())


@pytest.mark.parametrize("weight", [0.05, 0.4, 3.0])
def test_the_prox_of_the_total_variation_is_optimal(rng, weight):
    """The dual that comes with it is a certificate: primal and dual value meet at the optimum and nowhere else."""
    v = rng.normal(0.5, 1.0, (11, 14))
    dual = np.zeros((4, *v.shape))
    gaps = []
    for sweeps in (0, 30, 3000):
        x = prox_total_variation(v, weight, dual=dual, sweeps=sweeps)
        assert lengths_of(dual).max() <= 1 + 1e-12
        divergence = divergence_of(dual)
        primal = 0.5 * ((x - v) ** 2).sum() + weight * total_variation(x)
        # min over x >= 0 of 1/2 ||x - v||^2 - w <x, div p>
        lower = 0.5 * (v**2).sum() - 0.5 * (np.maximum(v + weight * divergence, 0) ** 2).sum()
        gaps.append(primal - lower)
    assert gaps[0] > gaps[1] > gaps[2] >= -1e-12
    assert gaps[2] < 1e-3 * gaps[0]
    assert_prox(lambda u: prox_total_variation(u, weight, dual=np.zeros((4, *u.shape)), sweeps=20000),
                lambda u: weight * total_variation(u), v[:4, :5])  # fmt: skip


@pytest.mark.parametrize("unequal", [False, True], ids=["edges alike", "edges of their own price"])
def test_the_prox_of_the_total_variation_in_another_metric_is_optimal(rng, unequal):
    """Steps that differ by a factor of a thousand from pixel to pixel, edges by a hundred: the dual is a certificate there."""
    v, w = rng.normal(0.5, 1.0, (11, 14)), 10 ** rng.uniform(-2, 1, (11, 14))
    edges = 10 ** rng.uniform(-1, 1, v.shape) if unequal else np.ones(v.shape)
    dual, gaps = np.zeros((4, *v.shape)), []
    for sweeps in (0, 30, 20000):
        x = prox_total_variation(v, w, dual=dual, sweeps=sweeps, edges=edges if unequal else None)
        assert (lengths_of(dual) / edges).max() <= 1 + 1e-12
        divergence = divergence_of(dual)
        primal = (0.5 * (x - v) ** 2 / w).sum() + total_variation(x, edges)
        lower = (0.5 * (v**2 - np.maximum(v + w * divergence, 0) ** 2) / w).sum()
        gaps.append(primal - lower)
    assert gaps[0] > gaps[1] > gaps[2] >= -1e-12
    assert gaps[2] < 1e-3 * gaps[0]


def test_a_metric_that_is_the_same_everywhere_is_a_number(backend, rng):
    v, dtype = backend.asarray(rng.normal(size=(9, 7)), dtype=np.float32), np.float32
    duals = [backend.asarray(np.zeros((4, 9, 7)), dtype=dtype) for _ in range(2)]
    same = backend.asarray(np.full((9, 7), 0.3), dtype=dtype)
    number, image = (prox_total_variation(v, w, dual=d, sweeps=7) for w, d in zip((0.3, same), duals))
    np.testing.assert_allclose(backend.to_host(image), backend.to_host(number), rtol=1e-5, atol=1e-6)


def test_edges_that_cost_twice_as_much_are_twice_the_weight(backend, rng):
    v, dtype = backend.asarray(rng.normal(size=(9, 7)), dtype=np.float64), np.float64
    twice, alike = (backend.asarray(np.zeros((4, 9, 7)), dtype=dtype) for _ in range(2))
    edges = backend.asarray(np.full((9, 7), 2.0), dtype=dtype)
    image = prox_total_variation(v, 0.15, dual=twice, sweeps=3000, edges=edges)
    number = prox_total_variation(v, 0.3, dual=alike, sweeps=3000)
    np.testing.assert_allclose(backend.to_host(image), backend.to_host(number), atol=1e-6)


def test_the_prox_of_the_total_variation_keeps_light_and_flattens(rng):
    v = 5 + rng.normal(size=(12, 9))
    x = prox_total_variation(v, 100.0, dual=np.zeros((4, *v.shape)), sweeps=20000)
    # where edges cost more than they can gain, the mean is the answer
    np.testing.assert_allclose(x, v.mean(), rtol=1e-3)
    bar = np.zeros((6, 20))
    bar[:, 5:15] = 4.0
    flat = prox_total_variation(bar, 0.5, dual=np.zeros((4, *bar.shape)), sweeps=20000)
    # a step of height h and width n comes out lower by 2 w / n inside, and w / m higher on either side of m pixels, times the
    # cells of a column for its pixels: 5 of 6
    np.testing.assert_allclose(flat[:, 5:15], 4.0 - 2 * 0.5 / 10 * 5 / 6, rtol=1e-4)
    np.testing.assert_allclose(flat[:, :5], 0.5 / 5 * 5 / 6, rtol=1e-3)


def test_a_dual_that_is_handed_on_goes_on_where_it_was(backend, rng):
    v = backend.asarray(rng.normal(size=(9, 7)), dtype=np.float32)
    once, parts = (backend.asarray(np.zeros((4, 9, 7)), dtype=np.float32) for _ in range(2))
    whole = prox_total_variation(v, 0.3, dual=once, sweeps=7)
    for sweeps in (3, 4):
        x = prox_total_variation(v, 0.3, dual=parts, sweeps=sweeps, out=backend.xp.empty_like(v))
    np.testing.assert_array_equal(backend.to_host(x), backend.to_host(whole))


def test_bad_input_is_named(rng):
    b = 1 + rng.random((7, 6))
    with pytest.raises(ValueError, match="one shape"):
        prox_step(b, b[1:], step=1.0)
    with pytest.raises(TypeError, match="float32 or float64"):
        prox_step(b.astype(int), b, step=1.0)
    dual = np.zeros((4, *b.shape), dtype=b.dtype)
    with pytest.raises(ValueError, match="weight must be greater than 0"):
        prox_total_variation(b, 0.0, dual=dual, sweeps=1)
    for wrong in (np.ones(3, b.dtype), np.zeros(b.shape, b.dtype), np.ones(b.shape, int)):
        with pytest.raises(ValueError, match="weight must be one number above 0 or"):
            prox_total_variation(b, wrong, dual=dual, sweeps=1)
        with pytest.raises(ValueError, match=r"edges must be numbers above 0, \(.*\) of them of float64"):
            prox_total_variation(b, 1.0, dual=dual, sweeps=1, edges=wrong)
    with pytest.raises(ValueError, match=r"dual must be \(4, "):
        prox_total_variation(b, 1.0, dual=dual[:, 1:], sweeps=1)
    with pytest.raises(TypeError, match=r"v must be an image \(N1, N2\) of float32 or float64"):
        prox_total_variation(dual, 1.0, dual=dual, sweeps=1)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_numbers_beyond_single_precision_are_named_and_those_within_work(rng):
    """A step of 1e300 is infinite in float32: found by calls at random."""
    wide = 1 + rng.random((7, 6))
    image, dual = wide.astype(np.float32), np.zeros((4, 7, 6), np.float32)
    for wrong in ({"step": 1e300}, {"step": 0.1, "threshold": 1e39}):
        with pytest.raises(ValueError, match=rf"{list(wrong)[-1]} must be at least 0 and at most 3\.40282e\+38"):
            prox_step(image, image, **wrong)
        assert not prox_step(wide, wide, **wrong).x.any()
    for wrong in (1e300, 1e38, 1e-300):
        with pytest.raises(ValueError, match=r"weight must be at least 1\.17549e-38 and at most 4\.2"):
            prox_total_variation(image, wrong, dual=dual, sweeps=3)
    for weight in (4e37, 2e-38):
        assert np.isfinite(prox_total_variation(image, weight, dual=0 * dual, sweeps=3)).all()
    assert prox_step(image, image, step=3e38, threshold=0.5).x.max() == 0


def test_penalties_of_images_near_the_end_of_float32_are_finite(rng):
    z = (rng.random((24, 24)) * 1e37).astype(np.float32)
    light, steepness = penalties(z, 0.1)
    assert light == pytest.approx(0.1 * z.sum(dtype=np.float64), rel=1e-5)
    assert steepness == pytest.approx(total_variation(z), rel=1e-5)


def strided(a):
    """The same numbers, every second of a wider array."""
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan, a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_layout_of_images_makes_no_difference(rng, dtype):
    """What is not contiguous takes the array code and not the kernel."""
    x, grad = abs(rng.standard_normal((6, 7))).astype(dtype), rng.standard_normal((6, 7)).astype(dtype)
    plain = prox_step(x, grad, step=0.3, threshold=0.2)
    for given in ((strided(x), grad), (x, strided(grad)), (x.astype(dtype), grad)):
        for out in (None, strided(np.zeros_like(x)), np.zeros_like(x)):
            found = prox_step(*given, step=0.3, threshold=0.2, out=out)
            assert out is None or found.x is out
            np.testing.assert_allclose(found.x, plain.x, rtol=1e-6, atol=1e-7)
            assert found[1:] == pytest.approx(plain[1:], rel=1e-6)
    weights, edges = (np.exp(rng.uniform(-2, 1, x.shape)).astype(dtype) for _ in range(2))
    v = (3 * rng.standard_normal(x.shape)).astype(dtype)
    for weight in (0.4, weights):
        duals = [np.zeros((4, *v.shape), dtype), strided(np.zeros((4, *v.shape), dtype))]
        images = [prox_total_variation(v, weight, dual=dual, sweeps=9, edges=edges) for dual in duals]
        np.testing.assert_allclose(images[1], images[0], atol=2e-6 if dtype == np.float32 else 1e-13)
        np.testing.assert_allclose(duals[1], duals[0], atol=2e-6 if dtype == np.float32 else 1e-13)
        out = strided(np.zeros_like(v))
        assert prox_total_variation(v, weight, dual=np.zeros_like(duals[0]), sweeps=9, edges=edges, out=out) is out
        np.testing.assert_allclose(out, images[0], atol=2e-6 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_penalties_are_the_two_sums(rng, dtype):
    z, sparsity, edges = (rng.gamma(1.0, 2.0, (6, 7)).astype(dtype) for _ in range(3))
    for lam in (0.3, sparsity):
        for given in (None, edges):
            light, steepness = penalties(z, lam, given)
            assert light == pytest.approx((lam * z.astype(np.float64)).sum(), rel=1e-5)
            cost = np.sqrt((cells(z.astype(np.float64)) ** 2).sum(axis=0)) * (1.0 if given is None else given)
            assert steepness == pytest.approx(cost.sum(), rel=1e-5)
            assert total_variation(z, given) == pytest.approx(cost.sum(), rel=1e-5)


def test_a_step_of_nothing_changes_nothing_and_none_goes_back(rng):
    x, grad = abs(rng.standard_normal((3, 4))), rng.standard_normal((3, 4))
    still = prox_step(x, grad, step=0.0)
    np.testing.assert_array_equal(still.x, x)
    assert (still.change, still.size) == (0.0, pytest.approx(np.linalg.norm(x)))
    np.testing.assert_array_equal(prox_step(x, grad, step=0.3, threshold=0.0).x, prox_step(x, grad, step=0.3).x)
    for wrong in ({"step": -0.1}, {"step": 0.1, "threshold": -0.1}):
        with pytest.raises(ValueError, match=f"{list(wrong)[-1]} must be at least 0"):
            prox_step(x, grad, **wrong)
    dual = np.zeros((4, 3, 4))
    np.testing.assert_array_equal(prox_total_variation(x - 0.5, 1.0, dual=dual, sweeps=0), np.maximum(x - 0.5, 0))
    with pytest.raises(ValueError, match="sweeps must be at least 0"):
        prox_total_variation(x, 1.0, dual=dual, sweeps=-1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_of_another_kind_than_the_image_are_refused(rng, dtype):
    v, other = rng.random((5, 6)).astype(dtype), np.float64 if dtype == np.float32 else np.float32
    dual = np.zeros((4, 5, 6), dtype)
    with pytest.raises(ValueError, match="dual must be"):
        prox_total_variation(v, 1.0, dual=dual.astype(other), sweeps=1)
    for wrong in (np.ones((5, 6), other), np.ones((6, 6), dtype), np.ones((4, 6), dtype), np.full((5, 6), -1, dtype)):
        with pytest.raises(ValueError, match="weight must be one number"):
            prox_total_variation(v, wrong, dual=dual, sweeps=1)
        with pytest.raises(ValueError, match="edges must be numbers"):
            prox_total_variation(v, 1.0, dual=dual, sweeps=1, edges=wrong)
