"""Are the errors that the estimates state those that they make?

A pull is (estimate - truth) / stated error.  Over many recordings of one kind pulls should have the mean 0 and the standard
deviation 1.  The read noise of each recording is drawn from the range that the estimate assumes where it is not given, 0 to 2.5
electrons: what offset and read noise leave open is part of their stated errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fluogan_core as fg
from fluogan_core.simulation.phantom import smooth_background
from fluogan_core.simulation.photokinetics import Blinking
from fluogan_core.tuning import DEFAULT

from ._harness import Options, Report, main

GAIN, OFFSET = 2.2, 100.0
SHAPE, FWHM, PIXEL, FACTOR = (32, 32), 318.0, 100.0, 2
#: Largest read noise that the estimate expects, electrons.
MOST_READ_NOISE = DEFAULT.calibration.camera.most_read_noise
#: Mean and standard deviation of pulls that count as calibrated.
MEAN, SPREAD = 0.3, (0.8, 1.3)

#: What makes the photons of one recording, (frames, rows, columns), and the photons per emission; None without emissions.
Regime = Callable[[np.random.Generator], tuple[np.ndarray, float | None]]


def operator() -> fg.Psi:
    """The operator of all recordings."""
    return fg.Psi(fg.gaussian_psf(FWHM, PIXEL, FACTOR), SHAPE, FACTOR, backend="numpy")


def steady(frames: int) -> Regime:
    """A ramp of light that does not flicker, from anything between no light and 20 photons."""

    def photons(rng: np.random.Generator) -> tuple[np.ndarray, None]:
        ramp = np.broadcast_to(np.linspace(rng.uniform(0.0, 20.0), 200.0, SHAPE[1]), (frames, *SHAPE))
        return rng.poisson(ramp), None

    return photons


def double_poisson(frames: int, kappa: float, light: float) -> Regime:
    """Eq. (1): lines of ``light`` photons per fine pixel on a smooth background, ``kappa`` photons per emission."""
    pattern = fg.argolight_pattern((240,), pixel_size_nm=PIXEL, factor=FACTOR, shape=SHAPE, margin_nm=200)
    psi = operator()

    def photons(rng: np.random.Generator) -> tuple[np.ndarray, float]:
        emissions = rng.poisson(pattern.x * light / kappa, size=(frames, *psi.fine_shape)).astype(np.float32)
        background = smooth_background(SHAPE, light / 8, seed=int(rng.integers(2**31)))
        return rng.poisson(np.maximum(psi.forward(kappa * emissions), 0) + background), kappa

    return photons


def blinking(frames: int) -> Regime:
    """Molecules on the same lines that switch on and off; what an emission is then is not one number."""
    pattern = fg.argolight_pattern((240,), pixel_size_nm=PIXEL, factor=FACTOR, shape=SHAPE)
    background = smooth_background(SHAPE, 10)

    def photons(rng: np.random.Generator) -> tuple[np.ndarray, None]:
        made = fg.simulate_sofi(
            pattern,
            fwhm_nm=FWHM,
            background=background,
            blinking=Blinking(20, 40.0),
            seed=int(rng.integers(2**31)),
            frames=frames,
        )
        return np.asarray((made.frames.astype(np.float64) - made.offset) / made.gain), None

    return photons


def pulls_of(regime: Regime, rng: np.random.Generator, *, already_recorded: bool = False) -> dict[str, float]:
    """Pulls of one recording by name."""
    photons, kappa = regime(rng)
    noise = 0.0 if already_recorded else float(rng.uniform(0.0, MOST_READ_NOISE * GAIN))
    counts = GAIN * photons + OFFSET + noise * rng.standard_normal(photons.shape)
    psi = operator()
    found = fg.estimate_camera(counts, psi)
    pulls = {"gain": (found.camera.gain - GAIN) / found.gain_error}
    if not already_recorded:
        pulls["offset"] = (found.camera.offset - OFFSET) / found.offset_error
        pulls["read noise"] = (found.camera.noise_std - noise) / found.noise_std_error
    if kappa is not None:
        pulls["photons per emission"] = (found.photons_per_emitter - kappa) / found.photons_per_emitter_error
        width = fg.estimate_psf_width(counts, psi)
        pulls["PSF width"] = (width.measured - 1.0) / width.error
    return pulls


def run(options: Options) -> Report:
    """Pulls over many seeds in each regime."""
    report = Report("pulls", options)
    seeds, frames = options.pick(100, 3), options.pick(300, 40)
    regimes = {
        "steady light": (steady(frames), False),
        "eq. (1), 20 photons per emission": (double_poisson(frames, 20.0, 80.0), False),
        "eq. (1), 4 photons per emission": (double_poisson(frames, 4.0, 40.0), False),
        "blinking molecules": (blinking(frames), True),
    }
    rows: list[list[Any]] = []
    for label, (regime, recorded) in regimes.items():
        generators = (np.random.default_rng([options.seed, seed]) for seed in range(seeds))
        found = [pulls_of(regime, rng, already_recorded=recorded) for rng in generators]
        values = np.array([list(pulls.values()) for pulls in found])
        means, spreads, far = values.mean(axis=0), values.std(axis=0, ddof=1), (np.abs(values) > 3).sum(axis=0)
        rows += [[label, name, seeds, float(m), float(s), int(f)] for name, m, s, f in zip(found[0], means, spreads, far)]
        report.target(f"pulls, {label}: mean farthest from 0", float(np.abs(means).max()), at_most=MEAN)
        report.target(f"pulls, {label}: smallest standard deviation", float(spreads.min()), at_least=SPREAD[0])
        report.target(f"pulls, {label}: largest standard deviation", float(spreads.max()), at_most=SPREAD[1])
    report.table(
        "Pulls of the estimates, (estimate - truth) / stated error",
        ["recordings", "estimate", "seeds", "mean", "standard deviation", "beyond 3 errors"],
        rows,
        f"{SHAPE[0]} x {SHAPE[1]} pixels, {frames} frames, PSF {FWHM:g} nm. Calibrated: mean within {MEAN:g} of 0, standard "
        f"deviation {SPREAD[0]:g} to {SPREAD[1]:g}. Read noise is drawn from 0 to {MOST_READ_NOISE:g} electrons.",
    )
    return report


if __name__ == "__main__":
    main("pulls", run)
