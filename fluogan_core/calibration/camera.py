r"""Gain, offset, noise and brightness of the emitters, read from the stack itself.

For the model ``Y = gain * P(Psi P(x) + b) + offset + N`` a pixel of mean m (counts) has the temporal variance

.. math:: v_j = g\,(m_j - o) + \sigma^2 + q \sum_i \Psi_{ji}^2 u_i, \qquad q = g \kappa,

with g the gain, o the offset, :math:`\Psi` of unit sums and u the emission in counts.  Its last term is the flicker.  Two
things tell it from noise.  The PSF passes none of it at high spatial frequencies: behind a high-pass the noise alone is
regressed on the mean (:mod:`fluogan_core.calibration.high_pass`).  And shot noise and read noise do not reach the covariance of
two *different* pixels, the flicker does: :math:`C_{jk} = q \sum_i \Psi_{ji} \Psi_{ki} u_i`.  So q is measured on neighbours,
and what a filter passes of the flicker is subtracted.  u need not be known: the mean image and its blur by
:math:`\Psi_{ji} \Psi_{ki}` are two convolutions of it, and a filter leads from one to the other.  Of several filters, and none,
that with the smallest stated error of the gain is used (:mod:`fluogan_core.calibration.gain`).

What can be known, and what cannot:

* gain: the slope.  Variances are half the mean squared differences of consecutive frames, which bleaching and drift do not
  touch.
* offset and read noise: the intercept :math:`\sigma^2 - g o` is known, its two parts are not.  Unless one is given, the read
  noise is taken as anything from nothing to 2.5 electrons (``CameraTuning.most_read_noise``) that does not lift the offset
  above the darkest pixels, and the errors say so.  Third cumulants could separate them, but only in a camera whose own noise is
  not skewed.
* kappa: from the covariances of the whole stack, less a slow trend of each pixel.  The model takes frames one by one, so
  the fluctuation it must explain is the whole one; differences of consecutive frames miss what outlasts a frame.  A background
  and the noise of the mean frame are not light: :mod:`fluogan_core.calibration.photons_per_emission`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from ..backend.arrays import backend_of
from ..backend.checks import LARGEST, field_of, real_number
from ..backend.kinds import any_kind
from ..backend.typing import Array
from ..physics.psf import FWHM_PER_SIGMA, psf_sigma
from ..physics.psi import Psi
from ..stack import StackLike
from ..tuning import DEFAULT
from ..tuning.calibration import CalibrationTuning
from .digits import nine_digits
from .entry_pairs import pair_kernels
from .flicker import fit_flicker
from .gain import best_line
from .photons_per_emission import flicker_strength
from .plain import plain
from .regression import jackknife
from .remarks import (
    camera_notes,
    flicker_notes,
    gain_refusal,
    neighbour_notes,
    usable_brightness,
)
from .row_shift import row_shift_of
from .stack_statistics import StackStatistics
from .thirds import drift_notes
from .variance_line import expected_variance, quietest, resolve

__all__ = ["Camera", "CameraEstimate", "camera_from", "checked_values", "displacements", "estimate_camera"]


@dataclass(frozen=True)
class Camera:
    """A camera with the same gain and offset everywhere.

    Attributes
    ----------
    gain : float
        Counts per detected photon.
    offset : float
        Counts without light.
    noise_std : float
        Standard deviation of the additive noise, counts.
    """

    gain: float = 1.0
    offset: float = 0.0
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "gain", real_number(self.gain, "gain", low=0, open_low=True))
        object.__setattr__(self, "offset", real_number(self.offset, "offset"))
        object.__setattr__(self, "noise_std", real_number(self.noise_std, "noise_std", low=0))

    @any_kind("counts")
    def to_photons(self, counts: Array) -> Array:
        """Return ``(counts - offset) / gain`` as float32, for an array of any kind, shape and dtype."""
        backend_of(counts=counts)
        return (counts.astype(np.float32) - np.float32(self.offset)) / np.float32(self.gain)


@dataclass(frozen=True)
class CameraEstimate:
    """Camera and photons per emission as estimated from a stack.

    Attributes
    ----------
    camera : Camera
    photons_per_emitter : float
        kappa, detected photons per emission.
    gain_error, offset_error, noise_std_error, photons_per_emitter_error : float
        One standard error each; 0 for what the user gave, infinite for a kappa that the stack does not determine.
    given : tuple of str
        Names that the user gave.
    notes : tuple of str
        Remarks in plain language.
    diagnostics : dict of str to (M1, M2) array
        ``mean`` and ``variance`` of the counts, the ``flicker`` subtracted from the variance, and the pixels ``used``.
    """

    camera: Camera
    photons_per_emitter: float
    gain_error: float
    offset_error: float
    noise_std_error: float
    photons_per_emitter_error: float
    given: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    diagnostics: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)


# -- the estimate -----------------------------------------------------------------------------------------------------


def estimate_camera(
    stack: StackLike,
    psi: Psi | None = None,
    *,
    gain: float | None = None,
    offset: float | None = None,
    noise_std: float | None = None,
    photons_per_emitter: float | None = None,
    tuning: CalibrationTuning = DEFAULT.calibration,
) -> CameraEstimate:
    """Estimate gain, offset, read noise and the photons per emission from a stack.

    Parameters
    ----------
    stack : (T, M1, M2) array, integers or floats, or Stack
        Raw counts.
    psi : Psi, optional
        Gives the shape of the PSF (its own ``photons_per_emitter`` is ignored).  Without it the flicker cannot be told
        from shot noise: the gain comes out too high where the sample flickers, and kappa stays unknown.
    gain, offset, noise_std, photons_per_emitter : float, optional
        What is known already (a calibrated camera); taken as it is.
    tuning : CalibrationTuning, optional
        Numbers by trial.

    Returns
    -------
    CameraEstimate
        Errors are one standard error.  They join a jackknife over blocks of the field; half the range over three
        weightings (a camera that is not linear); the disagreement between closer and wider pairs of pixels (a PSF that
        does not fit); and, for offset and read noise, what the intercept leaves open.

    Raises
    ------
    ValueError
        If the stack is not (T, M1, M2) with T of 2 or more, not finite, does not fit ``psi``, or does not determine the
        gain: its variance is nearly all flicker (few bright molecules, few frames), or its pixels are too alike.
    TypeError
        If it holds neither integers nor floats.
    """
    given = checked_values(gain, offset, noise_std, photons_per_emitter)
    statistics = StackStatistics(stack, None if psi is None else field_of(psi), tuning)
    found = camera_from(statistics, psi, given, tuning)
    shifted = "" if psi is None else row_shift_of(statistics, psi, tuning).note
    return replace(found, notes=(*found.notes, shifted)) if shifted else found


def checked_values(
    gain: float | None, offset: float | None, noise_std: float | None, photons_per_emitter: float | None
) -> dict[str, float]:
    """The values that are given, by name, in this order; each a number in its range."""
    options = {"gain": gain, "offset": offset, "noise_std": noise_std, "photons_per_emitter": photons_per_emitter}
    return {
        name: real_number(
            value,
            name,
            low=-LARGEST if name == "offset" else 0,
            high=LARGEST,
            open_low=name not in ("offset", "noise_std"),
        )
        for name, value in options.items()
        if value is not None
    }


def camera_from(
    statistics: StackStatistics, psi: Psi | None, given: dict[str, float], tuning: CalibrationTuning = DEFAULT.calibration
) -> CameraEstimate:
    """:func:`estimate_camera` from statistics that may be shared, and checked values."""
    t = tuning.camera
    frames, rows, columns = statistics.frames.shape
    optics = None if psi is None else pair_kernels(psi, tuning.flicker)
    moments = statistics.moments([*optics.near, *optics.far] if optics else [(1, 0)])
    mean = moments.mean
    live, remarks = statistics.live
    notes = [*statistics.notes, *remarks]
    # by the middles of pixels, so that a mirrored field has the mirrored blocks (an odd number of blocks divides no pixel)
    down, across = ((2 * np.arange(n) + 1) * t.blocks // (2 * n) for n in (rows, columns))
    blocks = np.unique(down[:, None] * t.blocks + across, return_inverse=True)[1].reshape(rows, columns)

    flicker, shot = None, moments.variance
    fit, used = expected_variance(mean, shot, live, frames, t)
    if optics is not None:
        for _ in range(t.flicker_passes):  # the weights, and the offset under the lamp, improve once the flicker is known
            dark = resolve(mean[used], shot[used], 1.0 / fit[used], math.inf, given, t)[1]
            flicker = fit_flicker(moments, optics, used, 1.0 / fit, dark, blocks)
            shot = moments.variance - flicker.variance(0)
            if not np.median(shot[live]) > 0:
                shot = np.maximum(shot, t.least_shot * moments.variance)
            fit, used = expected_variance(mean, shot, live, frames, t)

    found = best_line(statistics, psi, flicker, used, blocks, given, t)
    if not found.usable and "gain" not in given:
        raise ValueError(
            "the gain cannot be read from this stack: the flicker seen through this PSF explains all variance and "
            "leaves none to the photons; either few bright molecules or few frames were recorded (give the gain if "
            "you have a calibration), or so narrow a PSF cannot tell the two apart (pass the width that the "
            "microscope has)"
        )
    gains = found.table[:, :1]
    q, known, of_background = np.full((len(gains), 2), math.nan), True, 0.0
    if flicker and psi is not None and optics is not None:
        width, dark = psf_sigma(psi.psf) / psi.factor, given.get("offset", float(found.table[0, 1]))
        # all live pixels: those that flicker most do not lie on the line of the others
        q, _, known, of_background = flicker_strength(moments, optics, live, 1.0 / fit, dark, blocks, width)
    table = np.column_stack([found.table, np.divide(q, gains, out=np.full(q.shape, math.nan), where=gains != 0)])
    error = jackknife(table)
    found_gain, found_offset, found_noise, still_open, kappa, _ = (nine_digits(value) for value in table[0])
    found_gain, found_offset = given.get("gain", found_gain), given.get("offset", found_offset)
    found_noise = given.get("noise_std", found_noise)
    gain_error, offset_error = found.gain_error, found.offset_error
    if "gain" not in given:
        if not found_gain > t.clear_gain * found.doubt:
            width = math.nan if psi is None else FWHM_PER_SIGMA * psf_sigma(psi.psf) / psi.factor
            raise ValueError(
                gain_refusal(moments, found_gain, gain_error, found.unexplained, t, width, statistics.in_turn.note)
            )
        quiet = quietest(statistics.frames, moments.variance, used)
        if 0 < quiet < t.least_noise * found_gain:
            raise ValueError(
                f"the gain cannot be read from this stack: the slope of variance on mean is {plain(found_gain)}, but counts of "
                f"the darkest pixels vary by {plain(quiet, 2)} only, {plain(quiet / found_gain, 2)} photons, and "
                "no camera is so quiet; flicker makes that slope, give the gain if you have a calibration"
            )
    offset_error = math.hypot(offset_error, still_open / found_gain)
    if found_noise > 0:
        # of a read noise that is uniform between nothing and its largest value, about the root of its mean square
        noise_error = math.sqrt(2.0 - math.sqrt(3.0)) * found_noise if still_open else 0.0
    else:  # a read noise below what the errors of the line can hide
        noise_error = math.sqrt(found_gain * offset_error + gain_error * abs(float(mean.mean()) - found_offset))
    doubt = math.hypot(t.psf_doubt, flicker.disagreement) * kappa if flicker else math.inf
    of_background = of_background / found_gain if found_gain else 0.0
    brightness, kappa_error, remark = usable_brightness(kappa, math.hypot(error[4], doubt, of_background), known, t)
    errors = {
        "gain": gain_error,
        "offset": offset_error,
        "noise_std": math.hypot(error[2], noise_error),
        "photons_per_emitter": kappa_error,
    }
    if remark and "photons_per_emitter" not in given:
        notes.append(remark)
    notes += camera_notes(
        moments,
        (found.slopes[2][0], found_gain, found.slopes[0][0]),
        float(error[0]),
        found_offset,
        given,
        t,
        bleaches=statistics.bleaching.clear,
        in_turn=statistics.in_turn.note,
    )
    if statistics.bleaching.clear:
        notes.append(statistics.bleaching.note)
    notes += flicker_notes(flicker, table[0, 4:], error[4:], t) if flicker else neighbour_notes(moments, t)
    notes += [*contradictions(statistics, psi, given, tuning), *displacements(statistics, psi, tuning)]
    for name in given:
        errors[name] = 0.0
    return CameraEstimate(
        camera=Camera(found_gain, found_offset, found_noise),
        photons_per_emitter=given.get("photons_per_emitter", brightness),
        gain_error=errors["gain"],
        offset_error=errors["offset"],
        noise_std_error=errors["noise_std"],
        photons_per_emitter_error=errors["photons_per_emitter"],
        given=tuple(given),
        notes=tuple(notes),
        diagnostics={"mean": mean, "variance": moments.variance, "flicker": moments.variance - shot, "used": used},
    )


def contradictions(
    statistics: StackStatistics, psi: Psi | None, given: dict[str, float], tuning: CalibrationTuning = DEFAULT.calibration
) -> list[str]:
    """Remarks on a given gain or offset that the stack clearly contradicts, with what the stack suggests instead."""
    t, moments, notes = tuning.camera, statistics.moments(), []
    offset, gain = given.get("offset"), given.get("gain")
    live, _ = statistics.live
    mean, error = moments.mean[live], np.sqrt(moments.variance[live] / len(statistics.frames))
    darkest = plain(float(np.quantile(mean, t.darkest)), 4)
    if offset is not None and float(np.quantile(mean + t.contradicted * error, 0.05)) < offset:
        notes.append(
            f"offset {plain(offset, 6)} was given, but the darkest pixels are {darkest} counts on average: "
            "without light a camera writes its offset; measure it on a recording with the shutter closed"
        )
    if gain is None or psi is None:  # without a PSF, flicker counts as shot noise and the suggested gain is too high
        return notes
    try:
        found = camera_from(statistics, psi, {}, tuning)
    except ValueError:  # the stack does not determine the gain
        return notes
    suggested, error_of_it = found.camera.gain, found.gain_error
    if abs(suggested - gain) <= max(t.contradicted * error_of_it, t.contradicted_by * max(gain, suggested)):
        return notes
    note = f"gain {gain:g} was given, but the stack suggests {plain(suggested)} +- {plain(error_of_it, 2)} counts per photon"
    if abs(suggested - 1.0 / gain) <= t.contradicted_by * max(suggested, 1.0 / gain):
        note += f"; 1/{gain:g} = {1.0 / gain:.3g} is near it: was it given in electrons per count?"
    return [*notes, note]


def displacements(statistics: StackStatistics, psi: Psi | None, tuning: CalibrationTuning = DEFAULT.calibration) -> list[str]:
    """What to say of a sample that moved."""
    width = tuning.drift.usual_width if psi is None else FWHM_PER_SIGMA * psf_sigma(psi.psf) / psi.factor
    return drift_notes(statistics.drift, width, tuning.drift)
