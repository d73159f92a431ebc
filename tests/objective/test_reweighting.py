"""The reweighted l1 penalty: what is lit is not penalised, what is dark is."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.objective.reweighting import ReweightedL1, darkness
from fluogan_core.objective.terms import Objective


def test_in_dim_light_a_part_of_the_signal_is_lit():
    """A signal of ten standard deviations of the noise: nothing reaches 24 of them."""
    psi = fg.Psi(fg.gaussian_psf(300, 100, 4), (24, 24), 4, backend="numpy")
    disc = np.zeros(psi.fine_shape, dtype=np.float32)
    disc[28:68, 28:68] = 1 / 16
    objective = Objective(psi, psi.forward(disc))
    seen = darkness(disc, objective, lit=0.45)
    assert seen[48, 48] < 0.05
    assert seen[5, 5] > 0.99
    assert darkness(disc, objective, lit=2.4)[48, 48] > 0.9


def test_lit_pixels_have_no_penalty_and_dark_ones_have_all_of_it():
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (24, 24), 4, photons_per_emitter=3.0)
    x = np.zeros(psi.fine_shape, dtype=np.float32)
    x[:, 40:56:4] = 2.0  # a filled body that came out as ridges
    dim = np.zeros_like(x)
    dim[:, :4] = 0.002
    light = psi.forward(x)
    weights = darkness(x + dim, Objective(psi, light), lit=6.0)
    assert weights.dtype == np.float32
    assert weights.shape == x.shape
    assert weights[24:-24, 40:53].max() < 0.03  # the gaps between the ridges too
    assert weights[:, 80:].min() > 0.99
    assert weights[:, :4].min() > 0.99
    # lit is what shines with 24 times the noise, whatever an emission is worth
    at = np.full(psi.fine_shape, 24 * 0.25 / 16 / 3.0, dtype=np.float32)
    assert darkness(at, Objective(psi, light), lit=6.0)[48, 48] == pytest.approx(0.5, rel=1e-3)


def test_a_skirt_that_the_blur_gives_is_not_lit():
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (32, 32), 4)
    line = np.zeros(psi.fine_shape, dtype=np.float32)
    line[16:112, 62:66] = 1e3  # far above any noise, as is its blur 10 fine pixels beside it
    weights = darkness(line, Objective(psi, psi.forward(line)), lit=0.24)
    assert weights[40:88, 62:66].max() < 0.02
    assert weights[40:88, 74:].min() > 0.5
    # beside it a dimmer body is still one: judged by the light around it, not by the brightest of the field
    line[16:112, 94:98] = 3e2
    assert darkness(line, Objective(psi, psi.forward(line)), lit=0.24)[40:88, 94:98].max() < 0.05


def test_an_eighth_of_the_penalty_acts_until_the_first_update():
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (24, 24), 4)
    o = Objective(psi, np.zeros(psi.shape), sparsity=0.8)
    schedule, dark = ReweightedL1(o, lit=24.0, iterations=100), np.zeros(psi.fine_shape, dtype=np.float32)
    assert o.prior.sparsity == pytest.approx(0.1)
    assert schedule.updates == {25, 50}
    schedule.update(dark)
    np.testing.assert_allclose(o.prior.sparsity, np.full(psi.fine_shape, 0.8), rtol=1e-6)
    schedule.update(dark + 1e3)
    assert o.prior.sparsity.max() < 1e-2
    assert schedule.last == 50
    for sparsity, steps in ((0.0, 100), (0.8, 0)):  # no penalty, or no iteration
        o.prior.set_sparsity(sparsity)
        assert ReweightedL1(o, lit=24.0, iterations=steps).last == 0
