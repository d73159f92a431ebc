"""The flicker of a window of a stack in smooth modes: its covariance, the noise in it, and what a source adds to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..physics.polyphase import plane_table
from ..physics.psi import Psi
from ..tuning.psf_shape import PSFShapeTuning
from .brightest import Part, brightest_part
from .pixel_moments import windows
from .stack_statistics import StackStatistics

__all__ = ["FlickerModes", "ModeCovariances", "flicker_window"]

#: Frames that are transformed at a time.
_TOGETHER = 256
#: OTF cutoff of a PSF without aberrations, in units of 1 / FWHM.
_CUTOFF = 1.03


@dataclass(frozen=True, eq=False)
class ModeCovariances:
    """Covariances of the modes, about a slow trend of each.

    Attributes
    ----------
    blocks : (B, P, P) float64
        Sums of products of consecutive blocks of the frames.
    degrees : int
        Their sum over this is the covariance.
    """

    blocks: np.ndarray
    degrees: int

    @property
    def whole(self) -> np.ndarray:
        """The covariance, (P, P)."""
        return np.asarray(self.blocks.sum(axis=0) / self.degrees)


def window_side(psi: Psi, fwhm: float, tuning: PSFShapeTuning) -> int:
    """Camera pixels along a side of a window that holds so many modes which the PSF passes."""
    cutoff = min(tuning.band * _CUTOFF * psi.factor / fwhm, 0.7)
    return int(math.sqrt(4.0 * tuning.modes / math.pi) / (2.0 * cutoff))


def flicker_window(statistics: StackStatistics, side: int) -> Part:
    """Return the window of the field whose neighbouring pixels flicker most together."""
    shifts = [(0, 1), (1, 0)]
    covariances = statistics.moments(shifts).whole
    live, shape = statistics.live[0], statistics.frames.shape[1:]
    flicker = np.zeros(shape)
    for shift in shifts:
        first, second = windows(shift, shape)
        half = np.where(live[first] & live[second], 0.5 * covariances[shift], 0.0)
        flicker[first] += half
        flicker[second] += half
    return brightest_part(flicker, side)


class FlickerModes:
    """A window in cosine modes of the frequencies that the PSF passes.

    Parameters
    ----------
    statistics : StackStatistics
    psi : Psi
        With the PSF as described.
    fwhm : float
        Of its core, fine pixels.
    tuning : PSFShapeTuning

    Attributes
    ----------
    size : (int, int)
        Camera pixels of the window.
    noise : (6, P, P) float64
        Covariances of what is no flicker of sources: noise that is alike everywhere, noise of photons, noise of pixels that
        differ, a lamp, noise common to the pixels of a row, and to those of a column; each of trace P.
    """

    def __init__(self, statistics: StackStatistics, psi: Psi, fwhm: float, tuning: PSFShapeTuning) -> None:
        from scipy.fft import dct

        self.psi, self.tuning, self.frames = psi, tuning, statistics.frames
        self.window = flicker_window(statistics, window_side(psi, fwhm, tuning))
        self.live = statistics.live[0][self.window]
        self.size = (self.live.shape[0], self.live.shape[1])
        self._cosines = [dct(np.eye(n), axis=0, norm="ortho") for n in self.size]
        rows, columns = (np.arange(n) / (2.0 * n) for n in self.size)
        self._passed = np.hypot(rows[:, None], columns) < tuning.band * _CUTOFF * psi.factor / fwhm
        self._passed[0, 0] = False
        moments = statistics.moments()
        self.mean, variance = (self._filled(image[self.window][None])[0] for image in (moments.mean, moments.variance))
        self.noise = self._noise(variance)

    @property
    def count(self) -> int:
        """Number of modes, P."""
        return int(self._passed.sum())

    def _filled(self, frames: np.ndarray) -> np.ndarray:
        """Frames of the window in which pixels that are not live have the mean of their live neighbours."""
        if self.live.all():
            return frames
        from scipy.ndimage import uniform_filter

        near = uniform_filter(self.live.astype(np.float64), 3, mode="constant")
        means = uniform_filter(np.where(self.live, frames, 0.0), (0, 3, 3), mode="constant") / np.maximum(near, 1e-3)
        return np.asarray(np.where(self.live, frames, means))

    def transformed(self, images: np.ndarray) -> np.ndarray:
        """Modes of images of the window, (n, P)."""
        down, across = self._cosines
        return np.asarray((down @ images @ across.T)[:, self._passed])

    def _noise(self, variance: np.ndarray) -> np.ndarray:
        down, across = self._cosines
        # variances are gain times what is above the offset, which is not above the darkest pixel, and a constant
        light = self.mean - self.mean.min()
        modes = np.einsum("ai,bj->abij", down, across)[self._passed].reshape(self.count, -1)
        lamp = self.transformed((self.mean - self.mean.mean())[None])[0]
        first, second = np.nonzero(self._passed)
        of_pixels = [(modes * image.ravel()) @ modes.T for image in (light, variance)]
        kinds = [np.eye(self.count), *of_pixels, np.outer(lamp, lamp)]
        kinds += [np.diag((number == 0).astype(np.float64)) for number in (second, first)]
        return np.array([kind * (self.count / max(np.trace(kind), 1e-300)) for kind in kinds])

    def covariances(self, trend: np.ndarray, *, consecutive: bool = False) -> ModeCovariances:
        """Return the covariances of the modes about an orthonormal trend, (T, k); ``consecutive``, those of what changes."""
        parts = []
        for first in range(0, len(self.frames), _TOGETHER):
            part = self.frames[first : first + _TOGETHER, self.window[0], self.window[1]].astype(np.float64)
            parts.append(self.transformed(self._filled(part) - self.mean).astype(np.float32))
        modes = np.concatenate(parts)
        modes -= trend.astype(np.float32) @ (trend.T.astype(np.float32) @ modes)
        degrees = len(modes) - trend.shape[1]
        if consecutive:
            modes = np.diff(modes, axis=0) * np.float32(math.sqrt(0.5))
            degrees = len(modes)
        blocks = np.array_split(modes, min(self.tuning.blocks, len(modes)))
        products = np.array([(block.T @ block) for block in blocks], dtype=np.float64)
        return ModeCovariances(products, degrees)

    def columns(self, kernel: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Modes of what sources at these fine pixels send through a kernel of the fine grid, (P, n)."""
        factor = self.psi.factor
        table, *origin = plane_table(kernel, (factor, factor), self.psi.binning)
        cell, phase = places // factor, places % factor
        at, inside = [], []
        for axis in (0, 1):
            tap = np.arange(self.size[axis]) - cell[:, axis, None] - origin[axis]
            inside.append((tap >= 0) & (tap < table.shape[2 + axis]))
            at.append(np.clip(tap, 0, table.shape[2 + axis] - 1))
        images = table[phase[:, 0, None, None], phase[:, 1, None, None], at[0][:, :, None], at[1][:, None, :]]
        return self.transformed(images * (inside[0][:, :, None] & inside[1][:, None, :])).T

    def grid(self, step: int, margin: int) -> np.ndarray:
        """Fine pixels, every ``step``-th from the middle of the window up to ``margin`` of them beyond it, (n, 2)."""
        lines = []
        for n in self.size:
            length = n * self.psi.factor
            # mirrored it is itself: the middle is a place, or lies between two
            right = np.arange(length // 2, length + margin, step)
            lines.append(np.unique([*(length - 1 - right), *right]))
        return np.array(np.meshgrid(*lines, indexing="ij")).reshape(2, -1).T

    def brightness(self, places: np.ndarray, blur: float) -> np.ndarray:
        """Light of the mean frame about these fine pixels above its darkest part, between 0.02 and 1.02; blurred, in pixels."""
        from scipy.ndimage import gaussian_filter

        light = gaussian_filter(np.maximum(self.mean - np.quantile(self.mean, 0.05), 0.0), blur)
        peak = float(light.max())
        pixels = [np.clip(places[:, axis] // self.psi.factor, 0, self.size[axis] - 1) for axis in (0, 1)]
        return np.asarray((light / peak if peak > 0 else light)[pixels[0], pixels[1]] + 0.02)
