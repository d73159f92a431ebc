"""Run scenes, merge what is done, render the tables: ``python -m benchmarks.zoo [--seed S] [--method auto] [--part k/n]``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import fluogan_core as fg

from .. import STUDIES
from .._harness import RESULTS, Options
from .._study import FEW_STEPS, ROOT, publish
from ..paper._renew import at_least_1
from ._picture import draw
from ._report import report
from ._run import kept, part_of, run_scenes

#: Seed -> study.  Numbers of the library may be chosen by the scenes of the first; by those of the second none.
SEEDS = {1: "zoo", 2: "zoo-2"}
#: Method of the library -> what is added to the study's name.
METHODS = {"moments": "", "auto": "-auto"}
#: Scenes of a full run, and of a quick one.
SCENES, FEW_SCENES = 200, 2


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=STUDIES["zoo"])
    made.add_argument(
        "--seed", type=int, default=1, choices=tuple(SEEDS), help="of the scenes: 1 for development, 2 for the end"
    )
    made.add_argument("--method", default="moments", choices=tuple(METHODS), help="of the library; give each its own --work")
    made.add_argument("--scenes", type=at_least_1, help=f"how many ({SCENES} by default)")
    made.add_argument("--part", default="1/1", metavar="k/n", help="run every n-th scene only, beginning with the k-th")
    made.add_argument(
        "--renew", action="store_true", help="run the library again where a scene was run at another revision; peers are kept"
    )
    made.add_argument("--merge", action="store_true", help="run nothing: report the scenes that are done")
    made.add_argument("--quick", action="store_true", help="two scenes, few steps: does it run?")
    made.add_argument("--work", type=Path, help="folder of the scenes' own files (out/zoo by default)")
    made.add_argument("--results", type=Path, help="folder of the JSON files")
    made.add_argument("--docs", type=Path, help="folder of the documents that are rendered")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Run a part, then report where all scenes are done, or where that is asked for."""
    arguments = parser().parse_args(argv)
    quick = arguments.quick
    if quick and arguments.work is None:
        parser().error("a quick run's scenes mean nothing: say where they may go, --work FOLDER")
    work = arguments.work or ROOT / "out" / "zoo"
    scenes = arguments.scenes or (FEW_SCENES if quick else SCENES)
    try:
        numbers = part_of(scenes, arguments.part)
    except ValueError as error:
        parser().error(str(error))
    if not arguments.merge:
        options = dataclasses.replace(FEW_STEPS if quick else fg.SolverOptions(), method=arguments.method)
        run_scenes(arguments.seed, numbers, work, options=options, renew=arguments.renew)
    done = list(kept(work, arguments.seed, scenes))
    if not arguments.merge and len(done) < scenes:
        print(f"{len(done)} of {scenes} scenes are done; the other parts, or --merge, write the report", file=sys.stderr)
        return
    if not done:
        parser().error(f"no scene of seed {arguments.seed} is done in {work}: there is nothing to merge")
    # a quick run's figures replace none
    results = arguments.results or (work if quick else RESULTS)
    docs = arguments.docs or (None if quick or arguments.results else ROOT / "docs")
    name = SEEDS[arguments.seed] + METHODS[arguments.method]
    document = report(done, Options(quick, results, seed=arguments.seed), name, scenes).document()
    if docs is not None and not METHODS[arguments.method]:
        draw(docs / "images", name, done, work)
    publish(document, results, docs)


if __name__ == "__main__":
    main()
