"""What a fit does with an image at every iteration, each in one pass: steps and sums.

One thread: a pass waits for memory, and starting a second thread takes longer than a 512 x 512 image.
"""

from __future__ import annotations

import math

import numpy as np

from ._compile import given, kernel

__all__ = ["descend", "extrapolate", "penalties", "step_sums"]


# Additions may be regrouped, so that the sums vectorise; nothing else here could be regrouped.
@kernel(fastmath={"reassoc"})
def _penalties(z, sparsity, edges):  # type: ignore[no-untyped-def]
    half, light, steepness = z.dtype.type(0.5), 0.0, 0.0
    each_sparsity, each_edge = len(sparsity) > 1, len(edges) > 1
    rows, columns = z.shape
    for i in range(rows):
        own = i if each_sparsity else 0
        for j in range(columns):
            light += np.float64(sparsity[own, j] * abs(z[i, j]))
        if i == rows - 1:
            break
        own = i if each_edge else 0
        for j in range(columns - 1):
            upper, lower = z[i, j + 1] - z[i, j], z[i + 1, j + 1] - z[i + 1, j]
            left, right = z[i + 1, j] - z[i, j], z[i + 1, j + 1] - z[i, j + 1]
            square = half * ((upper * upper + lower * lower) + (left * left + right * right))
            steepness += np.float64(edges[own, j] * math.sqrt(square))
    return light, steepness


@kernel(fastmath={"reassoc"})
def _step_sums(new, last):  # type: ignore[no-untyped-def]
    change, size, total = 0.0, 0.0, 0.0
    for i in range(new.size):
        moved, value = np.float64(new[i] - last[i]), np.float64(new[i])
        change += moved * moved
        size += value * value
        total += value
    return change, size, total


@kernel()
def _descend(z, slope, steps, price, out):  # type: ignore[no-untyped-def]
    each_step, each_price = len(steps) > 1, len(price) > 1
    for i in range(z.shape[0]):
        step, own = i if each_step else 0, i if each_price else 0
        for j in range(z.shape[1]):
            out[i, j] = z[i, j] - steps[step, j] * (slope[i, j] + price[own, j])


@kernel()
def _extrapolate(new, last, momentum, out):  # type: ignore[no-untyped-def]
    for i in range(new.size):
        out[i] = new[i] + momentum * (new[i] - last[i])


def _rows(value: float | np.ndarray, image: np.ndarray) -> np.ndarray:
    """A number for each pixel as it is; one number as a row that stands for all."""
    return given(value if np.ndim(value) else np.full((1, image.shape[1]), value), image.dtype)


def descend(
    z: np.ndarray, slope: np.ndarray, steps: float | np.ndarray, price: float | np.ndarray, edge: float
) -> tuple[np.ndarray, float | np.ndarray]:
    """Return ``z - steps * (slope + price)`` and ``steps * edge``.

    Parameters
    ----------
    z, slope : (N1, N2) float32 or float64
    steps, price : float or array like z
    edge : float

    Returns
    -------
    point : (N1, N2), of z's dtype
    weight : as steps are
    """
    out = np.empty_like(z, order="C")
    _descend(given(z), given(slope, z.dtype), _rows(steps, z), _rows(price, z), out)
    return out, steps * z.dtype.type(edge) if np.ndim(steps) else steps * edge


def extrapolate(new: np.ndarray, last: np.ndarray, momentum: float) -> np.ndarray:
    """Return ``new + momentum * (new - last)``, of arrays of one shape and dtype, float32 or float64."""
    out = np.empty_like(new, order="C")
    _extrapolate(given(new).reshape(-1), given(last).reshape(-1), new.dtype.type(momentum), out.reshape(-1))
    return out


def penalties(z: np.ndarray, sparsity: float | np.ndarray, edges: float | np.ndarray) -> tuple[float, float]:
    r"""Return :math:`\sum_i \lambda_i |z_i|` and the total variation :math:`\sum_c e_c |(\nabla z)_c|`.

    Parameters
    ----------
    z : (N1, N2) float32 or float64
    sparsity, edges : float or array like z
        :math:`\lambda` and e.

    Returns
    -------
    light, steepness : float
        Of terms in z's dtype, added in float64.
    """
    return _penalties(given(z), _rows(sparsity, z), _rows(edges, z))


def step_sums(new: np.ndarray, last: np.ndarray) -> tuple[float, float, float]:
    """Return ``sum((new - last)**2)``, ``sum(new**2)`` and ``sum(new)``.

    Parameters
    ----------
    new, last : (N1, N2) float32 or float64

    Returns
    -------
    change_sq, size_sq, total : float
        Added in float64.
    """
    return _step_sums(given(new).reshape(-1), given(last).reshape(-1))
