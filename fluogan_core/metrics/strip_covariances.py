r"""The frames of a strip against profiles without a gap, by their covariances.

Molecules at s that blink let the bins of a strip vary together: with u_s what the bins see of a line at s, their covariance is

.. math:: C = N + \sum_s \nu(s)\,u_s u_s^T,

with N the noise of detection and :math:`\nu(s) \ge 0` the light at s times the photons of an emission.  This is linear in
:math:`\nu` as the mean is in the light :math:`\lambda`, so the same sets of profiles are compared with it.
:math:`u_s u_s^T` is narrower than u_s, which is why covariances can hold gaps that the mean does not.

Covariances are taken in pieces of the strip about as long as the PSF is wide, and within blocks of successive frames, where
slow changes cancel; both are averaged.  The size of the noise, a lamp that flickers and a sample that trembles are fitted
besides.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from .sections import Profiles, Section, distance
from .strip_noise import BLOCKS, noise_of_blocks, whitening

__all__ = ["LEAST_FRAMES", "CovarianceStrip", "blocks_of"]

#: Least frames in a block whose covariance is taken: what is slower is lost, and molecules stay on for some frames.
_LEAST_BLOCK = 12
#: Fewer frames have no covariances: a third of the blocks would be left.
LEAST_FRAMES = 8 * _LEAST_BLOCK
#: The noise of detection is not taken to be less than this part of what is stated.
_LEAST_NOISE = 0.1


def blocks_of(frames: int) -> int:
    """Number of blocks of so many frames."""
    return min(BLOCKS, max(1, frames // _LEAST_BLOCK))


class CovarianceStrip:
    """Whitened covariances of a strip, and what profiles look like in them.

    Parameters
    ----------
    section : Section
    frames : (T, P) float64
        Pixels of the strip in every frame, photons.
    variance : (P,) float64
        Of the noise of detection in one frame.
    light : (P,) float64
        Mean of the pixels above the background: the pattern of a lamp that flickers.
    slope : (P,) float64
        Its slope across the strip: the pattern of a sample that trembles.

    Attributes
    ----------
    target : (R,) float64
        Data, in standard deviations.
    profiles : Profiles
        What light at each source looks like in the data.
    wider : float
        Distance of the two lines that are offered to the fit, of that in the image.  Covariances tell one that is too large
        from the true one, which the mean hardly does.
    flickers : bool
        Whether there is more than noise and the two patterns.
    blocks : (K, R) float64
        What each block would say by itself; their mean by ``shares`` is the target, but for what no profile can explain.
    shares : (K,) float64
        Frames of a block, of all.
    """

    def __init__(
        self, section: Section, frames: np.ndarray, variance: np.ndarray, light: np.ndarray, slope: np.ndarray
    ) -> None:
        pieces = section.pieces()
        edges = np.linspace(0, len(frames), blocks_of(len(frames)) + 1).astype(int)
        free = np.diff(edges) - 1.0
        self.shares = free / free.sum()
        size = len(section.spread)
        covariances, noise = np.zeros((len(free), size, size)), np.zeros((size, size))
        lamp, tremble = np.zeros((size, size)), np.zeros((size, size))
        for weights, _ in pieces:
            bins = frames @ weights.T
            covariances += [np.cov(bins[first:last].T) for first, last in itertools.pairwise(edges)]
            noise += (weights * variance) @ weights.T
            lamp += np.outer(weights @ light, weights @ light)
            tremble += np.outer(weights @ slope, weights @ slope)
        spreads = np.array([spread for _, spread in pieces])
        whole = np.einsum("k,kij->ij", self.shares, covariances)
        self._bins = np.triu_indices(size)
        # the entries of a covariance of white bins scatter by this much: twice the variance on the diagonal
        count = free.sum() * len(pieces)
        self._scale = np.sqrt(np.where(self._bins[0] == self._bins[1], count / 2, count))
        expected = noise
        for _ in range(3):
            root = np.linalg.inv(whitening(expected))
            products = self._products(root, spreads)
            level = self._entries(root, noise)[:, None]
            seen = self._entries(root, whole)
            left, weights = distance(seen, np.concatenate([level, products @ section.blurs], axis=1))
            flicker = (section.blurs @ weights[1:])[None, None]
            expected = max(weights[0], _LEAST_NOISE) * noise + np.einsum("kis,kjs->ij", spreads * flicker, spreads)
        self.flickers = bool(weights[1:].any())
        root = np.linalg.inv(whitening(expected))
        products = self._products(root, spreads)
        level, lamps, trembles = (self._entries(root, part)[:, None] for part in (noise, lamp, tremble))
        besides = np.concatenate([level, -level, lamps, -lamps, trembles], axis=1)
        blocks, seen = self._entries(root, covariances), self._entries(root, whole)
        # few bright molecules scatter more than Gaussian frames, by fourth cumulants: products of what bins see of them
        shares = self.shares[:, None] * math.sqrt(len(blocks) / (len(blocks) - 1))
        shapes = [(products * part) @ products.T for part in (flicker[0, 0], np.ones(len(section.sources)))]
        white = np.linalg.inv(whitening(noise_of_blocks(shares * (blocks - seen), np.eye(len(seen)), shapes)))
        seen, blocks, columns = white @ seen, blocks @ white.T, white @ np.concatenate([besides, products], axis=1)
        # what no light explains says less: of a PSF that is described wrongly, say
        left, weights = distance(seen, columns)
        unit = max(1.0, left / math.sqrt(max(1, len(seen) - int((weights > 0).sum()))))
        basis, small = np.linalg.qr(columns / unit)
        self.target, self.blocks = basis.T @ seen / unit, blocks @ basis / unit
        self.wider = 1.0
        self._besides = small[:, : besides.shape[1]]
        self.profiles = Profiles(small[:, besides.shape[1] :], section.sources, section.width)

    def _entries(self, root: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """(..., N): the entries of covariances (..., B, B) of the bins, in units of their scatter."""
        white = root @ covariance @ root.T
        return np.asarray(white[..., self._bins[0], self._bins[1]] * self._scale)

    def _products(self, root: np.ndarray, spreads: np.ndarray) -> np.ndarray:
        """(N, S): the same of the covariances of molecules at each source."""
        white = root @ spreads
        return np.asarray((white[:, self._bins[0]] * white[:, self._bins[1]]).sum(axis=0) * self._scale[:, None])

    def columns(self, profiles: np.ndarray) -> np.ndarray:
        """Profiles, after noise of another size, a lamp that flickers and a sample that trembles."""
        return np.concatenate([self._besides, profiles], axis=1)
