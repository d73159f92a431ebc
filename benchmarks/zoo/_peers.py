"""What one would do otherwise: images on the fine grid from the same frames and the same described PSF.

Every peer gets the frames in photons by the *true* camera, which the library is given in half of the scenes only.  A peer
returns one image per setting.  One setting, named here, is what its authors publish or what its programs preset.  The others
show what the best stop could reach, which nobody can know without the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.fft import irfft2, next_fast_len, rfft2

import fluogan_core as fg

from ..paper import _nanopyx
from ..paper._methods import spread

__all__ = ["PEERS", "Peer", "Seen", "left_out"]

Images = dict[str, np.ndarray]
_STOPS = (5, 10, 20, 50, 100, 200, 500, 1000)
#: The peers' background is an opening of the mean frame: what is narrower than this many FWHM stands above it.
_OPENING = 4.0
#: Nodes along each side of the factor by which MLEM corrects that background.
_NODES = 3
#: Weights of total variation, in units of the noise that the mean frame's own leaves in the gradient.
_WEIGHTS = (10.0, 3.0, 1.0, 0.3, 0.1)
_FISTA_STEPS = 150
#: SACD as its authors preset it: Richardson-Lucy before and after, and the share of the mean that is subtracted.
_SACD = {"before": 7, "after": 8, "share": 0.8}
#: Gradient consensus: ends when fewer of the pixels than this are still updated.
_CONSENSUS_LEFT, _CONSENSUS_STEPS = 0.01, 500


@dataclass(frozen=True, eq=False)
class Seen:
    """What a peer knows.

    Attributes
    ----------
    photons : (T, M1, M2) float32
        The frames above the offset, by the true gain.
    psi : Psi
        With the PSF as described.
    variance_of_mean : float
        Typical variance of a pixel of the mean frame, photons^2, from the frames.
    seed : int
    """

    photons: np.ndarray
    psi: fg.Psi
    seed: int = 0

    @cached_property
    def mean(self) -> np.ndarray:
        """The mean frame, (M1, M2) float64."""
        return self.photons.mean(axis=0, dtype=np.float64)

    @cached_property
    def variance_of_mean(self) -> float:
        """From differences of consecutive frames."""
        steps = np.diff(self.photons, axis=0)
        return float((steps**2).mean()) / 2 / len(self.photons)

    @cached_property
    def dark(self) -> np.ndarray:
        """A background as one subtracts it before a deconvolution: what no structure of a few FWHM stands out of, (M1, M2)."""
        width = _width(self.psi.psf) / self.psi.factor
        radius = max(2, round(0.5 * _OPENING * width))
        disc = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) <= radius
        # the darkest of many noisy pixels would be too dark
        smooth = ndimage.gaussian_filter(self.mean, 0.5 * width, mode="nearest")
        opened = ndimage.grey_opening(smooth, footprint=disc, mode="nearest")
        return np.maximum(ndimage.gaussian_filter(opened, width, mode="nearest"), 0.0)

    @cached_property
    def above(self) -> np.ndarray:
        """The mean frame above that background, not below zero, (M1, M2)."""
        return np.maximum(self.mean - self.dark, 0.0)

    @cached_property
    def likelihood(self) -> tuple[Images, np.ndarray]:
        """Images of :func:`mlem` and the background at the setting that is published."""
        return _likelihood(self)


@dataclass(frozen=True)
class Peer:
    """A method: its images by setting, which of them is published, and whether they are photons per fine pixel and frame."""

    images: Callable[[Seen], Images]
    published: str
    has_unit: bool = True


def temporal_mean(seen: Seen) -> Images:
    """The mean frame above its background, by cubic splines."""
    return {"": spread(seen.above, seen.psi.factor)}


def richardson_lucy(seen: Seen) -> Images:
    """Richardson-Lucy through Psi on the mean frame less its background."""
    psi, target = seen.psi, seen.above.astype(np.float32)
    sums = psi.column_sums.astype(np.float32)
    x, made = np.full(psi.fine_shape, max(float(target.mean()), 1e-6) / psi.factor**2, np.float32), {}
    for step in range(1, _STOPS[-1] + 1):
        x = x * psi.adjoint(target / np.maximum(psi.forward(x), 1e-9)) / sums
        if step in _STOPS:
            made[f"{step} steps"] = x
    return made


def mlem(seen: Seen) -> Images:
    """Maximum likelihood of Poisson counts by expectation maximisation; a smooth factor of the background is fitted along."""
    return seen.likelihood[0]


def _tents(shape: tuple[int, ...]) -> np.ndarray:
    """Functions that add up to 1, (K, M1, M2)."""
    nodes = np.linspace(0, 1, _NODES)
    sides = [np.maximum(1 - np.abs((np.arange(n) + 0.5) / n - nodes[:, None]) * (_NODES - 1), 0) for n in shape]
    return np.einsum("ia,jb->ijab", *sides).reshape(_NODES**2, *shape).astype(np.float32)


def _likelihood(seen: Seen) -> tuple[Images, np.ndarray]:
    psi, target = seen.psi, np.maximum(seen.mean, 0.0).astype(np.float32)
    sums = psi.column_sums.astype(np.float32)
    # the iteration hardly moves smooth light between x and the background: it starts from what one would subtract
    tents = _tents(psi.shape) * np.maximum(seen.dark, 1e-3).astype(np.float32)
    tent_sums, levels = tents.sum(axis=(1, 2)), np.ones(len(tents), np.float32)
    background = published = tents.sum(axis=0)
    x = np.full(psi.fine_shape, max(float(seen.above.mean()), 1e-3) / psi.factor**2, np.float32)
    made = {}
    for step in range(1, _STOPS[-1] + 1):
        ratio = target / np.maximum(psi.forward(x) + background, 1e-9)
        x = x * psi.adjoint(ratio) / sums
        levels = levels * np.tensordot(tents, ratio, 2) / tent_sums
        background = np.tensordot(levels, tents, 1)
        if step in _STOPS:
            made[f"{step} steps"] = x
        if step == 200:
            published = background
    return made, published


def fista_tv(seen: Seen) -> Images:
    """Non-negative least squares with total variation, accelerated; "discrepancy": the most weight that explains the mean.

    The background is that of MLEM.
    """
    psi = seen.psi
    target = (seen.mean - seen.likelihood[1]).astype(np.float32)
    step, sigma = 1.0 / psi.norm**2, np.sqrt(max(seen.variance_of_mean, 1e-12))
    unit = sigma * float(np.sqrt(psi.column_energies.max()))
    x, made, chosen = np.zeros(psi.fine_shape, np.float32), {}, None
    for weight in _WEIGHTS:
        x = _fista(psi, target, x, step, weight * unit)
        made[f"weight {weight:g}"] = x
        if chosen is None and ((psi.forward(x) - target) ** 2).mean() <= 1.05 * sigma**2:
            chosen = x
    made["discrepancy"] = x if chosen is None else chosen
    return made


def _fista(psi: fg.Psi, target: np.ndarray, x: np.ndarray, step: float, weight: float) -> np.ndarray:
    ahead, t, dual = x, 1.0, np.zeros((2, *x.shape), np.float32)
    for _ in range(_FISTA_STEPS):
        new, dual = _denoised(ahead - np.float32(step) * psi.adjoint(psi.forward(ahead) - target), step * weight, dual)
        t_new = 0.5 * (1 + np.sqrt(1 + 4 * t * t))
        ahead, x, t = new + np.float32((t - 1) / t_new) * (new - x), new, t_new
    return x


def _denoised(image: np.ndarray, weight: float, dual: np.ndarray, steps: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Proximal step of isotropic total variation with x >= 0, by projected gradients that go on from the dual given."""
    weight = np.float32(max(weight, 1e-12))
    for _ in range(steps):
        slope = _slope(np.maximum(image + weight * _divergence(dual), 0))
        dual = dual + slope / (8 * weight)
        dual = dual / np.maximum(np.sqrt((dual**2).sum(axis=0)), 1)
    return np.maximum(image + weight * _divergence(dual), 0), dual


def _slope(image: np.ndarray) -> np.ndarray:
    """Forward differences, zero at the far border, (2, N1, N2)."""
    out = np.zeros((2, *image.shape), image.dtype)
    out[0, :-1], out[1, :, :-1] = np.diff(image, axis=0), np.diff(image, axis=1)
    return out


def _divergence(dual: np.ndarray) -> np.ndarray:
    """Minus the adjoint of :func:`_slope`."""
    out = np.zeros_like(dual[0])
    out[:-1] += dual[0, :-1]
    out[1:] -= dual[0, :-1]
    out[:, :-1] += dual[1, :, :-1]
    out[:, 1:] -= dual[1, :, :-1]
    return out


# -- fluctuations -----------------------------------------------------------------------------------------------------


def _convolutions(psf: np.ndarray, shape: tuple[int, int]) -> Callable[[np.ndarray, bool], np.ndarray]:
    """Convolution with a centred PSF (or its mirror image) of images (..., N1, N2), zero beyond the border."""
    sizes = [next_fast_len(n + k // 2, real=True) for n, k in zip(shape, psf.shape)]
    padded = np.zeros(sizes, np.float32)
    half = [k // 2 for k in psf.shape]
    for row in range(psf.shape[0]):
        for column in range(psf.shape[1]):
            padded[(row - half[0]) % sizes[0], (column - half[1]) % sizes[1]] += psf[row, column]
    spectrum = rfft2(padded)

    def convolved(images: np.ndarray, mirrored: bool = False) -> np.ndarray:
        found = irfft2(rfft2(images, sizes) * (spectrum.conj() if mirrored else spectrum), sizes)
        return found[..., : shape[0], : shape[1]]

    return convolved


def _lucy(images: np.ndarray, psf: np.ndarray, stops: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Richardson-Lucy of images (..., N1, N2) on their own grid."""
    convolved = _convolutions((psf / psf.sum()).astype(np.float32), images.shape[-2:])
    sums = np.maximum(convolved(np.ones(images.shape[-2:], np.float32), True), 1e-6)
    images = np.maximum(images, 0).astype(np.float32)
    x = np.broadcast_to(images.mean(axis=(-2, -1), keepdims=True), images.shape)
    made = {0: images}
    floor = 1e-7 * max(float(images.max()), 1e-20)
    for step in range(1, max(stops) + 1):
        x = np.maximum(x * convolved(images / np.maximum(convolved(x), floor), True) / sums, 0)
        if step in stops:
            made[step] = x
    return made


def sofi2(seen: Seen) -> Images:
    """Second-order SOFI with a lag of one frame; then Richardson-Lucy with the squared PSF."""
    frames = seen.photons - seen.photons.mean(axis=0)
    cumulant = np.maximum((frames[1:] * frames[:-1]).mean(axis=0, dtype=np.float64), 0)
    made = _lucy(spread(cumulant, seen.psi.factor), seen.psi.psf**2, (10, 50, 200))
    return {f"{step} steps": image for step, image in made.items()}


def sacd(seen: Seen) -> Images:
    """Super-resolution by autocorrelation of deconvolved frames (Zhao et al. 2023), written from the paper.

    Richardson-Lucy of each frame, twice the pixels by Fourier interpolation, the second-order cumulant without lag, and
    Richardson-Lucy with the squared PSF.
    """
    psi = seen.psi
    above = np.maximum(seen.photons - seen.dark.astype(np.float32), 0)
    sharp = _lucy(above, _binned(psi.psf, psi.factor), (_SACD["before"],))[_SACD["before"]]
    fine = np.maximum(_twice(sharp), 0)
    cumulant = ((fine - _SACD["share"] * fine.mean(axis=0)) ** 2).mean(axis=0, dtype=np.float64)
    on_grid = np.maximum(_regrid(cumulant, psi.fine_shape), 0)
    made = _lucy(on_grid, psi.psf**2, (_SACD["after"], 20, 50))
    return {f"{step} steps": image for step, image in made.items()}


def _binned(psf: np.ndarray, factor: int) -> np.ndarray:
    """The PSF on camera pixels, centred on one: the light of a uniform pixel in the pixels around it."""
    half = (len(psf) // 2 + factor) // factor + 1
    side = (2 * half + 1) * factor
    wide = np.zeros((side, side))
    start = (side - len(psf)) // 2
    wide[start : start + len(psf), start : start + len(psf)] = psf
    smooth = ndimage.uniform_filter(wide, factor, mode="constant")
    if (side - len(psf)) % 2 or factor % 2 == 0:  # the middle of an even block lies between samples
        smooth = ndimage.shift(smooth, [(side - 1) / 2 - c for c in ndimage.center_of_mass(smooth)], order=1)
    return np.maximum(smooth.reshape(2 * half + 1, factor, 2 * half + 1, factor).sum(axis=(1, 3)), 0)


def _twice(frames: np.ndarray) -> np.ndarray:
    """Fourier interpolation to half the pixel, mirrored at the border; samples lie in the middles of the new pixels."""
    mirrored = np.concatenate([frames, frames[:, ::-1]], axis=1)
    mirrored = np.concatenate([mirrored, mirrored[:, :, ::-1]], axis=2)
    n, m = mirrored.shape[1:]
    spectrum = np.fft.fft2(mirrored)
    wide = np.zeros((len(frames), 2 * n, 2 * m), spectrum.dtype)
    rows, columns = np.fft.fftfreq(n, 1 / n).astype(int), np.fft.fftfreq(m, 1 / m).astype(int)
    # samples of the new grid lie a quarter of an old pixel before the old ones
    phase = np.exp(-2j * np.pi * 0.25 * (rows[:, None] / n + columns / m))
    wide[:, rows[:, None] % (2 * n), columns % (2 * m)] = 4 * spectrum * phase
    return np.fft.ifft2(wide).real[:, :n, :m].astype(np.float32)


def _regrid(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """An image of a field by cubic splines on another grid of the same field."""
    axes = [(np.arange(n) + 0.5) * old / n - 0.5 for n, old in zip(shape, image.shape)]
    return ndimage.map_coordinates(image, np.meshgrid(*axes, indexing="ij"), order=3, mode="nearest")


# -- without a regulariser --------------------------------------------------------------------------------------------


def gradient_consensus(seen: Seen) -> Images:
    """Richardson-Lucy that stops pixel by pixel where two halves of the photons no longer agree (Manton and York).

    Written from its description.  Each step splits the photons of all frames by binomial thinning.  A pixel goes on where the
    updates that the two halves ask for have the same sign, their product being blurred by Psi and its adjoint.  The background
    is that of MLEM.
    """
    psi, frames = seen.psi, len(seen.photons)
    rng = np.random.default_rng([seen.seed, 3])
    total = np.maximum(np.rint(seen.mean * frames), 0).astype(np.int64)
    background = np.maximum(seen.likelihood[1], 1e-6) * frames
    sums = psi.column_sums.astype(np.float32)
    x = np.full(psi.fine_shape, max(float(total.mean() - background.mean()), 1.0) / psi.factor**2, np.float32)
    made = {}
    for step in range(1, _CONSENSUS_STEPS + 1):
        half = rng.binomial(total, 0.5)
        model = psi.forward(x) + background
        updates = [psi.adjoint((2 * part / model).astype(np.float32)) / sums for part in (half, total - half)]
        agreement = psi.adjoint(psi.forward((updates[0] - 1) * (updates[1] - 1)))
        going = agreement > 0
        x = np.where(going, x * (updates[0] + updates[1]) / 2, x)
        if step in _STOPS:
            made[f"{step} steps"] = x / frames
        if going.mean() < _CONSENSUS_LEFT:
            break
    made["its own end"] = x / frames
    return made


def mean_shift(seen: Seen) -> Images:
    """MSSR of the mean frame (Torres-Garcia et al. 2022), orders 0 to 2, written from its description.

    The magnitude of the mean shift in a neighbourhood of half the PSF's width; a higher order subtracts the image from the one
    before it, takes the complement, and weighs it by the image.
    """
    image = spread(seen.above, seen.psi.factor)
    radius = max(1, round(0.5 * _width(seen.psi.psf)))
    before, made = _scaled(image), {}
    found = _scaled(np.maximum(_shift(before, radius), 0))
    made["order 0"] = found
    for order in (1, 2):
        difference = before - found
        before, found = found, _scaled((difference.max() - difference) * found)
        found = _scaled(np.maximum(_shift(found, radius), 0))
        made[f"order {order}"] = found
    return made


def _shift(image: np.ndarray, radius: int) -> np.ndarray:
    """Image less its mean over neighbours that are near in place and in brightness."""
    padded = np.pad(image, radius, mode="reflect")
    weights, values = np.zeros_like(image), np.zeros_like(image)
    for row in range(-radius, radius + 1):
        for column in range(-radius, radius + 1):
            if (row, column) == (0, 0) or np.hypot(row, column) > radius:
                continue
            other = padded[radius + row : radius + row + image.shape[0], radius + column : radius + column + image.shape[1]]
            weight = np.exp(-(row**2 + column**2) / radius**2 - (other - image) ** 2)
            weights += weight
            values += weight * other
    return image - values / weights


def _scaled(image: np.ndarray) -> np.ndarray:
    top = float(image.max())
    return image / top if top > 0 else image


def _width(psf: np.ndarray) -> float:
    """FWHM, fine pixels, by the area above half of the maximum."""
    return float(2 * np.sqrt((psf > 0.5 * psf.max()).sum() / np.pi))


def radial_gradients(seen: Seen) -> Images:
    """eSRRF of nanopyx with its presets."""
    return {"": _nanopyx.esrrf(np.maximum(seen.photons, 0), seen.psi)}


PEERS: dict[str, Peer] = {
    "temporal mean": Peer(temporal_mean, ""),
    "Richardson-Lucy": Peer(richardson_lucy, "50 steps"),
    "MLEM": Peer(mlem, "200 steps"),
    "FISTA-TV": Peer(fista_tv, "discrepancy"),
    "second-order SOFI": Peer(sofi2, "0 steps", has_unit=False),
    "SACD": Peer(sacd, f"{_SACD['after']} steps", has_unit=False),
    "RLGC": Peer(gradient_consensus, "its own end"),
    "MSSR": Peer(mean_shift, "order 1", has_unit=False),
    "eSRRF": Peer(radial_gradients, "", has_unit=False),
}


def left_out() -> dict[str, str]:
    """Peers that cannot run here, and why."""
    reason = _nanopyx.why_no_nanopyx()
    return {"eSRRF": reason} if reason else {}
