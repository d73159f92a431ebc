"""What the fit of mean and covariance measures once for a field: parts of a larger field share that of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..backend.typing import Array
from ..critics.quadratic import QuadraticCriticLike

__all__ = ["FieldFlicker", "FlickerOf", "field_flicker", "typical_brightness"]


class FieldFlicker(NamedTuple):
    r"""Flicker and brightness of a field.

    Attributes
    ----------
    strengths : tuple of float
        :math:`\varphi` of each critic: of the frames that are fitted, and of the held-out ones.
    share : float
        Share of flicker in the variance of the molecules' light, 0 to 1; NaN without light.
    brightness : float
        :func:`typical_brightness` of the image that the fit starts from.
    """

    strengths: tuple[float, ...]
    share: float
    brightness: float


#: What gives a field's flicker: of critics, x and b.
FlickerOf = Callable[[Sequence[QuadraticCriticLike], Array, Array], FieldFlicker]


def field_flicker(critics: Sequence[QuadraticCriticLike], x: Array, b: Array) -> FieldFlicker:
    """Measure the flicker of a field.

    Parameters
    ----------
    critics : sequence of QuadraticCritic
        Of the frames that are fitted, then of the held-out ones; each has its flicker strength afterwards.
    x, b : arrays
        Where the fit starts.

    Returns
    -------
    FieldFlicker
    """
    for critic in critics:
        critic.measure_flicker(x, b)
    strengths = tuple(float(critic.flicker) for critic in critics)
    return FieldFlicker(strengths, critics[0].flicker_share(x), typical_brightness(x))


def typical_brightness(x: Array) -> float:
    """Mean of an image weighed by itself; 0 of one that is so dark that its squares leave float32."""
    brightness = float((x * x).sum(dtype=np.float64)) / max(float(x.sum(dtype=np.float64)), 1e-30)
    return brightness if brightness > 1e-15 else 0.0
