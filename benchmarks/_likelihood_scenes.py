"""Recordings by which the full likelihood is judged, and how far an image is from what emitted.

Fields of lines of eq. (1) and of molecules that blink, isolated molecules, and molecules on a spiral as public benchmarks have
them.  The photons per emission and the background are never given to a method; the camera is.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

import fluogan_core as fg

from .paper._methods import mlem

SIZE, FACTOR, PIXEL, FWHM, BACKGROUND = 16, 4, 100.0, 318.0, 3.0
CAMERA = fg.Camera(gain=2.0, offset=100.0, noise_std=2.0)
STOPS = (50, 200, 500, 1000)
SHAPES = ("pair", "bar", "thin lines")
#: The image that the likelihood fit draws emissions from.
EXPECTED = "likelihood, expected light"


class Row(NamedTuple):
    """A kind of recording.

    Attributes
    ----------
    number, photons : float
        Emissions per frame and photons of each; of molecules that blink, those on in a frame, and photons of a whole frame.
    frames_on : float or None
        Frames for which a molecule is on in the mean; None for eq. (1).
    before : (float, float) or None
        The least NRMSE of pair and bar of all that was tried before there was a likelihood fit: a trial of the likelihood with
        known background and photons per emission, with and without edges that cost; the default; the mean fit; MLEM.
    """

    number: float
    photons: float
    frames_on: float | None = None
    before: tuple[float, float] | None = None


ROWS = {
    "3 emissions per frame of 1000 photons": Row(3, 1000, before=(0.112, 0.061)),
    "10 of 300": Row(10, 300, before=(0.119, 0.061)),
    "3 of 100": Row(3, 100, before=(0.184, 0.152)),
    "10 of 100": Row(10, 100, before=(0.135, 0.079)),
    "30 of 100": Row(30, 100, before=(0.180, 0.108)),
    "4.5 molecules on, 1000 photons, for a frame": Row(4.5, 1000, 1.0, (0.292, 0.248)),
    "30 molecules on, 300 photons, for a frame": Row(30, 300, 1.0),
    "4.5 molecules on, 1000 photons, for five frames": Row(4.5, 1000, 5.0),
}


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


def recorded_counts(light: np.ndarray, rng: np.random.Generator, camera: fg.Camera = CAMERA) -> np.ndarray:
    """Counts of expected photons."""
    counts = camera.gain * rng.poisson(np.maximum(light, 0)) + camera.offset
    return (counts + camera.noise_std * rng.standard_normal(counts.shape)).astype(np.float32)


def emissions_recorded(x: np.ndarray, kappa: float, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Counts by eq. (1)."""
    psi = operator(x.shape[0] // FACTOR, kappa)
    light = psi.forward(rng.poisson(x, (frames, *x.shape)).astype(np.float32))
    return recorded_counts(np.maximum(light, 0) + BACKGROUND, rng)


def recorded(row: str, kind: str, seed: int, frames: int) -> tuple[np.ndarray, fg.Camera, np.ndarray]:
    """Frames, camera, and the light of the truth, (64, 64): of molecules that blink, their own."""
    number, photons, frames_on, _ = ROWS[row]
    shape = structure(kind)
    if frames_on is None:
        x = shape / shape.sum() * number
        rng = np.random.default_rng([seed, list(ROWS).index(row), SHAPES.index(kind)])
        return emissions_recorded(x, photons, frames, rng), CAMERA, x * photons
    duty, frame_ms = 0.03, 20.0  # whole frames and parts of frames
    on_ms = frames_on * frame_ms
    kinetics = fg.Blinking(on_ms=on_ms, off_ms=on_ms * (1 - duty) / duty, bleach_s=np.inf, photons_per_frame=photons)
    made = fg.simulate_sofi(
        shape,
        pixel_size_nm=PIXEL,
        factor=FACTOR,
        frames=frames,
        density_per_um2=number / duty / (shape.sum() * (PIXEL / FACTOR / 1000) ** 2),
        fwhm_nm=FWHM,
        frame_ms=frame_ms,
        background=BACKGROUND,
        blinking=kinetics,
        seed=seed,
    )
    return made.frames, fg.Camera(made.gain, made.offset, made.noise_std), made.x * made.photons_per_emitter


def switching(share: np.ndarray, frames: int, frames_on: float, rng: np.random.Generator) -> np.ndarray:
    """(T, n) of 0 and 1: molecules that switch between frames, on for ``share`` of them, for so many in a row in the mean."""
    end = 1.0 / frames_on
    begin, state, on = end * share / (1 - share), rng.random(len(share)) < share, np.empty((frames, len(share)))
    for t in range(frames):
        drawn = rng.random(len(share))
        state = on[t] = np.where(state, drawn > end, drawn < begin)
    return on


def isolated(seed: int, frames: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames of nine isolated molecules of 500 photons, their fine pixels (9, 2), and their mean light, photons per frame."""
    rng, psi = np.random.default_rng([seed, 9]), operator(32, 1.0)
    at = np.array([(FACTOR * (5 + 10 * i) + 2, FACTOR * (5 + 10 * j) + 2) for i in range(3) for j in range(3)])
    light = 500.0 * switching(np.linspace(0.02, 0.3, 9), frames, 4.0, rng)
    image = np.zeros((frames, *psi.fine_shape), np.float32)
    image[:, at[:, 0], at[:, 1]] = light
    return recorded_counts(psi.forward(image) + BACKGROUND, rng), at, light.mean(axis=0)


def light_of_spots(x: np.ndarray, at: np.ndarray, radius: float = 4.0 * FACTOR) -> np.ndarray:
    """Light of an image within four camera pixels of each spot."""
    rows, columns = np.indices(x.shape)
    return np.array([x[np.hypot(rows - r, columns - c) <= radius].sum(dtype=np.float64) for r, c in at])


def error_of_spots(at: np.ndarray, light: np.ndarray, frames: int) -> np.ndarray:
    """Standard error of the light of each spot, of weighted least squares on the mean frame with place and background known."""
    psi, errors = operator(32, 1.0), []
    for (r, c), photons in zip(at, light):
        one = np.zeros(psi.fine_shape, np.float32)
        one[r, c] = 1.0
        spot = psi.forward(one).astype(np.float64)
        variance = (spot * photons + BACKGROUND + (CAMERA.noise_std / CAMERA.gain) ** 2) / frames
        errors.append((spot**2 / variance).sum() ** -0.5)
    return np.array(errors)


def spiral(seed: int, frames: int) -> tuple[np.ndarray, fg.Camera, fg.Psi, np.ndarray]:
    """500 molecules on a spiral, 15 on in a frame, for three frames, 3000 photons each; the light of the truth, (128, 128)."""
    rng, camera, fine = np.random.default_rng([seed, 500]), fg.Camera(gain=1.0, offset=819.0, noise_std=22.0), 16
    radius = np.sqrt(np.linspace(15.0**2, 1720.0**2, 500))
    at = np.floor(fine * (16 + np.c_[radius * np.sin(radius / 74), radius * np.cos(radius / 74)] / 128)).astype(int)
    on = 3000.0 * switching(np.full(500, 0.03), frames, 3.0, rng)
    finest = fg.Psi(fg.gaussian_psf(256, 128, fine), (32, 32), fine, backend="numpy")
    light, truth = np.empty((frames, 32, 32), np.float32), np.zeros(finest.fine_shape, np.float32)
    for t, photons in enumerate(on):
        image = np.zeros(finest.fine_shape, np.float32)
        np.add.at(image, (at[:, 0], at[:, 1]), photons)
        light[t], truth = finest.forward(image), truth + image / frames
    step = fine // FACTOR
    truth = truth.reshape(32 * FACTOR, step, 32 * FACTOR, step).sum(axis=(1, 3))
    psi = fg.Psi(fg.gaussian_psf(256, 128, FACTOR), (32, 32), FACTOR, backend="numpy")
    return recorded_counts(light + 819.0, rng, camera), camera, psi, truth


def lacks(found: np.ndarray, truth: np.ndarray, blur: float = 1.0) -> float:
    """NRMSE after a blur of one fine pixel (standard deviation), at equal light."""
    blurred, wanted = gaussian_filter(found.astype(np.float64), blur), gaussian_filter(truth.astype(np.float64), blur)
    blurred *= wanted.sum() / max(float(blurred.sum()), 1e-30)
    return float(np.linalg.norm(blurred - wanted) / np.linalg.norm(wanted))


class Found(NamedTuple):
    """Images of one recording in photons per fine pixel and frame, what became of the phases, and seconds."""

    images: dict[str, np.ndarray]
    facts: dict[str, Any]


def found(counts: np.ndarray, camera: fg.Camera, psi: fg.Psi, steps: int) -> Found:
    """Every method on one recording; the default's image is what ``auto`` begins with."""
    calibration = fg.calibrate(counts, psi, camera=camera, psf_width=1.0)
    problem = fg.Problem.of(counts, calibration=calibration)
    options = fg.SolverOptions(method="auto", steps=steps)
    if steps < fg.SolverOptions().steps:  # a quick run
        options = dataclasses.replace(options, warm_steps=20)
    solver, default, seconds = fg.Solver(problem=problem, options=options), None, {}
    started = time.process_time()
    while solver.current is not None:
        if solver.phase == "likelihood" and default is None:
            default, seconds["default"] = solver.outcome.x, time.process_time() - started
        solver.step()
    auto = solver.result()
    if default is None:
        default, seconds["default"] = auto.x, time.process_time() - started
    seconds["auto"], started = time.process_time() - started, time.process_time()
    alone = fg.Solver(problem=problem, options=dataclasses.replace(options, method="likelihood"))
    fitted = alone.run(progress=False)
    seconds["likelihood"] = time.process_time() - started
    kappa = float(calibration.estimate.photons_per_emitter)
    expected = alone.phases[1].expected.x if fitted.stops["likelihood"].reason is fg.StopReason.STEPS else fitted.x
    images = {"mean fit": auto.x_mean_fit, "default": default, "likelihood": fitted.x, "auto": auto.x, EXPECTED: expected}
    images = {name: kappa * np.asarray(image, dtype=np.float64) for name, image in images.items()}
    mean = (counts.mean(axis=0, dtype=np.float64) - camera.offset) / camera.gain
    job: Any = SimpleNamespace(psi=_of_one_photon(psi), mean=mean, fit=SimpleNamespace(b=auto.b_mean_fit))
    images |= {f"MLEM, {stop} steps": mlem(job, stop) for stop in STOPS if stop <= 25 * steps}  # a quick run has few
    return Found(
        images,
        {
            "seconds": seconds,
            "auto": auto.stops["likelihood"].reason.name,
            "words": str(auto.stops["likelihood"]),
            "likelihood": fitted.stops["likelihood"].reason.name,
            "photons per emission": kappa,
        },
    )


def _of_one_photon(psi: fg.Psi) -> fg.Psi:
    return fg.Psi(psi.psf, psi.shape, psi.factor, backend="numpy")


# -- figures that are kept -----------------------------------------------------------------------------------------------


@functools.cache
def sources() -> str:
    """What the figures depend on: the library, its kernels, and these scenes."""
    root, digest = Path(__file__).parents[1], hashlib.sha1()
    files = [path for folder in ("fluogan_core", "kernels") for path in sorted((root / folder).rglob("*.py"))]
    for path in [*files, Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def kept(folder: Path | None, key: str, make: Callable[[], Any]) -> Any:
    """Figures of one recording: those of an earlier run of these sources, or made now and kept."""
    if folder is None:
        return make()
    path = folder / "likelihood.rows.partial.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    key = f"{sources()} {key}"
    if key not in rows:
        rows[key] = make()
        folder.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(".new")
        whole.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        os.replace(whole, path)
    return rows[key]
