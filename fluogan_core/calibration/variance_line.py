r"""The line of variance on mean of a stack's pixels: gain, offset and read noise, honouring what is given."""

from __future__ import annotations

import math

import numpy as np

from ..tuning.calibration import CameraTuning

__all__ = ["expected_variance", "line", "quietest", "resolve"]


def line(mean: np.ndarray, variance: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Slope and intercept by weighted least squares; slope 0 where all means are equal."""
    share = weight / weight.sum()
    centre, level = (share * mean).sum(), (share * variance).sum()
    spread = (share * (mean - centre) ** 2).sum()
    slope = float((share * (mean - centre) * (variance - level)).sum() / spread) if spread > 0 else 0.0
    return slope, float(level - slope * centre)


def expected_variance(
    mean: np.ndarray, variance: np.ndarray, live: np.ndarray, frames: int, tuning: CameraTuning
) -> tuple[np.ndarray, np.ndarray]:
    """Fit variance = slope * mean + intercept robustly; return the fitted variance and the pixels that agree with it.

    Weights are 1 / variance.  The square would be best were sampling the only error; but every pixel of a real camera has a
    read noise of its own, which spoils the dark end, and the sharpened mean image is least certain there.
    """
    floor = tuning.least_variance * float(np.median(variance[live]))
    fit, used = np.full(mean.shape, max(float(variance[live].mean()), floor)), live
    # Half mean squared differences scatter like chi-square over this many degrees of freedom; its cube root is normal.
    bias = 2.0 * (3.0 * frames - 4.0) / (2.0 * (frames - 1.0) ** 2) / 9.0
    for _ in range(tuning.line_passes):
        slope, intercept = line(mean[used], variance[used], 1.0 / fit[used])
        fit = np.maximum(slope * mean + intercept, floor)
        z = (np.cbrt(np.maximum(variance, 0.0) / fit) - 1.0 + bias) / math.sqrt(bias)
        scatter = max(1.0, 1.4826 * float(np.median(np.abs(z[live] - np.median(z[live])))))
        used = live & (np.abs(z) <= tuning.outlier * scatter)
    return fit, used


def resolve(
    mean: np.ndarray, variance: np.ndarray, weight: np.ndarray, darkest: float, given: dict[str, float], tuning: CameraTuning
) -> tuple[float, float, float, float]:
    """Gain, offset, noise_std, and how far noise_std**2 stays open (a standard deviation), honouring what is given."""
    gain, offset, noise = given.get("gain"), given.get("offset"), given.get("noise_std")
    if gain is None and offset is not None and noise is not None:
        light = mean - offset
        return float((weight * light * (variance - noise**2)).sum() / (weight * light**2).sum()), offset, noise, 0.0
    if gain is None:
        gain, intercept = line(mean, variance, weight)
    else:
        intercept = float((weight * (variance - gain * mean)).sum() / weight.sum())
    if noise is not None:
        return gain, (noise**2 - intercept) / gain if offset is None and gain else offset or 0.0, noise, 0.0
    if offset is not None:
        square = intercept + gain * offset
        if square < 0 and "gain" not in given:  # no read noise at all: the line goes through the offset
            return resolve(mean, variance, weight, darkest, {"offset": offset, "noise_std": 0.0}, tuning)
        return gain, offset, math.sqrt(max(square, 0.0)), 0.0
    if gain <= 0:
        return gain, 0.0, 0.0, 0.0
    # A noise_std uniform between nothing and its largest value: mean and standard deviation of its square.
    largest = min((tuning.most_read_noise * gain) ** 2, max(0.0, gain * darkest + intercept))
    return gain, (largest / 3.0 - intercept) / gain, math.sqrt(largest / 3.0), math.sqrt(4.0 / 45.0) * largest


def quietest(frames: np.ndarray, variance: np.ndarray, used: np.ndarray) -> float:
    """Noise of the pixels that vary least, counts, from the middle half of their changes: 0 where most do not change."""
    order = np.flatnonzero(used)[np.argsort(variance[used], kind="stable")[: max(16, min(256, int(used.sum()) // 10))]]
    counts = frames.reshape(len(frames), -1)[:, np.sort(order)].astype(np.float64)
    return float(1.4826 * np.median(np.abs(np.diff(counts, axis=0))) / math.sqrt(2.0))
