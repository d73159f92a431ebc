"""Numbers by trial of :mod:`fluogan_core.calibration.drift`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DriftTuning"]


@dataclass(frozen=True)
class DriftTuning:
    """The shift between the first and the last third of the frames.

    Chosen on simulated stacks of 40 x 40 pixels and 150 frames (lines, single molecules, cells; blinking, bleaching, fading
    backgrounds): of 440 of samples that stay 1 was said to move.

    Attributes
    ----------
    fewest_frames : int
        Of fewer frames a third says nothing of the sample.
    passes : int
        Times that the means are shifted back and measured again, at most.
    settled : float
        A step below this many pixels ends it.
    smooth : float
        Standard deviation of the smoothing before slopes are taken, pixels: the slope of noise is largest at the highest
        frequencies.
    block, most_blocks : int
        Blocks of the jackknife: this many pixels wide (about two PSFs), and this many per axis at most.
    fewest_blocks : float
        The light must be spread over this many blocks at least.
    tilt : float
        Bleaching differs over the field by this part from the middle to the border (a standard deviation).
    alike : float
        Squared slopes of what the two means share, relative to those of what they do not share, at least: 1 for two images of
        noise, up to 3 where other molecules were on in each third, 6 and more for one sample that moved.
    clear, least : float
        A drift is reported where it is this many standard errors and this part of the width of the PSF.
    usual_width : float
        Full width at half maximum of a PSF that is not described, camera pixels.
    """

    fewest_frames: int = 12
    passes: int = 12
    settled: float = 1e-3
    smooth: float = 1.0
    block: int = 6
    most_blocks: int = 12
    fewest_blocks: float = 3.0
    tilt: float = 0.5
    alike: float = 4.0
    clear: float = 5.0
    least: float = 0.1
    usual_width: float = 2.0
