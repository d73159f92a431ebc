"""Which of two fits is kept: the likelihood's, or that of mean and covariance."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from ..backend.typing import State
from ..objective.blur import GaussianKernel
from ..objective.terms import Objective
from ..tuning import DEFAULT, Tuning
from .covariance_fit import CovariancePhase
from .edge_trial import EdgeTrial
from .emission_work import moves_of, overlap_of
from .likelihood_fit import LikelihoodPhase
from .options import SolverOptions
from .phase import Images, Stop, StopReason
from .problem import Problem
from .schema import ArrayOf, Optional, Schema
from .unseen_gain import UnseenGain

__all__ = ["UnlessMixed", "UnlessWorse"]

log = logging.getLogger("fluogan_core")


class UnlessMixed(CovariancePhase):
    """The fit of mean and covariance, for where the likelihood's chains would take too long, or did not mix."""

    likelihood: LikelihoodPhase

    def start(self, images: Images, *, fitted: bool = False) -> None:
        stop = self.likelihood.stop
        if stop is None or not stop.reason.given_up:
            self.stop = Stop(StopReason.NOT_NEEDED, 0)
            return
        what = "the likelihood is not fitted" if stop.reason is StopReason.NOT_TRIED else "the likelihood's chains did not mix"
        log.warning("%s (%s): mean and covariance are fitted instead", what, stop.detail)
        super().start(images, fitted=fitted)


class UnlessWorse(LikelihoodPhase):
    """The likelihood's fit, tried where few emissions overlap, and kept unless it predicts unseen frames clearly worse.

    The frames that choose what edges cost (:mod:`fluogan_core.solvers.edge_trial`) judge the whole as well: by how much does it
    make them likelier than what the default method finds in the other frames?  Where it clearly makes them less likely the
    phase ends, and its outcome is what it began with, the image of mean and covariance of all frames.

    Parameters
    ----------
    problem, objective, options, kernel, detection, tuning
        As for :class:`LikelihoodPhase`.
    rival : callable
        Maps a problem to what the default method finds in it.

    Attributes
    ----------
    gain : UnseenGain or None
        Once it is judged.
    """

    def __init__(
        self,
        problem: Problem,
        objective: Objective,
        options: SolverOptions,
        kernel: GaussianKernel,
        detection: float,
        tuning: Tuning = DEFAULT,
        *,
        rival: Callable[[Problem], Images],
    ) -> None:
        super().__init__(problem, objective, options, kernel, detection, tuning)
        self.rival = rival
        self.gain: UnseenGain | None = None

    def _trial(self, frames: int) -> EdgeTrial:
        trial = super()._trial(frames)
        return EdgeTrial(trial.weights, frames, self.planned, aside=self.tuning.unseen, tuning=self.tuning)

    def start(self, images: Images, *, fitted: bool = False) -> None:
        super().start(images, fitted=fitted)
        if self.stop is not None:
            return
        t, aside = self.tuning, self.trial.frames - self.trial.seen
        overlap, moves = overlap_of(images.x, self.problem.psi), moves_of(self._proposals(), self.planned, t)
        if overlap > t.most_overlap:
            why = f"{overlap:.2g} emissions overlap each other, more than {t.most_overlap:g}: covariances say nearly all"
        elif aside < t.fewest_unseen:
            why = f"{aside} frames could be set aside to judge it by, {t.fewest_unseen} are needed"
        elif moves > t.most_auto_moves:
            minutes = moves * t.seconds_per_move / 60
            why = f"its chains would take about {minutes:.0f} minutes of one core; method='likelihood' takes the time"
        else:
            return
        self.stop = Stop(StopReason.NOT_TRIED, 0, why)
        log.info("the full likelihood is not tried: %s", why)

    def _judge(self) -> None:
        super()._judge()
        _, x, b = self.rival(self.problem.subset(self.trial.order[: self.trial.seen]))
        self.gain = self._gain(self._judged(x, b), self.trial.found, len(self.trial.weights))
        if self.gain.total < -self.tuning.clear_loss * self.gain.error:
            log.info("mean and covariance are kept: with the full likelihood, %s", self._words)
            self.stop = Stop(StopReason.NOT_BETTER, self.taken, self._words)

    @property
    def _words(self) -> str:
        assert self.gain is not None
        frames, total, error = len(self.gain.of_frames), self.gain.total, self.gain.error
        return f"{frames} unseen frames are likelier by {total:.3g} ± {error:.2g} nats than with mean and covariance"

    def _stopped(self) -> Stop | None:
        stop = super()._stopped()
        if stop is None or stop.reason.given_up or self.gain is None:
            return stop
        log.info("the full likelihood is kept: %s", self._words)
        return Stop(StopReason.CHOSEN, self.taken, f"{self._words}; {self.mixing}")

    def state_dict(self) -> State:
        state = super().state_dict()
        return state | {"gain": None if self.gain is None else self.gain.of_frames} if self.taken else state

    def schema(self, begun: bool) -> Schema:
        schema, judges = super().schema(begun), self.trial.judges
        return schema | {"gain": Optional(ArrayOf((judges.stop - judges.start,)))} if begun else schema

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        if self.taken and state["gain"] is not None:
            self.gain = UnseenGain(np.array(state["gain"], dtype=np.float64))
