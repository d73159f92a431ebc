"""Peak memory of every method within a stated budget, each in a process of its own.

The process loads everything and runs the method once on a tiny field (compilation, libraries), notes its resident memory,
resets the high-water mark that Linux keeps (VmHWM; elsewhere ``ru_maxrss`` serves), and runs the method.  What it peaks at
beyond what it held before and the result that it returns is held against the budget.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fluogan_core as fg

from ._cases import FACTOR, Case, make_case
from ._harness import Options, Report, main

MIB = 2**20
#: What is measured -> (camera pixels per side, frames).
METHODS = {
    "ForwardModel.sample": (64, 400),
    "Psi.forward": (64, 400),
    "Psi.adjoint": (64, 400),
    "critic_differences, exact": (64, 16),
    "critic_differences, exact, any module": (32, 2),
    "linear": (64, 200),
    "photon": (64, 16),
    "coupled": (32, 8),
    "corrected": (64, 32),
    "direct": (8, 4),
}


def run(options: Options) -> Report:
    """Measure everything."""
    report = Report("memory", options)
    if options.backend != "numpy":
        raise ValueError("host memory is what is measured here: run it with --backend numpy")
    budgets = options.pick((64, 512), (64,))
    names = options.pick(tuple(METHODS), ("linear",))
    rows: list[list[Any]] = []
    worst = dict.fromkeys(budgets, 0.0)
    for name in names:
        size, frames = options.pick(METHODS[name], (8, 4))
        for found in _in_process(name, size, frames, budgets, options.seed):
            used = max(0.0, found["peak"] - found["before"] - found["result"])
            share = used / (found["budget"] * MIB)
            worst[found["budget"]] = max(worst[found["budget"]], share)
            megabytes = (used / MIB, found["result"] / MIB, found["before"] / MIB)
            rows.append([name, f"{frames} x {size}x{size}", found["budget"], *megabytes, share])
    report.table(
        "Peak memory, MiB",
        ["method", "frames", "budget", "taken beyond the result", "result", "held before", "share of the budget"],
        rows,
        "Held before: Python, torch, Numba, the compiled kernels, and the method's input.",
    )
    for budget, share in worst.items():
        report.target(f"memory of the hungriest method, in units of its budget of {budget} MiB", share, at_most=1.0)
    return report


def _in_process(name: str, size: int, frames: int, budgets: Sequence[int], seed: int) -> list[dict[str, Any]]:
    """Measure one method in a fresh process, budgets in rising order."""
    words = [name, str(size), str(frames), str(seed), *map(str, sorted(budgets))]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_memory", "--child", *words],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"measuring {name!r} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def _child(words: Sequence[str]) -> None:
    """What the fresh process does; prints a list of figures in bytes."""
    name, size, frames, seed, *budgets = words
    _prepared(name, 8, 2, int(seed), 64)()
    found = []
    before = None
    for budget in map(int, budgets):
        call = _prepared(name, int(size), int(frames), int(seed), budget)
        _reset_peak()
        before = _status("VmRSS") if before is None else before
        result = call()
        peak = _status("VmHWM")
        found.append({"budget": budget, "before": before, "peak": peak, "result": result})
    print(json.dumps(found))


def _prepared(name: str, size: int, frames: int, seed: int, budget: int) -> Callable[[], int]:
    """Return a function that runs the method and returns the bytes of its result."""
    case: Case = make_case(size, 20.0, "early", "numpy", memory_budget=budget * MIB)
    model, psi = case.model, case.model.psi
    critic: torch.nn.Module = fg.Critic(psi.shape, input_mean=10.0, input_std=4.0, seed=seed)
    if name == "ForwardModel.sample":
        return lambda: model.sample(case.x, case.b, frames, seed).nbytes
    generator = np.random.default_rng(seed)
    if name in ("Psi.forward", "Psi.adjoint"):
        direction = name.removeprefix("Psi.")
        scale = FACTOR if direction == "forward" else 1
        stack = generator.random((frames, size * scale, size * scale), dtype=np.float32)
        operator = fg.Psi(psi.psf, psi.shape, FACTOR, method="convolutions", backend="numpy", memory_budget=budget * MIB)
        return lambda: getattr(operator, direction)(stack).nbytes
    if name.startswith("critic_differences"):
        y = model.sample(case.x, case.b, frames, seed)
        if name.endswith("any module"):
            critic = torch.nn.Sequential(critic)  # no kernel knows it
        return lambda: fg.critic_differences(critic, y, 1.0, memory_budget=budget * MIB).nbytes

    def gradient() -> int:
        made = fg.critic_gradient(critic, model, case.x, case.b, frames, seed, name, memory_budget=budget * MIB)
        return sum(image.nbytes for image in made)

    return gradient


def _reset_peak() -> None:
    """Make Linux forget the high-water mark; elsewhere the mark of the whole process remains."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _status(field: str) -> int:
    """Bytes from /proc/self/status, or the process's peak where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--child", nargs="+")
    child, rest = parser.parse_known_args()
    if child.child:
        _child(child.child)
    else:
        main("memory", run, rest)
