"""The alternating solver: a known image recovered, resumed runs equal uninterrupted ones, bad input refused at once."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from two_lines import CAMERA, SMALL, simulate

import fluogan_core as fg
from fluogan_core.solvers.history import QUANTITIES
from fluogan_core.solvers.options import SolverOptions
from fluogan_core.solvers.solver import Solver
from fluogan_core.solvers.splits import held_out_frames
from fluogan_core.tuning import DEFAULT


@pytest.mark.parametrize("method", ["none", "corrected"])
def test_two_lines_are_found_at_their_place_with_their_flux(method):
    psi, x, b, stack = simulate(frames=400)
    options = dataclasses.replace(SMALL.for_method(method), warm_steps=1000)
    result = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options)
    profile = result.x[12:-12].mean(axis=0)
    truth = x[12:-12].mean(axis=0)
    # on a field five PSFs wide light and background share a tenth of the background: 0.8 photons in each of 256 camera pixels,
    # beside the 3520 of the lines
    share = 0.1 * 8.0 * 256 / 3520
    for c in (22, 42):
        near = np.arange(c - 6, c + 8)
        weight = profile[near]
        assert (weight * (near + 0.5)).sum() / weight.sum() == pytest.approx(c + 1.0, abs=0.25)
        assert weight.sum() == pytest.approx(truth[near].sum(), rel=share)
    assert profile[30:36].max() < 0.05 * profile.max()  # nothing between them
    assert result.x.sum() == pytest.approx(x.sum(), rel=share)
    assert result.b.mean() == pytest.approx(b.mean(), rel=0.1)
    assert result.x.dtype == result.b.dtype == np.float32
    assert min(result.x.min(), result.b.min()) >= 0


def test_dim_frames_are_sought_through_a_wider_blur_by_both_fits():
    def finest(light: float, detail: float = 0.3) -> tuple[int, ...]:
        psi, x, b, _ = simulate(frames=2)
        stack = fg.ForwardModel(psi, gain=CAMERA.gain, noise_std=CAMERA.noise_std).sample(light * x, light * b, 100, seed=3)
        options = SolverOptions(detail=detail, warm_steps=1, steps=1)
        solver = Solver(stack + CAMERA.offset, psi=psi, camera=CAMERA, options=options)
        return tuple(len(phase.kernel.taps) for phase in solver.phases)

    bright, dim = finest(50.0), finest(0.1)
    assert bright[0] == bright[1] < dim[0] == dim[1]
    assert finest(0.1, detail=0.0) == (1, 1)


def test_the_scale_of_the_counts_does_not_matter():
    psi, _, _, stack = simulate(frames=60)
    options = dataclasses.replace(SMALL, method="linear")
    scaled = fg.Camera(gain=16.0, offset=800.0, noise_std=12.0)
    base = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options)
    other = fg.reconstruct(8 * stack, psi=psi, camera=scaled, options=options)
    np.testing.assert_allclose(other.x, base.x, atol=0.01 * base.x.max())


def test_history_records_every_step():
    psi, _, _, stack = simulate(frames=60)
    seen = []
    result = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=SMALL, callback=lambda solver, record: seen.append(record))
    h = result.history
    assert set(h) == set(QUANTITIES)
    assert {len(v) for v in h.values()} == {len(seen)}
    mean, critic = h["phase"] == 0, h["phase"] == 1
    assert critic.sum() == 6
    np.testing.assert_array_equal(h["step"], np.arange(1, len(seen) + 1))
    for name in ("w_train", "w_held_out", "gradient_penalty", "adversarial", "step_b", "change_b"):
        assert np.isfinite(h[name][critic]).all(), name
        assert np.isnan(h[name][mean]).all(), name
    for name in ("objective", "fidelity", "sparsity", "smoothness", "residual", "change_x", "step_x", "seconds"):
        assert np.isfinite(h[name]).all(), name
    assert h["objective"][mean][-1] < h["objective"][0]
    assert "mean fit" in result.stop_reason
    assert result.stop_reason == "mean fit: all 40 steps taken; network fit: all 6 steps taken"
    assert result.stops == {name: fg.Stop(fg.StopReason.STEPS, steps) for name, steps in (("mean", 40), ("network", 6))}
    assert result.timings["total"] > 0


def test_host_settings_of_numpy_do_not_matter():
    psi, _, _, stack = simulate(frames=60)
    go = {"psi": psi, "camera": CAMERA, "options": SolverOptions(warm_steps=40, steps=2)}
    usual = fg.reconstruct(stack, **go)
    with np.errstate(all="raise"):
        strict = fg.reconstruct(stack, **go)
    assert strict.x.tobytes() == usual.x.tobytes()


def test_frames_that_stand_apart_are_neither_measured_nor_fitted():
    psi, _, _, stack = simulate(frames=120)
    counts = np.clip(np.rint(stack), 0, 65535).astype(np.uint16)
    spoiled = np.insert(counts, [10, 60, 61], 0, axis=0)
    options = SolverOptions(method="none", warm_steps=40)
    found = fg.calibrate(spoiled, psi)
    assert found.left_out == (10, 61, 63)
    assert any("frames left out because they differ from all others: 10, 61, 63" in remark for remark in found.remarks)
    clean, made = (fg.reconstruct(frames, psi=psi, options=options) for frames in (counts, spoiled))
    assert made.x.tobytes() == clean.x.tobytes()


def test_numbers_of_numpy_are_options_like_others(tmp_path):
    """Also in a checkpoint, which holds none of NumPy's."""
    psi, _, _, stack = simulate(frames=60)
    of_numpy = {"warm_steps": np.int64(3), "total_variation": np.float32(0.5), "smoothness_order": 7.0, "seed": np.uint64(7)}
    options = SolverOptions(method="none", **of_numpy)
    assert type(options.warm_steps) is type(options.smoothness_order) is type(options.seed) is int
    assert type(options.total_variation) is float
    go = {"psi": psi, "camera": CAMERA, "options": options, "checkpoint": tmp_path / "c.pt"}
    first = fg.reconstruct(stack, **go)
    assert fg.reconstruct(stack, resume=True, **go).x.tobytes() == first.x.tobytes()


@pytest.mark.parametrize(("stop_at", "phase"), [(7, "mean"), (43, "network")])
def test_a_callback_ends_the_run_with_a_whole_result(tmp_path, stop_at, phase):
    psi, _, _, stack = simulate(frames=60)
    path = tmp_path / "checkpoint.pt"
    options = dataclasses.replace(SMALL, tolerance=0.0)
    go = {"psi": psi, "camera": CAMERA, "options": options, "checkpoint": path}
    ended = fg.reconstruct(stack, callback=lambda solver, record: solver.steps_done < stop_at, **go)
    assert len(ended.history["step"]) == stop_at
    taken = stop_at - (40 if phase == "network" else 0)
    assert ended.stops[phase] == fg.Stop(fg.StopReason.CALLBACK, taken)
    assert ended.stop_reason.endswith(f"{phase} fit: ended by the callback after {taken} steps")
    assert np.isfinite(ended.x).all()
    # what returns nothing, or anything but False, goes on; and so does the run that was ended
    whole = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options, callback=lambda solver, record: 0)
    further = fg.reconstruct(stack, resume=True, **go)
    assert further.x.tobytes() == whole.x.tobytes()
    assert further.stop_reason == whole.stop_reason


def test_a_run_starts_from_images_that_are_given():
    psi, x, b, stack = simulate(frames=60)
    go = {"psi": psi, "camera": CAMERA, "options": SolverOptions(method="none", warm_steps=40)}
    cold = fg.reconstruct(stack, **go)
    warm = fg.reconstruct(stack, x0=cold.x, **go)
    assert warm.history["residual"][0] < 0.2 * cold.history["residual"][0]
    # without a step of the mean's they are where the next phase starts
    options = SolverOptions(warm_steps=0, steps=1)
    solver = Solver(stack, psi=psi, camera=CAMERA, options=options, x0=x, b0=b)
    assert solver.phase == "covariance"
    np.testing.assert_array_equal(solver.images.z, x)
    np.testing.assert_array_equal(solver.phases[1].images.b, b)
    for images, message in (
        ({"x0": b}, r"x0 must have shape \(64, 64\) and no negative value, got \(16, 16\)"),
        ({"b0": -b}, r"b0 must have shape \(16, 16\) and no negative value, got \(16, 16\) with minimum -8"),
        ({"x0": x * np.nan}, "x0 holds values that are NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            Solver(stack, psi=psi, camera=CAMERA, options=options, **images)


def test_weights_of_a_whole_field_are_shared_by_its_parts():
    psi, _, _, stack = simulate(frames=60)
    options = SolverOptions(method="none", warm_steps=300)
    problem = fg.Problem.of(stack, psi=psi, camera=CAMERA)
    solver = Solver(problem=problem, options=options)
    base = solver.run(progress=False)
    weights = solver.weights
    same = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options, weights=weights)
    assert same.x.tobytes() == base.x.tobytes()
    heavy = dataclasses.replace(weights, total_variation=30 * weights.total_variation)
    other = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options, weights=heavy)
    assert np.abs(np.diff(other.x, axis=0)).sum() < 0.9 * np.abs(np.diff(base.x, axis=0)).sum()
    with pytest.raises(ValueError, match="fidelity must be greater than 0"):
        dataclasses.replace(weights, fidelity=0.0)


def test_a_problem_is_what_solver_takes_and_cannot_be_changed():
    psi, _, _, stack = simulate(frames=60)
    options = SolverOptions(method="none", warm_steps=30)
    problem = fg.Problem.of(stack, psi=psi, camera=CAMERA)
    solver = Solver(problem=problem, options=options)
    assert solver.run(progress=False).x.tobytes() == fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options).x.tobytes()
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.mean = 0
    half = problem.subset(np.arange(0, 60, 2))
    whole = fg.Problem.of(stack[::2], psi=psi, camera=CAMERA)
    np.testing.assert_array_equal(half.counts, whole.counts)
    assert half.noise == whole.noise
    assert half.fingerprint != problem.subset(np.arange(1, 60, 2)).fingerprint
    with pytest.raises(TypeError, match="psi= is needed, the operator, or calibration="):
        Solver(stack, options=options)


def test_any_module_can_be_the_critic():
    psi, _, _, stack = simulate(shape=(12, 12), frames=60, columns=(22,))

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(144, 1)

        def forward(self, y):
            return self.layer(torch.relu(y.flatten(1) / 30))[:, 0]

    critic = Plain()
    before = critic.layer.weight.detach().clone()
    result = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=dataclasses.replace(SMALL, method="photon"), critic=critic)
    assert not torch.equal(critic.layer.weight, before)
    assert np.isfinite(result.x).all()


def test_a_critic_that_breaks_is_named_and_the_checkpoint_kept(tmp_path):
    psi, _, _, stack = simulate(shape=(12, 12), frames=60, columns=(22,))

    class Broken(fg.Critic):
        def forward(self, y):
            return super().forward(y) * (math.nan if self.training else 1.0)

    path = tmp_path / "checkpoint.pt"
    critic = Broken(psi.shape, channels=2, depth=1)
    with pytest.raises(FloatingPointError, match="not finite at step 0"):
        fg.reconstruct(stack, psi=psi, camera=CAMERA, options=SMALL, critic=critic, checkpoint=path)
    assert path.exists()


def test_a_critic_without_a_finite_score_is_refused_before_the_mean_is_fitted():
    psi, _, _, stack = simulate(shape=(12, 12), frames=60, columns=(22,))

    class Undefined(fg.Critic):
        def forward(self, y):
            return super().forward(y) * math.nan

    with pytest.raises(FloatingPointError, match="the critic Undefined gives scores that are NaN or infinite"):
        Solver(stack, psi=psi, camera=CAMERA, options=SMALL, critic=Undefined(psi.shape, channels=2, depth=1))


def test_a_critic_of_another_precision_is_trained_in_its_own():
    psi, _, _, stack = simulate(shape=(12, 12), frames=60, columns=(22,))
    critic = fg.Critic(psi.shape, channels=2, depth=1).double()
    options = dataclasses.replace(SMALL, steps=1, warm_steps=5)
    assert np.isfinite(fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options, critic=critic).x).all()


def test_a_checkpoint_that_cannot_be_written_costs_no_result(tmp_path, monkeypatch, caplog):
    psi, _, _, stack = simulate(shape=(12, 12), frames=60, columns=(22,))
    go = {"psi": psi, "camera": CAMERA, "options": SolverOptions(method="none", warm_steps=5)}
    with pytest.raises(FileNotFoundError, match=r"there is no directory .*none for the checkpoint"):
        fg.reconstruct(stack, checkpoint=tmp_path / "none" / "c.pt", **go)
    path = tmp_path / "c.pt"
    path.mkdir()  # nothing can be put in its place
    made = fg.reconstruct(stack, checkpoint=path, **go)
    assert made.x.tobytes() == fg.reconstruct(stack, **go).x.tobytes()
    assert "could not be written" in caplog.text
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_an_image_without_light_is_said(caplog):
    psi, _, _, stack = simulate(shape=(12, 12), frames=60, columns=(22,))
    options = SolverOptions(method="none", warm_steps=400, smoothness=0.0)
    made = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options)
    assert made.x.max() == 0
    assert "no light is left in x" in caplog.text


def test_a_mean_fit_that_breaks_is_named(monkeypatch):
    psi, _, _, stack = simulate(shape=(12, 12), frames=60, columns=(22,))
    solver = Solver(stack, psi=psi, camera=CAMERA, options=SolverOptions(method="none", warm_steps=5))
    solver.step()
    solver.objective.mean = np.where(np.eye(12, dtype=bool), np.float32(np.nan), solver.objective.mean)
    with pytest.raises(FloatingPointError, match="not finite at step 1 of the mean fit"):
        solver.step()


def test_held_out_frames_are_spread_and_of_the_asked_number():
    kept = held_out_frames(500, 0.1)
    assert len(kept) == len(set(kept)) == 50
    assert np.count_nonzero(np.diff(kept) > 1) == 4
    assert len(held_out_frames(2, 0.1)) == 0
    assert held_out_frames(3, 0.5).max() < 3


def test_the_mean_fit_alone_loads_no_torch(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys, numpy as np, fluogan_core as fg\n"
        "psi = fg.Psi(np.ones((3, 3)), (8, 8), 2, backend='numpy')\n"
        "stack = np.random.default_rng(0).poisson(9, (20, 8, 8))\n"
        "fg.reconstruct(stack, psi=psi, camera=fg.Camera(), options=fg.SolverOptions(method='none'))\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stack": np.zeros((16, 16))}, r"\(frames, rows, columns\), got shape \(16, 16\)"),
        ({"stack": np.ones((1, 16, 16))}, "at least 2 frames, got 1"),
        ({"stack": np.full((3, 16, 16), np.nan)}, "NaN or infinite"),
        ({"stack": np.ones((3, 8, 8))}, "build psi for the shape of the frames"),
        ({"stack": np.full((3, 16, 16), 200.0)}, "do not change at all"),
        ({"camera": fg.Camera(offset=1e6)}, "the offset is too high"),
        ({"stack": np.ones((3, 16, 16), complex)}, "integers or floats"),
        ({"stack": np.ma.masked_invalid(np.ones((3, 16, 16)))}, "a masked array"),
        ({"critic": fg.Critic((8, 8), channels=2, depth=1)}, "the critic does not take frames of 16 x 16 pixels"),
        ({"critic": torch.nn.Flatten()}, "the critic does not take frames"),
    ],
)
def test_bad_input_is_named(change, message):
    psi, _, _, stack = simulate(frames=3)
    with pytest.raises((ValueError, TypeError), match=message):
        Solver(**({"stack": stack, "psi": psi, "camera": CAMERA, "options": SMALL} | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"critic_steps": 3}, "method='moments' does not use critic_steps; leave it out, or take"),
        ({"method": "none", "steps": 3, "batch": 4}, "method='none' does not use batch, steps; leave them out"),
        ({"method": "best"}, "method must be one of"),
        ({"steps": -1}, "steps must be at least 0"),
        ({"batch": 1}, "batch must be at least 2"),
        ({"fidelity": 0}, "fidelity must be greater than 0"),
        ({"held_out": 0.9}, "held_out must be at least 0 and at most 0.5"),
        ({"seed": -3}, "seed must be at least 0"),
    ],
)
def test_bad_options_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        SolverOptions(**change)


def test_numbers_by_trial_reach_every_phase_from_the_solver():
    """A trial passes other numbers to Solver; none stays at its default on the way."""
    psi, _, _, stack = simulate(frames=20)

    def solver(method, **sections):
        return Solver(
            stack, psi=psi, camera=CAMERA, options=SolverOptions(method), tuning=dataclasses.replace(DEFAULT, **sections)
        )

    usual = solver("none")
    few = solver("none", mean_phase=dataclasses.replace(DEFAULT.mean_phase, most=11))
    assert usual.weights.iterations > few.weights.iterations == 11
    objective = dataclasses.replace(DEFAULT.objective, dual_iterations=7)
    assert solver("none", objective=objective).objective.tuning == objective
    assert solver("none", objective=objective).objective.prior.restarted().tuning == objective
    of_network = dataclasses.replace(DEFAULT.network_phase, least_std=0.5)
    assert solver("corrected", network_phase=of_network).phases[1].tuning == of_network
    of_estimators = dataclasses.replace(DEFAULT.estimators, frames_per_correction=5)
    assert solver("corrected", estimators=of_estimators).phases[1].estimators == of_estimators
    of_critic = dataclasses.replace(DEFAULT.quadratic_critic, frames_per_chunk=5)
    assert solver("moments", quadratic_critic=of_critic).phases[1].critic.moments.tuning == of_critic


def test_the_result_lies_where_its_field_lies_in_the_recording():
    """A region that was read, and a field that follows a drift: the fine grid starts at its corner."""
    rng = np.random.default_rng(4)
    psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 18), 2, backend="numpy")
    stack = fg.Stack(rng.poisson(50.0, (20, 16, 18)) + 100, roi=(30, 40, 16, 18))
    given = {"camera": fg.Camera(offset=100.0), "options": fg.SolverOptions(method="none", warm_steps=2)}
    assert fg.reconstruct(stack.frames, psi=psi, **given).translate == (-0.25, -0.25)
    assert fg.reconstruct(stack, psi=psi, **given).translate == (29.75, 39.75)
    drift = fg.Drift(np.linspace([-2.0, 0.0], [1.0, 3.0], 20), 3.0, 0.0, clear=True)
    moving, psi = fg.follow_drift(stack, psi, drift)
    result = fg.reconstruct(moving, psi=psi, **given)
    assert result.corner == moving.roi[:2] == (32, 40)
    assert result.translate == (31.75, 39.75)
    assert result.translate_nm(100) == (3175, 3975)
