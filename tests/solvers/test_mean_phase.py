"""The mean phase as a phase: what it records, when it ends, its step sizes, and what of it is saved and read back."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from psfs import tiny_psf

import fluogan_core as fg
from fluogan_core.objective.blur import GaussianKernel
from fluogan_core.objective.reweighting import ReweightedL1
from fluogan_core.objective.terms import Objective
from fluogan_core.solvers.mean_fit import MeanPhase
from fluogan_core.solvers.phase import Images, StopReason
from fluogan_core.solvers.schema import check_state
from fluogan_core.tuning import DEFAULT

PSI = fg.Psi(tiny_psf(5, 0.1), (7, 6), 2, backend="numpy")


def phase(planned: int, *, scale: float = 1.0, prior: Any = None, lit: float | None = None, **more) -> MeanPhase:
    """Some bright pixels on a background that meets its bound: a part of the mean frame lies below 0."""
    rng = np.random.default_rng(4)
    truth = (rng.random(PSI.fine_shape) < 0.1) * 20.0
    mean = (PSI.forward(truth) - 0.3 + 0.2 * rng.standard_normal(PSI.shape)).astype(np.float32) * np.float32(scale)
    weights = {"prior": prior} if prior is not None else {"sparsity": 0.01 * scale, "total_variation": 1e-3 * scale}
    o = Objective(PSI, mean, fidelity=1.5, smoothness=20.0, **weights)
    reweighting = None if lit is None else ReweightedL1(o, lit, planned)
    return MeanPhase(o, GaussianKernel(PSI, 0.2), planned=planned, reweighting=reweighting, **more)


class Ridge(fg.Prior):
    """A prior of a user's own."""

    def value(self, z):
        return 0.05 * float((z * z).sum())

    def prox(self, v, step):
        return np.maximum(v / (1 + 0.1 * step), 0)


def test_a_step_records_where_it_led():
    fit = phase(12)
    for taken in range(1, 13):
        assert fit.stop is None
        before = fit.acceleration.current[0].copy()
        record = fit.step()
        assert fit.taken == taken
        z, light, _ = fit.acceleration.current
        rms = math.sqrt(float(np.mean((fit.operator.forward(z) + fit.b - fit.objective.mean) ** 2)))
        assert record["residual"] == pytest.approx(rms * math.sqrt(42), rel=1e-6)
        assert fit.headline(record) == f"mean fit, {record['residual'] / math.sqrt(42):.3g} photons rms from the mean frame"
        assert record["change_x"] == pytest.approx(np.linalg.norm(z - before), rel=1e-9)
        np.testing.assert_allclose(light, fit.operator.forward(z), atol=1e-9)
    assert fit.stop == fg.Stop(StopReason.STEPS, 12)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_it_has_converged_where_a_step_changes_little_of_the_image_whatever_its_unit(scale):
    watched, sizes = phase(400, scale=scale), []
    for _ in range(60):
        change = watched.step()["change_x"]
        sizes.append(change / np.linalg.norm(watched.acceleration.current[0]))
    tolerance = sorted(sizes)[20]
    expected = 1 + next(number for number, size in enumerate(sizes) if size < tolerance)
    fit = phase(400, scale=scale, tolerance=tolerance)
    while fit.stop is None:
        fit.step()
    assert fit.stop == fg.Stop(StopReason.CONVERGED, expected)


def test_it_does_not_end_before_the_weights_of_its_penalty_change_no_more():
    fit = phase(80, lit=3.0, tolerance=1e9)
    last = fit.reweighting.last
    assert 1 < last < 80
    while fit.stop is None:
        fit.step()
    assert fit.stop == fg.Stop(StopReason.CONVERGED, last + 1)


def test_the_momentum_outlives_a_change_of_the_weights():
    fit = phase(40, lit=5.0)
    for _ in range(fit.reweighting.last):
        fit.step()
    (z, *_), (ahead, *_) = fit.acceleration.current, fit.acceleration.ahead
    assert fit.acceleration.t > 0.5 * fit.taken
    assert np.abs(ahead - z).max() > 0


def test_no_step_hands_on_what_came():
    rng = np.random.default_rng(0)
    z, b = (rng.random(shape).astype(np.float32) for shape in (PSI.fine_shape, PSI.shape))
    fit = phase(0)
    assert fit.stop == fg.Stop(StopReason.NOT_ASKED, 0)
    fit.start(Images(z, GaussianKernel(PSI, 0.2)(z), b))
    np.testing.assert_array_equal(fit.images.z, z)
    np.testing.assert_array_equal(fit.images.b, b)
    asked = phase(3)
    asked.start(Images(z, z, b))
    best = asked.objective.best_background(asked.operator.forward(z.astype(np.float64)))
    np.testing.assert_allclose(asked.images.b, best, atol=1e-3)
    assert np.abs(asked.images.b - b).max() > 0.1
    assert {image.dtype for image in asked.images} == {np.dtype(np.float32)}


def test_steps_are_in_double_precision_with_the_librarys_own_prior():
    """Another prior may know single precision alone."""
    assert phase(3).dtype == np.float64
    assert phase(3, prior=Ridge()).dtype == np.float32


def dense(fit: MeanPhase) -> tuple[np.ndarray, np.ndarray]:
    """Hessians of the fidelity in z, with the background held and with the best one, divided by the fidelity."""
    o, size = fit.objective, int(np.prod(PSI.fine_shape))
    light = np.stack([fit.operator.forward(u.reshape(PSI.fine_shape)).ravel() for u in np.eye(size)], axis=1)
    free = np.stack([o.unbounded_background(c.reshape(PSI.shape)).ravel() for c in light.T], axis=1)
    none = o.unbounded_background(np.zeros(PSI.shape)).ravel()
    return light.T @ light, light.T @ (light + free - none[:, None])


def largest(hessian: np.ndarray, step: np.ndarray) -> float:
    """Of the eigenvalues of D^1/2 H D^1/2 with the steps D: below 1 is safe."""
    root = np.sqrt(step.ravel())
    return float(np.linalg.eigvalsh(root[:, None] * (hessian + hessian.T) / 2 * root).max())


def test_step_sizes_are_as_long_as_is_safe():
    tuning = dataclasses.replace(DEFAULT.mean_phase, measured=(0.5,), power_iterations=200)
    fit = phase(20, tuning=tuning)
    o = fit.objective
    held, best = (o.fidelity * hessian for hessian in dense(fit))
    assert fit.step_size == pytest.approx(1 / (o.fidelity * fit.operator.norm**2), rel=1e-9)
    while fit.taken < 10:
        fit.step()
    assert fit.step_size.shape == PSI.fine_shape
    # by the margin shorter than what is safe where the best background follows ...
    assert largest(best, fit.step_size) == pytest.approx(1 / tuning.margin, rel=1e-3)
    assert 0.3 < fit.shorter < 0.99
    # ... and where it meets its bound, than what is safe without
    while fit.shorter != 1.0:
        fit.step()
    assert fit.taken < 20, "the bound is met"
    assert largest(held, fit.step_size) == pytest.approx(1 / tuning.margin, rel=1e-3)


def test_a_phase_that_is_read_back_goes_on_with_the_same_bytes():
    """With the warm start of a background that meets its bound, which decides where the next one comes to lie."""
    whole, half = phase(30, lit=3.0), phase(30, lit=3.0)
    for _ in range(13):
        half.step()
    state = half.state_dict()
    check_state(state, half.schema(True))
    assert state["bounded"] is not None, "the bound has mattered"
    later = phase(30, lit=3.0)
    later.load_state_dict(state)
    assert later.taken == 13
    while whole.stop is None:
        whole.step()
    while later.stop is None:
        later.step()
    for one, other in zip(whole.images, later.images):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    ("field", "value", "sound"),
    [
        ("taken", 0, True), ("taken", -1, False), ("taken", 1.5, False), ("shorter", 0.5, True), ("shorter", -0.1, False),
        ("b", np.full(PSI.shape, 0.0), True), ("b", np.full(PSI.shape, -0.5), False), ("b", np.zeros((2, 2)), False),
        ("bounded", np.full(PSI.shape, 0.5), True), ("bounded", np.full(PSI.shape, -0.5), False), ("bounded", None, True),
        ("bound_dual", np.full(PSI.shape, -0.5), True), ("step_size", 0.5, True), ("step_size", -0.5, False),
    ],
)  # fmt: skip
def test_what_no_phase_can_have_saved_is_refused(field, value, sound):
    fit = phase(30)
    fit.step()
    state = fit.state_dict() | {field: value}
    if sound:
        check_state(state, fit.schema(True))
    else:
        with pytest.raises(ValueError, match=field):
            check_state(state, fit.schema(True))
