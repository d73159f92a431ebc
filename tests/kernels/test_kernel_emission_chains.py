"""The kernel that moves chains of emissions equals the array function that defines it, on one thread and on several."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from kernel_sets import NUMBA, kernel_set
from psfs import tiny_psf

import fluogan_core as fg
from fluogan_core.physics.emissions import Brightness, EmissionChains, move_emissions


def frames_of(factor, binning, noise, rng):
    psf = tiny_psf(5, skew=0.1)
    psi = fg.Psi(psf, (7, 6), factor, photons_per_emitter=12.0, binning=binning, backend="numpy")
    model = fg.ForwardModel(psi, gain=1.5, noise_std=noise)
    x = rng.gamma(0.3, 0.5, psi.fine_shape) / factor**2
    x[rng.random(x.shape) < 0.1] = 0.0
    x[0, 0] = x[-1, -1] = x[0, -1] = 0.3  # emissions whose light leaves the field
    b = rng.gamma(2.0, 0.3, psi.shape).astype(np.float32)
    return model, x, b, model.sample(x.astype(np.float32), b, 37, seed=6)


@pytest.mark.parametrize("threads", NUMBA)
@pytest.mark.parametrize("brightness", [Brightness(), Brightness(0.8, 2.5), Brightness(1.0, 0.7)])
@pytest.mark.parametrize(("factor", "binning", "noise"), [(1, "sum", 0.0), (2, "sum", 2.0), (2, "point", 0.0)])
def test_chains_are_equal(threads, brightness, factor, binning, noise, rng, monkeypatch):
    monkeypatch.setattr("fluogan_core.kernels.cpu.threads.thread_count", lambda: 1 + NUMBA.index(threads))
    assert kernel_set(threads).find("move_emissions").__module__.endswith("emission_chains")
    model, x, b, frames = frames_of(factor, binning, noise, rng)
    fast = EmissionChains.empty(len(frames), 5)  # full lists are among what is met
    slow, moved = copy.deepcopy(fast), []
    for step in range(2):
        more = {"proposals": 40 + np.arange(37) % 5, "seed": 2**63 + 5, "step": step, "first_frame": 100}
        quick = move_emissions(fast, frames, model, x, b, brightness, **more)
        with monkeypatch.context() as patch:
            patch.setattr(fg.Backend, "kernel", lambda backend, name: None)
            plain = move_emissions(slow, frames, model, x, b, brightness, **more)
        moved.append((quick, plain))
    np.testing.assert_array_equal(fast.count, slow.count)
    assert fast.count.max() == 5
    for t, n in enumerate(fast.count):
        np.testing.assert_array_equal(fast.place[t, :n], slow.place[t, :n])
        np.testing.assert_allclose(fast.bright[t, :n], slow.bright[t, :n], rtol=1e-9)
    for quick, plain in moved:
        np.testing.assert_array_equal(quick.proposed, plain.proposed)
        np.testing.assert_array_equal(quick.accepted, plain.accepted)
        np.testing.assert_allclose(quick.likelihood, plain.likelihood, rtol=1e-9)
        np.testing.assert_allclose(quick.ratio, plain.ratio, rtol=1e-9)
    kinds = 4 if math.isinf(brightness.shape) else 7
    assert (sum(plain.accepted for _, plain in moved) > 0).sum() == kinds
