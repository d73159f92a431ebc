"""Checks for those who embed this library or write a backend or term of their own; each raises AssertionError."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .backend.arrays import Backend, get_backend

__all__ = ["assert_adjoint", "assert_backends_agree", "assert_gradient", "assert_prox"]

#: Relative tolerance of one accumulated operation per precision.
TOLERANCES = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-12}


def assert_adjoint(
    forward: Callable[[Any], Any],
    adjoint: Callable[[Any], Any],
    shape_x: Sequence[int],
    shape_y: Sequence[int],
    *,
    dtype: Any = np.float64,
    tolerance: float | None = None,
    backend: str | Backend = "numpy",
    seed: int = 0,
) -> None:
    """Check that <forward(x), y> = <x, adjoint(y)> for random x and y.

    The difference is judged against ||forward(x)|| ||y||, to 1e-6 in float32 and 1e-12 in float64 unless ``tolerance`` says
    otherwise; the products are summed in float64.
    """
    home = get_backend(backend)
    rng = np.random.default_rng(seed)
    x = home.asarray(rng.standard_normal(tuple(shape_x)), dtype=dtype)
    y = home.asarray(rng.standard_normal(tuple(shape_y)), dtype=dtype)
    fx, ay = (home.to_host(v).astype(np.float64) for v in (forward(x), adjoint(y)))
    left, right = np.vdot(fx, home.to_host(y)), np.vdot(home.to_host(x), ay)
    scale = np.linalg.norm(fx) * np.linalg.norm(home.to_host(y).astype(np.float64))
    allowed = TOLERANCES[np.dtype(dtype)] if tolerance is None else tolerance
    if not abs(left - right) <= allowed * scale:
        gap = abs(left - right) / scale
        raise AssertionError(f"<Ax, y> = {left!r} but <x, A*y> = {right!r}: {gap:.2e} apart, {allowed:g} allowed")


def assert_gradient(
    function: Callable[[Any], float],
    gradient: Callable[[Any], Any],
    x: np.ndarray,
    *,
    tolerance: float = 1e-6,
    directions: int = 5,
    seed: int = 0,
) -> None:
    """Check a gradient against central differences along random directions (float64 on the host)."""
    x = np.asarray(x, dtype=np.float64)
    slope = np.asarray(gradient(x), dtype=np.float64)
    rng = np.random.default_rng(seed)
    for _ in range(directions):
        v = rng.standard_normal(x.shape)
        v /= np.linalg.norm(v)
        h = 1e-5 * max(1.0, float(np.abs(x).max()))
        measured = (function(x + h * v) - function(x - h * v)) / (2 * h)
        expected = float(np.vdot(slope, v))
        if not abs(measured - expected) <= tolerance * max(float(np.linalg.norm(slope)), 1e-12):
            raise AssertionError(f"slope along a random direction is {measured!r}, the gradient says {expected!r}")


def assert_prox(
    prox: Callable[[np.ndarray], np.ndarray],
    penalty: Callable[[np.ndarray], float],
    v: np.ndarray,
    *,
    feasible: Callable[[np.ndarray], np.ndarray] = lambda u: np.maximum(u, 0),
    trials: int = 200,
    seed: int = 0,
) -> None:
    """Check that prox(v) minimises 1/2 ||u - v||^2 + penalty(u): no feasible u near or far does better."""
    v = np.asarray(v, dtype=np.float64)
    best = np.asarray(prox(v), dtype=np.float64)

    def value(u: np.ndarray) -> float:
        return 0.5 * float(((u - v) ** 2).sum()) + penalty(u)

    reached = value(best)
    if not np.allclose(feasible(best), best):
        raise AssertionError("the prox is not feasible")
    rng = np.random.default_rng(seed)
    for trial in range(trials):
        scale = 10.0 ** (-4 + 5 * trial / max(1, trials - 1))
        move = scale * rng.standard_normal(v.shape)
        if trial % 2:  # one coordinate alone: a small error of each is lost in a move of all
            keep = int(rng.integers(v.size))
            move.ravel()[np.arange(v.size) != keep] = 0
        u = feasible(best + move)
        if value(u) < reached - 1e-12 * max(1.0, abs(reached)):
            raise AssertionError(f"a point at distance {np.linalg.norm(u - best):.3g} is better: {value(u)!r} < {reached!r}")


def assert_backends_agree(
    function: Callable[..., Any],
    arrays: Sequence[np.ndarray],
    backends: Sequence[str | Backend],
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
) -> None:
    """Check that ``function(backend, *arrays)`` gives the same on every backend as on the first.

    ``function`` gets the backend and the arrays moved to it, and returns one array or a tuple of arrays.
    """
    expected: tuple[np.ndarray, ...] | None = None
    for name in backends:
        home = get_backend(name)
        out = function(home, *(home.asarray(a) for a in arrays))
        out = tuple(home.to_host(a) for a in (out if isinstance(out, tuple) else (out,)))
        if expected is None:
            expected = out
            continue
        for got, want in zip(out, expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, err_msg=f"{home!r} differs from {backends[0]!r}")
