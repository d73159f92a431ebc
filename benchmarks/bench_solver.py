"""Whole solver iterations and their split: a step of the default, and of those that train a network.

The solver runs unchanged; its parts are wrapped in a stopwatch that counts each moment once, for the innermost part that is
running (the Psi inside sampling counts as Psi).  Solvers of different estimators and sizes take their steps in turn.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import fluogan_core as fg
from fluogan_core.solvers.covariance_fit import CovariancePhase
from fluogan_core.solvers.network_fit import NetworkPhase

from ._cases import airy, make_case
from ._harness import Alternative, Options, Report, main

PARTS = ("sampling", "Psi", "critic step", "critic on held-out frames", "differences", "prox and bookkeeping")
#: Of a step of the default: 25 accelerated ones of both images.
OWN_PARTS = ("slope of the quadratic critic", "prox of x", "blur", "background", "the rest")
#: Those that train; "coupled" takes many times longer; bench_estimators says how much.
METHODS = ("linear", "corrected", "photon")


class Stopwatch:
    """Exclusive times of nested parts.

    Parameters
    ----------
    synchronize : callable
        Waits for the device, so that a part pays for what it started.
    parts : tuple of str
    """

    def __init__(self, synchronize: Callable[[], None], parts: tuple[str, ...] = PARTS) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(parts, 0.0)
        self._synchronize = synchronize
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens inside for ``name``."""
        self._turn()
        self._running.append(name)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()

    def _turn(self) -> None:
        """Give the time since the last change to whoever was running."""
        self._synchronize()
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Count calls of the method ``owner.name`` for ``part``."""
        inner = getattr(owner, name)

        @functools.wraps(inner)  # with what it holds, if it is an object that can be called
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(part):
                return inner(*args, **kwargs)

        setattr(owner, name, timed)


def run(options: Options) -> Report:
    """Measure everything."""
    report = Report("solver", options)
    small = options.pick(32, 16)
    solvers = {method: _solver(options, small, method) for method in METHODS}
    _split(report, f"{small}x{small}", solvers, small, options.pick(14, 0))
    if not options.quick:
        large = {"corrected": _solver(options, 64, "corrected")}
        _split(report, "64x64", large, 64, 10)
    for size in options.pick((32, 64), (16,)):
        _split_default(report, options, size)
    return report


def _solver(options: Options, size: int, method: str, psf: np.ndarray | None = None) -> fg.Solver:
    """A solver past its mean fit and its first step with the critic, which compiles; a PSF that is given is not its frames'."""
    case = make_case(size, 20.0, "early", options.backend)
    stack = case.recorded(options.pick(500, 20), options.seed)
    small = options.quick and method != "moments"
    more = {"batch": 4, "gradient_frames": 4, "critic_steps": 1, "channels": 4} if small else {}
    chosen = fg.SolverOptions(method=method, warm_steps=options.pick(100, 2), steps=10_000, seed=options.seed, **more)
    camera = fg.Camera(gain=1.0, offset=0.0, noise_std=0.0)
    psi = case.model.psi if psf is None else case.model.psi.replaced(psf=psf)
    solver = fg.Solver(stack, psi=psi, camera=camera, options=chosen)
    while not solver.phases[1].taken:
        solver.step()
    return solver


def _split(report: Report, label: str, solvers: dict[str, fg.Solver], size: int, seconds: float) -> None:
    """Time steps of all solvers in turn, then say where the time went."""
    watches, before = {}, {}
    for method, solver in solvers.items():
        psi, phase = solver.problem.psi, solver.phases[1]
        assert isinstance(phase, NetworkPhase)
        watch = watches[method] = Stopwatch(psi.backend.synchronize)
        before[method] = phase.taken
        watch.wrap(psi, "forward", "Psi")
        watch.wrap(psi, "adjoint", "Psi")
        watch.wrap(solver.problem.model, "sample", "sampling")
        watch.wrap(phase.trainer, "step", "critic step")
        watch.wrap(phase, "judge", "critic on held-out frames")
        watch.wrap(phase, "gradient", "differences")
        watch.wrap(solver, "step", "prox and bookkeeping")
    options = next(iter(solvers.values())).options
    report.measure(
        "Solver iterations",
        f"{label}, batch {options.batch}, {options.gradient_frames} gradient frames",
        [Alternative(method, solver.step) for method, solver in solvers.items()],
        per="iteration",
        seconds=seconds,
        setting={
            "size": size,
            "batch": options.batch,
            "critic_steps": options.critic_steps,
            "gradient_frames": options.gradient_frames,
        },
    )
    rows = []
    for method, solver in solvers.items():
        seconds_of, steps = watches[method].seconds, solver.phases[1].taken - before[method]
        total = sum(seconds_of.values())
        rows.append([method, steps, 1e3 * total / steps, *(100 * seconds_of[part] / total for part in PARTS)])
    report.table(
        f"Where an iteration's time goes, {label}: % of the whole",
        ["method", "iterations", "ms", *PARTS],
        rows,
        "Means over all iterations but the first; each moment counts for the innermost part that is running.",
    )


def _split_default(report: Report, options: Options, size: int) -> None:
    """Time steps of the default and of the fit of the mean before it, in turn, then say where the former's time went."""
    solver = _solver(options, size, "moments")
    fit = solver.phases[1]
    assert isinstance(fit, CovariancePhase)
    watch = Stopwatch(solver.problem.psi.backend.synchronize, OWN_PARTS)
    watch.wrap(fit.critic, "slope", OWN_PARTS[0])
    watch.wrap(fit.prior, "step", OWN_PARTS[1])
    watch.wrap(fit, "kernel", OWN_PARTS[2])
    watch.wrap(fit.objective, "background_step", OWN_PARTS[3])
    watch.wrap(fit, "step", OWN_PARTS[4])
    of_airy = _solver(options, size, "moments", airy(size)).phases[1]
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        fit.taken = 3  # at this number the weights are not updated
        fit.step()

    def step_of_airy() -> None:
        of_airy.taken = 3
        of_airy.step()

    report.measure(
        "Steps of the default",
        f"{size}x{size}",
        [
            Alternative("moments, one step", step),
            Alternative("moments, one step, Airy PSF (not separable)", step_of_airy),
            Alternative("fit of the mean, one step", solver.mean_phase.iterate),
        ],
        per="step",
        seconds=options.pick(12, 0),
        setting={"size": size},
    )
    total = sum(watch.seconds.values())
    report.table(
        f"Where a step of the default goes, {size}x{size}: % of the whole",
        ["steps", "ms", *OWN_PARTS],
        [[steps, 1e3 * total / steps, *(100 * watch.seconds[part] / total for part in OWN_PARTS)]],
        "Means over all steps; each moment counts for the innermost part that is running.",
    )


if __name__ == "__main__":
    main("solver", run)
