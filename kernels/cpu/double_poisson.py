"""The two stages of eq. (1), ``Y = gain * P(Psi P(x) + b) + N``, each one pass over memory with no float64 image in between."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._compile import given, helper, kernel
from .philox import box_muller
from .poisson import (
    BLOCK,
    POISSON_INVERSION_BELOW,
    block_counts,
    fill_first,
    fill_uniforms,
    invert_block,
    large_block,
    share,
)

__all__ = ["detect", "emissions"]

# Pixels of one frame that are drawn together: their counts are written while their zeros are still in cache.
_SPAN = 8192


@helper
def _emit_small(pixels, mean, zero, frame, stage, step, k0, k1, image):  # type: ignore[no-untyped-def]
    """Draw pixels of one frame whose means are below 32, into an image of zeros."""
    frames, where = np.full(BLOCK, frame), np.empty(BLOCK, dtype=np.int64)
    u, count = np.empty(BLOCK), np.empty(BLOCK)
    for start in range(0, pixels.size, BLOCK):
        part = slice(start, min(start + BLOCK, pixels.size))
        chosen = pixels[part]
        fill_first(chosen, frames, stage, step, k0, k1, u)
        for j in range(invert_block(mean[part], zero[part], u, where, count)):
            image[chosen[where[j]]] = count[j]


@helper
def _emit_large(pixels, mean, frame, stage, step, k0, k1, image):  # type: ignore[no-untyped-def]
    """Draw pixels of one frame whose means are 32 or more."""
    frames = np.full(BLOCK, frame)
    u, v, count = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    for start in range(0, pixels.size, BLOCK):
        part = slice(start, min(start + BLOCK, pixels.size))
        chosen = pixels[part]
        fill_uniforms(chosen, frames, stage, step, k0, k1, u, v)
        large_block(mean[part], u, v, chosen, frames, stage, step, k0, k1, count)
        for j in range(chosen.size):
            image[chosen[j]] = count[j]


@kernel()
def _emissions(first, last, small, large, frames, stage, step, k0, k1, out):  # type: ignore[no-untyped-def]
    """Draw the spans ``first`` to ``last``, numbered through all frames."""
    small_pixels, small_mean, small_zero, small_edges = small
    large_pixels, large_mean, large_edges = large
    spans = small_edges.size - 1
    for task in range(first, last):
        f, span = task // spans, task % spans
        image = out[f]
        image[span * _SPAN : (span + 1) * _SPAN] = 0.0
        a, b = small_edges[span], small_edges[span + 1]
        _emit_small(small_pixels[a:b], small_mean[a:b], small_zero[a:b], frames[f], stage, step, k0, k1, image)
        a, b = large_edges[span], large_edges[span + 1]
        _emit_large(large_pixels[a:b], large_mean[a:b], frames[f], stage, step, k0, k1, image)


def emissions(x: Any, numbers: Any, k0: int, k1: int, stage: int, step: int, out: np.ndarray) -> np.ndarray:
    """Draw P(x) for some frames; dark pixels cost no more than their zeros.

    Parameters
    ----------
    x : (N1, N2) float32 or float64
        Expected emissions per fine pixel per frame, finite and not negative.
    numbers : (S,) integers
        Numbers of the frames.
    k0, k1 : int
        Key words, see ``fluogan_core.backend.random.seed_words``.
    stage, step : int
        The other two counters.
    out : (S, N1, N2) float32, C-contiguous
        Receives the counts.

    Returns
    -------
    out
    """
    rows = _rows(out, (len(numbers), *np.shape(x)))
    flat = np.asarray(x, dtype=np.float64).ravel()
    spans = np.arange(0, flat.size + _SPAN, _SPAN)
    small = np.flatnonzero((flat > 0) & (flat < POISSON_INVERSION_BELOW))
    large = np.flatnonzero(flat >= POISSON_INVERSION_BELOW)
    arguments = (
        # exp(-mean) is wanted once for all frames
        (small.astype(np.uint64), flat[small], np.exp(-flat[small]), np.searchsorted(small, spans)),
        (large.astype(np.uint64), flat[large], np.searchsorted(large, spans)),
        given(numbers, np.uint64),
        *(np.uint64(w) for w in (stage, step, k0, k1)),
        rows,
    )
    share(_emissions, len(rows) * (len(spans) - 1), len(rows) * (len(small) + len(large)), arguments)
    return out


@kernel()
def _detect(first, last, blurred, background, epsilon, frames, stages, step, k0, k1, gain, noise_std, out):  # type: ignore[no-untyped-def]
    """Draw the blocks ``first`` to ``last``, numbered through all frames."""
    size = background.size
    blocks = (size + BLOCK - 1) // BLOCK
    frame, pixel = np.empty(BLOCK, dtype=np.uint64), np.empty(BLOCK, dtype=np.uint64)
    work = np.empty((4, BLOCK))
    rate, count, u, v = work[0], work[1], work[2], work[3]
    dark = blurred.dtype.type(0)
    for task in range(first, last):
        f, start = task // blocks, task % blocks * BLOCK
        n = min(BLOCK, size - start)
        row, below, image = blurred[f, start : start + n], background[start : start + n], out[f, start : start + n]
        for j in range(n):
            frame[j], pixel[j] = frames[f], start + j
            # added in the dtype of the arrays, as the array path does
            rate[j] = max(row[j], dark) + below[j] + epsilon
        block_counts(rate[:n], pixel[:n], frame[:n], stages[0], step, k0, k1, count)
        for j in range(n):
            image[j] = gain * np.float32(count[j])
        if noise_std > 0.0:
            fill_uniforms(pixel[:n], frame[:n], stages[1], step, k0, k1, u, v)
            for j in range(n):
                image[j] += np.float32(noise_std * box_muller(u[j], v[j]))


def detect(
    blurred: Any,
    background: Any,
    epsilon: float,
    numbers: Any,
    k0: int,
    k1: int,
    detection_stage: int,
    noise_stage: int,
    step: int,
    gain: float,
    noise_std: float,
    out: np.ndarray,
) -> np.ndarray:
    """Draw ``gain * P(max(blurred, 0) + background + epsilon) + noise_std * normal``.

    Parameters
    ----------
    blurred : (S, M1, M2) float32 or float64
        Psi z, photons; what is below zero by rounding counts as zero.
    background : (M1, M2) float32 or float64
        b, photons.
    epsilon : float
        Photons added to every rate, in the dtype of the sum.
    numbers, k0, k1, step
        As in :func:`emissions`.
    detection_stage, noise_stage : int
        Counters of the photons and of the read noise.
    gain : float
        Counts per detected photon.
    noise_std : float
        Standard deviation of the read noise, counts; 0 draws none.
    out : (S, M1, M2) float32, C-contiguous
        Receives the counts.

    Returns
    -------
    out
    """
    frames, background, blurred = given(numbers, np.uint64), given(background), given(blurred)
    blurred = _rows(blurred, (len(frames), *background.shape))
    arguments = (
        blurred,
        background.ravel(),
        np.result_type(blurred, background).type(epsilon),
        frames,
        np.array([detection_stage, noise_stage], dtype=np.uint64),
        *(np.uint64(w) for w in (step, k0, k1)),
        np.float32(gain),
        float(noise_std),
        _rows(out, (len(frames), *background.shape)),
    )
    blocks = (background.size + BLOCK - 1) // BLOCK
    # a count and a normal here take as long as some four counts of an emission
    share(_detect, len(frames) * blocks, 4 * blurred.size, arguments)
    return out


def _rows(stack: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """View a contiguous (S, A, B) stack as (S, A * B)."""
    if stack.shape != shape or not stack.flags.c_contiguous:
        raise ValueError(f"a C-contiguous array of shape {shape} is needed, got shape {stack.shape}, strides {stack.strides}")
    return stack.reshape(shape[0], -1)
