"""Whole reconstructions with operators of the user's own: nothing goes past their forward."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from own_operators import (
    MAKE,
    SHAPE,
    Same,
    Vignetted,
    nominal,
    scene,
    transmission,
    written_out,
)

import fluogan_core as fg
from fluogan_core.metrics import held_out_score
from fluogan_core.objective.blur import GaussianKernel
from fluogan_core.tuning import DEFAULT


@pytest.fixture(scope="module")
def psi():
    return nominal()


def test_the_mean_fit_sees_the_operator(psi):
    own = Vignetted(psi, transmission())
    truth, stack = scene(own)
    given = {"camera": fg.Camera(noise_std=1.0), "options": fg.SolverOptions(method="none")}
    right, wrong = (fg.reconstruct(stack, psi=operator, **given) for operator in (own, psi))
    assert right.psi is own
    ends = [float(image[:6].sum() / image[-6:].sum()) for image in (truth, right.x, wrong.x)]
    assert abs(ends[1] / ends[0] - 1) < 0.15, "the light of both ends, as it is"
    assert ends[2] / ends[0] < 0.6, "without the vignetting the dark end is too dim"
    residual = own.forward(right.x) + right.b - right.mean
    assert float(np.abs(residual).mean()) < 0.5


def test_what_is_measured_with_the_nominal_operator_serves_ones_own(psi):
    own = Vignetted(psi, transmission())
    _, stack = scene(own, 40)
    found = fg.calibrate(stack, own.nominal, camera=fg.Camera(noise_std=1.0), photons_per_emitter=5.0, psf_width=0.9)
    options = fg.SolverOptions(method="none", warm_steps=2)
    result = fg.reconstruct(stack, psi=own.over(found.psi), camera=found.camera, options=options)
    assert type(result.psi) is Vignetted
    assert result.psi.photons_per_emitter == 5.0
    assert result.psi.nominal == psi.scaled(0.9).replaced(photons_per_emitter=5.0)


def test_unseen_frames_are_scored_with_the_operators_entries(psi):
    x, b = scene(psi)[0], np.full(SHAPE, 4.0, np.float32)

    class Same(fg.Operator):
        def forward(self, x):
            return self.nominal.forward(x)

        def adjoint(self, y):
            return self.nominal.adjoint(y)

    frames = fg.ForwardModel(psi).sample(x, b, 30, seed=2)
    expected, found = (held_out_score(frames, fg.ForwardModel(operator), x, b, block=5) for operator in (psi, Same(psi)))
    assert found.log_density == pytest.approx(expected.log_density, rel=1e-6)
    own = Vignetted(psi, transmission())
    unseen = fg.ForwardModel(own).sample(x, b, 200, seed=3)
    right, wrong = (held_out_score(unseen, fg.ForwardModel(operator), x, b) for operator in (own, psi))
    assert right.log_density > wrong.log_density


def test_options_are_chosen_with_an_operator_of_ones_own(psi):
    own = Vignetted(psi, transmission())
    _, stack = scene(own, 60)
    options = fg.SolverOptions(method="none", warm_steps=5)
    made = fg.sweep(stack, psi=own, camera=fg.Camera(noise_std=1.0), options=options, vary={"sparsity": [1.0, 3.0]})
    assert made.best is not None


def test_a_resumed_mean_fit_of_ones_own_operator_is_the_same(psi, tmp_path):
    own = Vignetted(psi, transmission())
    _, stack = scene(own, 60)
    given = {"psi": own, "camera": fg.Camera(noise_std=1.0), "options": fg.SolverOptions(method="none", warm_steps=12)}
    whole, solver = fg.Solver(stack, **given), fg.Solver(stack, **given)
    for _ in range(5):
        solver.step()
    solver.save(tmp_path / "state")
    again = fg.Solver(stack, **given)
    again.load(tmp_path / "state")
    np.testing.assert_array_equal(again.run().x, whole.run().x)
    other = fg.Solver(stack, **{**given, "psi": Vignetted(psi, 0.9 * transmission())})
    with pytest.raises(ValueError, match="psi"):
        other.load(tmp_path / "state")


def test_files_are_written_for_an_operator_of_ones_own(psi, tmp_path):
    own = Vignetted(psi, transmission())
    _, stack = scene(own, 40)
    options = fg.SolverOptions(method="none", warm_steps=2)
    result = fg.reconstruct(stack, psi=own, camera=fg.Camera(noise_std=1.0), options=options)
    files = fg.write_result(result, tmp_path, pixel_size_nm=100.0)
    assert "Vignetted" in files["report"].read_text(encoding="utf-8")


def test_a_blur_comes_before_all_that_ones_own_operator_does(own, rng):
    kernel = GaussianKernel(own, 0.8)
    x, y = rng.random((2, *own.fine_shape)), rng.random(own.shape)
    assert len(kernel.taps) > 2
    for image, found in zip(x, kernel.operator.forward(x)):
        np.testing.assert_allclose(found, own.forward(kernel(image)), rtol=1e-10)
    np.testing.assert_allclose(kernel.operator.adjoint(y), kernel(own.adjoint(y)), rtol=1e-10, atol=1e-14)
    entries = written_out(own) @ np.stack([kernel(row.reshape(own.fine_shape)).ravel() for row in np.eye(own.matrix.shape[1])])
    assert kernel.operator.norm == pytest.approx(np.linalg.norm(entries, 2), rel=1e-6)


# -- mean and covariance ------------------------------------------------------------------------------


def blinking(own, frames=300, seed=1):
    """Rare, bright emissions of two close lines and a dim one."""
    x = np.zeros(own.fine_shape, np.float32)
    x[4:20, 8] = x[4:20, 12] = 0.25
    x[4:20, 20] = 0.1
    b = np.full(own.shape, 0.3, np.float32)
    return x, b, fg.ForwardModel(own, noise_std=0.5).sample(x, b, 2 * frames, seed=seed)


BLINKING = {"camera": fg.Camera(noise_std=0.5), "options": fg.SolverOptions(steps=12)}


@pytest.fixture(scope="module")
def bright(psi):
    return psi.replaced(photons_per_emitter=20.0)


def test_covariances_are_fitted_through_the_entries_as_through_the_table(bright):
    _, _, stack = blinking(bright)
    # second derivatives, and so step sizes, differ a little: images are compared where both are near the minimum
    phase = dataclasses.replace(DEFAULT.covariance_phase, settled=-math.inf)
    options = fg.SolverOptions(steps=20, detail=0.0)  # G differs at the border
    given = {"camera": BLINKING["camera"], "options": options, "tuning": dataclasses.replace(DEFAULT, covariance_phase=phase)}
    own, table = (fg.reconstruct(stack[:300], psi=operator, **given) for operator in (Same(bright), bright))
    moved = np.linalg.norm(table.x - table.x_mean_fit)
    assert moved > 0.05 * np.linalg.norm(table.x)
    assert np.linalg.norm(own.x - table.x) < 0.02 * moved
    np.testing.assert_array_equal(own.x_mean_fit, table.x_mean_fit)
    assert own.stops == table.stops, "the same steps, ended for the same reason"


@pytest.mark.parametrize("name", MAKE)
def test_covariances_seen_through_ones_own_operator_predict_unseen_frames(bright, name):
    own = MAKE[name](bright)
    x, _, frames = blinking(own)
    result = fg.reconstruct(frames[:300], psi=own, **BLINKING)
    model = fg.ForwardModel(own, noise_std=0.5)
    fit, full = (
        held_out_score(frames[300:], model, *images).log_density
        for images in ((result.x_mean_fit, result.b_mean_fit), (result.x, result.b))
    )
    assert full > fit
    if own.fine_shape == bright.fine_shape:
        nominal = fg.reconstruct(frames[:300], psi=bright, **BLINKING)
        errors = [np.linalg.norm(image - x) for image in (result.x, result.x_mean_fit, nominal.x)]
        assert errors[0] < min(errors[1:])
        assert result.x.sum() == pytest.approx(x.sum(), rel=0.05)


def test_a_resumed_fit_of_mean_and_covariance_is_the_same(bright, tmp_path):
    own = Vignetted(bright, transmission())
    given = {"psi": own, **BLINKING}
    stack = blinking(own, 100)[2]
    whole, solver = fg.Solver(stack, **given), fg.Solver(stack, **given)
    while solver.phases[1].taken != 3:
        solver.step()
    solver.save(tmp_path / "state")
    again = fg.Solver(stack, **given)
    again.load(tmp_path / "state")
    np.testing.assert_array_equal(again.run().x, whole.run().x)


def test_phases_that_need_more_are_refused_by_name_before_any_work(psi):
    own = Vignetted(psi, transmission())
    _, stack = scene(own, 40)

    class Half:
        """What the mean fit reads, and no more."""

        def __getattr__(self, name):
            if name in ("matrix", "table") or name[:1] == "_":
                raise AttributeError(name)
            return getattr(own, name)

    with pytest.raises(TypeError, match=r"covariance fit reads matrix.*Half.*method='none'"):
        fg.Solver(stack, psi=Half(), camera=fg.Camera(noise_std=1.0))
    with pytest.raises(TypeError, match=r"covariance fit reads matrix"):
        fg.QuadraticCritic(stack, fg.ForwardModel(Half()))
    with pytest.raises(TypeError, match=r"likelihood fit reads table, origin of .*Vignetted.*method='moments'"):
        fg.Solver(stack, psi=own, camera=fg.Camera(noise_std=1.0), options=fg.SolverOptions(method="likelihood"))
    auto = fg.Solver(stack, psi=own, camera=fg.Camera(noise_std=1.0), options=fg.SolverOptions(method="auto"))
    assert [phase.name for phase in auto.phases] == ["mean", "covariance"]
    with pytest.raises(TypeError, match=r"calibration reads matrix of .*Half.*derive yours from fluogan_core\.Operator"):
        fg.calibrate(stack, Half())


def test_where_an_operator_for_another_field_is_needed_ones_own_is_refused(psi, tmp_path):
    own = Vignetted(psi, transmission())
    _, stack = scene(own, 20)
    with pytest.raises(TypeError, match=r"a field in tiles needs fluogan_core\.Psi.*Vignetted is an operator of your own"):
        fg.scale.prepare(stack, tmp_path / "plan", psi=own, camera=fg.Camera())
    assert not (tmp_path / "plan").exists()
    with pytest.raises(TypeError, match=r"following a drift needs fluogan_core\.Psi"):
        fg.follow_drift(stack, own, fg.Drift(np.zeros((20, 2)), 0.0, 0.0, clear=False))
