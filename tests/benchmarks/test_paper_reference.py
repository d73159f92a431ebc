"""The paper's reference: likelihoods of mean and covariance, and what a quadratic critic tells apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks._harness import check_document
from benchmarks.paper._field import make_field
from benchmarks.paper._training import best_quadratic, told_apart
from benchmarks.paper.reference import Likelihood, climb, error_of
from benchmarks.paper.reference import main as reference_main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def field():
    return make_field(14, 20.0, 60, 1)


@pytest.mark.parametrize("second", [False, True])
def test_the_likelihoods_gradient_is_its_derivative(field, second, rng):
    likelihood = Likelihood(field, second_moments=second)
    x = field.x.ravel() + 0.1 * rng.random(field.x.size)
    direction = rng.standard_normal(x.size)
    step = 1e-6
    ahead, behind = (likelihood(x + sign * step * direction)[0] for sign in (1, -1))
    # central differences of a value of size v are rounded by v * 1e-16 / step
    tolerance = 1e-9 * abs(ahead)
    assert (ahead - behind) / (2 * step) == pytest.approx(likelihood(x)[1] @ direction, rel=1e-5, abs=tolerance)


def test_the_likelihood_is_that_of_a_gaussian(field):
    from scipy.stats import multivariate_normal

    likelihood = Likelihood(field, second_moments=True)
    x = field.x.ravel() + 0.01
    light = likelihood.operator @ x
    covariance = np.diag(light + field.b.ravel()) + (likelihood.operator * x) @ likelihood.operator.T
    law = multivariate_normal(light + field.b.ravel(), covariance)
    expected = law.logpdf(field.frames.reshape(len(field.frames), -1)).mean()
    assert likelihood(x)[0] == pytest.approx(expected + 0.5 * light.size * np.log(2 * np.pi), rel=1e-9)


@pytest.mark.parametrize("second", [False, True])
def test_climbing_never_goes_down_and_keeps_the_image_of_least_error(field, second):
    likelihood = Likelihood(field, second_moments=second)
    errors, values = [], []

    def error(x):
        errors.append(error_of(field)(x))
        values.append(likelihood(x)[0])
        return errors[-1]

    best, when = climb(likelihood, 8, error)
    assert best.min() >= 0
    assert len(values) == 9  # the start and eight steps
    assert (np.diff(values) >= 0).all()
    assert values[-1] > values[0]
    assert error_of(field)(best) == min(errors) == errors[when]


def test_the_best_quadratic_critic_tells_flicker_from_steady_light():
    """Frames with the same mean, of 20 photons per emission and of one: seen in frames that it was not made from."""
    field, steady = (make_field(14, 20.0, 300, 1, kappa) for kappa in (20.0, 1.0))
    b = field.b.astype(np.float32)
    values = best_quadratic(field, steady.frames, field.x.astype(np.float32), b)
    simulated = field.model.sample(field.x, b, 300, seed=9)
    assert told_apart(values(steady.unseen), values(simulated)) > 5
    assert abs(told_apart(values(field.unseen), values(simulated))) < 3
    drawn = np.random.default_rng(0).standard_normal(400)
    assert told_apart(drawn + 1, drawn) == pytest.approx(np.sqrt(200) / drawn.std(ddof=1))


def test_the_reference_runs(tmp_path):
    words = ["--quick", "--results", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks.paper.reference", *words]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    document = json.loads((tmp_path / "reference.json").read_text())
    check_document(document)
    assert document["tables"][-1]["title"].startswith("How long a critic has to be trained")
    assert [row[:3] for row in document["tables"][-1]["rows"]] == [
        ["best quadratic", "", "none"],
        ["trained", 4, 1],
        ["trained", 4, 2],
    ]
    names = [row[2] for row in document["tables"][0]["rows"]]
    assert names[:4] == ["likelihood of the mean", "likelihood of mean and covariance", "mean fit", "full method"]
    assert len(names) > 4
    assert all(name.startswith(("try: ", "trained critic, ")) for name in names[4:])
    reference_main([*words, "--light", "20"])
    anew = json.loads((tmp_path / "reference.json").read_text())
    assert anew["environment"]["renewed"].keys() == {"20"}
    assert anew["tables"][-1] == document["tables"][-1]
    assert [row[:3] for row in anew["tables"][0]["rows"]] == [row[:3] for row in document["tables"][0]["rows"]]
    reference_main([*words, "--light", "2"])
    both = json.loads((tmp_path / "reference.json").read_text())
    assert both["environment"]["renewed"].keys() == {"20", "2"}
    count = len(names)
    assert both["tables"][0]["rows"][:count] == anew["tables"][0]["rows"]
    assert [row[:3] for row in both["tables"][0]["rows"][count:]] == [["2", 0, name] for name in names]
