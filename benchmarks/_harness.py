"""How everything here is measured and written down.

Alternatives run in turn, round after round, in one process: whatever slows the machine down for a while slows all of them.
What is reported is the median with its quartiles and the minimum; the first call of each, which compiles, plans and warms
caches, is not counted.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fluogan_core import Backend, get_backend
from fluogan_core.io.provenance import device_facts, loaded_versions, threads

from . import QUESTIONS, STUDIES

__all__ = ["Alternative", "Options", "Report", "check_document", "main", "revision", "sampled", "switches", "write"]

RESULTS = Path(__file__).parent / "results"

#: Fewest and most rounds of a full run.
_ROUNDS = (3, 15)


@dataclass(frozen=True)
class Options:
    """What a run was asked for.

    Attributes
    ----------
    quick : bool
        Small shapes and one round: does it run at all?
    results : Path, optional
        Folder of the JSON files; None writes none.
    backend : {"numpy", "cupy"} or Backend
    seed : int
    """

    quick: bool = False
    results: Path | None = None
    backend: str | Backend = "numpy"
    seed: int = 0

    def pick(self, full: Any, quick: Any) -> Any:
        """``quick`` in a quick run, else ``full``."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Alternative:
    """One way of doing a piece of work.

    Attributes
    ----------
    name : str
    call : callable without arguments
    units : float
        How many units of work (frames, steps) one call does; times are reported per unit.
    evaluated, of : int
        Where a call does only a sample of the work: how many items it evaluates, and how many all of it has.
    note : str
    """

    name: str
    call: Callable[[], Any]
    units: float = 1.0
    evaluated: int = 1
    of: int = 1
    note: str = ""


def sampled(name: str, call: Callable[[], Any], evaluated: int, of: int, units: float, note: str = "") -> Alternative:
    """An alternative timed on ``evaluated`` of the ``of`` items that make up ``units`` units of work."""
    return Alternative(name, call, units, evaluated, of, note)


class Report:
    """What a benchmark found; becomes one JSON file.

    After each table the figures so far are written to ``NAME.partial.json``, until the whole is written: a run that is cut
    short leaves its figures, and replaces none.

    Parameters
    ----------
    name : str
    options : Options
    """

    def __init__(self, name: str, options: Options) -> None:
        self.name, self.options = name, options
        self.backend: Backend = get_backend(options.backend)
        self.groups: list[dict[str, Any]] = []
        self.tables: list[dict[str, Any]] = []
        self.targets: list[dict[str, Any]] = []

    def measure(
        self,
        table: str,
        column: str,
        alternatives: Sequence[Alternative],
        *,
        per: str,
        seconds: float,
        reference: str | None = None,
        setting: dict[str, Any] | None = None,
        left_out: dict[str, str] | None = None,
    ) -> dict[str, float]:
        """Time alternatives against each other and record them as one column of a table.

        Parameters
        ----------
        table, column : str
            Where the figures go; columns of one table share a title.
        alternatives : sequence of Alternative
        per : str
            The unit of work.
        seconds : float
            About how long the rounds may take together.
        reference : str, optional
            The alternative that the others' speed-up is stated against.
        setting : dict, optional
            Shapes and parameters.
        left_out : dict, optional
            Alternatives that could not run, and why.

        Returns
        -------
        dict
            Median seconds per unit.
        """
        times = _interleave(alternatives, seconds, self.options.quick, self.backend)
        rows = [_row(alternative, times[alternative.name]) for alternative in alternatives]
        self.groups.append(
            {
                "table": table,
                "column": column,
                "per": per,
                "reference": reference,
                "setting": setting or {},
                "rows": rows,
                "left_out": [{"name": name, "reason": reason} for name, reason in (left_out or {}).items()],
            }
        )
        self._keep()
        return {row["name"]: row["seconds"]["median"] for row in rows}

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> None:
        """Record a table of values that are not alternative timings."""
        self.tables.append({"title": title, "columns": list(columns), "rows": [list(r) for r in rows], "note": note})
        self._keep()

    def target(self, what: str, measured: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """Record a stated target beside what was measured."""
        if (at_least is None) == (at_most is None):
            raise ValueError("a target has either a lower or an upper bound")
        met = measured >= at_least if at_least is not None else measured <= at_most  # type: ignore[operator]
        self.targets.append(
            {"what": what, "at_least": at_least, "at_most": at_most, "measured": float(measured), "met": bool(met)}
        )

    def _keep(self) -> None:
        if self.options.results is not None:
            write(self.document(), self.options.results, partial=True)

    def document(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "benchmark": self.name,
            "question": (QUESTIONS | STUDIES)[self.name],
            "quick": self.options.quick,
            "seed": self.options.seed,
            "environment": environment(self.backend),
            "groups": self.groups,
            "tables": self.tables,
            "targets": self.targets,
        }


def _interleave(alternatives: Sequence[Alternative], seconds: float, quick: bool, backend: Backend) -> dict[str, list[float]]:
    """Call the alternatives in turn, as often as the time allows."""
    once = {a.name: _timed(a.call, backend) for a in alternatives}  # compiles and plans
    if quick:
        rounds = 1
    else:
        # the first call may have compiled: a quick one is timed again
        once = {a.name: _timed(a.call, backend) if once[a.name] < 1.0 else once[a.name] for a in alternatives}
        rounds = int(np.clip(seconds / max(sum(once.values()), 1e-9), *_ROUNDS))
    times: dict[str, list[float]] = {a.name: [] for a in alternatives}
    for _ in range(rounds):
        for alternative in alternatives:
            times[alternative.name].append(_timed(alternative.call, backend))
    return times


def _timed(call: Callable[[], Any], backend: Backend) -> float:
    _synchronize(backend)
    started = time.perf_counter()
    call()
    _synchronize(backend)
    return time.perf_counter() - started


def _synchronize(backend: Backend) -> None:
    """Wait for the device, torch's stream included."""
    if backend.name == "cupy":
        backend.xp.cuda.runtime.deviceSynchronize()


def _row(alternative: Alternative, times: list[float]) -> dict[str, Any]:
    scale = alternative.of / alternative.evaluated / alternative.units
    lower, median, upper = (float(q) * scale for q in np.percentile(times, (25, 50, 75)))
    share = None
    if alternative.evaluated != alternative.of:
        share = {"evaluated": alternative.evaluated, "of": alternative.of}
    return {
        "name": alternative.name,
        "seconds": {
            "min": min(times) * scale,
            "lower": lower,
            "median": median,
            "upper": upper,
            "rounds": len(times),
        },
        "sampled": share,
        "note": alternative.note,
    }


def environment(backend: Backend) -> dict[str, Any]:
    """Where and with what this was measured."""
    device = {k: v for k, v in device_facts(backend).items() if not k.startswith("free")}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "revision": revision(),
        "device": device,
        "threads": threads(),
        "versions": loaded_versions(),
    }


@functools.cache
def revision() -> str | None:
    """The checkout's revision, with ``+`` where files differ from it; None outside a repository."""
    folder = Path(__file__).parent
    found = []
    for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--untracked-files=no")):
        try:
            done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        found.append(done.stdout.strip())
    return found[0] + ("+" if found[1] else "")


# -- the file ---------------------------------------------------------------------------------------------------------


def check_document(document: dict[str, Any]) -> None:
    """Raise ValueError unless ``document`` is what :meth:`Report.document` makes."""
    expected: dict[str, type] = {
        "benchmark": str,
        "question": str,
        "quick": bool,
        "seed": int,
        "environment": dict,
        "groups": list,
        "tables": list,
        "targets": list,
    }
    for key, kind in expected.items():
        if not isinstance(document.get(key), kind):
            raise ValueError(f"{key!r} must be a {kind.__name__}, got {document.get(key)!r}")
    for group in document["groups"]:
        names = [row["name"] for row in group["rows"]]
        if len(set(names)) != len(names):
            raise ValueError(f"two alternatives share a name in {group['table']!r}, {group['column']!r}")
        if group["reference"] is not None and group["reference"] not in names:
            raise ValueError(f"the reference {group['reference']!r} is none of {names}")
        for row in group["rows"]:
            s = row["seconds"]
            if not 0 < s["min"] <= s["lower"] <= s["median"] <= s["upper"] or s["rounds"] < 1:
                raise ValueError(f"the seconds of {row['name']!r} are not in order: {s}")
    for table in document["tables"]:
        if any(len(row) != len(table["columns"]) for row in table["rows"]):
            raise ValueError(f"a row of {table['title']!r} does not have {len(table['columns'])} entries")
    for target in document["targets"]:
        if not math.isfinite(target["measured"]) or target["met"] not in (True, False):
            raise ValueError(f"the target {target['what']!r} has no measured value")


def write(document: dict[str, Any], folder: Path, *, partial: bool = False) -> Path:
    """Check a document and write it to ``folder``; return the file.

    That of a ``partial`` run has a name of its own, and goes when the whole is written.
    """
    check_document(document)
    folder.mkdir(parents=True, exist_ok=True)
    begun, whole = (folder / f"{document['benchmark']}{ending}" for ending in (".partial.json", ".json"))
    path = begun if partial else whole
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if not partial:
        begun.unlink(missing_ok=True)
    return path


def switches(prog: str, description: str) -> argparse.ArgumentParser:
    """Return a parser of the switches that all benchmarks share."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--quick", action="store_true", help="small shapes, one round: does it run?")
    parser.add_argument("--results", type=Path, help="folder of the JSON files (a quick run writes none by default)")
    parser.add_argument("--backend", choices=("numpy", "cupy"), default="numpy")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(name: str, run: Callable[[Options], Report], argv: Sequence[str] | None = None) -> None:
    """Run one benchmark from the command line: measure, write its JSON file, print its tables."""
    from ._tables import plain

    arguments = switches(f"python -m benchmarks.bench_{name}", QUESTIONS[name]).parse_args(argv)
    results = arguments.results or (None if arguments.quick else RESULTS)
    options = Options(arguments.quick, results, arguments.backend, arguments.seed)
    started = time.perf_counter()
    document = run(options).document()
    check_document(document)
    print(plain(document))
    if results is not None:
        path = write(document, results)
        print(f"{name}: {time.perf_counter() - started:.0f} s, written to {path.name}", file=sys.stderr)
