"""Scenes of the zoo in which few bright molecules are on: is ``method="auto"`` better there than the default?

Of the zoo's development scenes, those of few bright molecules and those of eq. (1) with 100 photons per emission or more.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fluogan_core as fg

from ._harness import Options, Report
from .zoo._judge import Judge
from .zoo._plan import Scene, draw_scene
from .zoo._recording import record

__all__ = ["zoo_of"]

METHODS = ("default", "auto")
SEED, BLUR_NM, LEAST_PHOTONS = 1, "60", 100.0


def sparse_scenes(count: int) -> list[Scene]:
    """The first scenes whose molecules are few and bright."""
    scenes = (draw_scene(SEED, number) for number in itertools.count())
    return list(itertools.islice((scene for scene in scenes if scene.photons > 0 or scene.kappa >= LEAST_PHOTONS), count))


def auto_beside_default(scene: Scene, steps: int) -> dict[str, Any]:
    """NRMSE of the default and of ``auto`` on one scene as a user gets them, and what became of the likelihood."""
    recording = record(scene)
    judge, psi = Judge(recording), recording.psi()
    camera = fg.Camera(recording.gain, scene.offset, recording.noise_std)
    try:
        found = fg.calibrate(recording.frames, psi, camera=camera if scene.camera_known else None)
    except ValueError:  # the message asks for the camera's values: a user gives them
        found = fg.calibrate(recording.frames, psi, camera=camera)
    problem = fg.Problem.of(recording.frames, calibration=found)
    solver = fg.Solver(problem=problem, options=fg.SolverOptions(method="auto", steps=steps))
    images, started, seconds = {}, time.process_time(), {}
    while solver.current is not None:
        if solver.phase == "likelihood" and not images:
            images["default"], seconds["default"] = solver.outcome.x, time.process_time() - started
        solver.step()
    result = solver.result()
    images["auto"], seconds["auto"] = result.x, time.process_time() - started
    images.setdefault("default", result.x)  # the likelihood was not tried
    photons = found.estimate.photons_per_emitter * found.camera.gain / recording.gain
    words = str(result.stops["likelihood"])
    gain = re.search(r"likelier by (\S+) ± (\S+) nats", words)
    return {
        "lacks": {name: judge(image * photons).nrmse[BLUR_NM] for name, image in images.items()},
        "seconds": {"default": seconds.get("default", seconds["auto"]), "auto": seconds["auto"]},
        "auto": result.stops["likelihood"].reason.name,
        "words": words,
        "clear": float(gain[1]) / float(gain[2]) if gain else 0.0,
    }


def zoo_of(report: Report, part: Callable[[str, Callable[[], Any]], Any], options: Options) -> None:
    """What ``auto`` makes of the zoo's scenes of few bright molecules."""
    steps, rows, ratios = options.pick(40, 6), [], []
    for scene in sparse_scenes(options.pick(12, 1)):
        made = part(f"zoo {scene.name}, {steps} steps", lambda scene=scene: auto_beside_default(scene, steps))
        if made is None:
            continue
        kinetics = f"eq. (1), κ {scene.kappa:g}" if scene.kappa else f"few bright, {scene.photons:g} photons"
        lacks, seconds = ([made[what][name] for name in METHODS] for what in ("lacks", "seconds"))
        rows.append([scene.name, scene.structure, kinetics, scene.frames, *lacks, made["auto"], made["clear"], *seconds])
        ratios.append(lacks[1] / lacks[0])
    if not rows:
        return
    columns = ("scene", "structure", "kinetics", "frames", *METHODS, "auto's likelihood", "preference, standard errors")
    report.table(
        "The zoo's scenes of few bright molecules: NRMSE after a blur of 60 nm",
        [*columns, *(f"{name}, s of CPU" for name in METHODS)],
        rows,
        note="The first development scenes (seed 1) of few bright molecules, or of eq. (1) with 100 photons per emission and "
        "more. CHOSEN: the likelihood was kept; NOT_BETTER, NOT_MIXED, NOT_TRIED: auto's image is the default's.",
    )
    what = "zoo, few bright molecules: auto over default"
    report.target(f"{what}, geometric mean", float(np.exp(np.mean(np.log(ratios)))), at_most=1.0)
    report.target(f"{what}, the worst scene", max(ratios), at_most=1.0)
