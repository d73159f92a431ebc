"""The law of an emission's brightness, estimated from the emissions that are drawn."""

from __future__ import annotations

import math

import numpy as np

from ..backend.typing import State
from ..physics.emissions import Brightness
from ..tuning import DEFAULT, LikelihoodPhaseTuning

__all__ = ["BrightnessFit", "gamma_shape"]


def gamma_shape(gap: float) -> float:
    r"""Return the maximum-likelihood shape of gamma variables: :math:`\log k - \psi(k) = \mathrm{gap}`.

    Parameters
    ----------
    gap : float
        Logarithm of their mean less the mean of their logarithms, above 0.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> drawn = np.random.default_rng(0).gamma(3.0, size=100_000)
    >>> round(gamma_shape(float(np.log(drawn.mean()) - np.log(drawn).mean())), 1)
    3.0
    """
    from scipy.special import polygamma

    # Minka's start, then Newton's steps; both sides fall with k
    k = (3.0 - gap + math.sqrt((gap - 3.0) ** 2 + 24.0 * gap)) / (12.0 * gap)
    for _ in range(10):
        miss = math.log(k) - float(polygamma(0, k)) - gap
        k = max(k - miss / (1.0 / k - float(polygamma(1, k))), 0.1 * k)
    return k


class BrightnessFit:
    """Running averages of the brightnesses, and the law that they mean.

    Attributes
    ----------
    law : Brightness
    sums : (3,) float64 or None
        Emissions per frame, their brightness, and its logarithm.
    """

    def __init__(self, tuning: LikelihoodPhaseTuning = DEFAULT.likelihood_phase) -> None:
        self.tuning, shape = tuning, tuning.first_shape
        # psi's photons per emission come from covariances, which see the mean square over the mean
        self.law = Brightness(shape / (1.0 + shape), shape)
        self.sums: np.ndarray | None = None

    def update(self, new: np.ndarray, share: float, *, free: bool) -> None:
        """Take ``sums`` of the emissions as they are with this share of the average; with ``free``, let the law follow."""
        if not new[0] > 0:
            return
        self.sums = new if self.sums is None else self.sums + share * (new - self.sums)
        if free:
            mean = float(self.sums[1] / self.sums[0])
            gap = math.log(mean) - float(self.sums[2] / self.sums[0])
            most, least = self.tuning.largest_shape, self.tuning.least_shape
            self.law = Brightness(mean, min(max(gamma_shape(max(gap, 1e-9)), least), most))

    def state_dict(self) -> State:
        """Return what :meth:`load_state_dict` takes."""
        return {"sums": self.sums, "mean": self.law.mean, "shape": self.law.shape}

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.sums = None if state["sums"] is None else np.array(state["sums"], dtype=np.float64)
        self.law = Brightness(float(state["mean"]), float(state["shape"]))
