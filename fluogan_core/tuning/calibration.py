"""Numbers by trial of :mod:`fluogan_core.calibration`: one section per file that uses them.

Where a docstring says *no record*, the number was chosen by trial on simulated stacks and the trials were not kept.  Where a
number has a reason beside, the reason is what is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .drift import DriftTuning
from .odd_frames import InTurnTuning, OddFramesTuning
from .psf_shape import PSFShapeTuning
from .row_shift import RowShiftTuning

__all__ = [
    "BadPixelTuning",
    "CalibrationTuning",
    "CameraTuning",
    "DriftTuning",
    "FlickerTuning",
    "InTurnTuning",
    "LivePixelTuning",
    "NoiseTuning",
    "OddFramesTuning",
    "PSFWidthTuning",
]


@dataclass(frozen=True)
class CameraTuning:
    """The camera's estimate (:func:`fluogan_core.estimate_camera`) and the remarks on it.

    Attributes
    ----------
    blocks : int
        Blocks per axis of the field that the jackknife leaves out one at a time.  No record.
    outlier : float
        Pixels whose variance departs from the line by more than this many robust standard deviations do not take part.  No
        record.
    line_passes, flicker_passes : int
        Passes of the robust line, and of flicker and line in turn.  No record.
    least_variance : float
        The fitted variance of a pixel is at least this part of the median one.  No record.
    darkest : float
        Quantile of the pixels' means that counts as the darkest; the offset is not above it.  No record.
    most_read_noise : float
        Largest read noise expected of a camera, electrons rms; a rolling-shutter sCMOS has about 1.5.
    least_noise : float
        No camera but a photon counter has less noise, photons rms; 10 counts at 120 per photon is an EM register at full gain.
    orders : tuple of int
        Orders of the high-pass filters behind which the noise is compared with the light, besides none.  What an order of 8
        leaves of flicker through a PSF two pixels wide is a thousandth; higher ones leave too little noise.
    room : int
        A filter is used where the field is at least this many times as wide as its order.  No record.
    narrower : float
        A PSF this many times as wide as described may be the true one: what the filters pass of its flicker is an error.
    clear_gain : float
        A gain is refused unless it is this many of its standard errors.  No record.
    least_shot : float
        Part of the variance that is left to photons where flicker seems to explain all of it and the gain is given.  No record.
    contradicted, contradicted_by : float
        A given value is contradicted from this many standard errors on; a gain if it is off by this part, too.  No record.
    fewest_frames : int
        With fewer frames that is why no gain is read.  No record.
    alternating_errors : float
        Standard errors from which on every other frame is said to be darker.  No record.
    clear_kappa, vague_kappa : float
        Photons per emission are used as measured if they are more than this many of their standard errors; else 1 is taken if
        the error is larger than this, photons.  No record.
    psf_doubt : float
        Part of the photons per emission that is open at least: emission is not even inside a camera pixel, and no PSF is known
        better.
    bleached, bleached_errors, steady : float
        The advice to skip the bleaching is given where light falls by this part, and by this many standard errors of a tenth
        of the frames; the frames to keep begin where this part of the loss is left.  No record.
    few_frames : int
        Fewer frames are remarked on.  No record.
    bent, bent_errors : float
        Slopes of dark and of bright pixels that differ by this part and this many standard errors are remarked on.  No record.
    light_changed : float
        A change of the light by this part is remarked on.  No record.
    seen, slow, slow_errors : float
        Flicker is remarked on where photons per emission are this many standard errors; it is slow where consecutive frames
        miss this part of it, and this many standard errors.  No record.
    pairs_disagree : float
        Closer and wider pairs that differ by more than this part are remarked on.  No record.
    lamp_errors, lamp : float
        A lamp is remarked on from so many standard errors and this rms on, relative; noise of rows and columns, from so many
        errors.  No record.
    correlated, correlated_errors : float
        Correlation of neighbouring pixels that is remarked on if there is no PSF, and its standard errors.  No record.
    """

    blocks: int = 5
    outlier: float = 4.0
    line_passes: int = 5
    flicker_passes: int = 2
    least_variance: float = 0.01
    darkest: float = 0.005
    most_read_noise: float = 2.5
    least_noise: float = 0.07
    orders: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    room: int = 3
    narrower: float = 0.95
    clear_gain: float = 2.0
    least_shot: float = 0.01
    contradicted: float = 4.0
    contradicted_by: float = 0.25
    fewest_frames: int = 10
    alternating_errors: float = 10.0
    clear_kappa: float = 1.0
    vague_kappa: float = 1.0
    psf_doubt: float = 0.05
    bleached: float = 1.0 / 3.0
    bleached_errors: float = 6.0
    steady: float = 0.25
    few_frames: int = 20
    bent: float = 0.1
    bent_errors: float = 2.0
    light_changed: float = 0.03
    seen: float = 3.0
    slow: float = 0.2
    slow_errors: float = 3.0
    pairs_disagree: float = 0.2
    lamp_errors: float = 4.0
    lamp: float = 0.003
    correlated: float = 0.02
    correlated_errors: float = 5.0


@dataclass(frozen=True)
class FlickerTuning:
    """The flicker in the covariances of pixels (:mod:`fluogan_core.calibration.flicker`).

    Attributes
    ----------
    wiener : float
        Regularisation of the sharpening filter, relative to the squared transfer of the PSF at zero frequency.  No record.
    neighbours : int
        At least this many near shifts take part, the strongest; those of equal strength together.  No record.
    strong : float
        A near shift has at least this part of the strength at shift zero.  No record.
    fewest_neighbours : int
        Near shifts where none is so strong.  No record.
    far : float
        A far shift has less than this part of the strength at shift zero.  No record.
    distances : tuple of float
        Far shifts lie at these multiples of the distance from which on shifts are far.  No record.
    closest : int
        The misfit is read from at least this many of the closest shifts, which flicker makes largest.  No record.
    disagreement_errors : float
        Closer and wider pairs disagree from this many standard errors on.  No record.
    smooth : float
        A background is as smooth as the light blurred by this many widths of the PSF (standard deviations).
    instrument : float
        Places are weighed by what flickers if that has a part in the light by this many standard errors.  Below, a ratio of
        noise could have any value.
    """

    wiener: float = 0.002
    neighbours: int = 16
    strong: float = 0.1
    fewest_neighbours: int = 4
    far: float = 1e-3
    distances: tuple[float, ...] = (1.0, 1.5, 2.0)
    closest: int = 4
    disagreement_errors: float = 2.0
    smooth: float = 2.355
    instrument: float = 4.0


@dataclass(frozen=True)
class LivePixelTuning:
    """Pixels that take part in the calibration before any PSF is known, and pixels that are dark and not dead.

    Attributes
    ----------
    ceiling, ceiling_ratio : int
        Values at the very top that make a ceiling: this many, and more than this many times those at the next value.  No
        record.
    hot, hot_errors : float
        A hot pixel stands out of the median of its neighbours by this part of the image's range, which no optics can do, and
        by this many standard errors besides.  No record.
    range : tuple of float
        Quantiles of the pixels' means that span the range.  No record.
    fewest : int
        Fewer pixels are refused: a camera cannot be read from them.  No record.
    unlit_counts : float
        Most counts, over all frames, that the neighbours of a pixel without one let expect there.  Light through a PSF does
        not fall off so fast that this many are expected beside a pixel that should have few.
    """

    ceiling: int = 5
    ceiling_ratio: int = 2
    hot: float = 0.5
    hot_errors: float = 5.0
    range: tuple[float, float] = (0.005, 0.995)
    fewest: int = 16
    unlit_counts: float = 20.0


@dataclass(frozen=True)
class PSFWidthTuning:
    """The width of the PSF (:func:`fluogan_core.estimate_psf_width`).

    On blinking frames of the experiment of ``docs/results.md`` the error of a width is about 1 %, with one photon per emission
    5 to 7 % (``docs/model.md``); ``clear``, ``least``, ``most`` and ``vague`` were chosen between.

    Attributes
    ----------
    narrowest, widest, step, grid : float
        Widths that are compared, the step between those that are computed and not interpolated, and between all.  No record.
    clear, least, most : float
        The PSF is changed where it is off by so many standard errors and by this much; a farther one is not the PSF alone.
    vague : float
        With a larger error than this the stack says too little: what it takes to be clear would be a gross exaggeration.
    differs : float
        Standard errors by which consecutive frames may differ from the whole stack, closer pairs from wider ones, rows from
        columns.  No record.
    soft : float
        Each of these bounds is crossed by degrees, over this part of it: a stack that is mirrored, or cut by a frame, changes
        the width a little, not from one side of a bound to the other.  No record.
    least_rate, steady : float
        Rates at which curves of unit length change, per unit of width: the least rate, and the least part of the largest one.
        For smooth PSFs 0.2 to 1.1, evenly; for those of few fine pixels nothing, then a step.
    blocks : int
        Blocks per axis of the field that the jackknife leaves out one at a time.  No record.
    fewest_frames, fewest_middles : int
        Frames, and middles of pairs, without which nothing is measured.  No record.
    dark : float
        Quantile of the pixels' means that counts as dark, for the weights of pairs.  No record.
    """

    narrowest: float = 0.6
    widest: float = 1.7
    step: float = 0.05
    grid: float = 0.0005
    clear: float = 2.0
    least: float = 0.01
    most: float = 0.2
    vague: float = 0.02
    differs: float = 3.0
    soft: float = 0.5
    least_rate: float = 0.01
    steady: float = 0.1
    blocks: int = 5
    fewest_frames: int = 20
    fewest_middles: int = 64
    dark: float = 0.02


@dataclass(frozen=True)
class NoiseTuning:
    """The noise of a stack and of its mean frame (:mod:`fluogan_core.calibration.noise`).

    Attributes
    ----------
    edge : float
        Noise is read at the frequencies of the mean frame of which that down or across is beyond this fraction of Nyquist's.
        No record.
    passed : float
        And which the PSF passes less than this part of.
    fewest : int
        Where there are fewer such frequencies the noise is not measured: of so many it has an error of a fifth.
    least : float
        Noise of the mean frame is not below this fraction of what the variance says: a mean without noise needs no prior.
    clear : float
        Power at few frequencies is clear where the mean of the power exceeds that of white noise by more than this part of it
        over the root of the number of frequencies.  No record.
    doubtful, outlying : float
        A frequency counts for white noise up to the first power, relative to its mean, and not at all from the second on.
        White noise exceeds the first at 25 of 1000 frequencies.  Development scenes of the zoo: at 8 and 16 one row
        shift raises the noise by 4 tenths; of white noise alone the error is a third larger at 3 and 6.
    passes : int
        In which powers and their model are found in turn: the last changes less than 10^-7 of the noise.
    dark, bright : float
        Quantiles of the pixels' means that count as dark and as bright.  No record.
    above : float
        Weight of a pixel above the slope of the background, relative to one below it.  No record.
    floor_passes : int
        Passes after which that slope is taken.  No record.
    largest : float
        Larger counts are refused: their squares, summed, leave the range of float32.
    levels : int
        Counts are refused of which float32 holds fewer levels than this between the least and the largest.  No record.
    """

    edge: float = 0.8
    passed: float = 0.03
    fewest: int = 12
    least: float = 0.1
    clear: float = 10.0
    doubtful: float = 5.0
    outlying: float = 10.0
    passes: int = 60
    dark: float = 0.05
    bright: float = 0.99
    above: float = 0.01
    floor_passes: int = 20
    largest: float = 1e15
    levels: int = 256


@dataclass(frozen=True)
class BadPixelTuning:
    """Bad pixels through the PSF (:mod:`fluogan_core.calibration.bad_pixels`); ``docs/model.md`` has the rule.

    Attributes
    ----------
    errors, sharpest, brightest : float
        A pixel is bad if the prediction from all others is missed by this many standard errors of the mean frame, plus this
        many times what a point of light as bright would miss it by, plus this part of the brightest light.  No record.
    least_variance : float
        A pixel is not better known than this part of the typical variance lets be: what is stuck has none.  No record.
    worst : float
        Per pass, every local maximum that is at least this fraction of the worst is flagged.  No record.
    most : float
        More than this part of the field is no blemish: nothing is taken out.  No record.
    passes, iterations : int
        Most passes, and most conjugate-gradient iterations that predict several pixels together.  No record.
    fewest : int
        A field of fewer pixels is not searched.  No record.
    dark, bright : float
        Quantiles of the mean frame after a median filter that count as dark and as the brightest light.  No record.
    """

    errors: float = 10.0
    sharpest: float = 3.0
    brightest: float = 0.05
    least_variance: float = 0.3
    worst: float = 0.5
    most: float = 0.05
    passes: int = 100
    iterations: int = 60
    fewest: int = 16
    dark: float = 0.05
    bright: float = 0.99


@dataclass(frozen=True)
class CalibrationTuning:
    """All of :func:`fluogan_core.calibrate`.

    Attributes
    ----------
    camera : CameraTuning
    flicker : FlickerTuning
    live_pixels : LivePixelTuning
    psf_width : PSFWidthTuning
    psf_shape : PSFShapeTuning
    noise : NoiseTuning
    bad_pixels : BadPixelTuning
    odd_frames : OddFramesTuning
    in_turn : InTurnTuning
    row_shift : RowShiftTuning
    drift : DriftTuning
    """

    camera: CameraTuning = field(default_factory=CameraTuning)
    flicker: FlickerTuning = field(default_factory=FlickerTuning)
    live_pixels: LivePixelTuning = field(default_factory=LivePixelTuning)
    psf_width: PSFWidthTuning = field(default_factory=PSFWidthTuning)
    psf_shape: PSFShapeTuning = field(default_factory=PSFShapeTuning)
    noise: NoiseTuning = field(default_factory=NoiseTuning)
    bad_pixels: BadPixelTuning = field(default_factory=BadPixelTuning)
    odd_frames: OddFramesTuning = field(default_factory=OddFramesTuning)
    in_turn: InTurnTuning = field(default_factory=InTurnTuning)
    row_shift: RowShiftTuning = field(default_factory=RowShiftTuning)
    drift: DriftTuning = field(default_factory=DriftTuning)
