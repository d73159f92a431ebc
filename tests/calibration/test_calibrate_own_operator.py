"""What is measured on a stack through an operator of the user's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from own_operators import Same, Varying, Vignetted

import fluogan_core as fg
from fluogan_core.calibration.entry_pairs import EntryPairs, entries_leakage
from fluogan_core.calibration.flicker import PairKernels
from fluogan_core.calibration.high_pass import leakage

SHAPE, KAPPA = (32, 32), 20.0


@pytest.fixture(scope="module")
def psi():
    return fg.Psi(fg.gaussian_psf(318, 100, 2, truncate=3), SHAPE, 2, photons_per_emitter=KAPPA, backend="numpy")


def lit_unevenly(psi):
    axis = np.linspace(-1, 1, SHAPE[0])
    return Vignetted(psi, 1 - 0.35 * (axis[:, None] ** 2 + axis**2))


def recording(own, seed, frames=400):
    pattern = fg.argolight_pattern((120.0,), pixel_size_nm=100, factor=2, shape=SHAPE, outer_nm=450, margin_nm=200)
    x = (pattern.x * (8.0 / KAPPA)).astype(np.float32)
    model = fg.ForwardModel(own, gain=2.0, noise_std=2.0)
    return model.sample(x, np.full(SHAPE, 4.0, np.float32), frames, seed=seed) + np.float32(100)


def test_entries_say_of_the_nominal_operator_what_its_table_says(psi):
    entries, table = EntryPairs(Same(psi)), PairKernels(psi)
    assert set(entries.near) == set(table.near)
    assert set(entries.closest) == set(table.closest)
    assert entries.strength[0, 0] == pytest.approx(table.strength[0, 0], rel=0.06)  # the field has no light from beyond it
    for shift in table.near:
        expected = table.strength[shift] / table.strength[0, 0]
        assert entries.strength[shift] / entries.strength[0, 0] == pytest.approx(expected, rel=0.03 * sum(map(abs, shift)))
    for order in (2, 4):
        assert entries_leakage(Same(psi), order) == pytest.approx(leakage(psi.table, order) / leakage(psi.table, 0), rel=0.1)
    # a smooth image of light well inside the field: both ways of deconvolving it predict alike
    light = np.exp(-0.5 * ((np.mgrid[:32, :32] - 15.5) ** 2).sum(axis=0) / 5.0**2) * 50 + 100
    predicted = [pairs.predictor(light) for pairs in (entries, table)]
    middle = (slice(8, 24), slice(8, 24))
    # how much of a constant is emission is left open: a term of its own belongs to it
    ours, theirs = (predict((0, 1))[middle] - predict((0, 1))[middle].mean() for predict in predicted)
    np.testing.assert_allclose(ours, theirs, atol=0.03 * np.ptp(theirs))


@pytest.mark.parametrize(
    ("make", "seeds"),
    [(lit_unevenly, (0, 1)), (lambda psi: Varying(psi, psi.scaled(1.4)), (2,))],
    ids=["vignetted", "varying"],
)
def test_gain_and_photons_per_emission_are_found_through_ones_own_operator(psi, make, seeds):
    own, pulls, nominal = make(psi), [], []
    for seed in seeds:
        stack = recording(own, seed)
        found = fg.calibrate(stack, own.replaced(photons_per_emitter=1.0))
        e = found.estimate
        assert type(found.psi) is type(own)
        np.testing.assert_allclose(found.psi.column_sums, e.photons_per_emitter / KAPPA * own.column_sums, rtol=1e-6)
        pulls.append([(e.camera.gain - 2) / e.gain_error, (e.photons_per_emitter - KAPPA) / e.photons_per_emitter_error])
        assert e.gain_error < 0.06
        assert e.photons_per_emitter_error < 2.0
        assert found.psf_width.width == 1
        assert math.isnan(found.psf_width.measured)
        assert any(f"{type(own).__name__} is an operator of your own" in remark for remark in found.remarks)
        nominal.append(fg.calibrate(stack, psi, psf_width=1).psi.photons_per_emitter)
    assert np.abs(pulls).max() < 4
    if make is lit_unevenly:
        assert np.mean(nominal) < 0.98 * KAPPA, "the vignetting taken for dimmer emissions"


def test_a_stack_alone_is_reconstructed_through_ones_own_operator(psi):
    own = lit_unevenly(psi)
    options = fg.SolverOptions(method="none", warm_steps=3)
    result = fg.reconstruct(recording(own, 3, 200), psi=own.replaced(photons_per_emitter=1.0), options=options)
    assert type(result.psi) is Vignetted
    assert result.psi.photons_per_emitter == pytest.approx(KAPPA, rel=0.2)


def test_a_width_that_is_given_scales_the_nominal_operator(psi):
    own = lit_unevenly(psi)
    found = fg.calibrate(recording(own, 4, 40), own, camera=fg.Camera(2.0, 100.0, 2.0), photons_per_emitter=8.0, psf_width=1.1)
    assert found.psi.nominal == psi.scaled(1.1).replaced(photons_per_emitter=8.0)


def test_the_width_of_a_psf_is_measured_where_there_is_one(psi):
    with pytest.raises(TypeError, match=r"width of the PSF reads table.*Vignetted.*psi\.nominal"):
        fg.estimate_psf_width(recording(psi, 5, 20), lit_unevenly(psi))


def test_light_that_does_not_follow_the_photons_per_emission_is_refused(psi):
    class Pair(Varying):
        """Its second operator is hidden from replaced."""

        def __init__(self, nominal, wide):
            super().__init__(nominal, wide)
            self.operators = [self.__dict__.pop("wide")]

        @property
        def wide(self):
            return self.operators[0]

        @wide.setter
        def wide(self, value):
            self.__dict__["wide"] = value

    own = Pair(psi, psi.scaled(1.4))
    with pytest.raises(ValueError, match=r"Pair\.replaced\(photons_per_emitter=10\) must give 0\.5 times the light"):
        fg.calibrate(recording(psi, 6, 20), own, camera=fg.Camera(2.0, 100.0, 2.0), photons_per_emitter=10.0)
