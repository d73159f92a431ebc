"""The proximal step of the image, in both phases: l1 norm, bound and total variation at once."""

from __future__ import annotations

from typing import Any

from .prox import ProxStep, prox_nonnegative, prox_step, prox_total_variation
from .terms import Objective

__all__ = ["ImageStep"]

#: Sweeps of the dual per step; it is handed on from step to step, so that few are enough.
SWEEPS = 3


class ImageStep:
    r"""The minimum over z >= 0 of a quadratic, the l1 norm and the total variation,

    .. math:: \sum_i (z - z_0 + \tau g)_i^2 / 2\tau_i + \lambda_1\|z\|_1 + \lambda_3 \sum_i e_i |(\nabla z)_i|.

    Parameters
    ----------
    objective : Objective
        Its ``sparsity`` and ``total_variation`` are the weights.

    Attributes
    ----------
    edges : (N1, N2) float32, optional
        What an edge costs at every pixel, e, above 0; 1 everywhere while this is None.
    dual : (2, N1, N2) float32
        The dual variable of the total variation, kept from step to step; None where its weight is 0.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.edges: Any = None
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
            weight = step * o.total_variation
            new = prox_total_variation(moved, weight, dual=self.dual, sweeps=SWEEPS, edges=self.edges)
        norm = o.psi.backend.xp.linalg.norm
        change, size = (float(norm(image.ravel())) for image in (new - z, new))
        return ProxStep(new, change, size, float(new.sum(dtype="float64")))
