"""Test patterns with a known answer: Argolight-like groups of lines, and smooth backgrounds.

Positions are in nanometres in the object plane, from the outer edge of the first pixel: the fine pixel ``k`` covers
``[k, k + 1] * pixel_size_nm / factor``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..backend.checks import image_shape, length_or_time, real_number, whole_number

__all__ = ["ARGOLIGHT_SEPARATIONS_NM", "Pattern", "argolight_pattern", "smooth_background"]

#: Separations of the ten groups, nm, widest first.
ARGOLIGHT_SEPARATIONS_NM = tuple(float(d) for d in range(390, 90, -30))

#: Height of the field when none is asked for, nm.
_FIELD_HEIGHT_NM = 5150.0


@dataclass(frozen=True, eq=False)
class Pattern:
    """A pattern of vertical lines on the fine grid, with the geometry that a judge of a reconstruction needs.

    Attributes
    ----------
    x : (N1, N2) float64
        Relative emission, 0 to 1: the covered fraction of each fine pixel times the brightness of what covers it.
    separations_nm : tuple of float, one per group
        Centre-to-centre distance of the two middle lines.
    centres_nm : tuple of float, one per group
        Column position of the group's middle.
    lines_nm : tuple of four floats, one per group
        Column positions of the centres of its lines, left to right; in a control, those of the pair that its bar
        replaces.
    span_nm : (float, float)
        Row positions between which the lines run.
    line_width_nm : float
        Width of a line.
    shape : (M1, M2)
        Camera pixels; the fine grid is ``factor`` times larger along each axis.
    pixel_size_nm : float
        Camera pixel.
    factor : int
        Super-resolution factor L.
    control : bool
        True if a uniform bar of the same flux stands in place of every middle pair.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> pattern = fg.argolight_pattern((180,), pixel_size_nm=100, factor=4, shape=(32, 32))
    >>> pattern.x.shape, pattern.separations_nm, pattern.control
    ((128, 128), (180.0,), False)
    """

    x: np.ndarray
    separations_nm: tuple[float, ...]
    centres_nm: tuple[float, ...]
    lines_nm: tuple[tuple[float, float, float, float], ...]
    span_nm: tuple[float, float]
    line_width_nm: float
    shape: tuple[int, int]
    pixel_size_nm: float
    factor: int
    control: bool = False


def _covered(size: int, fine_nm: float, low: float, high: float) -> np.ndarray:
    """Fraction of each of ``size`` fine pixels that the interval [low, high] covers."""
    edges = np.arange(size + 1) * fine_nm
    return np.diff(np.clip(edges, low, high)) / fine_nm


def argolight_pattern(
    separations_nm: Iterable[float] = ARGOLIGHT_SEPARATIONS_NM,
    *,
    pixel_size_nm: float,
    factor: int,
    shape: tuple[int, int] | None = None,
    line_width_nm: float = 100.0,
    outer_nm: float = 650.0,
    pitch_nm: float = 2700.0,
    margin_nm: float = 400.0,
    shift_nm: tuple[float, float] = (0.0, 0.0),
    control: bool = False,
) -> Pattern:
    """Return groups of four parallel vertical lines, like the gradually spaced lines of an Argolight slide.

    Two middle lines stand ``d`` apart, centre to centre; two outer lines stand ``outer_nm`` from the group's middle.

    Parameters
    ----------
    separations_nm : iterable of float
        ``d`` of each group, left to right; each at least the line width, so that lines do not overlap.
    pixel_size_nm : float
        Camera pixel in the object plane.
    factor : int
        Super-resolution factor L.
    shape : (M1, M2), optional
        Camera pixels; just large enough for all groups at their pitch and 5150 nm high by default.
    line_width_nm, outer_nm, pitch_nm : float
        Width of a line, distance of the outer lines from the group's middle, distance between groups.
    margin_nm : float
        Empty rim between the line ends and the field's border; 0 lets lines run into the border.
    shift_nm : (float, float)
        Move the pattern by (down, right): lines need not start on a pixel's edge.
    control : bool
        Replace each middle pair by one uniform bar of width ``d + line_width_nm`` and the same flux: what a method must
        not split in two.

    Returns
    -------
    Pattern

    Raises
    ------
    ValueError
        If lines would overlap or would not fit in ``shape`` with the margin.

    Examples
    --------
    >>> argolight_pattern((180,), pixel_size_nm=100, factor=4, shape=(32, 32)).lines_nm
    ((950.0, 1510.0, 1690.0, 2250.0),)
    """
    pixel_size_nm = length_or_time(pixel_size_nm, "pixel_size_nm")
    factor = whole_number(factor, "factor", low=1)
    width = length_or_time(line_width_nm, "line_width_nm")
    margin_nm = real_number(margin_nm, "margin_nm", low=0)
    try:
        raw = tuple(separations_nm)
    except TypeError:
        raise TypeError(f"separations_nm must hold one distance per group, got {separations_nm!r}") from None
    if not raw:
        raise ValueError("separations_nm must hold at least one distance")
    separations = tuple(real_number(d, f"separations_nm[{k}]", low=width) for k, d in enumerate(raw))
    outer_nm = real_number(outer_nm, "outer_nm", low=max(separations) / 2 + width)
    pitch_nm = real_number(pitch_nm, "pitch_nm", low=2 * outer_nm + width)
    if len(shift_nm) != 2:
        raise ValueError(f"shift_nm must be (down, right), got {shift_nm!r}")
    down, right = (real_number(s, f"shift_nm[{k}]") for k, s in enumerate(shift_nm))
    if shape is None:
        shape = math.ceil(_FIELD_HEIGHT_NM / pixel_size_nm), math.ceil(len(separations) * pitch_nm / pixel_size_nm)
    rows, columns = image_shape(shape)

    height, breadth = rows * pixel_size_nm, columns * pixel_size_nm
    centres = tuple(breadth / 2 + right + (k - (len(separations) - 1) / 2) * pitch_nm for k in range(len(separations)))
    span = margin_nm + down, height - margin_nm + down
    left, last = centres[0] - outer_nm - width / 2, centres[-1] + outer_nm + width / 2
    rim = min(left, breadth - last, span[0], height - span[1])
    if span[1] <= span[0] or rim < 0:
        raise ValueError(
            f"{len(separations)} groups with line ends {margin_nm:g} nm inside need more than {rows} x {columns} "
            f"pixels of {pixel_size_nm:g} nm: take a larger shape, fewer groups, or a smaller margin_nm or shift_nm"
        )

    fine_nm = pixel_size_nm / factor
    across = np.zeros(columns * factor)
    lines = []
    for centre, d in zip(centres, separations):
        places = (centre - outer_nm, centre - d / 2, centre + d / 2, centre + outer_nm)
        lines.append(places)
        bars = [(place, width, 1.0) for place in places]
        if control:
            bars[1:3] = [(centre, d + width, 2 * width / (d + width))]
        for place, wide, level in bars:
            across += level * _covered(across.size, fine_nm, place - wide / 2, place + wide / 2)
    x = np.minimum(np.outer(_covered(rows * factor, fine_nm, *span), across), 1.0)  # rounding may exceed 1
    return Pattern(x, separations, centres, tuple(lines), span, width, (rows, columns), pixel_size_nm, factor, bool(control))


def smooth_background(shape: tuple[int, int], level: float, *, variation: float = 0.5, seed: int = 0) -> np.ndarray:
    """Return a positive background that varies slowly over the field, its mean exactly ``level``.

    A random sum of the cosines of at most one period across the field: what out-of-focus and auto-fluorescence look
    like at the scale of a region of interest.

    Parameters
    ----------
    shape : (M1, M2)
        Camera pixels.
    level : float
        Mean over the field, photons per camera pixel per frame.
    variation : float
        Largest departure from the mean, as a fraction of it; below 1, so that the background stays positive.
    seed : int
        The same seed gives the same background.

    Returns
    -------
    b : (M1, M2) float64
        Photons per camera pixel per frame.

    Raises
    ------
    TypeError, ValueError
        If the shape is not two positive numbers, or a value is out of its range.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> b = fg.smooth_background((32, 32), level=10.0, variation=0.3, seed=1)
    >>> round(float(b.mean()), 9), bool(b.min() > 0)
    (10.0, True)
    """
    rows, columns = image_shape(shape)
    level = real_number(level, "level", low=0)
    variation = real_number(variation, "variation", low=0, high=0.99)
    rng = np.random.default_rng(whole_number(seed, "seed", low=0))
    # Half-sample cosines of an order below the size average to zero exactly.
    down, across = (np.cos(np.pi * np.arange(min(3, n))[:, None] * (np.arange(n) + 0.5) / n) for n in (rows, columns))
    weights = rng.standard_normal((3, 3))[: len(down), : len(across)]
    weights[0, 0] = 0.0
    field = down.T @ weights @ across
    peak = np.abs(field).max()
    return level * (1.0 + variation * field / peak) if peak > 0 else np.full((rows, columns), level)
