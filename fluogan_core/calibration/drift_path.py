r"""From the places of segments to the place in every frame: a smooth path with jumps where the segments demand them.

The places of the K segments, at times u and with the errors of blinking and noise, are described along each axis by

.. math:: p = X \beta + g + e, \quad e \sim N(0, \sigma^2 D), \quad g \sim N(0, \lambda \sigma^2 Q),

where X holds a constant, a slope and a step for every jump, D the unequal variances of the segments and Q the covariance of
an integrated random walk (a smoothing spline of order 3).  :math:`\lambda` has the largest likelihood.  Steps are added one
by one while they raise the likelihood clearly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..tuning.drift import DriftTuning

__all__ = ["Smoother", "find_jumps", "smoother"]

#: Strengths of the random walk that are tried.
_STRENGTHS = (0.0, *np.logspace(-2, 4, 13))


@dataclass(frozen=True)
class Smoother:
    """The linear map from the places of segments to the path along one axis.

    Attributes
    ----------
    matrix : (T, K) array
        Path in every frame from the places of the segments.
    variance : float
        Of the place of a segment, camera pixels squared, where the scale is 1.
    scales : (K,) array
        Variance of each segment relative to that.
    strength : float
        Of the random walk, relative to that.
    """

    matrix: np.ndarray
    variance: float
    scales: np.ndarray
    strength: float

    @property
    def covariance_factor(self) -> np.ndarray:
        """(T, K): times its transpose it is the covariance of the path, from the scatter of the segments."""
        return self.matrix * np.sqrt(self.variance * self.scales)


def _walk(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Covariance of an integrated random walk at these times, 0 to 1."""
    least, most = np.minimum(one[:, None], other[None]), np.maximum(one[:, None], other[None])
    return least**2 * (3 * most - least) / 6


def _fixed(times: np.ndarray, jumps: list[float]) -> np.ndarray:
    return np.stack([np.ones(len(times)), times, *(np.where(times >= jump, 1.0, 0.0) for jump in jumps)], axis=1)


def _likelihoods(
    places: np.ndarray, times: np.ndarray, scales: np.ndarray, jumps: list[float], more: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log likelihood of the places along one axis for each strength, and with each further column of ``more``."""
    base, with_more = [], []
    count = len(places)
    for strength in _STRENGTHS:
        root = np.linalg.cholesky(np.diag(scales) + strength * _walk(times, times))
        white = np.linalg.solve(root, np.column_stack([_fixed(times, jumps), places, more]))
        fixed = white[:, : 2 + len(jumps)]
        basis = np.linalg.qr(fixed)[0]
        rest = white[:, 2 + len(jumps) :]
        rest = rest - basis @ (basis.T @ rest)
        squares = max(float(rest[:, 0] @ rest[:, 0]), 1e-12)
        power = (rest[:, 1:] ** 2).sum(axis=0)
        gain = np.where(power > 1e-9, (rest[:, 0] @ rest[:, 1:]) ** 2 / np.maximum(power, 1e-9), 0.0)
        level = -np.log(np.diag(root)).sum()
        base.append(level - count / 2 * np.log(squares))
        with_more.append(level - count / 2 * np.log(np.maximum(squares - gain, 1e-12)))
    return np.array(base), np.array(with_more)


def find_jumps(places: np.ndarray, centres: np.ndarray, scales: np.ndarray, frames: int, tuning: DriftTuning) -> list[int]:
    """Numbers of the segments that begin with a jump.

    Parameters
    ----------
    places : (K, 2) array
        Camera pixels.
    centres : (K,) array
        Middle of the segments, frames.
    scales : (K,) array
        Variance of each place relative to their mean.
    frames : int
        T.
    tuning : DriftTuning
    """
    times = centres / frames
    # a step between the first or last two segments cannot be told from one bad segment
    candidates = np.arange(2, len(places) - 1)
    more = np.where(np.arange(len(places))[:, None] >= candidates, 1.0, 0.0)
    found: list[int] = []
    while len(found) < tuning.most_jumps and candidates.size:
        at = [times[k] for k in found]
        gain = np.zeros(len(candidates))
        for axis in (0, 1):
            if np.ptp(places[:, axis]) > 0:
                base, with_more = _likelihoods(places[:, axis], times, scales, at, more)
                gain += with_more.max(axis=0) - base.max()
        best = int(np.argmax(gain))
        if not gain[best] > tuning.jump_likelihood:
            break
        found.append(int(candidates[best]))
    return sorted(found)


def smoother(
    places: np.ndarray,
    centres: np.ndarray,
    scales: np.ndarray,
    frames: int,
    jumps: list[float],
    strength: float | None = None,
) -> Smoother:
    """The map of largest likelihood along one axis.

    Parameters
    ----------
    places : (K,) array
        Camera pixels.
    centres : (K,) array
        Middle of the segments, frames.
    scales : (K,) array
        Variance of each place relative to their mean.
    frames : int
        T.
    jumps : list of float
        First frame after each jump.
    strength : float, optional
        Of the random walk; that of the largest likelihood by default.
    """
    times = (centres + 0.5) / frames
    at = [jump / frames for jump in jumps]
    if strength is None:
        likelihood, _ = _likelihoods(places, times, scales, at, np.zeros((len(places), 0)))
        strength = _STRENGTHS[int(np.argmax(likelihood))]
    inverse = np.linalg.inv(np.diag(scales) + strength * _walk(times, times))
    fixed = _fixed(times, at)
    solve = np.linalg.pinv(fixed.T @ inverse @ fixed) @ fixed.T @ inverse
    rest = np.eye(len(places)) - fixed @ solve
    all_times = (np.arange(frames) + 0.5) / frames
    matrix = _fixed(all_times, at) @ solve + strength * _walk(all_times, times) @ inverse @ rest
    left = rest @ places
    variance = float(left @ inverse @ left) / max(1, len(places) - fixed.shape[1])
    return Smoother(matrix - matrix.mean(axis=0), variance, scales, strength)
