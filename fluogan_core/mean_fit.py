"""FISTA on the mean frame: where the adversarial phase starts from, and the baseline that it is judged against."""

from __future__ import annotations

import math
from typing import Any

from .objective import Objective
from .prox import ProxStep, prox_step

__all__ = ["MeanFit"]


class MeanFit:
    r"""Accelerated proximal gradient steps on (11) without the critic.

    For every x the best background is known (:meth:`Objective.best_background`), so the steps are taken on
    :math:`\min_b` of the objective, a smooth convex function of x, whose gradient is
    :math:`\gamma\Psi^T(\Psi x + b(x) - \bar y)` and whose Lipschitz constant is not above :math:`\gamma\|\Psi\|^2`: x and b
    converge together, however stiff :math:`\lambda_2` is.  The momentum starts anew when it points uphill (O'Donoghue and
    Candes 2015).

    Parameters
    ----------
    objective : Objective
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        xp = objective.psi.backend.xp
        self.x = xp.zeros(objective.psi.fine_shape, dtype=xp.float32)
        self.ahead, self.t = self.x, 1.0
        self.b = objective.best_background(self.x)

    def step(self) -> ProxStep:
        """Take one step; x and b are then current."""
        o = self.objective
        ahead = self.ahead
        background = o.best_background(ahead, self.b)
        slope = o.gradient_x(o.residual(ahead, background))
        taken = prox_step(ahead, slope, step=o.step_x, threshold=o.sparsity)
        new = taken.x
        change = new - self.x
        if float(((ahead - new) * change).sum()) > 0:
            self.t, self.ahead = 1.0, new
        else:
            t = 0.5 * (1 + math.sqrt(1 + 4 * self.t**2))
            self.ahead, self.t = new + ((self.t - 1) / t) * change, t
        xp = o.psi.backend.xp
        self.x, self.b = new, o.best_background(new, background)
        return taken._replace(change=float(xp.linalg.norm(change.ravel())))

    def state_dict(self) -> dict[str, Any]:
        """What a resumed fit needs."""
        return {"x": self.x, "ahead": self.ahead, "t": self.t, "b": self.b}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        asarray = self.objective.psi.backend.asarray
        self.x, self.ahead, self.b = (asarray(state[name]) for name in ("x", "ahead", "b"))
        self.t = float(state["t"])
