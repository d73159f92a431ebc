"""The double Poisson model as a physics of deepinv, and the prior: against deepinv's own checks."""

from __future__ import annotations

import numpy as np
import pytest
from hosts import assert_nearly_prox, need
from psfs import tiny_psf

import fluogan_core as fg

need("torchvision", "deepinv")

import deepinv  # noqa: E402
import torch  # noqa: E402

from fluogan_core.interop.deepinv import DoublePoisson, SparseEdges  # noqa: E402


@pytest.fixture
def model() -> fg.ForwardModel:
    psi = fg.Psi(tiny_psf(skew=0.1), (8, 7), 2, photons_per_emitter=3.0, backend="numpy")
    return fg.ForwardModel(psi, gain=2.0, noise_std=0.5)


@pytest.fixture
def physics(model) -> DoublePoisson:
    return DoublePoisson(model, np.full(model.psi.shape, 4.0), frames=100, seed=3)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_adjointness_by_deepinv(physics, model, dtype, bound):
    x = torch.rand(2, 1, *model.psi.fine_shape, dtype=dtype)
    assert float(physics.adjointness_test(x, num_samples=5)) < bound
    found = physics.compute_sqnorm(x[:1], max_iter=3000, tol=1e-12, verbose=False)
    assert float(found) == pytest.approx((2.0 * model.psi.norm) ** 2, rel=1e-3)


def test_a_measurement_has_the_expectation_and_the_variance_of_the_model(physics, model):
    x = torch.rand(400, 1, *model.psi.fine_shape)
    x[:] = x[0]
    y = physics(x)[:, 0].double()
    variance = torch.from_numpy(model.variance(x[0, 0].numpy(), physics.background)) / physics.frames
    pulls = (y.mean(0) - physics.A(x[:1].double())[0, 0]) / (variance / len(y)) ** 0.5
    assert abs(float(pulls.mean())) < 5 / pulls.numel() ** 0.5
    assert float((y.var(0) / variance).mean()) == pytest.approx(1, abs=5 * (2 / y.numel()) ** 0.5)


def test_calls_draw_other_numbers_and_repeat_from_the_start(physics, model):
    x = torch.rand(2, 1, *model.psi.fine_shape)
    first, second = physics(x), physics(x)
    again = DoublePoisson(model, np.full(model.psi.shape, 4.0), frames=100, seed=3)
    assert torch.equal(first, again(x))
    assert torch.equal(second, again(x))
    assert not torch.equal(first, second)
    assert not torch.equal(*physics(x[:1].expand(2, -1, -1, -1)))
    assert first.dtype == x.dtype


def test_a_rate_below_zero_is_refused(physics, model):
    with pytest.raises(ValueError, match="must be finite and not negative"):
        physics(-torch.ones(1, 1, *model.psi.fine_shape))


def test_the_prior_is_that_of_the_library():
    prior = SparseEdges(sparsity=0.3, total_variation=0.7, tolerance=1e-8, sweeps=5000)
    v = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 6, 5)))
    assert_nearly_prox(
        lambda u: prior.prox(torch.from_numpy(u)[None, None]).numpy()[0, 0],
        lambda u: float(prior.fn(torch.from_numpy(u)[None, None])),
        v[0, 0].numpy(),
    )
    whole = prior.prox(v, gamma=0.5)
    assert torch.equal(whole[1, 2], prior.prox(v[1:, 2:], gamma=0.5)[0, 0])
    assert prior.fn(v).shape == (2,)
    with pytest.raises(RuntimeError, match="has no gradient"):
        prior.prox(v.requires_grad_())


def test_what_it_cannot_take_is_refused(physics, model):
    fine, prior = model.psi.fine_shape, SparseEdges(sparsity=0.3, total_variation=0.7)
    for call in (physics, physics.A, prior.fn, prior.prox):
        with pytest.raises(TypeError, match=r"x must be a tensor of float32 or float64, got torch\.int32"):
            call(torch.ones(1, 1, *fine, dtype=torch.int32))
    with pytest.raises(ValueError, match="the fine grid"):
        physics(torch.ones(1, 1, *fine[::-1]))
    with pytest.raises(ValueError, match=r"x must be \(B, C, N1, N2\)"):
        prior.fn(torch.ones(*fine))
    with pytest.raises(TypeError, match="b must be a NumPy"):
        DoublePoisson(model, 2.0)


def test_a_batch_without_images_and_a_background_that_is_a_tensor(physics, model):
    fine, prior = model.psi.fine_shape, SparseEdges(sparsity=0.3, total_variation=0.7)
    assert physics(torch.ones(0, 1, *fine)).shape == (0, 1, *model.psi.shape)
    assert prior.prox(torch.ones(0, 1, *fine)).shape == (0, 1, *fine)
    assert prior.fn(torch.ones(0, 1, *fine)).shape == (0,)
    x, b = torch.ones(1, 1, *fine), np.full(model.psi.shape, 3.0)
    of_array, of_tensor = (DoublePoisson(model, given, frames=4) for given in (b, torch.from_numpy(b)))
    assert torch.equal(of_array(x), of_tensor(x))


def test_a_reconstruction_by_deepinv(model):
    psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, photons_per_emitter=20, backend="numpy")
    x = torch.zeros(1, 1, *psi.fine_shape)
    x[..., 8:24, 10:12] = x[..., 8:24, 18:20] = 1.0
    physics = DoublePoisson(fg.ForwardModel(psi, noise_std=1.0), np.full(psi.shape, 2.0))
    y = physics(x)
    prior, step = SparseEdges(sparsity=0.5, total_variation=20.0), 1 / psi.norm**2
    solver = deepinv.optim.FISTA(data_fidelity=deepinv.optim.L2(), prior=prior, stepsize=step, max_iter=100)
    found = solver(y, physics)
    objective = lambda z: 0.5 * float(((physics.A(z) - y) ** 2).sum()) + float(prior.fn(z).sum())  # noqa: E731
    others = (x, physics.A_dagger(y).clamp(min=0), 0.9 * found, 1.1 * found, torch.zeros_like(x))
    assert objective(found) < min(map(objective, others))
