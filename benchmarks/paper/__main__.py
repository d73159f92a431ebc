"""Run the experiment and render its tables.

``python -m benchmarks.paper [--quick] [--seeds N] [--jobs N] [--condition NAME]``
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import fluogan_core as fg
from fluogan_core.simulation.phantom import ARGOLIGHT_SEPARATIONS_NM

from .._harness import Options, Report
from .._study import FEW_STEPS, places, publish, study_switches
from ._judge import Task, gather
from ._methods import FOR_WRONG_PSF, METHODS, left_out
from ._pictures import draw
from ._renew import add_condition_switch, chosen_conditions, in_its_place, results_there
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
    parser.add_argument("--seeds", type=int, default=8, help="recordings per condition and distance (1 in a quick run)")
    parser.add_argument("--slow-seeds", type=int, default=1, help=f"recordings of these: {', '.join(SLOW)}")
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    add_condition_switch(parser)
    arguments = parser.parse_args(argv)
    if min(arguments.seeds, arguments.slow_seeds, arguments.jobs) < 1:
        parser.error("--seeds, --slow-seeds and --jobs must be at least 1")
    results, docs = places(parser, arguments, "paper")
    options, only = Options(arguments.quick, results), arguments.condition
    conditions = chosen_conditions(options, only, parser)
    before = None if only is None else results_there(results / "paper.json", only, arguments.quick, parser)
    seeds = 1 if arguments.quick else arguments.seeds
    pictures = None if docs is None else docs / "images"
    document = run(options, conditions, seeds, arguments.slow_seeds, arguments.jobs, pictures).document()
    publish(in_its_place(before, document, only, results, parser), results, docs)


if __name__ == "__main__":
    main()
