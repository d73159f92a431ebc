"""Noise of a stack and of its mean frame.  The solver's weights and number of iterations depend on both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..backend.arrays import default_memory_budget
from ..backend.typing import Array
from ..physics.psi import Psi
from ..tuning import DEFAULT
from ..tuning.calibration import NoiseTuning
from .digits import nine_digits

__all__ = ["StackNoise", "check_largest", "noise_from", "stack_noise", "temporal_moments"]

#: Median of chi-square with one degree of freedom, its mean being 1.
_MEDIAN = 0.4549364
#: The error of the ratio of mean and median power is this over the root of the number of frequencies, for white noise.
_RATIO = 1.9
#: Chi-square that one frequency in a thousand exceeds.
_OUTLYING = 10.83
#: Noise of the mean frame, in units of what its fluctuations explain, from which on the rest is surely something else.
UNEXPLAINED = 1.5


@dataclass(frozen=True)
class StackNoise:
    """The noise of a stack, in counts.

    Attributes
    ----------
    variance : float
        Mean temporal variance of a pixel, from differences of consecutive frames, which bleaching does not inflate.
    excess : float
        White noise of the mean frame over what that variance explains.  Above 1 is what does not average out: pixels of
        unequal gain or offset.  Below 1 is flicker: it makes frames vary, but what it leaves in the mean has gone through
        the PSF and is light, not noise.  1 where the PSF is too narrow to measure it.
    of_mean : float
        Noise of the mean frame, standard deviation.
    signal : float
        Brightest pixels of the mean frame above its background: above a slope that runs along the dark ones.
    signal_to_noise : float
        Of the brightest pixels of the mean frame.
    patterned : float
        Share of the mean frame's power, where no light reaches, that lies at few frequencies: rows or columns of unequal
        offset, odd and even rows that are shifted (a bidirectional scan).  It is no white noise and not part of ``excess``.
        0 where no such pattern is clear.
    """

    variance: float
    excess: float
    of_mean: float
    signal: float
    signal_to_noise: float
    patterned: float = 0.0

    @property
    def unexplained(self) -> float:
        """The excess where it is surely more than chance, else 1."""
        return self.excess if self.excess > UNEXPLAINED else 1.0


def stack_noise(counts: Array, psi: Psi, tuning: NoiseTuning = DEFAULT.calibration.noise) -> StackNoise:
    """Measure the noise of a stack (T, M1, M2) above the offset.

    Raises
    ------
    ValueError
        If the frames do not change at all, or hold counts too large for their variance to be held.
    """
    mean, variance = (psi.backend.to_host(moment) for moment in _moments(counts, tuning))
    return noise_from(mean, variance, len(counts), psi, tuning)


def check_largest(largest: float, tuning: NoiseTuning = DEFAULT.calibration.noise) -> None:
    """Raise ValueError if counts of this absolute value have squares that leave the range of float32."""
    if largest > tuning.largest:
        raise ValueError(
            f"the stack holds counts up to {largest:.3g}; float32 cannot hold their variance: divide all counts by one factor"
        )


def _moments(counts: Array, tuning: NoiseTuning) -> tuple[Array, Array]:
    """Mean and temporal variance of each pixel."""
    check_largest(max(float(counts.max()), -float(counts.min())), tuning)
    step = counts[1:] - counts[:-1]
    return counts.mean(axis=0, dtype=np.float64), 0.5 * (step * step).mean(axis=0, dtype=np.float64)


def temporal_moments(
    stack: np.ndarray, offset: float, tuning: NoiseTuning = DEFAULT.calibration.noise
) -> tuple[np.ndarray, np.ndarray]:
    """Mean above the offset, and variance from differences of consecutive frames, of each pixel of a stack on the host.

    Parameters
    ----------
    stack : (T, M1, M2) array, integers or floats
        Raw counts.
    offset : float
        Counts.

    Returns
    -------
    mean, variance : (M1, M2) float64
        Of the counts less the offset in float32, in bands of rows that fit the memory budget.

    Raises
    ------
    ValueError
        If it holds counts too large for their variance to be held.
    """
    frames, rows, columns = stack.shape
    band = max(1, default_memory_budget() // (16 * frames * columns))
    mean, variance = np.empty((rows, columns)), np.empty((rows, columns))
    for top in range(0, rows, band):
        part = slice(top, top + band)
        mean[part], variance[part] = _moments(stack[:, part].astype(np.float32) - np.float32(offset), tuning)
    return mean, variance


def noise_from(
    mean: np.ndarray, variance: np.ndarray, frames: int, psi: Psi, tuning: NoiseTuning = DEFAULT.calibration.noise
) -> StackNoise:
    """Measure the noise of a stack whose pixels have this mean above the offset and this temporal variance, (M1, M2) each.

    Raises
    ------
    ValueError
        If the frames do not change at all.
    """
    level = float(variance.mean())
    if level <= 0:
        raise ValueError("the frames do not change at all; a stack of identical frames holds no fluctuations")
    excess, patterned = _excess(mean, level / frames, psi, tuning)
    # pixels that never change are dead, stuck or saturated, and carry no information on the light
    changing = variance > 0
    above = mean - _slope_below(mean, changing, tuning)
    dark, bright = (float(q) for q in np.quantile(above[changing], [tuning.dark, tuning.bright]))
    # the noise where the light is: averaged, since that of a single pixel is known to a few per cent only; and no less than
    # anywhere, since saturated and stuck pixels do not change and are not better known
    loud = math.sqrt(max(float(variance[above >= bright].mean()), level) / frames) * excess
    signal = bright - dark
    found = (level, excess, math.sqrt(level / frames) * excess, signal, signal / loud, patterned)
    return StackNoise(*(nine_digits(value) for value in found))


def _slope_below(mean: np.ndarray, valid: np.ndarray, tuning: NoiseTuning) -> np.ndarray:
    """A polynomial of second degree that runs along the dark pixels: what varies slowly there is background, not signal.

    The asymmetric least squares of Newey and Powell (1987): a pixel above the polynomial counts little, one below it counts
    fully.  (M1, M2), in the units of ``mean``.
    """
    down, across = (np.linspace(-1, 1, n) for n in mean.shape)
    powers = [(i, j) for i in range(3) for j in range(3 - i)]
    basis = np.stack([np.outer(down**i, across**j) for i, j in powers], axis=-1)
    rows, values = basis[valid], mean[valid]
    floor = np.full(len(values), np.quantile(values, tuning.dark))
    found = np.zeros(len(powers))
    for _ in range(tuning.floor_passes):
        weights = np.where(values > floor, tuning.above, 1.0)
        found = np.linalg.lstsq(rows * np.sqrt(weights)[:, None], values * np.sqrt(weights), rcond=None)[0]
        floor = rows @ found
    return np.asarray(basis @ found)


def _excess(mean: np.ndarray, expected: float, psi: Psi, tuning: NoiseTuning) -> tuple[float, float]:
    """Noise of the mean frame at frequencies that no light reaches: white amplitude relative to ``expected``, patterned share.

    The power of white noise, of equal or unequal pixels, is chi-square with one degree of freedom at every frequency.  Its
    mean uses all of it.  Stripes and shifted rows add a lot of power to a few frequencies: then the median measures the rest,
    of frequencies with no more power than white noise of such a median has at one in a thousand.
    """
    edge = next((f for f in tuning.edges if _transfer(psi, f) < tuning.passed), None)
    if edge is None:
        return 1.0, 0.0
    from scipy import fft

    down, across = (np.arange(n) / n for n in mean.shape)
    beyond = np.maximum(down[:, None], across[None, :]) >= edge
    if not beyond.any():  # a field of so few pixels has no frequency there
        return 1.0, 0.0
    # the cosine transform mirrors the field at its border, where a Fourier transform would see a jump at all frequencies
    powers = fft.dctn(mean, norm="ortho")[beyond] ** 2
    power, patterned = float(powers.mean()), 0.0
    white = float(np.median(powers)) / _MEDIAN
    if power > white * (1.0 + tuning.clear * _RATIO / math.sqrt(powers.size)):
        for _ in range(tuning.passes):
            white = float(np.median(powers[powers <= _OUTLYING * white])) / _MEDIAN
        power, patterned = white, 1.0 - white / power
    return max(tuning.least, math.sqrt(power / expected)), patterned


def _transfer(psi: Psi, frequency: float) -> float:
    """The larger of the PSF's transfers along rows and columns, at a fraction of the camera's Nyquist frequency."""
    worst = 0.0
    for axis in (0, 1):
        line = psi.psf.sum(axis=1 - axis)
        place = np.arange(len(line)) - len(line) // 2
        worst = max(worst, abs(float((line * np.cos(math.pi * frequency / psi.factor * place)).sum())))
    return worst
