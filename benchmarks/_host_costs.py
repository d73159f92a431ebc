"""What the host pays for a call, and where an epoch's time goes: ``python -m benchmarks._host_costs FILE --backend cupy``.

Microseconds per call of small array functions and of a kernel, queued without a wait, with the memory pool of the array module
and then with torch's; then the table of torch's profiler for one epoch of the network.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

import fluogan_core as fg
from fluogan_core import Backend
from fluogan_core.backend import dlpack
from fluogan_core.io.provenance import device_facts
from fluogan_core.solvers.network_fit import NetworkPhase

from ._cases import make_psi

__all__ = ["epoch", "host_costs", "main"]


def _calls(backend: Backend) -> dict[str, Callable[[], Any]]:
    xp = backend.xp
    a, b = (xp.ones((32, 32), dtype=np.float32) for _ in range(2))
    calls: dict[str, Callable[[], Any]] = {
        "a + b": lambda: a + b,
        "add to out": lambda: xp.add(a, b, out=b),
        "a @ b": lambda: a @ b,
        "a.sum()": a.sum,
        "empty": lambda: xp.empty((32, 32), dtype=np.float32),
        "copy of a small host array": lambda: xp.asarray(np.ones(8, np.float32)),
        "float(a.sum())": lambda: float(a.sum()),
    }
    if (kernel := backend.kernel("mean_slope")) is not None:
        calls["a kernel of the library"] = lambda: kernel(a, a, a, a, a, a)
    return calls


def host_costs(backend: Backend, calls: int) -> dict[str, float]:
    """Return microseconds per call, by what is called; the first one is not counted."""
    found = {}
    for name, call in _calls(backend).items():
        call()
        backend.synchronize()
        started = time.perf_counter()
        for _ in range(calls):
            call()
        found[name] = 1e6 * (time.perf_counter() - started) / calls
        backend.synchronize()
    return found


def epoch(backend: Backend, *, quick: bool) -> str:
    """Return the profiler's table of one step of the network phase."""
    size = 8 if quick else 32
    psi = make_psi(size, 20.0, backend)
    x, b = np.full(psi.fine_shape, 0.01, np.float32), np.full(psi.shape, 2.0, np.float32)
    stack = fg.ForwardModel(psi, noise_std=1.0).sample(backend.asarray(x), backend.asarray(b), 60, seed=1)
    small = {"channels": 4, "depth": 2, "batch": 4, "gradient_frames": 4} if quick else {"batch": 200, "gradient_frames": 200}
    options = fg.SolverOptions("corrected", steps=3, warm_steps=3, critic_steps=5, **small)
    activities = [
        ProfilerActivity.CPU,
        *([ProfilerActivity.CUDA] if backend.name == "cupy" and torch.cuda.is_available() else []),
    ]
    tables, inner = [], NetworkPhase.step

    def profiled(phase: NetworkPhase) -> dict[str, float]:
        if phase.taken < 2:  # caches fill in the first ones
            return inner(phase)
        with profile(activities=activities) as found:
            record = inner(phase)
            backend.synchronize()
        order = "cuda_time_total" if len(activities) > 1 else "cpu_time_total"
        tables.append(found.key_averages().table(sort_by=order, row_limit=40))
        return record

    NetworkPhase.step = profiled  # type: ignore[method-assign]
    try:
        fg.reconstruct(stack, psi=psi, camera=fg.Camera(noise_std=1.0), options=options)
    finally:
        NetworkPhase.step = inner  # type: ignore[method-assign]
    return str(tables[0])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._host_costs", description=__doc__)
    parser.add_argument("file", type=Path, help="JSON file to write")
    parser.add_argument("--backend", choices=("numpy", "cupy"), default="numpy")
    parser.add_argument("--quick", action="store_true", help="small sizes, few calls: does it run?")
    arguments = parser.parse_args(argv)
    backend, calls = fg.get_backend(arguments.backend), 10 if arguments.quick else 2000
    document: dict[str, Any] = {"device": device_facts(backend), "microseconds": {"own pool": host_costs(backend, calls)}}
    if backend.name == "cupy":
        with dlpack.on_torch_stream(backend):
            document["microseconds"]["torch's pool"] = host_costs(backend, calls)
    arguments.file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for pool, costs in document["microseconds"].items():
        for name, taken in costs.items():
            print(f"{pool:14} {name:28} {taken:8.2f} us per call")
    document["epoch"] = epoch(backend, quick=arguments.quick)
    arguments.file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(document["epoch"])


if __name__ == "__main__":
    main()
