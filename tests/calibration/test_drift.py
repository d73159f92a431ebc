"""The path of a sample is found to a fraction of a pixel, and following it leaves counts as they were recorded."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

import fluogan_core as fg
from fluogan_core.calibration import drift_path
from fluogan_core.calibration.drift_path import find_jumps, smoother
from fluogan_core.calibration.follow_drift import _widened
from fluogan_core.calibration.segment_shifts import refined_shifts, rough_shifts
from fluogan_core.tuning import DEFAULT

SHAPE, FRAMES, FWHM, FACTOR = (44, 44), 150, 300.0, 3
TUNING = DEFAULT.calibration.drift


def operator(shape=SHAPE) -> fg.Psi:
    return fg.Psi(fg.gaussian_psf(FWHM, 100.0, FACTOR), shape, FACTOR, backend="numpy")


def recorded(path: np.ndarray, seed: int, light: float = 1.0, bleach: bool = False) -> np.ndarray:
    """Counts of blinking molecules on three rings that move along a path."""
    rng = np.random.default_rng(seed)
    turns = rng.uniform(0, 2 * np.pi, 300)
    centre, radius = np.array([[14, 15], [27, 26], [20, 31]])[np.arange(300) % 3], np.array([7, 9, 5])[np.arange(300) % 3]
    at = centre + radius[:, None] * np.c_[np.sin(turns), np.cos(turns)]
    on = (rng.random((len(path), 300)) < 0.2) * 100.0 * light
    if bleach:
        on *= rng.exponential(1 / np.log(3), 300) > np.arange(len(path))[:, None] / len(path)
    sigma = FWHM / 235.48 * 2**0.5
    rows, columns = (
        np.diff(0.5 * erf((np.arange(n + 1)[:, None, None] - at[:, k] - path[:, k, None]) / sigma), axis=0)
        for k, n in enumerate(SHAPE)
    )
    photons = np.einsum("rtn,tn,ctn->trc", rows, on, columns, optimize=True) + 10 * light
    return np.rint(2.2 * rng.poisson(photons) + 100 + 3 * rng.standard_normal(photons.shape)).clip(0).astype(np.uint16)


def path_of(kind: str) -> np.ndarray:
    time = np.linspace(-1, 1, FRAMES)
    return {
        "even": np.outer(time, [1.0, -0.6]),
        "curved": np.stack([time**2, np.sin(3 * time)], axis=1),
        "jump": np.outer(np.arange(FRAMES) >= 61, [0.9, 0.45]),
        "jump and drift": np.outer(time, [0.8, 0.3]) - np.outer(np.arange(FRAMES) >= 90, [1.0, -0.4]),
        "still": np.zeros((FRAMES, 2)),
    }[kind]


@pytest.mark.parametrize("kind", ["even", "curved", "jump", "jump and drift"])
@pytest.mark.parametrize(
    ("light", "bleach", "most"), [(1.0, False, 0.06), (1.0, True, 0.1), (0.1, False, 0.12), (0.1, True, 0.15)]
)
def test_the_path_is_found(kind, light, bleach, most):
    path = path_of(kind)
    found = fg.estimate_drift(recorded(path, 3, light, bleach), operator())
    assert found.clear
    assert np.sqrt(((found.shifts - path + path.mean(axis=0)) ** 2).mean(axis=0)).max() < most
    jumps = {"jump": 61, "jump and drift": 90}
    assert len(found.jumps) == (kind in jumps)
    assert all(abs(jump - jumps[kind]) <= 2 for jump in found.jumps)
    assert found.distance == pytest.approx(np.ptp(path, axis=0).max(), abs=4 * found.error) or kind == "curved"


def test_a_sample_that_stays_is_left_alone():
    for seed in range(4):
        found = fg.estimate_drift(recorded(path_of("still"), seed, 1.0, seed % 2 == 1), operator())
        assert not found.clear
        assert not found.shifts.any()
        assert "none that is clear" in found.note


def test_noise_alone_and_short_stacks_do_not_tell():
    rng = np.random.default_rng(0)
    for shape in ((FRAMES, *SHAPE), (8, 40, 40), (FRAMES, 14, 40)):
        found = fg.estimate_drift(rng.poisson(9.0, shape))
        assert (found.clear, found.error) == (False, np.inf)


def test_frames_that_stand_apart_lie_between_their_neighbours():
    path = path_of("even")
    stack = recorded(path, 4)
    stack[[40, 41]] = 0
    found = fg.estimate_drift(stack, operator())
    assert found.shifts.shape == (FRAMES, 2)
    assert np.abs(found.shifts - path + path.mean(axis=0)).max() < 0.15


def test_a_pair_that_contradicts_the_others_is_dropped():
    rng, path = np.random.default_rng(1), np.linspace(0, 3, 6)
    r, c = np.mgrid[:40, :40]
    places = rng.uniform(8, 32, (9, 2))
    means = [sum(np.exp(-((r - a - s) ** 2 + (c - b) ** 2) / 5) for a, b in places) for s in path]
    means[2] = rng.random((40, 40))  # nothing in common with the others
    found = rough_shifts(np.array(means), 1.0, TUNING)
    kept = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(found[kept, 0] - found[0, 0], path[kept], atol=0.15)


def test_a_smooth_path_is_kept_and_its_error_is_that_of_the_scatter():
    centres, scales, time = np.arange(30) * 5 + 2.0, np.ones(30), np.arange(150) + 0.0
    misses = []
    for seed in range(40):
        noise = 0.2 * np.random.default_rng(seed).standard_normal(30)
        line = smoother(0.01 * centres + noise, centres, scales, 150, [])
        path = line.matrix @ (0.01 * centres + noise)
        span = path[-1] - path[0] - 0.01 * (time[-1] - time[0])
        misses.append(span / np.linalg.norm(line.covariance_factor[-1] - line.covariance_factor[0]))
    assert 0.7 < np.std(misses) < 1.5
    assert find_jumps(np.c_[0.01 * centres + noise, noise], centres, scales, 150, TUNING) == []
    stepped = np.c_[0.01 * centres + noise + (np.arange(30) >= 12), noise]
    assert find_jumps(stepped, centres, scales, 150, TUNING) == [12]


def test_a_dim_segment_moves_as_far_as_a_bright_one():
    """Slopes fade with the light, and so does the difference that a shift makes."""
    rng, (r, c) = np.random.default_rng(1), np.mgrid[:40, :40]
    places, path, light = rng.uniform(8, 32, (40, 2)), np.tile([0.15, -0.15], 6), np.linspace(1.6, 0.4, 12)
    means = [a * sum(np.exp(-((r - p - s) ** 2 + (c - q) ** 2) / 5) for p, q in places) for a, s in zip(light, path)]
    found, others, _, _ = refined_shifts(np.array(means), np.zeros((12, 2)), np.ones((40, 40)), TUNING)
    places_down = found[:, 0] - found[:, 0].mean()
    np.testing.assert_allclose(places_down, path, rtol=0.15)
    np.testing.assert_allclose(places_down / path, places_down[0] / path[0], rtol=0.01)
    np.testing.assert_allclose(others[:, :, 0].mean(axis=0), found[:, 0], atol=0.01)
    noisy = np.array(means) + 0.05 * rng.standard_normal((12, 40, 40))
    scales = refined_shifts(noisy, np.zeros((12, 2)), np.ones((40, 40)), TUNING)[2]
    assert scales.mean() == pytest.approx(1)
    assert 4 < scales[-1] / scales[0] < 40  # the light is a quarter, and so is what a shift makes of it


def test_two_strengths_that_take_turns_do_not_cost_the_path(monkeypatch):
    """A smooth path makes a stiff one likelier and the other way round, where both are about as likely."""
    calls, of_places = [0], drift_path._likelihoods

    def in_turn(*arguments):
        without, with_more = of_places(*arguments)
        calls[0] += 1
        without[[0, -1][calls[0] // 2 % 2]] += 1000.0  # both axes are smoothed in each round
        return without, with_more

    monkeypatch.setattr(drift_path, "_likelihoods", in_turn)
    path = path_of("curved") + path_of("even")
    found = fg.estimate_drift(recorded(path, 3), operator())
    assert found.clear
    assert np.ptp(found.shifts, axis=0).min() > 0.3


def test_a_followed_stack_holds_counts_as_they_were_recorded():
    path = np.rint(path_of("even") * 2)
    stack = fg.Stack(recorded(path, 5), pixel_size_nm=100.0, roi=(10, 20, *SHAPE))
    moving, psi = fg.follow_drift(stack, operator(), fg.Drift(path, 4.0, 0.0, clear=True))
    top, left, rows, columns = moving.roi
    assert (rows, columns) == moving.frames.shape[1:] == psi.shape == (SHAPE[0] - 4, SHAPE[1] - 2)
    assert moving.frames.dtype == stack.frames.dtype
    for number in (0, 70, 149):
        down, right = (path[number] + (top - 10, left - 20)).astype(int)
        np.testing.assert_array_equal(moving.frames[number], stack.frames[number, down : down + rows, right : right + columns])
    np.testing.assert_array_equal(psi.psf, operator().psf)  # whole pixels leave no rest


def test_the_model_of_a_followed_stack_is_that_of_its_mean_frame():
    """The mean over frames of shifted, noise-free light is Psi x of the widened PSF."""
    rng, path = np.random.default_rng(2), path_of("curved") * 0.45
    fine = np.zeros((SHAPE[0] * FACTOR, SHAPE[1] * FACTOR))
    fine[tuple(rng.integers(40, 90, (2, 20)))] = 5.0
    spectrum, waves = np.fft.fft2(fine), [np.fft.fftfreq(n) for n in fine.shape]
    frames = []
    for down, right in path * FACTOR:
        moved = np.fft.ifft2(spectrum * np.exp(-2j * np.pi * (waves[0][:, None] * down + waves[1] * right))).real
        frames.append(operator().forward(moved))
    moving, psi = fg.follow_drift(np.array(frames), operator(), fg.Drift(path, 0.9, 0.0, clear=True))
    np.testing.assert_allclose(moving.frames.mean(axis=0), psi.forward(fine), atol=2e-3 * np.max(frames))
    still = operator().forward(fine)
    assert np.abs(moving.frames.mean(axis=0) - still).max() > 1e-2 * still.max()


def test_the_mean_psf_has_the_mean_and_the_spread_of_the_shifts():
    shifts = np.random.default_rng(0).uniform(-1.5, 1.5, (200, 2))
    psf, axis = fg.gaussian_psf(FWHM, 100.0, FACTOR), lambda image: np.arange(len(image)) - len(image) // 2
    wider = _widened(psf, shifts)
    assert wider.min() >= 0
    assert wider.sum() == pytest.approx(1)
    lines = [(image.sum(axis=1), axis(image)) for image in (psf, wider)]
    means = [line @ at for line, at in lines]
    spreads = [line @ at**2 - mean**2 for (line, at), mean in zip(lines, means)]
    assert means[1] == pytest.approx(shifts[:, 0].mean(), abs=1e-4)
    assert spreads[1] - spreads[0] == pytest.approx(shifts[:, 0].var(), rel=1e-2)


def test_hot_pixels_are_not_smeared():
    path = path_of("even") * 3
    stack = recorded(path, 6)
    hot = stack.copy()
    hot[:, 12, 30] = 9000
    drift = fg.Drift(path, 6.0, 0.0, clear=True)
    clean, _ = fg.follow_drift(stack, operator(), drift)
    filled, _ = fg.follow_drift(hot, operator(), drift)
    assert filled.frames.max() < 1.5 * clean.frames.max()


@pytest.mark.parametrize(
    ("shifts", "message"),
    [
        (np.zeros((5, 2)), "for each of 150 frames"),
        (np.full((FRAMES, 2), np.nan), "finite"),
        (np.linspace([0, 0], [40, 0], FRAMES), "take fewer frames"),
    ],
)
def test_a_drift_that_does_not_fit_is_refused(shifts, message):
    with pytest.raises(ValueError, match=message):
        fg.follow_drift(np.full((FRAMES, *SHAPE), 100), operator(), fg.Drift(shifts, 0.0, 0.0, clear=True))


def test_what_is_no_operator_is_named():
    with pytest.raises(TypeError, match="psi must be an operator"):
        fg.estimate_drift(np.full((FRAMES, *SHAPE), 100), 3)
