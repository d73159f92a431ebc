r"""Bleaching: the light of a stack falls from frame to frame by a smooth factor.

With molecules that bleach, frame t of eq. (1) has :math:`g_t x` in place of x, and a background :math:`b_t` that may fade by
itself; the mean of :math:`g_t` over the frames is 1.  Mean and covariance of a frame are both linear in x and b,

.. math:: \mu_t = g_t \Psi x + b_t, \qquad \Sigma_t = \mathrm{diag}(\mu_t + \sigma^2) + g_t\,\Psi\,\mathrm{diag}(x)\,\Psi^T ,

so that their means over the frames are those of eq. (1) with x and the mean background: bleaching biases neither.  What it does
add is the trend of :math:`\mu_t` itself, where frames are compared with one mean.  So each pixel's share in the curves
:math:`g_t` and :math:`b_t` is subtracted first.

The curves are sums of falling exponentials with non-negative weights: they fall, ever more slowly, as light does that bleaches
by several rates.  Nothing else is assumed of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..backend.arrays import Backend
from ..backend.typing import Array
from ..tuning import DEFAULT
from ..tuning.bleaching import BleachingTuning

__all__ = [
    "LightCurve",
    "bleaching_curves",
    "falling_curve",
    "light_of_frames",
    "orthonormal_trend",
    "trend_of",
    "without_bleaching",
    "without_trend",
]

#: Frames that are summed at a time.
_TOGETHER = 64


@dataclass(frozen=True, eq=False)
class LightCurve:
    """Light over time, and the falling curve through it.

    Attributes
    ----------
    light : (T,) float64
        As recorded.
    fit : (T,) float64
        The falling curve; the mean of ``light`` where it does not fall clearly.
    loss, error : float
        The fit's first value less its last one, and one standard error of it.
    clear : bool
        Whether the loss is several errors.
    """

    light: np.ndarray
    fit: np.ndarray
    loss: float
    error: float
    clear: bool


def light_of_frames(frames: Array, backend: Backend, tuning: BleachingTuning = DEFAULT.bleaching) -> np.ndarray:
    """Measure the light of every frame where the mean frame is bright, and where it is dark.

    Parameters
    ----------
    frames : (T, M1, M2) array
        Counts, on the backend's device.
    backend : Backend
    tuning : BleachingTuning, optional

    Returns
    -------
    (T, 2) float64, on the host
        Mean over the pixels that are brighter than most, weighed by how much, and over the darkest pixels.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.physics.bleaching import light_of_frames
    >>> frames = np.ones((3, 4, 4))
    >>> frames[:, 0, 0] = 9, 7, 5
    >>> light_of_frames(frames, fg.get_backend("numpy")).round(6).tolist()
    [[9.0, 1.0], [7.0, 1.0], [5.0, 1.0]]
    """
    xp = backend.xp
    mean = xp.zeros(frames.shape[1:], dtype=np.float64)
    for start in range(0, len(frames), _TOGETHER):
        mean += frames[start : start + _TOGETHER].sum(axis=0, dtype=np.float64) / len(frames)
    mean = mean.ravel()
    bright = xp.maximum(mean - xp.quantile(mean, tuning.usual), 0)
    if not float(bright.sum()) > 0:
        bright = xp.ones_like(mean)
    dark = (mean <= xp.quantile(mean, tuning.dark)).astype(np.float64)
    weights = xp.stack([bright / bright.sum(), dark / dark.sum()], axis=1)
    parts = [
        frames[start : start + _TOGETHER].reshape(-1, mean.size).astype(np.float64) @ weights
        for start in range(0, len(frames), _TOGETHER)
    ]
    return np.asarray(backend.to_host(xp.concatenate(parts)), dtype=np.float64)


def falling_curve(light: np.ndarray, tuning: BleachingTuning = DEFAULT.bleaching) -> LightCurve:
    """Lay a falling curve through the light of the frames, by least squares.

    Parameters
    ----------
    light : (T,) array
        In any unit, an offset included.
    tuning : BleachingTuning, optional

    Returns
    -------
    LightCurve

    Examples
    --------
    >>> import numpy as np
    >>> from fluogan_core.physics.bleaching import falling_curve
    >>> light = 100 + 50 * np.exp(-np.arange(200) / 80) + np.random.default_rng(0).normal(0, 2, 200)
    >>> found = falling_curve(light)
    >>> found.clear, 40 < found.loss < 50
    (True, True)
    >>> falling_curve(light[::-1]).clear
    False
    """
    from scipy.optimize import nnls

    light = np.asarray(light, dtype=np.float64)
    count, level = len(light), float(light.mean())
    flat = np.full(count, level)
    spread = float(light.std())
    if count < tuning.fewest_frames or not spread > 0:
        return LightCurve(light, flat, 0.0, math.inf, False)
    time = (np.arange(count) + 0.5) / count
    fastest = max(2 * tuning.slowest, min(tuning.fastest, count / tuning.frames_of_fastest))
    rates = np.geomspace(tuning.slowest, fastest, tuning.rates)
    decays = np.exp(-np.outer(time, rates))
    ones = np.ones((count, 1))
    design = np.hstack([ones, -ones, decays, ((light - level) / spread)[:, None]])
    # an orthogonal transform leaves as many rows as there are columns
    small = np.asarray(np.linalg.qr(design, mode="r"))
    weights = nnls(small[:, :-1], small[:, -1], maxiter=50 * design.shape[1])[0]
    fit = level + spread * (design[:, :-1] @ weights)
    loss = float(fit[0] - fit[-1])
    # molecules that stay on for several frames make neighbouring frames alike: the error is that of longer pieces
    pieces = np.array_split(light - fit, min(tuning.pieces, count // 2))
    error = math.sqrt(2.0) * max(
        float(np.std([piece.mean() for piece in pieces], ddof=1)),
        float((light - fit).std()) * math.sqrt(len(pieces) / count),
    )
    clear = loss > tuning.clear * error
    return LightCurve(light, fit if clear else flat, loss, error, bool(clear))


def bleaching_curves(frames: Array, backend: Backend, tuning: BleachingTuning = DEFAULT.bleaching) -> np.ndarray:
    """Return the curves by which the light of a stack clearly falls, (T, K) float64 on the host; K is 0, 1 or 2.

    Parameters
    ----------
    frames : (T, M1, M2) array
        Counts, on the backend's device.
    backend : Backend
    tuning : BleachingTuning, optional

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.physics.bleaching import bleaching_curves
    >>> frames = np.random.default_rng(0).poisson(50.0, (60, 8, 8))
    >>> bleaching_curves(frames, fg.get_backend("numpy")).shape
    (60, 0)
    """
    found = [falling_curve(light, tuning) for light in light_of_frames(frames, backend, tuning).T]
    return np.stack([np.empty(len(frames)), *(curve.fit for curve in found if curve.clear)], axis=1)[:, 1:]


def orthonormal_trend(curves: np.ndarray, base: np.ndarray | None = None, least: float = 1e-3) -> np.ndarray:
    """Return orthonormal columns that span the curves beside a base.

    Parameters
    ----------
    curves : (T, K) array
    base : (T, B) array, optional
        Orthonormal columns.
    least : float
        A curve of which less than this part is left beside the others is theirs.

    Returns
    -------
    (T, K') float64
        K' is K or less; the base is not among them.
    """
    found = np.empty((len(curves), 0)) if base is None else base
    start = found.shape[1]
    for curve in curves.T:
        rest = curve.astype(np.float64)
        size = float(np.linalg.norm(rest))
        for _ in range(2):  # once is not orthogonal to the last digits
            rest = rest - found @ (found.T @ rest)
        norm = float(np.linalg.norm(rest))
        if norm > least * size:
            found = np.column_stack([found, rest / norm])
    return found[:, start:]


def without_bleaching(frames: Array, backend: Backend, tuning: BleachingTuning = DEFAULT.bleaching) -> Array:
    """Return frames from which each pixel's share in the falling curves is taken, its mean kept.

    Mean and covariance of these frames are those of eq. (1) with the mean image.  Frame by frame they are no counts any more:
    their photon noise is that of the light that there was.

    Parameters
    ----------
    frames : (T, M1, M2) float32
        Counts, on the backend's device.
    backend : Backend
    tuning : BleachingTuning, optional

    Returns
    -------
    (T, M1, M2) float32
        The frames themselves where no light falls clearly.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.physics.bleaching import without_bleaching
    >>> light = 100 * np.eye(8) * np.exp(-np.arange(60) / 30)[:, None, None] + 5
    >>> frames = np.random.default_rng(0).poisson(light).astype(np.float32)
    >>> steady = without_bleaching(frames, fg.get_backend("numpy"))
    >>> float(frames[0].max()) > 90, float(abs(steady - frames.mean(axis=0)).max()) < 35
    (True, True)
    """
    return without_trend(frames, trend_of(frames, backend, tuning), backend)


def trend_of(frames: Array, backend: Backend, tuning: BleachingTuning = DEFAULT.bleaching) -> np.ndarray:
    """Return what the falling curves of a field span, without their means: orthonormal, (T, r) float32, on the host.

    Parameters
    ----------
    frames : (T, M1, M2) float32
        Counts, on the backend's device.
    backend : Backend
    tuning : BleachingTuning, optional

    Returns
    -------
    (T, r) float32
        r is 0 where no light falls clearly.
    """
    curves = bleaching_curves(frames, backend, tuning)
    return orthonormal_trend(curves - curves.mean(axis=0)).astype(np.float32)


def without_trend(frames: Array, trend: np.ndarray, backend: Backend) -> Array:
    """Return frames from which each pixel's share in a trend is taken, its mean kept.

    Parameters
    ----------
    frames : (T, M1, M2) float32
    trend : (T, r) float32
        Of these frames or of a larger field (:func:`trend_of`).
    backend : Backend

    Returns
    -------
    (T, M1, M2) float32
        The frames themselves if r is 0.
    """
    if not trend.shape[1]:
        return frames
    trend = backend.asarray(trend)
    flat = frames.reshape(len(frames), -1)
    level = flat.mean(axis=0, dtype=np.float64).astype(np.float32)
    return (flat - trend @ (trend.T @ (flat - level))).reshape(frames.shape)
