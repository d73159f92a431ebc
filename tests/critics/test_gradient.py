"""The five estimators: eq. (12) by enumeration, closed forms for a quadratic critic, agreement among themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from psfs import tiny_psf
from scenes import used_by

import fluogan_core as fg
from fluogan_core.critics import gradient as differences
from fluogan_core.critics import job, reference, scores
from fluogan_core.critics.lattice import Lattice, safe_spacing
from fluogan_core.physics.photons import PhotonSets, draw_photons


class Wavy(torch.nn.Module):
    """A smooth critic that is far from linear, with interactions between pixels."""

    def forward(self, y):
        weight = torch.arange(1, 1 + y[0].numel(), dtype=y.dtype).reshape(y.shape[1:])
        return torch.sin(0.3 * (y * weight).sum(dim=(1, 2))) + 0.05 * y.prod(dim=2).sum(dim=1)


class Quadratic(torch.nn.Module):
    """D(y) = 1/2 y'Qy + c'y, for which every term of the second-order expansion is known."""

    def __init__(self, pixels, rng):
        super().__init__()
        q = rng.standard_normal((pixels, pixels)) * 0.05
        self.q = torch.as_tensor(q + q.T + 0.2 * np.eye(pixels))
        self.c = torch.as_tensor(rng.standard_normal(pixels))

    def forward(self, y):
        flat = y.reshape(len(y), -1).to(torch.float64)
        return 0.5 * ((flat @ self.q) * flat).sum(dim=1) + flat @ self.c


# -- closed forms --------------------------------------------------------------------------------------------------------


@pytest.fixture
def quadratic_case(rng):
    psi = fg.Psi(tiny_psf(3, 0.1), (4, 3), 2, photons_per_emitter=6.0)
    model = fg.ForwardModel(psi, gain=1.5, noise_std=0.5)
    x = (rng.random(psi.fine_shape) < 0.4) * 0.5
    b = 0.5 + rng.random(psi.shape)
    critic = Quadratic(12, rng)
    n = x.size
    columns = psi.forward(np.eye(n).reshape(n, *psi.fine_shape)).reshape(n, -1)
    return model, x, b, critic, columns


def test_what_each_estimator_keeps_of_a_quadratic_critic(quadratic_case):
    model, x, b, critic, columns = quadratic_case
    q = critic.q.numpy()
    slope = q @ model.mean(x, b).ravel() + critic.c.numpy()
    mean_part = model.gain * columns @ slope
    detection = 0.5 * model.gain**2 * columns @ np.diag(q)
    flicker = 0.5 * model.gain**2 * np.einsum("ij,jk,ik->i", columns, q, columns)
    kept = {
        "linear": mean_part,
        "photon": mean_part + detection,
        "coupled": mean_part + detection + flicker,
        "corrected": mean_part + detection + flicker,
    }
    for method, truth in kept.items():
        gx, gb, gx_error, gb_error = fg.critic_gradient(
            critic, model, x, b, frames=1500, seed=2, with_error=True, **used_by(method, corrected_frames=700)
        )
        assert np.abs((gx.ravel() - truth) / gx_error.ravel()).max() < 4.2, method
        # and the errors are small beside the flicker: an estimator that dropped it, or kept it wrongly, would fail
        assert gx_error.max() < 0.25 * np.abs(flicker).max(), method
        exact_b = model.gain * slope + (0.5 * model.gain**2 * np.diag(q) if method != "linear" else 0)
        assert np.abs((gb.ravel() - exact_b) / gb_error.ravel()).max() < 4, method


def test_photon_minus_linear_is_the_detection_term_exactly(quadratic_case):
    model, x, b, critic, columns = quadratic_case
    photon, linear = (fg.critic_gradient(critic, model, x, b, frames=20, seed=3, method=m) for m in ("photon", "linear"))
    half = 0.5 * model.gain**2 * np.diag(critic.q.numpy())
    # frames are float32, and so is the backward pass
    np.testing.assert_allclose((photon[1] - linear[1]).ravel(), half, atol=1e-5 * np.abs(linear[1]).max())
    np.testing.assert_allclose((photon[0] - linear[0]).ravel(), columns @ half, atol=1e-5 * np.abs(linear[0]).max())


# -- agreement on the slim critic ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [1.0, 20.0])
def test_direct_coupled_and_corrected_agree_on_a_slim_critic(rng, kappa):
    psi = fg.Psi(tiny_psf(3), (6, 5), 2, photons_per_emitter=kappa)
    model = fg.ForwardModel(psi, gain=2.0, noise_std=1.0)
    x = ((rng.random(psi.fine_shape) < 0.3) * 8.0 / kappa).astype(np.float32)
    b = np.full(psi.shape, 2.0, np.float32)
    y = model.sample(x, b, 200, seed=9)
    critic = fg.Critic(psi.shape, channels=4, depth=2, seed=4, input_mean=y.mean(), input_std=y.std())
    options = {"frames": 300, "seed": 0, "with_error": True, "corrected_frames": 150}
    got = {m: fg.critic_gradient(critic, model, x, b, **used_by(m, **options)) for m in ("direct", "coupled", "corrected")}
    # different frames, so that the errors of the two are independent
    again = fg.critic_gradient(critic, model, x, b, frames=600, seed=77, method="coupled", with_error=True)
    for method, (gx, gb, gx_error, gb_error) in got.items():
        for a, a_error, e, e_error in ((gx, gx_error, again[0], again[2]), (gb, gb_error, again[1], again[3])):
            assert np.abs((a - e) / np.hypot(a_error, e_error)).max() < 4.5, method
    assert got["direct"][2].mean() > 2 * got["corrected"][2].mean()  # "direct" has by far the most noise, even here


def test_a_coarser_lattice_loses_nothing_of_the_flicker(rng):
    # the flicker part of a quadratic critic, known at every fine pixel, with interactions between neighbours as rough as can be
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4, truncate=4), (14, 15), 4, photons_per_emitter=5.0)
    n = psi.fine_shape[0] * psi.fine_shape[1]
    columns = psi.forward(np.eye(n).reshape(n, *psi.fine_shape)).reshape(n, -1)
    m = columns.shape[1]
    row, column = np.divmod(np.arange(m), 15)
    near = np.maximum(abs(row[:, None] - row), abs(column[:, None] - column)) <= 3
    q = rng.standard_normal((m, m)) * near
    flicker = np.einsum("ij,jk,ik->i", columns, q + q.T, columns).reshape(psi.fine_shape)
    mean_part = (columns @ rng.standard_normal(m)).reshape(psi.fine_shape)
    lattice = Lattice(psi)
    assert lattice.spacing == 2
    assert len(lattice.indices) < 0.3 * n
    inner = (slice(6, -6), slice(6, -6))
    for part, inside, border in ((mean_part, 2e-5, 2e-2), (flicker, 3e-4, 2e-2)):
        filled = lattice.fill(part.ravel()[lattice.indices])
        scale = np.abs(part).max()
        assert np.abs(filled - part)[inner].max() < inside * scale
        assert np.abs(filled - part).max() < border * scale
    np.testing.assert_array_equal(Lattice(psi, 1).fill(flicker.ravel()), flicker)


def test_the_lattice_is_left_alone_where_the_psf_is_narrow():
    assert safe_spacing(fg.gaussian_psf(318, 100, 4)) == 2
    assert safe_spacing(fg.gaussian_psf(318, 100, 2)) == 1
    narrow = fg.Psi(tiny_psf(3), (6, 6), 2)
    assert Lattice(narrow).spacing == 1
    with pytest.raises(ValueError, match="lattice must be at least 1"):
        Lattice(narrow, 0)


def test_without_error_gives_the_same_gradient(quadratic_case):
    model, x, b, critic, _ = quadratic_case
    for method in ("linear", "photon", "coupled", "corrected", "direct"):
        few = used_by(method, frames=6, seed=5, corrected_frames=2)
        plain = fg.critic_gradient(critic, model, x, b, **few)
        full = fg.critic_gradient(critic, model, x, b, with_error=True, **few)
        for a, e in zip(plain, full):
            np.testing.assert_allclose(a, e, atol=2e-6 * np.abs(e).max())  # sums of float32 slopes in another order


@pytest.mark.parametrize("method", ["linear", "photon", "coupled", "corrected"])
def test_a_budget_changes_memory_not_the_result(quadratic_case, method):
    model, x, b, critic, _ = quadratic_case
    small, large = (
        fg.critic_gradient(critic, model, x, b, frames=7, memory_budget=m, **used_by(method, corrected_frames=3))
        for m in (2000, 10**9)
    )
    for a, e in zip(small, large):
        np.testing.assert_allclose(a, e, atol=2e-6 * np.abs(e).max())


# -- differences themselves ----------------------------------------------------------------------------------------------


def test_exact_and_linear_differences(rng):
    critic = fg.Critic((9, 8), channels=3, depth=2, seed=0).double()
    y = rng.random((3, 9, 8)) * 5
    exact = fg.critic_differences(critic, y, step=0.7)
    for s, r, c in ((0, 0, 0), (1, 8, 7), (2, 4, 3)):
        other = y[s].copy()
        other[r, c] += 0.7
        pair = scores.critic_values(critic, np.stack([other, y[s]]))
        assert exact[s, r, c] == pytest.approx(pair[0] - pair[1], abs=1e-12)
    tiny = fg.critic_differences(critic, y, step=1e-7)
    np.testing.assert_allclose(fg.critic_differences(critic, y, step=1e-7, method="linear"), tiny, rtol=1e-4, atol=1e-12)


def test_empty_sets_give_zero_without_running_the_critic():
    calls = []

    def values(frames):
        calls.append(len(frames))
        return frames.sum(axis=(1, 2))

    sets = PhotonSets(np.array([0, 0, 2, 2]), np.array([1, 1], np.int32))
    d = reference.perturbation_differences(values, np.zeros((1, 2, 2)), [0, 0, 0], sets, 3.0, chunk=10)
    np.testing.assert_array_equal(d, [0, 6, 0])
    assert calls == [1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "exact"}, "method must be one of"),
        ({"frames": 0}, "frames must be at least 1"),
        ({"frames": 1, "with_error": True}, "frames must be at least 2"),
        ({"background_rule": "both"}, "background_rule must be one of"),
        ({"corrected_frames": 0}, "corrected_frames must be at least 1"),
        ({"corrected_frames": 1, "with_error": True}, "corrected_frames must be at least 2"),
        ({"step": 2**32}, "step must be .*at most 4294967295"),
        ({"first_frame": -1}, "first_frame must be at least 0"),
        ({"first_frame": 2**32 - 10, "frames": 20}, "first_frame must be .*at most"),
        ({"memory_budget": 0}, "memory_budget must be at least 1"),
    ],
)
def test_bad_input_is_named(quadratic_case, change, message):
    model, x, b, critic, _ = quadratic_case
    with pytest.raises(ValueError, match=message):
        fg.critic_gradient(critic, model, x, b, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "coupled", "corrected_frames": 3}, "corrected_frames=3 changes nothing with method='coupled'"),
        ({"method": "direct", "corrected_frames": 3}, "leave it out, or take method='corrected'"),
        ({"method": "photon", "corrected_frames": 3}, "corrected_frames=3 changes nothing"),
        ({"method": "linear", "background_rule": "rate"}, "background_rule='rate' changes nothing with method='linear'"),
        ({"method": "photon", "lattice": 2}, "lattice=2 changes nothing with method='photon'"),
        ({"method": "linear", "lattice": 2}, "or take method='corrected' or 'coupled'"),
        ({"method": "direct", "lattice": 2}, "lattice=2 changes nothing"),
    ],
)
def test_an_option_that_the_method_does_not_use_is_refused(quadratic_case, change, message):
    model, x, b, critic, _ = quadratic_case
    with pytest.raises(ValueError, match=message):
        fg.critic_gradient(critic, model, x, b, frames=4, **change)


@pytest.mark.parametrize("method", ["coupled", "corrected", "photon", "direct"])
def test_the_rule_of_the_background_is_read_by_all_methods_that_say_so(quadratic_case, method):
    model, x, b, critic, _ = quadratic_case
    count, rate = (
        fg.critic_gradient(critic, model, x, b, frames=4, method=method, background_rule=rule) for rule in ("count", "rate")
    )
    np.testing.assert_array_equal(count.x, rate.x)
    assert not np.allclose(count.b, rate.b)


def test_frames_of_the_wrong_shape_are_named(rng):
    critic = fg.Critic((8, 8), channels=2)
    with pytest.raises(ValueError, match=r"y must be \(frames, rows, columns\)"):
        fg.critic_differences(critic, np.zeros((8, 8), np.float32), 1.0)
    with pytest.raises(ValueError, match="method must be one of 'exact', 'linear'"):
        fg.critic_differences(critic, np.zeros((1, 8, 8), np.float32), 1.0, method="coupled")
    for method in ("exact", "linear"):
        frames = np.zeros((2, 8, 8), np.float32)
        frames[1, 2, 3] = np.nan
        with pytest.raises(ValueError, match="y holds 1 values that are NaN"):
            fg.critic_differences(critic, frames, 1.0, method=method)
        with pytest.raises(TypeError, match="y must hold real numbers"):
            fg.critic_differences(critic, np.zeros((1, 8, 8), complex), 1.0, method=method)
        with pytest.raises(ValueError, match=r"step must be .*at most 3\.40282e\+38, got 1e\+39"):
            fg.critic_differences(critic, np.zeros((1, 8, 8), np.float32), 1e39, method=method)
        with pytest.raises(ValueError, match="memory_budget must be at least 1"):
            fg.critic_differences(critic, np.zeros((1, 8, 8), np.float32), 1.0, method=method, memory_budget=0)
        assert fg.critic_differences(critic, np.zeros((0, 8, 8), np.float32), 1.0, method=method).shape == (0, 8, 8)
    assert set(differences.METHODS) >= {"direct", "coupled", "photon", "linear", "corrected"}


@pytest.mark.parametrize("method", ["coupled", "corrected"])
def test_photons_are_drawn_for_as_many_frames_as_the_calls_own_budget_holds(quadratic_case, method, monkeypatch):
    model, x, b, critic, _ = quadratic_case
    drawn = []

    def draw(table, indices, numbers, **counters):
        drawn.append(len(numbers))
        return draw_photons(table, indices, numbers, **counters)

    monkeypatch.setattr(job, "draw_photons", draw)
    fg.critic_gradient(critic, model, x, b, 8, memory_budget=1, **used_by(method, corrected_frames=4))
    assert set(drawn) == {1}
