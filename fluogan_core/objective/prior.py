"""Priors of the image: a penalty and its proximal operator; the library's own, and the seam for others."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from ..backend.arrays import Backend
from ..backend.checks import real_number, trailing_shape
from ..backend.readings import root
from ..backend.typing import Array, State
from ..tuning import DEFAULT, ObjectiveTuning
from .fista import step_sums
from .prox import ProxStep, penalties, prox_nonnegative, prox_step, prox_total_variation, sweep_total_variation

__all__ = ["Prior", "SparseEdges", "number_or_array"]


class Prior(abc.ABC):
    r"""What is known of an image before the frames are seen.

    A prior of your own gives :meth:`value` and :meth:`prox`; the rest follows.  Where the proximal operator is a denoiser
    (plug-and-play), ``value`` may return 0.

    Examples
    --------
    A quadratic penalty :math:`w/2 \sum_i z_i^2`:

    >>> import numpy as np
    >>> from fluogan_core import Prior
    >>> class Ridge(Prior):
    ...     def __init__(self, weight):
    ...         self.weight = weight
    ...     def value(self, z):
    ...         return 0.5 * self.weight * float((z * z).sum())
    ...     def prox(self, v, step):
    ...         return np.maximum(v / (1 + step * self.weight), 0)
    >>> Ridge(1.0).prox(np.array([[2.0, -2.0]]), 1.0)
    array([[1., 0.]])
    """

    @abc.abstractmethod
    def value(self, z: Array) -> float:
        """Return the penalty of an image.

        Parameters
        ----------
        z : (N1, N2) float32

        Returns
        -------
        float
        """

    @abc.abstractmethod
    def prox(self, v: Array, step: float | Array) -> Array:
        r"""Return the minimum over :math:`u \ge 0` of :math:`\sum_i (u_i - v_i)^2 / 2\tau_i + \mathrm{value}(u)`.

        Parameters
        ----------
        v : (N1, N2) float32
        step : float or (N1, N2) float32
            :math:`\tau`, one for all pixels or one for each.

        Returns
        -------
        u : (N1, N2) float32
        """

    def step(self, z: Array, slope: Array, step: float | Array) -> ProxStep:
        """Take a proximal gradient step.

        Parameters
        ----------
        z, slope : (N1, N2) float32
            The image, and the gradient of everything but the prior.
        step : float or (N1, N2) float32

        Returns
        -------
        ProxStep
            The new image, and the norms that a stopping rule needs.
        """
        return _measured(z, self.moved(z, slope, step))

    def moved(self, z: Array, slope: Array, step: float | Array) -> Array:
        """Return the new image of :meth:`step` alone: nothing is measured that a card would be waited for.

        Parameters
        ----------
        z, slope, step
            As in :meth:`step`.

        Returns
        -------
        (N1, N2) float32
        """
        return self.prox(z - step * slope, step).astype(z.dtype, copy=False)

    def terms(self, z: Array) -> dict[str, float]:
        """Return the penalty by parts.

        Parameters
        ----------
        z : (N1, N2) float32

        Returns
        -------
        dict of str to float
            Under the names that the history has for them.
        """
        return {"prior": self.value(z)}

    def restarted(self, edges: Array | None = None) -> Prior:
        """Return this prior for another phase: without memory of the last one, and with other weights of edges if it has any.

        Parameters
        ----------
        edges : (N1, N2) float32, optional
            Relative weight of an edge at every pixel.

        Returns
        -------
        Prior
        """
        return self

    def state_dict(self) -> State:
        """Return what a resumed fit needs of the prior; nothing by default.

        Returns
        -------
        dict
            Numbers, words and arrays by name.
        """
        return {}

    def load_state_dict(self, state: State, asarray: Callable[[Array], Array]) -> None:  # noqa: B027
        """Restore what :meth:`state_dict` gave.

        Parameters
        ----------
        state : dict
        asarray : callable
            Brings an image to where it is computed.
        """


class SparseEdges(Prior):
    r"""The library's prior: an l1 norm, the total variation, and no negative value.

    .. math:: \sum_i \lambda_{1,i}\, z_i + \lambda_3 \sum_i e_i |(\nabla z)_i|, \qquad z \ge 0.

    Parameters
    ----------
    shape : (N1, N2)
    backend : Backend
        Where images live.
    sparsity : float or (N1, N2) float32
        :math:`\lambda_1`.
    total_variation : float
        :math:`\lambda_3`.
    edges : (N1, N2) float32, optional
        e, above 0; 1 everywhere if not given.
    tuning : ObjectiveTuning

    Attributes
    ----------
    dual : (4, N1, N2)
        The dual variable of the total variation, kept from step to step, in the precision of the images; None where its
        weight is 0.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        backend: Backend,
        *,
        sparsity: float | Array = 0.0,
        total_variation: float = 0.0,
        edges: Array | None = None,
        tuning: ObjectiveTuning = DEFAULT.objective,
    ) -> None:
        self.shape, self.backend, self.tuning = shape, backend, tuning
        self.total_variation = real_number(total_variation, "total_variation", low=0)
        self.edges = edges
        self.sparsity: float | Array = 0.0
        self.set_sparsity(sparsity)
        self.dual = backend.xp.zeros((4, *shape), dtype=np.float32) if self.total_variation else None

    def set_sparsity(self, sparsity: float | Array) -> None:
        r"""Change :math:`\lambda_1`: a number of at least 0, or (N1, N2) of them."""
        if getattr(sparsity, "ndim", 0):
            trailing_shape(sparsity, self.shape, "sparsity", "the fine grid")
            self.sparsity = sparsity
        else:
            self.sparsity = real_number(sparsity, "sparsity", low=0)

    def value(self, z: Array) -> float:
        return sum(self.terms(z).values())

    def terms(self, z: Array) -> dict[str, float]:
        light, steepness = penalties(z, self.sparsity, self.edges)
        return {"sparsity": light, "total_variation": self.total_variation * steepness}

    def prox(self, v: Array, step: float | Array) -> Array:
        return self._without_negatives(v - step * self.sparsity, step)

    def step(self, z: Array, slope: Array, step: float | Array) -> ProxStep:
        if self.dual is None and not getattr(step, "ndim", 0):
            return prox_step(z, slope + self.sparsity, step=cast(float, step))
        return _measured(z, self.moved(z, slope, step))

    def moved(self, z: Array, slope: Array, step: float | Array) -> Array:
        on_card, uniform = self.backend.cuda is not None, not getattr(step, "ndim", 0)
        kernel = None if self.dual is None or (uniform and on_card) else self.backend.kernel("descend")
        self._in_precision_of(z)
        if kernel is None or (on_card and z.dtype != np.float32):
            return self._without_negatives(z - step * (slope + self.sparsity), step)
        point, weight = kernel(z, slope, step, self.sparsity, self.total_variation)
        dual, sweeps = cast(Array, self.dual), self.tuning.dual_iterations
        return sweep_total_variation(point, weight, dual=dual, sweeps=sweeps, edges=self.edges)

    def _in_precision_of(self, image: Array) -> None:
        """Keep what belongs to the pixels in the precision of the images."""
        if self.dual is not None and self.dual.dtype != image.dtype:
            self.dual = self.dual.astype(image.dtype)
        if getattr(self.sparsity, "ndim", 0) and cast(Array, self.sparsity).dtype != image.dtype:
            self.sparsity = cast(Array, self.sparsity).astype(image.dtype)
        if self.edges is not None and self.edges.dtype != image.dtype:
            self.edges = self.edges.astype(image.dtype)

    def _without_negatives(self, v: Array, step: float | Array) -> Array:
        """The prox of the total variation and the bound."""
        self._in_precision_of(v)
        if self.dual is None:
            return prox_nonnegative(v)
        weight, sweeps = step * self.total_variation, self.tuning.dual_iterations
        return prox_total_variation(v, weight, dual=self.dual, sweeps=sweeps, edges=self.edges)

    def restarted(self, edges: Array | None = None) -> SparseEdges:
        weights: dict[str, Any] = {"sparsity": self.sparsity, "total_variation": self.total_variation}
        return SparseEdges(self.shape, self.backend, **weights, edges=edges, tuning=self.tuning)

    def state_dict(self) -> State:
        return {"sparsity": self.sparsity, "edges": self.edges, "dual": self.dual}

    def load_state_dict(self, state: State, asarray: Callable[[Array], Array]) -> None:
        self.sparsity = number_or_array(state["sparsity"], asarray)
        self.edges, self.dual = (None if state[name] is None else asarray(state[name]) for name in ("edges", "dual"))


def number_or_array(value: float | Array, asarray: Callable[[Array], Array]) -> float | Array:
    """Return a number of a state as a float, and an array where it is computed."""
    return asarray(cast(Array, value)) if getattr(value, "ndim", 0) else float(value)


def _measured(z: Array, new: Array) -> ProxStep:
    """The new image with the norms that a stopping rule needs."""
    change, size, total = step_sums(new, z)
    return ProxStep(new, root(change), root(size), total)
