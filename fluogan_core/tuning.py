"""Every number that was found by trial, in one place, with where it comes from.

A number that follows from the model, from an option of the user or from a published rule is not here; it stands in the formula
that uses it.  Functions take the section that they need as an argument with these values as default: a trial passes other
values and replaces nothing in a module.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT", "CovarianceTuning", "EstimatorTuning", "LatticeTuning", "QuadraticCriticTuning", "Tuning"]


@dataclass(frozen=True)
class CovarianceTuning:
    """Of the covariances of pixels (:mod:`fluogan_core.physics.covariance`).

    Each number trades time and memory; the larger a tile, the more pairs of pixels are compared.

    Attributes
    ----------
    separable_tile : int
        Side of a tile where the PSF is separable, camera pixels.  Twice the diameter of usual PSFs, so that most of the pairs
        that share light lie in one tile.
    other_tile : int
        The same where the PSF is not separable and a pair costs more.
    group_side : int
        Side of the group of tiles that is transformed at once where the PSF is not separable, camera pixels.
    """

    separable_tile: int = 16
    other_tile: int = 8
    group_side: int = 64


@dataclass(frozen=True)
class QuadraticCriticTuning:
    """Of the quadratic critic (:class:`fluogan_core.QuadraticCritic`).

    Attributes
    ----------
    frames_per_chunk : int
        The mean of so many frames is subtracted from them before covariances are formed: bleaching and drift are to be slower
        than so many frames, blinking faster.
    variance_floor : float
        Added to every pixel's predicted variance before the covariance is inverted, in units of the mean pixel's, so that
        pixels without light do not outweigh all others.
    bad_pixel_variance : float
        The same of bad pixels: so large that their weight vanishes in float32, so small that the matrix can be inverted in
        float64.
    """

    frames_per_chunk: int = 25
    variance_floor: float = 1e-3
    bad_pixel_variance: float = 1e9


@dataclass(frozen=True)
class EstimatorTuning:
    """Of the estimators of a critic's gradient (:func:`fluogan_core.critic_gradient`).

    Attributes
    ----------
    frames_per_correction : int
        ``method="corrected"`` evaluates its remainder on one frame in so many, and on two at least.  Near the best share where
        blinking makes an emission 20 photons and the mean fits; the table "The estimators of the gradient" in
        ``docs/estimators.md`` has the best share of each situation.
    """

    frames_per_correction: int = 32


@dataclass(frozen=True)
class LatticeTuning:
    """Of the coarser lattice of emitters (:mod:`fluogan_core.critics.lattice`).

    Attributes
    ----------
    aliased : float
        Spacing 2 is safe where the squared PSF's spectrum beyond a quarter cycle per fine pixel stays below this share of its
        peak; ``docs/estimators.md`` states what the interpolation then costs.
    spline_degree : int
        Degree of the splines between the nodes.
    """

    aliased: float = 1e-6
    spline_degree: int = 5


@dataclass(frozen=True)
class Tuning:
    """The sections, one per room or phase that has numbers by trial."""

    covariance: CovarianceTuning = CovarianceTuning()
    estimators: EstimatorTuning = EstimatorTuning()
    lattice: LatticeTuning = LatticeTuning()
    quadratic_critic: QuadraticCriticTuning = QuadraticCriticTuning()


DEFAULT = Tuning()
