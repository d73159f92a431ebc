r"""Blinking emitters in front of a camera: the instrument against which a reconstruction is tried.

After the SOFI simulation tool (Girsault et al. 2016).  Each emitter switches between off and on in continuous time with
exponential dwell times, starts in the stationary state, and ends for good once its time spent on exceeds a budget drawn
from an exponential law.  In a frame it gives ``photons_per_frame`` times the exact fraction of the frame that it was on,
spread over the pixels by a Gaussian PSF integrated over each pixel (differences of erf).  Signal and background are added,
detected as a Poisson number, and turned into counts by the camera.

This room is an instrument, not the model: frames of one stack are correlated in time and nothing here is Poisson in the
number of emissions.  What the double Poisson model can know of it is its mean and, at second order, one number: the
photons per emission :math:`\kappa` whose spatial covariance is the same,

.. math:: \kappa = N_\mathrm{on} \frac{\mathrm{Var} f}{\mathrm{E} f},

with f the on-fraction of a frame and :math:`N_\mathrm{on}` the photons of a frame spent on, in the camera's unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backend.checks import length_or_time, real_number, trailing_shape, whole_number
from ..physics.psf import FWHM_PER_SIGMA
from .blinking import Blinking
from .detector import Detector
from .phantom import Pattern

__all__ = ["Blinking", "SofiStack", "erf_weights", "on_fractions", "simulate_sofi"]

#: Emitters rendered at a time: bounds the memory, and keeps their window of the field narrow.
_CHUNK = 1024
#: Dwell times drawn at a time.
_DWELLS = 2_000_000
#: Half-width of the rendered PSF, standard deviations; beyond lies 2e-9 of the light.
_REACH = 6.0


@dataclass(frozen=True, eq=False)
class SofiStack:
    """Simulated frames and everything that made them; "photons" are the model's unit, (counts - offset) / gain.

    Attributes
    ----------
    frames : (T, M1, M2) float32 or uint16
        Counts, offset included; rounded only if asked for.
    x : (N1, N2) float64
        Emissions per fine pixel per frame, mean over this stack of what its emitters really did: ``photons_per_emitter``
        times the unit-sum operator applied to ``x``, plus ``background``, is the mean image in photons.
    expected_x : (N1, N2) float64
        The same for infinitely many such stacks without bleaching: proportional to the pattern, free of the random
        number and place of emitters.
    background : (M1, M2) float64
        Photons per camera pixel per frame, dark signal included.
    photons_per_emitter : float
        kappa of the kinetics, without bleaching.
    gain, offset, noise_std : float
        Counts per photon, counts without light, standard deviation of the additive noise in counts.
    emitters_nm : (E, 2) float64
        Row and column positions from the outer edge of the first pixel.
    brightness : (E,) float64
        Photons per frame of each emitter, mean over the stack.
    pixel_size_nm, fwhm_nm, frame_ms : float
        Camera pixel and width of the PSF, nm; exposure, ms.
    factor : int
        Super-resolution factor.
    blinking : Blinking
        Kinetics.
    detector : Detector
        The camera.
    """

    frames: np.ndarray
    x: np.ndarray
    expected_x: np.ndarray
    background: np.ndarray
    photons_per_emitter: float
    gain: float
    offset: float
    noise_std: float
    emitters_nm: np.ndarray
    brightness: np.ndarray
    pixel_size_nm: float
    fwhm_nm: float
    frame_ms: float
    factor: int
    blinking: Blinking = field(default_factory=Blinking)
    detector: Detector = field(default_factory=Detector)


def on_fractions(emitters: int, frames: int, frame_ms: float, blinking: Blinking, rng: np.random.Generator) -> np.ndarray:
    """Return the exact fraction of each frame that each emitter is on.

    Dwell times are drawn in continuous time, so fast blinking within a frame is averaged and not sampled.

    Parameters
    ----------
    emitters, frames : int
        How many.
    frame_ms : float
        Exposure, ms.
    blinking : Blinking
        Kinetics.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    fractions : (emitters, frames) float64
        0 to 1.
    """
    mean_cycles = frames * frame_ms / (blinking.on_ms + blinking.off_ms)
    cycles = math.ceil(mean_cycles + 6.0 * math.sqrt(mean_cycles) + 8.0)
    fractions = np.empty((emitters, frames))
    step = max(1, _DWELLS // (2 * cycles))
    for start in range(0, emitters, step):
        part = fractions[start : start + step]
        part[:] = _telegraph(len(part), frames, frame_ms, blinking, cycles, rng)
    return fractions


def _telegraph(
    emitters: int, frames: int, frame_ms: float, blinking: Blinking, cycles: int, rng: np.random.Generator
) -> np.ndarray:
    """One batch of :func:`on_fractions`, drawn ``cycles`` cycles at a time."""
    total = frames * frame_ms
    budget = 1e3 * blinking.bleach_s * rng.standard_exponential((emitters, 1))
    # Dwells alternate on, off, on, ...; who starts off has a first on-time of zero.  What is left of the dwell under way
    # at the start is exponential too, so a stationary start needs no other law.
    starts_off = rng.random(emitters) >= blinking.duty
    on = np.empty((emitters, 0))
    off = np.empty((emitters, 0))
    while not on.size or (on.sum(axis=1) + off.sum(axis=1)).min() < total:
        on = np.hstack([on, blinking.on_ms * rng.standard_exponential((emitters, cycles))])
        off = np.hstack([off, blinking.off_ms * rng.standard_exponential((emitters, cycles))])
        on[starts_off, 0] = 0.0

    # The time spent on grows piecewise linearly with time: from each switch on until the switch off, or the bleaching.
    ends = on.cumsum(axis=1) + off.cumsum(axis=1)
    begins = np.hstack([np.zeros((emitters, 1)), ends[:, :-1]])
    spent = np.minimum(on.cumsum(axis=1), budget)
    before = np.hstack([np.zeros((emitters, 1)), spent[:, :-1]])
    knots = np.stack([begins, begins + (spent - before)], axis=2).reshape(emitters, -1)
    values = np.stack([before, spent], axis=2).reshape(emitters, -1)
    # One interpolation for all: each emitter gets its own stretch of the time axis.
    stretch = np.arange(emitters)[:, None] * (max(float(ends.max()), total) + frame_ms)
    edges = np.arange(frames + 1) * frame_ms
    spent_at_edges = np.interp((edges + stretch).ravel(), (knots + stretch).ravel(), values.ravel())
    return np.diff(spent_at_edges.reshape(emitters, frames + 1), axis=1) / frame_ms


def erf_weights(positions: np.ndarray, size: int, sigma: float) -> np.ndarray:
    """Return the fraction of a Gaussian that falls on each pixel of a line.

    Parameters
    ----------
    positions : (E,) float
        Centres, in pixels from the outer edge of pixel 0.
    size : int
        Pixels.
    sigma : float
        Standard deviation, pixels.

    Returns
    -------
    weights : (E, size) float64
        Each row sums to 1 where the Gaussian lies within the line.
    """
    from scipy.special import erf

    edges = (np.arange(size + 1) - np.asarray(positions, dtype=np.float64)[:, None]) / (math.sqrt(2.0) * sigma)
    return 0.5 * np.diff(erf(edges), axis=1)


def simulate_sofi(
    pattern: Pattern | np.ndarray,
    *,
    frames: int = 500,
    density_per_um2: float = 500.0,
    fwhm_nm: float = 0.61 * 600.0 / 0.8,
    frame_ms: float = 10.0,
    background: float | np.ndarray = 2.0,
    blinking: Blinking | None = None,
    detector: Detector | None = None,
    seed: int = 0,
    pixel_size_nm: float | None = None,
    factor: int | None = None,
    as_uint16: bool = False,
) -> SofiStack:
    """Simulate a stack of blinking emitters placed at random on a pattern.

    Parameters
    ----------
    pattern : Pattern or (N1, N2) array
        Relative density of emitters on the fine grid.  An array needs ``pixel_size_nm`` and ``factor``.
    frames : int
        T.
    density_per_um2 : float
        Mean number of emitters per square micrometre where the pattern is 1.  Their number in a fine pixel is Poisson,
        their places uniform in it.
    fwhm_nm : float
        FWHM of the Gaussian PSF in the object plane; 0.61 wavelength / NA at 600 nm and NA 0.8 by default.
    frame_ms : float
        Exposure, ms; frames follow one another without a gap.
    background : float or (M1, M2) array
        Photons per pixel per frame that reach the camera, beside those of the emitters.
    blinking : Blinking, optional
        Kinetics and brightness.
    detector : Detector, optional
        The camera.
    seed : int
        The same seed gives the same stack.
    pixel_size_nm : float, optional
        Camera pixel, nm, where ``pattern`` is an array; a :class:`Pattern` brings its own.
    factor : int, optional
        Super-resolution factor, where ``pattern`` is an array.
    as_uint16 : bool
        Round the counts and cut them to 0 ... 65535, as a camera's file has them.

    Returns
    -------
    SofiStack

    Raises
    ------
    ValueError
        If a value is out of range, the pattern is negative, not finite or dark, or shapes do not fit.
    TypeError
        If ``pattern`` is an array and its pixel size or factor is missing.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> pattern = fg.argolight_pattern((300,), pixel_size_nm=100, factor=4, shape=(20, 16), margin_nm=200)
    >>> made = fg.simulate_sofi(pattern, frames=10, seed=1)
    >>> made.frames.shape, made.x.shape
    ((10, 20, 16), (80, 64))
    """
    blinking = Blinking() if blinking is None else blinking
    detector = Detector() if detector is None else detector
    density, shape, pixel_size_nm, factor = _density(pattern, pixel_size_nm, factor)
    frames = whole_number(frames, "frames", low=1)
    density_per_um2 = real_number(density_per_um2, "density_per_um2", low=0, open_low=True)
    fwhm_nm = length_or_time(fwhm_nm, "fwhm_nm")
    frame_ms = length_or_time(frame_ms, "frame_ms")
    light = _background(background, shape)
    rng = np.random.default_rng(whole_number(seed, "seed", low=0))

    fine_nm = pixel_size_nm / factor
    expected = density * density_per_um2 * (fine_nm * 1e-3) ** 2
    cells = np.repeat(np.arange(expected.size), rng.poisson(expected).ravel())
    places = np.stack(np.unravel_index(cells, expected.shape), axis=1) + rng.random((cells.size, 2))
    order = np.argsort(places[:, 1], kind="stable")
    cells, places = cells[order], places[order]

    photons = np.empty((frames, *shape), dtype=np.float32)
    photons[:] = light
    brightness = np.empty(cells.size)
    sigma = fwhm_nm / FWHM_PER_SIGMA / pixel_size_nm
    for part, window, rows, columns in _windows(places / factor, shape, sigma):
        fractions = on_fractions(len(rows), frames, frame_ms, blinking, rng)
        brightness[part] = fractions.mean(axis=1) * blinking.photons_per_frame
        spots = (rows[:, :, None] * columns[:, None, :]).reshape(len(rows), -1).astype(np.float32)
        flux = (fractions.T * blinking.photons_per_frame).astype(np.float32)
        photons[:, :, window] += (flux @ spots).reshape(frames, shape[0], -1)

    counts = np.empty((frames, *shape), dtype=np.uint16 if as_uint16 else np.float32)
    for k, image in enumerate(photons):
        exposed = detector.expose(image, frame_ms, rng)
        counts[k] = np.clip(np.rint(exposed), 0, 65535) if as_uint16 else exposed

    brightness *= detector.efficiency
    mean_brightness = detector.efficiency * blinking.photons_per_frame * blinking.duty
    kappa = detector.efficiency * blinking.photons_per_frame * blinking.covariance(0, frame_ms) / blinking.duty
    x = np.bincount(cells, weights=brightness, minlength=expected.size).reshape(expected.shape) / kappa
    return SofiStack(
        frames=counts,
        x=x,
        expected_x=expected * (mean_brightness / kappa),
        background=light * detector.efficiency + detector.dark(frame_ms),
        photons_per_emitter=kappa,
        gain=detector.slope,
        offset=detector.offset,
        noise_std=detector.read_noise,
        emitters_nm=places * fine_nm,
        brightness=brightness,
        pixel_size_nm=pixel_size_nm,
        fwhm_nm=fwhm_nm,
        frame_ms=frame_ms,
        factor=factor,
        blinking=blinking,
        detector=detector,
    )


def _windows(places: np.ndarray, shape: tuple[int, int], sigma: float) -> Iterator[tuple[slice, slice, np.ndarray, np.ndarray]]:
    """Yield (emitters, window of columns, row weights, column weights) for ``places`` in camera pixels, sorted by column."""
    for start in range(0, len(places), _CHUNK):
        part = slice(start, min(start + _CHUNK, len(places)))
        rows, columns = places[part].T
        low = max(0, math.floor(columns[0] - _REACH * sigma))
        high = min(shape[1], math.ceil(columns[-1] + _REACH * sigma))
        yield part, slice(low, high), erf_weights(rows, shape[0], sigma), erf_weights(columns - low, high - low, sigma)


def _density(pattern: Any, pixel_size_nm: float | None, factor: int | None) -> tuple[np.ndarray, tuple[int, int], float, int]:
    """Check the pattern; return its relative density, the camera's shape, the pixel size and the factor."""
    if isinstance(pattern, Pattern):
        if pixel_size_nm is not None or factor is not None:
            raise TypeError("a Pattern brings its own pixel_size_nm and factor; leave them out, or pass pattern.x")
        return pattern.x, pattern.shape, pattern.pixel_size_nm, pattern.factor
    if pixel_size_nm is None or factor is None:
        raise TypeError("an array of densities needs pixel_size_nm= and factor=")
    pixel_size_nm = length_or_time(pixel_size_nm, "pixel_size_nm")
    factor = whole_number(factor, "factor", low=1)
    density = np.asarray(pattern, dtype=np.float64)
    if density.ndim != 2 or density.size == 0 or density.shape[0] % factor or density.shape[1] % factor:
        raise ValueError(f"pattern must be (N1, N2), multiples of factor {factor} (the fine grid), got shape {density.shape}")
    if not np.isfinite(density).all() or (density < 0).any() or not density.any():
        raise ValueError("pattern must be finite, non-negative and not all zero")
    return density, (density.shape[0] // factor, density.shape[1] // factor), pixel_size_nm, factor


def _background(background: Any, shape: tuple[int, int]) -> np.ndarray:
    """The background as an (M1, M2) image."""
    light = np.asarray(background, dtype=np.float64)
    if light.ndim:
        trailing_shape(light, shape, "background", "the camera grid, or one number")
    if light.ndim > 2 or not np.isfinite(light).all() or (light < 0).any():
        raise ValueError("background must be one number or one (M1, M2) image, finite and not negative")
    return np.broadcast_to(light, shape).copy()
