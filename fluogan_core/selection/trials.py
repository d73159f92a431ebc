r"""Which options?  A small grid of them, tried on the stack itself: fitted to some frames, judged by others.

Each setting is fitted to one half of the frames and scored on the other, both ways round, so that every frame is judged
once, by a fit that never saw it.  The score is the log density of :func:`fluogan_core.metrics.prediction.held_out_score`.

* The halves are made of blocks of consecutive frames, in the order A B B A: what outlasts a frame (a molecule that stays on)
  is not shared across them but at the blocks' ends, and a brightness that falls steadily falls alike in both.
* Two settings are compared frame by frame: the differences of their densities vary far less than the densities.  The
  standard error is that of blocks, since frames in a row are not independent.
* The options are measured in the noise of the frames that are fitted, so that what suits half of them suits all.

What the score cannot see: whatever is the same in all frames, and whatever the PSF does not let through.  Pixels of unequal
gain repeat in the frames that were not fitted, and an image that copies them is praised for it.  Settings that are not told
apart are alike to the data, not to the eye.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..calibration.calibrate import Calibration
from ..calibration.camera import Camera
from ..calibration.noise import UNEXPLAINED
from ..metrics.prediction import held_out_score
from ..physics.psi import Psi
from ..physics.requirements import OperatorLike
from ..solvers.options import SolverOptions
from ..solvers.problem import Problem, operator_given
from ..solvers.progress import progress_reporter
from ..solvers.solver import Solver
from ..stack import StackLike
from ..tuning import DEFAULT, Tuning
from .grid import PSF_WIDTH, Value, plan_sweep, spelled
from .messages import each_message_once

__all__ = ["CrossFit", "ScoreGap", "Sweep", "Trial", "paired_difference", "sweep"]

log = logging.getLogger("fluogan_core")

#: Differences beyond so many standard errors count: the usual level of 95 %.
_STANDARD_ERRORS = 2.0


@dataclass(frozen=True, eq=False)
class CrossFit:
    """What the two fits of one setting, each to one half of the frames, came to.

    Attributes
    ----------
    x : (N1, N2) float32
        Mean of the two images.
    frame_log_density : (T,) float64
        Log density of each frame under the fit that did not see it, nats per pixel.
    mean_misfit, covariance_ratio : float, float or None
        As in :class:`fluogan_core.metrics.prediction.HeldOutScore`, averaged over the two.
    agreement : float or None
        Pearson's correlation of the two images; None where one is flat.
    excess : float
        Noise of the mean frame over what its fluctuations explain, the larger of the two
        (:func:`fluogan_core.calibration.noise.stack_noise`).
    """

    x: np.ndarray
    frame_log_density: np.ndarray
    mean_misfit: float
    covariance_ratio: float | None
    agreement: float | None
    excess: float

    @property
    def log_density(self) -> float:
        """Mean log density per pixel and frame, nats: the score."""
        return float(self.frame_log_density.mean())


@dataclass(frozen=True, eq=False)
class Trial:
    """One setting and what became of it.

    Attributes
    ----------
    values : dict
        The varied names with their values here.
    options : SolverOptions
    seconds : float
        Time that it took.
    fit : CrossFit or None
        None if the setting failed.
    failure : str
        Why it failed; empty if it did not.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> fg.Trial({"detail": 0.13}, fg.SolverOptions(detail=0.13), 2.5, None, "not finite").label
    'detail=0.13'
    """

    values: dict[str, Value]
    options: SolverOptions
    seconds: float
    fit: CrossFit | None
    failure: str = ""

    @property
    def label(self) -> str:
        """The values in words, as in ``detail=0.13, sparsity=1``."""
        return spelled(self.values)


class ScoreGap(NamedTuple):
    """How far a setting is behind the best one.

    Attributes
    ----------
    difference : float
        Of the mean log densities, nats per frame of the whole field.
    error : float
        Its standard error over blocks of frames.  The fits are taken as they are: what another recording would have made of
        them is not in it.
    """

    difference: float
    error: float

    @property
    def told_apart(self) -> bool:
        """Whether the difference exceeds two standard errors."""
        return self.difference > _STANDARD_ERRORS * self.error

    def __str__(self) -> str:
        """Spell both to the first digit of the error, as in ``10.5 ± 0.2``."""
        if not self.error > 0:
            return f"{self.difference:.3g}"
        digits = max(0, -math.floor(math.log10(self.error)))
        return f"{self.difference:.{digits}f} ± {self.error:.{digits}f}"


@dataclass(eq=False)
class Sweep:
    """The settings that were tried.

    Attributes
    ----------
    vary : dict of str to tuple
        What was varied, with all values.
    trials : list of Trial
        Those done so far, in the grid's order: the last name varies fastest.
    planned : int
        Settings in all; more than ``len(trials)`` if the sweep was interrupted.
    blocks : (T,) int
        The block that each frame belongs to.
    halves : (T,) int
        0 or 1: the half.
    options, camera, psi
        What all settings share, what was varied apart.
    bad_pixels : (M1, M2) bool
        Hot, dead or stuck pixels, left out of all fits and scored as the others predict them.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> stack = np.random.default_rng(0).poisson(50.0, (20, 16, 16)) + 100
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, backend="numpy")
    >>> options = fg.SolverOptions(method="none", warm_steps=2)
    >>> swept = fg.sweep(stack, psi=psi, camera=fg.Camera(offset=100.0), options=options, vary={"detail": (0.1, 0.5)})
    >>> [float(swept.behind(k).difference) >= 0 for k in range(swept.planned)]
    [True, True]
    """

    vary: dict[str, tuple[Value, ...]]
    trials: list[Trial]
    planned: int
    blocks: np.ndarray
    halves: np.ndarray
    options: SolverOptions
    camera: Camera
    psi: Psi
    bad_pixels: np.ndarray

    @property
    def best(self) -> int | None:
        """Index of the trial of largest log density; None if none succeeded."""
        scores = [-math.inf if trial.fit is None else trial.fit.log_density for trial in self.trials]
        return None if max(scores, default=-math.inf) == -math.inf else int(np.argmax(scores))

    def behind(self, index: int) -> ScoreGap | None:
        """Return how far a trial is behind the best one.

        Parameters
        ----------
        index : int
            Of :attr:`trials`.

        Returns
        -------
        ScoreGap or None
            None if the trial failed.
        """
        best, fit = self.best, self.trials[index].fit
        if best is None or fit is None:
            return None
        leader = self.trials[best].fit
        if leader is None or index == best:
            return ScoreGap(0.0, 0.0)
        pixels = self.psi.shape[0] * self.psi.shape[1]
        return ScoreGap(
            *(pixels * value for value in paired_difference(leader.frame_log_density, fit.frame_log_density, self.blocks))
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks in plain language: what to know before the best setting is used."""
        fits = [trial.fit for trial in self.trials if trial.fit is not None]
        excess = max((fit.excess for fit in fits), default=1.0)
        if excess > UNEXPLAINED:  # to go further the same way would copy still more
            return (
                f"the mean of half of the frames is {excess:.1f} times noisier than its fluctuations explain (pixels or rows "
                "of unequal gain or offset); what does not change from frame to frame is the same in unseen frames, and a "
                "setting that copies it into x is praised for it: trust the pictures more than the score",
            )
        notes = []
        for name, value in ({} if self.best is None else self.trials[self.best].values).items():
            numbers = [v for v in self.vary[name] if not isinstance(v, str)]
            if len(numbers) > 1 and value in (min(numbers), max(numbers)) and value != 0 and name != "seed":
                end = "smallest" if value == min(numbers) else "largest"
                notes.append(f"the best {name}, {value:g}, is the {end} that was tried: the best of all may lie beyond")
        return tuple(notes)


def paired_difference(a: np.ndarray, b: np.ndarray, blocks: np.ndarray) -> tuple[float, float]:
    """Return the mean of a - b over frames and its standard error, blocks of frames being the independent units."""
    difference = a - b
    counts = np.bincount(blocks)
    mean = float(difference.mean())
    apart = np.bincount(blocks, difference) / counts - mean
    share = counts / counts.sum()
    return mean, math.sqrt(len(counts) / (len(counts) - 1) * float((share**2 * apart**2).sum()))


# -- the work ----------------------------------------------------------------------------------------------------------


def sweep(
    stack: StackLike,
    *,
    psi: OperatorLike | None = None,
    camera: Camera | None = None,
    calibration: Calibration | None = None,
    options: SolverOptions | None = None,
    vary: Mapping[str, Sequence[Value]] | None = None,
    pixel_size_nm: float | None = None,
    callback: Callable[[Sweep], object] | None = None,
    progress: bool | None = None,
    tuning: Tuning = DEFAULT,
) -> Sweep:
    """Try a grid of options: fit each setting to one half of the frames, score it on the other, both ways round.

    Parameters
    ----------
    stack : (T, M1, M2) array or Stack
        At least 16 frames, counts.
    psi : Psi, optional
        The operator, shared by all settings.  It is taken as it is, ``photons_per_emitter`` included, if a camera is given;
        else :func:`fluogan_core.calibrate` measures width of the PSF, camera and photons per emission on the whole stack.
    camera : Camera, optional
        Shared by all settings.
    calibration : Calibration, optional
        What :func:`fluogan_core.calibrate` found in this stack before, instead of ``psi`` and ``camera``.
    options : SolverOptions, optional
        What is not varied; the fit of the mean alone (``method="none"``) with the defaults if not given.
    vary : mapping of str to sequence, optional
        Fields of :class:`SolverOptions` with the values to try, in all combinations, at most 64; also ``"fwhm_nm"``, which
        replaces psi's PSF by a Gaussian of that width (photons per emission stay psi's).  By default ``detail`` and
        ``total_variation`` around what the options say, nine settings.
    pixel_size_nm : float, optional
        Camera pixel, nm; the stack's own by default.  Needed for ``"fwhm_nm"`` alone.
    callback : callable, optional
        Called as ``callback(sweep)`` after every setting with what there is so far; what it raises ends the sweep.
    progress : bool, optional
        Show a progress bar on standard error; by default if that is a terminal.
    tuning : Tuning, optional
        Numbers that were found by trial (:mod:`fluogan_core.tuning`), of the sweep and of its fits.

    Returns
    -------
    Sweep
        A setting that fails is one of its trials, with the reason; the others are tried all the same.

    Raises
    ------
    ValueError, TypeError
        Before any work: if a name cannot be varied, a value is not of its kind or range or comes twice, a list is empty, the
        grid is larger than 64, an option is varied that only the critic has while there is none, the frames are too few or
        do not fit psi, a PSF is larger than the field, or neither ``psi`` nor ``calibration`` is given, or both.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> stack = np.random.default_rng(0).poisson(50.0, (20, 16, 16)) + 100
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, backend="numpy")
    >>> options = fg.SolverOptions(method="none", warm_steps=2)
    >>> swept = fg.sweep(stack, psi=psi, camera=fg.Camera(offset=100.0), options=options, vary={"detail": (0.1, 0.5)})
    >>> [trial.values for trial in swept.trials], swept.best in (0, 1)
    ([{'detail': 0.1}, {'detail': 0.5}], True)
    """
    described = operator_given(psi, camera, calibration)
    more: dict[str, Any] = {"options": options, "pixel_size_nm": pixel_size_nm, "tuning": tuning.sweep}
    plan = plan_sweep(stack, psi=described, vary=vary, **more)
    said: set[str] = set()
    with each_message_once(said):
        width = 1 if PSF_WIDTH in plan.vary else None
        problem = Problem.of(stack, psi=psi, camera=camera, calibration=calibration, psf_width=width)
    if problem.psi is not described or len(problem.counts) != len(plan.halves):
        # the halves are of the frames that are fitted: those that stand apart are left out
        if pixel_size_nm is None:
            more["pixel_size_nm"] = getattr(stack, "pixel_size_nm", None)
        plan = plan_sweep(problem.counts, psi=problem.psi, vary=plan.vary, **more)
    made = Sweep(
        plan.vary,
        [],
        len(plan.settings),
        plan.blocks,
        plan.halves,
        plan.options,
        problem.camera,
        problem.psi,
        problem.bad_pixels,
    )
    with progress_reporter(made.planned, 0, progress) as report:
        for values, chosen, operator in plan.settings:
            report(len(made.trials), made.planned, spelled(values))
            started, fit, failure = time.perf_counter(), None, ""
            try:
                with each_message_once(said):
                    fit = _cross_fit(problem, plan.halves, operator, chosen, tuning)
            except Exception as error:
                failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
                log.warning("%s failed: %s", spelled(values), failure)
                log.debug("where it failed", exc_info=True)
            made.trials.append(Trial(values, chosen, time.perf_counter() - started, fit, failure))
            if callback is not None:
                callback(made)
        report(made.planned, made.planned, "done")
    return made


def _cross_fit(problem: Problem, halves: np.ndarray, psi: Psi, options: SolverOptions, tuning: Tuning) -> CrossFit:
    """Fit each half of the frames and score the other."""
    density = np.empty(len(halves))
    images, scores, excess = [], [], 1.0
    for half in (0, 1):
        seen = problem.subset(np.flatnonzero(halves == half), psi=psi)
        solver = Solver(problem=seen, options=options, tuning=tuning)
        while solver.current is not None:
            solver.step()
        result, model = solver.result(), solver.problem.model
        images.append(result.x)
        excess = max(excess, solver.problem.noise.excess)
        del solver  # its frames, before others are taken
        unseen = psi.backend.to_host(problem.steady[psi.backend.xp.asarray(np.flatnonzero(halves != half))])
        score = held_out_score(unseen, model, psi.backend.asarray(result.x), psi.backend.asarray(result.b))
        density[halves != half] = score.frame_log_density
        scores.append(score)
    ratios = [score.covariance_ratio for score in scores if score.covariance_ratio is not None]
    return CrossFit(
        x=0.5 * (images[0] + images[1]),
        frame_log_density=density,
        mean_misfit=0.5 * (scores[0].mean_misfit + scores[1].mean_misfit),
        covariance_ratio=sum(ratios) / 2 if len(ratios) == 2 else None,
        agreement=_correlation(images[0], images[1]),
        excess=excess,
    )


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    a, b = (image.astype(np.float64) - image.mean(dtype=np.float64) for image in (a, b))
    scale = math.sqrt(float((a**2).sum()) * float((b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0 else None
