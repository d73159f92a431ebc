"""How much a fit counts against the one before, where neither is clearly better.

A decision for one of the two would be made by a hair's breadth now and then: the same recording with a little other noise would
have another image.
"""

from __future__ import annotations

import math

from ..backend.typing import Array
from ..tuning import DEFAULT, CovariancePhaseTuning

__all__ = ["average", "rising", "share_of_fit"]


def share_of_fit(gain: float, error: float, flicker: float, tuning: CovariancePhaseTuning = DEFAULT.covariance_phase) -> float:
    """Return the part, 0 to 1, that a fit of mean and covariance has in the result; the rest is that of the mean fit.

    It falls linearly from 1 to 0 with the number of standard errors by which unseen frames are predicted worse, and with the
    share of flicker in the variance of the light.

    Parameters
    ----------
    gain, error : float
        By how much unseen frames are predicted better than by the mean fit, and its standard error, nats per pixel and frame;
        NaN if not known, which does not count against the fit.
    flicker : float
        Share of flicker in the variance of the molecules' light.
    tuning : CovariancePhaseTuning, optional

    Returns
    -------
    float

    Examples
    --------
    >>> [share_of_fit(gain, 1.0, 0.5) for gain in (0.0, -1.5, -2.0, -3.0)]
    [1.0, 0.75, 0.5, 0.0]
    >>> round(share_of_fit(0.0, 1.0, 0.12), 2)
    0.4
    """
    t, share = tuning, rising(flicker, tuning.least_flicker, tuning.enough_flicker)
    if not math.isnan(gain):
        share *= rising(gain / max(error, 1e-30), -t.worse - t.doubt, -t.worse + t.doubt)
    return share


def average(before: tuple[Array, ...], images: tuple[Array, ...], share: float) -> tuple[Array, ...]:
    """Return the images by this share, and those before by the rest; at 1 the images as they are.

    Parameters
    ----------
    before, images : tuples of arrays
        The same number of the same shapes, float32.
    share : float
        0 to 1.

    Returns
    -------
    tuple of arrays
    """
    if share == 1:
        return images
    return tuple(first + first.dtype.type(share) * (own - first) for first, own in zip(before, images))


def rising(value: float, low: float, high: float) -> float:
    """Return 0 up to ``low``, 1 from ``high`` on, and what is linear between them: a decision without a jump.

    Parameters
    ----------
    value, low, high : float

    Returns
    -------
    float

    Examples
    --------
    >>> [rising(value, 2.0, 4.0) for value in (1.0, 3.0, 5.0)]
    [0.0, 0.5, 1.0]
    """
    return 1.0 if value >= high else max(0.0, (value - low) / (high - low))
