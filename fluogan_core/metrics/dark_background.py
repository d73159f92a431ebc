r"""The background below a structure, from the dark places around it.

A fit lets background and wide structures share their light, so its b is uncertain exactly where a gap is judged.  In the dark
nothing competes with b.  Here b is smooth, a few cosines of the distance from the place, with coefficients that are known
beforehand only roughly; the camera pixels without light of the structure fix them, and say how well.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["background_about"]

#: Half the window, widths of the PSF, and cosines per axis: periods of three widths of the PSF and more are free.
_HALF, _ORDERS = 5.0, 4
#: Before the data: standard deviation of the level, and of the first cosine, of the background's level.
_LEVEL, _WAVES = 0.5, 0.3
#: A pixel is dark where the structure sends less than this share of the brightest one's light.
_DARK = 0.02
#: No background is known better than this, relative: it is not exactly a sum of cosines.
_LEAST = 0.01


def background_about(
    mean: np.ndarray, light: np.ndarray, b: np.ndarray, variance: np.ndarray, place: tuple[float, float], width: float
) -> tuple[np.ndarray, float]:
    """The background about one place, and its standard deviation there.

    Parameters
    ----------
    mean : (M1, M2) float64
        Mean frame, photons.
    light : (M1, M2) float64
        Of the structures, as fitted, photons.
    b : (M1, M2) float64
        Background, as fitted: its level in the window is what is assumed before the data.
    variance : (M1, M2) float64
        Of the mean frame.
    place : (row, column)
        Camera pixels.
    width : float
        Of the PSF, camera pixels.

    Returns
    -------
    (M1, M2) float64
        Photons; right in the window only.
    float
        Relative to the background at the place.
    """
    half = _HALF * width
    axes = [(np.arange(n) - at) / half for n, at in zip(mean.shape, place)]
    down, across = (np.cos(np.pi / 2 * np.arange(_ORDERS)[:, None] * (np.clip(axis, -1, 1) + 1)) for axis in axes)
    waves = np.einsum("ai,bj->ijab", down, across).reshape(*mean.shape, -1)
    inside = (np.abs(axes[0]) <= 1)[:, None] & (np.abs(axes[1]) <= 1)
    level = max(float(np.median(b[inside])), 1e-3 * float(light[inside].max(initial=0.0)), 1e-9)
    dark = inside & (light <= max(_DARK * float(light[inside].max()), _DARK * level))
    order = np.add.outer(np.arange(_ORDERS), np.arange(_ORDERS)).ravel()
    prior = np.where(order == 0, _LEVEL, _WAVES / np.maximum(order, 1)) * level
    start = np.where(order == 0, level, 0.0)
    seen = waves[dark] / np.sqrt(variance[dark])[:, None]
    rest = (mean - light)[dark] / np.sqrt(variance[dark]) - seen @ start
    information = seen.T @ seen + np.diag(prior**-2.0)
    found = np.linalg.solve(information, seen.T @ rest)
    # waves that are missing show as misfit, and make the errors as much larger
    misfit = float(((rest - seen @ found) ** 2).sum()) / max(1, int(dark.sum()))
    at = np.einsum("a,b->ab", *(np.cos(np.pi / 2 * np.arange(_ORDERS)) for _ in range(2))).ravel()
    error = math.sqrt(float(at @ np.linalg.solve(information, at)) * max(1.0, misfit))
    background = np.maximum(waves @ (start + found), 0.02 * level)
    here = max(float(at @ (start + found)), 0.02 * level)
    return background, math.hypot(_LEAST, error / here)
