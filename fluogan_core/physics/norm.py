"""The largest singular value of an operator."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .psi import Psi

__all__ = ["spectral_norm"]


def spectral_norm(psi: Psi) -> float:
    r"""Return the largest singular value of Psi, by power iteration on :math:`\Psi^T \Psi` (to 1e-7)."""
    xp = psi.backend.xp
    # Psi is non-negative, so its leading singular vector is too: ones is never orthogonal to it.
    x = xp.ones(psi.fine_shape, dtype=np.float64)
    value = 0.0
    for _ in range(1000):
        x = psi.adjoint(psi.forward(x))
        previous, value = value, float(xp.linalg.norm(x))
        x /= value
        if abs(value - previous) <= 2e-8 * value:
            break
    return math.sqrt(value)
