"""Point spread functions, sampled on the fine grid: centred on a pixel exactly, non-negative, sum 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..backend.checks import host_array, host_image, length_or_time, real_number, squarable, whole_number
from ..backend.kinds import any_kind
from ..backend.typing import ArrayLike
from .bead import clean_bead

__all__ = ["airy_psf", "cut_psf", "gaussian_psf", "measured_psf", "psf_sigma", "scaled_psf", "valid_psf"]

#: FWHM of a Gaussian in units of its standard deviation, 2 sqrt(2 ln 2).
FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
#: FWHM in fine pixels beyond which lengths are not of one unit.
_SMALLEST, _LARGEST = 0.1, 1000.0


def gaussian_psf(fwhm_nm: float, pixel_size_nm: float, factor: int, *, truncate: float = 5.0) -> np.ndarray:
    """Return a Gaussian PSF on the fine grid.

    Parameters
    ----------
    fwhm_nm : float
        Full width at half maximum in the object plane, nm.
    pixel_size_nm : float
        Camera pixel in the object plane, nm; the fine pixel is ``pixel_size_nm / factor``.
    factor : int
        Super-resolution factor L.
    truncate : float
        Radius of the support in standard deviations.

    Returns
    -------
    psf : (K, K) float64, K odd, sum 1

    Raises
    ------
    ValueError
        If a length is not positive, the FWHM is less than a tenth of a fine pixel, or more than 1000: lengths of two
        units.

    Notes
    -----
    The Gaussian is sampled at the centres of the fine pixels.  One that is narrower than a fine pixel keeps nearly all light in
    the central one: the operator then leaves the fine pixels of a camera pixel indistinguishable.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> psf = fg.gaussian_psf(fwhm_nm=318, pixel_size_nm=100, factor=4)
    >>> psf.shape, round(float(psf.sum()), 12)
    ((57, 57), 1.0)
    """
    fwhm_nm = length_or_time(fwhm_nm, "fwhm_nm")
    pixel_size_nm = length_or_time(pixel_size_nm, "pixel_size_nm")
    factor = whole_number(factor, "factor", low=1)
    _one_unit("fwhm_nm", fwhm_nm, fwhm_nm, pixel_size_nm / factor)
    truncate = real_number(truncate, "truncate", low=1)
    sigma = fwhm_nm / FWHM_PER_SIGMA * factor / pixel_size_nm
    radius = max(1, math.ceil(truncate * sigma))
    line = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.outer(line, line) / line.sum() ** 2


def _one_unit(name: str, value: float, fwhm_nm: float, fine_nm: float) -> None:
    """Raise where a PSF is so small or so large beside the fine pixels that one of the two is in another unit."""
    if not _SMALLEST * fine_nm <= fwhm_nm <= _LARGEST * fine_nm:
        raise ValueError(
            f"{name}={value:g} gives a PSF {fwhm_nm:.3g} nm wide on fine pixels of {fine_nm:.3g} nm (pixel size / factor): are "
            "both in nanometres?"
        )


def airy_psf(
    wavelength_nm: float, na: float, pixel_size_nm: float, factor: int, *, radius_nm: float | None = None
) -> np.ndarray:
    r"""Return the in-focus Airy PSF, :math:`(2 J_1(v)/v)^2` with :math:`v = 2\pi\,\mathrm{NA}\,r/\lambda`, on the fine grid.

    Parameters
    ----------
    wavelength_nm : float
        Emission wavelength, nm.
    na : float
        Numerical aperture of the objective.
    pixel_size_nm : float
        Camera pixel in the object plane, nm.
    factor : int
        Super-resolution factor L.
    radius_nm : float, optional
        Radius of the support, nm; four Airy radii (0.61 wavelength / NA each) by default, which holds 95 % of the light.

    Returns
    -------
    psf : (K, K) float64, K odd, sum 1

    Raises
    ------
    ValueError
        If a length is not positive, the aperture is not one (0 to 2), or lengths are of two units, as in :func:`gaussian_psf`.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> psf = fg.airy_psf(wavelength_nm=680, na=1.1, pixel_size_nm=100, factor=4)
    >>> psf.shape, bool(psf.argmax() == psf.size // 2)
    ((123, 123), True)
    """
    from scipy.special import j1

    wavelength_nm = length_or_time(wavelength_nm, "wavelength_nm")
    na = real_number(na, "na", low=0, high=2, open_low=True)
    pixel_size_nm = length_or_time(pixel_size_nm, "pixel_size_nm")
    factor = whole_number(factor, "factor", low=1)
    if radius_nm is None:
        radius_nm = 4 * 0.61 * wavelength_nm / na
    radius_nm = length_or_time(radius_nm, "radius_nm")
    fine_nm = pixel_size_nm / factor
    _one_unit("wavelength_nm", wavelength_nm, 0.51 * wavelength_nm / na, fine_nm)
    radius = max(1, math.ceil(radius_nm / fine_nm))
    axis = np.arange(-radius, radius + 1) * fine_nm
    v = 2 * math.pi * na / wavelength_nm * np.hypot(axis[:, None], axis[None, :])
    v[radius, radius] = 1.0
    psf = (2 * j1(v) / v) ** 2
    psf[radius, radius] = 1.0
    return psf / psf.sum()


@any_kind("image")
def measured_psf(image: ArrayLike, *, background: float | None = None, zoom: float = 1.0) -> np.ndarray:
    """Make a PSF on the fine grid of a measured image (an averaged bead, say).

    The background is removed, the bead is cut out where rings about it are no brighter than their noise lets be, and it is
    sampled by cubic splines on a grid of odd sizes whose central pixel is its centroid, as far out as the image reaches on all
    sides; then it is normalised.  Large pixels are means over their area: their blur is taken off to second order.

    Parameters
    ----------
    image : (R, C) array_like
        The measured PSF.
    background : float, optional
        Level to remove; by default the mean of the pixels that the bead does not reach, or, of an image without noise, the
        median of its border.
    zoom : float
        Fine pixels per pixel of the image, 0.02 to 50: a bead in camera pixels has ``zoom=factor``.

    Returns
    -------
    psf : (K1, K2) float64, both odd, sum 1

    Raises
    ------
    TypeError
        If the image is a masked array or does not hold real numbers.
    ValueError
        If the image is not 2-D, not finite, saturated, no brighter than its noise, or bright at its border; if one pixel holds
        nearly all of its light (a hot pixel), or it is dark after the background is removed; if the zoom is out of range.  A
        second bead is named in the log.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> bead = np.full((9, 9), 100.0)
    >>> bead[3:6, 3:6] += [[100, 200, 100], [200, 400, 200], [100, 200, 100]]
    >>> psf = fg.measured_psf(bead)
    >>> psf.shape, float(psf.max())
    ((9, 9), 0.25)
    """
    zoom = real_number(zoom, "zoom", low=0.02, high=50)
    image = host_array(image, "image")
    if image.ndim != 2 or min(image.shape) < 3:
        raise ValueError(f"a measured PSF must be a 2-D image of at least 3 x 3 pixels, got shape {image.shape}")
    if not np.isfinite(image).all():
        raise ValueError("the measured PSF holds NaN or infinite values")
    squarable(image, "image")
    image, centre = clean_bead(image, background)
    if image.sum() <= 0:
        raise ValueError("the measured PSF is dark once its background is removed; pass background=0 or another image")
    if zoom > 1:
        image = _without_pixel(image, zoom)
    # a centroid is as good as its sums are: what rounding has taken from the last pixel is given back
    radii = [math.floor(min(c, n - 1 - c) * zoom + 1e-6) for c, n in zip(centre, image.shape)]
    if min(radii) < 1:
        raise ValueError(
            f"the measured PSF has its centroid at ({centre[0]:.1f}, {centre[1]:.1f}) in an image of {image.shape}, less than "
            f"a fine pixel from the border: cut the image out with the bead in its middle"
        )
    psf = _sampled(image, centre, radii, zoom)
    return psf / psf.sum()


def _without_pixel(image: np.ndarray, zoom: float) -> np.ndarray:
    """Undo the mean over pixels that are ``zoom`` times as large as those of the grid, to second order; not negative."""
    from scipy.ndimage import laplace

    return np.maximum(image - (1.0 - 1.0 / zoom**2) / 24.0 * laplace(image, mode="nearest"), 0.0)


def scaled_psf(psf: ArrayLike, width: float) -> np.ndarray:
    """Return a PSF ``width`` times as wide: stretched about its central pixel by cubic splines.

    Parameters
    ----------
    psf : (K1, K2) array_like, both odd
        On the fine grid.
    width : float
        0.1 to 10.

    Returns
    -------
    psf : (K1', K2') float64, both odd, sum 1
        As large as it takes to hold the support.

    Raises
    ------
    ValueError
        If the PSF is not a finite, non-negative image with a central pixel, the width is out of range, or nothing is left.
    """
    psf = host_image(psf, "psf")
    if not (psf.shape[0] % 2 and psf.shape[1] % 2):
        raise ValueError(f"a PSF must have odd sizes, so that it has a central pixel, got {psf.shape}")
    if psf.min() < 0 or psf.sum() <= 0:
        raise ValueError("a PSF must not be negative, nor dark everywhere")
    width = real_number(width, "width", low=0.1, high=10)
    if width == 1.0:
        return psf / psf.sum()
    middles = [size // 2 for size in psf.shape]
    stretched = _sampled(psf, middles, [math.ceil(middle * width) for middle in middles], width)
    if stretched.sum() <= 0:
        raise ValueError(f"nothing is left of this PSF at {width:g} times its width: it is dark where it would be sampled")
    return stretched / stretched.sum()


def _sampled(image: np.ndarray, centre: Sequence[float], radii: Sequence[int], zoom: float) -> np.ndarray:
    """``image`` about ``centre`` by cubic splines, ``zoom`` times as large, so many pixels to each side; not negative."""
    from scipy.ndimage import map_coordinates

    lines = [np.arange(-radius, radius + 1) / zoom + middle for radius, middle in zip(radii, centre)]
    return np.maximum(map_coordinates(image, np.meshgrid(*lines, indexing="ij"), order=3, mode="constant"), 0.0)


def valid_psf(psf: ArrayLike, fine_shape: tuple[int, int]) -> np.ndarray:
    """Return a PSF as a float64 array of sum 1 on the host, or raise: what every operator asks of its PSF.

    Parameters
    ----------
    psf : (K1, K2) array_like
        On the fine grid, both sizes odd, finite and non-negative.
    fine_shape : (int, int)
        The fine field, (N1, N2); the PSF must not be larger.

    Returns
    -------
    psf : (K1, K2) float64, sum 1

    Raises
    ------
    TypeError
        If it is a masked array or does not hold real numbers.
    ValueError
        If it is not 2-D, odd-sized, finite and non-negative, is zero everywhere, or is larger than the fine field.
    """
    psf = host_array(psf, "psf")
    if psf.ndim != 2 or psf.size == 0:
        raise ValueError(f"psf must be 2-D (rows, columns) on the fine grid, got shape {psf.shape}")
    if psf.shape[0] % 2 == 0 or psf.shape[1] % 2 == 0:
        raise ValueError(
            f"psf must have odd sizes, so that its centre is a pixel, got {psf.shape}; fluogan_core.measured_psf trims one"
        )
    if not (psf.min() >= 0 and 0 < psf.max() < np.inf):
        raise ValueError("psf must be finite, non-negative and not all zero; fluogan_core.measured_psf cleans a measured one")
    squarable(psf, "psf")
    if psf.shape[0] > fine_shape[0] or psf.shape[1] > fine_shape[1]:
        raise ValueError(
            f"psf of {psf.shape[0]} x {psf.shape[1]} fine pixels is larger than the field of {fine_shape[0]} x "
            f"{fine_shape[1]} (camera pixels times factor): take a larger region of interest, or cut the PSF"
        )
    return psf / psf.sum()


def cut_psf(psf: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the middle of a PSF that is larger than a fine field.

    Parameters
    ----------
    psf : (K1, K2) array
        Both sizes odd.
    shape : (int, int)
        The fine field, (N1, N2).

    Returns
    -------
    psf : (K1', K2') view
        Both sizes odd, at most those of the field; not normalised.
    """
    cuts = [max(0, math.ceil((size - field) / 2)) for size, field in zip(psf.shape, shape)]
    return psf[cuts[0] : psf.shape[0] - cuts[0], cuts[1] : psf.shape[1] - cuts[1]]


def psf_sigma(psf: np.ndarray) -> float:
    r"""Return the width of the PSF as the standard deviation of a Gaussian of equal energy, fine pixels.

    :math:`1 / \sqrt{4\pi \sum_i h_i^2}`: exact for a Gaussian, and unlike a second moment not governed by the far tails of a
    measured PSF.

    Parameters
    ----------
    psf : (K1, K2) array
        Of sum 1.

    Returns
    -------
    sigma : float
        Fine pixels.
    """
    return 1.0 / math.sqrt(4.0 * math.pi * float((psf**2).sum()))
