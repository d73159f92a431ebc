"""How many small changes of the code the tests notice: ``python -m benchmarks.faults.mutants [--only FILE] [--again]``.

With ``--only`` the rows of these modules are replaced.  With ``--again`` only what survived before is tried, and the rest is
taken over: for tests that have been added since.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import STUDIES
from .._harness import Options, Report
from .._study import places, publish, study_switches
from ._survivors import EXPLAINED

ROOT = Path(__file__).parents[2]
SAMPLE, SEED = 60, 2026
#: Modules, and the tests that are to notice: what pytest is given.
MODULES = {
    "fluogan_core/objective/prox.py": ("tests/objective/test_prox.py", "-k", "not cuda and not cupy"),
    "fluogan_core/physics/windows.py": (
        "tests/physics/test_windows.py",
        "tests/physics/test_covariance.py",
        "fluogan_core/physics/windows.py",
        "--doctest-modules",
        "-k",
        "windows",
    ),
    "fluogan_core/objective/steps.py": (
        "tests/objective/test_steps.py",
        "fluogan_core/objective/steps.py",
        "--doctest-modules",
    ),
    "fluogan_core/solvers/shares.py": (
        "tests/solvers/test_shares.py",
        "fluogan_core/solvers/shares.py",
        "--doctest-modules",
        "-k",
        "falls or averaged or multiply or share_of_fit",
    ),
    "fluogan_core/calibration/digits.py": (
        "tests/calibration/test_digits.py",
        "fluogan_core/calibration/digits.py",
        "--doctest-modules",
    ),
    "fluogan_core/scale/sizes.py": ("tests/scale/test_sizes.py", "fluogan_core/scale/sizes.py", "--doctest-modules"),
    "fluogan_core/objective/bending.py": ("tests/objective/test_bending.py",),
    "fluogan_core/calibration/noise.py": ("tests/calibration/test_noise.py",),
    "fluogan_core/solvers/useful_iterations.py": (
        "tests/solvers/test_useful_iterations.py",
        "fluogan_core/solvers/useful_iterations.py",
        "--doctest-modules",
        "-k",
        "not wrong_operator and not camera_hung",
    ),
    "fluogan_core/scale/pace.py": ("tests/scale/test_pace.py",),
    "fluogan_core/critics/quadratic.py": (
        "tests/critics/test_quadratic.py",
        "fluogan_core/critics/quadratic.py",
        "--doctest-modules",
    ),
    "fluogan_core/solvers/mean_fit.py": (
        "tests/solvers/test_mean_phase.py",
        "tests/solvers/test_mean_fit.py",
        "-k",
        "not turned",
    ),
}
COLUMNS = ("module", "tests", "possible", "tried", "noticed before", "noticed now", "explained")
#: Within a cell of a table.
BAR = "\\|"
TITLE, SURVIVORS = "Changes tried", "What survives"


def tried(module: str, sample: int, again: list[str] | None) -> dict[str, Any]:
    """What the script of the tests writes."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        found, only = Path(place) / "found.json", Path(place) / "again.json"
        words = [sys.executable, "tests/mutants.py", "--sample", str(sample), "--seed", str(SEED), "--json", str(found)]
        if again is not None:
            only.write_text(json.dumps(again))
            words += ["--again", str(only)]
        done = subprocess.run([*words, module, *MODULES[module]], cwd=ROOT, check=False)
        if not found.exists():
            raise RuntimeError(f"{module}: tests/mutants.py ended with status {done.returncode}")
        return dict(json.loads(found.read_text()))


def reason_for(module: str, change: str) -> str:
    """Why a change is no fault, if that is known."""
    return next((why for why, changes in EXPLAINED.get(module, {}).items() if change in changes), "")


def kept(results: Path) -> tuple[dict[str, list[Any]], dict[str, list[str]]]:
    """Rows of former runs, and the changes that survived, by module."""
    path = results / "mutants.json"
    if not path.exists():
        return {}, {}
    first, second = (table["rows"] for table in json.loads(path.read_text(encoding="utf-8"))["tables"])
    survived: dict[str, list[str]] = {str(row[0]).strip("`"): [] for row in first}
    for module, change, _why in second:
        survived[module.strip("`")].append(change.strip("`").replace(BAR, "|"))
    return {str(row[0]).strip("`"): row for row in first}, survived


def run(options: Options, modules: Sequence[str], again: bool) -> Report:
    """Try all of these."""
    assert options.results is not None
    report = Report("mutants", options)
    rows, survived = kept(options.results)
    for module in modules:
        former = rows.get(module)
        found = tried(module, options.pick(SAMPLE, 2), survived.get(module) if again else None)
        survived[module] = [change["change"] for change in found["tried"] if not change["noticed"]]
        count = former[3] if again and former else len(found["tried"])
        noticed = count - len(survived[module])
        before = former[4] if former and former[3] == count else noticed
        rows[module] = [f"`{module}`", f"`{' '.join(MODULES[module])}`", found["changes"], count, before, noticed, 0]
    for module, row in rows.items():
        row[6] = sum(bool(reason_for(module, change)) for change in survived[module])
    shown = [module for module in MODULES if module in rows]
    note = f"Of each module at most {SAMPLE} changes, drawn with the seed {SEED}."
    report.table(TITLE, COLUMNS, [rows[module] for module in shown], note)
    left = [
        [f"`{module}`", f"`{change.replace('|', BAR)}`", reason_for(module, change)]
        for module in shown
        for change in survived[module]
    ]
    report.table(SURVIVORS, ("module", "change", "why it is no fault"), left)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = study_switches("benchmarks.faults.mutants", "mutants")
    parser.description = STUDIES["mutants"]
    parser.add_argument("--only", nargs="+", choices=tuple(MODULES), metavar="FILE", help="some of the modules")
    parser.add_argument("--again", action="store_true", help="only what survived before")
    arguments = parser.parse_args(argv)
    results, docs = places(parser, arguments, "mutants")
    report = run(Options(arguments.quick, results, seed=SEED), arguments.only or list(MODULES), arguments.again)
    publish(report.document(), results, docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
