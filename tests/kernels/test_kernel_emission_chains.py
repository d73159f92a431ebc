"""The kernel that moves chains of emissions equals the array function that defines it: on threads, and on a card."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math

import cuda_on_cpu
import numpy as np
import pytest
from kernel_sets import CUDA, CUDA_ON_CPU, NUMBA, kernel_set
from psfs import tiny_psf
from scipy import stats

import fluogan_core as fg
from fluogan_core.backend import arrays as room
from fluogan_core.kernels import cpu, cuda
from fluogan_core.physics.emissions import KINDS, Brightness, EmissionChains, move_emissions
from fluogan_core.tuning import DEFAULT


@pytest.fixture(params=[*NUMBA, *CUDA])
def backend(request, monkeypatch):
    """Where the chains are moved: on threads of the host, by CUDA on the CPU in every order, on a card."""
    if request.param in NUMBA:
        monkeypatch.setattr("fluogan_core.kernels.cpu.threads.thread_count", lambda: 1 + NUMBA.index(request.param))
    chosen = kernel_set(request.param).backend
    if chosen.name == "numpy":
        monkeypatch.setattr(room, "_numpy_backend", lambda: chosen)
    assert chosen.kernel("move_emissions") is not None
    return chosen


def frames_of(backend, factor, binning, noise, rng):
    psf = tiny_psf(5, skew=0.1)
    psi = fg.Psi(psf, (7, 6), factor, photons_per_emitter=12.0, binning=binning, backend=backend)
    model = fg.ForwardModel(psi, gain=1.5, noise_std=noise)
    x = rng.gamma(0.3, 0.5, psi.fine_shape) / factor**2
    x[rng.random(x.shape) < 0.1] = 0.0
    x[0, 0] = x[-1, -1] = x[0, -1] = 0.3  # emissions whose light leaves the field
    b = rng.gamma(2.0, 0.3, psi.shape).astype(np.float32)
    return model, x, b, backend.to_host(model.sample(*map(backend.asarray, (x.astype(np.float32), b)), 37, seed=6))


def host(backend, chains):
    return [backend.to_host(array) for array in (chains.place, chains.bright, chains.count)]


def agree(backend, fast, slow):
    """Chains are the same emissions in the same order."""
    place, bright, count = host(backend, fast)
    np.testing.assert_array_equal(count, slow.count)
    for t, n in enumerate(count):
        np.testing.assert_array_equal(place[t, :n], slow.place[t, :n])
        np.testing.assert_allclose(bright[t, :n], slow.bright[t, :n], rtol=1e-9)


@pytest.mark.parametrize("brightness", [Brightness(), Brightness(0.8, 2.5), Brightness(1.0, 0.7)])
@pytest.mark.parametrize(("factor", "binning", "noise"), [(1, "sum", 0.0), (2, "sum", 2.0), (2, "point", 0.0)])
def test_chains_are_equal(backend, brightness, factor, binning, noise, rng, monkeypatch):
    model, x, b, frames = frames_of(backend, factor, binning, noise, rng)
    fast = EmissionChains.empty(len(frames), 5, backend)  # full lists are among what is met
    slow, moved = EmissionChains.empty(len(frames), 5), []
    for step in range(2):
        more = {"proposals": 40 + np.arange(37) % 5, "seed": 2**63 + 5, "step": step, "first_frame": 100}
        quick = move_emissions(fast, frames, model, x, b, brightness, **more)
        with monkeypatch.context() as patch:
            patch.setattr(fg.Backend, "kernel", lambda backend, name: None)
            plain = move_emissions(slow, frames, model, x, b, brightness, **more)
        moved.append((quick, plain))
    agree(backend, fast, slow)
    assert slow.count.max() == 5
    for quick, plain in moved:
        likelihood, ratio, proposed, accepted = map(backend.to_host, quick)
        np.testing.assert_array_equal(proposed, plain.proposed)
        np.testing.assert_array_equal(accepted, plain.accepted)
        np.testing.assert_allclose(likelihood, plain.likelihood, rtol=1e-9)
        np.testing.assert_allclose(ratio, plain.ratio, rtol=1e-9)
    kinds = 4 if math.isinf(brightness.shape) else 7
    assert (sum(plain.accepted for _, plain in moved) > 0).sum() == kinds


def test_neighbours_that_come_into_reach_and_leave_it_are_counted(backend, rng, monkeypatch):
    """Dim emissions that overlap, mostly exchanges: what a proposal finds within reach is what its odds depend on."""
    model, x, b, frames = frames_of(backend, 2, "sum", 0.0, rng)
    model = fg.ForwardModel(model.psi.replaced(photons_per_emitter=0.5))
    tuning = dataclasses.replace(DEFAULT.emissions, births=0.02, pairs=1.0, splits=0.1, steps=(0.5, 2.0, 3.0), reach=1.5)
    slow, x = EmissionChains.empty(12, 9), np.ones_like(x)
    slow.count[:], slow.bright[:] = 6, 1.0
    slow.place[:] = 5 * x.shape[1] + 4 + np.arange(9) % 4
    fast = copy.deepcopy(slow).moved_to(backend)
    more = {"brightness": Brightness(1.0, 4.0), "proposals": 100, "seed": 4, "tuning": tuning}
    quick = move_emissions(fast, frames[:12], model, x, b, **more)
    with monkeypatch.context() as patch:
        patch.setattr(fg.Backend, "kernel", lambda backend, name: None)
        plain = move_emissions(slow, frames[:12], model, x, b, **more)
    agree(backend, fast, slow)
    np.testing.assert_array_equal(backend.to_host(quick.accepted), plain.accepted)
    assert plain.accepted[KINDS.index("pair")] > 50


@pytest.fixture(params=CUDA)
def card(request, monkeypatch):
    """The CUDA kernels alone."""
    chosen = kernel_set(request.param).backend
    if chosen.name == "numpy":
        monkeypatch.setattr(room, "_numpy_backend", lambda: chosen)
    return chosen


def wide_psi(backend):
    return fg.Psi(fg.gaussian_psf(250, 100, 2), (24, 17), 2, photons_per_emitter=30.0, backend=backend)


def crowded(backend, rng, frames=6, emissions=70):
    """Frames with more emissions than a warp has lanes, on a field that is larger than the PSF."""
    psi = wide_psi(backend)
    x = np.full(psi.fine_shape, emissions / psi.fine_shape[0] / psi.fine_shape[1])
    x[5, :] = 0.0
    chains = EmissionChains.empty(frames, 2 * emissions + frames)
    chains.count[:] = emissions + np.arange(frames)
    chains.place[:] = rng.choice(np.flatnonzero(x), chains.place.shape)
    chains.bright[:] = rng.gamma(4.0, 0.25, chains.place.shape)
    counts = rng.poisson(1.0 + 30.0 * emissions / 24 / 17, (frames, *psi.shape)).astype(np.float32)
    return fg.ForwardModel(psi), x, np.ones(psi.shape), counts, chains


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "global"])
def test_many_emissions_and_rates_in_either_memory(card, shared, rng, monkeypatch):
    """Numba's kernel, which the test above holds to its oracle, is what they are compared with here."""
    if not shared:
        monkeypatch.setattr(card, "cuda", dataclasses.replace(card.cuda, shared_memory_per_block=0))
    model, x, b, counts, chains = crowded(card, rng)
    fast, law = copy.deepcopy(chains).moved_to(card), Brightness(1.0, 4.0)
    quick = move_emissions(fast, counts, model, x, b, law, proposals=60, seed=3, step=1)
    with monkeypatch.context() as patch:
        patch.setattr(fg.Backend, "kernel", lambda backend, name: cpu.find(name) if name in cpu.TABLE else None)
        plain = move_emissions(chains, counts, fg.ForwardModel(wide_psi("numpy")), x, b, law, proposals=60, seed=3, step=1)
    agree(card, fast, chains)
    for new, old in zip(map(card.to_host, quick), plain):
        np.testing.assert_allclose(new, old, rtol=1e-9)
    assert (plain.accepted > 0).all()
    image, numbers = fast.totals(x.shape)
    np.testing.assert_allclose(card.to_host(image), chains.image(x.shape, light=True), rtol=1e-8, atol=1e-8)
    wanted = [chains.count.sum(), chains.weights.sum(), np.log(chains.weights).sum(), chains.count.max()]
    np.testing.assert_allclose(card.to_host(numbers), wanted, rtol=1e-12)


def test_frames_in_groups_are_the_same_frames(card, rng, monkeypatch):
    """What is added up over frames comes in groups of a size that memory allows."""
    model, x, b, counts, chains = crowded(card, rng, frames=5, emissions=3)
    found = []
    for size in (1 << 28, 2 * 8 * 24 * 17):
        monkeypatch.setattr("fluogan_core.kernels.cuda.emission_chains._GROUP_BYTES", size)
        moved = copy.deepcopy(chains).moved_to(card)
        found.append((move_emissions(moved, counts, model, x, b, Brightness(1.0, 4.0), proposals=30), host(card, moved)))
    (once, *chains_once), (again, *chains_again) = [(moved, *lists) for moved, lists in found]
    for one, other in zip(chains_once, chains_again):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(*(card.to_host(moved.likelihood) for moved in (once, again)))
    np.testing.assert_array_equal(*(card.to_host(moved.accepted) for moved in (once, again)))
    np.testing.assert_allclose(*(card.to_host(moved.ratio) for moved in (once, again)), rtol=1e-12)


@pytest.mark.parametrize("order", cuda_on_cpu.ORDERS)
def test_sums_up_to_a_pixel_never_fall_and_stand_still_in_the_dark(order, rng):
    """Or a birth would now and then fall where nothing emits."""
    device = cuda_on_cpu.device(order)
    for size in (1, 31, 255, 256, 5000):
        x = rng.gamma(0.1, 1.0, size) * (rng.random(size) < 0.5)
        cumulated = np.full(size, np.nan)
        device.kernel("emission_chains", "cumulate", GLOBAL_RATE=0)((1,), (256,), (x, np.int32(size), cumulated))
        np.testing.assert_allclose(cumulated, np.cumsum(x), rtol=1e-12)
        assert (np.diff(cumulated)[x[1:] == 0] == 0).all()
        assert (np.diff(cumulated) >= 0).all()


@pytest.mark.parametrize("name", [CUDA_ON_CPU[-1], CUDA[-1]])
def test_lists_are_visited_as_often_as_they_are_likely(name, monkeypatch):
    """The CUDA kernel on its own, against the sum over all numbers of emissions at three places."""
    chosen = kernel_set(name).backend
    monkeypatch.setattr(room, "_numpy_backend" if chosen.name == "numpy" else "_cupy_backend", lambda *_: chosen)
    psi = fg.Psi(tiny_psf(3), (3, 3), 1, photons_per_emitter=6.0, backend=chosen)
    model, x, b = fg.ForwardModel(psi), np.zeros((3, 3)), np.full((3, 3), 0.8)
    x[1, 1], x[1, 2], x[0, 0] = 0.5, 0.3, 0.4
    places, most, frames = np.flatnonzero(x), 5, 700
    units = np.eye(9, dtype=np.float32)[places].reshape(-1, 3, 3)
    light = [chosen.to_host(psi.forward(chosen.asarray(unit))).astype(np.float64) for unit in units]
    frame = np.round(b + 1.3 * light[0])
    weight = []
    for numbers in itertools.product(range(most), repeat=3):
        rate = b + model.epsilon + sum(n * column for n, column in zip(numbers, light))
        prior = sum(n * math.log(value) - math.lgamma(n + 1) for n, value in zip(numbers, x.ravel()[places]))
        weight.append(math.exp(prior + float((frame * np.log(rate) - rate).sum())))
    chains = EmissionChains.empty(frames, 30, chosen)
    counts = np.broadcast_to(frame.astype(np.float32), (frames, 3, 3))
    move_emissions(chains, counts, model, x, b, proposals=60, seed=3)
    place, _, count = host(chosen, chains)
    there = np.arange(place.shape[1]) < count[:, None]
    found = np.stack([(there & (place == at)).sum(axis=1) for at in places], axis=1)
    assert found.max() < most
    seen = np.bincount(np.ravel_multi_index(found.T, (most,) * 3), minlength=most**3)
    expected = np.array(weight) / sum(weight) * frames

    def p_value(expected):
        rare = expected < 6
        classes = [np.append(a[~rare], a[rare].sum()) for a in (seen, expected / expected.sum() * frames)]
        return stats.chisquare(*classes).pvalue

    assert p_value(expected) > 1e-3
    assert p_value(expected * np.exp(0.4 * np.arange(most**3) / most**2)) < 1e-3  # a law that is a little wrong is seen


def test_chains_of_the_host_are_moved_on_a_card_and_brought_back(pretended_card, rng):
    """What is written anew comes back into the very arrays; a list of another dtype or layout is refused."""
    model, x, b, counts, chains = crowded(pretended_card, rng, frames=3, emissions=4)
    there, before = chains.moved_to(pretended_card), chains.place
    at_home = move_emissions(chains, counts, model, x, b, Brightness(1.0, 4.0), proposals=20)
    on_card = move_emissions(there, counts, model, x, b, Brightness(1.0, 4.0), proposals=20)
    assert chains.place is before
    assert isinstance(at_home.likelihood, np.ndarray)
    assert isinstance(on_card.likelihood, pretended_card.xp.ndarray)
    np.testing.assert_array_equal(at_home.likelihood, on_card.likelihood.get())
    for one, other in zip(host(pretended_card, chains), host(pretended_card, there)):
        np.testing.assert_array_equal(one, other)
    wrong = dataclasses.replace(chains, bright=chains.bright.astype(np.float32))
    with pytest.raises(ValueError, match="bright must be a C-contiguous array of dtype float64"):
        move_emissions(wrong, counts, model, x, b, proposals=1)


def test_a_field_takes_shared_memory_only_where_frames_fill_the_card():
    from fluogan_core.kernels.cuda.emission_chains import _shared_bytes

    device = dataclasses.replace(cuda_on_cpu.device(), multiprocessors=132)
    assert _shared_bytes(device, 32 * 32, 500) == 8 * 32 * 32
    assert _shared_bytes(device, 64 * 64, 500) == 8 * 64 * 64  # four frames for each multiprocessor: as many as fit
    assert _shared_bytes(device, 64 * 64, 5000) == 0
    assert _shared_bytes(device, 140 * 140, 100) == 8 * 140 * 140
    assert _shared_bytes(device, 150 * 150, 100) == 0  # does not fit
    assert cuda.TABLE["move_emissions"] == "emission_chains"
