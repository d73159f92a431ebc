"""Iterations of the fit of the mean: fewer where the operator is wrong, all where it is right."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.solvers.chosen_weights import chosen_weights
from fluogan_core.solvers.useful_iterations import _in_squares, halvings, useful_iterations
from fluogan_core.solvers.weights import Weights, weights_for
from fluogan_core.tuning import DEFAULT, UsefulIterationsTuning

module = importlib.import_module("fluogan_core.solvers.useful_iterations")

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


@pytest.mark.parametrize("expected", [1.0, 1.3])
def test_a_halving_counts_by_what_it_loses(expected):
    """Linearly, from all of it to nothing, in what is lost beside the excess, and in what is lost beside the noise."""
    t = UsefulIterationsTuning()

    def lost(*steps):
        """Misfits that rise by these, from an excess of 2."""
        values = expected + 2.0 + np.cumsum([0.0, *steps])
        asked = []

        def misfit(halved):
            asked.append(halved)
            return float(values[halved])

        return halvings(misfit, expected, dataclasses.replace(t, clear_gain=by_noise, most_halvings=len(steps))), asked

    by_noise = 1e9
    middle = 0.5 * (t.useless + t.useful)
    for part, kept in (
        (t.useless, 1.0),
        (middle, 0.5),
        (0.25 * t.useful + 0.75 * t.useless, 0.75),
        (1.01 * t.useful, 0.0),
        (-0.5, 1.0),
    ):
        found, asked = lost(2 * part, 1e6)
        assert found == pytest.approx(kept)
        assert asked == [2, 1, 0], "each plan once, the shortest first"
    # one after the other: each counts by what those before have left
    excess = 2.0 + 2 * middle
    assert lost(2 * middle, excess * middle, 1e6)[0] == pytest.approx(0.5 + 0.25)
    by_noise = 0.1 * t.useless  # what is lost is small beside the excess, and from one to two units of the misfit
    unit = by_noise * (expected + 2.0) / expected
    for units, kept in ((0.9, 1.0), (1.0, 1.0), (1.5, 0.5), (2.01, 0.0), (3.0, 0.0)):
        assert lost(units * unit, 1e6)[0] == pytest.approx(kept)


def test_halvings_end_at_the_most_and_at_what_noise_explains():
    t = UsefulIterationsTuning()
    asked = []

    def same(value):
        return lambda halved: asked.append(halved) or value

    for most in (1, 2, 5):
        asked.clear()
        assert halvings(same(3.0), 1.0, dataclasses.replace(t, most_halvings=most)) == most
        assert asked == list(range(most, most - 3, -1))[: most + 1], "no longer ones than say that doubling is of no use"
    for noise in (1.0, 0.9):
        asked.clear()
        assert halvings(same(noise), 1.0, t) == 0.0
        assert asked == [t.most_halvings], "longer plans explain more"
    # a plan that explains the mean ends the search, wherever it comes
    asked.clear()
    assert halvings(lambda halved: asked.append(halved) or (0.9 if halved == 2 else 3.0 * halved), 1.0, t) == 0.0
    assert asked == [4, 3, 2]
    # one doubling of no use, then one of use: the next is tried
    values = {4: 9.0, 3: 9.0, 2: 5.0, 1: 5.0, 0: 5.0}
    asked.clear()
    assert halvings(lambda halved: asked.append(halved) or values[halved], 1.0, t) == 2.0
    assert asked == [4, 3, 2, 1, 0]
    # half of the plan misses, the whole plan does not: what the whole wins is useful
    one = dataclasses.replace(t, most_halvings=1)
    assert halvings(lambda halved: 1.0 if not halved else 1.0 + 1e-9, 1.0, one) == 0.0


@pytest.mark.parametrize("shape", [(4, 5), (1, 6), (6, 1), (1, 1), (2, 2)])
def test_sums_over_squares(rng, shape):
    image = rng.standard_normal(shape)
    rows, columns = (min(2, size) for size in shape)
    expected = np.lib.stride_tricks.sliding_window_view(image, (rows, columns)).sum(axis=(2, 3))
    np.testing.assert_allclose(_in_squares(image), expected, rtol=1e-12, atol=1e-14)


class Field:
    """In place of the trial field: every pixel of a fit misses the mean by so much."""

    def __init__(self, missed=0.0, good=None):
        self.good = np.ones((9, 9), bool) if good is None else good
        self.mean, self.variance = np.full((9, 9), 7.0), np.full((9, 9), 0.01)
        self.missed, self.asked = missed, []

    def __call__(self, problem, background, tuning):
        return self

    def fitted(self, mean, weights):
        self.asked.append(weights.iterations)
        return np.where(self.good, mean + self.missed, np.nan), np.zeros_like(mean)

    @property
    def just_noise(self):
        """The error at which the squares' mean chi-square is that of noise at most, for tests on both sides of it."""
        count = np.lib.stride_tricks.sliding_window_view(self.good, (2, 2)).sum(axis=(2, 3))
        per_unit = (count[count > 0].astype(float) ** 2 / (0.01 * count[count > 0])).mean()
        expected = 1.0 + DEFAULT.useful_iterations.clear * np.sqrt(2 / (self.good.sum() / 4))
        return np.sqrt(expected / per_unit)


def plan_of(iterations):
    return Weights(1.0, 0.0, 0.0, 1.0, order=2, detail=0.1, lit=1.0, iterations=iterations, detection=1.0)


def found_by(field, monkeypatch, planned=None, tuning=DEFAULT):
    monkeypatch.setattr(module, "TrialField", field)
    plan = plan_of(tuning.mean_phase.most if planned is None else planned)
    found = useful_iterations(plan, None, tuning=tuning)
    assert found == dataclasses.replace(plan, iterations=found.iterations)
    assert (found is plan) == (found.iterations == plan.iterations)
    return found.iterations


@pytest.mark.parametrize("bad", [0, 3, 8])
def test_an_error_that_stays_is_seen_beside_the_noise_of_good_pixels(monkeypatch, caplog, bad):
    good = np.ones((9, 9), bool)
    good[:bad, :bad] = False
    limit, planned = Field(good=good).just_noise, DEFAULT.mean_phase.most
    with caplog.at_level("INFO", "fluogan_core"):
        assert found_by(Field(0.999 * limit, good), monkeypatch) == planned
        assert caplog.text == ""
        field = Field(1.001 * limit, good)
        fewest = round(planned / 2**DEFAULT.useful_iterations.most_halvings)
        assert found_by(field, monkeypatch) == max(DEFAULT.mean_phase.fewest, fewest)
        assert f"takes {max(DEFAULT.mean_phase.fewest, fewest)} iterations in place of {planned}" in caplog.text
    halved = [max(DEFAULT.mean_phase.fewest, round(planned / 2**n)) for n in range(DEFAULT.useful_iterations.most_halvings + 1)]
    assert field.asked == halved[:-4:-1], "doubling is of no use twice"


def test_only_full_plans_are_tried_and_none_falls_below_the_fewest(monkeypatch):
    field = Field(1.0)
    assert found_by(field, monkeypatch, DEFAULT.mean_phase.most - 1) == DEFAULT.mean_phase.most - 1
    assert field.asked == []
    more = 2 * DEFAULT.mean_phase.most
    assert found_by(field, monkeypatch, more) < more, "a plan of more than the usual most is a full one"
    field.asked.clear()
    high = dataclasses.replace(DEFAULT, mean_phase=dataclasses.replace(DEFAULT.mean_phase, most=1000, fewest=300))
    assert found_by(field, monkeypatch, 1000, high) == 300
    assert sorted(set(field.asked)) == [300, 500, 1000]
    assert found_by(Field(1.0, np.zeros((9, 9), bool)), monkeypatch, 1000, high) == 1000, "of no pixel nothing is known"
