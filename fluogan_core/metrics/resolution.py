"""Fourier ring correlation: how far into the spectrum two independent images of one object agree."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..backend.checks import host_image, length_or_time, real_number
from ..backend.kinds import any_kind
from ..backend.typing import ArrayLike

__all__ = ["RingCorrelation", "Rings", "fourier_ring_correlation"]

#: Chance at which noise alone is said to correlate: 3 standard deviations.
_CHANCE = 0.00135


@dataclass(frozen=True, eq=False)
class RingCorrelation:
    """A Fourier ring correlation.

    Attributes
    ----------
    frequency_per_nm : (R,) float64
        Mean frequency of each ring.
    correlation : (R,) float64
        Between the two images, -1 to 1.
    resolution_nm : float or None
        One over the frequency at which the correlation first falls below the threshold.
    reason : str
        Why there is no resolution; empty if there is.
    limited_by_pixels : bool
        Whether there is none because the correlation never falls below the threshold.
    """

    frequency_per_nm: np.ndarray
    correlation: np.ndarray
    resolution_nm: float | None
    reason: str
    limited_by_pixels: bool = False


@any_kind("a", "b", answers=False)
def fourier_ring_correlation(
    a: ArrayLike, b: ArrayLike, pixel_size_nm: float, *, threshold: float = 1.0 / 7.0
) -> RingCorrelation:
    """Compare two independent images of one object, ring by ring of spatial frequency (Saxton and Baumeister 1982).

    The images (reconstructions of odd and even frames, say) are freed of their means and tapered by a Hann window; rings
    are one frequency step of the shorter side wide.  Window and rings are fixed: two results differ only if the images do.

    A resolution is given only where the rings up to it correlate by more than noise does with a chance of 1 in 741.  (Of two
    images of noise, four in ten are above 1/7 in the first ring, which holds a few frequencies only.)

    Parameters
    ----------
    a, b : (N1, N2) array_like
        At least 16 pixels along each axis.
    pixel_size_nm : float
        Pixel of these images, nm.
    threshold : float
        1/7 by default (Rosenthal and Henderson 2003); above 0, at most 1.

    Returns
    -------
    RingCorrelation

    Raises
    ------
    TypeError
        If an image is a masked array or does not hold real numbers, or a number is not one.
    ValueError
        If shapes differ, are too small, or values are not finite; if a number is out of its range.

    See Also
    --------
    fluogan_core.metrics.resolution_map : the same, place by place.

    Examples
    --------
    Two noisy images of one sharp line:

    >>> import numpy as np
    >>> from fluogan_core.metrics import fourier_ring_correlation
    >>> rng = np.random.default_rng(0)
    >>> line = np.zeros((64, 64))
    >>> line[:, 32] = 20.0
    >>> a, b = (line + rng.standard_normal((64, 64)) for _ in range(2))
    >>> ring = fourier_ring_correlation(a, b, pixel_size_nm=25.0)
    >>> ring.correlation.shape, bool(ring.correlation[0] > 0.9)
    ((32,), True)

    Two images of noise have no resolution:

    >>> a, b = rng.standard_normal((2, 64, 64))
    >>> fourier_ring_correlation(a, b, pixel_size_nm=25.0).resolution_nm is None
    True
    """
    a, b, pixel_size_nm, threshold = comparable(a, b, pixel_size_nm, threshold)
    return Rings((a.shape[0], a.shape[1])).compared(a, b, pixel_size_nm, threshold)


def comparable(
    a: ArrayLike, b: ArrayLike, pixel_size_nm: float, threshold: float
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Both images on the host, and the two numbers, all checked."""
    a, b = host_image(a, "a"), host_image(b, "b")
    pixel_size_nm = length_or_time(pixel_size_nm, "pixel_size_nm")
    threshold = real_number(threshold, "threshold", low=0, high=1, open_low=True)
    if a.shape != b.shape:
        raise ValueError(f"a and b must have the same shape, got {a.shape} and {b.shape}")
    if min(a.shape) < 16:
        raise ValueError(f"a Fourier ring correlation needs at least 16 x 16 pixels, got {a.shape}")
    return a, b, pixel_size_nm, threshold


@dataclass(frozen=True, eq=False)
class Rings:
    """Window and rings of images of one shape.

    Parameters
    ----------
    shape : (N1, N2)
        Of the images, pixels.
    """

    shape: tuple[int, int]
    _window: np.ndarray = field(init=False, repr=False)
    _ring: np.ndarray = field(init=False, repr=False)
    _counts: np.ndarray = field(init=False, repr=False)
    _radius: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        radius = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in self.shape), indexing="ij"))
        ring = np.rint(radius * min(self.shape)).astype(int).ravel()
        window = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in self.shape))
        counts = np.bincount(ring)
        for name, value in (("window", window), ("ring", ring), ("counts", counts)):
            object.__setattr__(self, f"_{name}", value)
        object.__setattr__(self, "_radius", np.bincount(ring, radius.ravel()) / counts)

    def compared(self, a: np.ndarray, b: np.ndarray, pixel_size_nm: float, threshold: float) -> RingCorrelation:
        """The ring correlation of two images of this shape."""
        rings, window = slice(1, min(self.shape) // 2 + 1), self._window
        spectra = [np.fft.fft2((image - (image * window).sum() / window.sum()) * window) for image in (a, b)]
        cross = np.bincount(self._ring, (spectra[0] * spectra[1].conj()).real.ravel())[rings]
        powers = [np.bincount(self._ring, (np.abs(s) ** 2).ravel())[rings] for s in spectra]
        frequency = self._radius[rings] / pixel_size_nm
        scale = np.sqrt(powers[0] * powers[1])
        # Rings without light (below rounding) correlate with nothing.
        dark = scale <= 1e-24 * scale.max()
        correlation = np.where(dark, 0.0, cross / np.where(dark, 1.0, scale))
        rounding = [1e-26 * float((image * image).sum()) * float((window * window).sum()) for image in (a, b)]
        if dark.all() or any(power.sum() <= least for power, least in zip(powers, rounding)):
            return RingCorrelation(frequency, correlation, None, "an image is flat")
        below = np.flatnonzero(correlation < threshold)
        last = int(below[0]) if below.size else len(correlation)
        if last == 0:
            reason = f"the correlation is below {threshold:.3g} from the first ring on"
            return RingCorrelation(frequency, correlation, None, reason)
        if self._by_noise(correlation, last) > _CHANCE:
            reason = f"the rings above {threshold:.3g} correlate no more than noise may: the images show nothing in common"
            return RingCorrelation(frequency, correlation, None, reason)
        if not below.size:
            reason = f"the correlation stays above {threshold:.3g} up to the highest frequency: the pixels limit the resolution"
            return RingCorrelation(frequency, correlation, None, reason, limited_by_pixels=True)
        part = (correlation[last - 1] - threshold) / (correlation[last - 1] - correlation[last])
        crossing = frequency[last - 1] + part * (frequency[last] - frequency[last - 1])
        return RingCorrelation(frequency, correlation, float(1.0 / crossing), "")

    def _by_noise(self, correlation: np.ndarray, last: int) -> float:
        """Chance that independent noise correlates as much as the first rings do together: Student's t."""
        from scipy.special import stdtr

        counts = self._counts[1 : last + 1]
        squares = self._window * self._window
        # a mode and its conjugate count as two real numbers; the window makes neighbouring modes depend on each other
        free = counts.sum() * float(squares.sum()) ** 2 / (float((squares * squares).sum()) * squares.size)
        if free <= 1:
            return 1.0
        mean = min(float((correlation[:last] * counts).sum() / counts.sum()), 1 - 1e-12)
        return float(stdtr(free - 1, -mean * math.sqrt((free - 1) / (1 - mean * mean))))
