"""Tiles, engines and windows against the whole: seams, bytes, time by area, memory, movies.

Run as ``python -m benchmarks.bench_scale PART ...``.  Each part writes its figures into ``benchmarks/results/scale.json`` and
leaves those of the others as they are; the tables of ``docs/scale.md`` are made of it.  Processor time is reported, which other
work on the machine does not lengthen much.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import fluogan_core as fg
from fluogan_core.physics.psf import psf_sigma
from fluogan_core.scale.sizes import tile_bytes

from ._harness import environment
from ._seams import compared, of_the_mean, put_together
from ._tables import render

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "scale.json"
CAMERA = fg.Camera(gain=2.2, offset=100.0, noise_std=3.0)
KAPPA = 20.0
KNOWN: dict[str, Any] = {"camera": CAMERA, "photons_per_emitter": KAPPA, "psf_width": 1.0}
NONE = fg.SolverOptions(method="none")


def operator(side: int, *, airy: bool = False, factor: int = 4) -> fg.Psi:
    """The operator of a square field, pixels of 100 nm."""
    psf = fg.airy_psf(640, 1.2, 100, factor) if airy else fg.gaussian_psf(318, 100, factor)
    return fg.Psi(psf, (side, side), factor, photons_per_emitter=KAPPA, backend="numpy")


def emissions(psi: fg.Psi, seed: int) -> np.ndarray:
    """Curved filaments at random, one for every 350 camera pixels, 160 photons per frame in the brightest camera pixel."""
    rng, x = np.random.default_rng(seed), np.zeros(psi.fine_shape, np.float32)
    for _ in range(psi.shape[0] * psi.shape[1] // 350):
        place, angle, bend = rng.uniform(0, psi.fine_shape), rng.uniform(0, 2 * np.pi), rng.normal(0, 0.04 / psi.factor)
        brightness = rng.uniform(0.5, 1.5)
        for _ in range(int(rng.uniform(20, 50) * psi.factor)):
            row, column = place.astype(int)
            if 0 <= row < x.shape[0] and 0 <= column < x.shape[1]:
                x[row, column] += brightness
            place, angle = place + np.array([np.sin(angle), np.cos(angle)]), angle + bend
    return x * np.float32(160 / float(psi.forward(x).max()))


def background(side: int, curved: bool) -> np.ndarray:
    """10 photons everywhere, or with a hill of 20 more that is off the middle."""
    down, across = np.meshgrid(*[np.linspace(0, 1, side)] * 2, indexing="ij")
    hill = 20 * np.exp(-((down - 0.4) ** 2 + (across - 0.55) ** 2) / 0.08) if curved else 0.0
    return np.broadcast_to(10.0 + hill, (side, side)).astype(np.float32)


def recorded(psi: fg.Psi, x: np.ndarray, b: np.ndarray, frames: int, path: Path, seed: int) -> Path:
    """Draw frames some at a time into a .npy file."""
    model = fg.ForwardModel(psi, gain=CAMERA.gain, noise_std=CAMERA.noise_std)
    kept = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=(frames, *psi.shape))
    for first in range(0, frames, 4):
        counts = model.sample(x, b, min(4, frames - first), 10_000 * seed + first) + np.float32(CAMERA.offset)
        kept[first : first + len(counts)] = np.rint(counts).clip(0, 65535)
    kept.flush()
    return path


def tiled(path: Path, folder: Path, psi: fg.Psi, **settings: Any) -> tuple[fg.scale.Plan, float]:
    """A reconstruction in this process, and its processor time in seconds."""
    started = time.process_time()
    settings = {"options": NONE, "progress": False, "tiff": False} | KNOWN | settings
    plan = fg.scale.reconstruct_tiles(path, folder, psi=psi, **settings)
    return plan, time.process_time() - started


def image(plan: fg.scale.Plan, name: str) -> np.ndarray:
    return np.asarray(fg.scale.image(plan, name))


# -- parts -------------------------------------------------------------------------------------------------------------


def seams(psf: str, background_: str, side: int, frames: int = 200, seed: int = 1, factor: int = 4) -> list[dict[str, Any]]:
    """Tiles of half the side against the whole field, by the default method, and the fits of the mean that it begins with."""
    with tempfile.TemporaryDirectory() as folder:
        psi = operator(side, airy=psf == "Airy", factor=factor)
        b = background(side, background_ == "curved")
        path = recorded(psi, emissions(psi, seed), b, frames, Path(folder) / "stack.npy", seed)
        with of_the_mean() as fitted:
            whole, alone = tiled(path, Path(folder) / "whole", psi, tile=side, options=fg.SolverOptions())
            mean_whole, mean_alone = put_together(whole, fitted), fitted.seconds
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            fitted.clear()
            parts, together = tiled(path, Path(folder) / "tiles", psi, tile=side // 2, options=fg.SolverOptions())
            mean_parts = put_together(parts, fitted)
        scene = {"psf": psf, "background": background_, "side": side, "factor": factor, "frames": frames, "seed": seed}
        scene |= {"tiles": len(parts.grid.tiles), "halo": parts.grid.halo, "blend": parts.grid.blend}
        found = [image(plan, name) for name in ("x", "b") for plan in (parts, whole)]
        steps = [json.loads((plan.folder / "report.json").read_text())["steps"][0] for plan in (whole, parts)]
        spent = {
            "processor_s_mean": mean_alone,
            "processor_s_whole": alone,
            "processor_s_tiles": together,
            "steps_whole": steps[0],
            "steps_tiles": steps[1],
        }
        estimate = tile_bytes(side, frames, psi.factor, fg.SolverOptions()) / 2**30
        mean = [images[n] for n in range(2) for images in (mean_parts, mean_whole)]
        return [
            scene | {"method": parts.options.method} | compared(*found, psi, parts.grid.blend) | spent
            | {"peak_gib_whole": peak, "estimate_gib_whole": estimate},
            scene | {"method": "none", "steps": parts.weights.iterations} | compared(*mean, psi, parts.grid.blend),
        ]  # fmt: skip


def area(sides: tuple[int, ...] = (64, 128, 256, 512), options: fg.SolverOptions | None = None) -> dict[str, Any]:
    """Processor time of fields of growing area, with the tiles that are the default."""
    options = dataclasses.replace(NONE, warm_steps=60) if options is None else options
    rows = []
    for side in sides:
        with tempfile.TemporaryDirectory() as folder:
            psi = operator(side, factor=2)
            path = recorded(psi, emissions(psi, 1), background(side, True), 40, Path(folder) / "stack.npy", 1)
            plan, seconds = tiled(path, Path(folder) / "out", psi, options=options)
            fitted = sum(math.prod(tile.shape) for tile in plan.grid.tiles)
            rows.append({"side": side, "processor_s": seconds, "tiles": len(plan.grid.tiles), "fitted_pixels": fitted})
            print(rows[-1], flush=True)
    logs = np.log([[row["side"] ** 2, row["processor_s"]] for row in rows])
    fitted = np.log([row["fitted_pixels"] for row in rows])
    return {
        "rows": rows,
        "exponent_of_area": float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0]),
        "exponent_of_fitted_pixels": float(np.polyfit(fitted, logs[:, 1], 1)[0]),
    }


def engines(side: int = 96, tile: int = 32, options: fg.SolverOptions | None = None) -> dict[str, Any]:
    """The same bytes from every engine, in reversed order, and of a run that is killed ten times."""
    same, options = {}, dataclasses.replace(NONE, warm_steps=150) if options is None else options
    with tempfile.TemporaryDirectory() as folder:
        psi = operator(side, factor=2)
        path = recorded(psi, emissions(psi, 2), background(side, True), 40, Path(folder) / "stack.npy", 2)
        settings: dict[str, Any] = {"psi": psi, "options": options, "tile": tile, "halo": 16} | KNOWN
        expected = None
        for name in ("1", "2", "3", "threads", "dask threads", "dask processes", "reversed", "killed"):
            plan = fg.scale.prepare(path, Path(folder) / name, **settings)
            numbers = list(range(len(plan.grid.tiles)))
            kills = _computed(plan, numbers, name)
            fg.scale.finish(plan, tiff=False)
            found = {n: image(plan, n).tobytes() for n in ("x", "b")}
            expected = expected or found
            same[name] = {"same": found == expected, "kills": kills}
            print(name, same[name], flush=True)
    return same


def _computed(plan: fg.scale.Plan, numbers: list[int], name: str) -> int:
    if name.isdigit():
        fg.scale.run_tiles(plan, numbers, int(name))
    elif name == "threads":
        with ThreadPoolExecutor(2) as pool:
            fg.scale.run_tiles(plan, numbers, pool)
    elif name.startswith("dask"):
        from distributed import Client

        processes = name.endswith("processes")
        setting: dict[str, Any] = {"n_workers": 2 if processes else 1, "threads_per_worker": 1 if processes else 2}
        with Client(processes=processes, dashboard_address=None, **setting) as client:
            fg.scale.run_tiles(plan, numbers, client)
    elif name == "reversed":
        fg.scale.run_tiles(plan, numbers[::-1])
    else:
        return _killed(plan)
    return 0


def _killed(plan: fg.scale.Plan, kills: int = 10) -> int:
    """A process that computes all tiles, killed so often at times drawn at random, then left to end."""
    count = len(plan.grid.tiles)
    code = f"from fluogan_core import scale; scale.run_tiles(scale.load_plan({os.fspath(plan.folder)!r}), range({count}))"
    rng, done = np.random.default_rng(0), 0
    while done < kills:
        process = subprocess.Popen([sys.executable, "-c", code])
        parts = sum(plan.is_done(k) for k in range(count))
        until = time.monotonic() + 120
        # let it get as far as its work: until a part is new, or a while
        while time.monotonic() < until and process.poll() is None:
            if sum(plan.is_done(k) for k in range(count)) > parts + (rng.random() < 0.05):
                break
            time.sleep(float(rng.uniform(0, 0.2)))
            if rng.random() < 0.02:
                break
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        done += 1
    subprocess.run([sys.executable, "-c", code], check=True)
    return done


def large(
    side: int = 1024, frames: int = 200, method: str = "none", steps: Sequence[int] = (), budget_gib: float = 2.0
) -> dict[str, Any]:
    """A stack on disk, end to end from the command line within a budget: peak memory of the command and of its two workers.

    ``steps`` are those of the fit of the mean, and of the fit after it; as many as they take by default.
    """
    with tempfile.TemporaryDirectory() as folder:
        psi = operator(side)
        path = recorded(psi, emissions(psi, 3), background(side, True), frames, Path(folder) / "stack.npy", 3)
        command = ["reconstruct", os.fspath(path), "--output", os.fspath(Path(folder) / "out"), "--method", method]
        for switch, count in zip(("--warm-steps", "--steps"), steps):
            command += [switch, str(count)]
        command += ["--workers", "2", "--memory-gib", str(budget_gib), "--pixel-size-nm", "100"]
        command += ["--fwhm-nm", "318", "--offset", "100", "--noise-std", "3", "--psf-width", "1"]
        code = (
            "import resource, sys; from fluogan_core.cli.commands import main; status = main(sys.argv[1:]); "
            "mine, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)); "
            "spent = sum(used.ru_utime + used.ru_stime for used in (mine, theirs)); "
            "print(status, mine.ru_maxrss, theirs.ru_maxrss, spent)"
        )
        started = time.monotonic()
        made = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
        print(made.stdout, made.stderr[-2000:], flush=True)
        status, peak, of_workers, seconds = made.stdout.split("\n")[-2].split()
        report = json.loads((Path(folder) / "out" / "report.json").read_text())
        return {
            "side": side, "frames": frames, "method": method, "steps": report["steps"][0], "status": int(status),
            "budget_gib": budget_gib, "stack_gib": path.stat().st_size / 2**30, "tiles": report["tiles"],
            "peak_gib_of_command": int(peak) / 2**20, "peak_gib_of_workers": int(of_workers) / 2**20,
            "processor_s": float(seconds), "wall_s_of_a_busy_machine": time.monotonic() - started,
        }  # fmt: skip


def overhead(tasks: int = 10_000) -> dict[str, float]:
    """Seconds per task of engines that are handed tasks that do nothing."""
    from concurrent.futures import ProcessPoolExecutor

    from distributed import Client

    found = {}
    with ProcessPoolExecutor(2) as pool:
        started = time.perf_counter()
        for job in [pool.submit(math.sqrt, k) for k in range(tasks)]:
            job.result()
        found["processes_s_per_task"] = (time.perf_counter() - started) / tasks
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        started = time.perf_counter()
        client.gather([client.submit(math.sqrt, k, pure=False) for k in range(tasks)])
        found["dask_s_per_task"] = (time.perf_counter() - started) / tasks
    return found | {"tasks": tasks}


def movie(
    frames: int = 2000, side: int = 48, window: int = 200, step: int = 50, seed: int = 4, method: str = "none"
) -> dict[str, Any]:
    """Windows that start from the last against windows that start from nothing."""
    psi, options = operator(side), fg.SolverOptions(method=method)
    x, b = emissions(psi, seed), background(side, True)
    with tempfile.TemporaryDirectory() as folder:
        path = recorded(psi, x, b, frames, Path(folder) / "stack.npy", seed)
        plan, seconds = tiled(path, Path(folder) / "warm", psi, window=window, step=step, options=options)
        warm = image(plan, "x")
        steps = json.loads((plan.folder / "report.json").read_text())["steps"]
        stack = np.load(path)
        some = list(range(1, len(plan.windows), max(1, len(plan.windows) // 6)))
        cold, cold_seconds = {}, 0.0
        for number in some:
            part = Path(folder) / f"cold{number}.npy"
            np.save(part, stack[slice(*plan.windows[number])])
            other, spent = tiled(part, Path(folder) / f"cold{number}", psi, options=options)
            cold[number], cold_seconds = image(other, "x"), cold_seconds + spent
    light, mean = warm.sum(axis=(1, 2)), stack.mean(axis=(1, 2)) - CAMERA.offset
    of_frames = np.array([mean[slice(*w)].mean() for w in plan.windows])
    independent = light[:: max(1, window // step)]
    slope, error = _slope(independent)
    return {
        "frames": frames, "side": side, "window": window, "step": step, "windows": len(plan.windows), "seed": seed,
        "method": plan.options.method,
        "steps_cold": int(steps[0][0]), "steps_warm": int(steps[1][0]),
        "light_last_over_first": float(light[-1] / light[0]), "frames_last_over_first": float(of_frames[-1] / of_frames[0]),
        "drift_per_movie": slope, "drift_error": error,
        "scatter_of_light": float(light[1:].std() / light.mean()),
        "light_warm_over_cold": float(np.mean([warm[n].sum() / cold[n].sum() for n in some])),
        "error_warm": [_error(warm[n], x, psi) for n in some], "error_cold": [_error(cold[n], x, psi) for n in some],
        "warm_against_cold": [float(np.linalg.norm(warm[n] - cold[n]) / np.linalg.norm(cold[n])) for n in some],
        "processor_s_per_warm_window": seconds / len(plan.windows), "processor_s_per_cold_window": cold_seconds / len(some),
    }  # fmt: skip


def _slope(values: np.ndarray) -> tuple[float, float]:
    """Relative change over the whole length by a straight line, and its standard error."""
    place = np.linspace(-0.5, 0.5, len(values))
    (slope, level), covariance = np.polyfit(place, values, 1, cov=True)
    return float(slope / level), float(math.sqrt(covariance[0, 0]) / level)


def _error(found: np.ndarray, truth: np.ndarray, psi: fg.Psi) -> float:
    """Relative error of an image, both seen through half the PSF."""
    from scipy.ndimage import gaussian_filter

    half = 0.5 * psf_sigma(psi.psf)
    found, truth = gaussian_filter(found, half), gaussian_filter(truth, half)
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


#: An Airy PSF has no factors: on a grid of half the pixels it takes a fraction of the time.
SCENES = [(psf, b, side) for side in (64, 128, 256) for psf in ("Gaussian", "Airy") for b in ("curved", "flat")]
PARTS: dict[str, Callable[[], Any]] = {
    f"seams {side} {psf} {b}": functools.partial(seams, psf, b, side, factor=2 if psf == "Airy" else 4)
    for psf, b, side in SCENES
} | {
    "area": area,
    "area by the default method": lambda: area(options=fg.SolverOptions()),
    "engines": engines,
    "engines by the default method": lambda: engines(48, 16, fg.SolverOptions(warm_steps=60, steps=2)),
    "large": lambda: large(steps=(100,)),
    "large by the default method, all its steps": lambda: large(method="moments"),
    "overhead": overhead,
    "movie": movie,
    "movie by the default method": lambda: movie(method="moments"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run the parts that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    for name in options.parts:
        figures = PARTS[name]()
        whole = json.loads(options.results.read_text()) if options.results.is_file() else {}
        whole[name] = {"figures": figures, "environment": environment(fg.get_backend("numpy")) | {"load": os.getloadavg()[0]}}
        options.results.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    if options.results == RESULTS:
        for path in render(RESULTS.parent, ROOT / "docs"):
            print(f"tables rendered in {path.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
