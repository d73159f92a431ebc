"""Does every public path run on a device at all?  ``python -m benchmarks._smoke FILE --backend cupy``.

Small fields, each path apart: one that fails is written down with its traceback, and the rest goes on in a fresh process, since
an error of a kernel leaves the process without a card.  What CuPy compiles for these calls is on disk afterwards.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import fluogan_core as fg
from fluogan_core import Backend
from fluogan_core.tuning import DEFAULT

__all__ = ["PATHS", "main", "tried"]

_SHAPE, _FRAMES = (16, 16), 60


@cache
def _psi(backend: Backend, method: str = "auto") -> fg.Psi:
    return fg.Psi(fg.gaussian_psf(300, 100, 2), _SHAPE, 2, photons_per_emitter=5.0, backend=backend, method=method)


def _images(backend: Backend) -> tuple[Any, Any]:
    x = np.zeros(_psi(backend).fine_shape, np.float32)
    x[8:24, [12, 19]] = 0.5
    return backend.asarray(x), backend.asarray(np.full(_SHAPE, 2.0, np.float32))


def _recorded(backend: Backend) -> Any:
    return fg.ForwardModel(_psi(backend), noise_std=1.0).sample(*_images(backend), _FRAMES, seed=1)


def _operator(method: str) -> Callable[[Backend], Any]:
    def run(backend: Backend) -> Any:
        psi = _psi(backend, method)
        y = psi.forward(_images(backend)[0])
        return psi.adjoint(y), psi.squared_forward(_images(backend)[0]), psi.norm

    return run


def _model(backend: Backend) -> Any:
    model, images = fg.ForwardModel(_psi(backend), noise_std=1.0), _images(backend)
    return model.mean(*images), model.variance(*images), model.sample(*images, 5)


def _reconstructed(**options: Any) -> Callable[[Backend], Any]:
    def run(backend: Backend) -> Any:
        more = {"channels": 4, "depth": 2, "batch": 8, "gradient_frames": 8, "critic_steps": 2}
        network = options["method"] not in ("moments", "none")
        steps = {} if options["method"] == "none" else {"steps": 2}
        chosen = fg.SolverOptions(warm_steps=5, **steps, **options, **(more if network else {}))
        result = fg.reconstruct(_recorded(backend), psi=_psi(backend), camera=fg.Camera(noise_std=1.0), options=chosen)
        return result.x, result.b

    return run


def _likelihood(backend: Backend) -> Any:
    """Few frames of few bright emissions, and a test of mixing that is over soon and passed by all."""
    short = {"mixing_sweeps": (8, 8), "largest_r_hat": math.inf}
    tuning = dataclasses.replace(DEFAULT, likelihood_phase=dataclasses.replace(DEFAULT.likelihood_phase, **short))
    psi, (x, b) = _psi(backend).replaced(photons_per_emitter=50.0), _images(backend)
    stack = fg.ForwardModel(psi, noise_std=1.0).sample(x * np.float32(0.1), b, 20, seed=1)
    options = fg.SolverOptions(method="likelihood", warm_steps=5, steps=2)
    result = fg.reconstruct(stack, psi=psi, camera=fg.Camera(noise_std=1.0), options=options, tuning=tuning)
    if result.stops["likelihood"].reason is not fg.StopReason.STEPS:
        raise ValueError(f"the likelihood's fit ended early: {result.stop_reason}")
    return result.x, result.b


def _gradient(method: str) -> Callable[[Backend], Any]:
    def run(backend: Backend) -> Any:
        critic = fg.Critic(_SHAPE, channels=4, depth=2, seed=3).to(backend.device)
        model = fg.ForwardModel(_psi(backend), noise_std=1.0)
        return fg.critic_gradient(critic, model, *_images(backend), 4, 1, method)

    return run


def _differences(backend: Backend) -> Any:
    critic = fg.Critic(_SHAPE, channels=4, depth=2, seed=3).to(backend.device)
    return fg.critic_differences(critic, _recorded(backend)[:3], step=1.0)


def _calibrated(backend: Backend) -> Any:
    found = fg.estimate_camera(_recorded(backend), _psi(backend), gain=1.0)
    return np.float64(found.camera.noise_std)


def _quadratic(backend: Backend) -> Any:
    model, images = fg.ForwardModel(_psi(backend), noise_std=1.0), _images(backend)
    critic = fg.QuadraticCritic(_recorded(backend), model)
    critic.measure_flicker(*images)
    critic.update_weights(*images)
    return critic.slope(*images), np.float64(sum(critic.value(*images)))


def _swept(backend: Backend) -> Any:
    options, vary = fg.SolverOptions(method="none", warm_steps=5), {"sparsity": (1.0, 10.0)}
    swept = fg.sweep(_recorded(backend), psi=_psi(backend), camera=fg.Camera(noise_std=1.0), options=options, vary=vary)
    return [trial.fit.x for trial in swept.trials]


def _proximal(backend: Backend) -> Any:
    x, _ = _images(backend)
    dual = backend.xp.zeros((4, *x.shape), dtype=np.float32)
    return fg.prox_step(x, x, step=0.1).x, fg.prox_total_variation(x, 0.1, dual=dual, sweeps=3)


#: Name of a path -> a small call of it, which returns numbers and arrays.
PATHS: dict[str, Callable[[Backend], Any]] = {
    "Psi by products": _operator("products"),
    "Psi by convolutions": _operator("convolutions"),
    "ForwardModel": _model,
    "proximal operators": _proximal,
    "QuadraticCritic": _quadratic,
    "estimate_camera": _calibrated,
    "critic_differences": _differences,
    **{f"critic_gradient {method}": _gradient(method) for method in ("linear", "photon", "coupled", "corrected")},
    **{f"reconstruct {method}": _reconstructed(method=method) for method in ("none", "moments", "linear", "corrected")},
    "reconstruct likelihood": _likelihood,
    "sweep": _swept,
}


def _check(found: Any, backend: Backend) -> None:
    """Raise unless all numbers of an answer are finite."""
    for part in found if isinstance(found, list | tuple) else [found]:
        if isinstance(part, list | tuple):
            _check(part, backend)
        elif not np.isfinite(backend.to_host(part) if hasattr(part, "get") else part).all():
            raise ValueError("the answer is not finite")


def tried(name: str, backend: Backend) -> dict[str, Any]:
    """Take one path; return its name, the seconds it took, and the traceback of its failure or an empty text."""
    started, failure = time.perf_counter(), ""
    try:
        _check(PATHS[name](backend), backend)
        backend.synchronize()
    except Exception:
        failure = traceback.format_exc()
    return {"path": name, "seconds": time.perf_counter() - started, "failure": failure}


def _run(names: Sequence[str], backend: Backend, file: Path) -> None:
    """Take these paths, one line of JSON each; stop at the first that fails."""
    for name in names:
        row = tried(name, backend)
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        if row["failure"]:
            return


def main(argv: Sequence[str] | None = None) -> int:
    """Take all paths; return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._smoke", description=__doc__)
    parser.add_argument("file", type=Path, help="file to write, a line of JSON for each path")
    parser.add_argument("--backend", choices=("numpy", "cupy"), default="numpy")
    parser.add_argument("--paths", nargs="+", choices=PATHS, help="these alone, in this process, up to the first that fails")
    arguments = parser.parse_args(argv)
    if arguments.paths:
        _run(arguments.paths, fg.get_backend(arguments.backend), arguments.file)
        return 0
    arguments.file.write_text("", encoding="utf-8")
    left = list(PATHS)
    while left:
        command = [sys.executable, "-m", "benchmarks._smoke", str(arguments.file), "--backend", arguments.backend, "--paths"]
        done = subprocess.run([*command, *left], check=False)
        rows = [json.loads(line) for line in arguments.file.read_text(encoding="utf-8").splitlines()]
        taken = {row["path"] for row in rows}
        if left[0] in taken:
            left = [name for name in left if name not in taken]
            continue
        # the process died on it, and could not say why
        row = {"path": left.pop(0), "seconds": 0.0, "failure": f"the process ended with status {done.returncode}"}
        with arguments.file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
    rows = [json.loads(line) for line in arguments.file.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        print(f"{row['path']:28} {row['seconds']:7.2f} s  {'FAILED' if row['failure'] else 'ran'}")
        if row["failure"]:
            print(row["failure"])
    return int(any(row["failure"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
