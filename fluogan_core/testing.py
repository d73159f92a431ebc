"""Checks for users who embed this library, or write an operator, a term or an estimator of their own.

Each function returns None, or raises AssertionError and says how far apart two numbers are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .backend.arrays import Backend, get_backend
from .backend.typing import Array, ArrayLike, DTypeLike
from .physics.agreement import faults_of
from .physics.requirements import OperatorLike, require

__all__ = ["assert_adjoint", "assert_backends_agree", "assert_gradient", "assert_operator", "assert_prox"]

#: Relative tolerance of one accumulated operation per precision.
TOLERANCES = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-12}


def assert_adjoint(
    forward: Callable[[Array], Array],
    adjoint: Callable[[Array], Array],
    shape_x: Sequence[int],
    shape_y: Sequence[int],
    *,
    dtype: DTypeLike = np.float64,
    tolerance: float | None = None,
    backend: str | Backend = "numpy",
    seed: int = 0,
) -> None:
    """Check that <forward(x), y> = <x, adjoint(y)> for random x and y.

    Parameters
    ----------
    forward, adjoint : callable
        Each takes and returns one array of the backend.
    shape_x, shape_y : sequence of int
        Shapes of x and y.
    dtype : {float32, float64}
        Of x and y.
    tolerance : float, optional
        Largest difference of the two products, relative to ||forward(x)|| ||y||; 1e-6 in float32 and 1e-12 in float64 by
        default.  The products are summed in float64.
    backend : {"auto", "numpy", "cupy"} or Backend
        Where x and y live.
    seed : int
        Of the random x and y.

    Raises
    ------
    AssertionError
        If the products differ by more.

    Examples
    --------
    >>> import numpy as np
    >>> from fluogan_core.testing import assert_adjoint
    >>> a = np.arange(12.0).reshape(3, 4)
    >>> assert_adjoint(lambda x: a @ x, lambda y: a.T @ y, shape_x=(4,), shape_y=(3,))
    >>> assert_adjoint(lambda x: a @ x, lambda y: 1.1 * a.T @ y, shape_x=(4,), shape_y=(3,))
    Traceback (most recent call last):
    AssertionError: ...
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


def assert_operator(psi: OperatorLike, *, seed: int = 0) -> None:
    """Check that an operator of your own has what the forward model and the objective read, and agrees with itself.

    Forward and adjoint are linear and adjoint to each other, take batches, keep the dtype, and change no argument.  Columns are
    not negative.  ``column``, ``column_sums``, ``column_energies``, ``squared_forward``, ``squared_adjoint``, ``table``,
    ``axis_matrices`` and ``norm`` agree with forward, where they are there.

    Parameters
    ----------
    psi : Operator or another object
        See :data:`fluogan_core.physics.requirements.READS`.
    seed : int
        Of the random images.

    Raises
    ------
    AssertionError
        If names are missing, or what they compute does not agree; the message says which.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> from fluogan_core.testing import assert_operator
    >>> class Dimmed(fg.Operator):
    ...     def forward(self, x):
    ...         return self.nominal.forward(x) / 2
    ...     def adjoint(self, y):
    ...         return self.nominal.adjoint(y)
    >>> assert_operator(Dimmed(fg.Psi(fg.gaussian_psf(300, 100, 2), (16, 16), 2, backend="numpy")))
    Traceback (most recent call last):
    AssertionError: Dimmed: adjoint is not that of forward: ...
    """
    try:
        require(psi, "forward model")
        require(psi, "objective")
    except TypeError as error:
        raise AssertionError(str(error)) from None
    faults = faults_of(psi, seed)
    if faults:
        raise AssertionError(f"{type(psi).__name__}: {'; '.join(faults)}")


def assert_gradient(
    function: Callable[[np.ndarray], float],
    gradient: Callable[[np.ndarray], np.ndarray],
    x: ArrayLike,
    *,
    tolerance: float = 1e-6,
    directions: int = 5,
    seed: int = 0,
) -> None:
    """Check a gradient against central differences along random directions.

    Parameters
    ----------
    function : callable
        Returns a number for an array like x.
    gradient : callable
        Returns an array like x.
    x : array_like
        Where to check; taken as float64 on the host.
    tolerance : float
        Largest difference of the slopes, relative to the norm of the gradient.
    directions : int
        How many random directions.
    seed : int
        Of the directions.

    Raises
    ------
    AssertionError
        If a slope differs by more.

    Examples
    --------
    >>> import numpy as np
    >>> from fluogan_core.testing import assert_gradient
    >>> assert_gradient(lambda x: float((x**2).sum()), lambda x: 2 * x, np.ones(5))
    >>> assert_gradient(lambda x: float((x**2).sum()), lambda x: x, np.ones(5))
    Traceback (most recent call last):
    AssertionError: ...
    """
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
    v: ArrayLike,
    *,
    feasible: Callable[[np.ndarray], np.ndarray] = lambda u: np.maximum(u, 0),
    trials: int = 200,
    seed: int = 0,
) -> None:
    """Check that prox(v) minimises 1/2 ||u - v||^2 + penalty(u): no feasible u near or far does better.

    Parameters
    ----------
    prox : callable
        Returns an array like v.
    penalty : callable
        Returns a number for an array like v.
    v : array_like
        Where to check; taken as float64 on the host.
    feasible : callable
        Projects onto the feasible set; by default the arrays without negative values.
    trials : int
        How many random u, at distances from 1e-4 to 10; every second one differs in one element alone.
    seed : int
        Of the random u.

    Raises
    ------
    AssertionError
        If prox(v) is not feasible, or some u does better.

    Examples
    --------
    >>> import numpy as np
    >>> from fluogan_core.testing import assert_prox
    >>> v = np.array([-1.0, 0.3, 2.0])
    >>> assert_prox(lambda v: np.maximum(v - 0.5, 0), lambda u: 0.5 * float(u.sum()), v)
    >>> assert_prox(lambda v: np.maximum(v - 0.4, 0), lambda u: 0.5 * float(u.sum()), v)
    Traceback (most recent call last):
    AssertionError: ...
    """
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
    """Check that a function gives the same on every backend as on the first.

    Parameters
    ----------
    function : callable
        ``function(backend, *arrays)`` gets the backend and the arrays on it, and returns one array or a tuple of arrays.
    arrays : sequence of numpy.ndarray
        Moved to each backend.
    backends : sequence of {"numpy", "cupy"} or Backend
        At least two.
    rtol, atol : float
        Largest difference of each element: ``atol + rtol * abs(expected)``.

    Raises
    ------
    AssertionError
        If a result differs by more, in shape or in number.
    ValueError
        If fewer than two backends are given: nothing would be compared.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.testing import assert_backends_agree
    >>> def blur(backend, x):
    ...     return fg.Psi(np.ones((3, 3)), (4, 4), 2, backend=backend).forward(x)
    >>> backends = ["numpy", "cupy"] if fg.backend.why_no_gpu() is None else ["numpy", "numpy"]
    >>> assert_backends_agree(blur, [np.ones((8, 8))], backends)
    """
    if len(backends) < 2:
        raise ValueError(f"at least two backends are needed for a comparison, got {len(backends)}")
    expected: tuple[np.ndarray, ...] | None = None
    for name in backends:
        home = get_backend(name)
        out = function(home, *(home.asarray(a) for a in arrays))
        out = tuple(home.to_host(a) for a in (out if isinstance(out, tuple) else (out,)))
        if expected is None:
            expected = out
            continue
        if len(out) != len(expected):
            raise AssertionError(f"{home!r} gives {len(out)} arrays, {backends[0]!r} gives {len(expected)}")
        for got, want in zip(out, expected):
            np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, err_msg=f"{home!r} differs from {backends[0]!r}")
