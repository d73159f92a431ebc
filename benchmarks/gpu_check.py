"""Everything that needs a card, in one go: ``python -m benchmarks.gpu_check FOLDER`` from the checkout.

Figures of the kernels against ceilings measured in the same run, tests marked gpu, compute-sanitizer on small cases, and the
benchmarks, each in a process of its own and with time kept for it.  No network, nothing to install: a CUDA image that has
cupy, torch, numba, scipy and pytest is enough, and the package is used as it lies here.  Results go to FOLDER as JSON;
``summary.json`` says what ran, what failed and what was left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Outcome", "Step", "environment_of", "main", "overlay", "steps", "tests_outcome"]

ROOT = Path(__file__).resolve().parents[1]

#: Seconds that all steps together may take.
TOTAL = 460.0

_FACTS = "import json; from fluogan_core.io.provenance import collect; print(json.dumps(collect(), indent=1, default=str))"


@dataclass(frozen=True)
class Step:
    """One process.

    Attributes
    ----------
    name : str
    command : sequence of str
    seconds : float
        What is kept for it, whatever the steps before it take; time that they leave is its own too.
    needs : str, optional
        A program that must be there; the step is left out without it.
    writes : tuple of Path
        Its files: those of an earlier run are removed before it starts.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    needs: str | None = None
    writes: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a step: ``"passed"``, ``"failed"``, ``"timed out"`` or ``"left out"``, and why."""

    name: str
    outcome: str
    seconds: float
    reason: str = ""


@contextlib.contextmanager
def overlay() -> Iterator[Path]:
    """A folder to put on the path, in which ``fluogan_core.kernels`` is found although nothing is installed.

    In the checkout ``kernels/`` lies beside the package, not in it; here both are links.  Nothing in the checkout is touched.
    """
    with tempfile.TemporaryDirectory(prefix="fluogan-core-") as folder:
        package = Path(folder) / "fluogan_core"
        package.mkdir()
        for entry in (ROOT / "fluogan_core").iterdir():
            if entry.name != "__pycache__":
                (package / entry.name).symlink_to(entry)
        (package / "kernels").symlink_to(ROOT / "kernels")
        yield Path(folder)


def steps(results: Path) -> list[Step]:
    """Return all steps, the most telling ones first; together they keep no more than ``TOTAL``."""
    python = sys.executable
    sanitizer = shutil.which("compute-sanitizer", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/cuda/bin")))
    small = (python, "-m", "benchmarks._small_kernels")
    pytest = (python, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "--continue-on-collection-errors", "-q")
    kernels, report = results / "kernels.json", results / "tests.xml"
    figures = (python, "-m", "benchmarks._kernel_figures", str(kernels), "--backend", "cupy")

    def benchmark(name: str, seconds: float) -> Step:
        command = (python, "-m", f"benchmarks.bench_{name}", "--backend", "cupy", "--results", str(results))
        return Step(name, command, seconds, writes=(results / f"{name}.json", results / f"{name}.partial.json"))

    def sanitized(tool: str, *options: str) -> Step:
        command = (sanitizer or "compute-sanitizer", f"--tool={tool}", "--error-exitcode=9", *options, *small)
        return Step(tool, command, 40, needs="compute-sanitizer" if sanitizer is None else None)

    return [
        Step("device", (python, "-c", _FACTS), 40),
        Step("kernels", figures, 40, writes=(kernels,)),
        benchmark("differences", 100),
        Step("tests", (*pytest, f"--junitxml={report}"), 110, writes=(report,)),
        # a call that CuPy makes, sees refused and copes with is no error of a kernel
        sanitized("memcheck", "--report-api-errors=no"),
        sanitized("racecheck"),
        *(benchmark(name, 30) for name in ("sampling", "psi", "solver")),
    ]


def limit_of(listed: Sequence[Step], number: int, left: float) -> float:
    """Return the seconds that a step may take when ``left`` are left: all that is not kept for those after it."""
    return left - sum(step.seconds for step in listed[number + 1 :] if step.needs is None)


def _run(step: Step, environment: dict[str, str], results: Path, seconds: float) -> Outcome:
    """Run one step; its output goes to a file and, at the end, to the screen."""
    for path in step.writes:
        path.unlink(missing_ok=True)
    if step.needs is not None:
        return Outcome(step.name, "left out", 0.0, f"there is no {step.needs} here")
    if seconds < 1:
        return Outcome(step.name, "left out", 0.0, "the time was spent")
    started = time.perf_counter()
    log = results / f"{step.name}.log"
    with log.open("w", encoding="utf-8") as out:
        try:
            done = subprocess.run(
                step.command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return Outcome(step.name, "timed out", time.perf_counter() - started, f"after {seconds:.0f} s, see {log.name}")
    taken = time.perf_counter() - started
    if step.name == "tests":
        return tests_outcome(results / "tests.xml", done.returncode, taken)
    if done.returncode:
        return Outcome(step.name, "failed", taken, f"status {done.returncode}, see {log.name}")
    return Outcome(step.name, "passed", taken)


def tests_outcome(report: Path, status: int, seconds: float) -> Outcome:
    """Read pytest's JUnit report, which counts only if pytest came to its end: status 0, or 1 for tests that failed.

    A file of tests that does not import for want of a package (of those for files and commands, which a CUDA image lacks) holds
    nothing that needs a card: it is named, and counts as left out.
    """
    if status not in (0, 1) or not report.exists():
        return Outcome("tests", "failed", seconds, f"status {status}, see tests.log")
    passed, bad, left_out = 0, [], []
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        trouble = [*case.iter("failure"), *case.iter("error")]
        if not trouble:
            passed += not list(case.iter("skipped"))
        elif "ModuleNotFoundError: No module named" in "".join(trouble[0].itertext()):
            left_out.append(case.get("name", ""))
        else:
            bad.append(f"{case.get('classname', '')}::{case.get('name', '')}")
    reason = f"{passed} passed, {len(bad)} failed"
    if bad:
        reason += ": " + ", ".join(bad[:5])
    if left_out:
        reason += "; not imported: " + ", ".join(left_out)
    if bool(status) != bool(bad or left_out):  # whatever pytest complains of, it is not in the report
        return Outcome("tests", "failed", seconds, f"status {status}, see tests.log; {reason}")
    return Outcome("tests", "passed" if passed and not bad else "failed", seconds, reason)


def environment_of(folder: Path) -> dict[str, str]:
    """The environment of a process that finds the package in ``folder`` (see :func:`overlay`) and not in the working folder."""
    return os.environ | {"PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))), "PYTHONSAFEPATH": "1"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run all steps; return 0 if none failed, 1 if some did, 2 if there is no card."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__.split("\n\n")[0])
    parser.add_argument("results", type=Path, help="folder for the JSON files and logs; made if it is not there")
    parser.add_argument("--seconds", type=float, default=TOTAL, help="for all steps together (default %(default)g)")
    arguments = parser.parse_args(argv)
    from fluogan_core.backend.arrays import why_no_gpu

    if reason := why_no_gpu():
        print(f"gpu-check: nothing was checked: {reason}", file=sys.stderr)
        return 2
    results = arguments.results.resolve()
    results.mkdir(parents=True, exist_ok=True)
    deadline = time.perf_counter() + arguments.seconds
    outcomes = []
    with overlay() as folder:
        listed = steps(results)
        for number, step in enumerate(listed):
            allowed = limit_of(listed, number, deadline - time.perf_counter())
            outcome = _run(step, environment_of(folder), results, allowed)
            outcomes.append(outcome)
            print(f"{outcome.name:12} {outcome.outcome:10} {outcome.seconds:6.1f} s  {outcome.reason}", flush=True)
            if step.name in ("device", "tests", "kernels") and (results / f"{step.name}.log").exists():
                print((results / f"{step.name}.log").read_text(encoding="utf-8"), flush=True)
    summary = json.dumps([asdict(outcome) for outcome in outcomes], indent=1)
    (results / "summary.json").write_text(summary + "\n", encoding="utf-8")
    return int(any(outcome.outcome in ("failed", "timed out") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
