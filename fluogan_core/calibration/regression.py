"""Least squares from normal equations, and standard errors by leaving blocks out."""

from __future__ import annotations

import numpy as np

__all__ = ["jackknife", "solve_normal"]


def solve_normal(normal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Least squares from normal equations; terms that never occur get 0.

    Raises
    ------
    ValueError
        If products of the values overflowed: LAPACK may not return on what is not finite.
    """
    if not (np.isfinite(normal).all() and np.isfinite(right).all()):
        raise ValueError(
            "moments of this stack are not finite: its counts, or a given gain, offset or noise_std, are of a size that no "
            "camera writes"
        )
    scale = np.sqrt(np.diag(normal))
    scale[scale == 0] = 1.0
    solution = np.linalg.lstsq(normal / np.outer(scale, scale), right / scale[:, None], rcond=1e-9)[0]
    return solution / scale[:, None]


def jackknife(replicates: np.ndarray) -> np.ndarray:
    """Standard errors from replicates that leave one block out each; the first row, the full sample, is passed over."""
    left_out = replicates[1:]
    return np.sqrt((len(left_out) - 1) / len(left_out) * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
