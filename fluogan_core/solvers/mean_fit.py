"""FISTA on the mean frame: where the adversarial phase starts from, and the baseline that it is judged against."""

from __future__ import annotations

import math
from typing import Any

from ..calibration.noise import StackNoise
from ..objective.blur import GaussianKernel
from ..objective.image_step import ImageStep
from ..objective.prox import ProxStep
from ..objective.terms import Objective, WarmStart

__all__ = ["UNEXPLAINED", "MeanPhase", "detail_for_snr", "iterations_for_snr"]

#: Steps beyond which nothing was gained on simulated lines.
_MOST_STEPS = 3000

#: Signal-to-noise of the mean frame from which on the finest detail is worth looking for.
_BRIGHT = 200.0

#: Noise of the mean frame, in units of what its fluctuations explain, from which on the rest is surely something else.
UNEXPLAINED = 1.5


def iterations_for_snr(noise: StackNoise) -> int:
    """Return the accelerated steps that the light of a stack deserves: 30 times the signal-to-noise of its mean frame.

    After k steps FISTA has recovered what Psi dims by less than about k.  A single pixel of SNR s shows nothing that Psi dims
    by more than s, but a structure shows in many pixels.  The factor and the bound are from simulated pairs of lines and their
    controls (docs/results.md).
    """
    return int(min(max(30 * noise.signal_to_noise, 10), _MOST_STEPS))


def detail_for_snr(detail: float, noise: StackNoise) -> float:
    r"""Return the blur that an image is sought through in the light of a stack, as a fraction of the PSF's.

    ``detail`` from a signal-to-noise s of 200 on, and in less light :math:`\sqrt{200 / s}` times that, never more than the PSF.
    The finest detail is the noisiest: in dim light it makes lines that are too narrow, and puts pairs too far apart.  By
    trial on simulated pairs of lines and their controls at two levels of light, s about 80 and 230 (docs/results.md).
    """
    return min(detail * math.sqrt(max(_BRIGHT / max(noise.signal_to_noise, 1e-12), 1.0)), 1.0)


class MeanPhase:
    r"""Accelerated proximal gradient steps on (11) without the critic.

    The image is sought as :math:`x = G z` (:class:`fluogan_core.objective.blur.GaussianKernel`).
    For every z the best background is known (:meth:`Objective.best_background`), so the steps are taken on
    :math:`\min_b` of the objective, a smooth convex function of
    z, whose gradient is :math:`\gamma (\Psi G)^T(\Psi G z + b(z) - \bar y)` and whose Lipschitz constant is not above
    :math:`\gamma\|\Psi G\|^2`: x and b converge together, however stiff :math:`\lambda_2` is.  The momentum starts anew when it
    points uphill (O'Donoghue and Candes 2015).

    Parameters
    ----------
    objective : Objective
    detail : float
        Width of G relative to the PSF's.
    """

    def __init__(self, objective: Objective, detail: float = 0.0) -> None:
        self.objective, self.sieve = objective, GaussianKernel(objective.psi, detail)
        self.image_step = ImageStep(objective)
        self.operator = self.sieve.operator
        self.step_size = 1.0 / (objective.fidelity * self.operator.norm**2)
        xp = objective.psi.backend.xp
        self.z = xp.zeros(objective.psi.fine_shape, dtype=xp.float32)
        self.ahead, self.t = self.z, 1.0
        # Both are affine in z: at the point ahead they follow from those of the last two images.
        self.light = self.light_ahead = self.operator.forward(self.z)
        self.free = self.free_ahead = objective.unbounded_background(self.light)
        self.held = WarmStart()
        self.b = objective.best_background(self.light, free=self.free, held=self.held)

    @property
    def x(self) -> Any:
        """The image, (N1, N2)."""
        return self.sieve(self.z)

    @property
    def residual(self) -> Any:
        r""":math:`\Psi x + b - \bar y`, photons."""
        return self.light + self.b - self.objective.mean

    def step(self) -> ProxStep:
        """Take one step; x and b are then current."""
        o, ahead = self.objective, self.ahead
        background = o.best_background(self.light_ahead, free=self.free_ahead, held=self.held)
        slope = o.fidelity * self.operator.adjoint(self.light_ahead + background - o.mean)
        taken = self.image_step(ahead, slope, self.step_size)
        new = taken.x
        light = self.operator.forward(new)
        free = o.unbounded_background(light)
        change = new - self.z
        if float(((ahead - new) * change).sum()) > 0:
            self.t, self.ahead, self.light_ahead, self.free_ahead = 1.0, new, light, free
        else:
            t = 0.5 * (1 + math.sqrt(1 + 4 * self.t**2))
            momentum = (self.t - 1) / t
            self.ahead, self.t = new + momentum * change, t
            self.light_ahead = light + momentum * (light - self.light)
            self.free_ahead = free + momentum * (free - self.free)
        xp = o.psi.backend.xp
        self.z, self.light, self.free = new, light, free
        self.b = o.best_background(light, free=free, held=self.held)
        return taken._replace(change=float(xp.linalg.norm(change.ravel())))

    def start_anew(self) -> None:
        """Forget the momentum: what is minimised has changed."""
        self.t, self.ahead, self.light_ahead, self.free_ahead = 1.0, self.z, self.light, self.free

    _ARRAYS = ("z", "ahead", "light", "light_ahead", "free", "free_ahead", "b")

    def state_dict(self) -> dict[str, Any]:
        """What a resumed fit needs."""
        others = {"t": self.t, "dual": self.image_step.dual, "bounded": self.held.bounded, "bound_dual": self.held.dual}
        return {name: getattr(self, name) for name in self._ARRAYS} | others

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        asarray = self.objective.psi.backend.asarray
        for name in self._ARRAYS:
            setattr(self, name, asarray(state[name]))
        self.t = float(state["t"])
        self.image_step.dual = None if state["dual"] is None else asarray(state["dual"])
        bound = (state["bounded"], state["bound_dual"])
        self.held = WarmStart(*(None if image is None else asarray(image) for image in bound))
