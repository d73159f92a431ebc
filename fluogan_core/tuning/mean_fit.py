"""Numbers of the fit of the mean: its schedule, its reweighted prior, and what unseen photons choose."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MeanPhaseTuning", "ReweightingTuning", "UnseenPhotonsTuning", "UsefulIterationsTuning"]


@dataclass(frozen=True)
class ReweightingTuning:
    """The reweighted l1 norm (:mod:`fluogan_core.objective.reweighting`).  All numbers but those of the signal: pairs and
    bars.

    Attributes
    ----------
    first : float
        Part of the weight that is asked everywhere until the first update.
    updates : tuple of float
        Fractions of the planned iterations after which the weights are updated.
    lit : float
        A pixel counts as lit where the image, blurred by the PSF, exceeds this many standard deviations of the mean frame,
    of_signal : float
        or this part of its signal, where that is less (in dim light nothing would be lit otherwise, and structures would lose
        a third of their light; development scenes of the zoo), ...
    least_of_signal : float
        ... down to this part, where unseen photons speak for it (:mod:`fluogan_core.solvers.unseen_photons`).  Development
        scenes of the zoo. ...
    skirt : float
        ... and where it exceeds this part of the brightness around: less is the skirt that the blur gives a body.
    around : int
        Blurs by the PSF's width that make "around".
    """

    first: float = 0.125
    updates: tuple[float, ...] = (0.25, 0.5)
    lit: float = 24.0
    of_signal: float = 0.45
    least_of_signal: float = 0.2
    skirt: float = 0.3
    around: int = 4


@dataclass(frozen=True)
class MeanPhaseTuning:
    """The fit of the mean.

    Attributes
    ----------
    iterations_per_snr : float
        Accelerated iterations per unit of the mean frame's signal-to-noise ratio.  After k iterations FISTA has recovered what
        Psi dims by less than about k; a single pixel shows nothing that Psi dims by more than its signal-to-noise ratio, but a
        structure shows in many pixels.  Development scenes of the zoo, with one step size for all pixels, momentum that is
        dropped where the l1 weights change, and 120: with 30 single molecules came out blurred; where the light of a stack
        pays for no more, more iterations change nothing.
    fewest, most : int
        Bounds of that number.  Pairs and bars: beyond 3000 iterations with one step size nothing was gained; with one for each
        pixel 1800 resolved as many pairs of lines 150 nm apart (8 of 8), and 900 as many as those where the momentum is kept
        (6 of 8 others; 1 with 1200 and momentum that is dropped).
    measured : tuple of float
        Parts of the iterations after which the step sizes are measured on the image.  Until the first all pixels have the
        same.  Pairs: from a twentieth on more come out as two than from a quarter on.
    pedestal, least_curvature, power_iterations, margin
        As in the fit of mean and covariance (:class:`fluogan_core.tuning.CovariancePhaseTuning`).  Development scenes of the
        zoo: with a pedestal of 0.015 scores were the same.
    bright : float
        Signal-to-noise ratio of the mean frame from which on the finest detail is looked for; below it the blur grows as the
        root of this over the ratio, unless unseen photons speak for the finest.  Pairs and bars at ratios of 80 and 230, and
        recorded stacks at 16 to 47.
    most_unexplained : float
        The total variation weighs more where the mean frame is noisier than its fluctuations explain: so many times as much,
        up to this.  Development scenes of the zoo: with the cube and no bound, a field of unequal pixels under 800 photons of
        background came out as a labyrinth.
    """

    iterations_per_snr: float = 36.0
    fewest: int = 10
    most: int = 900
    measured: tuple[float, ...] = (0.05, 0.5)
    pedestal: float = 0.05
    least_curvature: float = 1e-6
    power_iterations: int = 20
    margin: float = 1.05
    bright: float = 200.0
    most_unexplained: float = 4.0


@dataclass(frozen=True)
class UnseenPhotonsTuning:
    """The choice of weights by unseen photons (:mod:`fluogan_core.solvers.unseen_photons`).

    Attributes
    ----------
    field : int
        Side of the largest part of a field that is looked at, camera pixels: bounds the time.  No record.
    noise : float
        What is added to the mean frame that is fitted, in units of its noise; what is predicted has 1 over this taken away.  At
        1 both have twice the variance of the stack's own; at 0.5 fewer scenes were told apart (by
        one draw, not a pair).  Development scenes of the zoo.
    iterations : int
        Of the fits, at most.  On eight development scenes of the zoo, with momentum that is dropped where the l1 weights
        change, scores with 300 differ by one standard error at most from those with 1800 (1.3 for isolated molecules, of 13),
        with 150 by up to 4.5; with momentum that is kept, half of a number does what it did.
    coarser : tuple of float
        Details that are tried beside the finest and the one between, in units of the cautious one.  Development scenes of the
        zoo: blobs.
    apart : float
        Details that differ by a smaller ratio are one.  No record.
    ahead : float
        Nats by which cautious detail and light are likelier before anything was fitted.  Development scenes of the zoo: at 0
        bars and blobs lose by chance.
    as_good : (float, float)
        The same of a stiffer background than the usual one.  Development scenes of the zoo.
    worse : float
        Standard errors by which a stiffer one predicts better (worse: below 0) where none that is stiffer yet is tried: for
        the time.
    lengths : tuple of float
        Length scales of the background, camera pixels: a stack may choose from the first to the last but one, of which the
        next predicts as well.  The first by trial on pairs, bars and backgrounds with a bump; the others by development scenes
        of the zoo, and bars of dim double Poisson frames (two of eight were split where 3.9 was the last).
    handed_over : (float, float)
        By how much more light x may have with a stiffer background: none is made stiffer from the second on, by degrees from
        the first.  Development scenes of the zoo: 1.3 at most on flat backgrounds and gradients but for one (1.7), 1.6 to 5
        under most bumps and vignetting.
    more_parts : int
        Parts of a larger field, beside the brightest, on which a stiffer background must predict as well.  No record.
    """

    field: int = 32
    noise: float = 1.0
    iterations: int = 200
    coarser: tuple[float, ...] = (1.6, 2.5)
    apart: float = 1.15
    ahead: float = 2.0
    as_good: tuple[float, float] = (-1.0, 0.0)
    worse: float = -2.0
    lengths: tuple[float, ...] = (2.6, 3.9, 5.2, 7.8)
    handed_over: tuple[float, float] = (1.25, 1.5)
    more_parts: int = 2


@dataclass(frozen=True)
class UsefulIterationsTuning:
    """How many iterations are of use where the model is wrong (:mod:`fluogan_core.solvers.useful_iterations`).

    Attributes
    ----------
    clear : float
        Standard deviations by which the misfit must exceed that of noise.
    useless, useful : float
        Twice the iterations are of no use where they take less than the first part from what the misfit exceeds 1 by, of use
        where they take more than the second; in between by degrees.  Development scenes of the zoo.
    clear_gain : float
        They are of use, too, where they lower the misfit by more than this, in units of what noise makes of it or of itself,
        whichever is more; wholly from twice this on.  Development scenes of the zoo.
    most_halvings : int
        Of the plan.  Development scenes of the zoo: with more nothing was gained.
    """

    clear: float = 2.0
    useless: float = 0.1
    useful: float = 0.2
    clear_gain: float = 0.3
    most_halvings: int = 4
