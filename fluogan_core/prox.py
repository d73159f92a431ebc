"""Proximal operators of the terms of (11), and the fused step that the solver takes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .backend import backend_of

__all__ = ["ProxStep", "prox_l1_nonnegative", "prox_nonnegative", "prox_step"]


class ProxStep(NamedTuple):
    """What :func:`prox_step` returns: the new image and the norms that a stopping rule needs."""

    x: Any
    change: float
    size: float
    total: float


def prox_nonnegative(v: Any) -> Any:
    """Return the projection of v on the non-negative orthant."""
    return backend_of(v=v).xp.maximum(v, 0)


def prox_l1_nonnegative(v: Any, threshold: float) -> Any:
    """Return argmin over x >= 0 of 1/2 ||x - v||^2 + threshold * ||x||_1, that is max(v - threshold, 0)."""
    return backend_of(v=v).xp.maximum(v - threshold, 0)


def prox_step(x: Any, grad: Any, *, step: float, threshold: float = 0.0, out: Any = None) -> ProxStep:
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
    """
    backend = backend_of(x=x, grad=grad, out=out)
    if x.shape != grad.shape:
        raise ValueError(f"x and grad must have one shape, got {x.shape} and {grad.shape}")
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"x must be float32 or float64, got {x.dtype}; convert it with astype")
    xp, kernel = backend.xp, backend.kernel("prox_step")
    if kernel is not None and all(a is None or (a.flags.c_contiguous and a.dtype == x.dtype) for a in (x, grad, out)):
        new = xp.empty_like(x) if out is None else out
        change_sq, size_sq, total = kernel(x, grad, step, threshold, new)
        return ProxStep(new, math.sqrt(change_sq), math.sqrt(size_sq), total)
    new = xp.maximum(x - step * (grad + threshold), 0).astype(x.dtype, copy=False)
    # summed in float64: the norms decide when to stop
    wide, move = new.astype(np.float64), (new - x).astype(np.float64)
    change, size, total = (float(v) for v in ((move * move).sum() ** 0.5, (wide * wide).sum() ** 0.5, wide.sum()))
    if out is not None:
        out[...] = new
        new = out
    return ProxStep(new, change, size, total)
