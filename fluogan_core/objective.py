r"""The terms of the objective (11) but for the critic's, their gradients and safe steps, and the identity (10).

.. math:: \frac{\gamma}{2}\|\Psi x + b - \bar y\|^2 + \lambda_1 \|x\|_1 + \frac{\lambda_2}{2}\|\nabla b\|^2, \qquad x, b \ge 0,

with :math:`\bar y` the mean frame in photons.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from ._checks import real_number, trailing_shape
from .forward import ForwardModel
from .psi import Psi

__all__ = ["Objective", "expected_squared_distance", "gradient_energy", "laplacian"]


def gradient_energy(b: Any) -> float:
    r"""Return :math:`\|\nabla b\|^2` with forward differences, nothing across the border."""
    down, across = b[1:] - b[:-1], b[:, 1:] - b[:, :-1]
    return float((down * down).sum(dtype=np.float64) + (across * across).sum(dtype=np.float64))


def laplacian(b: Any) -> Any:
    r"""Return :math:`\nabla^T \nabla b`, half the gradient of :func:`gradient_energy`; its norm is below 8."""
    out = 0 * b
    down, across = b[1:] - b[:-1], b[:, 1:] - b[:, :-1]
    out[1:] += down
    out[:-1] -= down
    out[:, 1:] += across
    out[:, :-1] -= across
    return out


def expected_squared_distance(model: ForwardModel, x: Any, b: Any, mean: Any) -> float:
    r"""Return :math:`E\|Y - \bar y\|^2` by eq. (10).

    .. math:: \|\alpha(\Psi x + b) - \bar y\|^2 + \alpha^2\Big(\sum_i (\|\Psi_i\|_1 + \|\Psi_i\|_2^2) x_i + \|b\|_1\Big)
              + M_1 M_2 \sigma^2

    Parameters
    ----------
    model : ForwardModel
    x, b : (N1, N2), (M1, M2)
    mean : (M1, M2)
        Any image in counts above the offset; the mean frame in the paper.
    """
    xp = model.backend.xp
    offset = model.mean(x, b) - mean
    spread = (model.psi.column_sums + model.psi.column_energies) * x
    variance = float(spread.sum()) + float(xp.abs(b).sum(dtype=np.float64)) + b.size * model.epsilon
    return float((offset * offset).sum(dtype=np.float64)) + model.gain**2 * variance + b.size * model.noise_std**2


class Objective:
    r"""The terms of (11) for one mean frame.

    Parameters
    ----------
    psi : Psi
    mean : (M1, M2)
        Mean frame in photons.
    fidelity, sparsity, smoothness : float
        :math:`\gamma`, :math:`\lambda_1`, :math:`\lambda_2`.

    Attributes
    ----------
    step_x, step_b : float
        Safe steps :math:`1 / (\gamma \|\Psi\|^2)` and :math:`1 / (\gamma + 8 \lambda_2)`.
    """

    def __init__(self, psi: Psi, mean: Any, *, fidelity: float = 1.0, sparsity: float = 0.0, smoothness: float = 0.0) -> None:
        trailing_shape(mean, psi.shape, "mean", "the camera grid")
        self.psi, self.mean = psi, mean
        self.fidelity = real_number(fidelity, "fidelity", low=0, open_low=True)
        self.sparsity = real_number(sparsity, "sparsity", low=0)
        self.smoothness = real_number(smoothness, "smoothness", low=0)
        self.step_x = 1.0 / (self.fidelity * psi.norm**2)
        self.step_b = 1.0 / (self.fidelity + 8.0 * self.smoothness)

    def residual(self, x: Any, b: Any) -> Any:
        r"""Return :math:`\Psi x + b - \bar y`, photons."""
        return self.psi.forward(x) + b - self.mean

    def gradient_x(self, residual: Any) -> Any:
        r"""Return :math:`\gamma \Psi^T r`, the smooth part's gradient in x."""
        return self.fidelity * self.psi.adjoint(residual)

    def gradient_b(self, residual: Any, b: Any) -> Any:
        r"""Return :math:`\gamma r + \lambda_2 \nabla^T\nabla b`, the smooth part's gradient in b."""
        return self.fidelity * residual + self.smoothness * laplacian(b)

    def terms(self, x: Any, b: Any, residual: Any | None = None) -> dict[str, float]:
        """Return each term of (11) but the critic's."""
        r = self.residual(x, b) if residual is None else residual
        return {
            "fidelity": 0.5 * self.fidelity * float((r * r).sum(dtype=np.float64)),
            "sparsity": self.sparsity * float(abs(x).sum(dtype=np.float64)),
            "smoothness": 0.5 * self.smoothness * gradient_energy(b),
        }

    @cached_property
    def _laplacian_eigenvalues(self) -> Any:
        """Of the Neumann Laplacian, which the cosine transform diagonalises."""
        xp = self.psi.backend.xp
        lines = [2 - 2 * np.cos(math.pi * np.arange(n) / n) for n in self.psi.shape]
        return xp.asarray(lines[0][:, None] + lines[1][None, :])

    def best_background(self, x: Any, start: Any | None = None) -> Any:
        r"""Return :math:`\arg\min_{b \ge 0}` of (11) for this x, without the critic.

        The unconstrained minimiser :math:`(\gamma I + \lambda_2 \nabla^T\nabla)^{-1} \gamma(\bar y - \Psi x)` is exact by a
        cosine transform; where it is negative somewhere, accelerated projected gradient steps continue from its projection.
        """
        xp, fft = self.psi.backend.xp, self.psi.backend.fft
        target = self.mean - self.psi.forward(x)
        spectrum = fft.dctn(target, norm="ortho")
        spectrum = spectrum * (self.fidelity / (self.fidelity + self.smoothness * self._laplacian_eigenvalues))
        free = fft.idctn(spectrum, norm="ortho").astype(target.dtype)
        if float(free.min()) >= 0:
            return free
        b = xp.maximum(free, 0) if start is None else start
        ahead, t = b, 1.0
        for _ in range(50):
            new = xp.maximum(ahead - self.step_b * self.gradient_b(ahead - target, ahead), 0)
            t_new = 0.5 * (1 + math.sqrt(1 + 4 * t * t))
            ahead = new + ((t - 1) / t_new) * (new - b)
            b, t = new, t_new
        return b
