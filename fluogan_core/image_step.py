"""The proximal step of the image, in both phases: l1 norm, bound and total variation at once."""

from __future__ import annotations

from typing import Any

from .objective import Objective
from .prox import ProxStep, prox_nonnegative, prox_step, prox_total_variation

__all__ = ["ImageStep"]

#: Sweeps of the dual per step; it is handed on from step to step, so that few are enough.
SWEEPS = 3


class ImageStep:
    r"""argmin over z >= 0 of :math:`\sum_i (z - z_0 + \tau g)_i^2 / 2\tau_i + \lambda_1\|z\|_1 + \lambda_3 TV(z)`.

    Parameters
    ----------
    objective : Objective
        Its ``sparsity`` and ``total_variation`` are the weights.
    edges : float
        Times the latter.

    Attributes
    ----------
    dual : (2, N1, N2) float32
        The dual variable of the total variation, kept from step to step; None where its weight is 0.
    """

    def __init__(self, objective: Objective, *, edges: float = 1.0) -> None:
        self.objective, self.edges = objective, edges
        xp, shape = objective.psi.backend.xp, objective.psi.fine_shape
        self.dual = xp.zeros((2, *shape), dtype="float32") if objective.total_variation else None

    def __call__(self, z: Any, slope: Any, step: Any) -> ProxStep:
        """Take one step, a number or (N1, N2) float32 of them, from z along a gradient, both (N1, N2) float32."""
        o = self.objective
        if self.dual is None and not getattr(step, "ndim", 0):
            return prox_step(z, slope + o.sparsity, step=step)
        moved = z - step * (slope + o.sparsity)
        if self.dual is None:
            new = prox_nonnegative(moved)
        else:
            new = prox_total_variation(moved, step * (self.edges * o.total_variation), dual=self.dual, sweeps=SWEEPS)
        norm = o.psi.backend.xp.linalg.norm
        change, size = (float(norm(image.ravel())) for image in (new - z, new))
        return ProxStep(new, change, size, float(new.sum(dtype="float64")))
