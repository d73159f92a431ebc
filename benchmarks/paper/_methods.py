"""What is compared: images on the fine grid, photons per fine pixel and frame, from one recorded stack each.

The peers that need a background get the one that our mean fit found, so that only the image is compared.
They use the PSF as described; camera and background that they get were found with the same PSF.
Images without a unit of light (SOFI, SRRF, eSRRF) are scaled to the light above that background.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy import ndimage

import fluogan_core as fg

from . import _nanopyx

__all__ = ["FOR_WRONG_PSF", "METHODS", "Image", "Job", "Recording", "left_out", "peer_versions", "spread", "warm_up"]

_BY_SKIMAGE = ("Richardson-Lucy (scikit-image)", "second-order SOFI, Richardson-Lucy")
_BY_NANOPYX = ("SRRF (nanopyx)", "eSRRF (nanopyx)")


class Recording(Protocol):
    """A stack and the operator of its field."""

    @property
    def frames(self) -> np.ndarray:
        """(T, M1, M2), counts."""

    def psi(self, width: float = 1.0) -> fg.Psi:
        """One photon per emission, the PSF ``width`` times as wide as it is said to be."""


@dataclass(frozen=True, eq=False)
class Image:
    """What the library found: photons per fine pixel and frame, and of the background per camera pixel and frame."""

    x: np.ndarray
    b: np.ndarray


class Job:
    """One stack with what the methods share: the camera's estimate, the mean frame, and our own reconstruction.

    Parameters
    ----------
    scene : Recording
    width : float
        Width of the PSF that is described, relative to the true one.
    psf_width : float, optional
        What we take it to be, relative to the one described; from the frames if not given.
    estimate : CameraEstimate, optional
        Of camera and photons per emission; from the frames if not given.
    options : SolverOptions, optional
        Of our own reconstruction; the defaults if not given.

    Attributes
    ----------
    psi : Psi
        One photon per emission, x in photons per fine pixel and frame; the PSF as described.
    psf_width : float
        Of the PSF that our own reconstruction went through, relative to that.
    own_psi : Psi
        With that PSF.
    full, fit : Image
        The reconstruction, and the fit of the mean that it began with.
    seconds : dict of float
        What each of them took.
    stop_reason : str
    """

    def __init__(
        self,
        scene: Recording,
        *,
        width: float = 1.0,
        psf_width: float | None = None,
        estimate: fg.CameraEstimate | None = None,
        options: fg.SolverOptions | None = None,
    ) -> None:
        self.scene, self.width, self.options = scene, width, options
        self.psi = scene.psi(width)
        known = {} if estimate is None else {"camera": estimate.camera, "photons_per_emitter": estimate.photons_per_emitter}
        found = fg.calibrate(scene.frames, self.psi, psf_width=psf_width, **known)
        self.psf_width, self.camera, kappa = found.psf_width.width, found.camera, found.estimate.photons_per_emitter
        self.own_psi = self.psi.scaled(self.psf_width)
        self.mean = (scene.frames.mean(axis=0) - self.camera.offset) / self.camera.gain
        started = time.perf_counter()
        made = fg.reconstruct(scene.frames, psi=found.psi, camera=self.camera, options=options, progress=False)
        whole = time.perf_counter() - started
        self.seconds = {"full method": whole, "mean fit": whole - made.timings.get("covariance fit", 0.0)}
        self.full, self.fit = Image(made.x * kappa, made.b), Image(made.x_mean_fit * kappa, made.b_mean_fit)
        self.stop_reason = made.stop_reason

    @cached_property
    def as_described(self) -> Job:
        """The same with the PSF as it is described."""
        return self if self.psf_width == 1 else Job(self.scene, width=self.width, psf_width=1.0, options=self.options)

    @cached_property
    def lit(self) -> np.ndarray:
        """The mean frame above the background that the fit found."""
        return np.maximum(self.mean - self.fit.b, 0.0)

    @property
    def above_offset(self) -> np.ndarray:
        """The frames less the camera's offset, (T, M1, M2) float32, not below zero."""
        return np.maximum(self.scene.frames.astype(np.float32) - np.float32(self.camera.offset), 0)


Method = Callable[[Job], np.ndarray]


def temporal_mean(job: Job) -> np.ndarray:
    """The mean frame, spread over the fine pixels."""
    return spread(np.maximum(job.mean - np.quantile(job.mean, 0.05), 0.0), job.psi.factor)


def sofi2(job: Job) -> np.ndarray:
    """Second-order SOFI: the covariance of consecutive frames, averaged over both directions of time."""
    return _lit(job, spread(_cumulant(job), job.psi.factor))


def sofi2_richardson_lucy(job: Job, steps: int = 200) -> np.ndarray:
    """Second-order SOFI, then Richardson-Lucy with the square of the PSF, which is the PSF of a second-order cumulant."""
    square = job.psi.psf.astype(np.float64) ** 2
    return _lit(job, _richardson_lucy(spread(_cumulant(job), job.psi.factor), square / square.sum(), steps))


def richardson_lucy(job: Job, steps: int = 200) -> np.ndarray:
    """Richardson-Lucy of scikit-image on the mean above the background."""
    return _richardson_lucy(spread(job.lit, job.psi.factor), job.psi.psf, steps)


def srrf(job: Job) -> np.ndarray:
    """SRRF of nanopyx with its defaults, on the counts above the offset, which would level out the weights of the frames."""
    return _lit(job, _nanopyx.srrf(job.above_offset, job.psi))


def esrrf(job: Job) -> np.ndarray:
    """eSRRF of nanopyx with its defaults, on the counts above the offset."""
    return _lit(job, _nanopyx.esrrf(job.above_offset, job.psi))


def fista(job: Job, steps: int = 1000) -> np.ndarray:
    """Non-negative least squares through Psi, accelerated."""
    psi, target = job.psi, job.mean.astype(np.float32) - job.fit.b
    step = np.float32(1.0 / psi.norm**2)
    x = ahead = np.zeros(psi.fine_shape, dtype=np.float32)
    t = 1.0
    for _ in range(steps):
        new = np.maximum(ahead - step * psi.adjoint(psi.forward(ahead) - target), 0)
        t_new = 0.5 * (1 + math.sqrt(1 + 4 * t * t))
        ahead, x, t = new + ((t - 1) / t_new) * (new - x), new, t_new
    return x


def mlem(job: Job, steps: int = 1000) -> np.ndarray:
    """Maximum likelihood of Poisson counts through Psi by expectation maximisation."""
    psi, target = job.psi, np.maximum(job.mean, 0).astype(np.float32)
    background = np.maximum(job.fit.b, 1e-3)
    sums = psi.column_sums.astype(np.float32)
    x = np.full(psi.fine_shape, max(float((target - background).mean()), 1e-3) / psi.factor**2, dtype=np.float32)
    for _ in range(steps):
        x = x * psi.adjoint(target / (psi.forward(x) + background)) / sums
    return x


def mean_fit(job: Job) -> np.ndarray:
    """Our fit of the mean."""
    return job.fit.x


def full_method(job: Job) -> np.ndarray:
    """Our reconstruction with its defaults."""
    return job.full.x


def _as_described(method: Method) -> Method:
    """The same on what is found with the PSF as it is described."""
    return lambda job: method(job.as_described)


_PEERS: dict[str, Method] = {
    "temporal mean": temporal_mean,
    "second-order SOFI": sofi2,
    "second-order SOFI, Richardson-Lucy": sofi2_richardson_lucy,
    "SRRF (nanopyx)": srrf,
    "eSRRF (nanopyx)": esrrf,
    "Richardson-Lucy (scikit-image)": richardson_lucy,
    "FISTA, 1000 steps": fista,
    "MLEM, 1000 steps": mlem,
}
METHODS: dict[str, Method] = {
    **{name: _as_described(method) for name, method in _PEERS.items()},
    "mean fit": mean_fit,
    "full method": full_method,
    "mean fit, PSF as described": _as_described(mean_fit),
    "full method, PSF as described": _as_described(full_method),
}
#: The same as others where the PSF is right.
FOR_WRONG_PSF = ("mean fit, PSF as described", "full method, PSF as described")


def left_out() -> dict[str, str]:
    """Methods that cannot run here, and why."""
    no_skimage = "" if importlib.util.find_spec("skimage") else "scikit-image is not installed"
    reasons = dict.fromkeys(_BY_SKIMAGE, no_skimage) | dict.fromkeys(_BY_NANOPYX, _nanopyx.why_no_nanopyx())
    return {name: reason for name, reason in reasons.items() if reason}


def warm_up(names: Iterable[str], psi: fg.Psi) -> None:
    """Import what the methods need, and measure where their points land: once per process, outside of all timings."""
    if not set(_BY_SKIMAGE).isdisjoint(names):
        importlib.import_module("skimage.restoration")
    if not set(_BY_NANOPYX).isdisjoint(names):
        _nanopyx.landings(psi)


def peer_versions(names: Iterable[str]) -> str:
    """A sentence with the versions of the packages that were compared with; empty without them."""
    by = {"scikit-image": _BY_SKIMAGE, "nanopyx": _BY_NANOPYX}
    here = [package for package, methods in by.items() if not set(methods).isdisjoint(names)]
    return "".join(f" {package} {importlib.metadata.version(package)}." for package in here)


def _cumulant(job: Job) -> np.ndarray:
    """Covariance of consecutive frames, where it is positive."""
    frames = job.scene.frames.astype(np.float32)
    frames -= frames.mean(axis=0)
    return np.maximum((frames[1:] * frames[:-1]).mean(axis=0), 0.0)


def _richardson_lucy(fine: np.ndarray, psf: np.ndarray, steps: int) -> np.ndarray:
    from skimage.restoration import richardson_lucy as iterate

    top = float(fine.max())
    return top * iterate(fine / top, psf, num_iter=steps, clip=False, filter_epsilon=1e-9)


def _lit(job: Job, image: np.ndarray) -> np.ndarray:
    """An image without a unit, scaled to the light above the background."""
    total = float(image.sum())
    return image * (float(job.lit.sum()) / total) if total > 0 else image


def spread(image: np.ndarray, factor: int) -> np.ndarray:
    """A camera image on the fine grid by cubic splines, the light of a camera pixel shared by its fine pixels."""
    rows, columns = ((np.arange(n * factor) + 0.5) / factor - 0.5 for n in image.shape)
    grid = np.meshgrid(rows, columns, indexing="ij")
    return np.maximum(ndimage.map_coordinates(image, grid, order=3, mode="nearest"), 0.0) / factor**2
