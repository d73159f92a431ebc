r"""How far the sample moved between the first and the last third of a stack.

The mean frames of the two thirds are taken for one image f that lies at :math:`-s/2` and :math:`+s/2`, and whose brightness
has changed by a smooth factor:

.. math:: m_3 - m_1 \approx (c + t \cdot r)\, f + p + q \cdot r - s \cdot \nabla f.

c is bleaching, t a bleaching that differs over the field, p and q a background that fades.  Both means are shifted back by
what was found, and the rest is measured in the same way, until nothing is left.

Molecules that blink or bleach move the light as well, each place by an amount of its own, while the sample moves as a whole.
So the error comes from a jackknife over blocks of the field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..tuning import DEFAULT
from ..tuning.drift import DriftTuning
from .plain import plain
from .regression import jackknife, solve_normal

__all__ = ["ThirdsShift", "drift_notes", "shift_of_thirds"]


@dataclass(frozen=True)
class ThirdsShift:
    """How far the sample moved from the first to the last third of a stack.

    Attributes
    ----------
    down, right : float
        Mean position in the last third less that in the first, camera pixels; 0 where the stack does not tell.
    down_error, right_error : float
        One standard error each, camera pixels; infinite where the stack does not tell.
    clear : bool
        Whether the shift is many standard errors, along one axis at least.
    """

    down: float
    right: float
    down_error: float
    right_error: float
    clear: bool = False

    @property
    def distance(self) -> float:
        """Length of the shift, camera pixels."""
        return math.hypot(self.down, self.right)


def shift_of_thirds(
    frames: np.ndarray,
    variance: np.ndarray,
    live: np.ndarray | None = None,
    tuning: DriftTuning = DEFAULT.calibration.drift,
) -> ThirdsShift:
    """Measure the shift between the first and the last third of a stack.

    Parameters
    ----------
    frames : (T, M1, M2) array
        Counts.
    variance : (M1, M2) array
        Temporal variance of the pixels: what varies more weighs less.
    live : (M1, M2) bool array, optional
        Pixels that can be trusted; hot and dead ones stay where they are and would speak against any drift.  By default all.
    tuning : DriftTuning, optional
        Numbers by trial.

    Returns
    -------
    ThirdsShift

    Examples
    --------
    >>> import numpy as np
    >>> r, c = np.mgrid[:40, :40]
    >>> frames = np.stack([sum(np.exp(-((r - a - t / 30) ** 2 + (c - b) ** 2) / 4) for a, b in ((9, 11), (18, 28), (30, 15)))
    ...                    for t in range(60)])
    >>> round(shift_of_thirds(frames, np.ones((40, 40))).down, 2)
    1.33
    """
    from scipy.ndimage import gaussian_filter, median_filter

    if len(frames) < tuning.fewest_frames or min(frames.shape[1:]) < 3 * tuning.block:
        return ThirdsShift(0.0, 0.0, math.inf, math.inf)
    cuts = [round(k * len(frames) / 3) for k in range(4)]
    means = [frames[start:end].mean(axis=0, dtype=np.float64) for start, end in pairwise(cuts)]
    first, middle, last, spread = (
        gaussian_filter(
            image if live is None else np.where(live, image, median_filter(image, 3)), tuning.smooth, mode="nearest"
        )
        for image in (*means, np.asarray(variance, dtype=np.float64))
    )
    weight = 1.0 / np.maximum(spread, 0.1 * max(float(spread.mean()), 1e-300))
    weight /= weight.mean()
    whole, error = _shift_between(first, last, weight, tuning)
    if (np.abs(whole) > tuning.clear * error).any():
        # molecules that blink differ from third to third, and the way by the middle one then leads elsewhere
        (one, _), (two, _) = _shift_between(first, middle, weight, tuning), _shift_between(middle, last, weight, tuning)
        error = np.hypot(error, whole - one - two)
    (down, right), (down_error, right_error) = whole.tolist(), error.tolist()
    return ThirdsShift(down, right, down_error, right_error, bool((np.abs(whole) > tuning.clear * error).any()))


def _shift_between(
    first: np.ndarray, last: np.ndarray, weight: np.ndarray, tuning: DriftTuning
) -> tuple[np.ndarray, np.ndarray]:
    """Shift (down, right) from one mean frame to another, and its errors; infinite where it does not settle."""
    from scipy.ndimage import shift as shifted

    reach = np.array(first.shape) / 4.0
    total, error = _whole_pixels(first, last, tuning.smooth), np.full(2, math.inf)
    open_ = np.ones(2, dtype=bool)
    for _ in range(tuning.passes):
        # half the shift each way: both are then as sharp
        one, other = (shifted(image, way * total, order=3, mode="nearest") for image, way in ((first, 0.5), (last, -0.5)))
        step, error = _measured(one, other, weight, 3 + math.ceil(float(np.abs(total).max()) / 2), tuning)
        step = np.clip(np.where(open_, step, 0.0), -1.0, 1.0)
        total = total + step
        # lines say nothing of a shift along themselves
        open_ &= np.abs(total) <= reach
        total[~open_] = 0.0
        if (np.abs(step) < np.maximum(tuning.settled, 0.05 * error)).all():
            break
    open_ &= np.abs(step) < np.maximum(tuning.settled, 0.05 * error)
    open_ &= np.isfinite(error)
    return np.where(open_, total, 0.0), np.where(open_, error, math.inf)


def _whole_pixels(first: np.ndarray, last: np.ndarray, smooth: float) -> np.ndarray:
    """The shift, in whole pixels, at which the two are most alike: where to begin."""
    from scipy.fft import irfft2, next_fast_len, rfft2
    from scipy.ndimage import gaussian_filter

    fine = [image - gaussian_filter(image, 4.0 * smooth, mode="nearest") for image in (first, last)]
    size = tuple(next_fast_len(2 * n, True) for n in first.shape)
    alike = irfft2(rfft2(fine[0], size).conj() * rfft2(fine[1], size), size)
    reach = [n // 4 for n in first.shape]
    rows, columns = (np.arange(-n, n + 1) for n in reach)
    place = np.unravel_index(int(np.argmax(alike[np.ix_(rows, columns)])), (rows.size, columns.size))
    return np.array([rows[place[0]], columns[place[1]]], dtype=np.float64)


def _measured(
    first: np.ndarray, last: np.ndarray, weight: np.ndarray, margin: int, tuning: DriftTuning
) -> tuple[np.ndarray, np.ndarray]:
    """Shift (down, right) in linear approximation, and its errors."""
    inside = (slice(margin, -margin), slice(margin, -margin))
    image, change = (first + last) / 2, last - first
    slopes = np.gradient(image)
    light = image - image[inside].min()
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij")
    terms = np.stack([np.ones(image.shape), y, x, light, light * y, light * x, -slopes[0], -slopes[1]])[:, *inside]
    target, by = change[inside], weight[inside]
    blocks = []
    for size in target.shape:
        count = min(tuning.most_blocks, max(3, size // tuning.block))
        blocks.append(np.arange(size) * count // size)
    label = (blocks[0][:, None] * (blocks[1].max() + 1) + blocks[1]).ravel()
    flat, wanted, by = terms.reshape(len(terms), -1), target.reshape(-1, 1), by.ravel()
    normal = np.array([(flat[:, label == k] * by[label == k]) @ flat[:, label == k].T for k in range(label.max() + 1)])
    right = np.array([(flat[:, label == k] * by[label == k]) @ wanted[label == k] for k in range(label.max() + 1)])
    prior = np.zeros(len(terms))
    rest = wanted[:, 0] - solve_normal(normal.sum(axis=0), right.sum(axis=0))[:, 0] @ flat
    # smoothing makes about 4 pi sigma^2 pixels say the same
    noise = float((by * rest**2).mean()) * max(1.0, 4 * math.pi * tuning.smooth**2)
    prior[4:6] = noise / tuning.tilt**2
    whole = solve_normal(normal.sum(axis=0) + np.diag(prior), right.sum(axis=0))
    left_out = [solve_normal(n + np.diag(prior), r) for n, r in zip(normal.sum(axis=0) - normal, right.sum(axis=0) - right)]
    power = normal[:, 6, 6] + normal[:, 7, 7]
    in_few_blocks = power.sum() ** 2 < tuning.fewest_blocks * (power**2).sum()
    # half the difference of two images that share no light has slopes as steep as half their sum
    unshared = sum(float((by * slope.ravel() ** 2).sum()) for slope in np.gradient(rest.reshape(target.shape) / 2))
    if in_few_blocks or not power.sum() > tuning.alike * unshared:
        return np.zeros(2), np.full(2, math.inf)
    posterior = np.sqrt(noise * np.diag(np.linalg.pinv(normal.sum(axis=0) + np.diag(prior), hermitian=True)))[6:]
    return whole[6:, 0], np.maximum(jackknife(np.array([whole, *left_out])[:, 6:, 0]), posterior)


def drift_notes(drift: ThirdsShift, width: float, tuning: DriftTuning = DEFAULT.calibration.drift) -> list[str]:
    """What to say of a drift under a PSF of this width (full width at half maximum, camera pixels); nothing if it is small."""
    if not (drift.clear and drift.distance > tuning.least * width):
        return []
    parts = [
        f"{abs(value):.2f} +- {plain(error, 1)} {ways[value > 0]}"
        for value, error, ways in (
            (drift.down, drift.down_error, ("up", "down")),
            (drift.right, drift.right_error, ("to the left", "to the right")),
        )
        if error < math.inf
    ]
    return [
        f"the sample moved by about {drift.distance:.1f} pixels between the first and the last third of the frames "
        f"({', '.join(parts)}): the image is blurred by that; correct the drift "
        "(--drift auto of fluogan reconstruct, estimate_drift and follow_drift of the library), or take fewer frames"
    ]
