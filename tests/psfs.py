"""Point spread functions that tests of several rooms share."""

from __future__ import annotations

import numpy as np


def tiny_psf(size: int = 5, skew: float = 0.0) -> np.ndarray:
    """A small PSF; with ``skew`` it is neither separable nor symmetric."""
    axis = np.arange(size) - size // 2
    a, b = np.meshgrid(axis, axis, indexing="ij")
    psf = np.exp(-0.5 * (a**2 + b**2) / 1.3**2 + skew * (a * b + 0.5 * a))
    return psf / psf.sum()
