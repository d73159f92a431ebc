"""What the sampling kernels reach of what the device can do: ``python -m benchmarks._kernel_figures FILE --backend cupy``.

The ceilings (copying, matrix products, launching) are measured in the same process, just before.  Times are those of the
library's own calls, so that what the host adds is in them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fluogan_core as fg
from fluogan_core import Backend
from fluogan_core.io.provenance import device_facts
from fluogan_core.objective.prox import prox_step, prox_total_variation
from fluogan_core.physics.emissions import Brightness, EmissionChains, move_emissions
from fluogan_core.physics.photons import PlacementTable, draw_photons

from ._cases import FACTOR, line_image, make_psi

__all__ = ["ceilings", "figures", "main"]

#: What a launch alone costs is measured by.
_NOTHING = 'extern "C" __global__ void nothing(float *x) {}'

#: Calls that are timed together, and how often: the median of the rounds is reported.
_CALLS, _ROUNDS = 20, 7


def seconds_of(call: Callable[[], Any], backend: Backend, *, quick: bool) -> float:
    """Median seconds of one call, the first not counted."""
    calls, rounds = (1, 1) if quick else (_CALLS, _ROUNDS)
    call()
    times = []
    for _ in range(rounds):
        backend.synchronize()
        started = time.perf_counter()
        for _ in range(calls):
            call()
        backend.synchronize()
        times.append((time.perf_counter() - started) / calls)
    return float(np.median(times))


def ceilings(backend: Backend, *, quick: bool) -> dict[str, float]:
    """Bytes per second of a copy, operations per second of matrix products, seconds of a small copy and of a launch."""
    xp = backend.xp
    source = xp.ones(2**14 if quick else 2**26, dtype=np.float32)
    target = xp.empty_like(source)
    found = {"copy_bytes_per_s": 2 * source.nbytes / seconds_of(lambda: xp.copyto(target, source), backend, quick=quick)}
    size = 64 if quick else (8192 if backend.name == "cupy" else 1024)
    for dtype, name in ((np.float32, "float32"), (np.float64, "float64")):
        a = xp.ones((size, size), dtype=dtype)
        product = xp.empty_like(a)
        taken = seconds_of(lambda a=a, out=product: xp.matmul(a, a, out=out), backend, quick=quick)
        found[f"matmul_{name}_flop_per_s"] = 2.0 * size**3 / taken
    one = xp.zeros(1, dtype=np.float32)
    found["small_copy_s"] = seconds_of(lambda: xp.copyto(one, one), backend, quick=quick)
    if backend.cuda is not None:
        nothing = backend.cuda.compiler(_NOTHING, "nothing.cu", ()).get_function("nothing")
        found["launch_s"] = seconds_of(lambda: nothing((1,), (32,), (one,)), backend, quick=quick)
    return found


def _cases(backend: Backend, *, quick: bool) -> list[tuple[str, str, Callable[[], Any], float]]:
    """(kernel, case, call, bytes that must be read and written)."""
    xp = backend.xp
    size, frames = (8, 3) if quick else (32, 200)
    psi = make_psi(size, 1.0, backend)
    model = fg.ForwardModel(psi, gain=2.0, noise_std=1.0)
    fine, camera = psi.fine_shape[0] * psi.fine_shape[1], size * size
    x = backend.asarray(line_image(size) * 0.05, dtype=np.float32)
    b = backend.asarray(np.full((size, size), 2.0), dtype=np.float32)
    numbers = np.arange(frames)
    z = model.emissions(x, numbers, 0, 0)
    blurred = psi.forward(z)
    table, emitters = PlacementTable(psi), np.arange(fine)
    few = numbers[: max(1, frames // 25)]
    photons = len(draw_photons(table, emitters, few, seed=0, step=0).pixels)
    large = xp.asarray(np.random.default_rng(0).random((64, 64) if quick else (2048, 2048)), dtype=np.float32)
    out, dual = xp.empty_like(large), xp.zeros((4, *large.shape), dtype=np.float32)
    shape = f"{frames} frames, {size}x{size} camera pixels, factor {FACTOR}"
    chains, proposals = EmissionChains.empty(frames, backend=backend), 10 if quick else 500
    bright = fg.ForwardModel(make_psi(size, 100.0, backend), noise_std=1.0)
    five, counts = xp.full(psi.fine_shape, 5.0 / fine), bright.sample(x * np.float32(5.0 / float(x.sum())), b, frames)
    law = Brightness(1.0, 4.0)
    return [
        ("move_emissions", f"{shape}, 5 emissions of 100 photons, {proposals} proposals each",
         lambda: move_emissions(chains, counts, bright, five, b, law, proposals=proposals), 24.0 * camera * frames),
        ("emissions", f"{shape}, lines", lambda: model.emissions(x, numbers, 0, 0), 4.0 * fine * frames),
        ("emissions", f"{shape}, lit everywhere", lambda: model.emissions(x + 1, numbers, 0, 0), 4.0 * fine * frames),
        ("detect", shape, lambda: model.detect(blurred, b, numbers, 0, 0), 8.0 * camera * frames),
        ("draw_photons", f"{len(few)} frames, {fine} emitters, kappa 1",
         lambda: draw_photons(table, emitters, few, seed=0, step=0), 8.0 * 3 * fine * len(few) + 4.0 * photons),
        ("prox_step", "x".join(map(str, large.shape)), lambda: prox_step(large, large, step=0.1, out=out), 12.0 * large.size),
        ("prox_total_variation", "x".join(map(str, large.shape)) + ", 3 sweeps",
         lambda: prox_total_variation(large, 0.1, dual=dual, sweeps=3, out=out), 4.0 * (3 * 9 + 6) * large.size),
        ("Psi.forward", shape, lambda: psi.forward(z), 4.0 * (fine + camera) * frames),
        ("Psi.adjoint", shape, lambda: psi.adjoint(blurred), 4.0 * (fine + camera) * frames),
        ("ForwardModel.sample", shape, lambda: model.sample(x, b, frames), 4.0 * (2 * fine + 3 * camera) * frames),
    ]  # fmt: skip


def figures(backend: Backend, *, quick: bool = False) -> dict[str, Any]:
    """Return device, ceilings and one row per kernel and case, as plain JSON values."""
    found = ceilings(backend, quick=quick)
    rows = []
    for kernel, case, call, moved in _cases(backend, quick=quick):
        taken = seconds_of(call, backend, quick=quick)
        rows.append(
            {
                "kernel": kernel,
                "case": case,
                "seconds": taken,
                "bytes": moved,
                "share_of_copy": moved / taken / found["copy_bytes_per_s"],
            }
        )
    return {"device": device_facts(backend), "ceilings": found, "kernels": rows}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._kernel_figures", description=__doc__)
    parser.add_argument("file", type=Path, help="JSON file to write")
    parser.add_argument("--backend", choices=("numpy", "cupy"), default="numpy")
    parser.add_argument("--quick", action="store_true", help="small shapes, one round: does it run?")
    arguments = parser.parse_args(argv)
    found = figures(fg.get_backend(arguments.backend), quick=arguments.quick)
    for name, value in found["ceilings"].items():
        print(f"{name:28} {value:.3g}")
    for row in found["kernels"]:
        print(f"{row['kernel']:20} {row['seconds'] * 1e6:10.1f} us  {row['share_of_copy']:6.1%} of a copy  {row['case']}")
    arguments.file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
