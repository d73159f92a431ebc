"""Run scenes, merge what is done, render the tables: ``python -m benchmarks.zoo [--seed S] [--scenes N] [--part k/n]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .._study import FEW_STEPS, ROOT
from ..paper._renew import at_least_1
from ._run import part_of, run_scenes

#: Scenes of a full run.
SCENES = 200


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scenes", type=at_least_1, default=SCENES)
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--renew", action="store_true")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "zoo")
    arguments = parser.parse_args(argv)
    run_scenes(arguments.seed, part_of(arguments.scenes, arguments.part), arguments.work, renew=arguments.renew)


if __name__ == "__main__":
    main()
