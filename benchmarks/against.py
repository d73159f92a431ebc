"""Whole runs of the default method by this revision and by another one, in turn: time and what each image is worth.

``python -m benchmarks.against 256b8df`` checks the other revision out into a temporary folder and lets both reconstruct one
blinking stack, one after the other, each in a process of its own.  CPU time is compared, which other processes on the machine
hardly change; the time that passed is printed too.  Frames that neither has seen say what the images are worth.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fluogan_core as fg

from .paper._scenes import CONDITIONS, FWHM_NM, Geometry, make_scene

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
#: What each process runs: nothing that has not been in the library from the first revision on.
_RUN = """
import json, sys, time
import numpy as np
import fluogan_core as fg
folder, fwhm, pixel, factor = sys.argv[1], *map(float, sys.argv[2:])
stack = np.load(folder + "/stack.npy")
psi = fg.Psi(fg.gaussian_psf(fwhm, pixel, int(factor)), stack.shape[1:], int(factor), backend="numpy")
small = {"psi": psi, "camera": fg.Camera(2.2, 100.0, 3.0), "progress": False}
fg.reconstruct(stack[:40], options=fg.SolverOptions(warm_steps=2, steps=1), **small)  # compiles
cpu, wall = time.process_time(), time.perf_counter()
result = fg.reconstruct(stack, psi=psi, progress=False)
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
kappa = result.psi.photons_per_emitter
np.savez(folder + "/result.npz", x=result.x * kappa, b=result.b, kappa=kappa, psf=result.psi.psf)
print(json.dumps({"cpu": cpu, "wall": wall, "stop": result.stop_reason}))
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("revision", help="of this repository")
    parser.add_argument("--size", type=int, default=64, help="camera pixels (64)")
    parser.add_argument("--frames", type=int, default=500, help="frames that are fitted, and as many unseen ones (500)")
    parser.add_argument("--condition", default="blinking", choices=[c.name for c in CONDITIONS])
    parser.add_argument("--separation", type=float, default=150.0, help="of the pair, nm (150)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args(argv)
    condition = next(c for c in CONDITIONS if c.name == asked.condition)
    geometry = Geometry(shape=(asked.size, asked.size), frames=2 * asked.frames)
    scene = make_scene(condition, (asked.separation,), asked.seed, geometry=geometry)
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        git = ("git", "-C", str(ROOT), "worktree")
        subprocess.run([*git, "add", "--detach", "--quiet", str(other), asked.revision], check=True)
        try:
            if not (other / "fluogan_core" / "kernels").exists():
                (other / "fluogan_core" / "kernels").symlink_to(other / "kernels")
            np.save(Path(folder) / "stack.npy", scene.frames[: asked.frames])
            runs: dict[str, list[dict[str, Any]]] = {"this": [], asked.revision: []}
            for _ in range(asked.rounds):
                for name, root in (("this", None), (asked.revision, other)):
                    runs[name].append(_timed(Path(folder), root, geometry, asked.threads) | _worth(Path(folder), scene, asked))
        finally:
            subprocess.run([*git, "remove", "--force", str(other)], check=True)
    print("| revision | CPU s | s | log density of unseen frames | ended |\n|---|---|---|---|---|")
    for name, found in runs.items():
        cpu, wall, density = (float(np.median([run[key] for run in found])) for key in ("cpu", "wall", "density"))
        print(f"| {name} | {cpu:.2f} | {wall:.2f} | {density:.6f} | {found[0]['stop']} |")
    ratios = [then["cpu"] / now["cpu"] for now, then in zip(runs["this"], runs[asked.revision])]
    print(
        f"\n{asked.revision} takes {float(np.median(ratios)):.2f} times the CPU time of this revision ({len(ratios)} rounds)."
    )


def _timed(folder: Path, root: Path | None, geometry: Geometry, threads: int) -> dict[str, Any]:
    """One reconstruction, by the library in ``root`` or by the one that is installed."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads)) | ({} if root is None else {"PYTHONPATH": str(root)})
    asked = (str(FWHM_NM), str(geometry.pixel_size_nm), str(geometry.factor))
    command = [sys.executable, "-c", _RUN, str(folder), *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)
    if done.returncode:
        raise SystemExit(f"the reconstruction failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _worth(folder: Path, scene: Any, asked: argparse.Namespace) -> dict[str, float]:
    """How well the last result predicts frames that it has not seen."""
    with np.load(folder / "result.npz") as made:
        kappa = float(made["kappa"])
        psi = scene.psi().replaced(psf=made["psf"], photons_per_emitter=kappa)
        model = fg.ForwardModel(psi, gain=2.2, noise_std=3.0)
        unseen = scene.frames[asked.frames :].astype(np.float32) - np.float32(100.0)
        score = fg.metrics.held_out_score(unseen, model, (made["x"] / kappa).astype(np.float32), made["b"])
    return {"density": float(score.log_density)}


if __name__ == "__main__":
    main()
