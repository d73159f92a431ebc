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

__all__ = [
    "STILL",
    "StackNoise",
    "check_largest",
    "check_resolved",
    "noise_from",
    "stack_noise",
    "temporal_moments",
    "white_power",
]

#: What is said of frames that are all the same.
STILL = "the frames do not change at all; a stack of identical frames holds no fluctuations"
#: Median of chi-square with one degree of freedom, its mean being 1.
_MEDIAN = 0.4549364
#: Noise of the mean frame, in units of what its fluctuations explain, from which on the rest is surely something else.
UNEXPLAINED = 1.5
#: And up to which it may be chance.
_CHANCE = 1.25


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
        the PSF and is light, not noise.  1 where the PSF is too narrow (under two camera pixels, about), or the field too
        small, to measure it.
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
        """The excess where it is surely more than chance, 1 where it may be chance, and in between by degrees."""
        sure = min(max((self.excess - _CHANCE) / (UNEXPLAINED - _CHANCE), 0.0), 1.0)
        return 1.0 + sure * (self.excess - 1.0) if sure else 1.0


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


def check_resolved(stack: np.ndarray, tuning: NoiseTuning = DEFAULT.calibration.noise) -> None:
    """Raise ValueError if float32, in which counts are fitted, rounds away how much they vary: an offset that is too large."""
    low, high = stack.min().item(), stack.max().item()  # whole numbers stay whole: their difference is exact
    spacing = float(np.spacing(np.float32(max(high, -low))))
    if low < high and spacing > (high - low) / tuning.levels and (stack.dtype.kind == "f" or spacing > 1.0):
        raise ValueError(
            f"the counts lie between {low:.10g} and {high:.10g}, where float32 holds steps of {spacing:.3g} only: "
            "subtract a constant from all counts (stack - stack.min())"
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
        raise ValueError(STILL)
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

    The power of white noise, of equal or unequal pixels, is chi-square with one degree of freedom at every frequency.  Of
    bright structures some light arrives even where the PSF passes next to nothing (:func:`white_power`).
    """
    from scipy import fft

    down, across = (np.arange(n) / n for n in mean.shape)
    transfer = np.abs(_transfer(psi, down, across))
    # of a PSF two camera pixels wide these are the corners: it passes next to nothing where both frequencies are high
    beyond = (np.maximum(down[:, None], across[None, :]) >= tuning.edge) & (transfer < tuning.passed)
    if beyond.sum() < tuning.fewest:
        return 1.0, 0.0
    # the cosine transform mirrors the field at its border, where a Fourier transform would see a jump at all frequencies
    powers = fft.dctn(mean, norm="ortho")[beyond] ** 2
    white, light = white_power(powers, transfer[beyond] ** 2, tuning)
    explained = white + light
    clear = float(powers.mean()) > explained * (1.0 + tuning.clear / math.sqrt(powers.size))
    patterned = 1.0 - explained / float(powers.mean()) if clear else 0.0
    return max(tuning.least, math.sqrt(white / expected)), patterned


def white_power(powers: np.ndarray, passed: np.ndarray, tuning: NoiseTuning) -> tuple[float, float]:
    r"""Mean power of white noise, and of light that a PSF has passed, at frequencies of which a few may hold a pattern.

    The w and s of :math:`E p_k = w + s T_k^2 = \mu_k`, by least squares of :math:`p_k / c` with the weights
    :math:`\omega(p_k / \mu_k) / \mu_k^2`, in turn with :math:`\mu_k`.  :math:`\omega(u)` is 1 up to ``doubtful`` and falls to 0
    at ``outlying``, and :math:`c = E[\omega u] / E[\omega]` for :math:`u \sim \chi^2_1` (a redescending M-estimate, Hampel et
    al. 1986).  It has nearly the error of a mean, stripes and shifted rows do not count, and no frequency moves it by a jump.

    Parameters
    ----------
    powers : (K,)
    passed : (K,)
        :math:`T_k^2`: the power that the PSF passes there.
    tuning : NoiseTuning

    Returns
    -------
    white, light : float
        w, and the mean of :math:`s T_k^2`.
    """
    from scipy.special import chdtr

    low, high = tuning.doubtful, tuning.outlying
    between, of_between = chdtr(1, high) - chdtr(1, low), chdtr(3, high) - chdtr(3, low)  # E of 1 and of u, from low to high
    inverse = math.sqrt(2 / math.pi) * (math.exp(-low / 2) / math.sqrt(low) - math.exp(-high / 2) / math.sqrt(high)) - between
    falling = low / (high - low)
    usual = (chdtr(3, low) + falling * (high * between - of_between)) / (chdtr(1, low) + falling * (high * inverse - between))
    # a PSF that passes the same everywhere, or nothing, tells no light from noise
    shape = passed / passed.max() if np.ptp(passed) > 0.5 * passed.max() else np.zeros_like(passed)
    white, light = float(np.median(powers[shape <= np.median(shape)])) / _MEDIAN, 0.0
    for _ in range(tuning.passes if white > 0 else 0):
        model = white + light * shape
        u = np.maximum(powers / model, low)
        counts = np.maximum(falling * (high - u) / u, 0.0)
        weight = counts / model**2
        weight /= weight.sum()
        expected = powers / usual
        one, shaped = float(weight @ expected), float(weight @ (shape * expected))
        of_shape, of_square = float(weight @ shape), float(weight @ shape**2)
        spread = of_square - of_shape**2
        found_light = max((shaped - of_shape * one) / spread, 0.0) if spread > 0 else 0.0
        found_white = max(one - found_light * of_shape, tuning.least**2 * white)
        white, light = 0.5 * (white + found_white), 0.5 * (light + found_light)
    return white, light * float(shape.mean())


def _transfer(psi: Psi, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """What the PSF passes of cosines down and across the field, (D, A), at fractions of the camera's Nyquist frequency."""
    rows, columns = (
        np.cos(math.pi / psi.factor * fractions[:, None] * (np.arange(size) - size // 2))
        for fractions, size in zip((down, across), psi.psf.shape)
    )
    return np.asarray(rows @ psi.psf @ columns.T)
