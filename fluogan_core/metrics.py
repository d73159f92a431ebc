"""How good is a reconstruction: distances to a known truth, line pairs, Fourier ring correlation.

Positions are in nanometres from the outer edge of the first pixel, as in :mod:`fluogan_core.phantom`.  Where a figure does not
exist (no pair is found, a correlation never crosses its threshold) the report says why; nothing here returns NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ._checks import real_number, whole_number
from .phantom import Pattern

__all__ = [
    "RAYLEIGH_DIP",
    "LineReport",
    "PairReport",
    "RingCorrelation",
    "find_lines",
    "fourier_ring_correlation",
    "line_profile",
    "nrmse",
    "pair_report",
    "psnr",
]

#: Dip between two points at Rayleigh's distance, as a fraction of the peaks.
RAYLEIGH_DIP = 0.265


# -- distances --------------------------------------------------------------------------------------------------------


def _compared(x: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both images as float64, x scaled to the sum of the truth."""
    x, truth = _image(x, "x"), _image(truth, "truth")
    if x.shape != truth.shape:
        raise ValueError(f"x and truth must have the same shape, got {x.shape} and {truth.shape}")
    if truth.sum() <= 0 or x.sum() <= 0:
        raise ValueError("x and truth must have a positive sum: they are compared after matching their sums")
    return x * (truth.sum() / x.sum()), truth


def _image(image: Any, name: str, *, dimensions: tuple[int, ...] = (2,)) -> np.ndarray:
    array = np.asarray(image.get() if hasattr(image, "get") else image, dtype=np.float64)
    if array.ndim not in dimensions or array.size == 0:
        raise ValueError(f"{name} must be an image (rows, columns), got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are NaN or infinite")
    return array


def nrmse(x: Any, truth: Any) -> float:
    """Return the root-mean-square error relative to the truth, ||s x - truth|| / ||truth||, s matching the sums.

    Parameters
    ----------
    x, truth : (N1, N2) array

    Raises
    ------
    ValueError
        If shapes differ, values are not finite, or a sum is not positive.
    """
    scaled, truth = _compared(x, truth)
    return float(np.linalg.norm(scaled - truth) / np.linalg.norm(truth))


def psnr(x: Any, truth: Any) -> float:
    """Return the peak signal-to-noise ratio in dB, the peak being that of the truth, after matching sums.

    Infinite for a perfect image.  Errors as in :func:`nrmse`.
    """
    scaled, truth = _compared(x, truth)
    error = float(((scaled - truth) ** 2).mean())
    return 10.0 * math.log10(float(truth.max()) ** 2 / error) if error > 0 else math.inf


# -- lines ------------------------------------------------------------------------------------------------------------


def line_profile(
    x: Any, *, fine_nm: float | None = None, span_nm: tuple[float, float] | None = None, axis: int = 0
) -> np.ndarray:
    """Return the mean profile across lines.

    Parameters
    ----------
    x : (N1, N2) array
    fine_nm : float, optional
        Fine pixel; needed with ``span_nm`` only.
    span_nm : (float, float), optional
        Average only the fine pixels whose centres lie between these positions along the lines; all by default.
    axis : {0, 1}
        Axis along which the lines run and the average is taken; 0 for the vertical lines of :mod:`fluogan_core.phantom`.

    Returns
    -------
    profile : (N2,) float64, or (N1,) for ``axis=1``
    """
    x = np.moveaxis(_image(x, "x"), whole_number(axis, "axis", low=0, high=1), 0)
    if span_nm is None:
        return x.mean(axis=0)
    if fine_nm is None:
        raise TypeError("span_nm needs fine_nm, the size of a fine pixel")
    fine_nm = real_number(fine_nm, "fine_nm", low=0, open_low=True)
    centres = (np.arange(len(x)) + 0.5) * fine_nm
    inside = (centres >= span_nm[0]) & (centres <= span_nm[1])
    if not inside.any():
        raise ValueError(
            f"no fine pixel lies between {span_nm[0]:g} and {span_nm[1]:g} nm; x is {len(x) * fine_nm:g} nm long"
        )
    return x[inside].mean(axis=0)


def _peaks(profile: np.ndarray, fine_nm: float, prominence: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions (nm) and heights of the peaks of a profile that stand out by at least ``prominence``.

    A peak is refined by the parabola through its three points; a flat top has its peak in the middle.
    """
    from scipy.signal import find_peaks

    # A line at the border is a peak too; and rounding errors must not break up a flat top.
    scale = 1e-9 * max(float(np.abs(profile).max()), 1e-300)
    padded = np.rint(np.pad(profile, 1, constant_values=float(profile.min())) / scale) * scale
    found, shapes = find_peaks(padded, prominence=max(prominence, 1e-300), plateau_size=1)
    left, right = shapes["left_edges"] - 1, shapes["right_edges"] - 1
    positions, heights = (left + right) / 2.0, profile[found - 1].copy()
    for k in np.flatnonzero((left == right) & (left > 0) & (right < profile.size - 1)):
        before, top, after = profile[left[k] - 1 : left[k] + 2]
        shift = 0.5 * (before - after) / (before - 2.0 * top + after)
        positions[k] += shift
        heights[k] = top - 0.25 * (before - after) * shift
    return (positions + 0.5) * fine_nm, heights


@dataclass(frozen=True)
class PairReport:
    """What became of one pair of lines.

    Attributes
    ----------
    separation_nm : float
        True distance, centre to centre.
    peaks_nm : tuple of float
        Positions of the two peaks; fewer where fewer were found.
    distance_nm : float or None
        Distance of the two peaks.
    dip : float
        Depth of the lowest point between them, as a fraction of the lower peak; 0 where there are not two.
    resolved : bool
        Two peaks, each within a quarter of the separation of its line, nothing between them, and a dip of at least
        Rayleigh's 26.5 %.
    reason : str
        Why not, in words; empty if resolved.
    """

    separation_nm: float
    peaks_nm: tuple[float, ...]
    distance_nm: float | None
    dip: float
    resolved: bool
    reason: str


def pair_report(x: Any, pattern: Pattern, group: int = 0, *, prominence: float = 0.05) -> PairReport:
    """Judge one pair of lines of a reconstruction against the pattern it was made from.

    A dip alone proves nothing (iterated long enough, a deconvolution splits a uniform bar too): judge the control of the
    same pattern with the same settings beside it.

    Parameters
    ----------
    x : (N1, N2) or (N2,) array
        Reconstruction on the pattern's fine grid, or its profile across the lines.
    pattern : Pattern
        The truth; for a control, the pair that its bar replaces is looked for.
    group : int
        Which group.
    prominence : float
        Smallest height of a peak over its surroundings, as a fraction of the highest value in the group's middle.

    Raises
    ------
    ValueError
        If x does not fit the pattern.
    """
    fine_nm = pattern.pixel_size_nm / pattern.factor
    image = _image(x, "x", dimensions=(1, 2))
    if image.shape not in (pattern.x.shape, pattern.x.shape[1:]):
        raise ValueError(f"x must be on the pattern's fine grid {pattern.x.shape}, or its profile, got {image.shape}")
    profile = image if image.ndim == 1 else line_profile(image, fine_nm=fine_nm, span_nm=pattern.span_nm)
    group = whole_number(group, "group", low=0, high=len(pattern.separations_nm) - 1)
    prominence = real_number(prominence, "prominence", low=0, high=1)
    separation = pattern.separations_nm[group]
    outer_left, *pair, outer_right = pattern.lines_nm[group]

    # Halfway to the outer lines the middle ends.
    low, high = (outer_left + pair[0]) / 2, (outer_right + pair[1]) / 2
    top = float(profile[max(0, round(low / fine_nm)) : round(high / fine_nm)].max())

    def report(peaks: np.ndarray, dip: float, reason: str) -> PairReport:
        distance = float(peaks[1] - peaks[0]) if len(peaks) == 2 else None
        return PairReport(separation, tuple(float(p) for p in peaks), distance, dip, not reason, reason)

    if top <= 0:
        return report(np.array([]), 0.0, "the group's middle is dark")
    positions, heights = _peaks(profile, fine_nm, prominence * top)
    middle = (positions > low) & (positions < high)
    positions, heights = positions[middle], heights[middle]
    if len(positions) < 2:
        return report(positions, 0.0, "one peak only: the pair is merged" if len(positions) else "no peak")
    best = np.sort(np.argsort(heights)[-2:])
    peaks = positions[best]
    inside = slice(*(round(p / fine_nm - 0.5) for p in peaks))
    dip = float(np.clip(1.0 - profile[inside].min() / heights[best].min(), 0.0, 1.0))
    off = np.abs(peaks - pair)
    reasons = []
    if best[1] - best[0] > 1:
        reasons.append(f"{best[1] - best[0] - 1} further peaks between the two")
    if off.max() > separation / 4:
        reasons.append(f"a peak is {off.max():.0f} nm off its line")
    if dip < RAYLEIGH_DIP:
        reasons.append(f"a dip of {dip:.0%} only")
    return report(peaks, dip, "; ".join(reasons))


@dataclass(frozen=True)
class LineReport:
    """Lines found without knowing the truth.

    Attributes
    ----------
    positions_nm : tuple of float
    heights : tuple of float
        In the unit of the profile.
    distances_nm : tuple of float
        Between neighbours, one fewer.
    dips : tuple of float
        Lowest point between neighbours, below the lower of them, as a fraction of it.
    reason : str
        Why there are no distances; empty if there are.
    """

    positions_nm: tuple[float, ...]
    heights: tuple[float, ...]
    distances_nm: tuple[float, ...]
    dips: tuple[float, ...]
    reason: str


def find_lines(x: Any, pixel_size_nm: float, factor: int, *, axis: int = 0, prominence: float = 0.1) -> LineReport:
    """Find parallel lines in an image and their distances, without knowing the truth.

    Parameters
    ----------
    x : (N1, N2) or (N,) array
        An image on the fine grid, or its profile.
    pixel_size_nm, factor
        Camera pixel and super-resolution factor (1 for a camera image).
    axis : {0, 1}
        Axis along which the lines run.
    prominence : float
        Smallest height of a line over its surroundings, as a fraction of the highest.
    """
    fine_nm = real_number(pixel_size_nm, "pixel_size_nm", low=0, open_low=True) / whole_number(factor, "factor", low=1)
    image = _image(x, "x", dimensions=(1, 2))
    profile = image if image.ndim == 1 else line_profile(image, axis=axis)
    span = float(np.ptp(profile))
    if span <= 1e-9 * abs(float(profile.max())):
        return LineReport((), (), (), (), "the profile is flat")
    positions, heights = _peaks(profile, fine_nm, real_number(prominence, "prominence", low=0, high=1) * span)
    places = [round(p / fine_nm - 0.5) for p in positions]
    dips = [
        1.0 - profile[a : b + 1].min() / min(heights[k], heights[k + 1]) for k, (a, b) in enumerate(pairwise(places))
    ]
    return LineReport(
        tuple(float(p) for p in positions),
        tuple(float(h) for h in heights),
        tuple(float(d) for d in np.diff(positions)),
        tuple(float(np.clip(d, 0.0, 1.0)) for d in dips),
        "" if len(positions) > 1 else "one line only",
    )


# -- resolution -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RingCorrelation:
    """A Fourier ring correlation.

    Attributes
    ----------
    frequency_per_nm : (R,) float64
        Mean frequency of each ring.
    correlation : (R,) float64
        Between the two images, -1 to 1.
    resolution_nm : float or None
        One over the frequency at which the correlation first falls below the threshold.
    reason : str
        Why there is no resolution; empty if there is.
    """

    frequency_per_nm: np.ndarray
    correlation: np.ndarray
    resolution_nm: float | None
    reason: str


def fourier_ring_correlation(a: Any, b: Any, pixel_size_nm: float, *, threshold: float = 1.0 / 7.0) -> RingCorrelation:
    """Compare two independent images of one object, ring by ring of spatial frequency (Saxton and Baumeister 1982).

    The images (reconstructions of odd and even frames, say) are freed of their means and tapered by a Hann window; rings
    are one frequency step of the shorter side wide.  Window and rings are fixed: two results differ only if the images do.

    Parameters
    ----------
    a, b : (N1, N2) array
        At least 16 pixels along each axis.
    pixel_size_nm : float
        Pixel of these images.
    threshold : float
        1/7 by default (Rosenthal and Henderson 2003).

    Raises
    ------
    ValueError
        If shapes differ, are too small, or values are not finite.
    """
    a, b = _image(a, "a"), _image(b, "b")
    pixel_size_nm = real_number(pixel_size_nm, "pixel_size_nm", low=0, open_low=True)
    threshold = real_number(threshold, "threshold", low=0, high=1, open_low=True)
    if a.shape != b.shape:
        raise ValueError(f"a and b must have the same shape, got {a.shape} and {b.shape}")
    if min(a.shape) < 16:
        raise ValueError(f"a Fourier ring correlation needs at least 16 x 16 pixels, got {a.shape}")
    window = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in a.shape))
    spectra = [np.fft.fft2((image - (image * window).sum() / window.sum()) * window) for image in (a, b)]

    radius = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in a.shape), indexing="ij"))
    step = 1.0 / min(a.shape)
    ring = np.rint(radius / step).astype(int).ravel()
    rings = min(a.shape) // 2 + 1
    cross = np.bincount(ring, (spectra[0] * spectra[1].conj()).real.ravel())[1:rings]
    powers = [np.bincount(ring, (np.abs(s) ** 2).ravel())[1:rings] for s in spectra]
    frequency = (np.bincount(ring, radius.ravel()) / np.bincount(ring))[1:rings] / pixel_size_nm
    scale = np.sqrt(powers[0] * powers[1])
    # Rings without light (below rounding) correlate with nothing.
    dark = scale <= 1e-24 * scale.max()
    correlation = np.where(dark, 0.0, cross / np.where(dark, 1.0, scale))
    if dark.all():
        return RingCorrelation(frequency, correlation, None, "an image is flat")
    below = np.flatnonzero(correlation < threshold)
    if not below.size:
        reason = (
            f"the correlation stays above {threshold:.3g} up to the highest frequency: the pixels limit the resolution"
        )
        return RingCorrelation(frequency, correlation, None, reason)
    k = int(below[0])
    if k == 0:
        return RingCorrelation(
            frequency, correlation, None, f"the correlation is below {threshold:.3g} from the first ring on"
        )
    part = (correlation[k - 1] - threshold) / (correlation[k - 1] - correlation[k])
    crossing = frequency[k - 1] + part * (frequency[k] - frequency[k - 1])
    return RingCorrelation(frequency, correlation, float(1.0 / crossing), "")
