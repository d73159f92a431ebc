"""The likelihood phase: what it wins over mean and covariance, resumed runs, where it gives up."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import fluogan_core as fg
from fluogan_core.objective.blur import GaussianKernel
from fluogan_core.physics.emissions import EmissionChains
from fluogan_core.solvers.brightness import BrightnessFit
from fluogan_core.solvers.emission_work import too_much_work
from fluogan_core.solvers.likelihood_fit import LikelihoodPhase
from fluogan_core.solvers.mixing import Mixing, split_r_hat
from fluogan_core.solvers.patterned import without_pattern
from fluogan_core.solvers.solver import Solver
from fluogan_core.tuning import DEFAULT

CAMERA = fg.Camera(gain=2.0, offset=100.0, noise_std=1.0)
SMALL = fg.SolverOptions(method="likelihood", steps=4, warm_steps=60, tolerance=0.0)


def tuned(**changes):
    return dataclasses.replace(DEFAULT, likelihood_phase=dataclasses.replace(DEFAULT.likelihood_phase, **changes))


#: Chains count as mixed, whatever they do.
LENIENT = {"largest_r_hat": 1e9, "mixing_sweeps": (8, 8)}


def recorded(frames=60, kappa=300.0, emissions=2.0, seed=1, spread=False):
    """A bar of rare, bright emissions, and the light that they sent; with ``spread``, each is of a brightness of its own."""
    psi = fg.Psi(fg.gaussian_psf(300, 100, 2, truncate=3), (12, 12), 2, photons_per_emitter=kappa, backend="numpy")
    x = np.zeros(psi.fine_shape, np.float32)
    x[6:18, 10:13] = emissions / 36
    rng = np.random.default_rng(seed)
    z = rng.poisson(x, (frames, *x.shape)).astype(np.float32)
    if spread:
        z = rng.gamma(np.maximum(3 * z, 1e-9), 1 / 3).astype(np.float32) * (z > 0)
    y = CAMERA.gain * rng.poisson(np.maximum(psi.forward(z), 0) + 1.5) + CAMERA.offset
    return psi, z.mean(axis=0), (y + rng.normal(0, CAMERA.noise_std, y.shape)).astype(np.float32)


def lacks(found, x):
    found, x = (gaussian_filter(image.astype(np.float64), 1) for image in (found, x))
    return np.linalg.norm(found - x) / np.linalg.norm(x)


@pytest.mark.parametrize("spread", [False, True], ids=["equal", "of many brightnesses"])
def test_it_finds_more_than_mean_and_covariance_where_emissions_are_few_and_bright(spread):
    """And their brightness, though psi says a third too much, and their light."""
    psi, x, stack = recorded(frames=100, spread=spread)
    given = {"camera": CAMERA, "psi": psi.replaced(photons_per_emitter=400.0)}
    solver = Solver(stack, **given, options=fg.SolverOptions(method="likelihood", steps=30, warm_steps=800))
    result = solver.run(progress=False)
    moments = fg.reconstruct(stack, **given, progress=False)
    assert result.stops["likelihood"].reason is fg.StopReason.STEPS, result.stop_reason
    assert result.stops["covariance"].reason is fg.StopReason.NOT_NEEDED
    scale = 400 / 300
    assert lacks(result.x * scale, x) < 0.93 * min(lacks(image * scale, x) for image in (moments.x, moments.x_mean_fit))
    law, phase = solver.phases[1].brightness, solver.phases[1]
    assert law.mean * 400 == pytest.approx(300, rel=0.15)
    assert law.shape < 8 if spread else law.shape > 8
    light = (stack.mean(axis=0) - CAMERA.offset).sum() / CAMERA.gain
    assert psi.replaced(photons_per_emitter=400.0).forward(result.x).sum() + result.b.sum() == pytest.approx(light, rel=0.01)
    assert result.b.mean() == pytest.approx(1.5, rel=0.05)
    assert phase.mixing.mixed
    assert min(result.x.min(), result.b.min()) >= 0


@pytest.mark.parametrize("method", ["likelihood", "auto"])
def test_the_image_is_sought_through_a_narrow_blur_whatever_the_mean_frame_wants(method):
    psi, _, stack = recorded(frames=20)
    weights = dataclasses.replace(Solver(stack, psi=psi, camera=CAMERA, options=SMALL).weights, detail=0.5)

    def blur_of(**options):
        given = dataclasses.replace(SMALL, method=method, **options)
        return (
            Solver(stack, psi=psi, camera=CAMERA, options=given, weights=weights).phases[-1 if method == "auto" else 1].kernel
        )

    np.testing.assert_array_equal(blur_of().taps, GaussianKernel(psi, DEFAULT.likelihood_phase.detail).taps)
    np.testing.assert_array_equal(blur_of(detail=0.3).taps, GaussianKernel(psi, 0.3).taps)
    assert len(blur_of().taps) < len(blur_of(detail=0.3).taps) < len(blur_of(detail=0.9).taps)


@pytest.mark.parametrize("stop_after", [30, 61, 63])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, stop_after):
    psi, _, stack = recorded()
    more = {"psi": psi, "camera": CAMERA, "options": SMALL, "tuning": tuned(**LENIENT), "progress": False}
    whole, path = fg.reconstruct(stack, **more), tmp_path / "checkpoint.pt"

    def stop(solver, record):
        if record["step"] == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fg.reconstruct(stack, **more, callback=stop, checkpoint=path)
    resumed = fg.reconstruct(stack, **more, checkpoint=path, resume=True)
    for name in ("x", "b", "x_mean_fit"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
    for name in set(whole.history) - {"seconds"}:
        np.testing.assert_array_equal(resumed.history[name], whole.history[name])
    assert resumed.stop_reason == whole.stop_reason
    other = fg.reconstruct(stack, **(more | {"options": dataclasses.replace(SMALL, seed=1)}))
    assert not np.array_equal(other.x, whole.x)


def test_a_state_of_chains_that_do_not_belong_together_is_refused():
    psi, _, stack = recorded(frames=20)
    given = {"psi": psi, "camera": CAMERA, "options": SMALL, "tuning": tuned(**LENIENT)}
    solver = Solver(stack, **given)
    for _ in range(61):
        solver.step()
    state = solver.state_dict()
    state["phases"]["likelihood"]["chains"][2] = state["phases"]["likelihood"]["chains"][2] + 1000
    with pytest.raises(ValueError, match="chains of emissions do not belong together"):
        Solver(stack, **given).load_state_dict(state)


def test_chains_that_do_not_mix_hand_over_to_mean_and_covariance(caplog):
    psi, _, stack = recorded()
    given = {"psi": psi, "camera": CAMERA, "progress": False}
    strict = tuned(largest_r_hat=0.0, mixing_sweeps=(8, 8))
    result = fg.reconstruct(stack, **given, options=SMALL, tuning=strict)
    assert result.stops["likelihood"].reason is fg.StopReason.NOT_MIXED
    assert "likelihood's chains did not mix" in caplog.text
    assert "given up after 4 steps, its chains did not mix (split R-hat " in result.stop_reason
    instead = fg.reconstruct(stack, **given, options=dataclasses.replace(SMALL, method="moments", steps=4))
    np.testing.assert_array_equal(result.x, instead.x)
    assert result.stops["covariance"] == instead.stops["covariance"]


def test_hundreds_of_emissions_that_overlap_are_given_up():
    """In a few sweeps a chain that begins anew does not come to where the others are, and is not said to."""
    psi, _, stack = recorded(frames=10, kappa=300.0, emissions=220.0)
    phase = Solver(stack, psi=psi, camera=CAMERA, options=SMALL, tuning=tuned(mixing_sweeps=(10, 10)))
    phase.run(progress=False)
    assert phase.phases[1].stop.reason is fg.StopReason.NOT_MIXED
    assert not phase.phases[1].mixing.mixed


def test_split_r_hat_sees_another_level_and_a_drift():
    rng = np.random.default_rng(3)
    same = rng.normal(size=(2, 100, 30))
    assert split_r_hat(same) < 1.02
    assert split_r_hat(same + np.array([0.0, 1.5])[:, None, None]) > 1.15
    assert split_r_hat(same + np.linspace(-1.5, 1.5, 100)[:, None]) > 1.15
    one = same.copy()
    one[1, :, 4] += 20.0  # one frame of 30
    assert split_r_hat(one) > 1.3
    assert split_r_hat(one, spared=0.1) < 1.02
    assert split_r_hat(same + np.array([0.0, 1.5])[:, None, None], spared=0.1) > 1.15
    still = np.ones((2, 10, 5))
    assert split_r_hat(still, 0.05) < 1.0
    assert Mixing(1.0, 1.3, 1.2, 25).mixed is False


def test_the_law_of_the_brightness_is_that_of_the_emissions():
    rng, chains = np.random.default_rng(0), EmissionChains.empty(2000, 5)
    chains.count[:], chains.bright[:] = 5, rng.gamma(6.0, 0.1, (2000, 5))
    fit, sums = BrightnessFit(), lambda: chains.totals((1, 1))[1][:3] / 2000
    first = fit.law
    assert first.mean_square / first.mean == pytest.approx(1.0)  # what covariances call the photons per emission
    fit.update(sums(), 1.0, free=False)
    assert fit.law == first
    fit.update(sums(), 1.0, free=True)
    assert fit.law.mean == pytest.approx(0.6, rel=0.02)
    assert fit.law.shape == pytest.approx(6.0, rel=0.05)
    chains.bright[:] = 0.7
    fit.update(sums(), 1.0, free=True)
    assert fit.law.shape == DEFAULT.likelihood_phase.largest_shape


def test_bad_pixels_are_not_data():
    """A pixel that stands still at what the mean frame lets expect would speak against every emission next to it."""
    psi, _, stack = recorded(frames=20)
    stack[:, 6, 5] = 4000.0
    problem = fg.Problem.of(stack, psi=psi, camera=CAMERA)
    assert problem.bad_pixels[6, 5]
    dark = np.zeros(psi.fine_shape, np.float32)
    counts = without_pattern(problem, fg.Images(dark, dark, problem.mean))
    near = problem.counts[:, 5:8, 4:7].reshape(20, 9)[:, [0, 1, 2, 3, 5, 6, 7, 8]]
    np.testing.assert_allclose(counts[:, 6, 5], near.mean(axis=1), rtol=1e-5)
    others = np.ones((12, 12), bool)
    others[6, 5] = False
    np.testing.assert_array_equal(counts[:, others], problem.counts[:, others])


def test_options_say_which_phases_run():
    assert SMALL.phases == ("mean", "likelihood", "covariance")
    with pytest.raises(ValueError, match="does not use batch"):
        dataclasses.replace(SMALL, batch=8)
    psi, _, stack = recorded(frames=4)
    with pytest.raises(ValueError, match="method='likelihood' trains no network"):
        Solver(stack, psi=psi, camera=CAMERA, options=SMALL, critic=object())


@pytest.mark.parametrize("method", ["likelihood", "auto"])
def test_too_many_emissions_are_said_before_a_chain_is_moved(method, monkeypatch, caplog):
    """Photons per emission that nobody has measured: every photon is an emission, and the chains would take for ever."""
    psi, _, stack = recorded()
    given = {"camera": CAMERA, "psi": psi.replaced(photons_per_emitter=1.0)}
    few = tuned(most_moves=1e6, most_overlap=1e9)
    options = dataclasses.replace(SMALL, method=method)
    moved = []
    monkeypatch.setattr(LikelihoodPhase, "_move", lambda *arguments: moved.append(arguments))
    result = fg.reconstruct(stack, **given, options=options, tuning=few, progress=False)
    stop = result.stops["likelihood"]
    assert stop.reason is fg.StopReason.NOT_TRIED
    assert "emissions in a frame are" in stop.detail
    assert "photons_per_emitter is too low" in stop.detail
    assert not moved
    wanted = fg.reconstruct(stack, **given, options=dataclasses.replace(SMALL, method="moments"), progress=False)
    np.testing.assert_array_equal(result.x, wanted.x)
    if method == "likelihood":
        assert "the likelihood is not fitted" in caplog.text


def test_the_work_grows_with_frames_emissions_and_steps():
    limit = dataclasses.replace(DEFAULT.likelihood_phase, most_moves=1e7)
    emissions = lambda n: np.full(100, int(limit.proposals + limit.per_emission * n))  # noqa: E731
    assert not too_much_work(emissions(30), 40, 2.0, limit)
    assert too_much_work(emissions(300), 40, 2.0, limit).startswith(
        "300 emissions in a frame are 7.3e+07 moves of the chains, 0.0404 h"
    )
    assert too_much_work(np.tile(emissions(30), 4), 40, 2.0, limit)
    assert too_much_work(emissions(30), 400, 2.0, limit)


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.06, 0.04), (0.3, 0.2, 0.02, 0.01)])
def test_isolated_molecules_that_are_seldom_on_keep_their_light(shares):
    """Light that few frames show costs more than it explains, and the image of the mean may lack it.

    x must settle there, and not swing to 0 and back; and the chains must look there, though the image is dark.
    """
    psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (24, 24), 2, backend="numpy")
    rng, at = np.random.default_rng(3), ((11, 11), (11, 35), (35, 11), (35, 35))
    x = np.zeros((100, *psi.fine_shape), np.float32)
    for (row, column), share in zip(at, shares):
        x[:, row, column] = 500.0 * (rng.permutation(100) < 100 * share)
    camera = fg.Camera(gain=1.0, offset=0.0, noise_std=1.0)
    counts = rng.poisson(psi.forward(x) + 3.0) + rng.standard_normal((100, 24, 24))
    calibration = fg.calibrate(counts.astype(np.float32), psi, camera=camera, psf_width=1.0)
    problem = fg.Problem.of(counts.astype(np.float32), calibration=calibration)
    result = fg.Solver(problem=problem, options=fg.SolverOptions(method="likelihood")).run(progress=False)
    assert result.stops["likelihood"].reason is fg.StopReason.STEPS, result.stop_reason
    for row, column in at:
        there = slice(row - 5, row + 6), slice(column - 5, column + 6)
        light = calibration.estimate.photons_per_emitter * result.x[there].sum()
        assert light == pytest.approx(x.mean(axis=0)[there].sum(), rel=0.1, abs=1.5)  # photons: two standard errors


def test_an_edge_costs_the_root_of_the_frames_more_while_a_part_of_them_is_fitted(monkeypatch):
    """Per frame: the noise of the slope, which an edge must outweigh, falls with the root of the frames."""
    psi, _, stack = recorded()
    costs = {}
    swept = LikelihoodPhase._sweep

    def noting(phase):
        costs.setdefault((phase.trial.weight, phase.trial.fitted.stop), float(phase.prior.edges[0, 0]))
        return swept(phase)

    monkeypatch.setattr(LikelihoodPhase, "_sweep", noting)
    tuning = tuned(gain_start=2, gain_sweeps=2, edges=(0.5, 2.0), **LENIENT)
    fg.reconstruct(stack, psi=psi, camera=CAMERA, options=SMALL, tuning=tuning, progress=False)
    (chosen,) = (weight for weight, frames in costs if frames == 60)
    assert costs[2.0, 30] == pytest.approx(4.0 * costs[0.5, 30], rel=1e-5)
    assert costs[chosen, 30] == pytest.approx(2**0.5 * costs[chosen, 60], rel=1e-5)


def test_the_total_variation_is_solved_as_closely_after_a_checkpoint(tmp_path):
    """The dual variable gets as many iterations a step as the phase wants, not those of the other fits."""
    psi, _, stack = recorded(frames=20)
    given = {"psi": psi, "camera": CAMERA, "options": SMALL, "tuning": tuned(**LENIENT)}
    solvers = [Solver(stack, **given) for _ in range(2)]
    for _ in range(61):
        solvers[0].step()
    solvers[1].load_state_dict(solvers[0].state_dict())
    for solver in solvers:
        phase = solver.phases[1]
        assert (
            phase.prior.tuning.dual_iterations == DEFAULT.likelihood_phase.dual_iterations > DEFAULT.objective.dual_iterations
        )
        assert phase.objective.prior.tuning == DEFAULT.objective


@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_few_frames_and_edges_that_cost_much_settle(weight):
    """Where edges hold the image below what the frames show of it, a step as long as an EM step swings about the solution."""
    psi, _, stack = recorded(frames=30, kappa=1000.0, emissions=1.0)
    solver = Solver(stack, psi=psi, camera=CAMERA, options=dataclasses.replace(SMALL, steps=30), tuning=tuned(edges=(weight,)))
    images = []
    while solver.current is not None:
        solver.step()
        if solver.phase == "likelihood":
            images.append(solver.phases[1].images.x)
    light = [x.sum() for x in images]
    changes = [np.linalg.norm(new - old) / np.linalg.norm(old) for old, new in itertools.pairwise(images)]
    assert np.std(light[-10:]) < 0.05 * np.mean(light[-10:])
    assert np.mean(changes[-10:]) < 0.1


def test_what_pixels_differ_by_is_not_drawn_as_emissions():
    """Pixels of unequal gain under a bright background: their pattern is in every frame."""
    psi, x, _ = recorded(frames=1)
    rng, grain = np.random.default_rng(4), 1.0 + 0.05 * np.random.default_rng(5).standard_normal(psi.shape)
    z = rng.poisson(2 * x / x.sum(), (80, *x.shape)).astype(np.float32)
    counts = CAMERA.gain * rng.poisson(grain * (psi.forward(z) + 400.0)) + CAMERA.offset
    stack = (counts + rng.normal(0, CAMERA.noise_std, counts.shape)).astype(np.float32)
    problem = fg.Problem.of(stack, calibration=fg.calibrate(stack, psi, camera=CAMERA, psf_width=1.0))
    assert problem.noise.unexplained > 3
    mean = problem.mean
    images = fg.Images(np.zeros(psi.fine_shape, np.float32), np.zeros(psi.fine_shape, np.float32), np.full_like(mean, 400.0))
    left = without_pattern(problem, images).mean(axis=0) / CAMERA.gain - 400.0
    np.testing.assert_allclose(left, (mean - 400.0) / problem.noise.unexplained, atol=1e-2)
    # one frame beside the mean is what it was
    plain = problem.counts - problem.counts.mean(axis=0)
    got = without_pattern(problem, images)
    np.testing.assert_allclose(got - got.mean(axis=0), plain, atol=1e-2)
