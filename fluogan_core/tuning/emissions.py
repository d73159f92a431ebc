"""Numbers of the chains of emissions, and of the fit that follows them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EmissionTuning", "LikelihoodPhaseTuning"]


@dataclass(frozen=True)
class EmissionTuning:
    """The moves of the chains of emissions (:mod:`fluogan_core.physics.emissions`).

    They touch the time that a chain needs to forget where it began, not what it visits in the end.  No record.

    Attributes
    ----------
    births, places, brightness, splits, pairs : float
        Parts of the proposals: births and as many deaths; new places; new brightnesses; splits and as many mergers; exchanges
        between two neighbours.
    steps : (float, float, float)
        Farthest new place, by three scales, standard deviations of the PSF.
    reach : float
        Neighbours, and the two parts of a split, lie within so many standard deviations of the PSF.
    turns : (float, float, float)
        Largest change of the logarithm of a brightness, by three scales.
    """

    births: float = 0.12
    places: float = 0.4
    brightness: float = 0.12
    splits: float = 0.07
    pairs: float = 0.1
    steps: tuple[float, float, float] = (0.2, 0.6, 1.5)
    reach: float = 1.5
    turns: tuple[float, float, float] = (0.05, 0.2, 0.8)


@dataclass(frozen=True)
class LikelihoodPhaseTuning:
    """The fit of the full likelihood.

    Attributes
    ----------
    sweeps : int
        Sweeps of the chains per step of the solver.  With 10 the NRMSE is 0.996 +- 0.009 times as large in 21 recordings of few
        bright molecules, at 1.5 times the processor time.
    proposals, per_emission : float
        Proposals per frame and sweep: these, and so many for each emission that the frame's light is worth.
    forget : int
        Sweeps of which only the last one counts: the chains begin without an emission.
    stands_out : float
        In those the chains also look where the brightest frame is above the image by so many standard deviations of its noise.
        Isolated molecules of which two were on in one and in two of 200 frames: light 3.5 and 7.0 standard errors too low
        without that, 0.1 and 0.2 with it.  5 is rare among 10^6 counts without a molecule; no other was tried.
    decay, least_share : float
        After those, a sweep's share of the running averages falls with this power of its number, to no less than this.
    edges : tuple of float
        What an edge as high as the typical light costs, nats per fine pixel of its length, in rising order: 0.3 is best for
        lines as thin as a fine pixel, 4 for bars.  Unseen frames choose.
    edges_tried : (float, float)
        Parts of the steps after which the first weight of edges is noted, and the last one.
    edges_errors : float
        The largest weight is chosen that makes unseen frames less likely than the best one by no more than so many standard
        errors: of two that predict alike, the one that draws less.
    dual_iterations : int
        Iterations on the dual of the total variation per sweep; the other fits take few per step, and far more steps.  Two bars
        of 3 emissions of 1000 photons, 500 frames of 16 x 16 pixels: NRMSE 0.089 and 0.076 with 3, 0.085 and 0.067 with 8,
        0.081 and 0.066 with 15, 0.081 and 0.066 with 40, in the same time; two pairs: 0.122 and 0.112 with 3, 0.129 and 0.131
        with 15.
    detail : float
        The image is sought through a blur no wider than this part of the PSF, or than the options' ``detail`` if that is more.
        The mean frame may want a wider one.  A pair of 3 emissions of 100 photons (two seeds; the mean frame wants 0.30 and
        0.32): NRMSE 0.211 and 0.226 with that, 0.148 and 0.149 with 0.13, 0.141 and 0.144 with 0.09; of its bar 0.153 and
        0.172, 0.088 and 0.122, 0.075 and 0.110.  But with 0.09 unseen frames choose costly edges for thin lines and for
        molecules that blink: 0.36 where 0.13 has 0.31, 0.42 where the mean frame's 0.10 has 0.33.
    dust : float
        Where the image is dark it emits this part of its mean: what is dark now may turn out to emit.
    first_shape, least_shape, largest_shape : float
        Shape of the gamma law of the brightness: where it begins, and its bounds.
    mixing_frames, mixing_sweeps : (int, int)
        Fewest and most frames that get a second chain in the end; shortest and longest test of mixing, sweeps of each chain.
    mixing_notes : int
        Of each chain in a long test; a shorter one has one for each sweep.
    mixing_free : float
        Moves that the test may take, some seconds, even if the fit took fewer.
    most_moves, seconds_per_move : float
        The fit is not begun where its chains would take more moves than these, and what a move takes: 1.7 to 2.9e-6 s on one
        core (16 to 32 pixels a side, 9 to 77 emissions, 30 and 100 photons each).  The limit is half a day's work.
    least_variance, spared : float
        Of notes within a chain, and the part of the frames that is left out, see :mod:`fluogan_core.solvers.mixing`.
    largest_r_hat : float
        Chains count as mixed up to here.
    most_overlap : float
        ``method="auto"`` tries the likelihood where an emission is overlapped by so many others or fewer.  Beyond, covariances
        hold nearly all of the information.
    most_auto_moves : float
        Nor where its chains would take more moves than these, about ten minutes of one core.
    hopeless_overlap : float
        Beyond, the likelihood is not tried even if it is asked for: covariances hold nearly all of the information long before.
        A full test of mixing would take half an hour for 24 frames of 12 x 12 pixels in which 400 emissions overlap.
    unseen, fewest_unseen : float, int
        Part of the frames that are set aside and choose the weight of edges (with ``method="auto"``, whether the likelihood is
        kept), and how many these are at least.  A bar, 500 frames of 3 emissions: the likelihood is better than mean and
        covariance by 3.5 +- 4 nats as a quarter of the frames sees it, by 10.5 +- 4.3 as a half does.
    most_judges : int
        Of the frames set aside, so many are asked at most: to draw their emissions anew for every judgement takes long.  No
        other number was tried.
    clear_loss : float
        With ``method="auto"`` the likelihood is given up where it makes these frames less likely by more than so many standard
        errors.  What they judge is the image that predicts them; the result is the light of the frames that were seen, which
        gains more.  Of 27 development scenes of the zoo 2 keeps 25, in 21 of them the NRMSE is lower or the same, in the
        geometric mean 0.83 times the default's.  Kept only where a gain is shown (above 1) it would be in 20, and lower or
        the same in 17 of them.  Whether their chains mixed was not asked.
    anywhere : float
        Part of the emissions that may be anywhere in the field, for that judgement: a few in the dark do not decide.  No
        record.
    gain_nodes, gain_start, gain_between, gain_sweeps : int
        Of :mod:`fluogan_core.solvers.unseen_gain`: places between the two images; sweeps before emissions count at the first,
        and at the others; sweeps in which they do.  No record.
    """

    sweeps: int = 5
    proposals: float = 20.0
    per_emission: float = 6.0
    forget: int = 20
    stands_out: float = 5.0
    decay: float = 0.6
    least_share: float = 0.05
    edges: tuple[float, ...] = (0.3, 1.0, 4.0)
    edges_tried: tuple[float, float] = (0.3, 0.6)
    edges_errors: float = 2.0
    dual_iterations: int = 15
    detail: float = 0.13
    dust: float = 1e-3
    first_shape: float = 4.0
    least_shape: float = 0.3
    largest_shape: float = 200.0
    mixing_frames: tuple[int, int] = (4, 32)
    mixing_sweeps: tuple[int, int] = (25, 400)
    mixing_notes: int = 40
    mixing_free: float = 2e6
    most_moves: float = 2e10
    seconds_per_move: float = 2e-6
    least_variance: float = 0.05
    spared: float = 0.1
    largest_r_hat: float = 1.2
    most_overlap: float = 8.0
    most_auto_moves: float = 3e8
    hopeless_overlap: float = 200.0
    unseen: float = 0.5
    fewest_unseen: int = 10
    most_judges: int = 200
    clear_loss: float = 2.0
    anywhere: float = 0.02
    gain_nodes: int = 4
    gain_start: int = 40
    gain_between: int = 4
    gain_sweeps: int = 10
