"""Everything that a reconstruction needs to know of a stack, measured once: PSF width, camera, emitters, noise, bad pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ..backend.checks import field_of, real_number
from ..backend.threads import one_thread
from ..physics.psi import Psi
from ..physics.requirements import NOMINAL, usable
from ..stack import StackLike
from ..tuning import DEFAULT
from ..tuning.calibration import CalibrationTuning
from .bad_pixels import find_bad_pixels
from .bleaching import Bleaching
from .camera import Camera, CameraEstimate, camera_from, checked_values, contradictions, displacements
from .noise import StackNoise, noise_from, temporal_moments
from .psf_shape import PSFShape, shape_from
from .psf_width import PSFWidth, width_from
from .remarks import narrow_psf_notes, unequal_pixel_notes
from .row_shift import RowShift, given_row_shift, row_shift_from, straightened
from .stack_statistics import StackStatistics

__all__ = ["Calibration", "calibrate"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What :func:`calibrate` found in a stack; all arrays are on the host.

    Attributes
    ----------
    psi : Psi
        The operator with the PSF width and shape that were found (or given) and ``photons_per_emitter`` set.
    camera : Camera
        ``estimate.camera``.
    estimate : CameraEstimate
        Camera and photons per emission with their errors.
    psf_width : PSFWidth
        Width of the PSF relative to the one that was described.
    noise : StackNoise
        Noise of the frames and of the mean frame, counts.
    bad_pixels : (M1, M2) bool
        Hot, dead or stuck pixels that must not take part in a fit.
    bad_pixel_values : (K,) float32
        What the other pixels predict for the mean of each bad pixel, counts above the offset, in the order of
        ``numpy.nonzero(bad_pixels)``.
    mean : (M1, M2) float64
        Mean frame, counts above the offset; bad pixels have their predicted values.
    left_out : tuple of int
        Numbers of the frames that stand apart (dark, bright, saturated, repeated): neither measured nor fitted.
    bleaching : Bleaching
        Light of the frames over time, and the falling curve through it.
    psf_shape : PSFShape, optional
        Shape of the PSF, once it has that width; None where the width was given.
    row_shift : RowShift, optional
        Between odd and even rows, or columns; a fit moves them back by ``row_shift.applied``.  ``mean`` and ``noise`` are of
        the rows that are moved back.
    remarks : tuple of str
        What to know of the stack, one sentence or two each: on the camera, then the PSF's width and shape, then bad pixels.
    """

    psi: Psi
    camera: Camera
    estimate: CameraEstimate
    psf_width: PSFWidth
    noise: StackNoise
    bad_pixels: np.ndarray
    bad_pixel_values: np.ndarray
    mean: np.ndarray
    remarks: tuple[str, ...]
    left_out: tuple[int, ...] = ()
    bleaching: Bleaching | None = None
    psf_shape: PSFShape | None = None
    row_shift: RowShift | None = None


@one_thread()
def calibrate(
    stack: StackLike,
    psi: Psi,
    *,
    camera: Camera | None = None,
    gain: float | None = None,
    offset: float | None = None,
    noise_std: float | None = None,
    photons_per_emitter: float | None = None,
    psf_width: float | None = None,
    row_shift: float | RowShift | None = None,
    tuning: CalibrationTuning = DEFAULT.calibration,
) -> Calibration:
    """Measure on a stack all that a reconstruction needs to know of it, in the order in which one depends on the other.

    First the width of the PSF (:func:`fluogan_core.estimate_psf_width`) and its shape
    (:func:`fluogan_core.estimate_psf_shape`), then, through that PSF, the camera and the photons per emission
    (:func:`fluogan_core.estimate_camera`), then bad pixels and noise.  What is given is taken as it is and not measured.

    Parameters
    ----------
    stack : (T, M1, M2) array, integers or floats, or Stack
        Raw counts.
    psi : Psi or Operator
        The operator with the PSF as described.  The width of the PSF of an operator of your own is not measured.  Its own
        ``photons_per_emitter`` is ignored: give that as an argument.
    camera : Camera, optional
        A calibrated camera.  Width of the PSF and photons per emission are still measured.
    gain, offset, noise_std : float, optional
        Parts of a camera: counts per photon, counts, counts.  Not together with ``camera``.
    photons_per_emitter : float, optional
        Detected photons per emission.
    psf_width : float, optional
        Width of the PSF relative to psi's, 0.1 to 10; 1 takes it as it is.  Neither width nor shape are measured then.
    row_shift : float or RowShift, optional
        From even rows to odd ones along the row, camera pixels, as a bidirectional scan leaves it; 0 leaves the rows as they
        are.  Of columns: a RowShift with ``axis=1``.  Measured by default (:func:`fluogan_core.estimate_row_shift`).
    tuning : CalibrationTuning, optional
        Numbers by trial.

    Returns
    -------
    Calibration

    Raises
    ------
    ValueError
        If the stack is not (T, M1, M2) of psi's field with T of 2 or more, not finite, does not change at all, or does not
        determine the gain; if a given value is out of range; if a part of the camera is given twice.
    TypeError
        If the stack holds neither integers nor floats, or a given value is not a number.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (16, 16), 2, backend="numpy")
    >>> frames = fg.ForwardModel(psi, gain=2.0, noise_std=1.0).sample(np.eye(32, dtype="f4"), np.ones((16, 16), "f4"), 40, 0)
    >>> found = fg.calibrate(frames + 100, psi, camera=fg.Camera(2.0, 100.0, 1.0), psf_width=1)
    >>> found.camera.gain, found.psf_width.width, int(found.bad_pixels.sum())
    (2.0, 1.0, 0)
    """
    psi = usable(psi, "calibration", NOMINAL)
    given = checked_values(gain, offset, noise_std, photons_per_emitter)
    if camera is not None:
        twice = [name for name in ("gain", "offset", "noise_std") if name in given]
        if twice:
            raise ValueError(f"{' and '.join(twice)} given beside camera=, which holds them already; give one of the two")
        given = {"gain": camera.gain, "offset": camera.offset, "noise_std": camera.noise_std} | given
    width = None if psf_width is None else _given_width(psf_width)
    shifted = None if row_shift is None else given_row_shift(row_shift)
    statistics = StackStatistics(stack, field_of(psi), tuning)

    width = width_from(statistics, psi, tuning) if width is None else width
    psi = psi.scaled(width.width)
    shape = shape_from(statistics, psi, tuning) if psf_width is None else None
    if shape is not None and shape.taken:
        psi = psi.replaced(psf=shape.psf)
    if len(given) == 4:
        contradicted, displaced = contradictions(statistics, psi, given, tuning), displacements(statistics, psi, tuning)
        light = [note for note in (statistics.in_turn.note, statistics.bleaching.note) if note]
        estimate = replace(_all_given(**given), notes=(*statistics.notes, *light, *contradicted, *displaced))
    else:
        estimate = camera_from(statistics, psi, given, tuning)
    psi = _as_bright(psi, estimate.photons_per_emitter)

    # In float32 above the offset, as a solver sees the counts: its weights follow from this variance, and the moments of raw
    # counts differ from it by rounding.
    mean, variance = temporal_moments(statistics.frames, estimate.camera.offset, tuning.noise)
    frames = len(statistics.frames)
    bad = find_bad_pixels(mean, variance, frames, psi.nominal, unlit=statistics.unlit, tuning=tuning.bad_pixels)
    values = bad.filled[bad.mask].astype(np.float32)
    mean[bad.mask], variance[bad.mask] = values, 0.0
    if shifted is None:
        shifted = row_shift_from(mean, variance / frames, psi.nominal, tuning.row_shift)
    if shifted.applied:
        mean = straightened(mean, shifted.applied, axis=shifted.axis)
        mean[bad.mask] = values
    noise = noise_from(mean, variance, frames, psi.nominal, tuning.noise)
    return Calibration(
        psi=psi,
        camera=estimate.camera,
        estimate=estimate,
        psf_width=width,
        noise=noise,
        bad_pixels=bad.mask,
        bad_pixel_values=values,
        mean=mean,
        remarks=(
            *estimate.notes,
            width.note,
            *(() if shape is None else (shape.note,)),
            *narrow_psf_notes(psi),
            *bad.remarks,
            *unequal_pixel_notes(noise),
            *((shifted.note,) if shifted.note else ()),
        ),
        left_out=statistics.left_out,
        bleaching=statistics.bleaching,
        psf_shape=shape,
        row_shift=shifted,
    )


def _as_bright(psi: Psi, brightness: float) -> Psi:
    """The operator with so many photons per emission; ValueError if one of the user's own does not follow its nominal one."""
    made = psi.replaced(photons_per_emitter=brightness)
    if type(psi) is Psi:
        return made
    image = psi.backend.asarray(np.random.default_rng(0).random(psi.fine_shape))
    before, after = (psi.backend.to_host(operator.forward(image)) for operator in (psi, made))
    ratio = brightness / psi.photons_per_emitter
    wanted = ratio * before
    if not np.abs(after - wanted).max() <= 1e-5 * np.abs(wanted).max():
        raise ValueError(
            f"{type(psi).__name__}.replaced(photons_per_emitter={brightness:g}) must give {ratio:g} times "
            "the light everywhere, and does not: let all of its light come through psi.nominal, or override replaced"
        )
    return made


def _given_width(value: float) -> PSFWidth:
    width = real_number(value, "psf_width", low=0.1, high=10)
    return PSFWidth(width, math.nan, math.inf, f"width of the PSF: {width:g} times as described (given, not measured)")


def _all_given(gain: float, offset: float, noise_std: float, photons_per_emitter: float) -> CameraEstimate:
    """An estimate in which nothing is estimated, of any stack."""
    names = ("gain", "offset", "noise_std", "photons_per_emitter")
    return CameraEstimate(Camera(gain, offset, noise_std), photons_per_emitter, 0.0, 0.0, 0.0, 0.0, given=names)
