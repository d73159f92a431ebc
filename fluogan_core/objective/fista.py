"""Accelerated proximal gradient steps: the extrapolation that both fits without a network share."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..backend.arrays import backend_of
from ..backend.readings import number
from ..backend.typing import Array, State

__all__ = ["Acceleration", "step_sums"]


def step_sums(ahead: Array, new: Array, last: Array, step: float | Array) -> tuple[float, float, float, float]:
    r"""Return :math:`\sum_i (y_i - z_i)(z_i - z'_i)/\tau_i`, :math:`\|z - z'\|^2`, :math:`\|z\|^2` and :math:`\sum_i z_i`.

    Parameters
    ----------
    ahead, new, last : (N1, N2) array
        y, the point from which a step was taken; z, where it led; z', the image before.
    step : float or (N1, N2) array
        :math:`\tau`, the step sizes.

    Returns
    -------
    uphill, change_sq, size_sq, total : float
        The first says whether the step turned against the last move (:meth:`Acceleration.advance`).
    """
    kernel = backend_of(new=new).kernel("step_sums")
    if kernel is not None and ahead.dtype == new.dtype == last.dtype and new.dtype in (np.float32, np.float64):
        return kernel(ahead, new, last, step)
    move = new - last
    parts = (((ahead - new) / step) * move, move * move, new * new, new)
    uphill, change, size, total = (number(part.sum(dtype=np.float64)) for part in parts)
    return uphill, change, size, total


class Acceleration:
    r"""Nesterov's extrapolation of a sequence of images (FISTA, Beck and Teboulle 2009).

    After a proximal gradient step from the point ahead :math:`y_k` to :math:`z_{k+1}`,

    .. math:: t_{k+1} = \tfrac12\big(1 + \sqrt{1 + 4 t_k^2}\big), \qquad
              y_{k+1} = z_{k+1} + \frac{t_k - 1}{t_{k+1}}\,(z_{k+1} - z_k).

    Where the step turned against the last move, the momentum is dropped (O'Donoghue and Candes 2015): :math:`t = 1`,
    :math:`y = z`.  Several images may be extrapolated together: two unknowns, or an image and what is affine in it.

    Parameters
    ----------
    *images : arrays
        Where the sequence starts.

    Attributes
    ----------
    current, ahead : tuple of arrays
        The images after the last step, and the point from which the next one is taken.
    t : float

    Examples
    --------
    >>> import numpy as np
    >>> acceleration = Acceleration(np.zeros(2))
    >>> for _ in range(200):  # the minimum of (u - 1)^2 / 2 + (v - 1)^2 / 20
    ...     (point,) = acceleration.ahead
    ...     new = point - (point - 1) * [1.0, 0.1]
    ...     acceleration.advance(new, uphill=float(((point - new) * (new - acceleration.current[0])).sum()))
    >>> acceleration.current[0].round(6)
    array([1., 1.])
    """

    def __init__(self, *images: Array) -> None:
        self.current = self.ahead = images
        self.t = 1.0

    @property
    def t(self) -> float:
        """The sequence's number; on a card that decides by itself the host waits for it."""
        return self._t if self._momentum is None else float(self._momentum[0])

    @t.setter
    def t(self, value: float) -> None:
        self._t = value
        self._momentum: Array | None = None  # on a card

    def restart(self) -> None:
        """Drop the momentum: what is minimised has changed."""
        self.t, self.ahead = 1.0, self.current

    def follow(self, first: Array, second: Array, *, steps: tuple[Array, float]) -> None:
        """Take the two images that the last step reached, and find here whether it turned.

        The product of the step, reversed, with the move, in the metric of the step sizes and summed over both images, decides.
        A card decides by itself: the host does not wait for it.

        Parameters
        ----------
        first, second : arrays
        steps : (array like first, float)
            The step sizes of the first image and of the second.
        """
        (y, v), (z, b) = self.ahead, self.current
        backend = backend_of(first=first)
        kernel = backend.kernel("extrapolated") if type(self) is Acceleration and first.dtype == np.float32 else None
        if kernel is None:
            parts = (step_sums(y, first, z, steps[0]), step_sums(v, second, b, steps[1]))
            self.advance(first, second, uphill=sum(part[0] for part in parts))
            return
        if self._momentum is None:
            self._momentum = backend.asarray(np.concatenate([[self._t], np.zeros(258)]))
        self.ahead = kernel(self.ahead, (first, second), self.current, steps, self._momentum)
        self.current = (first, second)

    def advance(self, *new: Array, uphill: float = 0.0) -> None:
        """Take the images that the last step reached.

        Parameters
        ----------
        *new : arrays
            As many as at the start.
        uphill : float
            The product of the step from the point ahead, reversed, with the move from the last images, in the metric of the
            step sizes; above 0 the momentum is dropped.  By default it never is.
        """
        if uphill > 0:
            self.t, self.ahead = 1.0, new
        else:
            t = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * self.t**2))
            momentum = (self.t - 1.0) / t
            self.ahead = tuple(_extrapolated(image, last, momentum) for image, last in zip(new, self.current))
            self.t = t
        self.current = new

    def state_dict(self) -> State:
        """Return what a resumed sequence needs."""
        return {"t": self.t, "current": list(self.current), "ahead": list(self.ahead)}

    def load_state_dict(self, state: State, asarray: Callable[[Array], Array]) -> None:
        """Restore what :meth:`state_dict` gave; ``asarray`` brings an image to where it is computed."""
        self.t = float(state["t"])
        self.current = tuple(asarray(image) for image in state["current"])
        self.ahead = tuple(asarray(image) for image in state["ahead"])


def _extrapolated(new: Array, last: Array, momentum: float) -> Array:
    kernel = backend_of(new=new).kernel("extrapolate")
    if kernel is not None and new.dtype == last.dtype and new.dtype in (np.float32, np.float64):
        return kernel(new, last, momentum)
    return new + momentum * (new - last)
