"""Accelerated proximal gradient steps: the extrapolation that both fits without a network share."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..backend.arrays import backend_of
from ..backend.readings import number
from ..backend.typing import Array, State

__all__ = ["Acceleration", "step_sums"]


def step_sums(new: Array, last: Array) -> tuple[float, float, float]:
    r"""Return :math:`\|z - z'\|^2`, :math:`\|z\|^2` and :math:`\sum_i z_i`.

    Parameters
    ----------
    new, last : (N1, N2) array
        z and :math:`z'`, the image after a step and the one before.

    Returns
    -------
    change_sq, size_sq, total : float
    """
    kernel = backend_of(new=new).kernel("step_sums")
    if kernel is not None and new.dtype == last.dtype and new.dtype in (np.float32, np.float64):
        return kernel(new, last)
    move = new - last
    change, size, total = (number(part.sum(dtype=np.float64)) for part in (move * move, new * new, new))
    return change, size, total


class Acceleration:
    r"""Nesterov's extrapolation of a sequence of images (FISTA, Beck and Teboulle 2009).

    After a proximal gradient step from the point ahead :math:`y_k` to :math:`z_{k+1}`,

    .. math:: t_{k+1} = \tfrac12\big(1 + \sqrt{1 + 4 t_k^2}\big), \qquad
              y_{k+1} = z_{k+1} + \frac{t_k - 1}{t_{k+1}}\,(z_{k+1} - z_k).

    Where what is minimised changes, the momentum may be dropped (:meth:`restart`): :math:`t = 1`, :math:`y = z`.  It is not
    dropped where a step turns against the last move (O'Donoghue and Candes 2015): a sum over the field would decide that, and
    its last digits differ for a mirrored field.  Several images may be extrapolated together: two unknowns, or an image and
    what is affine in it.

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
    ...     acceleration.advance(point - (point - 1) * [1.0, 0.1])
    >>> acceleration.current[0].round(3)
    array([1., 1.])
    """

    def __init__(self, *images: Array) -> None:
        self.current = self.ahead = images
        self.t = 1.0

    def restart(self) -> None:
        """Drop the momentum: what is minimised has changed."""
        self.t, self.ahead = 1.0, self.current

    def advance(self, *new: Array) -> None:
        """Take the images that the last step reached, as many as at the start."""
        t = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * self.t**2))
        momentum = (self.t - 1.0) / t
        self.ahead = tuple(_extrapolated(image, last, momentum) for image, last in zip(new, self.current))
        self.t, self.current = t, new

    def state_dict(self) -> State:
        """Return what a resumed sequence needs."""
        return {"t": self.t, "current": list(self.current), "ahead": list(self.ahead)}

    def load_state_dict(self, state: State, asarray: Callable[[Array], Array]) -> None:
        """Restore what :meth:`state_dict` gave; ``asarray`` brings an image to where it is computed."""
        self.t = float(state["t"])
        self.current = tuple(asarray(image) for image in state["current"])
        self.ahead = tuple(asarray(image) for image in state["ahead"])


def _extrapolated(new: Array, last: Array, momentum: float) -> Array:
    backend = backend_of(new=new)
    kernel, dtypes = backend.kernel("extrapolate"), (np.float32,) if backend.cuda is not None else (np.float32, np.float64)
    if kernel is not None and new.dtype == last.dtype and new.dtype in dtypes:
        return kernel(new, last, momentum)
    return new + momentum * (new - last)
