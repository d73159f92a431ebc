"""Molecules keep the light that the mean frame shows, whatever their flicker."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.solvers.light import light_factor

#: Read noise in photons, background in photons per pixel.
READ, BACKGROUND = 1.4, 5.0


def spots_psi(size=20, fwhm=300.0, kappa=1.0):
    psf = fg.gaussian_psf(fwhm, 100.0, 2)
    return fg.Psi(psf, (size, size), 2, photons_per_emitter=kappa, backend="numpy")


def image_of(psi, places, light):
    x = np.zeros(psi.fine_shape, dtype=np.float32)
    for (row, column), photons in zip(places, light):
        x[row, column] = photons
    return x


def light_around(x, place, radius=8):
    row, column = place
    return float(x[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1].sum())


def blinking_stack(places, shares, *, frames=150, photons=500.0, seed=0):
    """Molecules that are on for a fifth of their turns anew: their own light per frame, and the photons of the frames."""
    rng = np.random.default_rng(seed)
    on = np.zeros((frames, len(places)))
    on[0] = rng.random(len(places)) < shares
    for t in range(1, frames):
        on[t] = np.where(rng.random(len(places)) < 0.2, rng.random(len(places)) < shares, on[t - 1])
    psi = spots_psi()
    light = np.stack([psi.forward(image_of(psi, places, photons * row)) for row in on])
    return photons * on.mean(axis=0), rng.poisson(light + BACKGROUND) + rng.normal(0, READ, light.shape)


@pytest.mark.parametrize("seed", [0, 1])
def test_molecules_that_blink_unlike_the_others_keep_their_light(seed):
    """Within a tenth or three standard errors of the mean frame, with one flicker strength for all of them."""
    places, shares = [(9, 9), (9, 30), (30, 9), (30, 30)], np.array([0.05, 0.12, 0.25, 0.5])
    truth, frames = blinking_stack(places, shares, seed=seed)
    result = fg.reconstruct(
        frames.astype(np.float32), psi=spots_psi(kappa=300.0), camera=fg.Camera(1.0, 0.0, READ), progress=False
    )
    assert "settled" in result.stop_reason or "all" in result.stop_reason
    error = np.sqrt((truth + 4 * np.pi * (300 / 235.48) ** 2 * (BACKGROUND + READ**2)) / len(frames))
    found = np.array([300.0 * light_around(result.x, place) for place in places])
    np.testing.assert_array_less(np.abs(found - truth), np.maximum(0.1 * truth, 3 * error))


def test_light_that_was_lost_comes_back_window_by_window():
    psi = spots_psi()
    places = [(9, 9), (9, 30), (30, 20)]
    x = image_of(psi, places, [300.0, 300.0, 300.0])
    b = np.full(psi.shape, BACKGROUND, dtype=np.float32)
    mean = psi.forward(x) + b
    weight = (100.0 / mean).astype(np.float32)
    lost = image_of(psi, places, [150.0, 300.0, 400.0])
    kept = light_factor(lost, b, psi=psi, mean=mean, weight=weight)
    for place in places:
        assert light_around(kept.factor * lost, place) == pytest.approx(300.0, rel=0.01)
    assert kept.largest == pytest.approx(1.0, rel=0.02)
    # what is right stays as it is
    assert light_factor(x, b, psi=psi, mean=mean, weight=weight).largest < 1e-3


def test_light_below_its_own_noise_is_left_alone():
    """A window whose light has a standard error as large as itself: a change of half of it at most, and none is reported."""
    psi = spots_psi()
    x = image_of(psi, [(20, 20)], [10.0])
    b = np.full(psi.shape, BACKGROUND, dtype=np.float32)
    weight = np.full(psi.shape, 1.0 / float((psi.forward(x) ** 2).sum()) / 100, dtype=np.float32)
    kept = light_factor(x, b, psi=psi, mean=psi.forward(3 * x) + b, weight=weight)
    assert 1.0 <= light_around(kept.factor * x, (20, 20)) / 10.0 < 1.2
    assert kept.largest == 0.0


def test_dark_images_have_no_light_to_scale():
    psi = spots_psi()
    b = np.full(psi.shape, BACKGROUND, dtype=np.float32)
    kept = light_factor(np.zeros(psi.fine_shape, np.float32), b, psi=psi, mean=2 * b, weight=np.ones_like(b))
    assert (kept.factor == 1).all()
    assert kept.largest == 0.0


def test_a_changed_light_is_said_and_a_prior_of_ones_own_has_the_last_word(caplog):
    """An image that the phase has dimmed, with the library's prior and with another one."""
    from fluogan_core.solvers.solver import Solver

    class Positive(fg.Prior):
        def value(self, z):
            return 0.0

        def prox(self, v, step):
            return np.maximum(v, 0)

    _, frames = blinking_stack([(9, 9), (30, 30)], np.array([0.2, 0.4]), frames=60)
    options = fg.SolverOptions(warm_steps=50, steps=1)
    for prior in (None, Positive()):
        psi = spots_psi(kappa=300.0)
        solver = Solver(frames.astype(np.float32), psi=psi, camera=fg.Camera(1.0, 0.0, READ), options=options, prior=prior)
        solver.run(progress=False)
        phase = solver.phases[1]
        phase.x = 0.5 * phase.x
        caplog.clear()
        with caplog.at_level("INFO", logger="fluogan_core"):
            phase._stopped(settled=True, updated=False)
        assert any("set to that of the mean frame" in record.getMessage() for record in caplog.records) == (prior is None)
        assert (phase.outcome.x == phase.images.x).all() == (prior is not None)
