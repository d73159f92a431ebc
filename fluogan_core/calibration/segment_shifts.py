r"""Where the sample lies in each segment of a stack.

A segment is a run of frames; its mean frame is filtered and compared with the others in two rounds.

1. Every mean frame is correlated with every other one.  The places of the segments follow from all pairs by least squares.  A
   pair that contradicts the others is dropped (redundant cross-correlation; Wang et al., Optics Express 22, 15982, 2014).
2. All mean frames are brought to one place by a smooth path (:mod:`.drift_path`), and each is compared with their mean f:

   .. math:: m_k - f \approx (c_k + t_k \cdot r)\, f + p_k + q_k \cdot r - (1 + c_k) s_k \cdot \nabla f,

   where c and t take up bleaching and p and q a background that fades.  This is repeated until the path stays.  The segments
   weigh by what the terms leave of each mean frame, over :math:`(1 + c_k)^2`: bleached ones say less.

The second round does not take the border of the field for a part of the sample, which pulls correlations to 0.  Its normal
equations are sums over blocks of the field.  So every place comes with replicates that leave one block out, for a jackknife:
molecules that blink or bleach move the light too, each block by an amount of its own.
"""

from __future__ import annotations

import math

import numpy as np

from ..tuning.drift import DriftTuning
from .regression import solve_normal

__all__ = ["high_passed", "refined_shifts", "rough_shifts"]


def high_passed(image: np.ndarray, smooth: float) -> np.ndarray:
    """The image without its background: what is finer than four times the width of the smoothing."""
    from scipy.ndimage import gaussian_filter

    return image - gaussian_filter(image, 4.0 * smooth, mode="nearest")


def rough_shifts(means: np.ndarray, smooth: float, tuning: DriftTuning) -> np.ndarray:
    """Places of the segments by redundant cross-correlation, (K, 2), camera pixels, with the mean 0.

    Parameters
    ----------
    means : (K, M1, M2) array
        Smoothed mean frames.
    smooth : float
        Standard deviation of the smoothing, pixels.
    tuning : DriftTuning
    """
    from scipy.fft import irfft2, next_fast_len, rfft2

    shape = means.shape[1:]
    size = tuple(next_fast_len(2 * n, True) for n in shape)
    taper = np.outer(*(np.minimum(1.0, (np.minimum(np.arange(n), n - 1 - np.arange(n)) + 0.5) / 4) for n in shape))
    spectra = []
    for image in means:
        fine = high_passed(image, smooth) * taper
        spectra.append(rfft2(fine / max(float(np.sqrt((fine**2).sum())), 1e-300), size))
    reach = [max(2, n // 4) for n in shape]
    window = np.ix_(*(np.arange(-n, n + 1) for n in reach))
    first, second = np.triu_indices(len(means), 1)
    found = np.empty((len(first), 2))
    for pair, (k, other) in enumerate(zip(first, second)):
        alike = irfft2(spectra[k].conj() * spectra[other], size)[window]
        place = np.unravel_index(int(np.argmax(alike)), alike.shape)
        found[pair] = [_peak(alike, (int(place[0]), int(place[1])), axis) - reach[axis] for axis in (0, 1)]
    matrix = np.zeros((len(first), len(means)))
    matrix[np.arange(len(first)), second], matrix[np.arange(len(first)), first] = 1.0, -1.0
    weight = np.ones(len(first))
    places: np.ndarray = np.zeros((len(means), 2))
    for _ in range(tuning.passes):
        places = np.linalg.lstsq(matrix * weight[:, None], found * weight[:, None], rcond=1e-9)[0]
        miss = np.abs(found - matrix @ places).max(axis=1)
        # a right peak misses by a fraction of a pixel, a wrong one lies anywhere
        kept = miss <= max(1.0, 4.0 * float(np.median(miss)))
        if (kept == (weight > 0)).all():
            break
        weight = kept.astype(np.float64)
    return np.asarray(places - places.mean(axis=0))


def _peak(alike: np.ndarray, place: tuple[int, ...], axis: int) -> float:
    """Where a correlation is largest along an axis: by a parabola through its largest sample and the two beside it."""
    at = place[axis]
    if not 0 < at < alike.shape[axis] - 1:
        return float(at)
    line = alike[:, place[1]] if axis == 0 else alike[place[0]]
    left, middle, right = (float(line[at + k]) for k in (-1, 0, 1))
    bend = left - 2 * middle + right
    return at + (0.5 * (left - right) / bend if bend < 0 else 0.0)


def refined_shifts(
    means: np.ndarray, path: np.ndarray, weight: np.ndarray, tuning: DriftTuning
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Places of the segments against the mean of all of them, brought to one place by a path that is about right.

    Parameters
    ----------
    means : (K, M1, M2) array
        Smoothed mean frames.
    path : (K, 2) array
        Places that are about right, camera pixels.
    weight : (M1, M2) array
        Relative weight of the pixels.
    tuning : DriftTuning

    Returns
    -------
    places : (K, 2) array
        Camera pixels.
    replicates : (B, K, 2) array
        The same of the field without one of B blocks.
    scales : (K,) array
        Variance of each place relative to their mean, from what the terms leave of each mean frame.
    mean : (M1, M2) array
        The mean of all segments, brought to the place 0.
    None if the light fills too few blocks, if the path leaves too little of the field, or if the two halves of the recording
    share too little light.
    """
    from scipy.ndimage import shift as shifted

    aligned = np.array([shifted(image, -place, order=3, mode="nearest") for image, place in zip(means, path)])
    margin = 3 + math.ceil(float(np.abs(path).max()))
    if min(means.shape[1:]) - 2 * margin < 2 * tuning.block:
        return None
    measured = _against_mean(aligned, weight, margin, tuning)
    if measured is None:
        return None
    steps, others, scales = measured
    return path + np.clip(steps, -tuning.longest_step, tuning.longest_step), path + others, scales, aligned.mean(axis=0)


def _against_mean(
    aligned: np.ndarray, weight: np.ndarray, margin: int, tuning: DriftTuning
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Shifts (K, 2) of images against their mean in linear approximation, (B, K, 2) without a block each, variances (K,)."""
    inside = (slice(margin, -margin), slice(margin, -margin))
    image = aligned.mean(axis=0)
    slopes = np.gradient(image)
    light = image - image[inside].min()
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape), indexing="ij")
    terms = np.stack([np.ones(image.shape), y, x, light, light * y, light * x, -slopes[0], -slopes[1]])[:, *inside]
    by = weight[inside].ravel()
    flat = terms.reshape(len(terms), -1)
    change = (aligned - image)[:, *inside].reshape(len(aligned), -1)
    blocks = []
    for size in terms.shape[1:]:
        number = min(tuning.most_blocks, max(3, size // tuning.block))
        blocks.append(np.arange(size) * number // size)
    label = (blocks[0][:, None] * (blocks[1].max() + 1) + blocks[1]).ravel()
    normal, right = [], []
    for k in range(label.max() + 1):
        here = label == k
        weighted = flat[:, here] * by[here]
        normal.append(weighted @ flat[:, here].T)
        right.append(weighted @ change[:, here].T)
    normals, rights = np.array(normal), np.array(right)
    power = normals[:, 6, 6] + normals[:, 7, 7]
    if not power.sum() > 0 or power.sum() ** 2 < tuning.fewest_blocks * (power**2).sum():
        return None
    rest = change - solve_normal(normals.sum(axis=0), rights.sum(axis=0)).T @ flat
    # half the difference of two images that share no light has slopes as steep as half their sum
    middle = len(aligned) // 2
    unlike = ((rest[:middle].mean(axis=0) - rest[middle:].mean(axis=0)) / 2).reshape(terms.shape[1:])
    unshared = sum(float((by * slope.ravel() ** 2).sum()) for slope in np.gradient(unlike))
    if not power.sum() > tuning.alike * unshared:
        return None
    prior = np.zeros(len(terms))
    # smoothing makes about 4 pi sigma^2 pixels say the same
    prior[4:6] = float((by * rest**2).mean()) * max(1.0, 4 * math.pi * tuning.smooth**2) / tuning.tilt**2
    damped = normals.sum(axis=0) + np.diag(prior)
    whole = solve_normal(damped, rights.sum(axis=0))
    # slopes fade with the light: an image of half the light that moves by s differs by half of s times the slope
    share = np.maximum(1.0 + whole[3], tuning.least_light)[:, None]
    left_out = [solve_normal(damped - n, rights.sum(axis=0) - r)[6:].T / share for n, r in zip(normals, rights)]
    noise = (by * rest**2).mean(axis=1) / share[:, 0] ** 2
    return whole[6:].T / share, np.array(left_out), noise / noise.mean()
