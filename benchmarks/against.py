"""Whole runs of the default method by this revision and by another one, in turn: time and what each image is worth.

``python -m benchmarks.against 256b8df`` checks the other revision out into a temporary folder and lets both reconstruct one
blinking stack, one after the other, each in a process of its own.  CPU time is compared, which other processes on the machine
hardly change; the time that passed is printed too.  Frames that neither has seen say what the images are worth.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fluogan_core as fg

from .paper._scenes import CONDITIONS, FWHM_NM, Geometry, make_scene

__all__ = ["Case", "compared", "main"]

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


class Case(NamedTuple):
    """What is reconstructed, and how.

    Attributes
    ----------
    size : int
        Camera pixels a side.
    frames : int
        That are fitted, and as many unseen ones.
    condition : str
    separation : float
        Of the pair, nm.
    seed, threads : int
    """

    size: int = 64
    frames: int = 500
    condition: str = "blinking"
    separation: float = 150.0
    seed: int = 1
    threads: int = 1


def compared(case: Case, revisions: Sequence[str | None], rounds: int = 1) -> dict[str | None, list[dict[str, Any]]]:
    """Let revisions reconstruct the same stack in turn.

    Parameters
    ----------
    case : Case
    revisions : sequence of str or None
        None is what is installed.
    rounds : int

    Returns
    -------
    dict
        For each revision a run per round: ``cpu`` and ``wall`` seconds, ``stop``, and ``density``, the log density of each
        unseen frame.
    """
    condition = next(c for c in CONDITIONS if c.name == case.condition)
    geometry = Geometry(shape=(case.size, case.size), frames=2 * case.frames)
    scene = make_scene(condition, (case.separation,), case.seed, geometry=geometry)
    runs: dict[str | None, list[dict[str, Any]]] = {revision: [] for revision in revisions}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        roots = {revision: stack.enter_context(_checked_out(revision, folder)) for revision in revisions}
        np.save(folder / "stack.npy", scene.frames[: case.frames])
        for _ in range(rounds):
            for revision, root in roots.items():
                runs[revision].append(_timed(folder, root, geometry, case.threads) | _worth(folder, scene, case.frames))
    return runs


@contextlib.contextmanager
def _checked_out(revision: str | None, folder: Path) -> Iterator[Path | None]:
    """A folder with this revision; None for what is installed."""
    if revision is None:
        yield None
        return
    other, git = folder / revision, ("git", "-C", str(ROOT), "worktree")
    subprocess.run([*git, "add", "--detach", "--quiet", str(other), revision], check=True)
    try:
        if not (other / "fluogan_core" / "kernels").exists():
            (other / "fluogan_core" / "kernels").symlink_to(other / "kernels")
        yield other
    finally:
        subprocess.run([*git, "remove", "--force", str(other)], check=True)


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
    case = Case(asked.size, asked.frames, asked.condition, asked.separation, asked.seed, asked.threads)
    runs = compared(case, (None, asked.revision), asked.rounds)
    print("| revision | CPU s | s | log density of unseen frames | ended |\n|---|---|---|---|---|")
    for name, found in runs.items():
        cpu, wall = (float(np.median([run[key] for run in found])) for key in ("cpu", "wall"))
        density = float(np.mean(found[-1]["density"]))
        print(f"| {name or 'this'} | {cpu:.2f} | {wall:.2f} | {density:.6f} | {found[0]['stop']} |")
    ratios = [then["cpu"] / now["cpu"] for now, then in zip(runs[None], runs[asked.revision])]
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


def _worth(folder: Path, scene: Any, fitted: int) -> dict[str, Any]:
    """How well the last result predicts frames that it has not seen."""
    with np.load(folder / "result.npz") as made:
        kappa = float(made["kappa"])
        psi = scene.psi().replaced(psf=made["psf"], photons_per_emitter=kappa)
        model = fg.ForwardModel(psi, gain=2.2, noise_std=3.0)
        unseen = scene.frames[fitted:].astype(np.float32) - np.float32(100.0)
        score = fg.metrics.held_out_score(unseen, model, (made["x"] / kappa).astype(np.float32), made["b"])
    return {"density": score.frame_log_density}


if __name__ == "__main__":
    main()
