"""Iterations of the fit of the mean: fewer where the operator is wrong, all where it is right."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.solvers.chosen_weights import chosen_weights
from fluogan_core.solvers.useful_iterations import halvings, useful_iterations
from fluogan_core.solvers.weights import weights_for
from fluogan_core.tuning import UsefulIterationsTuning

SIDE, FACTOR = 24, 2


def recorded(fwhm: float, told: float = 300.0) -> fg.Problem:
    """Bright frames of filled squares through a PSF of this width, and the operator of the width that is told."""
    x = np.zeros((SIDE * FACTOR,) * 2, np.float32)
    x[10:24, 8:20] = x[20:38, 30:40] = 400.0
    psi = fg.Psi(fg.gaussian_psf(fwhm, 100, FACTOR), (SIDE, SIDE), FACTOR, backend="numpy")
    stack = np.random.default_rng(1).poisson(psi.forward(x) + 20.0, (150, SIDE, SIDE))
    return fg.Problem.of(stack, psi=psi.replaced(psf=fg.gaussian_psf(told, 100, FACTOR)), camera=fg.Camera())


def test_a_wrong_operator_takes_fewer_iterations_and_comes_nearer():
    """A PSF told 10 % too narrow, whatever is fitted leaves its error: more iterations draw ripples."""
    problem, options = recorded(300.0, told=270.0), fg.SolverOptions(method="none")
    usual = weights_for(problem, options)
    found = chosen_weights(usual, problem, options)
    assert found.iterations < 0.7 * usual.iterations
    truth = np.zeros((SIDE * FACTOR,) * 2)
    truth[10:24, 8:20] = truth[20:38, 30:40] = 400.0

    def error(weights):
        x = fg.Solver(problem=problem, options=options, weights=weights).run(progress=False).x
        return np.linalg.norm(x - truth)

    assert error(found) < 0.97 * error(usual)


def test_the_right_operator_takes_all_iterations():
    problem, options = recorded(300.0), fg.SolverOptions(method="none")
    usual = weights_for(problem, options)
    assert useful_iterations(usual, problem) is usual


def test_iterations_that_are_asked_for_are_taken():
    problem, options = recorded(300.0, told=270.0), fg.SolverOptions(method="none", warm_steps=700)
    assert chosen_weights(weights_for(problem, options), problem, options).iterations == 700


def test_halvings_go_by_degrees():
    """What half of the plan leaves changes a little: the answer changes a little."""
    tuning = UsefulIterationsTuning()

    def misfits(*values):
        return lambda halved: values[halved]

    answers = [halvings(misfits(3.0, 3.0 + by, 9.0, 99.0, 999.0), 1.0, tuning) for by in np.linspace(0.15, 0.45, 31)]
    assert answers[0] == 1.0
    assert answers[-1] == 0.0
    assert np.all(np.diff(answers) <= 0)
    assert np.abs(np.diff(answers)).max() < 0.08
    assert halvings(misfits(3.0, 3.0, 3.0, 3.0, 3.0), 1.0, tuning) == tuning.most_halvings
    assert halvings(misfits(0.9, 1.3, 9.0, 99.0, 999.0), 1.0, tuning) == 0.0  # noise explains what is left


@pytest.mark.parametrize("turn", [lambda a: a[..., ::-1], lambda a: a.swapaxes(-1, -2)])
def test_the_number_does_not_see_how_the_camera_hung(turn):
    problem, options = recorded(300.0, told=270.0), fg.SolverOptions(method="none")
    stack = np.ascontiguousarray(turn(problem.counts))
    turned = fg.Problem.of(stack, psi=problem.psi, camera=problem.camera)
    found = [useful_iterations(weights_for(p, options), p).iterations for p in (problem, turned)]
    assert found[0] == found[1]
