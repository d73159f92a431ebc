"""The flicker of a stack: photons per emission from the covariances of its pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..physics.psi import Psi
from ..physics.requirements import NOMINAL, require
from ..tuning import DEFAULT
from ..tuning.calibration import FlickerTuning
from .pixel_moments import PixelMoments, Shift, windows
from .regression import jackknife, solve_normal

__all__ = ["SHAPED", "SPREAD", "Flicker", "PairKernels", "fit_flicker", "pair_kernel", "spread_terms"]

#: Strengths that differ by less than this part are equal: they are sums of products in another order.
_TIE = 1e-6
#: Terms of a covariance that the PSF shapes: q, and six of a smooth background; then lamp, row noise, column noise.
SHAPED, SPREAD = 7, 3


class PairKernels:
    """Covariances of pixel pairs as the PSF predicts them.

    Emission is taken as uniform inside a camera pixel; then the mean image and the covariance at a shift are convolutions
    of the same emission.

    ``near`` shifts see the flicker, the strongest first, and consist of ``closer`` and ``wider`` ones, of which ``closest`` are
    the first; ``far`` shifts see only what camera and lamp have in common.
    """

    def __init__(self, psi: Psi, tuning: FlickerTuning = DEFAULT.calibration.flicker) -> None:
        require(psi, "width of the PSF", NOMINAL)
        self.tuning = tuning
        self.table, self.origin, self.shape = psi.table / psi.photons_per_emitter, psi.origin, psi.shape
        reach = [min(t, m - 1) for t, m in zip(self.table.shape[2:], self.shape)]
        self._choose(reach, lambda shift: float(self.kernel(shift).sum()))

    def _choose(self, reach: list[int], strength: Callable[[Shift], float]) -> None:
        """Find the strength of every shift within reach, and the shifts that see the flicker and those that do not."""
        tuning = self.tuning
        half_plane = [(0, right) for right in range(1, reach[1])]
        half_plane += [(down, right) for down in range(1, reach[0]) for right in range(1 - reach[1], reach[1])]
        #: Sum of the kernel at each shift: the covariance of a uniform emission.
        self.strength = {shift: strength(shift) for shift in [(0, 0), *half_plane]}
        at_zero = self.strength[0, 0]
        ranked = self._ranked(half_plane)
        strong = [tied for tied in ranked if self.strength[tied[0]] > tuning.strong * at_zero]
        groups = _first(strong, tuning.neighbours) or _first(ranked, tuning.fewest_neighbours)
        self.closer = [shift for tied in _first(groups, sum(map(len, groups)) // 2) for shift in tied]
        self.near = [shift for tied in groups for shift in tied]
        self.wider = self.near[len(self.closer) :]
        self.closest = [shift for tied in _first(groups, tuning.closest) for shift in tied]
        beyond = [
            1 + max((abs(s[axis]) for s in half_plane if self.strength[s] > tuning.far * at_zero), default=0) for axis in (0, 1)
        ]
        steps = [[math.ceil(k * r) for r in beyond] for k in tuning.distances]
        wanted = [shift for down, right in steps for shift in ((0, right), (down, 0), (down, right), (down, -right))]
        self.far = [s for s in wanted if s[0] <= self.shape[0] - 4 and abs(s[1]) <= self.shape[1] - 4]

    def _ranked(self, shifts: list[Shift]) -> list[list[Shift]]:
        """The shifts, strongest first, those of equal strength together.

        Mirror images and, for a round PSF, transposes of a shift are equally strong.  A cut between them would make an
        estimate depend on how the camera was mounted.
        """
        groups: list[list[Shift]] = []
        for shift in sorted(shifts, key=lambda shift: -self.strength[shift]):
            if groups and self.strength[shift] >= (1.0 - _TIE) * self.strength[groups[-1][0]]:
                groups[-1].append(shift)
            else:
                groups.append([shift])
        return groups

    def kernel(self, shift: Shift) -> np.ndarray:
        """:func:`pair_kernel` of the PSF."""
        return pair_kernel(self.table, shift)

    def predictor(self, mean: np.ndarray) -> Callable[[Shift], np.ndarray]:
        """Return the function of a shift that gives the covariance per unit of q, (M1, M2), from the mean image.

        A Wiener filter stands for the inverse of the blur: what it loses is lost to the prediction and does not bias the
        regression on it.  A constant background counts as emission.
        """
        from scipy.fft import irfft2, next_fast_len, rfft2

        pad = [max(-o, t + o) for o, t in zip(self.origin, self.table.shape[2:])]
        level = float(mean.mean())
        padded = np.pad(mean - level, [(p, p) for p in pad], mode="symmetric")
        size = tuple(next_fast_len(n, True) for n in padded.shape)

        def transfer(kernel: np.ndarray) -> np.ndarray:
            placed = np.zeros(size)
            places = [(np.arange(t) + o) % n for t, o, n in zip(kernel.shape, self.origin, size)]
            np.add.at(placed, np.ix_(*places), kernel)
            return rfft2(placed)

        blur = transfer(self.table.mean(axis=(0, 1)))
        total = float(blur[0, 0].real)
        emission = (
            rfft2(padded, size) * blur.conj() * (1.0 + self.tuning.wiener) / (np.abs(blur) ** 2 + self.tuning.wiener * total**2)
        )
        window = tuple(slice(p, p + m) for p, m in zip(pad, self.shape))

        def predict(shift: Shift) -> np.ndarray:
            kernel = self.kernel(shift)
            return irfft2(emission * transfer(kernel), size)[window] + level * kernel.sum() / total

        return predict


def _first(groups: list[list[Shift]], count: int) -> list[list[Shift]]:
    """The first groups, whole, that hold at least ``count`` shifts together; all if there are fewer."""
    held = np.cumsum([0, *map(len, groups)])
    return groups[: int(np.searchsorted(held, count))]


def pair_kernel(table: np.ndarray, shift: Shift) -> np.ndarray:
    """Mean over the phases of T[k] T[k + shift], on the taps of a polyphase table; its sum is the PSF's autocorrelation."""
    first, second = windows(shift, table.shape[2:])
    kernel = np.zeros(table.shape[2:])
    kernel[first] = (table[:, :, *first] * table[:, :, *second]).mean(axis=(0, 1))
    return kernel


@dataclass
class Flicker:
    """Coefficients of the covariance: all pixels first, then one jackknife replicate per row.

    ``terms`` are what the first eight stand for at shift zero; ``disagreement`` is the relative difference between q from
    the closer and from the wider near pairs, 0 where it is within the noise.  ``misfit`` is what one q for the whole field
    leaves unexplained of the closest pairs' covariances, a root mean square relative to theirs: near 0 where many emissions
    overlap, half and more where each place has seen a few only.
    """

    fast: np.ndarray
    whole: np.ndarray
    terms: np.ndarray
    disagreement: float
    misfit: float

    def variance(self, replicate: int) -> np.ndarray:
        """Flicker of sample and lamp in the variance of consecutive differences, (M1, M2)."""
        return np.tensordot(self.fast[replicate, : len(self.terms)], self.terms, axes=1)


def fit_flicker(
    moments: PixelMoments, optics: PairKernels, used: np.ndarray, weight: np.ndarray, offset: float, blocks: np.ndarray
) -> Flicker:
    """Regress the covariances on what flicker, lamp and read-out would give.

    Far pairs share no emitter.  They determine the flicker of the lamp, which acts on all pixels at once, and the noise common
    to a row or a column.  Near pairs, less these, determine the flicker of the sample.  A static and smooth background is part
    of the mean and not of the covariance; a quadratic surface accounts for it.
    """
    from scipy.ndimage import median_filter

    shape, count, total = moments.mean.shape, int(blocks.max()) + 1, SHAPED + SPREAD
    mean = np.where(used, moments.mean, median_filter(moments.mean, 3))
    light = mean - offset
    predict = optics.predictor(light)
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    surface = np.stack([np.ones(shape), y, x, y * y, x * y, x * x])

    groups = optics.closer, optics.wider, optics.far
    normal, right = np.zeros((3, count, total, total)), np.zeros((3, count, total, 2))
    for group, shifts in enumerate(groups):
        for shift in shifts:
            first, second = windows(shift, shape)
            taken = used[first] & used[second]
            design = np.zeros((total, int(taken.sum())))
            if shifts is not optics.far:
                design[0] = predict(shift)[first][taken]
                design[1:SHAPED] = optics.strength[shift] * between(surface, first, second)[:, taken]
            design[SHAPED:] = spread_terms(light, shift, taken)
            targets = np.stack([moments.fast[shift][taken], moments.whole[shift][taken]])
            scaled = design * np.sqrt(weight[first] * weight[second])[taken]
            # a pair belongs to the blocks of both its pixels, by halves: it has no first one when the field is mirrored
            labels = blocks[first][taken], blocks[second][taken]
            for block in range(count):
                share = 0.5 * ((labels[0] == block).astype(float) + (labels[1] == block))
                inside = share > 0
                mine = share[inside] * scaled[:, inside]
                normal[group, block] += mine @ design[:, inside].T
                right[group, block] += mine @ targets[:, inside].T

    whole_field = np.concatenate([normal.sum(axis=1)[None], normal.sum(axis=1) - normal.swapaxes(0, 1)])
    whole_right = np.concatenate([right.sum(axis=1)[None], right.sum(axis=1) - right.swapaxes(0, 1)])
    solved, halves = [], []
    for n, r in zip(whole_field, whole_right):
        spread = solve_normal(n[2, SHAPED:, SHAPED:], r[2, SHAPED:])
        left = r[:, :SHAPED] - n[:, :SHAPED, SHAPED:] @ spread
        n = n[:, :SHAPED, :SHAPED]
        solved.append(np.concatenate([solve_normal(n[0] + n[1], left[0] + left[1]), spread]))
        halves.append([solve_normal(n[k], left[k])[0, 1] for k in (0, 1)])
    fast, whole = np.moveaxis(np.array(solved), 2, 0)
    difference = np.array(halves)[:, :1] - np.array(halves)[:, 1:]
    clear = (
        groups[1] and whole[0, 0] > 0 and abs(difference[0, 0]) > optics.tuning.disagreement_errors * jackknife(difference)[0]
    )
    terms = np.concatenate([predict((0, 0))[None], optics.strength[0, 0] * surface, light[None] ** 2])
    flicker = np.tensordot(fast[0, : len(terms)], terms, axes=1)
    left = power = 0.0
    for shift in optics.closest:
        first, second = windows(shift, shape)
        taken = used[first] & used[second]
        shaped = np.concatenate([predict(shift)[first][None], optics.strength[shift] * between(surface, first, second)])
        expected = np.tensordot(fast[0, :SHAPED], shaped, axes=1)[taken] + fast[0, SHAPED:] @ spread_terms(light, shift, taken)
        seen = moments.fast[shift][taken]
        # a mean product of consecutive differences scatters by 1.5 / frames of both variances; shot and read noise have no
        # part in how well one q describes the flicker
        both = moments.variance[first] * moments.variance[second] - flicker[first] * flicker[second]
        left += float(((seen - expected) ** 2 - 1.5 / moments.brightness.size * both[taken]).sum())
        power += float((seen**2).sum())
    misfit = math.sqrt(max(left, 0.0) / power) if power > 0 else 0.0
    return Flicker(fast, whole, terms, abs(difference[0, 0]) / whole[0, 0] if clear else 0.0, misfit)


def between(surface: np.ndarray, first: tuple[slice, slice], second: tuple[slice, slice]) -> np.ndarray:
    """A surface at pairs of pixels: the mean of both, so that a mirrored field has the mirrored one."""
    return np.asarray(0.5 * (surface[:, *first] + surface[:, *second]))


def spread_terms(light: np.ndarray, shift: Shift, taken: np.ndarray) -> np.ndarray:
    """What lamp, row noise and column noise add to the covariances of the pairs ``taken``, (3, pairs), per unit of each."""
    first, second = windows(shift, light.shape)
    terms = np.zeros((SPREAD, int(taken.sum())))
    terms[0] = (light[first] * light[second])[taken]
    terms[1], terms[2] = shift[0] == 0, shift[1] == 0
    return terms
