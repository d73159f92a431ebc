"""What does the full likelihood win over mean and covariance, what does ``method="auto"`` choose, and what does it cost?

Two lines 100 nm wide, 120 nm apart, the bar that holds them, and thin curved lines, under a PSF of 318 nm on 16 x 16 pixels,
500 frames: emissions of eq. (1), few and bright to many and dim, and molecules that blink for whole and for parts of frames.
Then isolated molecules, by their light, and molecules on a spiral; ``python -m benchmarks.zoo --method auto`` has the rest.
Photons per emission and background are estimated from the frames.  Every recording's figures are kept in a file as soon as they
are there: a run that was cut short goes on where it was.  ``--merge`` runs nothing, and reports what is done.
"""

from __future__ import annotations

import argparse
import functools
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fluogan_core as fg
from fluogan_core.physics.emissions import Brightness
from fluogan_core.solvers.unseen_gain import Pair, unseen_gain

from ._harness import Options, Report, main
from ._likelihood_scenes import (
    BACKGROUND,
    CAMERA,
    EXPECTED,
    FACTOR,
    ROWS,
    SHAPES,
    SIZE,
    STOPS,
    emissions_recorded,
    error_of_spots,
    found,
    isolated,
    kept,
    lacks,
    light_of_spots,
    operator,
    recorded,
    spiral,
    structure,
)

METHODS = ("mean fit", "default", "likelihood", "auto")
MLEM = "MLEM, best stop"
IMAGES = (*METHODS, EXPECTED, MLEM)


def lacking(images: dict[str, np.ndarray], truth: np.ndarray, blur: float = 1.0) -> dict[str, float]:
    """NRMSE of every method; of MLEM the least of its stops, which only the truth can tell."""
    of = {name: lacks(image, truth, blur) for name, image in images.items()}
    of[MLEM] = min(value for name, value in of.items() if name.startswith("MLEM"))
    return {name: of[name] for name in IMAGES}


def figures_of(row: str, kind: str, seed: int, frames: int, steps: int) -> dict[str, Any]:
    """What every method lacks on one recording."""
    counts, camera, truth = recorded(row, kind, seed, frames)
    images, facts = found(counts, camera, operator(), steps)
    return facts | {"lacks": lacking(images, truth)}


def clear_by(figures: dict[str, Any]) -> float:
    """By how many standard errors unseen frames prefer the likelihood, 0 where they were not asked."""
    words = re.search(r"likelier by (\S+) ± (\S+) nats", figures["words"])
    return float(words[1]) / float(words[2]) if words else 0.0


class NotDone(Exception):
    """A part that no run has done yet."""


#: Gives the figures of a part by its name: those that are kept, or made now; None where only what is done is asked for.
Part = Callable[[str, Callable[[], Any]], Any]


def parts_of(options: Options, merge: bool) -> Part:
    """Where the figures of a part come from."""

    def refuse() -> Any:
        raise NotDone

    def part(key: str, make: Callable[[], Any]) -> Any:
        try:
            return kept(options.results, key, refuse if merge else make)
        except NotDone:
            return None

    return part


def all_figures(part: Part, options: Options, seeds: Sequence[int]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Of every kind of recording those of every seed; seed by seed, so that a part of a run has all kinds."""
    frames, steps = options.pick(500, 24), options.pick(40, 6)
    kinds = [(row, kind) for row in options.pick(list(ROWS), ["3 of 100"]) for kind in options.pick(SHAPES, ("bar",))]
    figures: dict[tuple[str, str], list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for seed in seeds:
        for row, kind in kinds:
            key = f"{row}, {kind}, seed {options.seed + seed}, {frames} frames, {steps} steps"
            given = (row, kind, options.seed + seed, frames, steps)
            figures[row, kind].append(part(key, lambda given=given: figures_of(*given)))
    done = {kind: [one for one in made if one is not None] for kind, made in figures.items()}
    return {kind: made for kind, made in done.items() if made}


def spread(values: list[float]) -> str:
    """The mean, and its standard error where there are several seeds."""
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{np.mean(values):.3f} ± {error:.3f}" if error else f"{np.mean(values):.3f}"


def table_of(report: Report, figures: dict[tuple[str, str], list[dict[str, Any]]], options: Options) -> None:
    """Every method on every kind of recording, mean of the seeds."""
    if not figures:
        return
    rows, costs = [], []
    of_lines: dict[str, float] = {}
    for (row, kind), made in figures.items():
        mean = {name: float(np.mean([one["lacks"][name] for one in made])) for name in IMAGES}
        before = None if ROWS[row].before is None or kind == "thin lines" else ROWS[row].before[SHAPES.index(kind)]
        rows.append(
            [
                row,
                kind,
                str(len(made)),
                *(spread([one["lacks"][name] for one in made]) for name in IMAGES),
                "" if before is None else f"{before:.3f}",
            ]
        )
        chosen, mixed = (sum(one[name] == word for one in made) for name, word in (("auto", "CHOSEN"), ("likelihood", "STEPS")))
        seconds = [float(np.mean([one["seconds"][name] for one in made])) for name in METHODS[1:]]
        gains = ", ".join(f"{clear_by(one):.1f}" for one in made)
        costs.append([row, kind, f"{chosen} of {len(made)}", gains, f"{mixed} of {len(made)}", *seconds])
        if before is not None:
            for name in ("likelihood", "auto", *([EXPECTED] if ROWS[row].frames_on is None else [])):
                report.target(f"{row}, {kind}: NRMSE of {name}", mean[name], at_most=before)
        if ROWS[row].frames_on is not None:
            report.target(f"likelihood over default, {row}, {kind}", mean["likelihood"] / mean["default"], at_most=1.0)
        of_lines[f"{row}, {kind}"] = max(one["lacks"]["auto"] / one["lacks"]["default"] for one in made)
    report.target("auto over default, the worst single recording", max(of_lines.values()), at_most=1.0)
    report.table(
        "NRMSE after a blur of one fine pixel, photons per emission and background estimated",
        ["recording", "structure", "seeds", *IMAGES, "best of a trial"],
        rows,
        note=f"16 x 16 camera pixels, {options.pick(500, 24)} frames; of several seeds the mean and its standard error. MLEM "
        f"of the mean frame, with the background of the mean fit: the best of {', '.join(map(str, STOPS))} steps. "
        "Best of a trial: the least of any method that was tried before there was a likelihood fit, its best with known "
        "photons per emission and known background, one seed. Of molecules that blink: against their own light; of eq. (1): "
        "against the expected light, from which what was emitted differs by chance. A "
        "likelihood whose chains did not mix is the default's image.",
    )
    report.table(
        'What `method="auto"` takes, and the time',
        [
            "recording",
            "structure",
            "auto takes likelihood",
            "unseen frames' preference, standard errors",
            "chains mixed",
            *(f"{name}, s of CPU" for name in METHODS[1:]),
        ],
        costs,
        note="Preference: of the frames set aside for the likelihood, by seed; 0.0 where the likelihood was not tried.",
    )


def light_figures(seed: int, steps: int, frames: int = 200) -> dict[str, Any]:
    """Light of isolated molecules over the truth, and its departure in standard errors, by every method."""
    counts, at, light = isolated(seed, frames)
    images, facts = found(counts, CAMERA, operator(32), steps)
    error = error_of_spots(at, light, len(counts))
    by = {name: light_of_spots(images[name], at) for name in METHODS}
    return facts | {
        "ratio": {name: (spots[light > 0] / light[light > 0]).tolist() for name, spots in by.items()},
        "pull": {name: ((spots - light) / error).tolist() for name, spots in by.items()},
    }


def light_of(report: Report, part: Part, options: Options, seeds: Sequence[int]) -> None:
    """The light of isolated molecules."""
    steps, frames = options.pick(40, 6), options.pick(200, 40)
    made = [part(f"isolated, seed {k}, {steps} steps", lambda k=k: light_figures(k, steps, frames)) for k in seeds]
    made = [one for one in made if one is not None]
    if not made:
        return
    rows: list[list[Any]] = []
    for name in METHODS:
        ratio, pull = (np.concatenate([one[what][name] for one in made]) for what in ("ratio", "pull"))
        rows.append([name, f"{ratio.min():.2f} to {ratio.max():.2f}", f"{np.sqrt((pull**2).mean()):.2f}", np.abs(pull).max()])
        if name in ("likelihood", "auto") and not options.quick:
            report.target(f"light per isolated molecule, {name}, standard errors", float(np.abs(pull).max()), at_most=3.0)
    report.table(
        "Light of isolated molecules",
        ["", "over the truth", "departure in standard errors, root mean square", "largest"],
        rows,
        note=f"Nine molecules per recording on 32 x 32 pixels, {frames} frames, on in 2 to 30 % of them for four in a row, 500 "
        f"photons a frame, {len(made)} seeds. Light within four camera pixels. Standard error: of least squares on the mean "
        "frame with place and background known.",
    )


def spiral_figures(seed: int, frames: int, steps: int) -> dict[str, Any]:
    """What every method lacks on a spiral of molecules, after a blur of 60 nm."""
    counts, camera, psi, truth = spiral(seed, frames)
    images, facts = found(counts, camera, psi, steps)
    return facts | {"lacks": lacking(images, truth, blur=60.0 / (128.0 / FACTOR))}


def spiral_of(report: Report, part: Part, options: Options, seeds: Sequence[int]) -> None:
    """Molecules on a spiral."""
    steps, rows = options.pick(40, 6), []
    for frames in options.pick((50, 100, 500), (24,)):
        made = [
            part(f"spiral, {frames} frames, seed {k}, {steps} steps", lambda given=(k, frames, steps): spiral_figures(*given))
            for k in seeds
        ]
        made = [one for one in made if one is not None]
        if not made:
            continue
        mean = {name: float(np.mean([one["lacks"][name] for one in made])) for name in IMAGES}
        chosen, mixed = (sum(one[name] == word for one in made) for name, word in (("auto", "CHOSEN"), ("likelihood", "STEPS")))
        rows.append([frames, len(made), *mean.values(), f"{chosen} of {len(made)}", f"{mixed} of {len(made)}"])
        for name in ("likelihood", "auto"):
            report.target(f"spiral, {frames} frames: {name} over the best stop of MLEM", mean[name] / mean[MLEM], at_most=1.0)
    if not rows:
        return
    report.table(
        "NRMSE of molecules on a spiral",
        ["frames", "seeds", *IMAGES, "auto takes likelihood", "chains mixed"],
        rows,
        note="500 molecules, 15 on in a frame for three frames, 3000 photons each; 32 x 32 pixels of 128 nm, background 819 "
        "photons; after a blur of 60 nm.",
    )


def distances(sampled: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Standard deviations by which 500 frames of two images that differ little are told apart.

    The log of the ratio of their densities, ``sampled`` (2 runs, 2 images, frames), has a variance per frame that is the
    squared distance.  Two runs on the same frames share what is of the frames, and not the sampler's noise.  The mean of any
    other statistic, ``others`` (statistics, 2 images, frames), differs between the two images by its covariance with that
    logarithm.
    """

    def shared(one: np.ndarray, other: np.ndarray) -> float:
        return 0.5 * sum(float(np.cov(a, b)[0, 1]) for a, b in zip(one, other))

    ratio = sampled.mean(axis=0)
    of_others = [shared(ratio, other) / shared(other, other) ** 0.5 for other in others]
    return 500**0.5 * np.array([*of_others, max(shared(*sampled), 0.0) ** 0.5])


def distances_of(number: float, photons: float, frames: int, seed: int) -> dict[str, Any]:
    """Distances between a pair and its bar, their errors, and the sampler's part."""
    psi, rng = operator(SIZE, photons), np.random.default_rng(seed)
    model = fg.ForwardModel(psi, gain=CAMERA.gain, noise_std=CAMERA.noise_std)
    images = {kind: structure(kind) / structure(kind).sum() * number for kind in ("pair", "bar")}
    counts = {kind: emissions_recorded(x, photons, frames, rng) - np.float32(CAMERA.offset) for kind, x in images.items()}
    b = np.full(psi.shape, BACKGROUND)
    even = {kind: Pair(0.999 * x + 0.001 * x.mean(), b) for kind, x in images.items()}
    others = statistics(model, images, counts, b)
    proposals = np.full(frames, 20 + 6 * int(np.ceil(number)))
    given = (model, even["bar"], even["pair"], Brightness(), proposals)
    sampled = np.array([[unseen_gain(y, *given, seed=run, step=0).of_frames for y in counts.values()] for run in range(2)])
    groups = np.array_split(np.arange(frames), 20)
    without = [distances(np.delete(sampled, group, axis=2), np.delete(others, group, axis=2)) for group in groups]
    noise = float(np.mean([np.cov(*sampled[:, k])[0, 1] / sampled[:, k].var(axis=1, ddof=1).mean() for k in range(2)]))
    errors = np.std(without, axis=0) * (len(groups) - 1) ** 0.5
    return {"found": distances(sampled, others).tolist(), "errors": errors.tolist(), "sampler": 1.0 - noise}


def information_of(report: Report, part: Part, options: Options) -> None:
    """What 500 frames hold of a pair against its bar: by the mean, by mean and covariance, and by all that they show."""
    frames, rows = options.pick(600, 24), []
    regimes = ((0.1, 100), (0.3, 100), (1, 100), (0.3, 1000), (1, 1000), (3, 1000)) if not options.quick else ((1, 100),)
    for number, photons in regimes:
        given = (number, photons, frames, options.seed)
        made = part(f"information {given}", lambda given=given: distances_of(*given))
        if made is None:
            continue
        told = (f"{d:.2f} ± {e:.2f}" for d, e in zip(made["found"], made["errors"]))
        rows.append([number, photons, *told, made["sampler"]])
    if not rows:
        return
    report.table(
        "Standard deviations by which 500 frames of a pair 120 nm apart and of its bar differ",
        [
            "emissions per frame",
            "photons each",
            "mean",
            "mean and covariance",
            "full likelihood",
            "sampler's part of its variance",
        ],
        rows,
        note=f"16 x 16 camera pixels, both images known. From {frames} frames of each; errors by the jackknife over 20 groups "
        "of frames. Mean and covariance: the ratio of Gaussian densities. The sampler's part is taken out.",
    )


def statistics(
    model: fg.ForwardModel, images: dict[str, np.ndarray], counts: dict[str, np.ndarray], b: np.ndarray
) -> np.ndarray:
    """Of every frame the best linear statistic, and the log ratio of the Gaussian densities of mean and covariance."""
    psi, moments = model.psi, {}
    matrix = psi.forward(np.eye(images["bar"].size, dtype=np.float32).reshape(-1, *psi.fine_shape)).reshape(-1, b.size).T
    for kind, x in images.items():
        light = matrix @ x.ravel()
        noise = light + b.ravel() + model.epsilon + (model.noise_std / model.gain) ** 2
        moments[kind] = (light + b.ravel(), np.diag(noise) + (matrix * x.ravel()) @ matrix.T)
    linear = np.linalg.solve(0.5 * (moments["pair"][1] + moments["bar"][1]), moments["pair"][0] - moments["bar"][0])

    def squared(y: np.ndarray, kind: str) -> np.ndarray:
        apart = y - moments[kind][0]
        return (apart * np.linalg.solve(moments[kind][1], apart.T).T).sum(axis=1)

    frames = [y.reshape(len(y), -1) / model.gain for y in counts.values()]
    return np.array([[y @ linear for y in frames], [0.5 * (squared(y, "bar") - squared(y, "pair")) for y in frames]])


def timed(frames: int, number: float, size: int, steps: int, seed: int) -> dict[str, Any]:
    """Seconds of one fit, the fit of the mean included."""
    x = np.zeros((size * FACTOR,) * 2)
    x[size : 3 * size, size : 3 * size : 8] = 1.0
    counts = emissions_recorded(x / x.sum() * number, 300.0, frames, np.random.default_rng([seed, frames, int(number)]))
    problem = fg.Problem.of(counts, psi=operator(size, 300.0), camera=CAMERA)
    solver = fg.Solver(problem=problem, options=fg.SolverOptions(method="likelihood", steps=steps))
    cpu, wall = time.process_time(), time.perf_counter()
    result = solver.run(progress=False)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu": cpu, "wall": wall, "mixed": result.stops["likelihood"].reason.name == "STEPS"}


def time_of(report: Report, part: Part, options: Options) -> None:
    """Seconds of the likelihood's fit on 32 x 32 pixels, and how they grow with frames and emissions."""
    size, steps = options.pick(32, 16), options.pick(40, 2)
    cases = ((500, 5.0), (250, 5.0), (500, 10.0)) if not options.quick else ((20, 5.0),)
    made = [
        part(f"time of {case}, {steps} steps", lambda given=(*case, size, steps, options.seed): timed(*given)) for case in cases
    ]
    if None in made:
        return
    rows = [[*case, one["cpu"], one["wall"], one["mixed"]] for case, one in zip(cases, made)]
    report.table(
        f'Time of `method="likelihood"` on {size} x {size} pixels, mean fit included',
        ["frames", "emissions per frame", "s of CPU", "s", "mixed"],
        rows,
    )
    if not options.quick:
        report.target("500 frames of 32 x 32, 5 emissions per frame, s", rows[0][3], at_most=60.0)
        report.target("twice the frames, times the CPU", rows[0][2] / rows[1][2], at_most=2.2)
        report.target("twice the emissions, times the CPU", rows[2][2] / rows[0][2], at_most=2.2)


def reported(part: Part, options: Options, seeds: Sequence[int]) -> Report:
    """What there is to be won, what is won, and the time."""
    report = Report("likelihood", options)
    figures = all_figures(part, options, seeds)
    information_of(report, part, options)
    table_of(report, figures, options)
    light_of(report, part, options, seeds)
    spiral_of(report, part, options, seeds)
    time_of(report, part, options)
    return report


def run(options: Options, *, merge: bool = False) -> Report:
    """All of it with one seed first, so that a run that is cut short has every table; then with three."""
    part = parts_of(options, merge)
    if options.results is not None:  # or nothing would be kept
        reported(part, options, (0,))
    return reported(part, options, options.pick((0, 1, 2), (0,)))


if __name__ == "__main__":
    words = argparse.ArgumentParser(add_help=False)
    words.add_argument("--merge", action="store_true")
    own, others = words.parse_known_args()
    main("likelihood", functools.partial(run, merge=own.merge), others)
