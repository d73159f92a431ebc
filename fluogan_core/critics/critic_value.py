"""The value of a quadratic critic, and what a fit needs of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable
from weakref import WeakKeyDictionary

from ..backend.typing import Array

__all__ = ["CriticValue", "Expansion", "QuadraticCriticLike"]


class CriticValue(NamedTuple):
    r"""The two terms of a quadratic critic's largest value, summed over the windows.

    Attributes
    ----------
    mean : float
        :math:`r^T V r / 2`, times the weight of the mean.
    covariance : float
        :math:`\mathrm{tr}(W E W E) / 4`.
    """

    mean: float
    covariance: float


@runtime_checkable
class QuadraticCriticLike(Protocol):
    """What the fit of mean and covariance needs of a quadratic critic; :class:`QuadraticCritic` is one.

    x is (N1, N2) emissions per fine pixel and frame, b is (M1, M2) photons per camera pixel and frame, both on the critic's
    backend.  After :meth:`update_weights`, and until it is called again, the value is a quadratic function of x and b, and
    :meth:`slope` is its gradient.

    Attributes
    ----------
    flicker : float
        phi, the flicker of the recorded frames in units of the model's; a checkpoint stores it and sets it again.
    """

    flicker: Any

    def update_weights(self, x: Array, b: Array) -> None:
        """Take the inverse of the covariance that x and b predict as weights from now on."""

    def slope(self, x: Array, b: Array) -> tuple[Array, Array]:
        """Return the gradients of the value with respect to x and b, (N1, N2) and (M1, M2)."""

    def value(self, x: Array, b: Array, other: Self | None = None) -> CriticValue:
        """Return the critic's value, or how this critic scores the frames of another one."""

    def log_density(self, frames: Array, x: Array, b: Array) -> Array:
        """Return the log density per pixel of each frame (S, M1, M2) of photons, (S,)."""

    def measure_flicker(self, x: Array, b: Array) -> None:
        """Set :attr:`flicker` from the recorded frames."""

    def explain_noise(self, x: Array, b: Array) -> None:
        """Find the variance of the recorded frames that the model does not explain; called before :meth:`update_weights`."""

    def flicker_share(self, x: Array) -> float:
        """Return the share of flicker in the variance of x's light, 0 to 1, NaN without light."""


@dataclass(frozen=True, eq=False)
class Expansion:
    """The images that the weights were taken at.

    Attributes
    ----------
    x, b, light : arrays
        The images, and the mean frame that they predict.
    weights : (K, n, n) float32
        Of the windows that take part.
    of_frames : WeakKeyDictionary
        For each critic whose frames were asked for: the covariance term's slopes in x and in the light, and the term
        itself.
    """

    x: Array
    b: Array
    light: Array
    weights: Array
    of_frames: WeakKeyDictionary[Any, tuple[Array, Array, float]]
