"""The shape of the PSF from covariances: found where it is aberrated, left where it is right or nothing is known of it."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import shift

import fluogan_core as fg
from fluogan_core.calibration import psf_shape
from fluogan_core.calibration.flicker_likelihood import SourceFit
from fluogan_core.calibration.flicker_modes import FlickerModes
from fluogan_core.calibration.pixel_moments import slow_trend
from fluogan_core.calibration.psf_width import Doubt
from fluogan_core.calibration.stack_statistics import StackStatistics
from fluogan_core.physics.aberrations import aberrated_psf, core_width, shape_changes
from fluogan_core.physics.psf import cut_psf
from fluogan_core.tuning import DEFAULT

SHAPE, FACTOR, FWHM = (24, 26), 2, 6.36
WAVES = np.array([0.04, -0.02, 0.03, 0.02, 0.0, 0.0, 0.02])
TUNING = DEFAULT.calibration.psf_shape


def operator(waves=0 * WAVES, **options) -> fg.Psi:
    return fg.Psi(aberrated_psf(FWHM, waves, 35), SHAPE, FACTOR, backend="numpy", **options)


def lines() -> np.ndarray:
    rng, x = np.random.default_rng(0), np.zeros((48, 52), np.float32)
    x[8:40, [18, 24]] = 30.0
    x[rng.integers(6, 42, 20), rng.integers(6, 46, 20)] += 200.0
    return x


def recorded(
    waves: np.ndarray, seed: int, *, kappa: float = 40.0, frames: int = 250, x: np.ndarray | None = None
) -> np.ndarray:
    """Frames of eq. (1), counts; x in photons."""
    model = fg.ForwardModel(operator(waves, photons_per_emitter=kappa), gain=2.0, noise_std=2.0)
    x = lines() if x is None else x
    return model.sample(x / np.float32(kappa), np.full(SHAPE, 5.0, np.float32), frames, seed) + 100


def apart(psf: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(psf - other) / np.linalg.norm(other))


def test_aberrations_are_found_within_their_error():
    true, assumed = operator(WAVES).psf, operator()
    assert apart(assumed.psf, true) > 0.12
    for seed in range(2):
        found = fg.estimate_psf_shape(recorded(WAVES, seed), assumed)
        assert found.taken == 1.0
        assert found.note.endswith("; this shape is used")
        assert found.psf.sum() == pytest.approx(1.0)
        # and what the components do not span
        assert apart(found.psf, true) < 2 * found.error < 0.04


def test_a_psf_that_is_right_stays():
    for seed in range(2):
        found = fg.estimate_psf_shape(recorded(0 * WAVES, seed), assumed := operator())
        assert found.taken == 0.0
        assert found.psf is assumed.psf
        assert found.change < 2 * found.error
        assert "shape of the PSF: as described" in found.note


def test_a_calibration_takes_the_shape_unless_the_width_is_given():
    frames, psi = recorded(WAVES, 0), operator()
    found = fg.calibrate(frames, psi)
    # its width is measured first, which enlarges the array
    assert apart(cut_psf(found.psi.psf, (35, 35)), operator(WAVES).psf) < 0.05
    np.testing.assert_allclose(found.psi.psf, found.psf_shape.psf, rtol=1e-12, atol=1e-15)
    assert found.psf_shape.note in found.remarks
    given = fg.calibrate(frames, psi, psf_width=1)
    assert given.psf_shape is None
    np.testing.assert_array_equal(given.psi.psf, psi.psf)


def test_a_sample_that_moves_does_not_pass_for_aberrations():
    rng = np.random.default_rng(1)
    path = rng.normal(size=(250, 2)).cumsum(axis=0) * 0.25
    path -= path.mean(axis=0)
    frames = [recorded(0 * WAVES, t, frames=1, x=np.maximum(shift(lines(), path[t], order=1), 0))[0] for t in range(250)]
    found = fg.estimate_psf_shape(np.array(frames), operator())
    assert found.taken < 0.3
    assert "consecutive frames do not confirm it" in found.note


def test_without_flicker_nothing_is_changed():
    light = operator(WAVES).forward(lines())
    frames = np.random.default_rng(0).poisson(light + 5.0, (100, *SHAPE))
    found = fg.estimate_psf_shape(frames, assumed := operator())
    assert found.taken == 0.0
    assert found.psf is assumed.psf


@pytest.mark.parametrize(
    ("frames", "psi", "why"),
    [
        (19, operator(), "fewer than 20 frames"),
        (30, fg.Psi(fg.gaussian_psf(300, 100, 1), SHAPE, 1, backend="numpy"), "fine pixels wide"),
        (30, fg.Psi(fg.gaussian_psf(1100, 100, 2, truncate=2.0), SHAPE, 2, backend="numpy"), "hardly larger than the PSF"),
    ],
)
def test_what_tells_nothing_is_named(frames, psi, why):
    stack = np.random.default_rng(0).poisson(50.0, (frames, *SHAPE))
    found = fg.estimate_psf_shape(stack, psi)
    assert why in found.note
    assert (found.taken, found.error) == (0.0, np.inf)
    assert np.isnan(found.change)


def fitted(frames: np.ndarray, **changes) -> SourceFit:
    tuning = dataclasses.replace(TUNING, **changes)
    statistics, psi = StackStatistics(frames, SHAPE), operator()
    modes = FlickerModes(statistics, psi, core_width(psi.psf), tuning)
    return SourceFit(modes, modes.covariances(slow_trend(frames)), FWHM, shape_changes(psi.psf, 0.06, 5, 0.03), tuning)


def test_steps_go_uphill_and_come_to_rest():
    """The penalised likelihood by its formula; no step is left where it is highest."""
    frames = recorded(WAVES, 0)

    def likelihood(fit: SourceFit) -> float:
        covariance = (fit.columns * fit.variances) @ fit.columns.T + np.tensordot(fit.noise, fit.modes.noise, 1)
        deviance = np.linalg.slogdet(covariance)[1] + np.trace(np.linalg.solve(covariance, fit.measured))
        return -0.5 * fit.frames * float(deviance) - 0.5 * float(fit.weights @ fit.weights)

    fits = [fitted(frames, steps=steps) for steps in (0, 1, 3, 8)]
    values = [likelihood(fit) for fit in fits]
    assert values == sorted(values)
    assert values[1] > values[0] + 50
    steps = [np.abs(one.weights - other.weights).max() for one, other in pairwise(fits)]
    assert steps[-1] < 0.2 * steps[0]


def test_a_source_is_what_the_operator_makes_of_it():
    """Columns against Psi, and modes of a smooth image that hold all of it."""
    statistics, psi = StackStatistics(recorded(WAVES, 0), SHAPE), operator()
    modes = FlickerModes(statistics, psi, core_width(psi.psf), TUNING)
    place = np.array([[17, 21]])
    x = np.zeros(psi.fine_shape)
    x[17 + FACTOR * modes.window[0].start, 21 + FACTOR * modes.window[1].start] = 1.0
    image = psi.forward(x)[modes.window]
    np.testing.assert_allclose(modes.columns(psi.psf, place)[:, 0], modes.transformed(image[None])[0], atol=1e-12)
    # all but the constant
    assert np.linalg.norm(modes.columns(psi.psf, place)) == pytest.approx(np.linalg.norm(image - image.mean()), rel=1e-3)
    assert np.trace(modes.noise, axis1=1, axis2=2) == pytest.approx(np.full(6, modes.count))


def test_a_bad_pixel_changes_little():
    frames = recorded(WAVES, 0)
    whole = fg.estimate_psf_shape(frames, operator())
    frames[:, 10, 11] = 30_000
    found = fg.estimate_psf_shape(frames, operator())
    assert apart(found.psf, whole.psf) < 0.02


def test_bounds_are_crossed_by_degrees():
    fit = fitted(recorded(WAVES, 0))
    psi = operator()

    def taken(doubts=(), **changes) -> float:
        return psf_shape._judged(psi, fit, list(doubts), dataclasses.replace(TUNING, **changes)).taken

    clear = fit.significance
    assert taken() == 1.0
    assert [taken(clear=clear / part) for part in (1.0, 1.5, 2.0)] == pytest.approx([0.0, 0.5, 1.0])
    assert [taken([Doubt("so", ratio)]) for ratio in (1.0, 1.25, 2.0, np.nan)] == pytest.approx([1.0, 0.75, 0.0, 0.0])
    far = float(np.sqrt(np.mean(fit.weights**2)))
    assert [taken(most=far / part) for part in (1.0, 1.5, 2.0)] == pytest.approx([1.0, 0.5, 0.0])
    half = psf_shape._judged(psi, fit, [Doubt("so it is", 1.5)], TUNING)
    assert "50% of the change is used, because so it is" in half.note
    assert psf_shape._judged(psi, fit, [Doubt("so", 3.0)], TUNING).psf is psi.psf


@pytest.mark.parametrize(("waves", "steps"), [(0 * WAVES, 1), (WAVES, TUNING.steps)], ids=["right", "aberrated"])
def test_no_step_is_taken_where_nothing_is_clear(monkeypatch, waves, steps):
    taken, step = [], SourceFit._step
    monkeypatch.setattr(SourceFit, "_step", lambda fit: taken.append(fit) or step(fit))
    found = fg.estimate_psf_shape(recorded(waves, 0), operator())
    assert (found.taken > 0) == (steps > 1)
    assert len([fit for fit in taken if fit is taken[0]]) == steps
    assert 0 < found.error < 1
    every = dataclasses.replace(TUNING, unclear=0.0)
    taken.clear()
    whole = fg.estimate_psf_shape(
        recorded(waves, 0), operator(), tuning=dataclasses.replace(DEFAULT.calibration, psf_shape=every)
    )
    assert whole.taken == found.taken
    assert len([fit for fit in taken if fit is taken[0]]) == TUNING.steps
