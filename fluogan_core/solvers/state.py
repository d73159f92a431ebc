"""The state of a solver, from which a resumed run goes on, and what it must agree on with the one that it was made by."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from ..backend.typing import State
from ..objective.terms import Objective
from .history import QUANTITIES, History
from .options import SolverOptions
from .phase import Phase, Stop, StopReason
from .problem import Problem
from .schema import ArrayOf, EachOf, NumberOf, Optional, check_state
from .weights import Weights

__all__ = ["VERSION", "Stateful", "restore", "state_of"]

#: Of the layout of :func:`state_of`.
VERSION = 9


class Stateful(Protocol):
    """What has such a state: :class:`fluogan_core.Solver`."""

    problem: Problem
    options: SolverOptions
    weights: Weights
    objective: Objective
    phases: tuple[Phase, ...]
    history: History
    seconds: float
    undecided: bool


def state_of(solver: Stateful) -> State:
    """Return everything that a resumed run needs: arrays, numbers and strings."""
    return {
        "version": VERSION,
        **_identity(solver),
        "options": dataclasses.asdict(solver.options),
        "weights": dataclasses.asdict(solver.weights),
        "seconds": solver.seconds,
        "phases": {
            phase.name: phase.state_dict()
            | {"stop": None if phase.stop is None else phase.stop.state_dict(), "timings": dict(phase.timings)}
            for phase in solver.phases
        },
        "history": solver.history.arrays(),
    }


def _identity(solver: Stateful) -> State:
    """What a checkpoint must agree on besides options and weights."""
    given = solver.objective.background
    known = "fitted"
    if given is not None:
        known = f"given, crc32 {zlib.crc32(solver.problem.psi.backend.to_host(given).tobytes()):08x}"
    return solver.problem.identity() | {"background": known}


#: Of every phase, besides what it asks for itself.
_COMMON = {
    "stop": Optional({"reason": str, "steps": NumberOf(0, whole=True), "detail": str, "share": NumberOf(0)}),
    "timings": EachOf(NumberOf(0)),
}


def _check(solver: Stateful, saved: State) -> None:
    """Raise ValueError where a field of a state is missing, of another kind or shape, not finite, or out of range."""
    length = saved.get("history", {}).get("step", ())
    columns = {name: ArrayOf((len(length),), finite=False) for name in QUANTITIES}
    check_state(
        {name: saved.get(name) for name in ("seconds", "phases", "history")},
        {"seconds": NumberOf(0), "phases": EachOf(dict), "history": columns},
    )
    for phase in solver.phases:
        state = saved["phases"].get(phase.name)
        if state is not None:
            begun = state.get("taken") != 0
            check_state(state, phase.schema(begun) | _COMMON, f"state['phases'][{phase.name!r}]")
            if state["stop"] is not None and state["stop"]["reason"] not in StopReason.__members__:
                raise ValueError(f"state['phases'][{phase.name!r}]['stop'] has an unknown reason, {state['stop']['reason']!r}")


def _weights_in(saved: State, solver: Stateful) -> Weights | None:
    """The weights of a state; None where they are not those of the solver.

    Where trial fits were to choose, the state says what they chose: fits on another processor are rounded otherwise, and might
    choose a last digit of their own.
    """
    mine, found = dataclasses.asdict(solver.weights), saved.get("weights")
    if found == mine:
        return solver.weights
    if not isinstance(found, dict):
        return None
    names = ["detail", "lit", "iterations"] + ["smoothness"] * (solver.options.smoothness is None)
    chosen: dict[str, Any] = {name: found.get(name) for name in names}
    if any(type(value) is not type(mine[name]) or not 0 <= value < math.inf for name, value in chosen.items()):
        return None
    between = all(mine[name] <= value if name == "smoothness" else value <= mine[name] for name, value in chosen.items())
    if not solver.undecided or not between or found != mine | chosen:
        return None
    return dataclasses.replace(solver.weights, **chosen)


def restore(solver: Stateful, saved: State, take: Callable[[Weights], None]) -> None:
    """Bring every phase to where it was; ``take`` lets the solver go on with the weights of the state.

    Raises
    ------
    ValueError
        If the state belongs to another stack, operator, camera, other options, weights or version, or a field of it is not
        what it must be; the message names what differs.
    """
    mine = {"version": VERSION, **_identity(solver)}
    differing = [f"{name} ({saved.get(name)} there, {value} here)" for name, value in mine.items() if saved.get(name) != value]
    differing += [f"option {name}" for name in solver.options.differences_from(saved.get("options", {}))]
    kept = None if differing else _weights_in(saved, solver)
    if not differing and kept is None:
        differing = ["weights"]
    if differing:
        raise ValueError(
            "the checkpoint belongs to another reconstruction: "
            + "; ".join(differing)
            + "; give the stack, PSF, camera and options that it was made with, or start anew without it"
        )
    _check(solver, saved)
    if kept is not None:
        take(kept)
    for phase in solver.phases:
        if phase.name not in saved["phases"]:  # it was not asked for then
            continue
        of_phase = saved["phases"][phase.name]
        phase.load_state_dict(of_phase)
        phase.timings.update(of_phase["timings"])
        stop = None if of_phase["stop"] is None else Stop.from_state(of_phase["stop"])
        goes_on = stop is not None and stop.reason.open and phase.taken < phase.planned
        phase.stop = None if goes_on else stop
    solver.seconds = float(saved["seconds"])
    solver.history.load(saved["history"])
