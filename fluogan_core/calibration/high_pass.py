r"""Noise at spatial frequencies that the PSF does not pass: shot and read noise are white there, and flicker is not seen.

Frames are filtered by alternating binomials of order n along rows and columns,

.. math:: h_{ab} = (-1)^{a + b} \binom{n}{a} \binom{n}{b}, \qquad
          \mathrm{Var}(h * Y)_j = \sum_k h_k^2\,(g\,(m_{j+k} - o) + \sigma^2) + \text{flicker},

a high-pass whose band becomes narrower with the order and lies at the corner of the frequency plane, where the optical
transfer is the product of those along rows and columns.  For the shot noise it does not matter whether the light blinks: given
the light, photons of different pixels are independent.  An emission seen through the kernel T adds :math:`\|h * T\|^2`: for a
PSF three pixels wide and n = 2 a thousandth of what it adds to the variance of pixels, for n = 6 a millionth.  Noise that
all pixels of a row or a column share is filtered out.
"""

from __future__ import annotations

from math import comb, sqrt

import numpy as np

from ..backend.arrays import default_memory_budget

__all__ = ["binomial", "filtered_variances", "leakage", "noise_correlation", "window_mean"]


def binomial(order: int) -> np.ndarray:
    """Return the alternating binomial of an order, (order + 1,), of unit norm."""
    taps = np.array([(-1.0) ** k * comb(order, k) for k in range(order + 1)])
    return taps / sqrt(float((taps**2).sum()))


def filtered_variances(frames: np.ndarray, orders: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Half mean squared differences of consecutive frames after the filters of these orders.

    Parameters
    ----------
    frames : (T, M1, M2) array, integers or floats
        Counts, T of 2 or more.
    orders : tuple of int
        Above 0, below the sides of the field.

    Returns
    -------
    dict of int to (M1 - n, M2 - n) float64
        By order n; the filters have unit norm, so that white noise keeps its variance.
    """
    if not orders:
        return {}
    count, rows, columns = frames.shape
    sums = {order: np.zeros((rows - order, columns - order)) for order in orders}
    chunk = max(2, default_memory_budget() // (24 * rows * columns))
    scale = 2.0 ** -max(orders)  # of large counts the products would leave the range of float32
    for start in range(0, count - 1, chunk):
        change = np.diff(frames[start : start + chunk + 1].astype(np.float32), axis=0) * np.float32(scale)
        for order in range(1, max(orders) + 1):
            change = np.diff(np.diff(change, axis=1), axis=2)
            if order in sums:
                sums[order] += np.einsum("tij,tij->ij", change, change)
    return {order: total / (2 * (count - 1) * scale**2 * float(comb(2 * order, order)) ** 2) for order, total in sums.items()}


def window_mean(image: np.ndarray, order: int) -> np.ndarray:
    """Mean over each window of a filter, weighted by the squares of its taps: (M1, M2) to (M1 - order, M2 - order)."""
    weights = binomial(order) ** 2
    for axis in (0, 1):
        image = np.lib.stride_tricks.sliding_window_view(image, order + 1, axis=axis) @ weights
    return image


def leakage(table: np.ndarray, order: int) -> float:
    """What an emission adds to the filtered variance, summed over the pixels: the mean over the phases of ||h * T||^2.

    Parameters
    ----------
    table : (factor, factor, t1, t2) array
        Kernels of the fine pixels inside a camera pixel (:attr:`fluogan_core.Psi.table`).
    order : int
        Of the filter; 0 for no filter.
    """
    padded = np.pad(np.asarray(table, dtype=np.float64), [(0, 0), (0, 0), (order, order), (order, order)])
    filtered = np.diff(np.diff(padded, order, axis=2), order, axis=3) / comb(2 * order, order)
    return float((filtered**2).sum(axis=(2, 3)).mean())


def noise_correlation(order: int) -> np.ndarray:
    """Correlation of filtered white noise between pixels at distances -order to order along one axis."""
    taps = binomial(order)
    return np.correlate(taps, taps, mode="full")
