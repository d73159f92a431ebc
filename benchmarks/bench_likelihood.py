"""What does the full likelihood win over mean and covariance, what does ``method="auto"`` choose, and what does it cost?

Two lines 100 nm wide, 120 nm apart, the bar that holds them, and thin curved lines, under a PSF of 318 nm on 16 x 16 pixels,
500 frames: emissions of eq. (1), few and bright to many and dim, and molecules that blink for whole and for parts of frames.
Photons per emission and background are estimated from the frames.  Every recording's figures are kept in a file as soon as they
are there: a run that was cut short goes on where it was.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

import fluogan_core as fg
from fluogan_core.physics.emissions import Brightness
from fluogan_core.solvers.unseen_gain import Pair, unseen_gain

from ._harness import Options, Report, main, revision

SIZE, FACTOR, PIXEL, FWHM, BACKGROUND = 16, 4, 100.0, 318.0, 3.0
CAMERA = fg.Camera(gain=2.0, offset=100.0, noise_std=2.0)
#: Emissions per frame and photons per emission; None for molecules that blink: so many on per frame, photons per frame.
ROWS: dict[str, tuple[float, float, str]] = {
    "3 emissions per frame of 1000 photons": (3, 1000, "eq. (1)"),
    "10 of 300": (10, 300, "eq. (1)"),
    "3 of 100": (3, 100, "eq. (1)"),
    "10 of 100": (10, 100, "eq. (1)"),
    "30 of 100": (30, 100, "eq. (1)"),
    "4.5 molecules on, 1000 photons, for a frame": (4.5, 1000, "blinking"),
    "30 molecules on, 300 photons, for a frame": (30, 300, "blinking"),
}
SHAPES = ("pair", "bar", "thin lines")
METHODS = ("mean fit", "default", "likelihood", "auto")


def structure(kind: str) -> np.ndarray:
    """Where molecules may be, (64, 64)."""
    n = SIZE * FACTOR
    image = np.zeros((n, n))
    if kind == "thin lines":  # one fine pixel wide, curved, one of them crossing the others
        along = np.linspace(10, n - 11, 2000)
        for across in (20 + 8 * np.sin(along / 9), 44 - 6 * np.sin(along / 7), 14 + 0.7 * (along - 10)):
            image[along.astype(int), np.clip(across, 0, n - 1).astype(int)] = 1.0
        return image
    at = (np.arange(8 * n) + 0.5) / 8 * PIXEL / FACTOR - SIZE * PIXEL / 2
    profile = np.abs(np.abs(at) - 60) <= 50 if kind == "pair" else np.abs(at) <= 110
    image[10:-10] = profile.reshape(n, 8).mean(axis=1)
    return image.T.copy()


def operator(size: int = SIZE, kappa: float = 1.0) -> fg.Psi:
    """The operator of a recording."""
    psf = fg.gaussian_psf(FWHM, PIXEL, FACTOR)
    return fg.Psi(psf, (size, size), FACTOR, photons_per_emitter=kappa, backend="numpy")


def emissions_recorded(x: np.ndarray, kappa: float, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Counts by eq. (1)."""
    psi = operator(x.shape[0] // FACTOR, kappa)
    light = psi.forward(rng.poisson(x, (frames, *x.shape)).astype(np.float32))
    counts = CAMERA.gain * rng.poisson(np.maximum(light, 0) + BACKGROUND) + CAMERA.offset
    return (counts + CAMERA.noise_std * rng.standard_normal(counts.shape)).astype(np.float32)


def recorded(row: str, kind: str, seed: int, frames: int) -> tuple[np.ndarray, fg.Camera, np.ndarray]:
    """Frames, camera, and the light of the truth, (64, 64): of molecules that blink, their own."""
    number, photons, law = ROWS[row]
    shape = structure(kind)
    if law == "eq. (1)":
        x = shape / shape.sum() * number
        rng = np.random.default_rng([seed, list(ROWS).index(row), SHAPES.index(kind)])
        return emissions_recorded(x, photons, frames, rng), CAMERA, x * photons
    duty = 0.03  # on for a frame in the mean: whole frames and parts of frames
    kinetics = fg.Blinking(on_ms=20.0, off_ms=20.0 * (1 - duty) / duty, bleach_s=np.inf, photons_per_frame=photons)
    made = fg.simulate_sofi(
        shape,
        pixel_size_nm=PIXEL,
        factor=FACTOR,
        frames=frames,
        density_per_um2=number / duty / (shape.sum() * (PIXEL / FACTOR / 1000) ** 2),
        fwhm_nm=FWHM,
        frame_ms=20.0,
        background=BACKGROUND,
        blinking=kinetics,
        seed=seed,
    )
    return made.frames, fg.Camera(made.gain, made.offset, made.noise_std), made.x * made.photons_per_emitter


def lacks(found: np.ndarray, truth: np.ndarray) -> float:
    """NRMSE after a blur of one fine pixel, at equal light."""
    blurred, wanted = gaussian_filter(found.astype(np.float64), 1.0), gaussian_filter(truth, 1.0)
    blurred *= wanted.sum() / max(float(blurred.sum()), 1e-30)
    return float(np.linalg.norm(blurred - wanted) / np.linalg.norm(wanted))


def figures_of(row: str, kind: str, seed: int, frames: int, steps: int) -> dict[str, Any]:
    """What every method lacks on one recording; the default's image is what ``auto`` begins with."""
    counts, camera, truth = recorded(row, kind, seed, frames)
    calibration = fg.calibrate(counts, operator(), camera=camera, psf_width=1.0)
    problem = fg.Problem.of(counts, calibration=calibration)
    solver, default, seconds = fg.Solver(problem=problem, options=fg.SolverOptions(method="auto", steps=steps)), None, {}
    started = time.process_time()
    while solver.current is not None:
        if solver.phase == "likelihood" and default is None:
            default, seconds["default"] = solver.outcome.x, time.process_time() - started
        solver.step()
    auto = solver.result()
    if default is None:
        default, seconds["default"] = auto.x, time.process_time() - started
    seconds["auto"], started = time.process_time() - started, time.process_time()
    alone = fg.Solver(problem=problem, options=fg.SolverOptions(method="likelihood", steps=steps)).run(progress=False)
    seconds["likelihood"] = time.process_time() - started
    images = {"mean fit": auto.x_mean_fit, "default": default, "likelihood": alone.x, "auto": auto.x}
    return {
        "lacks": {name: lacks(image, truth) for name, image in images.items()},
        "seconds": seconds,
        "auto": auto.stops["likelihood"].reason.name,
        "words": str(auto.stops["likelihood"]),
        "likelihood": alone.stops["likelihood"].reason.name,
        "photons per emission": [calibration.estimate.photons_per_emitter, ROWS[row][1]],
    }


def kept(folder: Path | None, key: str, make: Any) -> dict[str, Any]:
    """Figures of one recording: those of an earlier run of this revision, or made now and kept."""
    if folder is None:
        return dict(make())
    path = folder / "likelihood.rows.partial.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    key = f"{revision()} {key}"
    if key not in rows:
        rows[key] = make()
        folder.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(".new")
        whole.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        os.replace(whole, path)
    return dict(rows[key])


def table_of(report: Report, options: Options) -> None:
    """Every method on every kind of recording, mean of the seeds."""
    seeds, frames, steps = options.pick((0, 1, 2), (0,)), options.pick(500, 24), options.pick(40, 6)
    rows: list[list[Any]] = []
    ratios: list[float] = []
    for row in options.pick(list(ROWS), list(ROWS)[2:3]):
        for kind in options.pick(SHAPES, ("bar",)):
            found = []
            for seed in seeds:
                key = f"{row}, {kind}, seed {options.seed + seed}, {frames} frames, {steps} steps"
                given = (row, kind, options.seed + seed, frames, steps)
                found.append(kept(options.results, key, lambda given=given: figures_of(*given)))
            lacking = {name: float(np.mean([one["lacks"][name] for one in found])) for name in METHODS}
            chosen, mixed = (
                sum(one[name] == word for one in found) for name, word in (("auto", "CHOSEN"), ("likelihood", "STEPS"))
            )
            seconds = {name: float(np.mean([one["seconds"][name] for one in found])) for name in METHODS[1:]}
            rows.append(
                [row, kind, *lacking.values(), f"{chosen} of {len(seeds)}", f"{mixed} of {len(seeds)}", *seconds.values()]
            )
            ratios.append(lacking["auto"] / lacking["default"])
            if ROWS[row][2] == "blinking":
                report.target(
                    f"likelihood over default, {row}, {kind}", lacking["likelihood"] / lacking["default"], at_most=1.0
                )
    report.target("auto over default, the worst row", max(ratios), at_most=1.0)
    report.table(
        "NRMSE after a blur of one fine pixel, photons per emission and background estimated",
        [
            "recording",
            "structure",
            *METHODS,
            "auto takes likelihood",
            "chains mixed",
            *(f"{name}, s of CPU" for name in METHODS[1:]),
        ],
        rows,
        note=f"16 x 16 camera pixels, {frames} frames, mean of {len(seeds)} seeds. Of molecules that blink: against their own "
        "light. A likelihood whose chains did not mix is the default's image.",
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


def information_of(report: Report, options: Options) -> None:
    """What 500 frames hold of a pair against its bar: by the mean, by mean and covariance, and by all that they show."""
    frames, rows = options.pick(600, 24), []
    regimes = ((0.1, 100), (0.3, 100), (1, 100), (0.3, 1000), (1, 1000), (3, 1000)) if not options.quick else ((1, 100),)
    for number, photons in regimes:
        psi, rng = operator(SIZE, photons), np.random.default_rng(options.seed)
        model = fg.ForwardModel(psi, gain=CAMERA.gain, noise_std=CAMERA.noise_std)
        images = {kind: structure(kind) / structure(kind).sum() * number for kind in ("pair", "bar")}
        counts = {kind: emissions_recorded(x, photons, frames, rng) - np.float32(CAMERA.offset) for kind, x in images.items()}
        b = np.full(psi.shape, BACKGROUND)
        even = {kind: Pair(0.999 * x + 0.001 * x.mean(), b) for kind, x in images.items()}
        others = statistics(model, images, counts, b)
        proposals = np.full(frames, 20 + 6 * int(np.ceil(number)))
        given = (model, even["bar"], even["pair"], Brightness(), proposals)
        sampled = np.array([[unseen_gain(y, *given, seed=run, step=0).of_frames for y in counts.values()] for run in range(2)])
        found, groups = distances(sampled, others), np.array_split(np.arange(frames), 20)
        without = [distances(np.delete(sampled, group, axis=2), np.delete(others, group, axis=2)) for group in groups]
        errors = np.std(without, axis=0) * (len(groups) - 1) ** 0.5
        noise = float(np.mean([np.cov(*sampled[:, k])[0, 1] / sampled[:, k].var(axis=1, ddof=1).mean() for k in range(2)]))
        rows.append([number, photons, *(f"{d:.2f} ± {e:.2f}" for d, e in zip(found, errors)), 1.0 - noise])
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


def time_of(report: Report, options: Options) -> None:
    """Seconds of the likelihood's fit on 32 x 32 pixels, and how they grow with frames and emissions."""
    size, steps, rng = options.pick(32, 16), options.pick(40, 2), np.random.default_rng(options.seed)
    rows: list[list[Any]] = []
    cases = ((500, 5.0), (250, 5.0), (500, 10.0)) if not options.quick else ((20, 5.0),)
    for frames, number in cases:
        x = np.zeros((size * FACTOR,) * 2)
        x[size : 3 * size, size : 3 * size : 8] = 1.0
        counts = emissions_recorded(x / x.sum() * number, 300.0, frames, rng)
        problem = fg.Problem.of(counts, psi=operator(size, 300.0), camera=CAMERA)
        solver = fg.Solver(problem=problem, options=fg.SolverOptions(method="likelihood", steps=steps))
        cpu, wall = time.process_time(), time.perf_counter()
        result = solver.run(progress=False)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        rows.append([frames, number, cpu, wall, result.stops["likelihood"].reason.name == "STEPS"])
    report.table(
        f'Time of `method="likelihood"` on {size} x {size} pixels, mean fit included',
        ["frames", "emissions per frame", "s of CPU", "s", "mixed"],
        rows,
    )
    if not options.quick:
        report.target("500 frames of 32 x 32, 5 emissions per frame, s", rows[0][3], at_most=60.0)
        report.target("twice the frames, times the CPU", rows[0][2] / rows[1][2], at_most=2.2)
        report.target("twice the emissions, times the CPU", rows[2][2] / rows[0][2], at_most=2.2)


def run(options: Options) -> Report:
    """What there is to be won, what is won, and the time."""
    report = Report("likelihood", options)
    information_of(report, options)
    table_of(report, options)
    time_of(report, options)
    if options.results is not None:
        (options.results / "likelihood.rows.partial.json").unlink(missing_ok=True)
    return report


if __name__ == "__main__":
    main("likelihood", run)
