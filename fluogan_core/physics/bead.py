"""The image of a bead made ready to be a PSF: background and noise of its surroundings, its centre, how far it reaches."""

from __future__ import annotations

import logging
import math

import numpy as np

__all__ = ["clean_bead"]

log = logging.getLogger("fluogan_core")

#: The bead ends where the mean of a ring of pixels is within this many of its standard errors of the background.
_SEEN = 3.0
#: An image whose border varies by less than this part of its largest value is computed, or its background is removed already.
_COMPUTED = 1e-5
#: Rings of a mean below this many standard deviations of a pixel are taken to be even: cut at zero, their pixels would be too
#: bright on average.
_EVEN = 3.0
#: So many pixels at exactly the largest value, side by side, are a flat top.
_FLAT = 3
#: At the border the image may be this part of its largest value; another maximum of this part is another bead, if the image
#: falls to this part of it in between.
_BORDER, _SECOND, _BETWEEN = 0.25, 0.2, 0.8
#: A bead is this many standard deviations of its noise bright, in the mean of 3 x 3 pixels; of noise alone the brightest
#: place of a large image has about 4.
_BRIGHT = 6.0
#: One pixel holds this part of a hot pixel's light; of a PSF that is as wide as a pixel 0.6.
_ONE_PIXEL = 0.8


def clean_bead(image: np.ndarray, background: float | None) -> tuple[np.ndarray, list[float]]:
    """Return the bead without its background, zero where it is below the noise, and its centre.

    Cutting negative values to zero leaves a pedestal of half the noise at every pixel, which outweighs the bead over a large
    field.  So the background is a mean over all pixels that the bead does not reach, negative values stay until the bead is
    cut out, and it is cut where rings about its centre are no brighter than their own noise lets be.

    Parameters
    ----------
    image : (R, C) float64
    background : float or None
        Level to remove; read from the pixels that the bead does not reach by default.

    Returns
    -------
    bead : (R, C) float64
        Not negative.
    centre : list of two floats
        Row and column of the centroid, pixels.

    Raises
    ------
    ValueError
        If the bead is saturated, reaches the image's border, is not brighter than noise, or is a single pixel.
    """
    from scipy.ndimage import uniform_filter

    rim = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
    level = float(np.median(rim)) if background is None else background
    noise = 1.4826 * float(np.median(np.abs(rim - np.median(rim))))
    if noise <= _COMPUTED * (image.max() - level):  # nothing to be told from the bead
        bead = np.maximum(image - level, 0.0)
        return bead, _centroid(bead)
    _refuse_flat_top(image, level, noise)
    smooth = uniform_filter(image, 3, mode="nearest") - level
    peak = np.unravel_index(int(smooth[1:-1, 1:-1].argmax()), (image.shape[0] - 2, image.shape[1] - 2))
    centre = [float(peak[0] + 1), float(peak[1] + 1)]
    brightest = float(smooth[1:-1, 1:-1].max()) / (noise / 3.0)
    if brightest < _BRIGHT:
        raise ValueError(
            f"the measured PSF shows no bead: its brightest 3 x 3 pixels are {brightest:.1f} standard deviations of noise "
            f"above the background, at least {_BRIGHT:g} are needed; average more frames or several beads"
        )
    radius = 0.0
    for _ in range(10):
        before = (*centre, radius)
        distance = np.hypot(*np.ogrid[-centre[0] : image.shape[0] - centre[0], -centre[1] : image.shape[1] - centre[1]])
        distance = distance[: image.shape[0], : image.shape[1]]
        radius = _reach(image - level, distance, noise)
        beyond = image[distance > radius + 1.0]
        if background is None and beyond.size >= rim.size // 2:
            usual = np.abs(beyond - np.median(beyond)) < 4.0 * noise  # without other beads
            level = float(beyond[usual].mean())
        inside = np.where(distance <= max(radius, 1.5), image - level, 0.0)
        centre = _centroid(inside) if inside.sum() > 0 else centre
        if np.allclose(before, (*centre, radius), atol=1e-3):
            break
    _name_border_and_second(uniform_filter(image, 3, mode="nearest") - level, centre, noise)
    ring, mean, _ = _rings(image - level, distance)
    bead = np.where(mean[ring] < _EVEN * noise, mean[ring], image - level)
    bead = np.where(distance <= radius, np.maximum(bead, 0.0), 0.0)
    if bead.max() > _ONE_PIXEL * bead.sum() > 0:
        row, column = (int(at) for at in np.unravel_index(int(bead.argmax()), bead.shape))
        raise ValueError(
            f"the measured PSF has {bead.max() / bead.sum():.0%} of its light in one pixel, row {row}, column {column}: a hot "
            "pixel, or pixels too large to show the PSF; take another image"
        )
    return bead, centre


def _centroid(image: np.ndarray) -> list[float]:
    total = float(image.sum())
    if total <= 0:
        return [math.nan, math.nan]
    return [float((image.sum(axis=1 - axis) * np.arange(image.shape[axis])).sum() / total) for axis in (0, 1)]


def _rings(signal: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ring, a pixel wide, that each pixel belongs to; the mean and the number of pixels of each ring."""
    ring = np.rint(distance).astype(int)
    count = np.bincount(ring.ravel())
    return ring, np.bincount(ring.ravel(), signal.ravel()) / np.maximum(count, 1), count


def _reach(signal: np.ndarray, distance: np.ndarray, noise: float) -> float:
    """The radius of the last ring that is brighter than its noise lets be; dark rings of half its radius end the search."""
    _, mean, count = _rings(signal, distance)
    whole = int(min(distance[0].min(), distance[-1].min(), distance[:, 0].min(), distance[:, -1].min()))
    mean, count = mean[: whole + 1], count[: whole + 1]
    seen = (mean > _SEEN * noise / np.sqrt(np.maximum(count, 1))) | (count == 0)
    last = 0
    for place in np.flatnonzero(seen):
        if place > last + max(2, last // 2):
            break
        last = int(place)
    return last + 0.5


def _refuse_flat_top(image: np.ndarray, level: float, noise: float) -> None:
    from scipy.ndimage import label

    parts, count = label(image == image.max())
    largest = int(np.bincount(parts.ravel())[1:].max()) if count else 0
    if largest >= _FLAT and image.max() - level > 10.0 * noise:
        raise ValueError(
            f"the measured PSF is saturated: {largest} pixels side by side are all at its largest value, {image.max():g}; take "
            "an image of less exposure"
        )


def _name_border_and_second(smooth: np.ndarray, centre: list[float], noise: float) -> None:
    """Refuse a bead at the border, and warn of a second one."""
    from scipy.ndimage import map_coordinates, maximum_filter

    row, column = (min(max(round(at), 0), size - 1) for at, size in zip(centre, smooth.shape))
    top = float(smooth[row, column])
    rim = max(float(part.max()) for part in (smooth[0], smooth[-1], smooth[:, 0], smooth[:, -1]))
    if rim > max(_BORDER * top, _BRIGHT * noise / 3.0):
        raise ValueError(
            f"the measured PSF is {rim / top:.0%} as bright at the image's border as in its middle: the bead, or another one, "
            "lies at the border; cut the image out with one bead in its middle and space about it"
        )
    maxima = (smooth == maximum_filter(smooth, 5)) & (smooth > max(_SECOND * top, _BRIGHT * noise / 3.0))
    for place in np.argwhere(maxima):
        way = np.linspace(0, 1, 33)
        line = map_coordinates(smooth, [start + (end - start) * way for start, end in zip(centre, place)], order=1)
        if line.min() < _BETWEEN * smooth[tuple(place)]:
            log.warning(
                "the measured PSF has a second maximum at row %d, column %d, apart from its middle at row %d, column %d: if "
                "that is another bead, cut the image out with one bead in its middle",
                *place,
                row,
                column,
            )
