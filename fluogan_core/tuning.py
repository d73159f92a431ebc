"""Every number that was found by trial, in one place, with where it comes from.

A number that follows from the model, from an option of the user or from a published rule is not here; it stands in the formula
that uses it.  Functions take the section that they need as an argument with these values as default: a trial passes other
values and replaces nothing in a module.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT", "QuadraticCriticTuning", "Tuning"]


@dataclass(frozen=True)
class QuadraticCriticTuning:
    """Of the quadratic critic (:class:`fluogan_core.QuadraticCritic`) and the tiles that it works on.

    Attributes
    ----------
    frames_per_chunk : int
        The mean of so many frames is subtracted before covariances are formed.  Longer than the blinking of usual dyes, shorter
        than their bleaching; by trial on simulated stacks.
    variance_floor : float
        Added to every pixel's predicted variance before the covariance is inverted, in units of the mean pixel's.  By trial:
        without it pixels without light outweigh all others.
    bad_pixel_variance : float
        The same of bad pixels.  Any number that makes their weight vanish in float32 and keeps the matrix invertible in
        float64 serves.
    separable_tile, other_tile : int
        Sides of a tile, camera pixels, where the PSF is separable and where it is not.  Correlations reach about one PSF; the
        cost of a pixel grows with the area of its tile.  By timing on one CPU.
    tiles_side : int
        Side of the group of tiles that is transformed at once where the PSF is not separable, camera pixels.  By timing on one
        CPU.
    """

    frames_per_chunk: int = 25
    variance_floor: float = 1e-3
    bad_pixel_variance: float = 1e9
    separable_tile: int = 16
    other_tile: int = 8
    tiles_side: int = 64


@dataclass(frozen=True)
class Tuning:
    """The sections, one per room or phase that has numbers by trial."""

    quadratic_critic: QuadraticCriticTuning = QuadraticCriticTuning()


DEFAULT = Tuning()
