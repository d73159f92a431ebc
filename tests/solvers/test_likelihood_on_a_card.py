"""The likelihood fit on a card that is only pretended: the emissions of the host, and what a sweep asks of the card."""

from __future__ import annotations

import numpy as np
import pretend_card
import pytest

import fluogan_core as fg
from fluogan_core.physics.emissions import EmissionChains
from fluogan_core.solvers.checkpoint import read_state, write_state
from fluogan_core.solvers.phase import Images

#: Of a sweep, at any size up to 100 x 100 camera pixels, whatever the number of frames.
LAUNCHES, COPIES = 84, 7


def likelihood_phase(backend, frames=12):
    """The likelihood fit of a bar of rare, bright emissions, begun at an image that is too wide."""
    psi = fg.Psi(fg.gaussian_psf(300, 100, 2, truncate=2), (10, 11), 2, photons_per_emitter=200.0, backend=backend)
    x, b = np.zeros(psi.fine_shape, np.float32), np.full(psi.shape, 1.5, np.float32)
    x[6:14, 9:11] = 2 / 16
    wide = fg.gaussian_psf(400, 100, 2).astype(np.float32)
    stack = fg.ForwardModel(fg.Psi(psi.psf, psi.shape, 2, photons_per_emitter=200.0, backend="numpy")).sample(
        x, b, frames, seed=1
    )
    first = np.pad(wide, ((1, 2), (2, 3)))[: x.shape[0], : x.shape[1]] * 2
    solver = fg.Solver(
        backend.asarray(stack), psi=psi, camera=fg.Camera(), options=fg.SolverOptions(method="likelihood", steps=4)
    )
    phase = solver.phases[1]
    phase.start(Images(*(backend.asarray(image) for image in (first, first, b))))
    return phase


def test_a_sweep_keeps_to_its_budget(pretended_card):
    """The chains, the frames and all images stay on the card; the law of the brightness is what the host reads."""
    phase = likelihood_phase(pretended_card)
    phase._sweep()  # fills caches
    for _ in range(3):
        with pretend_card.counted() as work:
            phase._sweep()
        assert work.launches.total() <= LAUNCHES, work.launches
        assert work.waits == {"tolist": 1}
        assert work.copies.total() <= COPIES, work.copies
        assert work.launches["move_emissions"] == 1


def test_its_emissions_are_those_of_the_host(pretended_card, tmp_path):
    """The same emissions in every frame after many sweeps, and so the same images, from a checkpoint as well."""
    phases = [likelihood_phase(backend) for backend in (fg.get_backend("numpy"), pretended_card)]
    first = phases[0].brightness
    for sweep in range(11):  # the law of the brightness has been estimated by then
        for phase in phases:
            phase._sweep()
        if sweep < 3:  # later on, steps of z magnify the last place of float32
            np.testing.assert_allclose(phases[1].z.get(), phases[0].z, rtol=0, atol=1e-4 * phases[0].z.max())
    again = likelihood_phase(pretended_card)
    phases[1].taken = 1
    write_state(phases[1].state_dict(), tmp_path / "state")
    again.load_state_dict(read_state(tmp_path / "state"))
    for phase in (*phases, again):
        phase._sweep()
    host, card = phases
    assert card.brightness.mean == pytest.approx(host.brightness.mean, rel=1e-9)
    assert host.brightness != first
    for phase in (card, again):
        assert isinstance(phase.chains.place, pretended_card.xp.ndarray)
        for name in ("count", "place"):
            found, wanted = getattr(phase.chains, name).get(), getattr(host.chains, name)
            there = np.arange(host.chains.place.shape[1]) < host.chains.count[:, None]
            np.testing.assert_array_equal(*((found, wanted) if name == "count" else (found[there], wanted[there])))
        np.testing.assert_allclose(phase.events.get(), host.events, atol=1e-12)
        np.testing.assert_allclose(phase.b.get(), host.b, rtol=1e-4)
        np.testing.assert_array_equal(phase.z.get(), card.z.get())
    assert EmissionChains.empty(2).backend == fg.get_backend("numpy")
