"""Numbers by trial of :mod:`fluogan_core.calibration.thirds` and :mod:`fluogan_core.calibration.drift`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DriftTuning"]


@dataclass(frozen=True)
class DriftTuning:
    """The shift between the first and the last third of the frames, and the path of the sample through all frames.

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
    smooth_bright : float
        The same for the path of bright samples, whose light is enough for ``fewest_segments`` that are smoothed by so little.
        There molecules that blink or bleach make most of the noise, which is as smooth as the sample: smoothing does not help.
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
    light_of_segment : float
        Power of the sample's structure over that of the noise, in the smoothed mean of a segment, at least.
    fewest_segments, most_segments, shortest_segment : int
        Number of segments, and frames of the shortest.
    most_pairs_of : int
        So many groups of segments are correlated with each other, at most.
    settled_path : float
        A path is settled where no place of it changes by more, pixels.
    least_light : float
        Share of the mean light below which a segment's slopes are taken to be no less.
    longest_step : float
        A segment is followed so far beyond the path at once, pixels.
    most_jumps : int
        Jumps that are looked for.
    jump_likelihood : float
        A jump raises the log likelihood of the path by this, at least.  Without a jump it was 11.5 or less in 53 of 54
        simulated stacks and 12.6 in one, a dim drift that bleaches; with a jump of one pixel it was at least 20 in 60 (those
        of `benchmarks/bench_drift.py`, other seeds).
    clear_path : float
        A path is followed where its length along one axis is this many standard errors.
    worth_following : float
        It then is followed along the other axis as well where that one's length is this many.
    """

    fewest_frames: int = 12
    passes: int = 12
    settled: float = 1e-3
    smooth: float = 1.0
    smooth_bright: float = 0.5
    block: int = 6
    most_blocks: int = 12
    fewest_blocks: float = 3.0
    tilt: float = 0.5
    alike: float = 4.0
    clear: float = 5.0
    least: float = 0.1
    usual_width: float = 2.0
    light_of_segment: float = 1.0
    fewest_segments: int = 8
    most_segments: int = 48
    shortest_segment: int = 4
    most_pairs_of: int = 16
    settled_path: float = 0.01
    least_light: float = 0.2
    longest_step: float = 1.5
    most_jumps: int = 5
    jump_likelihood: float = 12.0
    clear_path: float = 4.0
    worth_following: float = 1.0
