"""The stated errors of a camera: each of their parts by another way, and against the scatter over many stacks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.calibration import camera, flicker
from fluogan_core.tuning import DEFAULT

SHAPE = (20, 30)
#: Without high-pass filters, so that flicker is subtracted and not filtered out.
UNFILTERED = replace(DEFAULT.calibration, camera=replace(DEFAULT.calibration.camera, orders=()))
#: Blocks of a fifth of the rows and columns, as the jackknife leaves them out.
BLOCKS = np.kron(np.arange(25).reshape(5, 5), np.ones((4, 6), dtype=int))


def steady(seed: int, *, darkest: float = 1.0, frames: int = 100, noise: float = 3.0) -> np.ndarray:
    """Frames of a ramp of light that does not flicker: gain 2.2, offset 100."""
    rng = np.random.default_rng(seed)
    ramp = np.broadcast_to(np.linspace(darkest, 120.0, SHAPE[1]), SHAPE)
    return 100 + 2.2 * rng.poisson(ramp, (frames, *SHAPE)) + noise * rng.standard_normal((frames, *SHAPE))


def line(found: fg.CameraEstimate, keep: np.ndarray, power: float = 1.0) -> np.ndarray:
    """Slope and intercept of variance on mean by numpy.polyfit, weights 1 / variance**power."""
    keep = keep & found.diagnostics["used"]
    mean, variance = (found.diagnostics[name][keep] for name in ("mean", "variance"))
    expected = found.camera.gain * (mean - found.camera.offset) + found.camera.noise_std**2
    return np.polyfit(mean, variance, 1, w=expected ** (-power / 2))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_gain_and_its_error_are_those_of_weighted_lines_over_all_pixels_and_without_each_block(seed):
    found = fg.estimate_camera(steady(seed))
    everywhere = np.ones(SHAPE, dtype=bool)
    slopes = np.array([line(found, block != BLOCKS)[0] for block in range(25)])
    jackknife = np.sqrt(24 / 25 * ((slopes - slopes.mean()) ** 2).sum())
    weighted = [line(found, everywhere, power)[0] for power in (0, 1, 2)]
    assert found.camera.gain == pytest.approx(weighted[1], rel=1e-4)
    assert np.ptp(weighted) > 2e-3  # weights matter
    assert found.gain_error == pytest.approx(np.hypot(jackknife, np.ptp(weighted) / 2), rel=1e-2)
    assert 0.2 < jackknife / found.gain_error < 0.99  # and so do both parts of the error


@pytest.mark.parametrize("darkest", [1.0, 30.0])
def test_what_the_intercept_leaves_open_is_a_read_noise_uniform_up_to_what_a_camera_or_the_darkest_pixels_allow(darkest):
    found = fg.estimate_camera(steady(7, darkest=darkest))
    gain, intercept = found.camera.gain, found.camera.noise_std**2 - found.camera.gain * found.camera.offset
    assert intercept == pytest.approx(line(found, np.ones(SHAPE, dtype=bool))[1], rel=1e-3)
    dark = np.quantile(found.diagnostics["mean"][found.diagnostics["used"]], 0.005)
    largest = min(DEFAULT.calibration.camera.most_read_noise * gain, np.sqrt(gain * dark + intercept))
    assert (largest == DEFAULT.calibration.camera.most_read_noise * gain) == (darkest == 30.0)
    square = np.random.default_rng(0).uniform(0, largest, 400_000) ** 2
    assert found.camera.noise_std**2 == pytest.approx(square.mean(), rel=0.01)
    assert found.camera.offset == pytest.approx(np.mean((square - intercept) / gain), rel=1e-3)
    crossings = [line(found, block != BLOCKS) for block in range(25)]
    crossings = np.array([(found.camera.noise_std**2 - below) / slope for slope, below in crossings])
    of_line = np.sqrt(24 / 25 * ((crossings - crossings.mean()) ** 2).sum())
    # at least by what is open, at most by the line and the three weightings besides
    assert found.offset_error > np.hypot(square.std() / gain, 0.5 * of_line)
    assert found.noise_std_error >= 0.98 * square.std() / (2 * found.camera.noise_std)
    assert found.noise_std_error < 1.5 * square.std() / (2 * found.camera.noise_std)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"offset": 100.0, "noise_std": 3.0}, "gain"),
        ({"gain": 2.2, "noise_std": 3.0}, "offset"),
        ({"gain": 2.2, "offset": 100.0}, "noise_std"),
        ({"noise_std": 3.0}, "offset"),
    ],
)
def test_errors_are_those_of_the_scatter_over_stacks(given, name):
    pulls = []
    for seed in range(60):
        found = fg.estimate_camera(steady(seed, frames=60), **given)
        truth = {"gain": 2.2, "offset": 100.0, "noise_std": 3.0}[name]
        pulls.append((getattr(found.camera, name) - truth) / getattr(found, f"{name}_error"))
    # the mean of 60 is known to 0.13, their deviation to 9 %; three weightings make errors somewhat too large
    assert abs(np.mean(pulls)) < 0.5
    assert 0.35 < np.std(pulls) < 1.3


def flickering(seed: int, kappa: float, frames: int = 120) -> tuple[np.ndarray, fg.Psi]:
    psi = fg.Psi(fg.gaussian_psf(300, 100, 1), (30, 30), 1, photons_per_emitter=kappa, backend="numpy")
    x = np.zeros(psi.fine_shape, np.float32)
    x[4:26, 8] = x[4:26, 20] = x[15, 4:26] = 60.0 / kappa
    stack = fg.ForwardModel(psi, gain=2.2, noise_std=3.0).sample(x, np.full((30, 30), 6.0, np.float32), frames, seed) + 100
    return stack, psi


def test_errors_hold_what_is_not_known_of_the_flicker():
    """Of kappa, and of the gain through the flicker that is taken off the variance."""
    kappas, gains = [], []
    for seed in range(30):
        found = fg.estimate_camera(*flickering(seed, 12.0))
        kappas.append((found.photons_per_emitter - 12.0) / found.photons_per_emitter_error)
        gains.append((found.camera.gain - 2.2) / found.gain_error)
    assert 0.5 < np.std(kappas) < 1.5
    assert 0.4 < np.std(gains) < 1.5


def with_flicker(monkeypatch, change) -> fg.CameraEstimate:
    """The estimate of a flickering stack if the fit of the flicker had given ``change(what it gives)``."""
    fit = flicker.fit_flicker
    with monkeypatch.context() as patch:
        patch.setattr(camera, "fit_flicker", lambda *arguments: change(fit(*arguments)))
        return fg.estimate_camera(*flickering(1, 12.0), tuning=UNFILTERED)


@pytest.mark.parametrize("disagreement", [0.1, 0.3])
def test_what_closer_and_wider_pairs_disagree_by_is_part_of_the_errors_of_gain_and_kappa(monkeypatch, disagreement):
    agreed = with_flicker(monkeypatch, lambda found: replace(found, disagreement=0.0, misfit=0.0))
    disagreed = with_flicker(monkeypatch, lambda found: replace(found, disagreement=disagreement, misfit=0.0))
    assert (disagreed.camera, disagreed.photons_per_emitter) == (agreed.camera, agreed.photons_per_emitter)
    # the flicker is wrong by that part of it, and the gain by that part of what the flicker changes
    with_all_flicker = line(agreed, np.ones(agreed.diagnostics["used"].shape, dtype=bool))[0]
    added = [np.sqrt(getattr(disagreed, name) ** 2 - getattr(agreed, name) ** 2) for name in ERRORS]
    assert added[0] == pytest.approx(disagreement * abs(with_all_flicker - agreed.camera.gain), rel=1e-2)
    assert added[1] == pytest.approx(disagreement * agreed.photons_per_emitter, rel=1e-6)


ERRORS = ("gain_error", "photons_per_emitter_error")


def test_the_error_of_the_gain_holds_what_the_flicker_scatters_by_without_each_block(monkeypatch):
    scatter = 1.0 + 0.05 * np.random.default_rng(0).standard_normal(26)
    scatter[0] = 1.0
    kept = []

    def scattered(found: flicker.Flicker) -> flicker.Flicker:
        kept.append(replace(found, fast=found.fast * scatter[:, None], disagreement=0.0, misfit=0.0))
        return kept[-1]

    found = with_flicker(monkeypatch, scattered)
    diagnostics, blocks = found.diagnostics, np.kron(np.arange(25).reshape(5, 5), np.ones((6, 6), dtype=int))
    expected = found.camera.gain * (diagnostics["mean"] - found.camera.offset) + found.camera.noise_std**2

    def slope(keep: np.ndarray, replicate: int, power: float = 1.0) -> float:
        keep = keep & diagnostics["used"]
        shot = diagnostics["variance"] - kept[-1].variance(replicate)
        return float(np.polyfit(diagnostics["mean"][keep], shot[keep], 1, w=expected[keep] ** (-power / 2))[0])

    def error(replicates: np.ndarray) -> float:
        slopes = np.array([slope(blocks != block, replicates[block]) for block in range(25)])
        jackknife = np.sqrt(24 / 25 * ((slopes - slopes.mean()) ** 2).sum())
        return float(np.hypot(jackknife, np.ptp([slope(blocks >= 0, 0, power) for power in (0, 1, 2)]) / 2))

    assert found.gain_error == pytest.approx(error(np.arange(1, 26)), rel=1e-2)
    assert error(np.zeros(25, dtype=int)) < 0.8 * found.gain_error  # one flicker for all replicates would be too sure
