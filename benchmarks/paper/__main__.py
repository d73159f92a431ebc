"""Run the experiment and render its tables.

``python -m benchmarks.paper [--quick] [--seeds N] [--jobs N] [--condition NAME]``
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import fluogan_core as fg
from fluogan_core.simulation.phantom import ARGOLIGHT_SEPARATIONS_NM

from .._harness import Options, Report
from .._study import FEW_STEPS, study_switches
from ._judge import Task, gather
from ._methods import FOR_WRONG_PSF, METHODS, left_out
from ._pictures import draw
from ._renew import add_recording_switches, at_least_1, chosen_conditions, measure
from ._scenes import RELEASED, ROI, Condition, Geometry, operator
from ._tables import add_field, add_landings, add_resolution, add_targets

#: Judged on one seed by default, and at some distances: each takes as long as many others together.
SLOW = ("SRRF (nanopyx)", "eSRRF (nanopyx)")
SLOW_AT = (300.0, 180.0)
#: Small enough for a test, and still a pair with its outer lines.
TINY = Geometry(shape=(20, 20), frames=60)


def resolution_tasks(
    conditions: Sequence[Condition],
    separations: Sequence[float],
    seeds: int,
    geometry: Geometry,
    slow_seeds: int = 1,
    own: fg.SolverOptions | None = None,
) -> list[Task]:
    """All distances, each pair with its control; fewer seeds of what takes longest."""
    missing = left_out()
    here = [name for name in METHODS if name not in missing and name not in FOR_WRONG_PSF]
    methods = {True: tuple(here), False: tuple(name for name in here if name not in SLOW)}
    return [
        Task(condition.name, (at,), control, seed, methods[seed < slow_seeds and at in SLOW_AT], 1.0, geometry, own)
        for condition in conditions
        for at in separations
        for seed in range(seeds)
        for control in (False, True)
    ]


def field_tasks(
    conditions: Sequence[Condition], separations: Sequence[float], geometry: Geometry, own: fg.SolverOptions | None = None
) -> list[Task]:
    """All groups in one field, bright."""
    ours = ("mean fit", "full method")
    return [Task(c.name, tuple(separations), False, 0, ours, 1.0, geometry, own) for c in conditions if c.light == 1.0]


def run(
    options: Options, conditions: Sequence[Condition], seeds: int, slow_seeds: int, jobs: int, pictures: Path | None
) -> Report:
    """Everything under these conditions; a quick run has one distance, one seed, a tiny field and few steps."""
    report = Report("paper", options)
    geometry, own = options.pick((ROI, None), (TINY, FEW_STEPS))
    separations = options.pick(ARGOLIGHT_SEPARATIONS_NM, (240.0,))
    tasks = resolution_tasks(conditions, separations, seeds, geometry, slow_seeds, own)
    found = gather(tasks, jobs, "regions of interest")
    add_targets(report, found)
    add_resolution(report, found, left_out())
    add_landings(report, operator(geometry, geometry.shape))
    whole = options.pick(RELEASED, TINY)
    add_field(report, gather(field_tasks(conditions, separations, whole, own), jobs, "the whole pattern"))
    if pictures is not None:
        draw(pictures)
    return report


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = study_switches("benchmarks.paper", "paper")
    add_recording_switches(parser, "condition and distance")
    parser.add_argument("--slow-seeds", type=at_least_1, default=1, help=f"recordings of these: {', '.join(SLOW)}")
    arguments = parser.parse_args(argv)

    def measured(options: Options, docs: Path | None) -> Report:
        conditions = chosen_conditions(options, arguments.condition, parser)
        pictures = None if docs is None else docs / "images"
        return run(options, conditions, options.pick(arguments.seeds, 1), arguments.slow_seeds, arguments.jobs, pictures)

    measure(parser, arguments, "paper", arguments.condition, measured)


if __name__ == "__main__":
    main()
