"""Try faults and write the table: ``python -m benchmarks.faults [--only NAME] [--count N] [--seed S]``.

With ``--only`` the rows of these faults are replaced, with ``--count`` none unless ``--results`` says where.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .. import STUDIES
from .._harness import Options, Report
from .._study import places, publish, study_switches

#: What each is, for the table.
WHAT = {
    "kills": "a run is killed at a random moment and taken up again: the same bytes",
    "bit_flips": "a bit of a checkpoint is flipped, or a sector zeroed: refused, or the same bytes",
    "pairs": "two runs write to one folder: one has it, whole",
    "moved_stacks": "the stack is renamed, removed, cut or rewritten in mid-run: the image of what was read, or a refusal",
    "streams": "standard streams are closed, full, or read by nobody: the result is in place",
    "limits": "a file may not grow beyond some size: said, and nothing half in place",
    "folders": "the output folder goes, or a file takes its place: the result is elsewhere, and that is said",
    "signals": "a run is ended by Ctrl-C, SIGTERM or SIGHUP at a random moment and taken up again: the same bytes",
    "names": "stack and folder have odd or long names: the same images",
    "outputs": "the output folder is a link, holds links, belongs to others or is a file: the same images, or a refusal",
    "full_disks": "the disk has room for a part of the result, or for nothing: said, and nothing half in place",
    "environments": "variables of the environment are wrong or missing, other threads, locales, switches of Python: the same "
    "bytes, with the figure",
    "caches": "a file of the cache of compiled kernels is damaged: the same numbers",
    "calls": "public functions get arguments at random: finite numbers, or an error of a promised type",
    "files": "damaged TIFF files are read: whole, with a note, or refused with the promised type",
}
COUNTS = {"calls": 1000, "files": 1000}
_SHOWN = 40


def damaged_files(count: int, seed: int, folder: Path) -> list[str]:
    """The fuzzer of the tests, which is a script of its own."""
    import runpy

    fuzz = runpy.run_path(str(Path(__file__).parents[2] / "tests" / "io" / "fuzz_tiff.py"))["fuzz"]
    folder.mkdir()
    gave_way = fuzz(count, seed, folder)[1]
    return [*gave_way, *[""] * (count - len(gave_way))]


def tried(name: str, count: int, seed: int, folder: Path) -> Iterator[str]:
    """Each try of a fault: what gave way, "" if nothing did."""
    if name == "calls":
        from ._calls import calls

        folder.mkdir()
        yield from calls(count, seed, folder)
    elif name == "files":
        yield from damaged_files(count, seed, folder)
    else:
        from ._runs import tries

        yield from tries(name, count, seed, folder)


def kept(results: Path | None) -> dict[str, list[object]]:
    """The rows of former runs, by fault."""
    path = None if results is None else results / "faults.json"
    if path is None or not path.exists():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))["tables"][0]["rows"]
    return {name: row for name, what in WHAT.items() for row in rows if row[0] == what}


def run(options: Options, names: Sequence[str], count: int | None) -> tuple[Report, bool]:
    """Try all of these; print what gave way.  Rows of other faults are those of former runs."""
    from ._runs import RUNS

    report = Report("faults", options)
    rows, held = kept(options.results), True
    for name in names:
        wanted = count or options.pick(COUNTS.get(name) or RUNS[name][0], 2)
        with tempfile.TemporaryDirectory(prefix="faults-") as place:
            outcomes = list(tried(name, wanted, options.seed, Path(place) / "tries"))
        gave_way = [outcome for outcome in outcomes if outcome]
        held = held and not gave_way
        for line in gave_way[:_SHOWN]:
            print(f"{name}: {line}", file=sys.stderr)
        print(f"{name}: {len(outcomes)} tried, {len(gave_way)} gave way", file=sys.stderr, flush=True)
        command = f"`python -m benchmarks.faults --only {name} --count {wanted} --seed {options.seed}`"
        rows[name] = [WHAT[name], len(outcomes), len(outcomes) - len(gave_way), command]
    table = [rows[name] for name in WHAT if name in rows]
    report.table("Faults tried", ("fault, and what is right", "tried", "held", "command"), table)
    return report, held


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; status 1 if anything gave way."""
    parser: argparse.ArgumentParser = study_switches("benchmarks.faults", "faults")
    parser.description = STUDIES["faults"]
    parser.add_argument("--only", nargs="+", choices=tuple(WHAT), metavar="NAME", help=f"some of: {', '.join(WHAT)}")
    parser.add_argument("--count", type=int, help="how often each is tried")
    arguments = parser.parse_args(argv)
    seed, arguments.seed = arguments.seed, 0
    partial = arguments.count is not None and arguments.results is None  # figures of a few replace none
    results, docs = places(parser, arguments, "faults")
    logging.getLogger("fluogan_core").setLevel(logging.ERROR)
    options = Options(arguments.quick and not partial, None if partial else results, "numpy", seed)
    report, held = run(options, arguments.only or list(WHAT), arguments.count)
    if not partial:
        publish(report.document(), results, docs)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
