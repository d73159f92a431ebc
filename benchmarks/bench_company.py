"""What becomes of calls when other processes take every core.

Every call is timed again and again, first with the machine as it is, then beside one process for each core that only computes.
A fair scheduler leaves half of a core to each, so that twice the time is what to expect.  More is a stall: threads that wait
for one another, and for the slowest.  The machine must have nothing else to do.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

import fluogan_core as fg

from ._cases import FACTOR, make_case
from ._harness import Options, Report, main

#: Largest 95th percentile, in units of the median beside others, and largest time of a whole run, in units of that alone.
TAIL, WHOLE = 3.0, 3.0


def calls(options: Options) -> dict[str, tuple[Callable[[], object], int]]:
    """What is timed, and how often."""
    size = options.pick(64, 16)
    case = make_case(size, 20.0, "early", "numpy")
    model, psi = case.model, case.model.psi
    y = psi.forward(case.x)
    critic = fg.Critic(psi.shape, input_mean=10.0, input_std=4.0, seed=options.seed)
    frames = model.sample(case.x, case.b, 2, options.seed)
    stack = model.sample(case.x, case.b, options.pick(200, 40), options.seed)
    small = np.ascontiguousarray(stack[:, : min(size, 32), : min(size, 32)])
    field = fg.Psi(psi.psf, small.shape[1:], FACTOR, photons_per_emitter=20.0, backend="numpy")
    steps = options.pick(fg.SolverOptions(), fg.SolverOptions(warm_steps=5, steps=1))
    often = options.pick(400, 3)
    return {
        "Psi.forward": (lambda: psi.forward(case.x), often),
        "Psi.adjoint": (lambda: psi.adjoint(y), often),
        "ForwardModel.sample, 8 frames": (lambda: model.sample(case.x, case.b, 8, options.seed), options.pick(100, 3)),
        "critic_differences, 2 frames": (lambda: fg.critic_differences(critic, frames, 1.0), options.pick(40, 2)),
        "reconstruct": (
            lambda: fg.reconstruct(small, psi=field, camera=fg.Camera(), options=steps, progress=False),
            options.pick(5, 1),
        ),
    }


@contextlib.contextmanager
def company(processes: int) -> Iterator[None]:
    """Keep so many processes computing meanwhile."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        time.sleep(0.5)  # until they compute
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def _timed(call: Callable[[], object], often: int) -> np.ndarray:
    """Seconds of each call."""
    found = np.empty(often)
    for number in range(often):
        started = time.perf_counter()
        call()
        found[number] = time.perf_counter() - started
    return found


def run(options: Options) -> Report:
    """Time all calls alone and in company."""
    report = Report("company", options)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = calls(options)
    for call, _ in asked.values():
        call()  # compiles, plans and warms caches
    alone = {name: _timed(*each) for name, each in asked.items()}
    with company(cores):
        beside = {name: _timed(*each) for name, each in asked.items()}
    rows, tails, whole = [], [], 0.0
    for name in asked:
        (quiet, quiet_tail), (busy, busy_tail) = (np.percentile(times[name], (50, 95)) for times in (alone, beside))
        rows.append([name, 1e3 * quiet, quiet_tail / quiet, 1e3 * busy, busy_tail / busy, busy / quiet])
        tails.append(busy_tail / busy)
        whole = busy / quiet
    report.table(
        f"Times of calls alone and beside {cores} processes that compute, on {cores} cores",
        [
            "call",
            "alone, ms",
            "its 95th percentile / median",
            "in company, ms",
            "its 95th percentile / median",
            "in company / alone",
        ],
        rows,
        f"Camera fields of {options.pick(64, 16)} pixels a side; reconstruct: the default method on 32 of them at most.",
    )
    report.target("95th percentile in company over the median there, of the call with the largest", max(tails), at_most=TAIL)
    report.target("a whole reconstruction in company over one alone", whole, at_most=WHOLE)
    return report


if __name__ == "__main__":
    main("company", run)
