r"""Let the field follow a sample that drifts: whole pixels in the frames, the rest in the PSF.

Frames that are interpolated are no longer Poisson, and their pixels depend on each other.  So every frame is shifted by whole
camera pixels only.  What is left of its shift, :math:`r_t` between -1/2 and 1/2 pixel, goes into the model: the mean frame then
is that of the PSF

.. math:: \bar h = \frac{1}{T} \sum_t h(\cdot - r_t),

exactly.  The covariance of the frames is described by it to second order in r.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..physics.psf import cut_psf
from ..physics.psi import Psi
from ..physics.requirements import refuse_own
from ..stack import Stack, StackLike, recorded_stack
from ..tuning import DEFAULT
from ..tuning.calibration import CalibrationTuning
from .bad_pixels import find_bad_pixels
from .drift import Drift
from .noise import temporal_moments
from .stack_statistics import StackStatistics

__all__ = ["follow_drift"]


def follow_drift(
    stack: StackLike, psi: Psi, drift: Drift, *, tuning: CalibrationTuning = DEFAULT.calibration
) -> tuple[Stack, Psi]:
    """Return a stack whose field follows the sample, and the operator that belongs to it.

    Every frame is shifted by whole camera pixels, and what all frames share of the field is kept.  The sub-pixel rest of the
    shifts widens the PSF.  No count is interpolated.  Hot and dead pixels stand still while the sample moves; they are found
    first, and hold what the other pixels predict.

    Parameters
    ----------
    stack : (T, M1, M2) array or Stack
        Counts.
    psi : Psi
        The operator of the field that was recorded.
    drift : Drift
        Place of the sample in each frame: from :func:`fluogan_core.estimate_drift`, or made of shifts that are known.
    tuning : CalibrationTuning, optional
        Numbers by trial, for bad pixels.

    Returns
    -------
    stack : Stack
        Its ``roi`` says where in the file the field lies where the shift is 0.
    psi : Psi
        The operator of that field with the widened PSF.  Covariances of neighbours see the PSF before it is widened: measure a
        width (:func:`fluogan_core.estimate_psf_width`) first, and give :func:`fluogan_core.calibrate` ``psf_width=1``.

    Raises
    ------
    ValueError
        If the shifts are not finite numbers, one pair for each frame, or leave less than 8 pixels of the field.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (20, 20), 2, backend="numpy")
    >>> frames = np.random.default_rng(0).poisson(50.0, (30, 20, 20))
    >>> drift = fg.Drift(np.linspace([-1.0, 0.0], [1.0, 0.0], 30), 2.0, 0.0, clear=True)
    >>> stack, psi = fg.follow_drift(frames, psi, drift)
    >>> stack.frames.shape, stack.roi, psi.shape
    ((30, 18, 20), (1, 0, 18, 20), (18, 20))
    """
    refuse_own(psi, "following a drift")
    frames = recorded_stack(stack, psi.shape)
    shifts = np.asarray(drift.shifts, dtype=np.float64)
    if shifts.shape != (len(frames), 2) or not np.isfinite(shifts).all():
        raise ValueError(
            f"the drift must hold one finite shift along rows and columns for each of {len(frames)} frames, got shape "
            f"{shifts.shape}: measure it on this stack, or give all its frames"
        )
    whole = np.rint(shifts).astype(int)
    low = np.maximum(0, -whole.min(axis=0))
    size = np.array(psi.shape) - np.maximum(0, whole.max(axis=0)) - low
    if size.min() < 8:
        first, last = (shifts.min(axis=0).round(1).tolist(), shifts.max(axis=0).round(1).tolist())
        raise ValueError(
            f"a drift from {first} to {last} pixels leaves {max(0, size[0])} x {max(0, size[1])} of {psi.shape[0]} x "
            f"{psi.shape[1]} pixels that all frames share; at least 8 x 8 are needed: take fewer frames"
        )
    filled = _without_bad_pixels(frames, psi, tuning)
    rows, columns = (int(n) for n in size)
    followed = np.empty((len(frames), rows, columns), dtype=frames.dtype)
    for number, (top, left) in enumerate(whole + low):
        followed[number] = filled[number, top : top + rows, left : left + columns]
    given = stack if isinstance(stack, Stack) else Stack(frames)
    corner = (0, 0) if given.roi is None else given.roi[:2]
    roi = (corner[0] + int(low[0]), corner[1] + int(low[1]), rows, columns)
    wider = _widened(psi.psf, (shifts - whole) * psi.factor)
    made = Psi(
        cut_psf(wider, (rows * psi.factor, columns * psi.factor)),
        (rows, columns),
        psi.factor,
        binning=psi.binning,
        photons_per_emitter=psi.photons_per_emitter,
        backend=psi.backend,
        memory_budget=psi.memory_budget,
    )
    return replace(given, frames=followed, roi=roi), made


def _widened(psf: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """The mean of the PSF at these shifts (T, 2), fine pixels; by its spectrum, so that no shift is rounded."""
    from scipy.fft import irfft2, next_fast_len, rfft2

    # room for the longest shift, and for what a spectrum lets pass beyond the border
    reach = np.ceil(np.abs(shifts).max(axis=0)).astype(int) + 1
    padded = np.pad(psf, [(int(n), int(n)) for n in reach])
    if not shifts.any():
        return psf
    size = [next_fast_len(n + 8, True) for n in padded.shape]
    down = np.exp(-2j * np.pi * np.outer(np.fft.fftfreq(size[0]), shifts[:, 0]))
    across = np.exp(-2j * np.pi * np.outer(np.fft.rfftfreq(size[1]), shifts[:, 1]))
    mean = irfft2(rfft2(padded, size) * (down @ across.T) / len(shifts), size)
    cut = np.maximum(mean[: padded.shape[0], : padded.shape[1]], 0.0)
    return np.asarray(cut / cut.sum())


def _without_bad_pixels(frames: np.ndarray, psi: Psi, tuning: CalibrationTuning) -> np.ndarray:
    """The frames with what the other pixels predict at hot and dead ones."""
    unlit = StackStatistics(frames, psi.shape, tuning).unlit
    mean, variance = temporal_moments(frames, 0.0, tuning.noise)
    bad = find_bad_pixels(mean, variance, len(frames), psi, unlit=unlit, tuning=tuning.bad_pixels)
    if not bad.mask.any():
        return frames
    values = bad.filled[bad.mask]
    filled = frames.copy()
    filled[:, bad.mask] = np.rint(values) if frames.dtype.kind in "iu" else values
    return filled
