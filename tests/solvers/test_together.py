"""The library from several threads and processes at once: the bytes of a single run, from the first use on."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import fluogan_core as fg
from benchmarks.together import CASES, run_cases

FIRST, *REST = CASES


@pytest.mark.parametrize("fresh", [(FIRST,), tuple(REST)], ids=["first use", "later"])
def test_what_runs_together_gives_the_bytes_of_a_single_run(fresh):
    names = [name for name in fresh if "Dask" not in name or importlib.util.find_spec("distributed")]
    found = run_cases(*names)
    assert list(found) == names
    expected = CASES[names[0]][1]()
    for name, digests in found.items():
        assert len(digests) >= 2, name
        assert set(digests) == {expected}, name


def test_what_a_callback_sees_cannot_be_written_to(rng):
    psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (12, 14), 2, backend="numpy")
    stack = rng.poisson(5.0, (20, 12, 14))
    given = {"psi": psi, "camera": fg.Camera(), "options": fg.SolverOptions(method="none", warm_steps=6)}
    expected, refused = fg.reconstruct(stack, **given), []

    def meddle(solver, record):
        problem, result = solver.problem, solver.result()
        for image in (result.x, result.b, result.x_mean_fit, result.b_mean_fit, result.mean, result.bad_pixels):
            image[...] = 0  # a result is the caller's own
        kept = (problem.counts, problem.mean, problem.bad_pixels, problem.steady, psi.column_sums, psi.psf)
        for image in (*solver.images, *solver.outcome, *kept):
            with pytest.raises(ValueError, match="read-only"):
                image[...] = 0
            refused.append(image)

    found = fg.reconstruct(stack, **given, callback=meddle)
    assert len(refused) >= 8  # all of every step
    np.testing.assert_array_equal(found.x, expected.x)
    assert all(getattr(found, name).flags.writeable for name in ("x", "b", "mean", "bad_pixels"))


def test_no_public_function_changes_its_arguments(rng):
    psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, photons_per_emitter=4.0, backend="numpy")
    x, b = rng.random(psi.fine_shape).astype(np.float32), 1 + rng.random(psi.shape).astype(np.float32)
    stack = fg.ForwardModel(psi, noise_std=1.0).sample(x, b, 60, seed=1) + 100
    bead = np.full((9, 9), 100.0)
    bead[3:6, 3:6] += [[100, 200, 100], [200, 400, 200], [100, 200, 100]]
    camera, options = fg.Camera(offset=100.0, noise_std=1.0), fg.SolverOptions(method="none", warm_steps=2)
    critic = fg.Critic(psi.shape, channels=2, depth=2, seed=0)
    calls = {
        "reconstruct": (lambda s: fg.reconstruct(s, psi=psi, camera=camera, options=options), stack),
        "network": (
            lambda s: fg.reconstruct(
                s, psi=psi, camera=camera, options=fg.SolverOptions(method="linear", warm_steps=2, steps=2, critic_steps=1)
            ),
            stack,
        ),
        "calibrate": (lambda s: fg.calibrate(s, psi, camera=camera), stack),
        "estimate_camera": (lambda s: fg.estimate_camera(s, psi, gain=1.0), stack),
        "estimate_psf_width": (lambda s: fg.estimate_psf_width(s, psi), stack),
        "problem": (lambda s: fg.Problem.of(s, psi=psi, camera=camera), stack),
        "sweep": (lambda s: fg.sweep(s, vary={"smoothness": [4.0]}, psi=psi, camera=camera, options=options), stack),
        "measured_psf": (fg.measured_psf, bead),
        "Psi": (lambda p: fg.Psi(p, psi.shape, 2, backend="numpy"), 3 * psi.psf),
        "x0": (lambda z: fg.Solver(stack, psi=psi, camera=camera, options=options, x0=z).step(), x),
        "critic_differences": (lambda y: fg.critic_differences(critic, y, 1.0), stack[:2]),
        "slope": (lambda y: fg.critic_differences(critic, y, 1.0, method="linear"), stack[:2]),
        "in place": (lambda y: fg.critic_differences(lambda t: t.mul_(2).sum(dim=(1, 2)), y, 1.0), stack[:2]),
    }
    for name, (function, given) in calls.items():
        array = given.copy()
        function(array)
        np.testing.assert_array_equal(array, given, err_msg=name)
