"""Everything that needs a card, in one go: ``python -m benchmarks.gpu_check FOLDER`` from the checkout.

Every kernel compiled, every public path once, tests marked gpu, compute-sanitizer on small cases, the goals at their sizes,
Nsight Compute on two kernels, what the host pays for a call, and the benchmarks: each in a process of its own and with time
kept for it.  No network, nothing to install: a CUDA image that has cupy, torch, numba, scipy and pytest is enough, and the
package is used as it lies here.  Two files go to FOLDER, both written anew after every step: ``summary.json`` says what ran,
what failed and what was left out, and ``gpu_check.zip`` holds the figures and the outputs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

__all__ = ["Outcome", "Step", "environment_of", "keep", "main", "overlay", "steps", "tests_outcome"]

ROOT = Path(__file__).resolve().parents[1]

#: Seconds that all steps together may take.
TOTAL = 470.0

#: Steps whose output is shown as well as kept.
SHOWN = frozenset({"device", "smoke", "tests", "goals", "figures"})

#: Seconds that processes have for their end when they are asked for it, before they are killed.
_GRACE = 2.0

_COMPILE = (
    "import fluogan_core as fg; from fluogan_core.kernels import cuda; device = fg.get_backend('cupy').cuda\n"
    "for name, macros in cuda.programs(): device.module(name, **macros).compile(); print(name, macros, flush=True)"
)
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
    excuse : str
        A pattern of its output with which a failure counts as left out: what the machine does not allow.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    needs: str | None = None
    excuse: str = ""


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
    """Return all steps, those first that others build on; together they keep no more than ``TOTAL``."""
    python = sys.executable
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/cuda/bin"))
    sanitizer, ncu = shutil.which("compute-sanitizer", path=path), shutil.which("ncu", path=path)
    small = (python, "-m", "benchmarks._small_kernels")
    pytest = (python, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "--continue-on-collection-errors", "-q")

    def module(name: str, seconds: float, file: str) -> Step:
        command = (python, "-m", f"benchmarks._{name}", str(results / file), "--backend", "cupy")
        return Step(name.removeprefix("kernel_"), command, seconds)

    def benchmark(name: str, seconds: float) -> Step:
        command = (python, "-m", f"benchmarks.bench_{name}", "--backend", "cupy", "--results", str(results))
        return Step(name, command, seconds)

    def sanitized(tool: str, *options: str) -> Step:
        command = (sanitizer or "compute-sanitizer", f"--tool={tool}", "--error-exitcode=9", *options, *small)
        return Step(tool, command, 35, needs="compute-sanitizer" if sanitizer is None else None)

    def profiled(kernel: str) -> Step:
        sections = ("SpeedOfLight", "Occupancy", "SchedulerStats", "WarpStateStats", "MemoryWorkloadAnalysis", "LaunchStats")
        chosen = ("--kernel-name", f"regex:^{kernel}$", "--launch-count", "1", *(f"--section={name}" for name in sections))
        goal = (python, "-m", "benchmarks._goals", os.devnull, "--backend", "cupy", "--once", "--only", "single photons")
        needs = "ncu" if ncu is None else None
        # counters are the administrator's on many machines
        return Step(f"ncu_{kernel}", (ncu or "ncu", *chosen, *goal), 25, needs=needs, excuse="ERR_NVGPUCTRPERM")

    report = results / "tests.xml"
    return [
        Step("device", (python, "-c", _FACTS), 20),
        Step("compile", (python, "-c", _COMPILE), 30),
        module("smoke", 60, "smoke.jsonl"),
        Step("tests", (*pytest, f"--junitxml={report}"), 75),
        # a call that CuPy makes, sees refused and copes with is no error of a kernel
        sanitized("memcheck", "--report-api-errors=no"),
        module("goals", 45, "goals.json"),
        module("kernel_figures", 25, "kernels.json"),
        profiled("score_changes"),
        profiled("forward_layer"),
        module("host_costs", 25, "host_costs.json"),
        sanitized("racecheck"),
        *(benchmark(name, seconds) for name, seconds in (("differences", 30), ("sampling", 10), ("psi", 10), ("solver", 10))),
    ]


def limit_of(listed: Sequence[Step], number: int, left: float) -> float:
    """Return the seconds that a step may take when ``left`` are left: all that is not kept for those after it."""
    return left - sum(step.seconds for step in listed[number + 1 :] if step.needs is None)


def _run(step: Step, environment: dict[str, str], results: Path, seconds: float) -> Outcome:
    """Run one step; its output goes to a file and, at the end, to the screen."""
    if step.needs is not None:
        return Outcome(step.name, "left out", 0.0, f"there is no {step.needs} here")
    if seconds < 1:
        return Outcome(step.name, "left out", 0.0, "the time was spent")
    started = time.perf_counter()
    log = results / f"{step.name}.log"
    with log.open("w", encoding="utf-8") as out:
        status = _ended(step.command, environment, out, seconds)
    taken = time.perf_counter() - started
    if status is None:
        return Outcome(step.name, "timed out", taken, f"after {seconds:.0f} s, see {log.name}")
    if step.name == "tests":
        return tests_outcome(results / "tests.xml", status, taken)
    if not status:
        return Outcome(step.name, "passed", taken)
    if step.excuse and (excuse := re.search(step.excuse, log.read_text(encoding="utf-8", errors="replace"))):
        return Outcome(step.name, "left out", taken, f"{excuse[0]}, see {log.name}")
    return Outcome(step.name, "failed", taken, f"status {status}, see {log.name}")


def _ended(command: Sequence[str], environment: dict[str, str], out: IO[str], seconds: float) -> int | None:
    """Run a command; return its status, None if it and all that it started had to be ended when its time was up.

    A profiler or a sanitizer runs the program as a child of its own, which would go on and keep the card.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=out,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        # a status says nothing of what a command has left running
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
                if number == signal.SIGTERM:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=_GRACE)
        process.wait()


def keep(outcomes: Sequence[Outcome], parts: Path, results: Path) -> None:
    """Write ``summary.json`` and ``gpu_check.zip`` anew; a run that is ended from outside leaves those of its last step."""
    summary = json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n"
    (parts / "summary.json").write_text(summary, encoding="utf-8")
    archive = results / "gpu_check.zip"
    made = archive.with_suffix(".new")
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(parts.iterdir()):
            packed.write(path, path.name)
    made.replace(archive)
    shutil.copyfile(parts / "summary.json", results / "summary.json")


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
    parser.add_argument("results", type=Path, help="folder for the summary and the archive; made if it is not there")
    parser.add_argument("--seconds", type=float, default=TOTAL, help="for all steps together (default %(default)g)")
    arguments = parser.parse_args(argv)
    from fluogan_core.backend.arrays import why_no_gpu

    if reason := why_no_gpu():
        print(f"gpu-check: nothing was checked: {reason}", file=sys.stderr)
        return 2
    results = arguments.results.resolve()
    results.mkdir(parents=True, exist_ok=True)
    deadline = time.perf_counter() + arguments.seconds
    outcomes: list[Outcome] = []
    with overlay() as folder, tempfile.TemporaryDirectory(prefix="gpu-check-") as temporary:
        parts = Path(temporary)
        listed = steps(parts)
        for number, step in enumerate(listed):
            allowed = limit_of(listed, number, deadline - time.perf_counter())
            outcome = _run(step, environment_of(folder), parts, allowed)
            outcomes.append(outcome)
            keep(outcomes, parts, results)
            print(f"{outcome.name:20} {outcome.outcome:10} {outcome.seconds:6.1f} s  {outcome.reason}", flush=True)
            if step.name in SHOWN and (parts / f"{step.name}.log").exists():
                print((parts / f"{step.name}.log").read_text(encoding="utf-8", errors="replace"), flush=True)
    return int(any(outcome.outcome in ("failed", "timed out") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
