"""All methods on one region: images, and what can be measured of them without a truth."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import numpy as np

import fluogan_core as fg
from fluogan_core.metrics.images import blurred_agreement
from fluogan_core.metrics.prediction import held_out_score
from fluogan_core.metrics.resolution import fourier_ring_correlation

from ..paper._methods import METHODS, Job, left_out, warm_up
from ._stacks import FACTOR, Region

__all__ = ["COLUMNS", "Found", "Judged", "compare"]

#: Method -> its title in the picture.
COLUMNS = {
    "temporal mean": "mean",
    "Richardson-Lucy (scikit-image)": "Richardson-Lucy",
    "second-order SOFI": "SOFI, 2nd order",
    "eSRRF (nanopyx)": "eSRRF",
    "mean fit": "mean fit",
    "full method": "full method",
}


@dataclass(frozen=True)
class Judged:
    """What was measured of one method on one region.

    Attributes
    ----------
    method : str
    resolution_nm : float or None
        Fourier ring correlation of odd with even frames.
    reason : str
        Why there is none.
    log_density : float or None
        Of each half's frames under the moments fitted to the other; None where an image has no unit of light.
    rsp : float or None
    rse : float
        Photons.
    seconds : float
    """

    method: str
    resolution_nm: float | None
    reason: str
    log_density: float | None
    rsp: float | None
    rse: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Found:
    """Everything about one region.

    Attributes
    ----------
    region : Region
    estimate : CameraEstimate
    psf_width : PSFWidth
        Beside the width that is stated.
    excess : float
        Noise of the mean frame over what its fluctuations explain.
    stop_reason : str
        Of the fit to all frames.
    images : dict of str to array
        What is shown of each method: camera pixels of the mean, fine pixels of the others.
    judged : list of Judged
    """

    region: Region
    estimate: fg.CameraEstimate
    psf_width: fg.PSFWidth
    excess: float
    stop_reason: str
    images: dict[str, np.ndarray]
    judged: list[Judged]


@dataclass(frozen=True, eq=False)
class _Made:
    """One method's image of some frames.

    Attributes
    ----------
    light : (N1, N2) array
        Photons per fine pixel and frame.
    background : (M1, M2) array or None
        Photons per camera pixel and frame, where the method has one.
    prediction : (light, background) or None
        What it says of other frames, where it says something.
    psi : Psi
        What it was seen through, one photon per emission.
    seconds : float
    """

    light: np.ndarray
    background: np.ndarray | None
    prediction: tuple[np.ndarray, np.ndarray] | None
    psi: fg.Psi
    seconds: float


def compare(region: Region, options: fg.SolverOptions) -> Found:
    """Make every image of all frames, of the odd and of the even ones, and judge it.

    Parameters
    ----------
    region : Region
    options : SolverOptions
        Of our own reconstruction.
    """
    calibration = fg.calibrate(region.frames, region.psi())
    estimate, psf_width = calibration.estimate, calibration.psf_width
    counts = region.frames.astype(np.float32) - np.float32(estimate.camera.offset)
    halves = (slice(0, None, 2), slice(1, None, 2))
    parts = (dataclasses.replace(region, frames=region.frames[part]) for part in (slice(None), *halves))
    jobs = [Job(part, psf_width=psf_width.width, estimate=estimate, options=options) for part in parts]
    missing = left_out()
    names = [name for name in COLUMNS if name not in missing]
    warm_up(names, jobs[0].as_described.psi)
    target = jobs[0].mean[region.shown]
    judged, images = [], {}
    for name in names:
        first, odd, even = (_ours(job, name) if name in job.seconds else _peer(job, name) for job in jobs)
        fine = region.shown_fine
        rings = fourier_ring_correlation(odd.light[fine], even.light[fine], region.source.pixel_size_nm / FACTOR)
        # each half's prediction meets the frames of the other
        scores = [_score(one, counts[part], estimate) for one, part in zip((odd, even), reversed(halves))]
        blurred = first.psi.forward(first.light.astype(np.float32)) + (0 if first.background is None else first.background)
        agreement = blurred_agreement(blurred[region.shown], target, _as_it_is(target.shape))
        density = None if None in scores else float(np.mean(scores))
        judged.append(Judged(name, rings.resolution_nm, rings.reason, density, agreement.rsp, agreement.rse, first.seconds))
        images[name] = target if name == "temporal mean" else first.light[fine]
    return Found(region, estimate, psf_width, calibration.noise.excess, jobs[0].stop_reason, images, judged)


def _ours(job: Job, name: str) -> _Made:
    image = job.full if name == "full method" else job.fit
    return _Made(image.x, image.b, (image.x, image.b), job.own_psi, job.seconds[name])


def _peer(job: Job, name: str) -> _Made:
    started, job = time.perf_counter(), job.as_described
    light = METHODS[name](job)
    seconds = time.perf_counter() - started
    if name == "temporal mean":  # as a prediction: a light that does not flicker
        return _Made(light, None, (np.zeros_like(light), np.maximum(job.mean, 0)), job.psi, seconds)
    if name == "Richardson-Lucy (scikit-image)":
        return _Made(light, job.fit.b, (light, job.fit.b), job.psi, seconds)
    return _Made(light, None, None, job.psi, seconds)  # no unit of light, no prediction


def _score(made: _Made, counts: np.ndarray, estimate: fg.CameraEstimate) -> float | None:
    if made.prediction is None:
        return None
    light, b = (image.astype(np.float32) for image in made.prediction)
    camera, kappa = estimate.camera, estimate.photons_per_emitter
    model = fg.ForwardModel(made.psi.replaced(photons_per_emitter=kappa), gain=camera.gain, noise_std=camera.noise_std)
    return held_out_score(counts, model, light / np.float32(kappa), b).log_density


def _as_it_is(shape: tuple[int, ...]) -> fg.Psi:
    """The operator that blurs nothing: what is compared has been blurred on the whole region, and cut."""
    return fg.Psi(np.ones((1, 1)), (shape[0], shape[1]), 1, backend="numpy")
