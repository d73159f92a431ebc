"""What the fit of mean and covariance measures once for a field: parts of a larger field share that of the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..backend.typing import Array
from ..critics.quadratic import QuadraticCriticLike

__all__ = ["FieldFlicker", "field_flicker", "typical_brightness"]


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


def field_flicker(critics: Sequence[QuadraticCriticLike], x: Array, b: Array, shared: FieldFlicker | None) -> FieldFlicker:
    """Measure the flicker of a field, or take that of the field that it is a part of.

    Parameters
    ----------
    critics : sequence of QuadraticCritic
        Of the frames that are fitted, then of the held-out ones; each has its flicker strength afterwards.
    x, b : arrays
        Where the fit starts.
    shared : FieldFlicker, optional

    Returns
    -------
    FieldFlicker
        With a share of NaN where x has no light, whatever is shared.
    """
    for number, critic in enumerate(critics):
        if shared is None:
            critic.measure_flicker(x, b)
        else:
            critic.flicker = np.float32(shared.strengths[number])
    share = critics[0].flicker_share(x)
    if shared is None:
        return FieldFlicker(tuple(float(critic.flicker) for critic in critics), share, typical_brightness(x))
    return shared._replace(share=share if math.isnan(share) else shared.share)


def typical_brightness(x: Array) -> float:
    """Mean of an image weighed by itself; 0 of one that is so dark that its squares leave float32."""
    brightness = float((x * x).sum(dtype=np.float64)) / max(float(x.sum(dtype=np.float64)), 1e-30)
    return brightness if brightness > 1e-15 else 0.0
