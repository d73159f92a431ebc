"""Fourier ring correlation: how far into the spectrum two independent images of one object agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..backend.checks import host_image, length_or_time, real_number
from ..backend.kinds import any_kind
from ..backend.typing import ArrayLike

__all__ = ["RingCorrelation", "fourier_ring_correlation"]


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
    """

    frequency_per_nm: np.ndarray
    correlation: np.ndarray
    resolution_nm: float | None
    reason: str


@any_kind("a", "b", answers=False)
def fourier_ring_correlation(
    a: ArrayLike, b: ArrayLike, pixel_size_nm: float, *, threshold: float = 1.0 / 7.0
) -> RingCorrelation:
    """Compare two independent images of one object, ring by ring of spatial frequency (Saxton and Baumeister 1982).

    The images (reconstructions of odd and even frames, say) are freed of their means and tapered by a Hann window; rings
    are one frequency step of the shorter side wide.  Window and rings are fixed: two results differ only if the images do.

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
    """
    a, b = host_image(a, "a"), host_image(b, "b")
    pixel_size_nm = length_or_time(pixel_size_nm, "pixel_size_nm")
    threshold = real_number(threshold, "threshold", low=0, high=1, open_low=True)
    if a.shape != b.shape:
        raise ValueError(f"a and b must have the same shape, got {a.shape} and {b.shape}")
    if min(a.shape) < 16:
        raise ValueError(f"a Fourier ring correlation needs at least 16 x 16 pixels, got {a.shape}")
    window = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in a.shape))
    spectra = [np.fft.fft2((image - (image * window).sum() / window.sum()) * window) for image in (a, b)]

    radius = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in a.shape), indexing="ij"))
    step = 1.0 / min(a.shape)
    ring = np.rint(radius / step).astype(int).ravel()
    rings = min(a.shape) // 2 + 1
    cross = np.bincount(ring, (spectra[0] * spectra[1].conj()).real.ravel())[1:rings]
    powers = [np.bincount(ring, (np.abs(s) ** 2).ravel())[1:rings] for s in spectra]
    frequency = (np.bincount(ring, radius.ravel()) / np.bincount(ring))[1:rings] / pixel_size_nm
    scale = np.sqrt(powers[0] * powers[1])
    # Rings without light (below rounding) correlate with nothing.
    dark = scale <= 1e-24 * scale.max()
    correlation = np.where(dark, 0.0, cross / np.where(dark, 1.0, scale))
    if dark.all():
        return RingCorrelation(frequency, correlation, None, "an image is flat")
    below = np.flatnonzero(correlation < threshold)
    if not below.size:
        reason = f"the correlation stays above {threshold:.3g} up to the highest frequency: the pixels limit the resolution"
        return RingCorrelation(frequency, correlation, None, reason)
    k = int(below[0])
    if k == 0:
        return RingCorrelation(frequency, correlation, None, f"the correlation is below {threshold:.3g} from the first ring on")
    part = (correlation[k - 1] - threshold) / (correlation[k - 1] - correlation[k])
    crossing = frequency[k - 1] + part * (frequency[k] - frequency[k - 1])
    return RingCorrelation(frequency, correlation, float(1.0 / crossing), "")
