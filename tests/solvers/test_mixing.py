"""The test of mixing: its verdict, and that it costs no more than the fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.physics.emissions import Brightness, EmissionChains, move_emissions
from fluogan_core.solvers import likelihood_fit, mixing
from fluogan_core.solvers.emission_work import too_much_work
from fluogan_core.solvers.mixing import Mixing, longest_test, mixing_of
from fluogan_core.tuning import DEFAULT

TUNING = DEFAULT.likelihood_phase
CAMERA = fg.Camera(gain=1.0, offset=0.0, noise_std=0.0)


def bar(kappa, emissions, frames=24):
    psi = fg.Psi(fg.gaussian_psf(300, 100, 2, truncate=3), (12, 12), 2, photons_per_emitter=kappa, backend="numpy")
    x = np.zeros(psi.fine_shape)
    x[6:18, 10:13] = emissions / 36
    model = fg.ForwardModel(psi)
    return model, x, model.sample(x.astype(np.float32), np.full(psi.shape, 1.5, np.float32), frames, seed=1)


@pytest.mark.parametrize("frames", [1, 3, 4, 24, 60, 128, 500, 10000])
@pytest.mark.parametrize("sweeps", [1, 5, 10, 50, 200, 1000])
@pytest.mark.parametrize("each", [30, 700, 15620])
def test_the_longest_test_takes_no_more_than_the_fit_or_some_seconds(frames, sweeps, each):
    (fewest, most), (shortest, longest) = TUNING.mixing_frames, TUNING.mixing_sweeps
    tested, taken = longest_test(np.full(frames, each), sweeps)
    assert min(fewest, frames) <= tested <= min(most, frames)
    assert shortest <= taken <= longest
    paid = max(sweeps * frames * each, TUNING.mixing_free)
    assert 2 * tested * taken * each <= max(paid, 2 * fewest * shortest * each)
    if paid >= 2 * most * longest * each:
        assert (tested, taken) == (min(most, frames), longest)
    # what is paid is used: no frame or sweep more could be had
    assert tested == min(most, frames) or 2 * (tested + 1) * longest * each > paid
    assert taken == longest or 2 * tested * (taken + 1) * each > paid


@pytest.mark.parametrize("steps", [5, 12])
def test_moves_of_the_test_are_no_more_than_the_fits(monkeypatch, steps):
    """Many emissions in few frames and a few steps: the test once took 80 times what the fit took."""
    model, _, stack = bar(10.0, 20.0)
    moves = {}

    def counted(module):
        def move(*given, proposals, **more):
            moves[module] = moves.get(module, 0) + int(np.sum(proposals))
            return move_emissions(*given, proposals=proposals, **more)

        return move

    for module in (likelihood_fit, mixing):
        monkeypatch.setattr(module, "move_emissions", counted(module))
    options = fg.SolverOptions(method="likelihood", steps=steps, warm_steps=60, total_variation=0.0)  # no trial of edges
    tuning = dataclasses.replace(DEFAULT, likelihood_phase=dataclasses.replace(TUNING, largest_r_hat=0.0, mixing_free=0.0))
    stop = fg.reconstruct(stack, psi=model.psi, camera=CAMERA, options=options, tuning=tuning, progress=False).stops[
        "likelihood"
    ]
    assert stop.reason is fg.StopReason.NOT_MIXED
    assert "after more steps the test is longer" in stop.detail
    assert 0.5 * moves[likelihood_fit] < moves[mixing] < 1.1 * moves[likelihood_fit]


def test_a_fit_too_short_for_its_test_is_refused_before_it_begins():
    """Of two steps chains are as old as those that begin anew: only a long test could tell, and it is not paid for."""
    many, few = np.full(24, 15620), np.full(24, 80)
    why = too_much_work(many, 2, 100.0)
    assert "in 2 steps the chains of 2600 emissions in a frame do not forget" in why
    assert "take 5 steps or more" in why
    assert not too_much_work(many, 5, 100.0)
    assert not too_much_work(few, 1, 1.0), "a long test takes a second"


@pytest.mark.parametrize(("kappa", "emissions"), [(100.0, 2.0), (30.0, 12.0)])
def test_chains_that_mix_are_tested_briefly_and_those_that_hardly_move_to_the_end(kappa, emissions):
    model, x, frames = bar(kappa, emissions)
    law, b = Brightness(1.0, 20.0), np.full(model.psi.shape, 1.5)
    enough = np.full(24, int(20 + 6 * emissions))
    given = {"counts": frames, "model": model, "x": x + 1e-4, "b": b, "brightness": law}
    chains = EmissionChains.empty(24, 200)
    move_emissions(chains, frames, model, x + 1e-4, b, law, proposals=100 * enough)
    before = [chains.place.copy(), chains.bright.copy(), chains.count.copy()]
    found = mixing_of(chains, **given, proposals=enough, seed=0, sweeps=200)
    assert found.mixed, found
    assert found.sweeps <= 200
    assert not found.cut_short
    for was, part in zip(before, (chains.place, chains.bright, chains.count)):
        np.testing.assert_array_equal(part, was)
    # of a fit as old as the shortest test or younger, only the longest test can tell
    assert mixing_of(chains, **given, proposals=enough, seed=0, sweeps=10).sweeps == longest_test(enough, 10)[1]
    # a chain of one move per sweep is still near where it began, whatever the length that is paid for
    for free, at_length in ((TUNING.mixing_free, True), (0.0, False)):
        tuning, slow = dataclasses.replace(TUNING, mixing_free=free), np.ones(24, np.int64)
        found = mixing_of(chains, **given, proposals=slow, seed=0, sweeps=60, tuning=tuning)
        assert not found.mixed
        assert found.sweeps == longest_test(slow, 60, tuning)[1]
        assert found.cut_short is not at_length


def test_what_is_said_of_a_test():
    assert str(Mixing(1.0, 1.3, 1.2, 100)) == "split R-hat 1.3 after 100 sweeps, 1.2 or less is mixed"
    assert str(Mixing(1.3, 1.0, 1.2, 25, cut_short=True)).endswith("is mixed; after more steps the test is longer")


def test_the_test_counts_as_work():
    """Moves of the fit and of the longest test that it allows."""
    proposals, steps = np.full(24, 1000), 10
    tested, longest = longest_test(proposals, steps * TUNING.sweeps)
    moves = 1000.0 * (24 * steps * TUNING.sweeps + 2 * tested * longest)
    for limit, refused in ((moves, False), (0.999 * moves, True)):
        assert bool(too_much_work(proposals, steps, 1.0, dataclasses.replace(TUNING, most_moves=limit))) is refused
