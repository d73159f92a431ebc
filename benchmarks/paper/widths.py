"""A PSF that is described wrongly.

``python -m benchmarks.paper.widths [--quick] [--seeds N] [--jobs N] [--condition NAME]``

Nobody knows a PSF to one per cent.  What does one 5 % too narrow or too wide do, and what do covariances say of its width?
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import fluogan_core as fg

from .._harness import Options, Report
from .._study import FEW_STEPS, study_switches
from ._judge import OWN_LIGHT, Task, Verdict, gather, mean
from ._methods import FOR_WRONG_PSF
from ._renew import add_recording_switches, chosen_conditions, measure
from ._scenes import ROI, Condition, Geometry, make_scene
from ._tables import FEW, MOST, cell, of, share

COMPARED = ("mean fit", "full method", *FOR_WRONG_PSF, "FISTA, 1000 steps", "MLEM, 1000 steps")
#: Widths of the PSF that is described, relative to the true one: judged, and measured.
WRONG, DESCRIBED = (0.95, 1.05), (0.9, 0.95, 1.0, 1.05, 1.1)


def run(options: Options, conditions: Sequence[Condition], seeds: int, jobs: int) -> Report:
    """What is resolved, and what is measured."""
    report = Report("widths", options)
    geometry, separation = options.pick((ROI, 180.0), (Geometry(shape=(20, 20), frames=200), 240.0))
    own = options.pick(None, FEW_STEPS)
    tasks = [
        Task(condition.name, (separation,), control, seed, COMPARED, width, geometry, own)
        for condition in conditions
        for width in WRONG
        for seed in range(seeds)
        for control in (False, True)
    ]
    add_resolution(report, gather(tasks, jobs, "wrong widths"), separation)
    add_measured(report, conditions, separation, seeds, geometry)
    return report


def add_resolution(report: Report, verdicts: Sequence[Verdict], separation: float) -> None:
    """Targets, and one table: what a PSF that is too narrow or too wide does."""
    rows = []
    for condition in dict.fromkeys(v.condition for v in verdicts):
        for width in WRONG:
            ours = of(verdicts, condition=condition, width=width, method="full method")
            what = f"{condition}: PSF {100 * (width - 1):+.0f} %"
            report.target(f"{what}, pairs resolved", share(of(ours, control=False)), at_least=MOST)
            report.target(f"{what}, bars split", share(of(ours, control=True)), at_most=FEW)
        for method in dict.fromkeys(v.method for v in verdicts if v.method != OWN_LIGHT):
            here = [of(verdicts, condition=condition, method=method, width=width) for width in WRONG]
            errors = [mean(v.error_nm for v in of(part, control=False, resolved=True)) for part in here]
            rows.append([condition, method, *(cell(part) for part in here), *errors])
    named = [f"{100 * (width - 1):+.0f} %" for width in WRONG]
    report.table(
        f"A PSF of the wrong width: pairs {separation:g} nm apart and their bars",
        ["condition", "method", *named, *(f"error at {name}, nm" for name in named)],
        rows,
        "Pairs resolved, bars split, of all; mean distance error of the resolved pairs. The fits go through a PSF as wide as "
        "covariances say where they say it clearly, unless the row says as described; FISTA and MLEM, as described.",
    )


def add_measured(report: Report, conditions: Sequence[Condition], separation: float, seeds: int, geometry: Geometry) -> None:
    """One table: widths read from the frames, pairs and bars together."""
    rows = []
    for condition in conditions:
        drawn = [(seed, control) for seed in range(seeds) for control in (False, True)]
        scenes = [make_scene(condition, (separation,), seed, control=control, geometry=geometry) for seed, control in drawn]
        for described in DESCRIBED:
            found = [fg.estimate_psf_width(scene.frames, scene.psi(described)) for scene in scenes]
            told = [f for f in found if np.isfinite(f.error)]
            measured = np.array([described * f.measured for f in told])
            rows.append(
                [
                    condition.name,
                    f"{described:g}",
                    mean(measured),
                    float(measured.std(ddof=1)) if len(told) > 1 else None,
                    mean(f.error for f in told),
                    f"{sum(f.width != 1 for f in found)}/{len(found)}",
                    float(np.sqrt(np.mean([(described * f.width - 1) ** 2 for f in found]))),
                ]
            )
    report.table(
        "The width of the PSF by covariances",
        ["condition", "described", "measured", "scatter", "its own error", "taken", "then off by, rms"],
        rows,
        "In units of the true width: described, measured (mean and standard deviation over the recordings), the standard error "
        "that is stated, how often the measured width was taken, and how far off what was taken or left is.",
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = study_switches("benchmarks.paper.widths", "widths")
    add_recording_switches(parser, "condition and width")
    arguments = parser.parse_args(argv)

    def measured(options: Options, docs: Path | None) -> Report:
        conditions = chosen_conditions(options, arguments.condition, parser)
        return run(options, conditions, options.pick(arguments.seeds, 1), arguments.jobs)

    measure(parser, arguments, "widths", arguments.condition, measured)


if __name__ == "__main__":
    main()
