r"""Changes of a PSF that mild aberrations of the objective cause.

The PSF of a round pupil with the phase :math:`\varphi` is

.. math:: h(r) = \Big|\int_{|\nu| \le \nu_c} e^{2\pi i (\varphi(\nu) + \nu \cdot r)}\, d\nu\Big|^2, \qquad
    \varphi = \sum_k a_k Z_k,

with Zernike polynomials :math:`Z_k` and their weights :math:`a_k` in waves (Noll, J. Opt. Soc. Am. 66, 207, 1976).  Such PSFs,
at one full width at half maximum and with their cores on the same pixel, differ from the PSF without aberrations by few
principal components.  To second order in the waves these are spanned by pupils with one and with two aberrations.
"""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np

from ..backend.checks import real_number, whole_number

__all__ = ["aberrated_psf", "core_width", "shape_changes"]

#: FWHM of the PSF without aberrations, in units of wavelength / NA.
_AIRY_FWHM = 0.5145
#: Samples across the pupil.
_SAMPLES = 33
#: The core is looked at this many FWHM to each side of its middle, in this many samples across.
_CORE, _CORE_SAMPLES = 1.5, 91
#: Changes are as large as their neighbours if they differ by less than this part: they are kept or left out together.
_TIE = 0.02
#: Astigmatism, coma and trefoil in two directions each, and spherical aberration.
ABERRATIONS = 7


def _pupil() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples along an axis of the unit pupil, its transmission, and the Zernike polynomials there."""
    line = np.linspace(-1.0, 1.0, _SAMPLES) * (1.0 + 1.0 / _SAMPLES)
    v, u = np.meshgrid(line, line, indexing="ij")
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    inside = np.clip((1.0 - radius) / (line[1] - line[0]) + 0.5, 0.0, 1.0)
    radius = np.minimum(radius, 1.0)
    zernike = [
        math.sqrt(6) * radius**2 * np.cos(2 * angle),
        math.sqrt(6) * radius**2 * np.sin(2 * angle),
        math.sqrt(8) * (3 * radius**3 - 2 * radius) * np.cos(angle),
        math.sqrt(8) * (3 * radius**3 - 2 * radius) * np.sin(angle),
        math.sqrt(8) * radius**3 * np.cos(3 * angle),
        math.sqrt(8) * radius**3 * np.sin(3 * angle),
        math.sqrt(5) * (6 * radius**4 - 6 * radius**2 + 1),
    ]
    return line, inside, np.array(zernike)


def _intensity(pupil: np.ndarray, line: np.ndarray, fwhm: float, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Intensity at these rows and columns, in pixels, of a pupil whose PSF without aberrations has that FWHM."""
    cutoff = _AIRY_FWHM / fwhm
    down = np.exp(2j * np.pi * cutoff * np.outer(rows, line))
    across = down if columns is rows else np.exp(2j * np.pi * cutoff * np.outer(columns, line))
    return np.abs(down @ pupil @ across.T) ** 2


def aberrated_psf(fwhm: float, waves: np.ndarray, size: int) -> np.ndarray:
    """Return the PSF of an aberrated pupil, its core as wide as told and centred on the central pixel.

    Parameters
    ----------
    fwhm : float
        Diameter of a disc as large as what is above half of the maximum, pixels.
    waves : (7,) array_like
        Weights of astigmatism (2), coma (2), trefoil (2) and spherical aberration, waves rms.
    size : int
        Pixels along a side, odd.

    Returns
    -------
    psf : (size, size) float64, sum 1

    Examples
    --------
    >>> from fluogan_core.physics.aberrations import aberrated_psf, core_width
    >>> psf = aberrated_psf(10.0, [0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 0.0], 61)
    >>> psf.shape, round(float(psf.sum()), 6), round(core_width(psf))
    ((61, 61), 1.0, 10)
    """
    fwhm = real_number(fwhm, "fwhm", low=1.0)
    size = whole_number(size, "size", low=3)
    line, inside, zernike = _pupil()
    pupil = inside * np.exp(2j * np.pi * np.tensordot(np.asarray(waves, dtype=np.float64), zernike, 1))
    at = np.linspace(-_CORE, _CORE, _CORE_SAMPLES) * fwhm
    core = _intensity(pupil, line, fwhm, at, at)
    core = np.where(core > 0.5 * core.max(), core, 0.0)
    middle = [float((core.sum(axis=1 - axis) * at).sum() / core.sum()) for axis in (0, 1)]
    narrower = fwhm / (2.0 * math.sqrt(np.count_nonzero(core) / math.pi) * (at[1] - at[0]))
    axis = (np.arange(size) - size // 2) / narrower
    psf = _intensity(pupil, line, fwhm, axis + middle[0], axis + middle[1])
    return np.asarray(psf / psf.sum())


def core_width(psf: np.ndarray) -> float:
    """Return the diameter of a disc as large as what is above half of a PSF's maximum, pixels.

    Parameters
    ----------
    psf : (K1, K2) array

    Returns
    -------
    float

    Examples
    --------
    >>> import fluogan_core as fg
    >>> from fluogan_core.physics.aberrations import core_width
    >>> round(core_width(fg.gaussian_psf(300, 100, 4)), 1)
    12.0
    """
    from scipy.ndimage import zoom

    middle = [size // 2 for size in psf.shape]
    peak = psf.max()
    reach = [max(int(np.abs(np.nonzero(psf > 0.25 * peak)[axis] - middle[axis]).max()) + 3, 4) for axis in (0, 1)]
    part = psf[tuple(slice(max(m - r, 0), m + r + 1) for m, r in zip(middle, reach))]
    finer = 8
    fine = zoom(part, finer, order=3, grid_mode=True, mode="nearest")
    return 2.0 * math.sqrt(np.count_nonzero(fine > 0.5 * fine.max()) / math.pi) / finer


def shape_changes(psf: np.ndarray, waves: float, count: int, width: float) -> np.ndarray:
    """Return what aberrations change of a PSF: principal components, and a change of its width.

    Parameters
    ----------
    psf : (K1, K2) array, both odd
        Sum 1.  Aberrations add to it what they add to the PSF of a pupil that is as wide.
    waves : float
        Root mean square of the aberrations, waves.
    count : int
        Principal components; one or two more where the last ones are equally large.
    width : float
        Standard deviation of the PSF's width, relative.

    Returns
    -------
    changes : (n, K1, K2) float64
        Sums 0.  Each is the standard deviation of what is expected of it; the last is that of the width.
    """
    from .psf import scaled_psf

    size, fwhm = max(psf.shape), core_width(psf)
    designs = [sign * np.eye(ABERRATIONS)[k] for k in range(ABERRATIONS) for sign in (1.0, -1.0)]
    for one, other in combinations(range(ABERRATIONS), 2):
        designs += [a * np.eye(ABERRATIONS)[one] + b * np.eye(ABERRATIONS)[other] for a, b in product((1.0, -1.0), repeat=2)]
    ideal = aberrated_psf(fwhm, np.zeros(ABERRATIONS), size)
    changed = np.array([aberrated_psf(fwhm, waves * d / np.linalg.norm(d), size) - ideal for d in designs])
    changed = changed.reshape(len(designs), -1) / math.sqrt(len(designs))
    values, vectors = np.linalg.eigh(changed @ changed.T)
    values, vectors = values[::-1], vectors[:, ::-1]
    while values[count] > (1.0 - _TIE) ** 2 * values[count - 1]:
        count += 1
    components = (vectors[:, :count].T @ changed).reshape(count, size, size)
    cut = [(size - n) // 2 for n in psf.shape]
    components = components[:, cut[0] : cut[0] + psf.shape[0], cut[1] : cut[1] + psf.shape[1]]
    step = 0.01
    wider, narrower = (_of_size(scaled_psf(psf, 1.0 + sign * step), psf.shape) for sign in (1.0, -1.0))
    of_width = (wider - narrower) * (width / (2.0 * step))
    changes = np.concatenate([components, of_width[None]])
    return changes - changes.sum(axis=(1, 2), keepdims=True) * psf


def _of_size(psf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A PSF cut, or continued by zeros, to this odd size."""
    pads = [max((n - m) // 2, 0) for n, m in zip(shape, psf.shape)]
    psf = np.pad(psf, [(p, p) for p in pads])
    cuts = [(m - n) // 2 for n, m in zip(shape, psf.shape)]
    return psf[cuts[0] : cuts[0] + shape[0], cuts[1] : cuts[1] + shape[1]]
