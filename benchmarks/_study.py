"""The command line of an experiment that has one of its own: where its figures go, and what is printed of them."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fluogan_core as fg

from . import STUDIES
from ._harness import RESULTS, Options, Report, switches, write
from ._tables import plain, render

__all__ = ["FEW_STEPS", "alone", "places", "publish", "study_switches"]

ROOT = Path(__file__).parents[1]
#: Our own reconstruction in a quick run, which asks whether a study runs at all.
FEW_STEPS = fg.SolverOptions(steps=2, warm_steps=20)


def study_switches(module: str, name: str) -> argparse.ArgumentParser:
    """The switches of a study that is run as ``python -m MODULE``."""
    parser = switches(f"python -m {module}", STUDIES[name])
    parser.add_argument("--docs", type=Path, help="folder of the documents that are rendered")
    return parser


def places(parser: argparse.ArgumentParser, arguments: argparse.Namespace, name: str) -> tuple[Path, Path | None]:
    """Folders of the figures and of the documents; a quick run's figures mean nothing and replace none."""
    if arguments.backend != "numpy" or arguments.seed:
        parser.error("this experiment runs on NumPy with the seeds 0, 1, ...: leave out --backend and --seed")
    if arguments.quick:
        return arguments.results or Path(tempfile.mkdtemp(prefix=f"{name}-")), arguments.docs
    # figures that are kept elsewhere are not those of this tree's documents
    docs = arguments.docs or (None if arguments.results else ROOT / "docs")
    return arguments.results or RESULTS, docs


def publish(document: dict[str, Any], results: Path, docs: Path | None) -> None:
    """Print the tables, write the figures, render the documents."""
    print(plain(document))
    print(f"written to {write(document, results)}", file=sys.stderr)
    if docs is not None:
        for path in render(results, docs):
            print(f"tables rendered in {path.name}", file=sys.stderr)


def alone(module: str, name: str, run: Callable[[Options], Report], argv: Sequence[str] | None = None) -> None:
    """Run a study that has no further switches."""
    parser = study_switches(module, name)
    arguments = parser.parse_args(argv)
    results, docs = places(parser, arguments, name)
    publish(run(Options(arguments.quick, results)).document(), results, docs)
