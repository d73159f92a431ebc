"""How well is a drift found and followed?

Curved lines of molecules that blink, 64 x 64 pixels, 300 frames: a drift of 2 pixels, a jump of 1 pixel, and samples that stay;
bright and with a tenth of the light, with molecules that bleach to a third and without.  Then a pair of lines 220 nm apart: its
image in a still recording, in one that drifts, and in that one followed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import erf

import fluogan_core as fg

from ._harness import Options, Report, main

PIXEL, FWHM, FACTOR, FRAMES, JUMP = 100.0, 300.0, 4, 300, 137
DIRECTION = np.array([0.9, 0.44])


def operator(shape: tuple[int, int]) -> fg.Psi:
    """The operator of a recording."""
    return fg.Psi(fg.gaussian_psf(FWHM, PIXEL, FACTOR), shape, FACTOR, backend="numpy")


def path_of(kind: str) -> np.ndarray:
    """Place of the sample in each frame, (T, 2), camera pixels."""
    time = np.arange(FRAMES) / (FRAMES - 1)
    steps = {"still": 0 * time, "drift of 2 pixels": 2 * time, "jump of 1 pixel": (np.arange(FRAMES) >= JUMP) * 1.0}
    return np.outer(steps[kind], DIRECTION / np.linalg.norm(DIRECTION))


def curves(rng: np.random.Generator, shape: tuple[int, int], count: int = 6) -> np.ndarray:
    """Molecules along curved lines, camera pixels."""
    parts = []
    for _ in range(count):
        turn = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.01) * np.arange(-150, 150)
        parts.append(rng.uniform(8, shape[0] - 8, 2) + 0.3 * np.cumsum(np.c_[np.sin(turn), np.cos(turn)], axis=0))
    at = np.concatenate(parts)
    return at[((at > -2) & (at < np.array(shape) + 2)).all(axis=1)]


def pair(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Molecules on two lines 220 nm apart, camera pixels."""
    count = 6 * (shape[1] - 8)
    sides = [np.c_[np.full(count, shape[0] / 2 + side * 1.1), rng.uniform(4, shape[1] - 4, count)] for side in (-1, 1)]
    return np.concatenate(sides)


def recorded(
    at: np.ndarray, path: np.ndarray, shape: tuple[int, int], light: float, bleaching: bool, rng: np.random.Generator
) -> np.ndarray:
    """Counts of molecules at these places, on 15 % of the time for two frames each, 120 photons at ``light`` 1."""
    frames = len(path)
    on, state = np.empty((frames, len(at))), rng.random(len(at)) < 0.15
    for t in range(frames):
        draw = rng.random(len(at))
        state = np.where(state, draw > 0.5, draw < 0.5 * 0.15 / 0.85)
        on[t] = state
    if bleaching:
        on *= rng.exponential(1 / np.log(3), len(at)) > np.arange(frames)[:, None] / frames
    sigma = FWHM / 2.3548 / PIXEL * 2**0.5
    photons = np.empty((frames, *shape))
    for t in range(frames):
        lit = at[on[t] > 0] + path[t]
        rows, columns = (
            np.diff(0.5 * erf((np.arange(n + 1)[:, None] - lit[:, k]) / sigma), axis=0) for k, n in enumerate(shape)
        )
        photons[t] = light * (120 * rows @ columns.T + 10)
    counts = 2.2 * rng.poisson(photons) + 100 + 3 * rng.standard_normal(photons.shape)
    return np.rint(counts).clip(0, 65535).astype(np.uint16)


def dip_of(x: np.ndarray, middle: float) -> float:
    """1 - (light between two lines) / (light of the dimmer one), along rows; ``middle`` in fine pixels."""
    profile = x[:, x.shape[1] // 4 : -(x.shape[1] // 4)].sum(axis=1)
    at = round(middle)
    first = at - 9 + int(np.argmax(profile[at - 9 : at]))
    second = at + int(np.argmax(profile[at : at + 10]))
    return 1 - float(profile[first : second + 1].min() / min(profile[first], profile[second]))


def found(options: Options, report: Report) -> None:
    """What is found of drifts and jumps, and in samples that stay."""
    shape, seeds = options.pick((64, 64), (32, 32)), options.pick(12, 1)
    rows: list[list[Any]] = []
    worst = {1.0: 0.0, 0.1: 0.0}
    for kind in ("drift of 2 pixels", "jump of 1 pixel"):
        for light in options.pick((1.0, 0.1), (1.0,)):
            for bleaching in options.pick((False, True), (False,)):
                misses, pulls = [], []
                for seed in range(seeds):
                    rng = np.random.default_rng([options.seed, seed, 1])
                    path = path_of(kind)
                    stack = recorded(curves(rng, shape), path, shape, light, bleaching, rng)
                    drift = fg.estimate_drift(stack, operator(shape))
                    miss = drift.shifts - path + path.mean(axis=0)
                    misses.append(float(np.sqrt((miss**2).mean(axis=0)).max()))
                    pulls.append(bool(drift.clear))
                worst[light] = max(worst[light], *misses)
                label = [kind, "bright" if light == 1 else "a tenth", "to a third" if bleaching else "none"]
                rows.append([*label, seeds, sum(pulls), float(np.median(misses)), max(misses)])
    report.table(
        "Drift and jump: what is missed (root mean square over the frames, worse axis)",
        ["sample", "light", "bleaching", "seeds", "found", "median [pixels]", "largest [pixels]"],
        rows,
    )
    report.target("residual of a drift or jump, bright, largest [pixels]", worst[1.0], at_most=0.05)
    if not options.quick:
        report.target("residual of a drift or jump, a tenth of the light, largest [pixels]", worst[0.1], at_most=0.15)


def still(options: Options, report: Report) -> None:
    """Recordings of samples that stay."""
    shape, seeds, false, rows = options.pick((64, 64), (32, 32)), options.pick(10, 1), 0, []
    for light in (1.0, 0.1):
        for bleaching in (False, True):
            said = 0
            for seed in range(seeds):
                rng = np.random.default_rng([options.seed, seed, 2])
                stack = recorded(curves(rng, shape), path_of("still"), shape, light, bleaching, rng)
                said += fg.estimate_drift(stack, operator(shape)).clear
            rows.append(["bright" if light == 1 else "a tenth", "to a third" if bleaching else "none", seeds, said])
            false += said
    report.table("Samples that stay: how often a drift is said", ["light", "bleaching", "seeds", "said to move"], rows)
    report.target(f"drifts found in {4 * seeds} samples that stay", false, at_most=0)


def followed(options: Options, report: Report) -> None:
    """The pair of lines, reconstructed with default options."""
    shape, rows, least = (32, 32), [], np.inf
    settings = fg.SolverOptions(**options.pick({}, {"method": "none", "warm_steps": 20}))
    for seed in range(options.pick(2, 1)):
        dips = []
        path = path_of("drift of 2 pixels")
        for moves in (False, True):
            rng = np.random.default_rng([options.seed, seed, 3])
            stack = recorded(pair(rng, shape), path if moves else 0 * path, shape, 1.0, False, rng)
            psi, middle = operator(shape), shape[0] / 2 + (path[:, 0].mean() if moves else 0.0)
            calibration = fg.calibrate(stack, psi)
            dips.append(dip_of(fg.reconstruct(stack, calibration=calibration, options=settings).x, middle * FACTOR - 0.5))
        moving, wider = fg.follow_drift(stack, psi, fg.estimate_drift(stack, psi))
        calibration = fg.calibrate(moving, wider, psf_width=1)
        assert moving.roi is not None
        x = fg.reconstruct(moving, calibration=calibration, options=settings).x
        dips.append(dip_of(x, (middle - moving.roi[0]) * FACTOR - 0.5))
        rows.append([seed, *dips])
        least = min(least, dips[2] / max(dips[0], 1e-9))
    report.table(
        "A pair of lines 220 nm apart: dip between them",
        ["seed", "still", "drift of 2 pixels", "the same, followed"],
        rows,
        note="dip: 1 - light between the lines / light of the dimmer line",
    )
    report.target("dip of the followed pair over that of the still one, smallest", float(least), at_least=0.8)


def run(options: Options) -> Report:
    """Run the benchmark."""
    report = Report("drift", options)
    found(options, report)
    still(options, report)
    followed(options, report)
    return report


if __name__ == "__main__":
    main("drift", run)
