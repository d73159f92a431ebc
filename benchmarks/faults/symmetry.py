"""How far the image of a transformed stack is from the transformed image: ``python -m benchmarks.faults.symmetry``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

import fluogan_core as fg

from .._harness import Options, Report
from .._study import alone
from ._scenes import FACTOR, SCENES, Scene

if TYPE_CHECKING:
    from fluogan_core.solvers.weights import Weights

Transform = Callable[[np.ndarray], np.ndarray]

TURNS: dict[str, Transform] = {
    "flipped up-down": lambda a: a[..., ::-1, :],
    "flipped left-right": lambda a: a[..., ::-1],
    "transposed": lambda a: a.swapaxes(-1, -2),
}
SHIFTS = ((1, 0), (2, -3), (-3, 2))


def fitted(scene: Scene, name: str, stack: np.ndarray, weights: Weights | None = None) -> tuple[np.ndarray, Weights]:
    """x, and the weights of (11) that it was found with."""
    options = fg.SolverOptions(method="none" if name == "mean fit" else "moments")
    known = name != "estimated"
    psi, camera = scene.operator(given=known), scene.camera if known else None
    solver = fg.Solver(np.ascontiguousarray(stack), psi=psi, camera=camera, options=options, weights=weights)
    return solver.run(progress=False).x, solver.weights


def moved(image: np.ndarray, plain: np.ndarray, cut: int = 0) -> float:
    """Largest difference over the maximum, inside of ``cut`` pixels from the border."""
    inside = (slice(cut, -cut or None),) * 2
    return float(np.abs(image - plain)[inside].max() / plain.max())


def distances(scene: Scene, name: str) -> dict[str, float]:
    """By how much of its maximum x is moved at most, by kind of transform."""
    stack = scene.recording()
    plain, weights = fitted(scene, name, stack)
    found = {"turned": max(moved(fitted(scene, name, turn(stack))[0], turn(plain)) for turn in TURNS.values())}
    # the weights of (11) follow from the noise, which is read from differences of neighbours: a shift brings in others
    for kind, held in (("shifted, same weights", weights), ("shifted", None)):
        if (name, kind) not in COLUMNS or not scene.molecules:  # light that leaves the field comes in on the other side
            continue
        images = ((by, fitted(scene, name, np.roll(stack, by, axis=(1, 2)), held)[0]) for by in SHIFTS)
        back = [np.roll(image, [-FACTOR * n for n in by], axis=(0, 1)) for by, image in images]
        found[kind] = max(moved(image, plain, cut=4 * FACTOR) for image in back)
    return found


#: Which fit and kind of transform, and the part of the maximum of x that is held to.
COLUMNS = {
    ("mean fit", "turned"): 1e-3,
    ("given", "turned"): 0.01,
    ("estimated", "turned"): 0.02,
    ("mean fit", "shifted, same weights"): 0.02,
    ("given", "shifted, same weights"): 0.02,
    ("mean fit", "shifted"): None,
    ("given", "shifted"): None,
}


def run(options: Options) -> Report:
    """All scenes; in a quick run one, the mean fit."""
    report, rows = Report("symmetry", options), []
    logging.getLogger("fluogan_core").setLevel(logging.ERROR)
    for scene in SCENES[: options.pick(len(SCENES), 1)]:
        found = {name: distances(scene, name) for name in options.pick(("mean fit", "given", "estimated"), ("mean fit",))}
        parts = [found.get(name, {}).get(kind) for name, kind in COLUMNS]
        rows.append([scene.name, *("" if part is None else 100 * part for part in parts)])
        print(*rows[-1], file=sys.stderr, flush=True)
    rows.append(["at most", *("" if bound is None else 100 * bound for bound in COLUMNS.values())])
    report.table("Largest change of x, % of its maximum", ("scene", *(f"{name}, {kind}" for name, kind in COLUMNS)), rows)
    return report


if __name__ == "__main__":
    alone("benchmarks.faults.symmetry", "symmetry", run)
