"""How many frames, how much light, which pixel: the finest separation that a recording can show, and what more of each buys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..backend.checks import instance_of, length_or_time, real_number, whole_number
from ..physics.psf import airy_psf, gaussian_psf, scaled_psf
from .information import Optics, Separability, Sight, separability
from .likelihood import LikelihoodPlan, NotSampled, finest, frames_needed, frames_until, likelihood_plan

if TYPE_CHECKING:
    from ..calibration.calibrate import Calibration

__all__ = ["Change", "Plan", "plan", "plan_from"]

#: Standard deviations at which a gap counts as seen.
SIGNIFICANCE = 3.0
#: Fine pixels are at most this fraction of the PSF's width.
_FINENESS = 1 / 20
#: Separations are looked for from this fraction of the PSF's width up to this multiple of it.
_RANGE = (0.1, 1.5)
_POINTS = 16
#: The full likelihood is sampled from so much above what mean and covariance tell, downwards.
_ABOVE = 1.05
#: Camera pixels that are planned for, in widths of the PSF.
_PIXELS = (0.1, 1.5)


@dataclass(frozen=True)
class Change:
    """What one change of the recording would buy.

    Attributes
    ----------
    name : str
        The change in words.
    mean_nm, both_nm : float
        Finest separations with it, as in :class:`Plan`.
    """

    name: str
    mean_nm: float
    both_nm: float


@dataclass(frozen=True, eq=False)
class Plan:
    """The finest separation that a recording can show.

    Attributes
    ----------
    mean_nm : float
        Finest separation of two lines that the mean frame tells from every image without a gap, at ``significance`` standard
        deviations; infinite if none up to one and a half times the PSF's width is told.
    both_nm : float
        The same by mean and covariance of the frames.
    significance : float
        Standard deviations.
    separations_nm : (S,) float64
        Separations of the two curves.
    by_mean, by_both : (S,) float64
        Standard deviations by which the frames of a pair differ from those of the nearest image without a gap.
    changes : tuple of Change
        What more frames, more light, less background, a smaller pixel and half the length would do.
    conditions : dict of str to float
        What was planned for.
    likelihood : LikelihoodPlan or None
        The same by the full likelihood of the frames, if it was asked for and could be sampled.
    not_sampled : str
        Why it could not be sampled, in words; empty otherwise.
    recording : (Optics, Sight) or None
        What :meth:`frames_for` goes by where unequal pixels leave a pattern in the mean frame.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> found = fg.plan(pixel_size_nm=100, fwhm_nm=318, photons=20, background=2, photons_per_emitter=5, frames=200)
    >>> [change.name for change in found.changes][:2]
    ['twice the frames', 'twice the light per frame']
    >>> by_mean, by_both = found.frames_for(150)
    >>> bool(by_both < by_mean)
    True
    """

    mean_nm: float
    both_nm: float
    significance: float
    separations_nm: np.ndarray
    by_mean: np.ndarray
    by_both: np.ndarray
    changes: tuple[Change, ...]
    conditions: dict[str, float]
    likelihood: LikelihoodPlan | None = None
    not_sampled: str = ""
    recording: tuple[Optics, Sight] | None = None

    def frames_for(self, separation_nm: float) -> tuple[float, float]:
        """How many independent frames tell lines of this separation from an image without a gap.

        Parameters
        ----------
        separation_nm : float
            Within the range of ``separations_nm``.

        Returns
        -------
        by_mean, by_both : float
            Frames.  The squared standard deviations grow with their number, or less where pixels are unequal: infinite where
            no number of frames is enough.

        Raises
        ------
        ValueError
            If the separation is outside the curve.
        """
        by_mean, by_both = (
            frames_needed(separation_nm, self.separations_nm, curve, self.significance, self.conditions["frames"])
            for curve in (self.by_mean, self.by_both)
        )
        if self.recording is None:
            return by_mean, by_both
        optics, sight = self.recording

        def told(frames: float) -> Separability:
            return separability(separation_nm, optics, replace(sight, frames=frames))

        return (
            frames_until(lambda frames: told(frames).mean >= self.significance),
            frames_until(lambda frames: told(frames).both >= self.significance),
        )


def plan(
    *,
    pixel_size_nm: float,
    fwhm_nm: float | None = None,
    wavelength_nm: float | None = None,
    na: float | None = None,
    photons: float,
    background: float = 0.0,
    photons_per_emitter: float,
    read_noise: float = 1.5,
    frames: int = 500,
    length_nm: float = 1000.0,
    significance: float = SIGNIFICANCE,
    likelihood: bool = False,
) -> Plan:
    """Plan a recording of two parallel lines from its optics, light and camera.

    Parameters
    ----------
    pixel_size_nm : float
        Camera pixel in the object plane, nm.
    fwhm_nm : float, optional
        Width of a Gaussian PSF, nm; or
    wavelength_nm, na : float, optional
        emission wavelength, nm, and numerical aperture of an Airy PSF.
    photons : float
        Detected photons per frame that are expected in the brightest camera pixel, background apart.
    background : float
        Detected photons per camera pixel and frame.
    photons_per_emitter : float
        kappa: detected photons of one emission, from one molecule in one frame.  The variance of the frames in excess of
        their photon noise is kappa times what the PSF spreads over its pixels.
    read_noise : float
        Standard deviation of the read noise, photons.
    frames : int
        Frames that are independent.  Molecules that stay on for several frames make fewer of them.
    length_nm : float
        Length of the two lines, nm.
    significance : float
        Standard deviations at which a gap counts as seen.
    likelihood : bool
        Whether to sample what the full likelihood of the frames tells, which takes from ten seconds to some minutes.

    Returns
    -------
    Plan

    Raises
    ------
    TypeError, ValueError
        If a value is not a number or is out of its range, or the PSF is described in no way or in two.

    Notes
    -----
    The bounds are those of :mod:`fluogan_core.planning.information`: PSF, camera and kappa known, the smooth background and the
    brightness free.  A method that must estimate more does worse.  Covariances scatter as those of frames of eq. (1) do, where
    few bright molecules are on in a frame more than those of Gaussian frames (:mod:`fluogan_core.planning.scatter`).  What the
    full likelihood tells is sampled (:mod:`fluogan_core.planning.likelihood`).

    Examples
    --------
    >>> import fluogan_core as fg
    >>> found = fg.plan(pixel_size_nm=100, fwhm_nm=318, photons=160, background=10, photons_per_emitter=20)
    >>> bool(found.both_nm < found.mean_nm < 150)
    True
    """
    pixel = length_or_time(pixel_size_nm, "pixel_size_nm")
    airy = wavelength_nm is not None or na is not None
    if (fwhm_nm is not None) == airy or (airy and (wavelength_nm is None or na is None)):
        raise ValueError("describe the PSF in one way: fwhm_nm, or wavelength_nm with na")
    sight = _sight(photons, background, photons_per_emitter, read_noise, frames, length_nm)

    def optics(pixel: float) -> Optics:
        if fwhm_nm is not None:
            factor = _factor(pixel, length_or_time(fwhm_nm, "fwhm_nm"))
            return Optics(gaussian_psf(fwhm_nm, pixel, factor), pixel, factor)
        assert wavelength_nm is not None
        assert na is not None
        wavelength = length_or_time(wavelength_nm, "wavelength_nm")
        factor = _factor(pixel, 0.51 * wavelength / real_number(na, "na", low=0, high=2, open_low=True))
        return Optics(airy_psf(wavelength, na, pixel, factor), pixel, factor)

    return _planned(optics(pixel), sight, significance, optics, with_likelihood=likelihood)


def plan_from(
    calibration: Calibration,
    pixel_size_nm: float,
    *,
    frames: int = 500,
    length_nm: float = 1000.0,
    significance: float = SIGNIFICANCE,
    changes: bool = True,
    likelihood: bool = False,
) -> Plan:
    """Plan from a pilot stack: its PSF, light, background, flicker and noise, as :func:`fluogan_core.calibrate` found them.

    Parameters
    ----------
    calibration : Calibration
        Of the pilot stack.
    pixel_size_nm : float
        Camera pixel in the object plane, nm.
    frames : int
        Independent frames of the recording that is planned.
    length_nm, significance : float
        As in :func:`plan`.
    changes : bool
        Whether to find what changes of the recording would buy, which takes most of the time.
    likelihood : bool
        As in :func:`plan`.

    Returns
    -------
    Plan

    Raises
    ------
    TypeError, ValueError
        As :func:`plan`.

    Notes
    -----
    The background is the fifth percentile of the mean frame, the light its 99.5th percentile less that.  What a smaller pixel
    would buy is not said: the PSF is known on the pilot's pixels alone.  Unequal pixels, which make the pilot's mean frame
    noisier than its fluctuations explain, leave the same pattern in the mean of a longer recording: more frames help the mean
    less.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (16, 16), 2, backend="numpy")
    >>> x = np.zeros((32, 32), "f4"); x[8:24, 15:17] = 2
    >>> frames = fg.ForwardModel(psi.replaced(photons_per_emitter=20.0)).sample(x, np.ones((16, 16), "f4"), 200, 0)
    >>> found = fg.calibrate(frames, psi, camera=fg.Camera(1.0, 0.0, 1.0), photons_per_emitter=20, psf_width=1)
    >>> bool(100 < fg.plan_from(found, pixel_size_nm=100).both_nm < 318)
    True
    """
    from ..calibration.calibrate import Calibration

    instance_of(calibration, Calibration, "calibration")
    pixel = length_or_time(pixel_size_nm, "pixel_size_nm")
    kappa, noise = calibration.psi.photons_per_emitter, calibration.noise
    light = calibration.mean / calibration.camera.gain
    background = max(float(np.percentile(light, 5)), 0.0)
    sight = _sight(
        max(float(np.percentile(light, 99.5)) - background, 1e-6),
        background,
        kappa,
        calibration.camera.noise_std / calibration.camera.gain,
        frames,
        length_nm,
        # what the pilot's mean frame has beyond what its fluctuations explain stays, however long one records
        noise.of_mean / noise.excess * math.sqrt(noise.unexplained**2 - 1.0) / calibration.camera.gain,
    )
    psf, factor = np.asarray(calibration.psi.psf), calibration.psi.factor
    finer = max(1, math.ceil(_factor(pixel, Optics(psf, pixel, factor).fwhm_nm) / factor))
    if finer > 1:
        psf, factor = scaled_psf(psf, float(finer)), factor * finer
    return _planned(Optics(psf, pixel, factor), sight, significance, None, with_changes=changes, with_likelihood=likelihood)


def _sight(
    photons: float,
    background: float,
    photons_per_emitter: float,
    read_noise: float,
    frames: int,
    length_nm: float,
    fixed_pattern: float = 0.0,
) -> Sight:
    return Sight(
        real_number(photons, "photons", low=0, open_low=True),
        real_number(background, "background", low=0),
        real_number(photons_per_emitter, "photons_per_emitter", low=0, open_low=True),
        real_number(read_noise, "read_noise", low=0),
        whole_number(frames, "frames", low=2),
        length_or_time(length_nm, "length_nm"),
        fixed_pattern,
    )


def _factor(pixel_size_nm: float, fwhm_nm: float) -> int:
    """Fine pixels per camera pixel that resolve the PSF well."""
    return max(4, math.ceil(pixel_size_nm / (_FINENESS * fwhm_nm)))


def _planned(
    optics: Optics,
    sight: Sight,
    significance: float,
    at_pixel: Callable[[float], Optics] | None,
    with_changes: bool = True,
    with_likelihood: bool = False,
) -> Plan:
    """The plan; ``at_pixel`` describes the PSF on other camera pixels, if that is known."""
    significance = real_number(significance, "significance", low=0, open_low=True, high=100)
    if not _PIXELS[0] * optics.fwhm_nm <= optics.pixel_size_nm <= _PIXELS[1] * optics.fwhm_nm:
        raise ValueError(
            f"a camera pixel of {optics.pixel_size_nm:g} nm under a PSF {optics.fwhm_nm:.3g} nm wide is outside the "
            f"range planned for, {_PIXELS[0]:g} to {_PIXELS[1]:g} widths: are both in nanometres, in the object plane?"
        )
    separations = np.geomspace(*_RANGE, _POINTS) * optics.fwhm_nm

    def curves(optics: Optics, sight: Sight) -> tuple[np.ndarray, np.ndarray]:
        found = [separability(float(separation), optics, sight) for separation in separations]
        return np.array([f.mean for f in found]), np.array([f.both for f in found])

    by_mean, by_both = curves(optics, sight)
    both_nm = finest(separations, by_both, significance)
    sampled, not_sampled = None, ""
    if with_likelihood:
        try:
            sampled = likelihood_plan(optics, sight, significance, below_nm=min(_ABOVE * both_nm, float(separations[-1])))
        except NotSampled as error:
            not_sampled = str(error)
    changes = tuple(
        Change(name, *(finest(separations, curve, significance) for curve in curves(changed_optics, changed)))
        for name, changed_optics, changed in (_changes(optics, sight, at_pixel) if with_changes else ())
    )
    return Plan(
        mean_nm=finest(separations, by_mean, significance),
        both_nm=both_nm,
        significance=significance,
        separations_nm=separations,
        by_mean=by_mean,
        by_both=by_both,
        changes=changes,
        conditions={"pixel_size_nm": optics.pixel_size_nm, "fwhm_nm": optics.fwhm_nm} | asdict(sight),
        likelihood=sampled,
        not_sampled=not_sampled,
        recording=(optics, sight) if sight.fixed_pattern > 0 else None,
    )


def _changes(optics: Optics, sight: Sight, at_pixel: Callable[[float], Optics] | None) -> Iterator[tuple[str, Optics, Sight]]:
    """What one could do otherwise: its name, and the recording that it gives."""
    yield "twice the frames", optics, replace(sight, frames=2 * sight.frames)
    # twice the exposure, or the laser: emissions and background grow alike, in light
    twice = replace(sight, photons=2 * sight.photons, background=2 * sight.background)
    yield "twice the light per frame", optics, replace(twice, photons_per_emitter=2 * sight.photons_per_emitter)
    if sight.background > 0:
        yield "half the background", optics, replace(sight, background=sight.background / 2)
    if at_pixel is not None:
        smaller = at_pixel(optics.pixel_size_nm / 1.5)
        area = 1.5**2
        fewer = replace(sight, photons=sight.photons / area, background=sight.background / area)
        yield "pixels of two thirds the size", smaller, fewer
    yield "lines of half the length", optics, replace(sight, length_nm=sight.length_nm / 2)
