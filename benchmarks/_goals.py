"""The goals that were set for a card, each measured at its own size: ``python -m benchmarks._goals FILE --backend cupy``.

After each goal the file is written anew, so that a run that is cut short keeps what it measured.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fluogan_core as fg
from fluogan_core import Backend
from fluogan_core.critics.evaluator import CriticEvaluator
from fluogan_core.critics.lattice import Lattice
from fluogan_core.io.provenance import device_facts
from fluogan_core.physics.photons import PlacementTable, draw_photons
from fluogan_core.solvers.covariance_fit import CovariancePhase
from fluogan_core.solvers.network_fit import NetworkPhase

from ._cases import make_case, make_psi, tiled_critic, trained_critic

__all__ = ["NAMES", "Goal", "main", "measured"]

#: What the goals are called, in the order in which they are measured.
NAMES = (
    "single photons",
    "b + C_i",
    "b + C_i, default lattice",
    "iteration of the default",
    "epoch of the network",
    "default method",
)


@dataclass(frozen=True)
class Goal:
    """One figure.

    Attributes
    ----------
    name, size : str
    milliseconds : float
        Median of the rounds.
    goal : float or None
        Milliseconds on an H200; None where none was set.
    rounds : int
    """

    name: str
    size: str
    milliseconds: float
    goal: float | None
    rounds: int


def _median(call: Callable[[], Any], backend: Backend, rounds: int) -> float:
    """Median milliseconds of a call that was made once before."""
    call()
    times = []
    for _ in range(rounds):
        backend.synchronize()
        started = time.perf_counter()
        call()
        backend.synchronize()
        times.append(1e3 * (time.perf_counter() - started))
    return float(np.median(times))


def _differences(backend: Backend, frames: int, size: int, channels: int, rounds: int, names: Sequence[str]) -> Iterator[Goal]:
    case = make_case(16, 1.0, "early", backend)
    critic = tiled_critic(trained_critic(case, 100 if channels == 32 else 3, 0, channels=channels), size)
    field = make_case(size, 1.0, "early", backend)
    psi, evaluator = field.model.psi, CriticEvaluator(critic, (size, size), backend)
    y, where = field.simulated(frames, 0), f"{frames} frames of {size} x {size}"
    if NAMES[0] in names:
        taken = _median(lambda: evaluator.pixel_differences(y, 1.0), backend, rounds)
        yield Goal(NAMES[0], f"{where}, {frames * size**2} differences", taken, 5.0, rounds)
    table, numbers = PlacementTable(psi), np.arange(frames)
    for name, lattice, goal in ((NAMES[1], Lattice(psi, 1), 50.0), (NAMES[2], Lattice(psi, "auto"), 15.0)):
        if name not in names:
            continue
        sets = draw_photons(table, lattice.indices, numbers, seed=0, step=0)
        call = partial(evaluator.photon_differences, y, sets, 1.0)
        yield Goal(name, f"{where}, kappa 1, {len(sets)} sets", _median(call, backend, rounds), goal, rounds)


def _calls(backend: Backend, kind: type, name: str, size: int, options: fg.SolverOptions) -> tuple[list[float], float]:
    """Milliseconds of every call of a phase's method in one reconstruction, and of that whole."""
    psi = make_psi(size, 20.0, backend)
    x = np.zeros(psi.fine_shape, np.float32)
    x[size : 3 * size, [int(1.8 * size), int(2.2 * size)]] = 0.05
    b = np.full(psi.shape, 2.0, np.float32)
    stack = fg.ForwardModel(psi, noise_std=1.0).sample(backend.asarray(x), backend.asarray(b), 200, seed=1)
    times, inner = [], getattr(kind, name)

    def timed(phase: Any) -> Any:
        backend.synchronize()
        started = time.perf_counter()
        found = inner(phase)
        backend.synchronize()
        times.append(1e3 * (time.perf_counter() - started))
        return found

    setattr(kind, name, timed)
    try:
        started = time.perf_counter()
        fg.reconstruct(stack, psi=psi, camera=fg.Camera(noise_std=1.0), options=options)
        return times, 1e3 * (time.perf_counter() - started)
    finally:
        setattr(kind, name, inner)


def measured(backend: Backend, names: Sequence[str] = NAMES, *, quick: bool = False, once: bool = False) -> Iterator[Goal]:
    """Measure the goals of these names; ``quick`` takes small ones, ``once`` one round."""
    size, frames, channels = (8, 4, 4) if quick else (32, 200, 32)
    rounds = 1 if quick or once else 7
    if set(names) & set(NAMES[:3]):
        yield from _differences(backend, frames, size, channels, rounds, names)
    size = 16 if quick else 32
    if NAMES[3] in names:
        for side in (size,) if quick else (32, 64):
            times, _ = _calls(backend, CovariancePhase, "_iterate", side, fg.SolverOptions(steps=2, warm_steps=20))
            yield Goal(NAMES[3], f"{side} x {side}", float(np.median(times[1:])), 0.2, len(times) - 1)
    if NAMES[4] in names:
        small = (
            {"channels": 4, "depth": 2, "batch": 4, "gradient_frames": 4} if quick else {"batch": 200, "gradient_frames": 200}
        )
        options = fg.SolverOptions("linear", steps=3 if quick else 12, warm_steps=5, critic_steps=5, **small)
        times, _ = _calls(backend, NetworkPhase, "step", size, options)
        yield Goal(NAMES[4], f"{size} x {size}, 5 critic turns", float(np.median(times[1:])), 12.0, len(times) - 1)
    if NAMES[5] in names:
        for side in (size,) if quick else (32, 64):
            short = {"steps": 2, "warm_steps": 20} if quick else {}
            for _ in range(1 if quick else 2):  # the first one compiles
                _, whole = _calls(backend, CovariancePhase, "step", side, fg.SolverOptions(**short))
            yield Goal(NAMES[5], f"{side} x {side}, 200 frames, whole", whole, None, 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._goals", description=__doc__)
    parser.add_argument("file", type=Path, help="JSON file to write")
    parser.add_argument("--backend", choices=("numpy", "cupy"), default="numpy")
    parser.add_argument("--only", choices=NAMES, action="append", help="these goals alone")
    parser.add_argument("--once", action="store_true", help="one round, for a profiler")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it run?")
    arguments = parser.parse_args(argv)
    backend, goals = fg.get_backend(arguments.backend), []
    for goal in measured(backend, arguments.only or NAMES, quick=arguments.quick, once=arguments.once):
        goals.append(asdict(goal))
        document = {"device": device_facts(backend), "goals": goals}
        arguments.file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        aim = (
            "no goal"
            if goal.goal is None
            else f"goal {goal.goal:g} ms, {'met' if goal.milliseconds <= goal.goal else 'missed'}"
        )
        print(f"{goal.name:26} {goal.milliseconds:10.3f} ms  {aim:24} {goal.size}", flush=True)


if __name__ == "__main__":
    main()
