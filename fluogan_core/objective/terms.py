r"""The terms of the objective (11) but for the critic's, their gradients and safe steps, and the identity (10).

.. math:: \frac{\gamma}{2}\|\Psi x + b - \bar y\|^2 + \lambda_1 \|x\|_1 + \lambda_3 \sum_c |(\nabla x)_c|
          + \frac{\lambda_2}{2}\|\nabla^p b\|^2, \qquad x, b \ge 0,

with :math:`\bar y` the mean frame in photons, :math:`|(\nabla x)_c|` the steepness of a cell between four pixels
(:func:`fluogan_core.objective.prox.edge_lengths`) and
:math:`\|\nabla^p b\|^2 = \langle b, (\nabla^T\nabla)^p b\rangle`, forward differences and nothing across the border;
from p = 2 on slow polynomials are free (:mod:`fluogan_core.objective.bending`). The paper has p = 1 and :math:`\lambda_3 =
0`: the total variation keeps a wide bar from being split into two ridges, which an l1 norm alone prefers. For given x the
best background is a low-pass of what x leaves, a Butterworth filter of order p: the higher p, the less it dims of what varies
slowly, and the less it lets pass of what varies fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..backend.checks import real_number, trailing_shape, whole_number
from ..backend.kinds import any_kind
from ..backend.readings import number
from ..backend.typing import Array
from ..physics.forward import ForwardModel
from ..physics.requirements import OperatorLike, usable
from ..tuning import DEFAULT, ObjectiveTuning
from .bending import Bending
from .prior import Prior, SparseEdges

__all__ = ["Objective", "WarmStart", "expected_squared_distance"]


@any_kind("x", "b", "mean")
def expected_squared_distance(model: ForwardModel, x: Array, b: Array, mean: Array) -> float:
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


@dataclass
class WarmStart:
    """Where :meth:`Objective.best_background` left off: the bounded background and its dual, None before a bound mattered."""

    bounded: Array | None = None
    dual: Array | None = None


class Objective:
    r"""The terms of (11) for one mean frame.

    Parameters
    ----------
    psi : Psi or Operator
    mean : (M1, M2)
        Mean frame in photons.
    fidelity, sparsity, smoothness, total_variation : float
        :math:`\gamma`, :math:`\lambda_1`, :math:`\lambda_2`, :math:`\lambda_3`.
    order : int
        p, the order of the background's smoothness.
    prior : Prior, optional
        Of the image; :class:`~fluogan_core.objective.prior.SparseEdges` with ``sparsity`` and ``total_variation`` if not given.
    background : (M1, M2), optional
        A background that is known, photons: b is this and nothing else.
    tuning : ObjectiveTuning, optional
        Numbers that were found by trial (:mod:`fluogan_core.tuning`).

    Attributes
    ----------
    prior : Prior
    step_x, step_b : float
        Safe steps :math:`1 / (\gamma \|\Psi\|^2)` and, for :meth:`background_step`, :math:`1 / \gamma`.

    Raises
    ------
    ValueError
        If the mean frame is not of psi's field, a weight is out of its range, or weights of the library's prior are given
        beside another prior.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (16, 16), 2, backend="numpy")
    >>> x, b = np.zeros(psi.fine_shape, np.float32), np.full(psi.shape, 3, np.float32)
    >>> x[16, 16] = 100
    >>> objective = fg.Objective(psi, psi.forward(x) + b, sparsity=0.5, smoothness=10.0)
    >>> {name: round(value, 3) for name, value in objective.terms(x, b).items()}
    {'fidelity': 0.0, 'sparsity': 50.0, 'total_variation': 0.0, 'smoothness': 0.0}
    """

    @any_kind("mean", "background")
    def __init__(
        self,
        psi: OperatorLike,
        mean: Array,
        *,
        fidelity: float = 1.0,
        sparsity: float = 0.0,
        smoothness: float = 0.0,
        total_variation: float = 0.0,
        order: int = 1,
        prior: Prior | None = None,
        background: Array | None = None,
        tuning: ObjectiveTuning = DEFAULT.objective,
    ) -> None:
        self.psi = psi = usable(psi, "objective")
        trailing_shape(mean, psi.shape, "mean", "the camera grid")
        if background is not None:
            trailing_shape(background, psi.shape, "background", "the camera grid")
        self.background = background
        self.mean = mean
        self.fidelity = real_number(fidelity, "fidelity", low=0, open_low=True)
        self.smoothness = real_number(smoothness, "smoothness", low=0)
        if prior is not None and (sparsity or total_variation):
            raise ValueError(
                "sparsity and total_variation are weights of the library's prior; leave them out where prior= is given"
            )
        if prior is None:
            weights: dict[str, Any] = {"sparsity": sparsity, "total_variation": total_variation}
            prior = SparseEdges(psi.fine_shape, psi.backend, **weights, tuning=tuning)
        self.prior, self.tuning = prior, tuning
        self.order = whole_number(order, "order", low=1, high=8)
        self.step_b = 1.0 / self.fidelity

    @cached_property
    def step_x(self) -> float:
        """The safe step of x; the norm of Psi that it takes is found at the first use."""
        return 1.0 / (self.fidelity * self.psi.norm**2)

    @any_kind("x", "b")
    def residual(self, x: Array, b: Array) -> Array:
        r"""Return :math:`\Psi x + b - \bar y`.

        Parameters
        ----------
        x, b : (N1, N2), (M1, M2) array
            Emissions and photons.

        Returns
        -------
        (M1, M2) array
            Photons.
        """
        return self.psi.forward(x) + b - self.mean

    @any_kind("residual")
    def gradient_x(self, residual: Array) -> Array:
        r"""Return :math:`\gamma \Psi^T r`, the smooth part's gradient in x.

        Parameters
        ----------
        residual : (M1, M2) array
            r, photons.

        Returns
        -------
        (N1, N2) array
        """
        return self.fidelity * self.psi.adjoint(residual)

    @any_kind("residual", "b")
    def gradient_b(self, residual: Array, b: Array) -> Array:
        r"""Return :math:`\gamma r + \lambda_2 (\nabla^T\nabla)^p b`, the smooth part's gradient in b.

        Parameters
        ----------
        residual, b : (M1, M2) array
            r and b, photons.

        Returns
        -------
        (M1, M2) array
        """
        return self.fidelity * residual + self._bending.gradient(b)

    @any_kind("x", "b", "residual")
    def terms(self, x: Array, b: Array, residual: Array | None = None) -> dict[str, float]:
        """Return each term of (11) but the critic's.

        Parameters
        ----------
        x, b : (N1, N2), (M1, M2)
        residual : (M1, M2), optional
            Of x and b, if known.

        Returns
        -------
        dict of str to float
            ``fidelity``, those of the prior, and ``smoothness``.
        """
        trailing_shape(x, self.psi.fine_shape, "x", "the fine grid")
        trailing_shape(b, self.psi.shape, "b", "the camera grid")
        r = (self.residual(x, b) if residual is None else residual).astype(np.float64)
        fidelity = 0.5 * self.fidelity * number((r * r).sum())
        return {"fidelity": fidelity} | self.prior.terms(x) | {"smoothness": self.smoothness_of(b)}

    @any_kind("b")
    def smoothness_of(self, b: Array) -> float:
        r"""Return the background's penalty :math:`\tfrac{\lambda_2}{2} \|\nabla^p b\|^2`; 0 of one that is given.

        Parameters
        ----------
        b : (M1, M2) array
            Photons.

        Returns
        -------
        float
        """
        return 0.0 if self.background is not None else self._bending.energy(b)

    @cached_property
    def _bending(self) -> Bending:
        psi, weights = self.psi, {"smoothness": self.smoothness, "fidelity": self.fidelity}
        return Bending(psi.shape, psi.backend, order=self.order, **weights, tuning=self.tuning)

    def _smooth(
        self, target: Array, weight: float, start: Array | None, free: Array | None = None, warm: WarmStart | None = None
    ) -> Array:
        r"""Return :math:`\arg\min_{b \ge 0} w/2 \|b - t\|^2 + \lambda_2/2 \|\nabla^p b\|^2`.

        Without the bound a cosine transform gives it exactly (``free``, if known).  Where that is negative somewhere, the
        bound and the penalty are met in turn (alternating directions, over-relaxed, Boyd et al. 2011), whatever the penalty's
        stiffness; ``warm`` says where the last call left off, and is told where this one does.
        """
        if free is None and warm is None and start is not None:
            b = self._bending.bounded(target, start, weight, self.tuning.bound_iterations, self.tuning.relaxation)
            if b is not None:
                return b
        free = self._bending.lowpass(target, weight) if free is None else free
        if float(free.min()) >= 0:
            return free
        xp, turns = self.psi.backend.xp, self.tuning.bound_iterations
        if warm is not None and warm.dual is not None:
            bounded, dual, turns = warm.bounded, warm.dual, self.tuning.warm_bound_iterations
        else:
            bounded = xp.maximum(free if start is None else start, 0)
            dual = 0 * bounded
        relaxation = target.dtype.type(self.tuning.relaxation)
        for _ in range(turns):
            b = self._bending.lowpass(0.5 * (target + bounded - dual), 2 * weight)
            b = bounded + relaxation * (b - bounded)
            bounded = xp.maximum(b + dual, 0)
            dual = dual + b - bounded
        if warm is not None:
            warm.bounded, warm.dual = bounded, dual
        return bounded

    @any_kind("light")
    def unbounded_background(self, light: Array) -> Array:
        r"""Return the best background if it could be negative: affine in the light :math:`\Psi x`.

        Parameters
        ----------
        light : (M1, M2) array
            :math:`\Psi x`, photons.

        Returns
        -------
        (M1, M2) array
            Photons.
        """
        if self.background is not None:
            return self.background
        return self._bending.lowpass(self.mean - light, self.fidelity)

    @any_kind("light", "free")
    def best_background(self, light: Array, *, free: Array | None = None, warm: WarmStart | None = None) -> Array:
        r"""Return the b of the smallest (11), without the critic, for the light :math:`\Psi x` of the molecules.

        Parameters
        ----------
        light : (M1, M2)
            :math:`\Psi x`, photons.
        free : (M1, M2), optional
            :meth:`unbounded_background` of this light, if known.
        warm : WarmStart, optional
            Handed from call to call where the light changes little: where the bound matters a few turns are then enough.

        Returns
        -------
        (M1, M2) array
            Photons, 0 or more.
        """
        if self.background is not None:
            return self.background
        return self._smooth(self.mean - light, self.fidelity, None, free, warm)

    @any_kind("b", "slope")
    def background_step(self, b: Array, slope: Array, step: float) -> Array:
        r"""Return the proximal gradient step of b.

        Taking the penalty in the proximal operator keeps the safe step at :math:`1/\gamma`, however stiff it is.

        Parameters
        ----------
        b : (M1, M2) array
            Photons.
        slope : (M1, M2) array
            The gradient of all but the penalty and the bound.
        step : float

        Returns
        -------
        (M1, M2) array
            Photons, 0 or more.
        """
        if self.background is not None:
            return self.background
        return self._smooth(b - step * slope, 1.0 / step, b)
