"""Remarks on the estimate of a camera, in plain language."""

from __future__ import annotations

import math

import numpy as np

from ..physics.psf import FWHM_PER_SIGMA, psf_sigma
from ..physics.psi import Psi
from ..tuning import DEFAULT
from ..tuning.calibration import CameraTuning
from .flicker import SHAPED, Flicker
from .noise import StackNoise
from .pixel_moments import PixelMoments
from .plain import change_of_light, plain
from .regression import jackknife

__all__ = ["camera_notes", "flicker_notes", "narrow_psf_notes", "neighbour_notes", "unequal_pixel_notes", "usable_brightness"]


def usable_brightness(
    kappa: float, error: float, known: bool, tuning: CameraTuning = DEFAULT.calibration.camera
) -> tuple[float, float, str]:
    """The kappa to use, its error, and a remark where it was not measured; an empty text where it was.

    ``known`` is whether the light of the molecules is told from a background; else kappa is the least that it may be.
    """
    measured, clear = f"{plain(kappa, 2)} +- {plain(error, 2)}", kappa > tuning.clear_kappa * error
    if clear and known:
        return kappa, error, ""
    if clear:
        value, why = kappa, f"{measured} photons if nothing is background, else more: the sample is not told from it"
    elif math.isinf(error):
        value, why = 1.0, "not measured, because no PSF was given; 1 photon per emission is assumed"
    elif error > tuning.vague_kappa and not (known and kappa > 0):
        value, why = 1.0, f"not determined by this stack ({measured} photons); 1 photon per emission is assumed"
    else:
        value = max(kappa, error)
        why = f"the stack shows hardly any flicker ({measured} photons); the larger of value and error is used"
    return value, error if known and kappa > 0 else math.inf, f"photons per emission: {why}"


_ALTERNATING = (
    "every other frame is darker than the ones between them (two colours or lamps in turn, or frames lost?); take the even or "
    "the odd frames only (--frames 0::2, stack[::2])"
)


def gain_refusal(
    moments: PixelMoments,
    gain: float,
    error: float,
    unexplained: float,
    tuning: CameraTuning = DEFAULT.calibration.camera,
    fwhm_pixels: float = math.nan,
    in_turn: str = "",
) -> str:
    """Why the gain cannot be read, and what to do: the most likely cause alone.

    ``fwhm_pixels`` is the width of the PSF, ``in_turn`` the remark on frames of several kinds.
    """
    slope = f"slope of variance on mean {plain(gain)} +- {plain(error)}"
    frames = moments.brightness.size
    if _alternates(moments.brightness, tuning):
        in_turn = _ALTERNATING
    if in_turn:
        return f"the gain cannot be read from this stack ({slope}): {in_turn}, or give the gain"
    if frames < tuning.fewest_frames:
        return (
            f"the gain cannot be read from this stack ({slope}): {frames} frames are too few for the variance of a pixel; "
            f"record {tuning.few_frames} or more, or give the gain if you have a calibration"
        )
    if fwhm_pixels < 1.0:
        return (
            f"the gain cannot be read from this stack ({slope}): the PSF is described as {plain(fwhm_pixels, 2)} camera pixels "
            "wide at half maximum, which no camera samples well; check pixel size and PSF (--pixel-size-nm, --fwhm-nm)"
        )
    why = "its pixels are too alike, or too few, or their noise is not that of photons"
    if unexplained > error:
        why = (
            "most of its variance is flicker, and one number of photons per emission does not describe that flicker: the part "
            f"left over could change the slope by {plain(unexplained)} (few bright molecules, or few frames)"
        )
    help_ = "give the gain if you have a calibration"
    steady = _steady_from(moments.brightness, float(np.quantile(moments.mean, tuning.darkest)), tuning)
    if steady:
        why = "most of the light bleaches away during the recording, and that is not the noise of photons"
        help_ += f", or take the frames after most of the bleaching (--frames {steady}:{frames})"
    return f"the gain cannot be read from this stack ({slope}): {why}; {help_}"


def _alternates(brightness: np.ndarray, tuning: CameraTuning) -> bool:
    """Whether every other frame is clearly brighter than the two beside it, by much the same each time."""
    if brightness.size < 8:
        return False
    bend = brightness[1:-1] - 0.5 * (brightness[:-2] + brightness[2:])  # free of what changes slowly
    signed = bend * (-1.0) ** np.arange(bend.size)
    step = float(np.median(signed))
    return abs(step) * math.sqrt(bend.size) > tuning.alternating_errors * float(np.abs(signed - step).mean())


def _steady_from(brightness: np.ndarray, darkest: float, tuning: CameraTuning) -> int:
    """The frame from which on a small part of the loss of light is left to come; 0 where light falls by too little."""
    tenth = max(1, brightness.size // 10)
    smooth = np.convolve(brightness, np.ones(tenth) / tenth, mode="valid")
    first, last = float(smooth[0]), float(smooth[-1])
    error = float(np.diff(brightness).std()) / math.sqrt(tenth)
    if first - last < max((first - darkest) * tuning.bleached, tuning.bleached_errors * error):
        return 0
    return int(np.argmax(smooth <= last + tuning.steady * (first - last)))


def camera_notes(
    moments: PixelMoments,
    slopes: tuple[float, float, float],
    error: float,
    offset: float,
    given: dict[str, float],
    tuning: CameraTuning = DEFAULT.calibration.camera,
    *,
    bleaches: bool = False,
    in_turn: str = "",
) -> list[str]:
    """Remarks on camera and light; ``slopes`` where dark pixels weigh most, as used, and where bright ones do.

    ``bleaches`` tells that a remark of its own says how the light of the sample falls, ``in_turn`` is that on frames of several
    kinds.
    """
    notes = []
    frames = moments.brightness.size
    if frames < tuning.few_frames:
        notes.append(f"only {frames} frames: variances are rough")
    if _alternates(moments.brightness, tuning):
        in_turn = _ALTERNATING
    if in_turn:
        notes.append(in_turn)
    if "offset" not in given and "noise_std" not in given:
        notes.append(
            f"offset and read noise cannot be told apart: a read noise of 0 to {tuning.most_read_noise:g} photons is "
            "assumed; give one of them if you know it"
        )
    dim, gain, bright = slopes
    if "gain" not in given and abs(dim - bright) > max(tuning.bent * gain, tuning.bent_errors * error):
        notes.append(
            f"variance is not proportional to light: its slope is {plain(dim)} among dark pixels and {plain(bright)} among "
            "bright ones (a camera that is not linear, or a sample that moves)"
        )
    tenth = max(1, frames // 10)
    first, last = (part.mean() - offset for part in (moments.brightness[:tenth], moments.brightness[-tenth:]))
    if first > 0 >= last:
        source = "given" if "offset" in given else "estimated"
        notes.append(
            f"bleaching or drift: the mean of the last frames is not above the {source} offset of {plain(offset, 5)} counts: "
            "nothing is left of the light, or the offset is too high (give the one that was measured with the shutter closed)"
        )
    elif first > 0 and abs(last / first - 1.0) > tuning.light_changed and not (bleaches and last < first):
        notes.append(f"bleaching or drift: the light above the offset {change_of_light(first, last)} over the stack")
    return notes


def flicker_notes(
    flicker: Flicker, kappa: np.ndarray, error: np.ndarray, tuning: CameraTuning = DEFAULT.calibration.camera
) -> list[str]:
    """Remarks on fluctuations; ``kappa`` and ``error`` are of the whole stack and of consecutive differences."""
    notes = []
    if kappa[0] > tuning.seen * error[0] and kappa[0] - kappa[1] > max(
        tuning.slow * kappa[0], tuning.slow_errors * math.hypot(*error)
    ):
        notes.append(
            f"slow fluctuation: differences of consecutive frames show only {max(kappa[1] / kappa[0], 0.0):.0%} of the "
            "flicker's variance over the whole stack (molecules that blink over several frames, or a sample that moves)"
        )
    if kappa[0] > tuning.seen * error[0] and flicker.disagreement > tuning.pairs_disagree:
        notes.append(
            "the covariance of neighbouring pixels does not fall with distance as this PSF predicts (another PSF, or flicker "
            "out of focus): closer and wider pairs of pixels give photons per emission that differ by "
            f"{plain(flicker.disagreement * kappa[0], 2)}; all of these pairs together give {plain(kappa[0], 2)}"
        )
    values, errors = flicker.fast[0, SHAPED:], jackknife(flicker.fast)[SHAPED:]
    clear = values > tuning.lamp_errors * errors
    if clear[0] and values[0] > tuning.lamp**2:
        notes.append(f"the illumination flickers by {math.sqrt(values[0]):.1%} rms from frame to frame")
    for name, value, seen in (("row", values[1], clear[1]), ("column", values[2], clear[2])):
        if seen:
            notes.append(f"noise common to a {name}: {plain(math.sqrt(value), 2)} counts rms")
    return notes


def narrow_psf_notes(psi: Psi) -> list[str]:
    """A remark on a PSF that is narrower than a camera pixel, which a wrong pixel size makes it."""
    width = FWHM_PER_SIGMA * psf_sigma(psi.psf) / psi.factor
    if width >= 1.0:
        return []
    return [
        f"the PSF is {width:.2g} camera pixels wide (FWHM); microscopes sample it by two to four: is the pixel size right, "
        "in nm in the plane of the sample?"
    ]


def unequal_pixel_notes(noise: StackNoise) -> list[str]:
    """A remark on noise of the mean frame that is not that of photons and read-out."""
    if noise.unexplained <= 1.0:
        return []
    return [
        f"the mean frame is {noise.excess:.1f} times noisier than its fluctuations explain: its pixels differ in gain or "
        "offset; give maps of both if you have them (--offset-map and --gain-map, corrected_counts)"
    ]


def neighbour_notes(moments: PixelMoments, tuning: CameraTuning = DEFAULT.calibration.camera) -> list[str]:
    """Warn of flicker that could not be subtracted, because no PSF was given."""
    near, variance = moments.fast[1, 0], moments.variance
    if not near.size:
        return []
    common = float(near.sum() / np.sqrt(variance[:-1] * variance[1:]).sum())
    if common <= max(tuning.correlated, tuning.correlated_errors / math.sqrt(near.size * moments.brightness.size)):
        return []
    return [
        f"neighbouring pixels fluctuate together (correlation {common:.2f}): the sample flickers and the gain is too high; "
        "describe the PSF, so that the flicker can be subtracted"
    ]
