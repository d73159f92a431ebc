r"""Photons per emission, from where a stack flickers and how bright it is there.

Covariances of near pixels are :math:`q` times what the PSF predicts from the light of the molecules (:mod:`.flicker`).  The
mean frame is that light, and noise, and a background that does not flicker.  Least squares of the covariances on what the mean
frame predicts are too low by all that is not the molecules' light.  So places are weighed by what flickers, as seen in other
frames: with the covariances :math:`S` of one half of the frames, what its mean frame predicts, :math:`F`, and a map :math:`g`
of the flicker in the other half,

.. math:: q = \langle g, S \rangle / \langle g, F \rangle

(g is an instrumental variable: Wald 1940, Reiersol 1941).  The noise of g is that of other frames, and a background that does
not flicker is not in it but by chance.  Surfaces of the field's coordinates, and the mean frame blurred by the PSF's width, are
fitted along, so that a smooth background has no part in it.  What another blur would change is part of the error.

Where g says too little (a sample that fills the field, or does not flicker) the sums of covariances and of predictions are
compared.  A background counts as light then, and q is the least it may be.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .flicker import SPREAD, PairKernels, between, spread_terms
from .pixel_moments import PixelMoments, Shift, in_two, windows
from .regression import solve_normal

__all__ = ["FlickerStrength", "flicker_strength"]


class FlickerStrength(NamedTuple):
    """q, counts per emission, of the covariances of the whole stack and of consecutive differences.

    Attributes
    ----------
    replicates : (1 + n, 2) float64
        All pixels first, then without each block.
    clear : float
        Standard errors by which what flickers in other frames has a part in the light: about normal where nothing flickers.
    known : bool
        Whether that is enough to tell the light of the molecules from a background; else q is the least it may be.
    doubt : float
        What q changes by with how smooth a background is taken to be.
    """

    replicates: np.ndarray
    clear: float
    known: bool
    doubt: float


def flicker_strength(
    moments: PixelMoments,
    optics: PairKernels,
    used: np.ndarray,
    weight: np.ndarray,
    offset: float,
    blocks: np.ndarray,
    width: float,
) -> FlickerStrength:
    """Find by how much light flickers.

    Parameters
    ----------
    moments : PixelMoments
        With the near shifts of ``optics``.
    optics : PairKernels
    used : (M1, M2) bool
    weight : (M1, M2)
        Of a pixel, one over its variance.
    offset : float
        Counts without light.
    blocks : (M1, M2) int
        Of the jackknife.
    width : float
        Standard deviation of the PSF, camera pixels.

    Returns
    -------
    FlickerStrength
    """
    halves, count = moments.halves, int(blocks.max()) + 1
    light = _filled(moments.mean, used) - offset
    predictors = [optics.predictor(mean) for mean in _filled(halves.mean, used) - offset]
    smooth = _smooth(light, used, optics.tuning.smooth * width)
    whole, fast = (_less_shared(covariances, optics, light, used, weight) for covariances in (halves.whole, halves.fast))
    maps = [_FlickerMap(moments, whole, number, optics, used, width) for number in (0, 1)]
    # rows: the instrument, and what is smooth; columns: the prediction, what is smooth, both targets
    seen, sums = np.zeros((count, 1 + len(smooth), 3 + len(smooth))), np.zeros((count, 3))
    predicted: dict[tuple[Shift, int], np.ndarray] = {}
    for shift in optics.near:
        pairs = _Pairs(shift, used, optics.strength[shift])
        surfaces, root = pairs.between(smooth), np.sqrt(pairs.product(weight))
        shares = [pairs.between((blocks == block)[None].astype(float), 1.0)[0] for block in range(count)]
        for number, other in ((0, 1), (1, 0)):
            predicted[shift, number] = predictors[number](shift)[pairs.first][pairs.taken]
            columns = np.stack([predicted[shift, number], *surfaces, whole[shift][number], fast[shift][number]])
            rows = np.concatenate([pairs.between(maps[other].values[None]), surfaces]) * root
            for block, share in enumerate(shares):
                inside = share > 0
                seen[block] += (share[inside] * rows[:, inside]) @ columns[:, inside].T
                sums[block] += pairs.strength * (columns[[0, -2, -1]][:, inside] @ share[inside])
    # of the two blurred images one is fitted along
    as_usual, otherwise = np.delete(np.arange(1 + len(smooth)), -1), np.delete(np.arange(1 + len(smooth)), -2)
    all_seen = seen.sum(axis=0)
    smooth_part = solve_normal(all_seen[np.ix_(as_usual[1:], as_usual[1:])], all_seen[as_usual[1:], :1])[:, 0]
    noise = 0.0
    for other, one in enumerate(maps):
        for shift in optics.near:
            pairs = _Pairs(shift, used, optics.strength[shift])
            left = predicted[shift, 1 - other] - smooth_part @ pairs.between(smooth[:-1])
            one.weigh(pairs, left * np.sqrt(pairs.product(weight)))
        noise += one.variance_of_weighed()
    clear = float(all_seen[0, 0] - all_seen[0, as_usual[1:]] @ smooth_part) / noise**0.5 if noise > 0 else 0.0
    if clear > optics.tuning.instrument:
        q = np.array([_ratios(each, as_usual) for each in _left_out(seen)])
        return FlickerStrength(q, clear, True, abs(float(q[0, 0] - _ratios(all_seen, otherwise)[0])))
    sums = _left_out(sums)
    q = np.divide(sums[:, 1:], sums[:, :1], out=np.zeros_like(sums[:, 1:]), where=sums[:, :1] > 0)
    return FlickerStrength(q, clear, False, 0.0)


class _Pairs:
    """Pairs of used pixels at a shift, and what lies between them."""

    def __init__(self, shift: Shift, used: np.ndarray, strength: float) -> None:
        self.first, self.second = windows(shift, used.shape)
        self.shift, self.strength, self.taken = shift, strength, used[self.first] & used[self.second]

    def between(self, images: np.ndarray, strength: float | None = None) -> np.ndarray:
        """Images (n, M1, M2) at the pairs, in units of the covariance that even emission would have, (n, pairs)."""
        return (self.strength if strength is None else strength) * between(images, self.first, self.second)[:, self.taken]

    def product(self, image: np.ndarray) -> np.ndarray:
        """Values of both pixels multiplied, (pairs,)."""
        return np.asarray((image[self.first] * image[self.second])[self.taken])

    def spread(self, values: np.ndarray, image: np.ndarray) -> None:
        """Add values of pairs to both of their pixels."""
        mine = np.zeros(self.taken.shape)
        mine[self.taken] = values
        image[self.first] += mine
        image[self.second] += mine


class _FlickerMap:
    """What flickers in one half of the frames: the covariances of all pairs around each place, and the noise of that."""

    def __init__(
        self,
        moments: PixelMoments,
        covariances: dict[Shift, np.ndarray],
        number: int,
        optics: PairKernels,
        used: np.ndarray,
        width: float,
    ) -> None:
        self.width, self.variance = width, moments.variance
        first = in_two(moments.brightness.size)[1]
        self.frames = max((first, moments.brightness.size - first)[number] - 1, 1)
        self.pairs = [_Pairs(shift, used, optics.strength[shift]) for shift in optics.near]
        above, below = np.zeros(used.shape), np.zeros(used.shape)
        for pairs in self.pairs:
            of_pairs = covariances[pairs.shift][number]
            pairs.spread(pairs.strength * of_pairs, above)
            pairs.spread(np.full(of_pairs.shape, pairs.strength**2), below)
        below = _blurred(below, width)
        self._scale = np.divide(1.0, below, out=np.zeros(used.shape), where=below > 0)
        self.values = self._scale * _blurred(above, width)
        self._weighed = np.zeros(used.shape)

    def weigh(self, pairs: _Pairs, values: np.ndarray) -> None:
        """Add to the product of the map, between the pixels of pairs, with these values."""
        pairs.spread(0.5 * pairs.strength * values, self._weighed)

    def variance_of_weighed(self) -> float:
        """Variance of that product if nothing flickers: then covariances are independent, of variance v v' / frames."""
        of_place = _blurred(self._weighed * self._scale, self.width)
        return (
            sum(
                float(
                    ((pairs.strength * 2.0 * pairs.between(of_place[None], 1.0)[0]) ** 2 * pairs.product(self.variance)).sum()
                )
                for pairs in self.pairs
            )
            / self.frames
        )


def _filled(mean: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Mean frames (..., M1, M2) with the median of its neighbours where a pixel is not used."""
    from scipy.ndimage import median_filter

    return np.asarray(np.where(used, mean, median_filter(mean, (1,) * (mean.ndim - 2) + (3, 3))))


def _smooth(light: np.ndarray, used: np.ndarray, width: float) -> np.ndarray:
    """What a smooth background may look like: surfaces of the field's coordinates, the light blurred little and much.

    (8, M1, M2).
    """
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in light.shape), indexing="ij")
    blurred = [
        _blurred(light * used, blur) / np.maximum(_blurred(used.astype(float), blur), 1e-9) for blur in (width, 2.0 * width)
    ]
    scaled = [image / max(float(np.abs(image).max()), 1e-300) for image in blurred]
    return np.stack([np.ones(light.shape), y, x, y * y, x * y, x * x, *scaled])


def _blurred(image: np.ndarray, width: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(image, width, mode="constant"))


def _less_shared(
    covariances: dict[Shift, np.ndarray], optics: PairKernels, light: np.ndarray, used: np.ndarray, weight: np.ndarray
) -> dict[Shift, np.ndarray]:
    """Covariances of near pairs of used pixels, (2, pairs), less what a lamp, rows and columns fluctuate together by.

    The two halves of the frames have lamps of their own: far pairs, which share no molecule, tell.
    """
    normal, right = np.zeros((SPREAD, SPREAD)), np.zeros((SPREAD, 2))
    for shift in optics.far:
        pairs = _Pairs(shift, used, 1.0)
        terms = spread_terms(light, shift, pairs.taken)
        weighed = terms * np.sqrt(pairs.product(weight))
        normal += weighed @ terms.T
        right += weighed @ covariances[shift][:, pairs.taken].T
    shared = solve_normal(normal, right)
    less = {}
    for shift in optics.near:
        taken = _Pairs(shift, used, 1.0).taken
        less[shift] = covariances[shift][:, taken] - shared.T @ spread_terms(light, shift, taken)
    return less


def _left_out(blocks: np.ndarray) -> np.ndarray:
    """The sum over blocks, then that without each of them."""
    return np.concatenate([blocks.sum(axis=0)[None], blocks.sum(axis=0) - blocks])


def _ratios(seen: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """q of both targets: the instrument's products with them over that with the prediction, what is smooth taken out.

    ``terms`` are the instrument, which is 0, and what is smooth.
    """
    seen = seen[terms][:, np.append(terms, (-2, -1))]
    taken_out = solve_normal(seen[1:, 1:-2], seen[1:])
    left = seen[0] - seen[0, 1:-2] @ taken_out
    return np.asarray(left[-2:] / left[0] if left[0] else np.zeros(2))
