"""Parallel lines in a reconstruction: where they are, how far apart, how bright, and whether a pair is one.

Positions are in nanometres from the outer edge of the first pixel, as in :mod:`fluogan_core.simulation.phantom`.

**Which position.**  A line of finite width comes out of a deconvolution with horns at its edges, and the horn away from the
neighbour is the higher one: the highest sample lies outside the line's middle.  Halfway between the two places where the
profile crosses half of the line's prominence is moved much less.  Measured on fits of simulated pairs 150 nm apart (lines
100 nm wide under a PSF of 318 nm, four conditions of light): peaks read 160 to 166 nm, these middles 152 to 159 nm, and
centroids of what exceeds half of the maximum 135 to 158 nm.  So the middles are what ``positions_nm`` and ``distance_nm``
mean here; the peaks are reported beside them, and Rayleigh's rule is about them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..backend.checks import host_image, instance_of, length_or_time, real_number, whole_number
from ..backend.kinds import any_kind
from ..backend.typing import ArrayLike
from ..simulation.phantom import Pattern

__all__ = ["RAYLEIGH_DIP", "LineReport", "PairReport", "find_lines", "line_fluxes", "line_profile", "pair_report"]

#: Dip between two points at Rayleigh's distance, as a fraction of the peaks.
RAYLEIGH_DIP = 0.265


@any_kind("x")
def line_profile(
    x: ArrayLike, *, fine_nm: float | None = None, span_nm: tuple[float, float] | None = None, axis: int = 0
) -> np.ndarray:
    """Return the mean profile across lines.

    Parameters
    ----------
    x : (N1, N2) array_like
        The image.
    fine_nm : float, optional
        Fine pixel, nm; needed with ``span_nm`` only.
    span_nm : (float, float), optional
        Average only the fine pixels whose centres lie between these positions along the lines; all by default.
    axis : {0, 1}
        Axis along which the lines run and the average is taken; 0 for the vertical lines of
        :mod:`fluogan_core.simulation.phantom`.

    Returns
    -------
    profile : (N2,) float64, or (N1,) for ``axis=1``
        In the unit of x.

    Raises
    ------
    TypeError
        If x is a masked array or does not hold real numbers, or ``span_nm`` comes without ``fine_nm``.
    ValueError
        If x is not a finite image, or no fine pixel lies in the span.

    Examples
    --------
    >>> import numpy as np
    >>> from fluogan_core.metrics import line_profile
    >>> line_profile(np.array([[0.0, 4.0, 0.0], [0.0, 2.0, 0.0]])).tolist()
    [0.0, 3.0, 0.0]
    """
    x = np.moveaxis(host_image(x, "x"), whole_number(axis, "axis", low=0, high=1), 0)
    if span_nm is None:
        return x.mean(axis=0)
    if fine_nm is None:
        raise TypeError("span_nm needs fine_nm, the size of a fine pixel")
    fine_nm = length_or_time(fine_nm, "fine_nm")
    centres = (np.arange(len(x)) + 0.5) * fine_nm
    if len(span_nm) != 2:
        raise ValueError(f"span_nm must be (from, to), got {span_nm!r}")
    span_nm = real_number(span_nm[0], "span_nm[0]"), real_number(span_nm[1], "span_nm[1]")
    inside = (centres >= span_nm[0]) & (centres <= span_nm[1])
    if not inside.any():
        raise ValueError(f"no fine pixel lies between {span_nm[0]:g} and {span_nm[1]:g} nm; x is {len(x) * fine_nm:g} nm long")
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


def _middles(profile: np.ndarray, fine_nm: float, peaks: np.ndarray) -> np.ndarray:
    """Middles of lines (nm): halfway between the crossings of half the prominence on either side of each peak.

    The prominence of a peak is its height over the higher of the lowest points towards its neighbours (or the profile's ends).
    """
    samples = [round(p / fine_nm - 0.5) for p in peaks]
    walls = [0, *(a + int(profile[a : b + 1].argmin()) for a, b in pairwise(samples)), profile.size - 1]
    middles = []
    for k, sample in enumerate(samples):
        low, high = walls[k], walls[k + 1]
        # a line that the border cuts has no foot on that side
        feet = [side.min() for side in (profile[low:sample], profile[sample + 1 : high + 1]) if side.size]
        level = 0.5 * (profile[sample] + max(feet, default=0.0))
        before, after = np.flatnonzero(profile[:sample] < level), np.flatnonzero(profile[sample:] < level)
        left, right = -0.5, profile.size - 0.5
        if before.size:
            j = int(before[-1])
            left = j + (level - profile[j]) / (profile[j + 1] - profile[j])
        if after.size:
            j = sample + int(after[0])
            right = j - (level - profile[j]) / (profile[j - 1] - profile[j])
        middles.append((0.5 * (left + right) + 0.5) * fine_nm)
    return np.array(middles)


@dataclass(frozen=True)
class PairReport:
    """What became of one pair of lines.

    Attributes
    ----------
    separation_nm : float
        True distance, centre to centre.
    peaks_nm : tuple of float
        Positions of the two peaks; fewer where fewer were found.
    positions_nm : tuple of float
        Middles of the lines that these peaks belong to: halfway between the crossings of half their prominence.
    distance_nm : float or None
        Distance of the two middles.
    peak_distance_nm : float or None
        Distance of the two peaks: too large where deconvolution gives the lines horns.
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
    positions_nm: tuple[float, ...]
    distance_nm: float | None
    peak_distance_nm: float | None
    dip: float
    resolved: bool
    reason: str

    @property
    def error_nm(self) -> float | None:
        """``distance_nm`` less the true separation; None where there are not two lines."""
        return None if self.distance_nm is None else self.distance_nm - self.separation_nm


@any_kind("x", answers=False)
def pair_report(x: ArrayLike, pattern: Pattern, group: int = 0, *, prominence: float = 0.05) -> PairReport:
    """Judge one pair of lines of a reconstruction against the pattern it was made from.

    A dip alone proves nothing (iterated long enough, a deconvolution splits a uniform bar too): judge the control of the
    same pattern with the same settings beside it.

    Parameters
    ----------
    x : (N1, N2) or (N2,) array_like
        Reconstruction on the pattern's fine grid, or its profile across the lines.
    pattern : Pattern
        The truth; for a control, the pair that its bar replaces is looked for.
    group : int
        Which group.
    prominence : float
        Smallest height of a peak over its surroundings, as a fraction of the highest value in the group's middle.

    Returns
    -------
    PairReport

    Raises
    ------
    TypeError
        If x is a masked array or does not hold real numbers.
    ValueError
        If x does not fit the pattern, or there is no such group.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> from fluogan_core.metrics import pair_report
    >>> pattern = fg.argolight_pattern((300,), pixel_size_nm=100, factor=4, shape=(32, 32))
    >>> report = pair_report(pattern.x, pattern)
    >>> report.resolved, report.distance_nm
    (True, 300.0)
    """
    instance_of(pattern, Pattern, "pattern")
    fine_nm = pattern.pixel_size_nm / pattern.factor
    image = host_image(x, "x", dimensions=(1, 2))
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

    def report(peaks: np.ndarray, middles: np.ndarray, dip: float, reason: str) -> PairReport:
        both = len(peaks) == 2
        return PairReport(
            separation,
            tuple(float(p) for p in peaks),
            tuple(float(p) for p in middles),
            float(middles[1] - middles[0]) if both else None,
            float(peaks[1] - peaks[0]) if both else None,
            dip,
            not reason,
            reason,
        )

    if top <= 0:
        return report(np.array([]), np.array([]), 0.0, "the group's middle is dark")
    found, heights = _peaks(profile, fine_nm, prominence * top)
    middle = (found > low) & (found < high)
    found, heights = found[middle], heights[middle]
    # what lies beyond the middle belongs to the outer lines
    first = max(0, math.floor(low / fine_nm))
    inner = profile[first : math.ceil(high / fine_nm)]
    if len(found) < 2:
        alone = _middles(inner, fine_nm, found - first * fine_nm) + first * fine_nm
        return report(found, alone, 0.0, "one peak only: the pair is merged" if len(found) else "no peak")
    best = np.sort(np.argsort(heights)[-2:])
    peaks = found[best]
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
    return report(peaks, _middles(inner, fine_nm, peaks - first * fine_nm) + first * fine_nm, dip, "; ".join(reasons))


@any_kind("x")
def line_fluxes(x: ArrayLike, pattern: Pattern, group: int = 0) -> np.ndarray:
    """Return the light of the four lines of a group, left to right, in the unit of ``x.sum()``.

    Each line is given what lies between the middles of the gaps around it, along its whole length; an outer line as much on
    its far side as on its near one.  Compare with the same figure of the truth: ``line_fluxes(x, p) / line_fluxes(truth, p)``.

    Parameters
    ----------
    x : (N1, N2) array_like
        An image on the pattern's fine grid.
    pattern : Pattern
        Of a pair; a control has no lines to tell apart in its middle, so only the sum of its two there means something.
    group : int
        Which group.

    Returns
    -------
    fluxes : (4,) float64
        Sum of x over the surroundings of each line, left to right, in the unit of x.

    Raises
    ------
    TypeError
        If x is a masked array or does not hold real numbers.
    ValueError
        If x does not fit the pattern, or there is no such group.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> from fluogan_core.metrics import line_fluxes
    >>> pattern = fg.argolight_pattern((300,), pixel_size_nm=100, factor=4, shape=(32, 32))
    >>> line_fluxes(pattern.x, pattern).round(6).tolist()
    [384.0, 384.0, 384.0, 384.0]
    """
    instance_of(pattern, Pattern, "pattern")
    image = host_image(x, "x")
    if image.shape != pattern.x.shape:
        raise ValueError(f"x must be on the pattern's fine grid {pattern.x.shape}, got {image.shape}")
    group = whole_number(group, "group", low=0, high=len(pattern.separations_nm) - 1)
    fine_nm = pattern.pixel_size_nm / pattern.factor
    places = np.array(pattern.lines_nm[group])
    gaps = (places[1:] + places[:-1]) / 2
    edges = np.array([2 * places[0] - gaps[0], *gaps, 2 * places[-1] - gaps[-1]]) / fine_nm
    # light up to a position, which may lie within a fine pixel
    light = np.concatenate([[0.0], np.cumsum(image.sum(axis=0))])
    return np.diff(np.interp(edges, np.arange(light.size), light))


@dataclass(frozen=True)
class LineReport:
    """Lines found without knowing the truth.

    Attributes
    ----------
    positions_nm : tuple of float
        Middles of the lines, as in :class:`PairReport`.
    heights : tuple of float
        Of their peaks, in the unit of the profile.
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


@any_kind("x", answers=False)
def find_lines(x: ArrayLike, pixel_size_nm: float, factor: int, *, axis: int = 0, prominence: float = 0.1) -> LineReport:
    """Find parallel lines in an image and their distances, without knowing the truth.

    Parameters
    ----------
    x : (N1, N2) or (N,) array_like
        An image on the fine grid, or its profile.
    pixel_size_nm : float
        Camera pixel, nm.
    factor : int
        Super-resolution factor (1 for a camera image).
    axis : {0, 1}
        Axis along which the lines run.
    prominence : float
        Smallest height of a line over its surroundings, as a fraction of the highest.

    Returns
    -------
    LineReport

    Raises
    ------
    TypeError
        If x is a masked array or does not hold real numbers, or a number is not one.
    ValueError
        If x is not a finite image or profile, or a number is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from fluogan_core.metrics import find_lines
    >>> profile = np.zeros(32)
    >>> profile[[7, 8, 9, 19, 20, 21]] = 1, 2, 1, 1, 2, 1
    >>> found = find_lines(profile, pixel_size_nm=100, factor=4)
    >>> found.positions_nm, found.distances_nm
    ((212.5, 512.5), (300.0,))
    """
    fine_nm = length_or_time(pixel_size_nm, "pixel_size_nm") / whole_number(factor, "factor", low=1)
    image = host_image(x, "x", dimensions=(1, 2))
    profile = image if image.ndim == 1 else line_profile(image, axis=axis)
    span = float(np.ptp(profile))
    if span <= 1e-9 * abs(float(profile.max())):
        return LineReport((), (), (), (), "the profile is flat")
    peaks, heights = _peaks(profile, fine_nm, real_number(prominence, "prominence", low=0, high=1) * span)
    positions = _middles(profile, fine_nm, peaks)
    places = [round(p / fine_nm - 0.5) for p in peaks]
    dips = [1.0 - profile[a : b + 1].min() / min(heights[k], heights[k + 1]) for k, (a, b) in enumerate(pairwise(places))]
    return LineReport(
        tuple(float(p) for p in positions),
        tuple(float(h) for h in heights),
        tuple(float(d) for d in np.diff(positions)),
        tuple(float(np.clip(d, 0.0, 1.0)) for d in dips),
        "" if len(positions) > 1 else "one line only",
    )
