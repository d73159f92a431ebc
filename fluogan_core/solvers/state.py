"""The state of a solver, from which a resumed run goes on, and what it must agree on with the one that it was made by."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from .phase import Stop

if TYPE_CHECKING:
    from .solver import Solver

__all__ = ["VERSION", "restore", "state_of"]

#: Of the layout of :func:`state_of`.
VERSION = 4


def state_of(solver: Solver) -> dict[str, Any]:
    """Return everything that a resumed run needs: arrays, numbers and strings."""
    return {
        "version": VERSION,
        **solver.problem.identity(),
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


def restore(solver: Solver, saved: dict[str, Any]) -> None:
    """Bring every phase to where it was.

    Raises
    ------
    ValueError
        If the state belongs to another stack, operator, camera, other options, weights or version; the message names what
        differs.
    """
    mine = {"version": VERSION, **solver.problem.identity()}
    differing = [f"{name} ({saved.get(name)} there, {value} here)" for name, value in mine.items() if saved.get(name) != value]
    differing += [f"option {name}" for name in solver.options.differences_from(saved.get("options", {}))]
    if not differing and saved["weights"] != dataclasses.asdict(solver.weights):
        differing = ["weights"]
    if differing:
        raise ValueError(
            "the checkpoint belongs to another reconstruction: "
            + "; ".join(differing)
            + "; give the stack, PSF, camera and options that it was made with, or start anew without it"
        )
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
