r"""Do the frames contain that there are two lines?  An answer that does not depend on any method of reconstruction.

``python -m benchmarks.paper.evidence``

The frames of a pair are compared with those of the best image *without a dip*: any non-negative mixture of bars centred on
the pair (all profiles that fall from the middle outwards), with outer lines and a smooth background of free brightness.  By how
many standard deviations the mean of T independent frames tells the two apart, under the covariance of the pair's frames,

.. math:: d'^2 = T \min_{\mu \in \text{no dip}} (\mu_\text{pair} - \mu)^T \Sigma^{-1} (\mu_\text{pair} - \mu),

bounds what any method can learn from the mean.  Second moments are compared for the same image: twice the Kullback-Leibler
divergence of the two Gaussians, with the mean's part under the pair's covariance as above, says how far mean and covariance
differ from that image; it is an upper bound for the best one.  Frames are taken as independent: molecules that stay on over
several frames make the independent ones fewer.

If the assumed PSF is narrower than the true one, the difference is smaller: the image has to make up for the missing blur, and
a pair that is blurred is closer to an image without a dip.  The frames are then compared with those of images without a dip
*through the narrower PSF*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import linalg, ndimage, optimize

import fluogan_core as fg

from .._harness import Options, Report
from .._study import alone
from ._scenes import (
    BACKGROUND,
    CONDITIONS,
    FWHM_NM,
    GAIN,
    PEAK,
    READ_NOISE,
    ROI,
    Condition,
    Geometry,
    make_scene,
    operator,
    peak_of_standard,
)

__all__ = ["Evidence", "evidence"]

#: Cosines per axis of the background that is free.
_ORDERS = 4
#: Width of an assumed PSF that is too narrow, relative to the true one.
_NARROW = 0.95


@dataclass(frozen=True)
class Evidence:
    """Standard deviations by which a recording tells a pair from an image without a dip.

    Attributes
    ----------
    of_bar : float
        From the control, a uniform bar of the pair's width and flux, by the mean.
    of_mean : float
        From the best image without a dip, by the mean.
    of_both : float
        From that same image, by mean and covariance.
    """

    of_bar: float
    of_mean: float
    of_both: float


def evidence(separation: float, light: float, kappa: float, geometry: Geometry = ROI, width: float = 1.0) -> Evidence:
    """How far ``geometry.frames`` frames of a pair are from those of other images.

    Parameters
    ----------
    separation : float
        nm.
    light : float
        Fraction of the full light.
    kappa : float
        Photons per emission.
    geometry : Geometry
        Of one group.
    width : float
        Of the PSF through which images without a dip are seen, relative to the pair's; at most 1.
    """
    pattern, control = geometry.pattern((separation,)), geometry.pattern((separation,), control=True)
    psi = operator(geometry, pattern.shape)
    scale = PEAK * light / peak_of_standard(geometry)
    pixels = psi.shape[0] * psi.shape[1]
    matrix = psi.adjoint(np.eye(pixels).reshape(-1, *psi.shape)).reshape(pixels, -1)
    background = np.full(matrix.shape[0], BACKGROUND * light)

    def covariance(x: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.diag(matrix @ x.ravel() + b + (READ_NOISE / GAIN) ** 2) + kappa * (matrix * x.ravel()) @ matrix.T

    x = pattern.x * scale
    spread = covariance(x, background)
    factor = linalg.cholesky(spread, lower=True)

    def whitened(images: np.ndarray) -> np.ndarray:
        return math.sqrt(geometry.frames) * linalg.solve_triangular(factor, images, lower=True)

    bar = whitened(matrix @ (control.x * scale - x).ravel())
    columns, fine = _without_dip(pattern, width)
    rates = operator(geometry, pattern.shape, width).forward(fine).reshape(len(fine), -1).T
    waves = _cosines(pattern.shape)
    # a background is as likely above as below: two columns of opposite sign each
    design = np.concatenate([rates, waves, -waves], axis=1)
    target = matrix @ x.ravel() + background
    weights, rest = optimize.nnls(whitened(design), whitened(target), maxiter=50 * design.shape[1])
    count = len(columns)
    best = np.tensordot(weights[:count], fine, axes=1)
    b = waves @ (weights[count : count + waves.shape[1]] - weights[count + waves.shape[1] :])
    return Evidence(float(np.linalg.norm(bar)), float(rest), _both(rest, spread, covariance(best, b), geometry.frames))


def _without_dip(pattern: fg.Pattern, width: float) -> tuple[list[float], np.ndarray]:
    """Images whose mixtures have no dip between the pair: centred bars of all widths, and lines of one fine pixel outside.

    Their ends are blurred by what a narrower PSF lacks.  Otherwise the ends alone would distinguish them from the pair.
    """
    fine_nm = pattern.pixel_size_nm / pattern.factor
    edges = np.arange(pattern.x.shape[1] + 1) * fine_nm
    rows = np.clip(np.diff(np.clip(np.arange(pattern.x.shape[0] + 1) * fine_nm, *pattern.span_nm)) / fine_nm, 0, 1)
    lacking_nm = FWHM_NM / math.sqrt(8 * math.log(2)) * math.sqrt(1 - width**2)
    rows = ndimage.gaussian_filter1d(rows, lacking_nm / fine_nm, mode="constant") if lacking_nm else rows
    left, first, second, right = pattern.lines_nm[0]
    centre, reach = (first + second) / 2, ((second + right) / 2 - (first + left) / 2) / 2
    halves = np.arange(fine_nm / 2, reach, fine_nm / 2)
    profiles = [np.diff(np.clip(edges, centre - h, centre + h)) / fine_nm for h in halves]
    outside = [k for k in range(pattern.x.shape[1]) if edges[k + 1] < centre - reach or edges[k] > centre + reach]
    profiles += [np.eye(pattern.x.shape[1])[k] for k in outside]
    return [*map(float, halves), *map(float, outside)], np.stack([np.outer(rows, p) for p in profiles])


def _cosines(shape: tuple[int, int]) -> np.ndarray:
    """Smooth backgrounds, (pixels, orders)."""
    down, across = (np.cos(np.pi * np.arange(_ORDERS)[:, None] * (np.arange(n) + 0.5) / n) for n in shape)
    return np.einsum("ai,bj->ijab", down, across).reshape(shape[0] * shape[1], -1)


def _both(of_mean: float, pair: np.ndarray, other: np.ndarray, frames: int) -> float:
    """Root of twice the divergence of the pair's Gaussian from the other's, over all frames; the mean's part as it comes."""
    ratio = linalg.solve(other, pair, assume_a="pos")
    spread = float(np.trace(ratio)) - len(pair) - float(np.linalg.slogdet(ratio)[1])
    return math.sqrt(of_mean**2 + frames * max(spread, 0.0))


def run(options: Options) -> Report:
    """A table over conditions and distances."""
    report = Report("evidence", options)
    geometry = options.pick(ROI, Geometry(shape=(20, 20), frames=60))
    rows = []
    for condition in options.pick(CONDITIONS, CONDITIONS[:2]):
        kappa = photons_per_emission(condition)
        for separation in options.pick((210.0, 180.0, 150.0, 120.0), (240.0,)):
            e = evidence(separation, condition.light, kappa, geometry)
            assumed = evidence(separation, condition.light, kappa, geometry, _NARROW)
            rows.append([condition.name, f"{separation:g} nm", e.of_bar, e.of_mean, e.of_both, assumed.of_mean])
    report.table(
        f"What {geometry.frames} frames hold: standard deviations by which a pair differs",
        [
            "condition",
            "distance",
            "from its bar, mean",
            "from the best image without a dip, mean",
            "mean and covariance",
            f"mean, a PSF {100 * (1 - _NARROW):.0f} % too narrow assumed",
        ],
        rows,
        "Camera and PSF known, frames independent, brightness and a smooth background free. Mean and covariance: against the "
        "image that fits the mean best, and so an upper bound.",
    )
    return report


def photons_per_emission(condition: Condition) -> float:
    """Kappa of a condition's recordings, in the double Poisson model's second moments."""
    few = Geometry(ROI.pixel_size_nm, ROI.factor, ROI.shape, frames=2)
    return make_scene(condition, (180.0,), 0, geometry=few).photons_per_emitter


if __name__ == "__main__":
    alone("benchmarks.paper.evidence", "evidence", run)
