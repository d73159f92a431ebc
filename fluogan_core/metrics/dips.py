"""Gaps that an image shows: places that are darker than both sides, along which direction, how wide, how long."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["Dip", "find_dips"]

#: Directions that are tried.
_ANGLES = 8
#: A dip is at least this deep, as a share of the lower side, and its sides at least this bright, as a share of the brightest.
_LEAST_DEPTH, _LEAST_LIGHT = 0.1, 0.1
#: Widest distance of the two sides, widths of the PSF: beyond, a gap needs no test.
_WIDEST = 1.7
#: Longest strip, widths of the PSF, and how far its middle line may leave a straight one, of the distance of the sides.
_LONGEST, _BENT = 8.0, 0.25
#: A side of a gap is flat where it has this share of its brightest light.
_FLAT = 0.95


@dataclass(frozen=True)
class Dip:
    """A straight gap of an image; lengths in pixels of the image.

    Attributes
    ----------
    row, column : float
        Its middle.
    angle : float
        Of the direction across it, radians: 0 runs along a row.
    separation : float
        Of the brightest places of its two sides.
    length : float
        Along it.
    depth : float
        1 minus the light in the middle over that of the lower side.
    """

    row: float
    column: float
    angle: float
    separation: float
    length: float
    depth: float


def find_dips(image: np.ndarray, width: float, most: int = 200) -> list[Dip]:
    """The gaps of an image, the deepest and brightest first.

    Parameters
    ----------
    image : (N1, N2) float64
    width : float
        Of the PSF, pixels of the image.
    most : int
        No more than so many.
    """
    from scipy import ndimage

    brightest = float(ndimage.gaussian_filter(image, 1.0).max())
    if not brightest > 0:
        return []
    least, depth, across = np.zeros_like(image), np.zeros_like(image), np.zeros_like(image)
    apart = np.zeros_like(image)
    for angle in np.arange(_ANGLES) * math.pi / _ANGLES:
        step = np.array([math.sin(angle), math.cos(angle)])
        smooth = _along(image, angle, width / 2)
        for half in range(2, max(3, round(_WIDEST * width / 2)) + 1):
            sides = [ndimage.shift(smooth, sign * half * step, order=1, mode="nearest") for sign in (-1, 1)]
            lower = np.minimum(*sides)
            deeper = (lower - smooth > depth) & (lower > _LEAST_LIGHT * brightest)
            depth[deeper], least[deeper] = (lower - smooth)[deeper], lower[deeper]
            across[deeper], apart[deeper] = angle, 2 * half
    labels, count = ndimage.label(depth > _LEAST_DEPTH * np.where(least > 0, least, np.inf), np.ones((3, 3)))
    strength = np.asarray(ndimage.sum_labels(depth, labels, np.arange(1, count + 1)))
    order = np.argsort(-strength, kind="stable")[:most] + 1
    regions = ndimage.find_objects(labels)
    found = []
    for number in order:
        place = regions[number - 1]
        inside = labels[place] == number
        points = np.argwhere(inside) + [part.start for part in place]
        for part in _straight(points, depth, apart, width):
            dip = _measured(image, part, depth, across, apart, width)
            if dip is not None:
                found.append(dip)
    return found


def _along(image: np.ndarray, angle: float, length: float) -> np.ndarray:
    """The image averaged along the direction of a gap whose normal has this angle."""
    from scipy import ndimage

    count = max(1, round(length))
    away = np.arange(count) - (count - 1) / 2
    step = np.array([math.cos(angle), -math.sin(angle)])
    return np.asarray(sum(ndimage.shift(image, a * step, order=1, mode="nearest") for a in away) / count)


def _straight(points: np.ndarray, depth: np.ndarray, apart: np.ndarray, width: float) -> Iterator[np.ndarray]:
    """Parts of a region that are straight and not too long."""
    weights = depth[tuple(points.T)]
    middle = np.average(points, axis=0, weights=weights)
    _, axes = np.linalg.eigh(np.cov(points.T, aweights=weights) if len(points) > 2 else np.eye(2))
    t, q = (points - middle) @ axes[:, 1], (points - middle) @ axes[:, 0]
    bins = np.floor((t - t.min()) / max(width / 2, 1)).astype(int)
    total = np.bincount(bins, weights)
    line = (np.bincount(bins, weights * q) / np.where(total > 0, total, 1))[total > 0]
    bent = np.ptp(line) > 2 * _BENT * float(np.average(apart[tuple(points.T)], weights=weights))
    if np.ptp(t) > 2 * width and (bent or np.ptp(t) > _LONGEST * width):
        for half in (t < 0, t >= 0):
            if half.any():
                yield from _straight(points[half], depth, apart, width)
    else:
        yield points


def _measured(
    image: np.ndarray, points: np.ndarray, depth: np.ndarray, across: np.ndarray, apart: np.ndarray, width: float
) -> Dip | None:
    """The gap of one straight region, from the image's own profile across it; None if that has none."""
    from scipy import ndimage

    weights = depth[tuple(points.T)]
    middle = np.average(points, axis=0, weights=weights)
    doubled = np.average(np.exp(2j * across[tuple(points.T)]), weights=weights)
    angle = float(np.angle(doubled) / 2)
    if len(points) > 2:
        spread, axes = np.linalg.eigh(np.cov(points.T, aweights=weights))
        if spread[1] > 4 * spread[0] + width**2 / 12:
            angle = math.atan2(axes[0, 0], axes[1, 0])
    angle %= math.pi
    normal, along = np.array([math.sin(angle), math.cos(angle)]), np.array([math.cos(angle), -math.sin(angle)])
    t = (points - middle) @ along
    length = float(np.ptp(t)) + 1.0
    half = max(3, round(_WIDEST * width / 2) + 1)
    q, t = np.arange(-half, half + 0.25, 0.5), np.linspace(t.min(), t.max(), max(2, round(length)))
    places = middle[:, None, None] + normal[:, None, None] * q[:, None] + along[:, None, None] * t
    profile = ndimage.map_coordinates(image, places, order=1, mode="nearest").mean(axis=1)
    near = np.abs(q) <= max(1.0, 0.25 * float(np.average(apart[tuple(points.T)], weights=weights)))
    lowest = int(np.flatnonzero(near)[profile[near].argmin()])
    left, right = profile[:lowest], profile[lowest + 1 :]
    if not len(left) or not len(right):
        return None
    sides = _top(q[:lowest], left), _top(q[lowest + 1 :], right)
    lower = min(float(left.max()), float(right.max()))
    deep = 1.0 - profile[lowest] / lower if lower > 0 else 0.0
    if deep < _LEAST_DEPTH / 2:
        return None
    at = middle + normal * (sides[0] + sides[1]) / 2
    return Dip(float(at[0]), float(at[1]), angle, sides[1] - sides[0], length, float(min(deep, 1.0)))


def _top(q: np.ndarray, profile: np.ndarray) -> float:
    """Where a profile is highest; the middle of that, where it is flat there."""
    first = last = int(profile.argmax())
    least = _FLAT * profile[first]
    while first > 0 and profile[first - 1] >= least:
        first -= 1
    while last + 1 < len(profile) and profile[last + 1] >= least:
        last += 1
    return float(q[first] + q[last]) / 2
