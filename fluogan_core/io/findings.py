"""What a page of report adds to the numbers of a report: misfit of the mean frame, light of structures, plan."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..backend.kinds import as_array
from ..physics.psf import FWHM_PER_SIGMA, psf_sigma
from ..planning.plan import Plan, plan_from
from ..tuning import DEFAULT

if TYPE_CHECKING:
    from ..calibration.calibrate import Calibration
    from ..solvers.result import Result

__all__ = ["Structure", "brightest_structures", "misfit_of_mean", "plan_of", "share_of_image"]

#: Structures are the connected regions of x above this share of its bright pixels.
_LIT = 0.1
#: So many of them are listed.
_LISTED = 5
#: Those whose light is less than so many standard errors are not.
_CERTAIN = 3.0


@dataclass(frozen=True)
class Structure:
    """A connected region of x and its light.

    Attributes
    ----------
    row, column : float
        Centre of its light, camera pixels from the upper left corner of the field.
    area : float
        Camera pixels that it covers.
    light, error : float
        Detected photons per frame, and the standard error that photon noise, read noise and the random number of emissions
        leave, for this shape and independent frames.
    share : float
        Of all light in x.
    """

    row: float
    column: float
    area: float
    light: float
    error: float
    share: float


def misfit_of_mean(result: Result, frames: int) -> tuple[float, np.ndarray]:
    """How far the mean frame is from what x and b predict, in standard errors of photon noise and read noise.

    Parameters
    ----------
    result : Result
        On the host.
    frames : int
        Frames in the mean.

    Returns
    -------
    rms : float
        Over the pixels that are not bad.  About 1 or less where x and b explain the light.
    map : (M1, M2) float64
        (mean - Psi x - b) per standard error; NaN at bad pixels.
    """
    predicted = _camera_image(result, result.x) + _host(result, result.b)
    good = ~np.asarray(result.bad_pixels, dtype=bool)
    misfit = np.where(good, (_host(result, result.mean) - predicted) / np.sqrt(_variance(result, predicted, frames)), np.nan)
    return float(np.sqrt(np.nanmean(misfit**2))) if good.any() else math.nan, misfit


def brightest_structures(result: Result, frames: int, grain: float = 1.0) -> list[Structure]:
    """Find the structures of x with the most light, and the light's standard errors.

    Parameters
    ----------
    result : Result
        On the host.
    frames : int
        Frames that it was fitted to.
    grain : float
        How many times noisier the mean frame is than photons and read noise make it, as with unequal camera pixels.

    Returns
    -------
    list of Structure
        At most five whose light is three errors or more, that with the most light first; empty where x is dark.

    Notes
    -----
    Dimmer light within half the width of the PSF belongs to the nearest structure.  The errors are those of a weighted
    least-squares fit of the mean frame by the structures, each with its shape fixed, and a level of the background.
    The number of emissions in T frames is a Poisson number; its part is :math:`\\kappa^2 N / T` with N the emissions per frame.
    """
    from scipy.ndimage import distance_transform_edt, label

    x = _host(result, result.x)
    top = float(np.percentile(x, 99.8)) or float(x.max())
    if not top > 0:
        return []
    lit, count = label(x > _LIT * top, np.ones((3, 3)))
    # the dim rim of a structure is its own light: the fit draws it wider or narrower by chance
    distance, nearest = distance_transform_edt(lit == 0, return_indices=True)
    regions = np.where(distance <= 0.5 * FWHM_PER_SIGMA * psf_sigma(result.psi.psf), lit[tuple(nearest)], 0)
    emissions = np.bincount(regions.ravel(), x.ravel(), count + 1)
    emissions[0] = 0.0
    chosen = [number for number in np.argsort(-emissions, kind="stable")[:_LISTED] if emissions[number] > 0]
    parts = [np.where(regions == number, x, 0.0) for number in chosen]
    images = [_camera_image(result, part) for part in parts]
    whole = _camera_image(result, x)
    good = ~np.asarray(result.bad_pixels, dtype=bool)
    weight = good / _variance(result, whole + _host(result, result.b), frames)
    design = np.stack([image.ravel() for image in (*images, np.ones_like(whole))], axis=1)
    covariance = np.linalg.pinv(design.T @ (weight.ravel()[:, None] * design))
    total, found = float(whole.sum()), []
    factor, kappa = result.psi.factor, result.psi.photons_per_emitter
    rows, columns = (np.arange(size) for size in x.shape)
    for number, part, image, relative in zip(chosen, parts, images, np.diag(covariance)):
        light, amount = float(image.sum()), float(part.sum())
        variance = (grain * light) ** 2 * relative + kappa**2 * amount / frames
        found.append(
            Structure(
                row=float(part.sum(axis=1) @ (rows + 0.5) / amount) / factor,
                column=float(part.sum(axis=0) @ (columns + 0.5) / amount) / factor,
                area=float((lit == number).sum()) / factor**2,
                light=light,
                error=math.sqrt(variance),
                share=light / total,
            )
        )
    # light that a border cuts off is in x, but not in the frames
    return sorted((one for one in found if one.light >= _CERTAIN * one.error), key=lambda one: -one.light)


def share_of_image(result: Result) -> float:
    """The part of the light of the mean frame that is in x; the rest is background."""
    image, background = _camera_image(result, result.x).sum(), _host(result, result.b).sum()
    return float(image / max(image + background, 1e-300))


def plan_of(calibration: Calibration, result: Result, pixel_size_nm: float, frames: int) -> tuple[Plan | None, str]:
    """Return what as many frames of the light in x can show, or None and why that is not known."""
    # light out of focus is background, however uneven it is: no line is made of it
    light = _camera_image(result, result.x) + float(_host(result, result.b).mean())
    in_focus = replace(calibration, mean=light * calibration.camera.gain)
    try:
        return plan_from(in_focus, pixel_size_nm, frames=frames, changes=False), ""
    except np.linalg.LinAlgError:
        return None, "no background and no read noise were found, so the noise of dark places is not known"
    except (ValueError, TypeError) as error:
        return None, str(error)


def _host(result: Result, image: object) -> np.ndarray:
    return np.asarray(result.psi.backend.to_host(as_array(image, "image")), dtype=np.float64)


def _camera_image(result: Result, x: np.ndarray) -> np.ndarray:
    """Light of x on the camera, photons per frame."""
    return _host(result, result.psi.forward(result.psi.backend.asarray(x, dtype=np.float32)))


def _variance(result: Result, light: np.ndarray, frames: int) -> np.ndarray:
    """Variance of the mean frame from photon noise and read noise, photons^2."""
    read = (result.camera.noise_std / result.camera.gain) ** 2
    variance = np.maximum(light + read, 0)
    # where neither light nor read noise is predicted, as with an estimated read noise of 0, it is not nothing all the same
    return (variance + DEFAULT.covariance_phase.variance_floor * variance.mean() + 1e-12) / frames
