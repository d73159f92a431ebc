"""The solver of (5) and (11): the phases of one reconstruction in their order, with the state that they share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from ..backend.kinds import any_kind
from ..backend.typing import ArrayLike, State
from ..calibration.camera import Camera
from ..critics.quadratic import QuadraticCritic, QuadraticCriticLike
from ..objective.prior import Prior
from ..physics.requirements import OperatorLike
from ..stack import StackLike
from ..tuning import DEFAULT, Tuning
from . import state
from .assembly import build_objective, given_images, later_phases, mean_phase
from .chosen_weights import chosen_weights
from .history import History
from .options import SolverOptions
from .phase import Callback, Images, Phase, Stop, StopReason
from .problem import Problem
from .result import Result
from .run import run_all
from .weights import Weights, weights_for

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Solver", "SolverArguments"]

log = logging.getLogger("fluogan_core")

NO_LIGHT = (
    "no light is left in x: the background has taken all of it (smoothness %g camera pixels: raise it) or the prior all that "
    "noise left (sparsity %g, total_variation %g: lower them)"
)


class SolverArguments(TypedDict, total=False):
    """Arguments of :class:`Solver` that :func:`fluogan_core.reconstruct` hands on."""

    critic: nn.Module | None
    prior: Prior | None
    weights: Weights | None
    x0: ArrayLike | None
    b0: ArrayLike | None
    background: ArrayLike | float | None
    quadratic_critic: Callable[..., QuadraticCriticLike]
    tuning: Tuning


class Solver:
    """The reconstruction of one field, step by step.

    Parameters
    ----------
    stack : (T, M1, M2) array or Stack, optional
        Recorded frames, counts; or give ``problem``.
    psi : Psi
        The operator, ``photons_per_emitter`` included; its backend does the work.
    camera : Camera, optional
        Gain, offset and noise of the counts; without it all is measured (:meth:`Problem.of`).
    options : SolverOptions
    critic : torch.nn.Module, optional
        Maps (S, M1, M2) counts above the offset to (S,); trained in place.  For the methods that train a network, which take a
        slim :class:`fluogan_core.Critic` by default.
    problem : Problem, optional
        In place of stack, psi and camera.
    prior : Prior, optional
        Of the image, in place of the library's own (:class:`fluogan_core.objective.prior.SparseEdges`).
    weights : Weights, optional
        Of (11), in place of those that the options mean for this stack (:func:`fluogan_core.solvers.weights.weights_for`):
        tiles of one field share those of the whole.
    x0, b0 : (N1, N2) and (M1, M2), optional
        Images to start from, emissions and photons; no light by default.  While the mean is fitted b follows from x, so that
        ``b0`` counts only with ``SolverOptions(warm_steps=0)``.
    background : (M1, M2) or float, optional
        A background that is known, photons per camera pixel and frame above the offset: b is this image, or this number
        everywhere, and is not fitted.
    quadratic_critic : callable, optional
        In place of :class:`fluogan_core.critics.quadratic.QuadraticCritic`, with its arguments and methods.
    tuning : Tuning
        The numbers that were found by trial.

    Attributes
    ----------
    problem : Problem
    objective : Objective
    weights : Weights
    phases : tuple of Phase
        In their order: the fit of the mean, then that of mean and covariance or a network's, if any.
    history : History

    Raises
    ------
    ValueError
        If the stack is not (T, M1, M2) with psi's field, has fewer than two frames, or holds NaN; if a critic is given to a
        method that trains none, or ``held_out`` leaves the default method fewer than two frames.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> stack = np.random.default_rng(0).poisson(50.0, (20, 16, 16)) + 100
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, backend="numpy")
    >>> options = fg.SolverOptions(method="none", warm_steps=3)
    >>> solver = fg.Solver(stack, psi=psi, camera=fg.Camera(offset=100.0), options=options)
    >>> while solver.current is not None:
    ...     record = solver.step()
    >>> solver.stop_reason, solver.result().x.shape
    ('mean fit: all 3 steps taken', (32, 32))
    """

    @any_kind("x0", "b0", answers=False)
    def __init__(
        self,
        stack: StackLike | None = None,
        *,
        psi: OperatorLike | None = None,
        camera: Camera | None = None,
        options: SolverOptions | None = None,
        critic: nn.Module | None = None,
        problem: Problem | None = None,
        prior: Prior | None = None,
        weights: Weights | None = None,
        x0: ArrayLike | None = None,
        b0: ArrayLike | None = None,
        background: ArrayLike | float | None = None,
        quadratic_critic: Callable[..., QuadraticCriticLike] = QuadraticCritic,
        tuning: Tuning = DEFAULT,
    ) -> None:
        if problem is None:
            if stack is None:
                raise TypeError("give a stack with its psi, or a problem that was made of them (Problem.of)")
            problem = Problem.of(stack, psi=psi, camera=camera)
        self.problem, self.options = problem, SolverOptions() if options is None else options
        if background is not None and b0 is not None:
            raise TypeError("b0= is a background to start from and background= one that is kept: give one of the two")
        self._given: SolverArguments = {
            "critic": critic,
            "prior": prior,
            "weights": weights,
            "x0": x0,
            "b0": b0,
            "background": background,
            "quadratic_critic": quadratic_critic,
            "tuning": tuning,
        }
        self.history, self.seconds, self.steps_saved = History(), 0.0, 0
        self._build(weights_for(problem, self.options, tuning) if weights is None else weights)
        # what unseen photons say takes some seconds in dim light: it is asked before the first step, not here
        self.undecided = weights is None and prior is None

    def _build(self, weights: Weights) -> None:
        """Make objective and phases with these weights; nothing is done yet."""
        given, problem, options, tuning = self._given, self.problem, self.options, self._given["tuning"]
        self.weights = weights
        self.objective, kernel = build_objective(
            problem.psi, problem.mean, weights, given["prior"], tuning.objective, background=given["background"]
        )
        self.mean_phase = mean_phase(self.objective, kernel, weights, options.tolerance, tuning)
        if given["x0"] is not None or given["b0"] is not None:
            self.mean_phase.start(given_images(self.mean_phase, given["x0"], given["b0"]))
        later = later_phases(
            problem, self.objective, kernel, options, given["critic"], given["quadratic_critic"], tuning,
            weights=weights, weights_given=given["weights"] is not None, prior=given["prior"], background=given["background"],
        )  # fmt: skip
        self.phases: tuple[Phase, ...] = (self.mean_phase, *later)
        self._number = 0
        self._advance()

    def settle(self) -> None:
        """Let unseen photons choose the weights, if they are still to be chosen; :meth:`step` does it before the first step."""
        background, tuning = self._given["background"], self._given["tuning"]
        if self.undecided:
            self._take(chosen_weights(self.weights, self.problem, self.options, background, tuning))

    def _take(self, weights: Weights) -> None:
        """Go on with these weights, which nothing chooses anew."""
        self.undecided = False
        if weights != self.weights:
            self._build(weights)

    # -- where it stands --------------------------------------------------------------------------------------------------

    @property
    def current(self) -> Phase | None:
        """The phase that takes the next step; None when all are done."""
        return self.phases[self._number] if self._number < len(self.phases) else None

    @property
    def phase(self) -> str:
        """Its name, ``"mean"``, ``"covariance"``, ``"likelihood"`` or ``"network"``; ``"done"``."""
        return "done" if self.current is None else self.current.name

    @property
    def _last(self) -> Phase:
        """The last phase that took a step; before any step, the first."""
        return [phase for phase in self.phases if phase.taken or phase is self.mean_phase][-1]

    @property
    def images(self) -> Images:
        """The unknowns as they are now; they cannot be written to."""
        return self._last.images.protected()

    @property
    def outcome(self) -> Images:
        """What the last phase that took a step has to give; it cannot be written to."""
        return self._last.outcome.protected()

    @property
    def steps_done(self) -> int:
        return sum(phase.taken for phase in self.phases)

    @property
    def total_steps(self) -> int:
        """Steps of all phases: as planned, or as taken where one has ended."""
        done = self.current is None
        return sum(phase.taken if done or phase.stop is not None else phase.planned for phase in self.phases)

    @property
    def stop_reason(self) -> str:
        """Why each phase ended, in words."""
        ends = [f"{phase.name} fit: {phase.stop}" for phase in self.phases if phase.stop is not None]
        return "; ".join(ends) if self.current is None else "not finished"

    # -- steps ------------------------------------------------------------------------------------------------------------

    def step(self) -> dict[str, float]:
        """Take one step of the current phase and return its record.

        Returns
        -------
        dict of str to float
            One entry for each of :data:`fluogan_core.solvers.history.QUANTITIES`; NaN where the phase has none.

        Raises
        ------
        FloatingPointError
            If x, b or the critic's gradient stop being finite.
        RuntimeError
            If there is nothing left to do.
        """
        started = time.perf_counter()
        self.settle()
        phase = self.current
        if phase is None:
            raise RuntimeError("the reconstruction is done; ask for more steps in the options to go on")
        with np.errstate(all="ignore"):  # whatever the host has set: what is not finite is looked for and named
            record = phase.step()
        record |= {"step": self.steps_done, "phase": self._number, "seconds": time.perf_counter() - started}
        if phase.stop is not None:
            if phase is self.mean_phase and not float(phase.outcome.x.max()) > 0:
                log.warning(NO_LIGHT, self.weights.length, self.options.sparsity, self.options.total_variation)
            self._advance()
        self.seconds += time.perf_counter() - started
        return self.history.append(**record)

    def run(
        self,
        *,
        callback: Callback | None = None,
        progress: bool | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_seconds: float = 20.0,
    ) -> Result:
        """Take all remaining steps.

        Parameters
        ----------
        callback : callable, optional
            Called as ``callback(solver, record)`` after every step; ``False`` ends the run here, with a whole result.
        progress : bool, optional
            Show a progress bar on standard error; by default if that is a terminal.
        checkpoint : path, optional
            File to which the state is written now and then, between the phases, at the end, and when the callback raises; a
            step that fails leaves the last whole state in it.
        checkpoint_seconds : float
            Least time between two writes.

        Returns
        -------
        Result

        Raises
        ------
        FileNotFoundError
            If the checkpoint's directory is not there.  What cannot be written later is logged, and costs no step.
        """
        self.settle()
        run_all(self, callback, progress, None if checkpoint is None else Path(checkpoint), checkpoint_seconds)
        return self.result()

    def _advance(self) -> None:
        """Go on to the first phase that has not ended; one that has taken no step starts where the one before left off."""
        while (phase := self.current) is not None and phase.stop is not None:
            self._number += 1
            following = self.current
            if following is not None and following.stop is None and not following.taken:
                following.start(phase.outcome, fitted=bool(self.steps_done))

    def end(self) -> None:
        """End here: phases that are not done stay as they are, and :meth:`result` is whole."""
        if (phase := self.current) is not None:
            phase.stop = Stop(StopReason.CALLBACK, phase.taken)
            self._number = len(self.phases)

    def result(self) -> Result:
        """Return the images as they stand: the outcome of the last phase that took a step.

        Returns
        -------
        Result
        """
        psi, timings, last, of_mean = self.problem.psi, {"total": self.seconds}, self._last.outcome, self.mean_phase.outcome
        host = lambda array: psi.backend.to_host(array).copy()  # noqa: E731, the solver keeps its own
        for phase in self.phases:
            timings |= phase.timings
        return Result(
            x=host(last.x),
            b=host(last.b),
            x_mean_fit=host(of_mean.x),
            b_mean_fit=host(of_mean.b),
            mean=host(self.problem.mean),
            bad_pixels=self.problem.bad_pixels.copy(),
            history=self.history.arrays(),
            options=self.options,
            camera=self.problem.camera,
            psi=psi,
            timings=timings,
            device=psi.backend.device,
            stop_reason=self.stop_reason,
            stops={phase.name: phase.stop for phase in self.phases if phase.stop is not None},
            corner=self.problem.corner,
        )

    # -- state ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Return everything that a resumed run needs to equal an uninterrupted one: bit for bit on one machine's CPU.

        Returns
        -------
        dict
            Numbers, words and arrays by name, or lists and dicts of them.
        """
        self.settle()
        return state.state_of(self)

    def load_state_dict(self, saved: State) -> None:
        """Continue from what :meth:`state_dict` gave; ``options.steps`` may differ, so that a finished run can go further.

        Parameters
        ----------
        saved : dict

        Raises
        ------
        ValueError
            If the state belongs to another stack, operator, camera, other options or another version of the format; the
            message names what differs.
        """
        state.restore(self, saved, self._take)
        self._number = 0
        self._advance()

    def save(self, path: str | Path) -> None:
        """Write the state to a file: to a temporary one first, which is then renamed.

        Parameters
        ----------
        path : path
        """
        from .checkpoint import write_state  # loads torch

        write_state(self.state_dict(), Path(path))
        self.steps_saved = self.steps_done

    def load(self, path: str | Path) -> None:
        """Continue from the file that :meth:`save` wrote.

        Parameters
        ----------
        path : path

        Raises
        ------
        FileNotFoundError, ValueError
            If there is none, it is cut short, or it belongs to another reconstruction.
        """
        from .checkpoint import read_state

        self.load_state_dict(read_state(Path(path)))
        self.steps_saved = self.steps_done
