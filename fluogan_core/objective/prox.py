"""Proximal operators of the terms of (11), and the fused step that the solver takes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import numpy as np

from ..backend.arrays import backend_of
from ..backend.checks import real_number, whole_number
from ..backend.kinds import any_kind
from ..backend.readings import number, root
from ..backend.typing import Array

__all__ = [
    "ProxStep",
    "edge_lengths",
    "penalties",
    "prox_l1_nonnegative",
    "prox_nonnegative",
    "prox_step",
    "prox_total_variation",
    "sweep_total_variation",
    "total_variation",
]


class ProxStep(NamedTuple):
    """What :func:`prox_step` returns: the new image and the norms that a stopping rule needs."""

    x: Array
    change: float
    size: float
    total: float


@any_kind("v")
def prox_nonnegative(v: Array) -> Array:
    """Return the projection of v on the non-negative orthant."""
    return backend_of(v=v).xp.maximum(v, 0)


@any_kind("v")
def prox_l1_nonnegative(v: Array, threshold: float) -> Array:
    """Return argmin over x >= 0 of 1/2 ||x - v||^2 + threshold * ||x||_1, that is max(v - threshold, 0)."""
    return backend_of(v=v).xp.maximum(v - threshold, 0)


@any_kind("x", "grad", "out", writes=("out",))
def prox_step(x: Array, grad: Array, *, step: float, threshold: float = 0.0, out: Array | None = None) -> ProxStep:
    """Take one proximal gradient step of an image, ``max(x - step * grad - step * threshold, 0)``.

    Parameters
    ----------
    x, grad : arrays of one shape and dtype
        The image, float32 or float64, and the gradient of the smooth part.
    step : float
        Step size.
    threshold : float
        Weight of the l1 term; 0 leaves the projection alone.
    out : array, optional
        Receives the new image; may be x itself.

    Returns
    -------
    ProxStep
        ``x`` the new image, ``change`` = ||new - old||, ``size`` = ||new||, ``total`` = sum of the new image.

    Raises
    ------
    ValueError, TypeError
        If x and grad differ in shape, x is not float32 or float64, or step or threshold are negative or beyond the range of
        x's dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> taken = fg.prox_step(np.array([[2.0, 0.1]]), np.array([[1.0, 1.0]]), step=0.5, threshold=1.0)
    >>> taken.x, taken.total
    (array([[1., 0.]]), 1.0)
    """
    backend = backend_of(x=x, grad=grad, out=out)
    if getattr(x, "shape", None) is None or x.shape != getattr(grad, "shape", None):
        raise ValueError(
            f"x and grad must be arrays of one shape, got {getattr(x, 'shape', x)} and {getattr(grad, 'shape', grad)}"
        )
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"x must be float32 or float64, got {x.dtype}; convert it with astype")
    most = float(np.finfo(x.dtype).max)
    step, threshold = (real_number(n, name, low=0, high=most) for n, name in ((step, "step"), (threshold, "threshold")))
    xp, kernel = backend.xp, backend.kernel("prox_step")
    if kernel is not None and all(a is None or (a.flags.c_contiguous and a.dtype == x.dtype) for a in (x, grad, out)):
        new = xp.empty_like(x) if out is None else out
        change_sq, size_sq, total = kernel(x, grad, step, threshold, new)
        return ProxStep(new, root(change_sq), root(size_sq), total)
    new = xp.maximum(x - step * (grad + threshold), 0).astype(x.dtype, copy=False)
    # summed in float64: the norms decide when to stop
    wide, move = new.astype(np.float64), (new - x).astype(np.float64)
    change, size, total = (number(v) for v in ((move * move).sum() ** 0.5, (wide * wide).sum() ** 0.5, wide.sum()))
    if out is not None:
        out[...] = new
        new = out
    return ProxStep(new, change, size, total)


@any_kind("x")
def edge_lengths(x: Array) -> Array:
    r"""Return :math:`|(\nabla x)_c|`, the steepness of an image (N1, N2) in each of its cells.

    A cell is the square between four pixels.  Its steepness is the root of half the sum of the squared differences along its
    four sides.  No corner is preferred: the lengths of a flipped or transposed image are the flipped or transposed lengths.

    Returns
    -------
    (N1, N2) array
        Entry (i, j) is of the cell between rows i and i + 1 and columns j and j + 1; the last row and column, which have no
        cell, are 0.
    """
    xp = backend_of(x=x).xp
    lengths = xp.zeros_like(x)
    across, down = ((difference * difference) for difference in (x[:, 1:] - x[:, :-1], x[1:] - x[:-1]))
    lengths[:-1, :-1] = xp.sqrt(x.dtype.type(0.5) * ((across[:-1] + across[1:]) + (down[:, :-1] + down[:, 1:])))
    return lengths


@any_kind("x", "edges")
def total_variation(x: Array, edges: Array | None = None) -> float:
    r"""Return :math:`\sum_c e_c |(\nabla x)_c|` over the cells of an image (N1, N2) in double precision; e = 1 if not given."""
    lengths = edge_lengths(x.astype(np.float64))
    return number((lengths if edges is None else edges * lengths).sum())


def penalties(z: Array, sparsity: float | Array, edges: Array | None = None) -> tuple[float, float]:
    r"""Return :math:`\sum_i \lambda_i |z_i|` and :func:`total_variation`, as an iteration of a fit asks for them.

    Parameters
    ----------
    z : (N1, N2) float32 or float64
    sparsity : float or (N1, N2) of z's dtype
        :math:`\lambda`.
    edges : (N1, N2) of z's dtype, optional
        e; 1 if not given.

    Returns
    -------
    light, steepness : float
    """
    kernel = backend_of(z=z).kernel("penalties")
    if kernel is not None and z.dtype in (np.float32, np.float64):
        light, steepness = (float(part) for part in kernel(z, sparsity, 1.0 if edges is None else edges))
        if math.isfinite(light + steepness):  # squares of float32 may not be
            return light, steepness
    return number((sparsity * abs(z)).sum(dtype=np.float64)), total_variation(z, edges)


@any_kind("v", "weight", "dual", "edges", "out", writes=("dual", "out"))
def prox_total_variation(
    v: Array, weight: float | Array, *, dual: Array, sweeps: int, edges: Array | None = None, out: Array | None = None
) -> Array:
    r"""Return argmin over x >= 0 of 1/2 ||x - v||^2 + weight * TV(x), nearly: after some sweeps of its dual.

    With a weight for every pixel, argmin of :math:`\sum_i (x_i - v_i)^2 / 2 w_i + TV(x)`: the proximal operator in the metric
    of steps that differ from pixel to pixel.  With ``edges``, the total variation is :math:`\sum_c e_c |(\nabla x)_c|`.
    :func:`edge_lengths` says what a cell's :math:`|(\nabla x)_c|` is.

    The dual of this problem (Chambolle 2004; with the bound, Beck and Teboulle 2009) is smooth over fields of four numbers a
    cell, one for each side, that are nowhere longer than 1 (than :math:`e_c`).  Its solution gives
    :math:`x = \max(v - w \nabla^T p, 0)`.  A sweep is a projected gradient step,
    :math:`p \leftarrow \Pi(p + 1.8 \nabla x / 8 w)`, which converges with any factor below 2, since
    :math:`\|\nabla\|^2 \le 8`; with a weight for every pixel, :math:`8 w` becomes four times the largest sum of two
    neighbours' weights in the cell.  Within an iteration that calls this again and again, a dual that is handed on makes a few
    sweeps enough.

    Parameters
    ----------
    v : (N1, N2) float32 or float64
    weight : float or (N1, N2) of v's dtype
        Above 0.
    dual : (4, N1, N2), of v's dtype
        :math:`p / \sqrt 2` of the upper, lower, left and right side of every cell.  Where to start, zeros if nothing is known;
        overwritten with where the sweeps ended.  The last row and column, which have no cell, are 0 and stay so.
    sweeps : int
    edges : (N1, N2) of v's dtype, optional
        e, above 0: what steepness costs in each cell, placed as in :func:`edge_lengths`; 1 if not given.
    out : array like v, optional
        Receives the image.

    Returns
    -------
    x : (N1, N2)

    Raises
    ------
    ValueError, TypeError
        If the weight or the edges are not above 0, one weight is beyond the range of v's dtype, the dual's shape or dtype are
        not v's, or v is not a real image.

    Examples
    --------
    The two sides of an edge are two pixels wide, and each moves towards the other by half of the weight:

    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> v = np.repeat([[0.0, 0.0, 4.0, 4.0]], 2, axis=0)
    >>> fg.prox_total_variation(v, 1.0, dual=np.zeros((4, *v.shape)), sweeps=500).round(3)
    array([[0.25, 0.25, 3.75, 3.75],
           [0.25, 0.25, 3.75, 3.75]])
    """
    uniform = not getattr(weight, "ndim", 0)
    backend_of(v=v, weight=None if uniform else weight, dual=dual, edges=edges, out=out)
    sweeps = whole_number(sweeps, "sweeps", low=0)
    if getattr(v, "ndim", None) != 2 or v.dtype not in (np.float32, np.float64):
        raise TypeError(f"v must be an image (N1, N2) of float32 or float64, got {_described(v)}")
    if uniform:
        weight, range_ = real_number(weight, "weight", low=0, open_low=True), np.finfo(v.dtype)
        # the sweeps divide by it, and add it four times
        weight = real_number(weight, "weight", low=float(range_.tiny), high=float(range_.max) / 8)
    else:
        _check_image(weight, v, "weight must be one number above 0 or")
    if edges is not None:
        _check_image(edges, v, "edges must be numbers above 0,")
    if getattr(dual, "shape", None) != (4, *v.shape) or dual.dtype != v.dtype:
        raise ValueError(f"dual must be {(4, *v.shape)} of {v.dtype}, as v is, zeros to start with; got {_described(dual)}")
    return sweep_total_variation(v, weight, dual=dual, sweeps=sweeps, edges=edges, out=out)


def sweep_total_variation(
    v: Array, weight: float | Array, *, dual: Array, sweeps: int, edges: Array | None = None, out: Array | None = None
) -> Array:
    """Return what :func:`prox_total_variation` does of what it has checked; a card is waited for by its checks only."""
    backend, uniform = backend_of(v=v), not getattr(weight, "ndim", 0)
    xp, kernel = backend.xp, backend.kernel("prox_total_variation")
    plain = all(a is None or a.flags.c_contiguous for a in (v, dual, out, edges, None if uniform else cast("Array", weight)))
    if kernel is not None and plain and (out is None or out.dtype == v.dtype):
        x = xp.empty_like(v) if out is None else out
        kernel(v, weight, dual, sweeps, x, edges)
        return x
    scalar = v.dtype.type
    longest = scalar(1) if edges is None else edges
    upper, lower, left, right = dual
    if uniform:
        weight = scalar(weight)
        rate = scalar(0.1125) / weight
    else:
        # nine tenths of twice what keeps the dual's second derivative diagonally dominated in every cell
        weights = cast("Array", weight)
        across, down = weights[:, 1:] + weights[:, :-1], weights[1:] + weights[:-1]
        most = xp.maximum(xp.maximum(across[1:], across[:-1]), xp.maximum(down[:, 1:], down[:, :-1]))
        rate = scalar(0.225) / most

    def image() -> Array:
        across, down = upper.copy(), left.copy()
        across[1:] += lower[:-1]
        down[:, 1:] += right[:, :-1]
        divergence = across + down
        divergence[:, 1:] -= across[:, :-1]
        divergence[1:] -= down[:-1]
        return xp.maximum(v + weight * divergence, scalar(0))

    for _ in range(sweeps):
        x = image()
        across, down = x[:, 1:] - x[:, :-1], x[1:] - x[:-1]
        upper[:-1, :-1] += rate * across[:-1]
        lower[:-1, :-1] += rate * across[1:]
        left[:-1, :-1] += rate * down[:, :-1]
        right[:-1, :-1] += rate * down[:, 1:]
        square = (upper * upper + lower * lower) + (left * left + right * right)
        dual *= longest / xp.maximum(xp.sqrt(scalar(2) * square), longest)
    # numbers far below rounding, whose squares are not normal ones: processors compute with them a hundred times more slowly
    dual[abs(dual) < scalar(1e-16)] = 0
    x = image()
    if out is None:
        return x
    out[...] = x
    return out


def _described(value: Any) -> str:
    """Shape and dtype of an array, the type of anything else."""
    return f"shape {value.shape} of {value.dtype}" if hasattr(value, "dtype") else type(value).__name__


def _check_image(image: Array, v: Array, what: str) -> None:
    if image.shape != v.shape or image.dtype != v.dtype or not float(image.min()) > 0:
        raise ValueError(
            f"{what} {v.shape} of them of {v.dtype}, as v is, got {image.shape} of {image.dtype} from {float(image.min()):g} up"
        )
