"""The solver of (5) and (11): a fit of the mean, then the second phase, against covariances or a network.

One file because the phases share their state with the order that they run in.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..calibration.bad_pixels import without_bad_pixels
from ..calibration.camera import Camera, estimate_camera
from ..calibration.noise import stack_noise
from ..objective.reweighting import ReweightedL1
from ..physics.forward import ForwardModel
from ..physics.psi import Psi
from ..stack import frames_of, stack_of_field
from .covariance_fit import CovariancePhase
from .history import History
from .mean_fit import UNEXPLAINED, MeanPhase, detail_for_snr, iterations_for_snr
from .network_fit import NetworkPhase
from .options import SolverOptions
from .progress import progress_reporter
from .result import Result
from .weights import build_objective

__all__ = ["Solver", "reconstruct"]

log = logging.getLogger("fluogan_core")

Callback = Callable[["Solver", dict[str, float]], Any]

#: Share of flicker in the variance of the molecules' light below which covariances say nothing that the mean does not.
_LEAST_FLICKER = 0.1
#: Standard errors by which unseen frames may speak against the fit of mean and covariance: at its end, and at any look after so
#: many steps.
_WORSE, _HOPELESS, _PATIENCE = 2.0, 5.0, 8
_ALL = "all {} steps taken"
#: Of the state that a checkpoint holds.
_VERSION = 3


class Solver:
    """The reconstruction of one stack, step by step.

    Parameters
    ----------
    stack : (T, M1, M2) array or Stack
        Recorded frames, counts.
    psi : Psi
        The operator, ``photons_per_emitter`` included; its backend does the work.
    camera : Camera
        Gain, offset and noise of the counts.
    options : SolverOptions
    critic : torch.nn.Module, optional
        Maps (S, M1, M2) counts above the offset to (S,); trained in place.  For the methods that train a network, which take a
        slim :class:`fluogan_core.Critic` by default.

    Attributes
    ----------
    bad_pixels : (M1, M2) bool
        Pixels that are left out (:mod:`fluogan_core.calibration.bad_pixels`).
    x, b : current images on the backend
    x_average, b_average : what :meth:`result` gives of the second phase
        A network's: running averages weighted towards its end.  Of the fit of mean and covariance: the images as they are, or
        the mean fit's where that was kept.
    phase : {"mean", "critic", "done"}
    steps_done, total_steps : int
        Steps taken and (at most) to take, both phases together.
    steps_saved : int
        Of the steps taken, those that the checkpoint written or read last holds.

    Raises
    ------
    ValueError
        If the stack is not (T, M1, M2) with psi's field, has fewer than two frames, or holds NaN; if a critic is given to a
        method that trains none, or ``held_out`` leaves the default method fewer than two frames.
    """

    def __init__(
        self, stack: Any, *, psi: Psi, camera: Camera, options: SolverOptions | None = None, critic: Any | None = None
    ) -> None:
        frames = frames_of(stack)
        stack_of_field(frames, psi.shape)
        self.options = options = SolverOptions() if options is None else options
        self.psi, self.camera = psi, camera
        backend = psi.backend
        self.model = ForwardModel(psi, gain=camera.gain, noise_std=camera.noise_std)
        counts = backend.asarray(frames, dtype=np.float32) - np.float32(camera.offset)
        self.fingerprint = f"{tuple(frames.shape)} crc32 {zlib.crc32(backend.to_host(counts).tobytes()):08x}"
        counts, self.bad_pixels = without_bad_pixels(counts, psi)
        self.mean = (counts.mean(axis=0, dtype=np.float64) / camera.gain).astype(np.float32)
        if float(self.mean.max()) <= 0:
            raise ValueError(
                f"no pixel is brighter than the camera's offset of {camera.offset:g} counts on average: the offset is too high"
            )
        self.noise = stack_noise(counts, psi)
        if self.noise.excess > UNEXPLAINED:
            log.info(
                "the mean frame is %.1f times noisier than its fluctuations explain (pixels or rows of unequal gain or "
                "offset): all that is weighed against it weighs more",
                self.noise.excess,
            )
        self.objective = build_objective(psi, self.mean, self.noise, len(counts), camera.gain, options)
        self.planned_mean_steps = iterations_for_snr(self.noise) if options.warm_steps is None else options.warm_steps
        self.mean_fit = MeanPhase(self.objective, detail_for_snr(options.detail, self.noise))
        self.timings = {"total": 0.0, "mean fit": 0.0, "prox": 0.0}
        self.adversary, self.moment_fit = None, None
        if critic is not None and options.method in ("moments", "none"):
            raise ValueError(
                f"method={options.method!r} trains no network; to train the one given as critic= take "
                "SolverOptions(method='corrected'), or another estimator of its gradient"
            )
        if options.method == "moments":
            started = time.perf_counter()
            self.moment_fit = CovariancePhase(
                counts, self.model, self.objective, self.noise, options, self.mean_fit.sieve, self.bad_pixels
            )
            self.timings["moments"] = time.perf_counter() - started
        elif options.method != "none":
            self.adversary = NetworkPhase(counts, self.model, options, critic, self.bad_pixels)
        self.dark_charge = ReweightedL1(self.objective, self.noise.of_mean / camera.gain, self.planned_mean_steps)
        self.z, self.b = self.mean_fit.z, self.mean_fit.b
        self.mean_steps = self.critic_phase_steps = 0
        self.x_average, self.b_average = self.x, self.b
        self.x_mean_fit, self.b_mean_fit = self.x_average, self.b_average
        self.stop_reason, self.ended, self.steps_saved = "", False, 0
        self.phase = "mean" if self.planned_mean_steps else self._after_mean()
        self.history = History()

    def _after_mean(self) -> str:
        """The phase that comes next; what ends here for good is said in ``stop_reason``."""
        if self.options.method == "none" or self.options.steps == 0:
            return "done"
        if self.moment_fit is not None:
            started = time.perf_counter()
            self.moment_fit.start(self.z, self.b)
            share = self.moment_fit.flicker_share
            self.timings["moments"] += time.perf_counter() - started
            if self.mean_steps and not share >= _LEAST_FLICKER:
                why = (
                    "there is no light in x"
                    if math.isnan(share)
                    else f"flicker makes {100 * share:.2g} % of the variance of the light in x"
                )
                self.stop_reason += f"; critic: left out, {why}"
                self.ended = True
                return "done"
        return "critic"

    @property
    def x(self) -> Any:
        """The current image: G z, or what the fit of mean and covariance has made of it."""
        if self.moment_fit is not None and self.critic_phase_steps:
            return self.moment_fit.x
        return self.mean_fit.sieve(self.z)

    @property
    def steps_done(self) -> int:
        return self.mean_steps + self.critic_phase_steps

    @property
    def total_steps(self) -> int:
        """Steps of both phases: as planned, or as taken where one ended early."""
        if self.phase == "done":
            return self.steps_done
        mean = self.planned_mean_steps if self.phase == "mean" else self.mean_steps
        return mean + (0 if self.options.method == "none" else self.options.steps)

    # -- one step ---------------------------------------------------------------------------------------------------------

    def step(self) -> dict[str, float]:
        """Take one step of the current phase and return its record.

        Raises
        ------
        FloatingPointError
            If x, b or the critic's gradient stop being finite.
        RuntimeError
            If there is nothing left to do.
        """
        if self.phase == "done":
            raise RuntimeError("the reconstruction is done; ask for more steps in the options to go on")
        started = time.perf_counter()
        second = self._critic_step if self.moment_fit is None else self._moment_step
        record = self._mean_step() if self.phase == "mean" else second()
        record["seconds"] = time.perf_counter() - started
        self.timings["total"] += record["seconds"]
        return self.history.append(**record)

    def _mean_step(self) -> dict[str, float]:
        started = time.perf_counter()
        taken = self.mean_fit.step()
        if not math.isfinite(taken.change):
            raise FloatingPointError(
                f"x or b is not finite at step {self.mean_steps} of the mean's fit: the stack holds counts, or psi photons per "
                "emission, of a size that no camera writes"
            )
        self.mean_steps += 1
        if self.mean_steps in self.dark_charge.renewals:
            self.dark_charge.renew(self.mean_fit.x)
            self.mean_fit.start_anew()
        self.z, self.b = self.mean_fit.z, self.mean_fit.b
        residual = self.mean_fit.residual
        terms = self.objective.terms(self.z, self.b, residual)
        record = self._record(0, residual, taken.change, math.nan, terms)
        relative = taken.change / max(taken.size, 1e-30)
        converged = relative < self.options.tolerance and self.mean_steps > self.dark_charge.settled
        finished = converged or self.mean_steps >= self.planned_mean_steps
        if finished:
            if converged:
                self.stop_reason = f"mean fit: converged after {self.mean_steps} steps"
            else:
                self.stop_reason = f"mean fit: all {self.mean_steps} steps taken"
            self.x_average, self.b_average = self.x_mean_fit, self.b_mean_fit = self.x, self.b
            if not float(self.x.max()) > 0:
                log.warning(
                    "no light is left in x: the background has taken all of it (smoothness %g camera pixels: raise it) or the "
                    "prior all that noise left (sparsity %g, total_variation %g: lower them)",
                    self.options.smoothness,
                    self.options.sparsity,
                    self.options.total_variation,
                )
        self.timings["mean fit"] += time.perf_counter() - started
        if finished:
            self.phase = self._after_mean()
        return record

    def _critic_step(self) -> dict[str, float]:
        o, xp = self.objective, self.psi.backend.xp
        adversary = self.adversary
        if adversary is None:
            raise RuntimeError("there is no critic: the options say method='none'")
        number, x = self.critic_phase_steps, self.x
        w_train, penalty = adversary.learn(x, self.b, number)
        w_held_out, mean_score = adversary.judge(x, self.b, number)
        slope_x, slope_b = (g.astype(np.float32) for g in adversary.gradient(x, self.b, number))
        if not (bool(xp.isfinite(slope_x).all()) and bool(xp.isfinite(slope_b).all()) and math.isfinite(penalty)):
            raise FloatingPointError(
                f"the critic's gradient is not finite at step {number}: lower learning_rate or raise penalty"
            )
        started = time.perf_counter()
        step_x, step_b = (self.options.relaxation * step for step in (o.step_x, o.step_b))
        # the image is sought among what the sieve lets pass, as in the mean fit: G is its own adjoint
        slope_z = self.mean_fit.sieve(o.gradient_x(o.residual(x, self.b)) - slope_x)
        taken = self.mean_fit.image_step(self.z, slope_z, step_x)
        self.z, x = taken.x, self.mean_fit.sieve(taken.x)
        residual = o.residual(x, self.b)
        new_b = o.background_step(self.b, o.fidelity * residual - slope_b, step_b)
        change_b = float(xp.linalg.norm((new_b - self.b).ravel()))
        self.b = new_b
        self.critic_phase_steps += 1
        # weights grow as k^3, so that the average forgets where the phase started without knowing where it ends
        share = 4.0 / (self.critic_phase_steps + 3.0)
        self.x_average = self.x_average + np.float32(share) * (x - self.x_average)
        self.b_average = self.b_average + np.float32(share) * (self.b - self.b_average)
        residual = o.residual(x, self.b)
        terms = o.terms(self.z, self.b, residual) | {"adversarial": -mean_score}
        record = self._record(1, residual, taken.change, change_b, terms)
        self.timings["prox"] += time.perf_counter() - started
        if self.critic_phase_steps >= self.options.steps:
            self._finish_critic(_ALL)
        return record | {"w_train": w_train, "w_held_out": w_held_out, "gradient_penalty": penalty}

    def _moment_step(self) -> dict[str, float]:
        fit, started = self.moment_fit, time.perf_counter()
        if fit is None:
            raise RuntimeError("there is no fit of mean and covariance: the options do not say method='moments'")
        moved = fit.step(self.critic_phase_steps)
        if not math.isfinite(moved.change_x + moved.change_b):
            raise FloatingPointError(
                f"x or b is not finite at step {self.critic_phase_steps} of the fit of mean and covariance; "
                "method='none' stays with that of the mean"
            )
        self.critic_phase_steps += 1
        self.b = self.b_average = fit.b
        self.x_average = fit.x
        w_train, w_held_out = fit.judge()
        record = self._record(1, self.objective.residual(fit.x, fit.b), moved.change_x, moved.change_b, moved.terms)
        record |= {"step_x": float(fit.steps_x.max()), "step_b": fit.step_b, "w_train": w_train, "w_held_out": w_held_out}
        lost = moved.looked and self.critic_phase_steps > _PATIENCE and self._predicts_worse(_HOPELESS)
        self.ended = moved.settled or lost
        if self.ended or self.critic_phase_steps >= self.options.steps:
            self._finish_critic("settled after {} steps" if moved.settled else "ended after {} steps" if lost else _ALL)
        self.timings["moments"] += time.perf_counter() - started
        return record

    def _finish_critic(self, why: str) -> None:
        self.phase = "done"
        first = self.stop_reason.split("; critic")[0] or "mean fit: not asked for"
        self.stop_reason = f"{first}; critic: {why.format(self.critic_phase_steps)}"
        if self._predicts_worse(_WORSE):
            self.x_average, self.b_average = self.x_mean_fit, self.b_mean_fit
            self.stop_reason += ", and left: the fit of the mean predicts unseen frames better"

    def _predicts_worse(self, errors: float) -> bool:
        """Whether the fit of mean and covariance predicts unseen frames worse than the mean fit, by so many standard errors."""
        if self.moment_fit is None:
            return False
        gain, error = self.moment_fit.gain_over(self.x_mean_fit, self.b_mean_fit)
        return gain < -errors * error

    def _record(self, phase: int, residual: Any, change_x: float, change_b: float, terms: dict[str, float]) -> dict[str, float]:
        xp = self.psi.backend.xp
        return terms | {
            "step": self.steps_done,
            "phase": phase,
            "objective": sum(value for value in terms.values() if not math.isnan(value)),
            "step_x": self.objective.step_x * self.options.relaxation if phase else self.mean_fit.step_size,
            "step_b": self.objective.step_b * self.options.relaxation if phase else math.nan,
            "residual": float(xp.linalg.norm(residual.ravel())),
            "change_x": change_x,
            "change_b": change_b,
        }

    # -- all steps --------------------------------------------------------------------------------------------------------

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
            Called as ``callback(solver, record)`` after every step.
        progress : bool, optional
            Show a progress bar on standard error; by default if that is a terminal.
        checkpoint : path, optional
            File to which the state is written now and then, between the phases, at the end, and when the callback raises; a
            step that fails leaves the last whole state in it.
        checkpoint_seconds : float
            Least time between two writes.

        Raises
        ------
        FileNotFoundError
            If the checkpoint's directory is not there.  What cannot be written later is logged, and costs no step.
        """
        path = None if checkpoint is None else Path(checkpoint)
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"there is no directory {path.parent} for the checkpoint {path.name}; make it first")
        written, whole = time.monotonic(), True
        with progress_reporter(self.total_steps, self.steps_done, progress) as report:
            try:
                while self.phase != "done":
                    phase, whole = self.phase, False
                    record = self.step()
                    whole = True
                    report(self.steps_done, self.total_steps, self._headline(record))
                    if callback is not None:
                        callback(self, record)
                    if path is not None and (self.phase != phase or time.monotonic() - written >= checkpoint_seconds):
                        self._keep(path)
                        written = time.monotonic()
            finally:
                # a step that broke off half-way is not a state to go on from: the file keeps the last whole one
                if path is not None and whole:
                    self._keep(path)
        return self.result()

    def _keep(self, path: Path) -> None:
        """Write the state; a disk that is full costs no step and no result."""
        try:
            self.save(path)
        except (OSError, RuntimeError) as error:  # torch raises the second when its file cannot be written
            log.warning("the checkpoint %s could not be written (%s)", path, " ".join(str(error).split()))
        else:
            self.steps_saved = self.steps_done

    def _headline(self, record: dict[str, float]) -> str:
        if not record["phase"]:
            return f"fit of the mean, residual {record['residual']:.3g}"
        held_out = record["w_held_out"]
        return f"critic, W {record['w_train']:.3g}" + ("" if math.isnan(held_out) else f", held out {held_out:.3g}")

    def result(self) -> Result:
        """Return the images as they stand: in the second phase ``x_average`` and ``b_average``, else the mean fit."""
        host = self.psi.backend.to_host
        x, b = (self.x, self.b) if not self.critic_phase_steps else (self.x_average, self.b_average)
        timings = self.timings | ({} if self.adversary is None else self.adversary.timings)
        return Result(
            x=host(x),
            b=host(b),
            x_mean_fit=host(self.x_mean_fit if self.phase != "mean" else self.x),
            b_mean_fit=host(self.b_mean_fit if self.phase != "mean" else self.b),
            mean=host(self.mean),
            bad_pixels=self.bad_pixels,
            history=self.history.arrays(),
            options=self.options,
            camera=self.camera,
            psi=self.psi,
            timings=dict(timings),
            device=self.psi.backend.device,
            stop_reason=self.stop_reason or "not finished",
        )

    # -- state ------------------------------------------------------------------------------------------------------------

    _IMAGES = ("z", "b", "x_average", "b_average", "x_mean_fit", "b_mean_fit")

    @property
    def _operator(self) -> str:
        """Psi in words, and a sum of its PSF, which the words leave out."""
        return f"{self.psi!r} crc32 {zlib.crc32(self.psi.table.tobytes()):08x}"

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs to equal an uninterrupted one: bit for bit on one machine's CPU."""
        return {
            "version": _VERSION,
            "fingerprint": self.fingerprint,
            "psi": self._operator,
            "camera": dataclasses.asdict(self.camera),
            "options": dataclasses.asdict(self.options),
            "phase": self.phase,
            "mean_steps": self.mean_steps,
            "critic_phase_steps": self.critic_phase_steps,
            "stop_reason": self.stop_reason,
            "ended": self.ended,
            "timings": dict(self.timings),
            "images": {name: getattr(self, name) for name in self._IMAGES},
            "sparsity": self.objective.sparsity,
            "mean_fit": self.mean_fit.state_dict(),
            "adversary": None if self.adversary is None else self.adversary.trainer.state_dict(),
            "moment_fit": None if self.moment_fit is None or not self.critic_phase_steps else self.moment_fit.state_dict(),
            "adversary_timings": {} if self.adversary is None else dict(self.adversary.timings),
            "history": self.history.arrays(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` gave; ``options.steps`` may differ, so that a finished run can go further.

        Raises
        ------
        ValueError
            If the state belongs to another stack, operator, camera, other options or another version of the format; the
            message names what differs.
        """
        differing = [
            f"{name} ({state.get(name)} there, {mine} here)"
            for name, mine in (
                ("version", _VERSION),
                ("fingerprint", self.fingerprint),
                ("psi", self._operator),
                ("camera", dataclasses.asdict(self.camera)),
            )
            if state.get(name) != mine
        ]
        differing += [f"option {name}" for name in self.options.differences_from(state.get("options", {}))]
        if differing:
            raise ValueError(
                "the checkpoint belongs to another reconstruction: "
                + "; ".join(differing)
                + "; give the stack, PSF, camera and options that it was made with, or start anew without it"
            )
        asarray = self.psi.backend.asarray
        for name in self._IMAGES:
            setattr(self, name, asarray(state["images"][name]))
        sparsity = state["sparsity"]
        self.objective.charge(asarray(sparsity) if getattr(sparsity, "ndim", 0) else sparsity)
        self.mean_fit.load_state_dict(state["mean_fit"])
        if self.adversary is not None:
            self.adversary.trainer.load_state_dict(state["adversary"])
            self.adversary.timings.update(state["adversary_timings"])
        if self.moment_fit is not None and state["moment_fit"] is not None:
            self.moment_fit.load_state_dict(state["moment_fit"])
        self.phase, self.stop_reason, self.ended = state["phase"], state["stop_reason"], state["ended"]
        self.mean_steps, self.critic_phase_steps = state["mean_steps"], state["critic_phase_steps"]
        self.timings.update(state["timings"])
        self.history.load(state["history"])
        if self.phase != "mean" and not self.ended:
            if not self.critic_phase_steps:
                self.phase = self._after_mean()
            elif self.critic_phase_steps >= self.options.steps:
                self._finish_critic(_ALL)
            else:
                self.phase = "critic"

    def save(self, path: str | Path) -> None:
        """Write the state to ``path``: to a temporary file first, then renamed."""
        from .checkpoint import write_state

        write_state(self.state_dict(), Path(path))

    def load(self, path: str | Path) -> None:
        """Continue from the file that :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is none, it is cut short, or it belongs to another reconstruction.
        """
        from .checkpoint import read_state

        self.load_state_dict(read_state(Path(path)))
        self.steps_saved = self.steps_done


def reconstruct(
    stack: Any,
    *,
    psi: Psi,
    camera: Camera | None = None,
    options: SolverOptions | None = None,
    critic: Any | None = None,
    callback: Callback | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
) -> Result:
    """Reconstruct x and b from a stack: everything that :class:`Solver` does, in one call.

    Parameters
    ----------
    stack, psi, options, critic
        As for :class:`Solver`.
    camera : Camera, optional
        Estimated from the stack by :func:`fluogan_core.estimate_camera` if not given.  Only the camera: photons per emission
        stay psi's (``psi.replaced(photons_per_emitter=estimate.photons_per_emitter)`` takes the estimated ones).
    callback, progress, checkpoint
        As for :meth:`Solver.run`.
    resume : bool
        Continue from ``checkpoint``, which must exist.

    Returns
    -------
    Result
    """
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the file to continue from")
    if camera is None:
        camera = estimate_camera(stack, psi).camera
    solver = Solver(stack, psi=psi, camera=camera, options=options, critic=critic)
    if resume:
        solver.load(Path(str(checkpoint)))
    return solver.run(callback=callback, progress=progress, checkpoint=checkpoint)
