"""A sample that moves during the recording is told, one that stays is not, whatever its molecules do meanwhile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import erf

import fluogan_core as fg
from fluogan_core.calibration.stack_statistics import StackStatistics
from fluogan_core.calibration.thirds import ThirdsShift, drift_notes, shift_of_thirds
from fluogan_core.tuning import DEFAULT

SHAPE, FRAMES, SIGMA = (36, 40), 90, 1.3


def curves(rng: np.random.Generator) -> np.ndarray:
    """Positions of molecules along three curved lines, camera pixels."""
    parts = []
    for _ in range(3):
        start, angle, bend = rng.uniform(8, 28, 2), rng.uniform(0, 2 * np.pi), rng.normal(0, 0.01)
        turn = angle + bend * np.arange(-90, 90)
        parts.append(start + 0.3 * np.cumsum(np.c_[np.sin(turn), np.cos(turn)], axis=0))
    at = np.concatenate(parts)
    return at[((at > -2) & (at < np.array(SHAPE) + 2)).all(axis=1)]


def blinking(rng: np.random.Generator, count: int, share: float, frames_on: float) -> np.ndarray:
    on = np.empty((FRAMES, count))
    state = rng.random(count) < share
    for t in range(FRAMES):
        draw = rng.random(count)
        state = np.where(state, draw > 1 / frames_on, draw < share / (1 - share) / frames_on)
        on[t] = state
    return on


def recorded(kind: str, seed: int, move: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Counts of a sample that moves by ``move`` pixels from the first to the last third, evenly."""
    rng = np.random.default_rng([seed, *kind.encode()])
    time, at, background = np.arange(FRAMES) / FRAMES, curves(rng), np.full((FRAMES, *SHAPE), 10.0)
    if kind in ("few molecules", "one molecule", "no light"):
        at = rng.uniform(5, 30, ({"few molecules": 60, "one molecule": 1, "no light": 1}[kind], 2))
    count = len(at)
    if kind == "steady":
        light = np.full((FRAMES, count), 12.0)
    elif kind == "blinking":
        light = 100 * blinking(rng, count, 0.2, 2.0)
    elif kind == "blinking slowly":
        light = 60 * blinking(rng, count, 0.3, 30.0)
    elif kind == "molecules that bleach":
        light = 20.0 * (time[:, None] < rng.exponential(0.5, count))
    elif kind == "one border bleaches":
        light = 60 * blinking(rng, count, 0.2, 2.0) * np.exp(-2 * np.outer(time, at[:, 1] / SHAPE[1]))
    elif kind == "background that fades":
        light = 60 * blinking(rng, count, 0.2, 2.0)
        background = np.exp(-2 * time)[:, None, None] * np.linspace(10, 60, SHAPE[1])
    elif kind == "lamp":
        light = 60 * blinking(rng, count, 0.2, 2.0) * rng.uniform(0.5, 1.5, (FRAMES, 1))
    elif kind == "few molecules":
        light = 1500 * blinking(rng, count, 0.05, 3.0)
    else:
        light = np.full((FRAMES, count), {"one molecule": 800.0, "no light": 0.0}[kind])
    way = 1.5 * np.outer(time, move)
    rows, columns = (
        np.diff(0.5 * erf((np.arange(n + 1)[:, None, None] - at[:, k] - way[:, k, None]) / SIGMA / 2**0.5), axis=0)
        for k, n in enumerate(SHAPE)
    )
    photons = np.einsum("rtn,tn,ctn->trc", rows, light, columns, optimize=True) + background
    counts = 2.2 * rng.poisson(photons) + 100 + 3 * rng.standard_normal(photons.shape)
    return np.rint(counts).clip(0, 65535).astype(np.uint16)


def drift_of(stack: np.ndarray) -> ThirdsShift:
    return StackStatistics(stack).drift


STILL = (
    "steady", "blinking", "blinking slowly", "molecules that bleach", "one border bleaches", "background that fades", "lamp",
    "few molecules", "one molecule", "no light",
)  # fmt: skip


@pytest.mark.parametrize("kind", STILL)
def test_what_stays_is_not_said_to_move(kind):
    for seed in range(4):
        assert drift_notes(drift_of(recorded(kind, seed)), 3.0) == []


@pytest.mark.parametrize(
    "kind", ["steady", "blinking", "blinking slowly", "molecules that bleach", "background that fades", "lamp"]
)
@pytest.mark.parametrize("move", [(1.9, -1.3), (-0.9, 3.2)])
def test_a_drift_is_measured_within_its_errors(kind, move):
    for seed in range(2):
        found = drift_of(recorded(kind, seed, move))
        assert len(drift_notes(found, 3.0)) == 1
        assert abs(found.down - move[0]) < 4 * found.down_error < 2
        assert abs(found.right - move[1]) < 4 * found.right_error < 2


def test_a_small_drift_of_bright_light_is_told_and_a_smaller_one_is_not():
    stack = recorded("steady", 5, (0.5, 0.0))
    (note,) = drift_notes(drift_of(stack), 3.0)
    assert "moved by about 0.5 pixels between the first and the last third" in note
    assert "correct the drift (--drift auto" in note
    assert drift_notes(drift_of(stack), 8.0) == []


def test_errors_are_of_the_size_of_the_misses():
    misses = []
    for kind in ("steady", "blinking", "molecules that bleach"):
        for seed in range(10, 16):
            found = drift_of(recorded(kind, seed))
            misses += [found.down / found.down_error, found.right / found.right_error]
    assert 0.4 < np.sqrt(np.mean(np.square(misses))) < 2.0


def test_lines_tell_a_shift_across_them_only():
    at = np.linspace(-5, 45, 300)
    rng = np.random.default_rng(3)
    profile = [np.exp(-(((np.arange(40) - 18 - t / 45) / SIGMA) ** 2) / 2) for t in range(FRAMES)]
    stack = rng.poisson(30 * np.array(profile)[:, None, :] + 5 + 0 * at[:36, None])
    found = drift_of(stack)
    assert found.right == pytest.approx(4 / 3, abs=0.1)
    assert not abs(found.down) > 5 * found.down_error
    (note,) = drift_notes(found, 3.0)
    assert "to the right" in note


def test_hot_pixels_do_not_hold_the_sample():
    stack = recorded("blinking", 2, (1.9, -1.3))
    rng = np.random.default_rng(1)
    stack[:, rng.integers(0, 36, 8), rng.integers(0, 40, 8)] = 4000
    found = drift_of(stack)
    assert abs(found.down - 1.9) < 4 * found.down_error < 2
    assert abs(found.right + 1.3) < 4 * found.right_error < 2


@pytest.mark.parametrize("shape", [(8, 36, 40), (90, 14, 40)])
def test_short_stacks_and_small_fields_do_not_tell(shape):
    found = shift_of_thirds(np.random.default_rng(0).poisson(9.0, shape), np.ones(shape[1:]))
    assert (found.distance, found.clear, found.down_error) == (0.0, False, np.inf)
    assert drift_notes(found, 3.0) == []


@pytest.mark.parametrize("given", [{"gain": 2.2}, {"camera": fg.Camera(2.2, 100.0, 3.0), "photons_per_emitter": 50.0}])
def test_a_calibration_says_that_the_sample_moved_whatever_is_given(given):
    psi = fg.Psi(fg.gaussian_psf(306, 100, 2), SHAPE, 2, backend="numpy")
    moved, still = (fg.calibrate(recorded("blinking", 1, move), psi, psf_width=1, **given) for move in ((1.9, -1.3), (0, 0)))
    assert sum("the sample moved by about 2." in remark for remark in moved.remarks) == 1
    assert not any("the sample moved" in remark for remark in still.remarks)


def test_numbers_by_trial_can_be_passed():
    stack = recorded("steady", 5, (0.9, 0.0))
    plain = DEFAULT.calibration.drift
    for other in ({"clear": 100.0}, {"alike": 1e9}, {"fewest_frames": 1000}, {"fewest_blocks": 1e9}, {"block": 13}):
        tuned = replace(DEFAULT.calibration, drift=replace(plain, **other))
        assert StackStatistics(stack).drift.clear
        assert not StackStatistics(stack, tuning=tuned).drift.clear
    assert drift_notes(drift_of(stack), 3.0, replace(plain, least=0.5)) == []
