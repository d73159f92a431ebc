"""What the wrappers for torch, jax, pylops and SciPy add to the operator's own time.

CPU time of this process, not time on the clock: the two are called in turn, round after round, and the ratio of their medians
is reported.  Other processes on the machine then matter little.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

import fluogan_core as fg

from ._harness import Options, Report, main

#: Camera pixels per side; four fine pixels to each.
SIZES = (64, 256)
FACTOR = 4


def run(options: Options) -> Report:
    """Measure every wrapper whose host is installed."""
    report = Report("interop", options)
    if options.backend != "numpy":
        raise ValueError("CPU time is what is measured here: run it with --backend numpy")
    rows: list[list[Any]] = []
    for size in options.pick(SIZES, (16,)):
        psi = fg.Psi(fg.gaussian_psf(318, 100, FACTOR), (size, size), FACTOR, backend="numpy")
        x = np.random.default_rng(options.seed).random(psi.fine_shape, np.float32)
        rounds = options.pick(200 if size <= 64 else 40, 3)
        for name, call in _wrappers(psi, x):
            raw, wrapped = _cpu_seconds(lambda: psi.forward(x), call, rounds)  # noqa: B023
            rows.append([name, f"{size} x {size}", psi.method, raw * 1e3, wrapped * 1e3, wrapped / raw])
            if name.startswith("torch"):
                report.target(f"forward through {name}, {size} x {size}, CPU time relative to raw", wrapped / raw, at_most=1.5)
    columns = ["host", "camera pixels", "method", "raw, ms", "wrapped, ms", "ratio"]
    report.table(
        "CPU time of one forward, raw and through a wrapper", columns, rows, f"float32, {FACTOR}² fine pixels per camera pixel"
    )
    return report


def _wrappers(psi: fg.Psi, x: np.ndarray) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The same product by each host."""
    from fluogan_core.interop import torch as by_torch

    tensor, leaf = torch.from_numpy(x), torch.from_numpy(x.copy()).requires_grad_()
    yield "torch, no gradient", lambda: by_torch.forward(psi, tensor)
    yield "torch, in the graph", lambda: by_torch.forward(psi, leaf)
    operator = psi.as_linear_operator()
    yield "scipy", lambda: operator.matvec(x.ravel())
    with contextlib.suppress(ImportError):
        from fluogan_core.interop.pylops import PsiOperator

        by_pylops = PsiOperator(psi)
        yield "pylops", lambda: by_pylops.matvec(x.ravel())
    with contextlib.suppress(ImportError):
        import jax

        from fluogan_core.interop import jax as by_jax

        array, compiled = jax.numpy.asarray(x), jax.jit(lambda v: by_jax.forward(psi, v))
        yield "jax, compiled", lambda: compiled(array).block_until_ready()


def _cpu_seconds(raw: Callable[[], Any], wrapped: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Median CPU seconds of each, called in turn; the first calls are not counted."""
    times: list[list[float]] = [[], []]
    for number in range(rounds + 2):
        for kept, call in zip(times, (raw, wrapped)):
            started = time.process_time()
            call()
            if number >= 2:
                kept.append(time.process_time() - started)
    return float(np.median(times[0])), float(np.median(times[1]))


if __name__ == "__main__":
    main("interop", run)
