"""The weights of (11): the options' dimensionless ones, made real by the noise of a stack."""

from __future__ import annotations

import math
from typing import Any

from ..calibration.noise import StackNoise
from ..objective.terms import Objective
from ..physics.psf import psf_sigma
from ..physics.psi import Psi
from .mean_fit import UNEXPLAINED
from .options import SolverOptions

__all__ = ["build_objective"]


def build_objective(psi: Psi, mean: Any, noise: StackNoise, frames: int, gain: float, options: SolverOptions) -> Objective:
    """The objective of a stack of so many frames with the mean ``mean`` (photons), as :class:`SolverOptions` says."""
    fidelity = options.fidelity * math.sqrt(frames / (psi.shape[0] * psi.shape[1])) / (noise.variance / gain**2)
    of_mean = noise.of_mean / gain
    # an edge is weighed in units of the brightest light: a prior that does not know how bright the sample is
    edge = float(psi.column_sums.max()) * psf_sigma(psi.psf) * of_mean / max(noise.signal / gain, of_mean)
    # what does not average out (unequal pixels, a PSF not quite the true one) is there at all frequencies, not only where
    # it is measured, and makes beads of what is flat
    unexplained = noise.excess if noise.excess > UNEXPLAINED else 1.0
    return Objective(
        psi,
        mean,
        fidelity=fidelity,
        sparsity=options.sparsity * fidelity * of_mean * math.sqrt(float(psi.column_energies.max())),
        total_variation=options.total_variation * fidelity * of_mean * edge * unexplained**3,
        smoothness=fidelity * options.smoothness ** (2 * options.smoothness_order),
        order=options.smoothness_order,
    )
