r"""The width of the PSF, read from the flicker.

Shot noise and read noise do not reach the covariance of two *different* pixels, flicker does:
:math:`C_{jk} = q \sum_i \Psi_{ji} \Psi_{ki} u_i` with u the emission.  Added up over all pairs that are v apart, where u drops
out, it falls off with v as the autocorrelation of the PSF,

.. math:: S_v = \sum_m w(m)\, C_{m - v/2,\, m + v/2} \;\propto\; A_v = \sum_k \psi_k\, \psi_{k + v},

whatever the sample looks like; weights change nothing as long as they belong to the middle of a pair (for a Gaussian exactly,
for any other PSF where they vary slowly against it).  By the same law cross-cumulant SOFI weighs its virtual pixels
(Dertinger et al., Opt. Express 18, 18875, 2010).  The mean image says nothing of the kind: a narrow PSF and a wide sample look
the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._checks import recorded_stack
from .flicker import SPREAD, Optics, jackknife, pair_kernel, spread_terms
from .pixel_moments import PixelMoments, Shift, live_pixels, pixel_moments, windows
from .psf import scaled_psf
from .psi import Psi, plane_table

__all__ = ["PSFWidth", "estimate_psf_width"]

#: Widths that are compared, and the step between those that are computed and not interpolated.
_NARROWEST, _WIDEST, _STEP = 0.6, 1.7, 0.05
#: The PSF is changed where it is off by so many standard errors and by this much; a farther one is not the PSF alone.
_CLEAR, _LEAST, _MOST = 2.5, 0.01, 0.2
#: With a larger error than this the stack says too little: what it takes to be clear would be a gross exaggeration.
_VAGUE = 0.03
#: Standard errors by which consecutive frames may differ from the whole stack: a sample that moves does so slowly.
_MOVES = 3.0
#: Blocks per axis of the field that the jackknife leaves out one at a time; fewest frames and middles of pairs.
_BLOCKS, _LEAST_FRAMES, _LEAST_MIDDLES = 5, 20, 64


@dataclass(frozen=True)
class PSFWidth:
    """How wide the PSF is, relative to the one that was assumed.

    Attributes
    ----------
    width : float
        What to take: as measured where that is clear, else 1.
    measured, error : float
        The width that covariances fit and its standard error; NaN and infinity where the stack does not tell.
    note : str
        What was done and why, in plain language.
    """

    width: float
    measured: float
    error: float
    note: str


def estimate_psf_width(stack: Any, psi: Psi) -> PSFWidth:
    """Measure on a stack's flicker how much wider or narrower the PSF is than psi's.

    Where molecules blink, one per cent can be told on 32 x 32 pixels and 500 frames; where they hardly flicker, nothing.

    Parameters
    ----------
    stack : (T, M1, M2) array, integers or floats, or Stack
        Raw counts; gain and offset need not be known.
    psi : Psi
        With the PSF that is assumed; its ``photons_per_emitter`` is ignored.

    Returns
    -------
    PSFWidth
        Take ``psi.scaled(found.width)`` from there on.  The width is the measured one if its error is below 3 % and it is 2.5
        standard errors and 1 % from the one that was assumed.  More than 20 % is not taken for the PSF's fault, nor a width
        that consecutive frames contradict: samples that move and flicker out of focus widen covariances too.

    Raises
    ------
    ValueError
        If the stack is not (T, M1, M2) with T of 2 or more, not finite, does not fit ``psi``, or hardly a pixel of it changes.
    TypeError
        If it holds neither integers nor floats.
    """
    stack = recorded_stack(stack, psi.shape)
    optics = Optics(psi)
    if len(stack) < _LEAST_FRAMES or not optics.far:
        return _unknown(f"fewer than {_LEAST_FRAMES} frames" if optics.far else "a field of a few pixels")
    moments = pixel_moments(stack, [*optics.near, *optics.far])
    live, _ = live_pixels(stack, moments.mean, moments.variance)
    sums = _sums(moments, moments.whole, optics, live), _sums(moments, moments.fast, optics, live)
    if sums[0] is None or sums[1] is None:
        return _unknown("a field of a few pixels")
    widths, curves = _autocorrelations(psi, optics.near)
    (measured, error), (fast, fast_error) = _best(sums[0], widths, curves), _best(sums[1], widths, curves)
    return _judged(measured, error, abs(fast - measured) > _MOVES * math.hypot(error, fast_error))


def _unknown(why: str) -> PSFWidth:
    return PSFWidth(1.0, math.nan, math.inf, f"width of the PSF: not told by the flicker ({why}); taken as described")


def _judged(measured: float, error: float, moves: bool) -> PSFWidth:
    if not error < _VAGUE:
        seen = "there is hardly any" if math.isinf(error) else f"{measured:.2f} +- {error:.2f} times as wide as described"
        return PSFWidth(1.0, measured, error, _unknown(seen).note)
    found = f"the covariances of neighbours fit one {measured:.3f} +- {error:.3f} times as wide as described"
    off = abs(measured - 1.0)
    if off <= max(_LEAST, _CLEAR * error):
        return PSFWidth(1.0, measured, error, f"width of the PSF: as described ({found})")
    if off > _MOST or moves:
        why = "a sample that moves, flicker out of focus, or quite another PSF"
        return PSFWidth(1.0, measured, error, f"width of the PSF: {found}; left as described, for that may be {why}")
    return PSFWidth(measured, measured, error, f"width of the PSF: {found}, and so it is taken")


def _sums(
    moments: PixelMoments, covariances: dict[Shift, np.ndarray], optics: Optics, live: np.ndarray
) -> np.ndarray | None:
    """S_v of each block of the field, (blocks, near shifts), less what camera and lamp have in common; None without a middle.

    All shifts share their middles, and the weights there: light over variance, smoothed, so that what is dark adds no noise.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    shape, near = live.shape, optics.near
    light = moments.mean - float(np.quantile(moments.mean[live], 0.02))
    variance = np.where(live, moments.variance, float(np.median(moments.variance[live])))
    smooth = gaussian_filter(variance, 1.0)
    weight = np.maximum(gaussian_filter(np.where(live, light, 0.0), 1.0), 0.0) / smooth

    terms = SPREAD + 2
    normal, right = np.zeros((terms, terms)), np.zeros(terms)
    for shift in optics.far:
        first, second = windows(shift, shape)
        taken = live[first] & live[second]
        design = _common(light, shift, taken)
        scaled = design / np.sqrt(smooth[first] * smooth[second])[taken]
        normal, right = normal + scaled @ design.T, right + scaled @ covariances[shift][taken]
    common = np.linalg.lstsq(normal, right, rcond=1e-9)[0]

    margins = [max(abs(shift[axis]) for shift in near) / 2 for axis in (0, 1)]
    sums, middles = np.zeros((_BLOCKS**2, len(near))), math.inf
    for column, shift in enumerate(near):
        first, second = windows(shift, shape)
        middle = [at + step / 2 for at, step in zip(np.mgrid[first], shift)]
        inside = np.ones(live[first].shape)
        for at, margin, size in zip(middle, margins, shape):
            to_border = np.minimum(at - margin, size - 1 - margin - at)
            # half at the border: middles on pixels and between them stand for the same area
            inside *= np.where(to_border > 0, 1.0, 0.5 * (to_border == 0))
        taken = live[first] & live[second] & (inside > 0)
        y, x = (at[taken] for at in middle)
        middles = min(middles, y.size)
        values = covariances[shift][taken] - common @ _common(light, shift, taken)
        row, across = (np.floor(at * _BLOCKS / size).astype(int) for at, size in zip((y, x), shape))
        weighted = values * inside[taken] * map_coordinates(weight, [y, x], order=1)
        sums[:, column] = np.bincount(row * _BLOCKS + across, weighted, minlength=_BLOCKS**2)
    return sums if middles >= _LEAST_MIDDLES else None


def _common(light: np.ndarray, shift: Shift, taken: np.ndarray) -> np.ndarray:
    """What camera and lamp add to pairs, (5, pairs) per unit of each; by the last two the light need not begin at zero."""
    first, second = windows(shift, light.shape)
    offset = (light[first] + light[second])[taken]
    return np.concatenate([spread_terms(light, shift, taken), [offset, np.ones_like(offset)]])


def _autocorrelations(psi: Psi, shifts: list[Shift]) -> tuple[np.ndarray, np.ndarray]:
    """Widths, and A_v of the PSF that is so wide, (widths, shifts)."""
    from scipy.interpolate import CubicSpline

    knots = np.arange(_NARROWEST, _WIDEST + _STEP / 2, _STEP)
    tables = (plane_table(scaled_psf(psi.psf, knot), (psi.factor, psi.factor), psi.binning)[0] for knot in knots)
    curves = [[pair_kernel(table, shift).sum() for shift in shifts] for table in tables]
    widths = np.linspace(_NARROWEST, _WIDEST, 2201)
    return widths, CubicSpline(knots, np.array(curves))(widths)


def _best(sums: np.ndarray, widths: np.ndarray, curves: np.ndarray) -> tuple[float, float]:
    """The width whose curve fits the sums best, the strength of the flicker being free, and its jackknife error.

    NaN and infinity where the flicker itself is not clear, or the best width is the first or last.
    """
    total = sums.sum(axis=0)
    targets = np.concatenate([total[None], total - sums])
    shapes = curves / np.linalg.norm(curves, axis=1, keepdims=True)
    along = targets @ shapes.T
    chosen = along.argmax(axis=1)  # of least squares: what is left is the target less what lies along the curve
    strength = np.take_along_axis(along, chosen[:, None], axis=1)
    if not strength[0, 0] > 4.0 * jackknife(strength)[0] or chosen[0] in (0, len(widths) - 1):
        return math.nan, math.inf
    found = widths[chosen][:, None]
    return float(found[0, 0]), float(jackknife(found)[0])
