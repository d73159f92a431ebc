"""Whole runs of the default method: beside the revision from which its speed is counted, and on a field of 256 x 256 pixels.

CPU time on one thread is compared, which other processes on the machine hardly change.  An earlier revision is checked out into
a folder that goes away, and both reconstruct the same stack in turn (:mod:`benchmarks.against`).
"""

from __future__ import annotations

import numpy as np

from ._harness import Options, Report, main
from .against import Case, compared

#: With tiles of 256 pixels in place of windows: the default method before it was made for a CPU.
BEFORE = "256b8df"


def run(options: Options) -> Report:
    """Reconstruct and compare."""
    report = Report("whole", options)
    before = options.pick(BEFORE, None)  # a quick run compares this revision with itself
    case = options.pick(Case(seed=options.seed + 1), Case(size=16, frames=60, seed=options.seed + 1))
    runs = compared(case, options.pick((None, before), (None,)), options.pick(3, 1))
    ratio = float(np.median([then["cpu"] / now["cpu"] for now, then in zip(runs[None], runs[before])]))
    better = runs[None][0]["density"] - runs[before][0]["density"]
    error = float(better.std(ddof=1)) / len(better) ** 0.5
    what = f"{case.size} x {case.size} x {case.frames}, blinking lines"
    rows = [_row(what, name or "this", found) for name, found in runs.items()]
    report.target(f"default method, {what}: CPU time of {before or 'this'} over that of this revision", ratio, at_least=8.0)
    report.target(
        "its score of unseen frames over that of the other, in standard errors of the difference",
        float(better.mean()) / max(error, 1e-12),
        at_least=-1.0,
    )
    case = options.pick(Case(size=256, frames=200, seed=options.seed + 1), Case(size=16, frames=60, seed=options.seed + 1))
    large = compared(case, (None,))[None]
    what = f"{case.size} x {case.size} x {case.frames}, blinking lines"
    rows.append(_row(what, "this", large))
    report.target(f"default method, {what}: seconds of CPU time", large[0]["cpu"], at_most=240.0)
    report.table(
        "Whole runs of the default method, on one thread",
        ["recording", "revision", "CPU time, s", "time, s", "log density of unseen frames", "ended"],
        rows,
        f"Medians of {len(runs[None])} rounds in turn; the largest field once. Calibration of the width and of the photons "
        "per emission included, compilation not.",
    )
    return report


def _row(what: str, name: str, found: list[dict[str, object]]) -> list[object]:
    cpu, wall = (float(np.median([float(run[key]) for run in found])) for key in ("cpu", "wall"))  # type: ignore[arg-type]
    return [what, name, cpu, wall, float(np.mean(found[-1]["density"])), found[0]["stop"]]  # type: ignore[arg-type]


if __name__ == "__main__":
    main("whole", run)
