r"""How much the mean of a strip scatters: shot noise, and molecules that blink.

Shot noise and read noise follow from the mean frame.  Blinking adds to them: molecules at s that the bins see as u_s add
:math:`\nu(s)\,u_s u_s^T` to the covariance of the mean of the bins, with :math:`\nu(s) \ge 0`.  Photons per molecule and how
long a molecule stays on are unknown, so the size of :math:`\nu` is measured: by the scatter of the means of successive blocks
of frames.  Two shapes of :math:`\nu` are mixed: the light above the background, and an even one.  The even one is what is left
where a part of the light was taken for background.

Molecules that stay on from one block into the next make neighbouring blocks alike, and the mean of all frames scatters more
than independent blocks say.  Products of neighbouring blocks are counted too.  For a correlation that decays exponentially
with a time :math:`\tau` the mean of a block of length T has the variance :math:`2\sigma^2\tau/T\,(1-\tau/T)`, and twice the
product of neighbours is :math:`2\sigma^2\tau^2/T^2`, both to :math:`e^{-T/\tau}`: their sum is the long-run variance.
"""

from __future__ import annotations

import numpy as np

from .sections import Section, distance

__all__ = ["BLOCKS", "block_means", "noise_of_blocks", "noise_of_mean", "whitening"]

#: Blocks of successive frames, at most and at least, and frames of one, where there are enough.
BLOCKS, _FEWEST, _LEAST = 24, 6, 4
#: Each pass weighs the blocks by the noise that the pass before it found.
_PASSES = 3


def whitening(noise: np.ndarray) -> np.ndarray:
    """The lower triangular root of a covariance, (B, B)."""
    return np.asarray(np.linalg.cholesky(noise + 1e-9 * np.trace(noise) / len(noise) * np.eye(len(noise))))


def block_means(bins: np.ndarray, count: int) -> np.ndarray:
    """Means of blocks of successive frames, (count, B)."""
    edges = np.linspace(0, len(bins), count + 1).astype(int)
    return np.asarray(np.add.reduceat(bins, edges[:-1], axis=0) / np.diff(edges)[:, None])


def noise_of_mean(section: Section, bins: np.ndarray, detection: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Estimate the covariance of the mean of a strip's bins.

    Parameters
    ----------
    section : Section
    bins : (T, B) float64
        Bins of every frame, photons, in the order of recording, without the trend of bleaching.
    detection : (B, B) float64
        Covariance of the mean by shot noise and read noise.
    light : (B,) float64
        Mean of the bins above the background.

    Returns
    -------
    (B, B) float64
        At least ``detection``.
    """
    means = block_means(bins, min(BLOCKS, len(bins), max(_FEWEST, len(bins) // _LEAST)))
    count = len(means)
    # the sum of squares of these is that of the mean of all frames, if blocks are independent
    apart = (means - means.mean(axis=0)) / np.sqrt(count * (count - 1))
    root = whitening(detection)
    parts = distance(np.linalg.solve(root, light), np.linalg.solve(root, section.spread @ section.blurs))[1]
    flickers = (section.blurs @ parts, np.ones(len(section.sources)))
    shapes = [(section.spread * flicker) @ section.spread.T for flicker in flickers if flicker.any()]
    return noise_of_blocks(apart, detection, shapes)


def noise_of_blocks(apart: np.ndarray, least: np.ndarray, shapes: list[np.ndarray]) -> np.ndarray:
    """Estimate the covariance of a mean of blocks, from how the blocks scatter and what shapes that can have.

    Parameters
    ----------
    apart : (K, B) float64
        Blocks minus their mean, so scaled that the sum of squares is the variance of the mean of independent blocks.
    least : (B, B) float64
        What the covariance is at least.
    shapes : list of (B, B) float64
        What may come to it, each in a size that is measured.

    Returns
    -------
    (B, B) float64
    """
    whole = least
    for _ in range(_PASSES):
        whole = least + _fitted(shapes, apart, least, np.linalg.inv(whitening(whole)))
    return whole


def _fitted(shapes: list[np.ndarray], apart: np.ndarray, detection: np.ndarray, white: np.ndarray) -> np.ndarray:
    """(B, B): the non-negative mixture of shapes that is nearest to what blocks scatter beyond detection."""
    from scipy.optimize import nnls

    seen = apart @ white.T
    kinds = np.array([white @ shape @ white.T for shape in shapes])
    scatter = seen.T @ seen
    # the mean that was taken from the blocks makes neighbours look less alike, by 1 in so many blocks
    alike = seen[:-1].T @ seen[1:] + scatter / len(apart)
    beyond = scatter + alike + alike.T - white @ detection @ white.T
    sizes = nnls(kinds.reshape(len(kinds), -1).T, beyond.ravel())[0]
    return np.asarray(np.einsum("k,kij->ij", sizes, np.array(shapes)))
