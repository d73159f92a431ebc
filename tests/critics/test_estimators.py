"""The registry of estimators, and what every estimator has to do with counters, chunks, corrections and errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from psfs import tiny_psf
from scenes import used_by

import fluogan_core as fg
from fluogan_core.backend.random import Stage
from fluogan_core.critics.estimators import (
    Estimator,
    estimator_named,
    estimator_names,
    estimator_table,
    register_estimator,
    unregister_estimator,
)
from fluogan_core.critics.evaluator import CriticEvaluator
from fluogan_core.critics.gradient import Gradient, GradientWithError
from fluogan_core.critics.job import GradientJob
from fluogan_core.critics.lattice import Lattice
from fluogan_core.tuning import EstimatorTuning

COUPLED = ("linear", "photon", "coupled", "corrected")


class Weighted(torch.nn.Module):
    """A linear critic: what photons add to its score does not depend on the frame that they are added to."""

    def __init__(self, rng, shape):
        super().__init__()
        self.register_buffer("weight", torch.as_tensor(rng.standard_normal(shape)))

    def forward(self, y):
        return (y * self.weight).sum(dim=(1, 2))


class Bent(Weighted):
    def forward(self, y):
        return torch.sin(0.2 * super().forward(y)) + 0.05 * (y * y).sum(dim=(1, 2))


@pytest.fixture
def case(rng):
    psi = fg.Psi(tiny_psf(3, 0.1), (4, 3), 2, photons_per_emitter=6.0, backend="numpy")
    model = fg.ForwardModel(psi, gain=1.5, noise_std=0.5)
    return model, (rng.random(psi.fine_shape) < 0.4) * 0.5, 0.5 + rng.random(psi.shape), rng


# -- the registry -----------------------------------------------------------------------------------------------------

OUTSIDE = """
from fluogan_core import Estimator, register_estimator


def central(job):
    means, step = job.means(), job.model.gain
    for numbers, y in job.sampled_frames():
        forward, backward = (job.evaluator.pixel_differences(y, sign * step) for sign in (1, -1))
        job.add_camera(means, 0.5 * (forward - backward))
    return job.gradient(means)


register_estimator(Estimator("central", central, "the central difference", ("mean",), "2 M local evaluations"))
"""

USES = """
import numpy as np
import fluogan_core as fg
import outside
from fluogan_core.cli.options import METHODS
from fluogan_core.critics.estimators import estimator_table

assert METHODS[-2:] == ("central", "none"), METHODS
assert '| `"central"` | the central difference | yes | no | no | 2 M local evaluations |' in estimator_table()
psi = fg.Psi(np.ones((3, 3)), (8, 7), 2, photons_per_emitter=3.0, backend="numpy")
model = fg.ForwardModel(psi, gain=2.0)
x, b = np.full(psi.fine_shape, 0.2, np.float32), np.ones(psi.shape, np.float32)
square = lambda y: (y.double() ** 2).sum(dim=(1, 2))
central, linear = (fg.critic_gradient(square, model, x, b, frames=5, method=name) for name in ("central", "linear"))
np.testing.assert_allclose(central.x, linear.x, rtol=1e-5)
np.testing.assert_allclose(central.b, linear.b, rtol=1e-5)
options = fg.SolverOptions(method="central", steps=1, warm_steps=2, critic_steps=1, gradient_frames=2, channels=2, depth=1)
stack = model.sample(x, b, 12, seed=1)
result = fg.reconstruct(stack, psi=psi, camera=fg.Camera(2.0, 0.0, 0.0), options=options, progress=False)
assert (result.history["phase"] == 1).sum() == 1
"""


def test_an_estimator_of_ones_own_takes_one_file_and_one_line(tmp_path):
    """From outside the package: options, solver, command line and table know it."""
    (tmp_path / "outside.py").write_text(OUTSIDE)
    (tmp_path / "uses.py").write_text(USES)
    done = subprocess.run([sys.executable, "uses.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_library_registers_five_and_the_documents_list_them():
    assert estimator_names()[:5] == ("corrected", "coupled", "photon", "linear", "direct")
    page = (Path(__file__).resolve().parents[2] / "docs" / "estimators.md").read_text(encoding="utf-8").splitlines()
    rows = estimator_table().splitlines()[:7]
    assert [row for row in rows if row not in page] == []


@pytest.mark.parametrize(
    ("name", "keeps", "message"),
    [("linear", ("mean",), "'linear' is registered already"), ("none", (), "'none' is registered"), ("new", ("all",), "'all'")],
)
def test_a_name_that_is_taken_and_a_part_that_is_unknown_are_refused(name, keeps, message):
    before = estimator_names()
    with pytest.raises(ValueError, match=message):
        register_estimator(Estimator(name, "nowhere:nothing", "", keeps, ""))
    assert estimator_names() == before


def test_an_estimator_says_which_options_it_reads():
    with pytest.raises(ValueError, match=r"options must name options out of .*, got 'latice'"):
        register_estimator(Estimator("mine", "nowhere:nothing", "", (), "", options=("latice",)))
    entry = Estimator("mine", "nowhere:nothing", "", (), "", options=("lattice",))
    entry.refuse_unused(background_rule="count", corrected_frames=None, lattice=3)
    with pytest.raises(ValueError, match="background_rule='rate' changes nothing with method='mine'"):
        entry.refuse_unused(background_rule="rate", corrected_frames=None, lattice=3)


def test_a_name_is_free_again_after_its_estimator_was_removed():
    entry = Estimator("mine", "fluogan_core.critics.coupled:linear", "", ("mean",), "")
    for _ in range(2):
        register_estimator(entry)
        assert estimator_named("mine") is entry
        unregister_estimator("mine")
    with pytest.raises(ValueError, match="got 'mine'"):
        unregister_estimator("mine")


def test_an_unknown_estimator_is_named_with_all_that_are_known():
    with pytest.raises(ValueError, match=r"method must be one of 'corrected', .*got 'wgan'"):
        estimator_named("wgan")
    with pytest.raises(ValueError, match=r"method must be one of .*'corrected'.*got 'wgan'"):
        fg.SolverOptions(method="wgan")


# -- results ----------------------------------------------------------------------------------------------------------


def test_a_gradient_has_names_and_unpacks(case):
    model, x, b, rng = case
    critic = Weighted(rng, model.psi.shape)
    plain = fg.critic_gradient(critic, model, x, b, frames=3)
    full = fg.critic_gradient(critic, model, x, b, frames=3, with_error=True)
    gx, gb = plain
    fx, fb, x_error, b_error = full
    assert isinstance(plain, Gradient)
    assert isinstance(full, GradientWithError)
    assert (plain.x is gx, plain.b is gb, full.x_error is x_error, full.b_error is b_error) == (True,) * 4
    assert gx.shape == x_error.shape == fx.shape == model.psi.fine_shape
    assert gb.shape == b_error.shape == fb.shape == model.psi.shape


# -- counters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["count", "rate"])
@pytest.mark.parametrize("method", COUPLED)
def test_pieces_equal_the_whole(case, method, rule):
    """Frames 3 to 12 at once, and in two pieces; with a correction on each of them."""
    model, x, b, rng = case
    critic = Bent(rng, model.psi.shape)

    def gradient(first, frames):
        options = used_by(method, corrected_frames=frames, background_rule=rule)
        return fg.critic_gradient(critic, model, x, b, frames, 5, first_frame=first, step=2, **options)

    whole, pieces = gradient(3, 10), [(4, gradient(3, 4)), (6, gradient(7, 6))]
    for k in range(2):
        np.testing.assert_allclose(whole[k], sum(n * piece[k] for n, piece in pieces) / 10, rtol=1e-6, atol=1e-9)
    elsewhere = gradient(13, 10)
    assert np.abs(elsewhere.x - whole.x).max() > 0.01 * np.abs(whole.x).max()


@pytest.mark.parametrize("method", ["coupled", "corrected"])
def test_photons_depend_on_step_seed_and_frame(case, method):
    """A linear critic shows the photons alone: they are others at every step of a solver."""
    model, x, b, rng = case
    critic = Weighted(rng, model.psi.shape)

    def photons(**counters):
        arguments = {"frames": 4, "seed": 1, "step": 0, "first_frame": 0} | counters
        job = GradientJob(
            model=model,
            evaluator=CriticEvaluator(critic, model.psi.shape),
            x=x,
            b=b,
            background_rule="count",
            lattice=Lattice(model.psi, 1),
            corrected_frames=None,
            with_error=False,
            memory_budget=2**20,
            **arguments,
        )
        numbers = np.concatenate([numbers for numbers, _ in job.sampled_frames()])
        return job.photons(numbers).pixels.tolist()

    def gradient(**counters):
        return fg.critic_gradient(critic, model, x, b, **({"frames": 4, "seed": 1, "method": method} | counters))

    assert photons() == photons()
    for change in ({"step": 1}, {"seed": 2}, {"first_frame": 4}):
        assert photons(**change) != photons(), change
        # so are those of one more unit of background
        rates = [
            gradient(background_rule="rate", frames=2, **(change if "step" in change else {})).b for change in ({}, change)
        ]
        assert "step" not in change or method != "coupled" or not np.allclose(*rates), change
        if method == "coupled":  # what it returns of a linear critic is the photons' weights alone
            assert not np.allclose(gradient(**change).x, gradient().x), change


def test_direct_draws_its_frames_from_streams_that_no_other_method_uses(case, monkeypatch):
    model, x, b, rng = case
    stages = []
    emissions, detect = fg.ForwardModel.emissions, fg.ForwardModel.detect

    def watched_emissions(model, x, numbers, seed, step, stage=Stage.EMISSION):
        stages.append({stage})
        return emissions(model, x, numbers, seed, step, stage)

    def watched_detect(model, blurred, b, numbers, seed, step, chosen=(Stage.DETECTION, Stage.READ_NOISE)):
        stages.append(set(chosen))
        return detect(model, blurred, b, numbers, seed, step, chosen)

    monkeypatch.setattr(fg.ForwardModel, "emissions", watched_emissions)
    monkeypatch.setattr(fg.ForwardModel, "detect", watched_detect)
    fg.critic_gradient(Weighted(rng, model.psi.shape), model, x, b, frames=2, method="direct")
    base = {Stage.EMISSION, Stage.DETECTION, Stage.READ_NOISE, Stage.COUPLED_COUNT, Stage.COUPLED_PLACE, Stage.BACKGROUND}
    assert set.union(*stages[:2]) <= base  # the unperturbed frames come first
    perturbed = set.union(*stages[2:])
    assert not perturbed & base
    assert len(perturbed) == 3


# -- chunks and corrections -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", COUPLED)
@pytest.mark.parametrize("rule", ["count", "rate"])
def test_one_frame_at_a_time_gives_the_same(case, method, rule, monkeypatch):
    model, x, b, rng = case
    drawn = []
    sample = fg.ForwardModel.sample
    monkeypatch.setattr(
        fg.ForwardModel,
        "sample",
        lambda model, x, b, frames, *a, **k: drawn.append(frames) or sample(model, x, b, frames, *a, **k),
    )
    critic = Bent(rng, model.psi.shape)
    options = used_by(method, frames=7, seed=3, corrected_frames=3, background_rule=rule, with_error=True)
    small, large = (fg.critic_gradient(critic, model, x, b, memory_budget=m, **options) for m in (1, 10**9))
    assert drawn == [1] * 7 + [7]
    for a, e in zip(small, large, strict=True):
        np.testing.assert_allclose(a, e, atol=2e-6 * np.abs(e).max())


def test_one_frame_in_32_is_corrected_and_two_at_least(case):
    model, x, b, rng = case
    critic = Bent(rng, model.psi.shape)

    def gradient(frames, corrected=None, **more):
        return fg.critic_gradient(critic, model, x, b, frames, 4, corrected_frames=corrected, **more).x

    for frames, few in ((10, 2), (96, 3), (127, 3), (128, 4)):
        np.testing.assert_array_equal(gradient(frames), gradient(frames, few))
        assert not np.allclose(gradient(frames), gradient(frames, few + 1))
    np.testing.assert_array_equal(gradient(20, tuning=EstimatorTuning(frames_per_correction=4)), gradient(20, 5))


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*COUPLED, "direct"])
def test_stated_errors_are_those_of_many_repetitions(case, method):
    """Never too small; of one frame's mean exact, of "corrected" and "direct" a bound that is at most twice too large."""
    model, x, b, rng = case
    critic = Bent(rng, model.psi.shape)
    repeats = 60 if method == "direct" else 150
    options = used_by(method, with_error=True, corrected_frames=4, frames=4 if method == "direct" else 12)
    found = [fg.critic_gradient(critic, model, x, b, seed=seed, **options) for seed in range(repeats)]
    for k in range(2):
        spread = np.var([g[k] for g in found], axis=0, ddof=1).mean()
        stated = np.mean([g[k + 2] ** 2 for g in found], axis=0).mean()
        # the pixels of "direct" share their base frames: three standard errors of a variance from so many repetitions
        assert 0.4 < spread / stated < (1 + 3 * (2 / repeats) ** 0.5 if method == "direct" else 1.15), (method, k)


def test_the_error_of_a_sum_is_no_smaller_than_that_of_two_parts_that_move_together(case, rng):
    model, x, b, _ = case
    job = GradientJob(
        model=model,
        evaluator=CriticEvaluator(Weighted(rng, model.psi.shape), model.psi.shape),
        x=x,
        b=b,
        frames=5,
        first_frame=0,
        seed=0,
        step=0,
        background_rule="count",
        lattice=Lattice(model.psi, 1),
        corrected_frames=None,
        with_error=True,
        memory_budget=2**20,
    )
    d = rng.standard_normal((5, *model.psi.shape))
    once, again, twice = job.means(), job.means(), job.means()
    for means, factor in ((once, 1), (again, 1), (twice, 2)):
        job.add_camera(means, factor * d)
    together, doubled = job.gradient(once, again), job.gradient(twice)
    for a, e in zip(together, doubled, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-9)
    few = job.means()
    job.add_camera(few, d[:2])  # a correction of two frames has the error of two
    parts = d.std(axis=0, ddof=1) / np.sqrt(5) + d[:2].std(axis=0, ddof=1) / np.sqrt(2)
    np.testing.assert_allclose(job.gradient(once, few).b_error, parts, rtol=1e-9)
    np.testing.assert_allclose(job.gradient(once).b_error, d.std(axis=0, ddof=1) / np.sqrt(5), rtol=1e-9)
