"""Making a solver takes no work that a later phase may need; what it refuses, it refuses there."""

import numpy as np
import pytest
from two_lines import CAMERA, simulate

import fluogan_core as fg
from fluogan_core.critics.moments import WindowMoments
from fluogan_core.physics import psi as psi_module


@pytest.fixture
def counted(monkeypatch):
    """Numbers of the two things that cost most at 256 x 256: covariances read, norms found."""
    calls = {"covariances": 0, "norms": 0}
    recorded, norm = WindowMoments.recorded, psi_module.spectral_norm

    def of_covariances(*arguments):
        calls["covariances"] += 1
        return recorded(*arguments)

    def of_norms(*arguments):
        calls["norms"] += 1
        return norm(*arguments)

    monkeypatch.setattr(WindowMoments, "recorded", of_covariances)
    monkeypatch.setattr(psi_module, "spectral_norm", of_norms)
    return calls


@pytest.mark.parametrize("method", ["moments", "likelihood", "auto"])
def test_a_solver_that_is_made_has_read_no_covariances_and_found_one_norm(counted, method):
    psi, _, _, stack = simulate(frames=20)
    fg.Solver(stack, psi=psi, camera=CAMERA, options=fg.SolverOptions(method))
    assert counted == {"covariances": 0, "norms": 1}


def test_covariances_are_read_once_when_the_phase_begins(counted):
    psi, _, _, stack = simulate(frames=20)
    solver = fg.Solver(stack, psi=psi, camera=CAMERA, options=fg.SolverOptions(warm_steps=2, steps=2))
    while solver.phase == "mean":
        assert counted["covariances"] == 0
        solver.step()
    solver.run()
    assert counted["covariances"] == 2  # of the frames that are fitted, and of those held out


def test_frames_that_the_caller_changes_afterwards_change_nothing():
    """Covariances are read late, of what the stack held when the solver was made."""
    psi, _, _, stack = simulate(frames=20)
    options, stack = fg.SolverOptions(warm_steps=3, steps=2), np.asarray(stack, dtype=np.float32)
    kept = fg.reconstruct(stack.copy(), psi=psi, camera=CAMERA, options=options)
    solver = fg.Solver(stack, psi=psi, camera=CAMERA, options=options)
    stack[...] = 0
    np.testing.assert_array_equal(solver.run().x, kept.x)


class Choosy(fg.QuadraticCritic):
    def __init__(self, *arguments, **settings):
        raise ValueError("this critic takes no such frames")


class Half:
    """Has some of the methods."""

    flicker = 1.0

    def __init__(self, *arguments, **settings):
        pass

    def slope(self, x, b):
        return x, b


@pytest.mark.parametrize(
    ("critic", "error", "words"),
    [
        (Choosy, ValueError, "takes no such frames"),
        (3.0, TypeError, "quadratic_critic= must be a class or function"),
        (Half, TypeError, "Half lacks explain_noise, flicker_share, log_density, measure_flicker, update_weights, value"),
    ],
)
@pytest.mark.parametrize("method", ["moments", "likelihood", "auto"])
def test_a_critic_of_the_users_own_is_refused_before_the_mean_is_fitted(critic, error, words, method):
    psi, _, _, stack = simulate(frames=20)
    with pytest.raises(error, match=words):
        fg.Solver(stack, psi=psi, camera=CAMERA, options=fg.SolverOptions(method), quadratic_critic=critic)
