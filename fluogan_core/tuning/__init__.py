"""Every number that was found by trial, in one place, with where it comes from.

A number that follows from the model, from an option of the user or from a published rule is not here; it stands in the formula
that uses it.  Functions take the section that they need as an argument with these values as default: a trial passes other
values and replaces nothing in a module.

Where a docstring says *pairs and bars*, the number was chosen on simulated pairs of lines and on uniform bars of the same width
and flux (``python -m benchmarks.paper``; figures in ``docs/results.md``); where it says *recorded stacks*, on the four of
``docs/real.md``; where it says *no record*, the trials were not kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .bleaching import BleachingTuning
from .calibration import CalibrationTuning
from .emissions import EmissionTuning, LikelihoodPhaseTuning
from .mean_fit import MeanPhaseTuning, ReweightingTuning, UnseenPhotonsTuning, UsefulIterationsTuning

__all__ = [
    "DEFAULT",
    "BleachingTuning",
    "CalibrationTuning",
    "CovariancePhaseTuning",
    "EmissionTuning",
    "EstimatorTuning",
    "LatticeTuning",
    "LikelihoodPhaseTuning",
    "MeanPhaseTuning",
    "NetworkPhaseTuning",
    "ObjectiveTuning",
    "QuadraticCriticTuning",
    "ReweightingTuning",
    "SweepTuning",
    "Tuning",
    "UnseenPhotonsTuning",
    "UsefulIterationsTuning",
]


@dataclass(frozen=True)
class QuadraticCriticTuning:
    """Of the quadratic critic (:class:`fluogan_core.QuadraticCritic`).

    Attributes
    ----------
    frames_per_chunk : int
        The mean of so many frames is subtracted from them before covariances are formed: bleaching and drift are to be slower
        than so many frames, blinking faster.
    variance_floor : float
        Added to every pixel's predicted variance before the covariance is inverted, in units of the mean pixel's, so that
        pixels without light do not outweigh all others.
    bad_pixel_variance : float
        The same of bad pixels: so large that their weight vanishes in float32, so small that the matrix can be inverted in
        float64.
    window : int
        Side of a window, camera pixels.  Blinking fields of 32 x 32 pixels: held-out scores and distances of lines at 12 are
        those at 16 (and those of tiles of 16 without overlap); at 8 a tenth of what covariances win is lost.
    dark : float
        A window is left out where flicker adds less than this part to the variance of each of its pixels.  No record.
    reach_fwhm : float
        Second derivatives of pixels further apart than this part of the PSF's width are left out: of x with itself, W C_i being
        about as narrow as the PSF.  Blinking fields: 2 % of their sum.
    beside : float
        Second derivatives of x are seen in a window as far beside it as this many standard deviations of the PSF.  No record.
    node_error : float
        Columns of Psi are read off a lattice as coarse as interpolates pairs of their entries within this part of the largest,
        for second derivatives only, which set the step sizes.  At 1e-2 the fit of mean and covariance did not settle on a
        spiral in bright light (development scene 0 of the zoo: NRMSE 0.47 instead of 0.18).
    least_inside, least_entry : float
        Operators of the user's own: second derivatives of x are seen in a window where a column has this part of its squares
        inside, and those of two pixels are left out below this part of the root of their own.  No record.
    batch_bytes : int
        Windows are computed together as far as they fit into this many bytes.
    batch_bytes_cpu : int
        The same on a CPU, whose cache larger batches leave: at 2^26 an update of the weights took a quarter longer, at 2^22 a
        tenth (64 x 64 pixels).
    """

    frames_per_chunk: int = 25
    variance_floor: float = 1e-3
    bad_pixel_variance: float = 1e9
    window: int = 12
    dark: float = 1e-3
    reach_fwhm: float = 0.95
    beside: float = 2.0
    node_error: float = 2e-3
    least_inside: float = 1e-3
    least_entry: float = 1e-6
    batch_bytes: int = 2**26
    batch_bytes_cpu: int = 2**24


@dataclass(frozen=True)
class EstimatorTuning:
    """Of the estimators of a critic's gradient (:func:`fluogan_core.critic_gradient`).

    Attributes
    ----------
    frames_per_correction : int
        ``method="corrected"`` evaluates its remainder on one frame in so many, and on two at least.  Near the best share where
        blinking makes an emission 20 photons and the mean fits; the table "The estimators of the gradient" in
        ``docs/estimators.md`` has the best share of each situation.
    """

    frames_per_correction: int = 32


@dataclass(frozen=True)
class LatticeTuning:
    """Of the coarser lattice of emitters (:mod:`fluogan_core.critics.lattice`).

    Attributes
    ----------
    aliased : float
        Spacing 2 is safe where the squared PSF's spectrum beyond a quarter cycle per fine pixel stays below this share of its
        peak; ``docs/estimators.md`` states what the interpolation then costs.
    spline_degree : int
        Degree of the splines between the nodes.
    """

    aliased: float = 1e-6
    spline_degree: int = 5


@dataclass(frozen=True)
class ObjectiveTuning:
    """The terms of (11) and their proximal operators (:mod:`fluogan_core.objective`).

    Attributes
    ----------
    dual_iterations : int
        Iterations on the dual of the total variation per step of the image.  The dual is handed on from step to step, so that
        few are enough: in eight development scenes of the zoo two and three led to the same image, but for one whose error
        changed by 1 % (one: by 6 %).  In fits of 1800 iterations rounding errors grew with two; in four bright scenes of 900
        turned images are the same to the last digit.
    bound_iterations : int
        Iterations that make a background meet its bound and its penalty, from nothing.  No record.
    warm_bound_iterations : int
        The same where they go on from the step before.  With five that were not over-relaxed, turned images differed by 0.3 %.
    relaxation : float
        Over-relaxation of these iterations, below 2: 1.5 to 1.8 are usual (Boyd et al. 2011, section 3.4.3).
    stiffest : float
        The penalty of no frequency of the background is more than this many times the fidelity.  Of that a ten-thousandth
        passes; of a stiffer one the rounding errors of a float32 background would be all that is seen.  No record.
    free_degree : int
        Highest degree of the polynomials of the field's coordinates that the background's penalty does not see: slope and
        vignetting are of degree 1 and 2.  With them fewer wide bars on a sloping background split.  No record of higher ones.
    """

    dual_iterations: int = 2
    bound_iterations: int = 50
    warm_bound_iterations: int = 10
    relaxation: float = 1.8
    stiffest: float = 1e4
    free_degree: int = 2


@dataclass(frozen=True)
class CovariancePhaseTuning:
    """The fit of mean and covariance.

    Attributes
    ----------
    inner : int
        Accelerated iterations per step of the solver: as many as pay for one update of the weights.
    edges : float
        Edges weigh up to this many times as much as in the fit of the mean, where all of the variance is flicker.  Pairs and
        bars.  With 9, blinking pairs 150 nm apart merge; with 3, bars of few bright emissions come out as grains.
    all_flicker : float
        Share of flicker in the variance of the light that counts as all.  Pairs and bars.
    drawn : float
        An edge of the mean fit of this part of the typical brightness halves the weight of edges there.  Pairs and bars.
    flat, steep : int
        Powers of the share of flicker in the weight of edges: in flat areas, and at the edges of the mean fit.  Pairs and bars.
    carried : int
        Updates of the weights before this step leave the momentum, those from it on drop it.  Where it was dropped
        at every update, the NRMSE of 97 development scenes of the zoo was 6 % lower to 8 % higher, 0.2 % higher on average, in
        34 steps instead of 18 on 64 x 64 pixels.  Dropped only where a step gained nothing, it was 0.26 instead of 0.17 on a
        spiral in bright light (scene 0).
    power_iterations : int
        Of the second derivative, for the step sizes.
    margin : float
        The step sizes are this much shorter than the power iteration allows: it approaches its limit from below.
    pedestal : float
        What is added to the image where step sizes go with it, in units of its typical brightness: the less, the longer the
        steps in bright light and the shorter those in the dark.  Pairs: 0.015 needs fewer iterations than 0.05, for the same
        images.
    least_curvature : float
        The second derivative of a pixel of x counts as no less than this part of the largest, since steps are divided by it.
        No record.
    settled : float
        The phase ends where two steps in a row each lower what is minimised by less than this part of what all have lowered it
        by.  Development scenes of the zoo: at 0.01 the NRMSE of ten of 44 was 2 to 11 % higher, and of one 4 % lower, for 7 %
        less time.
    least_flicker : float
        Share of flicker in the variance of the molecules' light below which the phase is left out: covariances then say
        nothing that the mean does not.  Double Poisson frames of one photon per emission (share below 0.06) against blinking.
    enough_flicker : float
        Share of flicker from which on the phase's images count fully.  In between they are averaged with those of the mean fit,
        so that nothing jumps.  No record.
    worse, doubt : float
        Standard errors by which unseen frames may speak against the fit at its end: its images count half there, fully at
        ``worse - doubt`` and no more at ``worse + doubt``.  No record of ``doubt``: frames that change by a thousandth of their
        noise change the score by less than a hundredth of its standard error.
    hopeless : float
        Standard errors at which the fit is given up while it runs.
    patience : int
        Steps that are taken before unseen frames are asked.
    variance_floor : float
        Added to every pixel's variance where the light of structures is compared with the mean frame, in units of the mean
        pixel's: as in the quadratic critic.
    light_iterations : int
        Of the factor that sets the light of structures; each takes the light of neighbours as the last one left it.  No record.
    clear_light : float
        The light of a window says how much was changed if it is so many of its standard errors.  No record.
    light_changed : float
        The log says so where the light of a structure had to be changed by more than this part.
    """

    inner: int = 25
    edges: float = 4.0
    all_flicker: float = 2.0 / 3.0
    drawn: float = 0.25
    flat: int = 2
    steep: int = 8
    carried: int = 8
    power_iterations: int = 12
    margin: float = 1.05
    pedestal: float = 0.015
    least_curvature: float = 1e-6
    settled: float = 0.003
    least_flicker: float = 0.1
    enough_flicker: float = 0.15
    worse: float = 2.0
    doubt: float = 1.0
    hopeless: float = 5.0
    patience: int = 8
    variance_floor: float = 1e-3
    light_iterations: int = 3
    clear_light: float = 3.0
    light_changed: float = 0.1


@dataclass(frozen=True)
class NetworkPhaseTuning:
    """The fit with a network as critic.

    Attributes
    ----------
    bad_pixel_std : float
        Counts per unit of the network's input at bad pixels: so many that the input is next to nothing.
    least_std : float
        A pixel's standard deviation counts as no less than this part of the typical one, so that a dead pixel is not the
        loudest.  No record.
    """

    bad_pixel_std: float = 1e12
    least_std: float = 0.1


@dataclass(frozen=True)
class SweepTuning:
    """A sweep of options (:func:`fluogan_core.sweep`).

    Attributes
    ----------
    blocks : int
        Blocks that the frames are cut into, a multiple of four: enough for a standard error over blocks, and long enough that
        frames of different blocks are nearly independent.  No record.
    least_block : int
        Fewest frames of a block.
    least_frames : int
        Fewer frames make fewer than eight blocks, too few for a standard error.
    detail, total_variation : tuple of float
        The usual grid: multiples of what the options say.  No record.
    """

    blocks: int = 20
    least_block: int = 2
    least_frames: int = 16
    detail: tuple[float, ...] = (0.5, 1.0, 1.5)
    total_variation: tuple[float, ...] = (0.3, 1.0, 3.0)


@dataclass(frozen=True)
class Tuning:
    """The sections, one per room or phase that has numbers by trial.

    Attributes
    ----------
    bleaching : BleachingTuning
    calibration : CalibrationTuning
    estimators : EstimatorTuning
    lattice : LatticeTuning
    quadratic_critic : QuadraticCriticTuning
    objective : ObjectiveTuning
    reweighting : ReweightingTuning
    mean_phase : MeanPhaseTuning
    unseen_photons : UnseenPhotonsTuning
    useful_iterations : UsefulIterationsTuning
    covariance_phase : CovariancePhaseTuning
    emissions : EmissionTuning
    likelihood_phase : LikelihoodPhaseTuning
    network_phase : NetworkPhaseTuning
    sweep : SweepTuning

    Examples
    --------
    >>> import dataclasses
    >>> import fluogan_core as fg
    >>> usual = fg.Tuning()
    >>> longer = dataclasses.replace(usual, mean_phase=dataclasses.replace(usual.mean_phase, most=5000))
    >>> longer.mean_phase.most, usual.mean_phase.most
    (5000, 900)
    """

    bleaching: BleachingTuning = field(default_factory=BleachingTuning)
    calibration: CalibrationTuning = field(default_factory=CalibrationTuning)
    estimators: EstimatorTuning = field(default_factory=EstimatorTuning)
    lattice: LatticeTuning = field(default_factory=LatticeTuning)
    quadratic_critic: QuadraticCriticTuning = field(default_factory=QuadraticCriticTuning)
    objective: ObjectiveTuning = field(default_factory=ObjectiveTuning)
    reweighting: ReweightingTuning = field(default_factory=ReweightingTuning)
    mean_phase: MeanPhaseTuning = field(default_factory=MeanPhaseTuning)
    unseen_photons: UnseenPhotonsTuning = field(default_factory=UnseenPhotonsTuning)
    useful_iterations: UsefulIterationsTuning = field(default_factory=UsefulIterationsTuning)
    covariance_phase: CovariancePhaseTuning = field(default_factory=CovariancePhaseTuning)
    emissions: EmissionTuning = field(default_factory=EmissionTuning)
    likelihood_phase: LikelihoodPhaseTuning = field(default_factory=LikelihoodPhaseTuning)
    network_phase: NetworkPhaseTuning = field(default_factory=NetworkPhaseTuning)
    sweep: SweepTuning = field(default_factory=SweepTuning)


DEFAULT = Tuning()
