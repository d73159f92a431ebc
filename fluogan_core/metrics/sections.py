r"""Cross-sections of a mean frame: what the frames say of a structure along one direction.

A cross-section adds the camera pixels of a strip, so that only the distance q from its middle line is left.  The light
:math:`\lambda(s) \ge 0` of the strip is seen through the line spread function of the PSF and of the pixel,

.. math:: y(q) = \int \ell(q - s)\,\lambda(s)\,ds + \beta(q) + \text{noise},

whatever the structure does along the strip.  This is exact for PSFs that are products of two functions of one coordinate.
Sets of profiles, such as "all that have no gap here", are cones: non-negative mixtures of a few kinds of profiles.  The
distance of the data from a cone, in standard deviations, is a non-negative least squares problem of some ten columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..physics.psf import FWHM_PER_SIGMA

__all__ = ["Optic", "Profiles", "Section", "distance", "line_spread", "width_of"]

#: Samples of the line spread function per fine pixel.
_FINER = 4
#: Half a strip across, and what lies outside it but shines into it, widths of the PSF.
_ACROSS, _MARGIN = 3.0, 1.0
#: Bins of a strip that hold less than this share of a full one's pixels are left out: strips end at the border of the field.
_LEAST_BIN = 0.2
#: Standard deviation of the lines that flickering light is made of, widths of the PSF.
_BLUR = 0.25


@dataclass(frozen=True, eq=False)
class Optic:
    """PSF and camera pixel, on the fine grid.

    Attributes
    ----------
    psf : (K1, K2) float64
        Sum 1.
    factor : int
        Fine pixels per camera pixel.
    binned : bool
        Whether a camera pixel integrates its fine pixels.
    """

    psf: np.ndarray
    factor: int
    binned: bool = True
    _spreads: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def width(self) -> float:
        """Width at half maximum of what a camera pixel sees of a line, fine pixels."""
        return width_of(self.spread(0.0))

    def spread(self, angle: float) -> np.ndarray:
        """:func:`line_spread` across lines whose normal has this angle, kept for the next strip."""
        key = round(math.degrees(angle % math.pi))
        if key not in self._spreads:
            self._spreads[key] = line_spread(self.psf, self.factor, self.binned, math.radians(key))
        return self._spreads[key]


def line_spread(psf: np.ndarray, factor: int, binned: bool, angle: float) -> np.ndarray:
    """What camera pixels see of a thin line of light, by their distance from it.

    By the slice theorem: the transform of the projection is a line through the transform of PSF and pixel.

    Parameters
    ----------
    psf : (K1, K2) float array
    factor : int
    binned : bool
    angle : float
        Of the line's normal, from the columns' axis towards the rows', radians.

    Returns
    -------
    (Q,) float64
        Quarters of a fine pixel apart, the middle one on the line; the integral over fine pixels is 1.
    """
    down, across = math.sin(angle), math.cos(angle)
    rows, columns = (np.arange(n) - n // 2 for n in psf.shape)
    reach = max(psf.shape) // 2 + factor
    k = np.linspace(0.0, math.pi, 4 * reach + 1)
    passed = np.einsum("kr,rc,kc->k", np.exp(-1j * np.outer(k, rows) * down), psf, np.exp(-1j * np.outer(k, columns) * across))
    seen = passed.real
    if binned:
        inside = np.arange(factor) - (factor - 1) / 2
        for share in (down, across):
            seen = seen * np.cos(np.outer(k, inside) * share).mean(axis=1)
    weights = np.full(len(k), k[1])
    weights[[0, -1]] /= 2
    q = np.arange(-round(1.5 * reach) * _FINER, round(1.5 * reach) * _FINER + 1) / _FINER
    return np.asarray((np.cos(np.outer(q, k)) * (seen * weights)).sum(axis=1) / math.pi)


def width_of(spread: np.ndarray) -> float:
    """Full width at half maximum of a line spread function, fine pixels.

    The tails of an Airy pattern hold much light and make nothing wider: a second moment would.
    """
    half = float(spread.max()) / 2
    bright = np.flatnonzero(spread >= half)
    first, last = int(bright[0]), int(bright[-1])
    rise = (spread[first] - half) / (spread[first] - spread[first - 1])
    fall = (spread[last] - half) / (spread[last] - spread[last + 1])
    return float(last - first + rise + fall) / _FINER


class Profiles:
    """What light in the profiles of a strip looks like in data that are linear in it.

    Parameters
    ----------
    spread : (B, S) float64
        What the data see of a line at each of ``sources``.
    sources : (S,) float64
        Distances from the middle of the strip, one fine pixel apart.
    width : float
        Of the PSF, fine pixels.
    """

    def __init__(self, spread: np.ndarray, sources: np.ndarray, width: float) -> None:
        self.spread, self.sources, self.width = spread, sources, width
        # running sums, for profiles whose ends lie within a source's pixel
        self._sums = np.concatenate([np.zeros((len(spread), 1)), np.cumsum(spread, axis=1)], axis=1)

    @cached_property
    def blurs(self) -> np.ndarray:
        """(S, S): blurred lines at each of the sources.

        A non-negative fit makes light of single lines with gaps between them, which flicker less than the light does there.
        """
        away = self.sources[:, None] - self.sources[None]
        bells = np.exp(-0.5 * (away / (_BLUR * self.width)) ** 2)
        return np.asarray(bells / bells.sum(axis=0))

    def bars(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """(B, n): what the bins see of bars from ``low`` to ``high``, of one photon per fine pixel across."""
        return self._up_to(high) - self._up_to(low)

    def _up_to(self, end: np.ndarray) -> np.ndarray:
        at = np.clip(np.asarray(end, dtype=np.float64) - self.sources[0] + 0.5, 0, len(self.sources))
        low = np.minimum(at.astype(int), len(self.sources) - 1)
        return np.asarray(self._sums[:, low] * (1 - at + low) + self._sums[:, low + 1] * (at - low))

    def pair(self, separation: float) -> np.ndarray:
        """(B, 1): two thin lines about the middle, this far apart."""
        at = np.array([-separation / 2, separation / 2])
        return self.bars(at - 0.5, at + 0.5).sum(axis=1, keepdims=True)

    def without_gap(self, top: float, reach: float) -> np.ndarray:
        """(B, n): profiles that rise up to ``top`` and fall after it, within ``reach`` of the middle; any light outside.

        Mixtures of bars that end at the top make all of them.
        """
        left = np.arange(-reach, top - 0.25, 1.0)
        right = np.arange(reach, top + 0.25, -1.0)
        to_top = self.bars(left, np.full(len(left), top))
        from_top = self.bars(np.full(len(right), top), right)
        return np.concatenate([to_top, from_top, self.spread[:, np.abs(self.sources) > reach]], axis=1)

    def no_finer(self, width: float) -> np.ndarray:
        """(B, n): profiles that are no finer than ``width`` (FWHM, fine pixels) within it of the middle; any light outside.

        Mixtures of Gaussians of that width make all of them.
        """
        sigma = width / FWHM_PER_SIGMA
        bells = np.exp(-0.5 * ((self.sources[:, None] - self.sources[None]) / sigma) ** 2)
        return np.concatenate([self.spread @ bells, self.spread[:, np.abs(self.sources) > width]], axis=1)


class Section(Profiles):
    """The strip about one place: geometry, and what profiles look like there.

    Parameters
    ----------
    shape : (M1, M2)
        Of the field, camera pixels.
    optic : Optic
    place : (row, column)
        Middle of the strip, fine pixels; (0, 0) is the centre of the first one.
    angle : float
        Of the direction across the strip, radians: 0 runs along a row.
    length : float
        Of the strip, fine pixels.

    Attributes
    ----------
    pixels : (P,) int
        Flat numbers of the camera pixels of the strip.
    weights : (B, P) float64
        What each bin takes of each pixel.
    spread : (B, S) float64
        What each bin sees of a line at each of ``sources``, photons per photon of a camera pixel's worth of line.
    sources : (S,) float64
        Distances from the middle, one fine pixel apart.
    """

    def __init__(self, shape: tuple[int, int], optic: Optic, place: tuple[float, float], angle: float, length: float) -> None:
        width = optic.width
        half = _ACROSS * width
        down, across = math.sin(angle), math.cos(angle)
        ends = math.hypot(half, length / 2 + width / 4)
        near, axes = [], []
        for n, at in zip(shape, place):
            away = np.arange(n) * optic.factor + (optic.factor - 1) / 2 - at
            near.append(np.flatnonzero(np.abs(away) < ends))
            axes.append(away[near[-1]])
        rows, columns = axes[0][:, None], axes[1][None]
        q, t = rows * down + columns * across, rows * across - columns * down
        ramp = np.clip((length / 2 + width / 4 - np.abs(t)) / (width / 2), 0, 1)
        along = ramp * ramp * (3 - 2 * ramp)
        inside = (along > 0) & (np.abs(q) < half)
        self.pixels = (near[0][:, None] * shape[1] + near[1][None])[inside]
        q, t, along = q[inside], t[inside], along[inside]
        # cubic splines as wide as this do not feel where the camera pixels lie, so that the strip may be slightly askew
        bins = np.arange(-half, half + 0.5 * optic.factor, optic.factor)
        away = np.abs(q[None] - bins[:, None]) / optic.factor
        spline = np.where(away < 1, 2 / 3 - away**2 + away**3 / 2, np.clip(2 - away, 0, None) ** 3 / 6)
        weights = spline * along
        whole = weights.sum(axis=1)
        self.weights = weights[whole > _LEAST_BIN * whole.max(initial=0.0)]
        reach = round((_ACROSS + _MARGIN) * width)
        sources = np.arange(-reach, reach + 1, dtype=np.float64)
        table = optic.spread(angle)
        grid = (np.arange(len(table)) - len(table) // 2) / _FINER
        self._lines = np.interp(q[:, None] - sources[None], grid, table, left=0.0, right=0.0)
        self._along, self._length = t, length
        super().__init__(self.weights @ self._lines, sources, width)

    def pieces(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights (B, P) and spread (B, S) of pieces about as long as the PSF is wide, which add up to the strip."""
        count = max(1, round(self._length / self.width))
        if count == 1:
            return [(self.weights, self.spread)]
        step = self._length / count
        middles = (np.arange(count) - (count - 1) / 2) * step
        hats = np.clip(1 - np.abs(np.clip(self._along, middles[0], middles[-1]) - middles[:, None]) / step, 0, 1)
        return [(self.weights * hat, (self.weights * hat) @ self._lines) for hat in hats]

    def of(self, image: np.ndarray) -> np.ndarray:
        """(..., B): the cross-section of images of the field (..., M1, M2)."""
        flat = image.reshape(*image.shape[:-2], -1)[..., self.pixels]
        return np.asarray(flat @ self.weights.T)

    def covariance(self, variance: np.ndarray) -> np.ndarray:
        """(B, B): of the bins, for pixels with independent noise of this variance, (M1, M2)."""
        return np.asarray((self.weights * variance.ravel()[self.pixels]) @ self.weights.T)


def distance(target: np.ndarray, columns: np.ndarray) -> tuple[float, np.ndarray]:
    """How far a vector is from all non-negative mixtures of columns, and the weights of the nearest one."""
    from scipy.optimize import nnls

    scale = np.linalg.norm(columns, axis=0)
    kept = scale > 1e-12 * scale.max()
    weights, rest = nnls(columns[:, kept] / scale[kept], target, maxiter=50 * columns.shape[1])
    full = np.zeros(columns.shape[1])
    full[kept] = weights / scale[kept]
    return float(rest), full
