r"""Bad pixels: hot, dead or stuck.  No light through the PSF explains their values.  They are found and replaced.

One bad pixel that takes part in a fit empties the image around it: no x explains its value, and the mean frame seems noisy.
Every pixel of the mean frame is predicted from all the others, light being a Gaussian field that the PSF has blurred.  With
K the covariance of such a field and of the noise, diagonal in cosines,

.. math:: K = s\,P + n, \qquad r_j = (K^{-1} \bar y)_j / (K^{-1})_{jj}

is the difference between the pixel and its prediction from the others (Rasmussen and Williams 2006, section 5.4.2), with P the
power that camera pixels see of points anywhere, s as large as the brightest light and n the noise of the mean frame.  A pixel
is bad where this difference is far larger than the noise, and larger than for a point source, which is the sharpest light that
the PSF allows.  Its value is then replaced by the prediction.  The worst pixels are replaced first, because they spoil the
prediction of their neighbours.

:func:`.pixel_moments.live_pixels` is another rule, by the median of the neighbours.  Its docstring says why both remain.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from ..backend.typing import Array
from ..physics.psi import Psi
from ..tuning import DEFAULT
from ..tuning.calibration import BadPixelTuning, CalibrationTuning
from .unlit import unlit_pixels

__all__ = ["BadPixels", "fill_pixels", "filled_per_frame", "find_bad_pixels", "light_power", "without_bad_pixels"]

log = logging.getLogger("fluogan_core")

#: The log names no more bad pixels than this.
_SHOWN = 8


def without_bad_pixels(counts: Array, psi: Psi, tuning: CalibrationTuning = DEFAULT.calibration) -> tuple[Array, np.ndarray]:
    """Return the frames with every bad pixel at the mean that the other pixels predict, and the mask of bad pixels.

    Parameters
    ----------
    counts : (T, M1, M2) array
        Counts of any offset, on the host or where psi computes.
    psi : Psi

    Returns
    -------
    counts : (T, M1, M2) array
        The same array if no pixel is bad, else a copy in floating point, in which bad pixels are constant in time.
    bad : (M1, M2) bool, on the host
        Nowhere if it would be more than a twentieth of the field; the log says so.
    """
    host = np.asarray if isinstance(counts, np.ndarray) else psi.backend.to_host
    mean, variance = host(counts.mean(axis=0, dtype=np.float64)), np.empty(psi.shape)
    at_lowest, lowest = np.empty(psi.shape), counts.min()
    for row in range(psi.shape[0]):  # the changes of all frames at once would be another stack
        line = counts[:, row].astype(np.float64)
        variance[row] = host(0.5 * ((line[1:] - line[:-1]) ** 2).mean(axis=0))
        at_lowest[row] = host((line == lowest).mean(axis=0))
    unlit = unlit_pixels(variance, at_lowest, len(counts), tuning.live_pixels)
    found = find_bad_pixels(mean, variance, len(counts), psi, unlit=unlit, tuning=tuning.bad_pixels)
    for remark in found.remarks:
        log.warning(remark)
    return fill_pixels(counts, found.mask, found.filled[found.mask], psi), found.mask


def fill_pixels(counts: Array, bad: np.ndarray, values: np.ndarray, psi: Psi) -> Array:
    """Return the frames with one value for all time in each bad pixel: the same array if there is none, else a copy.

    Parameters
    ----------
    counts : (T, M1, M2) array
        On the host or where psi computes.
    bad : (M1, M2) bool
    values : (K,) array
        Of the K bad pixels in the order of ``numpy.nonzero(bad)``, counts.
    psi : Psi
    """
    if not bad.any():
        return counts
    xp = np if isinstance(counts, np.ndarray) else psi.backend.xp
    filled = counts.astype(np.float64 if counts.dtype == np.float64 else np.float32)
    rows, columns = np.nonzero(bad)
    filled[:, xp.asarray(rows), xp.asarray(columns)] = xp.asarray(values, dtype=filled.dtype)
    return filled


def filled_per_frame(counts: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Return the frames with every bad pixel at the mean of its good neighbours in the same frame.

    For a fit that has no weights of pixels: a value that is the same in all frames would speak against every emission nearby.

    Parameters
    ----------
    counts : (T, M1, M2)
    bad : (M1, M2) bool

    Returns
    -------
    (T, M1, M2) float32
        A pixel without a good neighbour is left as it is.

    Examples
    --------
    >>> frames, bad = np.array([[[2.0, 90.0, 4.0]], [[0.0, 90.0, 8.0]]]), np.array([[False, True, False]])
    >>> filled_per_frame(frames, bad)[:, 0, 1].tolist()
    [3.0, 4.0]
    """
    if not bad.any():
        return np.ascontiguousarray(counts, dtype=np.float32)
    counts, good = np.array(counts, dtype=np.float32), np.pad(~bad, 1)
    padded = np.pad(counts, ((0, 0), (1, 1), (1, 1)))
    for row, col in np.argwhere(bad):
        near = good[row : row + 3, col : col + 3]
        if near.any():
            counts[:, row, col] = padded[:, row : row + 3, col : col + 3][:, near].mean(axis=1)
    return counts


@dataclass(frozen=True, eq=False)
class BadPixels:
    """Hot, dead or stuck pixels of a field.

    Attributes
    ----------
    mask : (M1, M2) bool
        Nowhere true if it would be more than a twentieth of the field.
    filled : (M1, M2) float64
        The mean frame with what the other pixels predict where ``mask`` is true.
    remarks : tuple of str
        What was left out, and what looks wrong with the field.
    """

    mask: np.ndarray
    filled: np.ndarray
    remarks: tuple[str, ...]


def find_bad_pixels(
    mean: np.ndarray,
    variance: np.ndarray,
    frames: int,
    psi: Psi,
    *,
    unlit: np.ndarray,
    tuning: BadPixelTuning = DEFAULT.calibration.bad_pixels,
) -> BadPixels:
    """Find the bad pixels of a field whose pixels have this mean (of any offset) and this temporal variance, counts.

    Parameters
    ----------
    mean, variance : (M1, M2) array
        Of each pixel over time; the variance from differences of consecutive frames.
    frames : int
        Number of frames.
    psi : Psi
        The PSF; its ``photons_per_emitter`` does not matter.
    unlit : (M1, M2) bool
        Pixels that do not change because hardly any photon comes there (:func:`.unlit.unlit_pixels`).
    tuning : BadPixelTuning, optional
        Numbers by trial.
    """
    border = _empty_border((variance > 0) | unlit)
    bad, filled, reason = _bad_and_filled(mean, variance, frames, psi, tuning)
    rows, columns = np.nonzero(bad)
    if rows.size:
        shown = ", ".join(f"({row}, {column})" for row, column in zip(rows[:_SHOWN], columns[:_SHOWN]))
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        reason = (
            f"pixels left out of the fit: {len(rows)} that no light through this PSF explains (hot, dead, stuck), "
            f"(row, column) {shown}{more}"
        )
    return BadPixels(bad, filled, tuple(remark for remark in (border, reason) if remark))


def _empty_border(changing: np.ndarray) -> str:
    """Remark on whole rows or columns at the field's border that never change, as registration leaves them."""
    rows, columns = (np.flatnonzero(changing.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return ""
    whole = rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    if whole[2:] == changing.shape:
        return ""
    return (
        "rows or columns at the border never change (a registration may have left them), and no image explains that: crop the "
        f"stack to top, left, rows, columns = {', '.join(map(str, whole))} (roi)"
    )


def _bad_and_filled(
    mean: np.ndarray, variance: np.ndarray, frames: int, psi: Psi, tuning: BadPixelTuning
) -> tuple[np.ndarray, np.ndarray, str]:
    """Where pixels are bad, the mean frame with what the others predict there, and why nothing was taken out if so."""
    from scipy.ndimage import maximum_filter, median_filter

    bad = np.zeros(mean.shape, dtype=bool)
    changing = variance[variance > 0]
    if mean.size < tuning.fewest or not changing.size:
        return bad, mean, ""
    # the median filter keeps single pixels out of the typical values
    dark, bright = np.quantile(median_filter(mean, 3), (tuning.dark, tuning.bright))
    typical, brightest = float(np.median(changing)), float(bright - dark)
    prediction = _Prediction(psi, max(0.25 * brightest**2, typical / frames), typical / frames, tuning.iterations)
    sharpest = tuning.sharpest * prediction.misses_of_points(psi)
    errors = np.sqrt(np.maximum(variance, tuning.least_variance * typical) / frames)
    for _ in range(tuning.passes):
        filled = prediction.filled(mean, bad)
        misses = prediction.misses(filled)
        # pixels of unequal gain or offset are no better known than these show, all together
        spread = max(1.0, 1.4826 * float(np.median(np.abs(misses[~bad]) / errors[~bad])))
        allowed = tuning.errors * spread * errors + sharpest * np.abs(filled - misses - dark) + tuning.brightest * brightest
        ratio = np.where(bad, 0.0, np.abs(misses) / allowed)
        worst = float(ratio.max())
        if worst <= 1:
            return bad, filled, ""
        bad |= (ratio >= max(1.0, tuning.worst * worst)) & (ratio == maximum_filter(ratio, 3))
        if bad.mean() > tuning.most:
            break
    reason = (
        f"more than {100 * tuning.most:.0f} % of the pixels cannot be explained by light through this PSF (a border without "
        "light, a PSF that is far too wide, very unequal pixels): no pixel is left out; crop the stack to what is valid (roi)"
    )
    return np.zeros_like(bad), mean, reason


class _Prediction:
    """Every pixel of a mean frame from all the others."""

    def __init__(
        self, psi: Psi, light: float, noise: float, iterations: int = DEFAULT.calibration.bad_pixels.iterations
    ) -> None:
        from scipy import fft

        self.fft, self.iterations = fft, iterations
        power = light_power(psi)
        self.inverse = 1.0 / (light / power.mean() * power + noise)
        self.inverse[0, 0] = 0.0  # the prior has no mean level: any brightness of the field is equally likely
        down, across = (fft.dct(np.eye(size), axis=0, norm="ortho") ** 2 for size in psi.shape)
        self.diagonal = down.T @ self.inverse @ across

    def _precision(self, image: np.ndarray) -> np.ndarray:
        """K^-1 image."""
        return np.asarray(self.fft.idctn(self.fft.dctn(image, norm="ortho") * self.inverse, norm="ortho"))

    def misses(self, image: np.ndarray) -> np.ndarray:
        """How far each pixel is above what all the others predict."""
        return self._precision(image) / self.diagonal

    def filled(self, image: np.ndarray, bad: np.ndarray) -> np.ndarray:
        """The image with what the other pixels predict where pixels are bad, all of them together."""
        from scipy.sparse.linalg import LinearOperator, cg

        count = int(bad.sum())
        if not count:
            return image

        def among_bad(values: np.ndarray) -> np.ndarray:
            part = np.zeros(image.shape)
            part[bad] = values.ravel()
            return self._precision(part)[bad]

        operator = LinearOperator((count, count), matvec=among_bad, dtype=np.float64)
        scaled = LinearOperator((count, count), matvec=lambda values: values.ravel() / self.diagonal[bad], dtype=np.float64)
        above, _ = cg(operator, self._precision(image)[bad], M=scaled, rtol=1e-6, maxiter=self.iterations)
        filled = image.copy()
        filled[bad] -= above
        return filled

    def misses_of_points(self, psi: Psi) -> float:
        """Largest prediction error of a point source at any place in its pixel, in units of its brightness."""
        middle = [psi.factor * (size // 2) for size in psi.shape]
        most = 0.0
        for phase in np.ndindex(psi.factor, psi.factor):
            seen = psi.backend.to_host(psi.column((middle[0] + phase[0], middle[1] + phase[1]))).astype(np.float64)
            most = max(most, float(np.abs(self.misses(seen)).max() / seen.max())) if seen.max() > 0 else most
        return most


def light_power(psi: Psi) -> np.ndarray:
    """Power that camera pixels see of points anywhere, at the frequencies of the cosine transform, 1 at the lowest."""
    waves = [
        np.exp(-1j * np.pi * np.outer(np.arange(size) / size, np.arange(taps)))
        for size, taps in zip(psi.shape, psi.table.shape[2:])
    ]
    power = np.zeros(psi.shape)
    for phase in np.ndindex(psi.table.shape[:2]):
        for across in (waves[1], waves[1].conj()):  # cosines run both ways
            power += np.abs(waves[0] @ psi.table[phase] @ across.T) ** 2
    return power / power[0, 0]
