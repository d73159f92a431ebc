"""Psi and E[D] as functions that torch differentiates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from psfs import tiny_psf

import fluogan_core as fg
from fluogan_core.critics import estimators
from fluogan_core.interop import torch as interop

METHODS = ("corrected", "coupled", "photon", "linear", "direct")


@pytest.fixture(params=["products", "convolutions"])
def psi(request: pytest.FixtureRequest) -> fg.Psi:
    skew = 0.0 if request.param == "products" else 0.1
    return fg.Psi(tiny_psf(skew=skew), (4, 3), 2, photons_per_emitter=3.0, backend="numpy", method=request.param)


def images(shape, dtype=torch.float64, grad=True, seed=0):
    return torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).requires_grad_(grad)


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operator_is_that_of_arrays(psi, lead, dtype):
    x, y = images((*lead, *psi.fine_shape), dtype), images((*lead, *psi.shape), dtype)
    for found, wanted in (
        (interop.forward(psi, x), psi.forward(x.detach().numpy())),
        (interop.adjoint(psi, y), psi.adjoint(y.detach().numpy())),
    ):
        assert found.dtype == dtype
        assert np.array_equal(found.detach().numpy(), wanted)


def test_gradients_pass_the_checks_of_torch(psi):
    """Backward, twice backward, forward mode, and both mixed."""
    for apply, shape in ((interop.forward, psi.fine_shape), (interop.adjoint, psi.shape)):
        x = images((2, *shape))
        assert torch.autograd.gradcheck(lambda v: apply(psi, v), x, check_forward_ad=True)  # noqa: B023
        assert torch.autograd.gradgradcheck(lambda v: apply(psi, v) ** 2, x, check_fwd_over_rev=True)  # noqa: B023


def test_vmap_over_any_axis_and_hessian(psi):
    x = images((*psi.fine_shape, 5), grad=False)
    found = torch.func.vmap(lambda v: interop.forward(psi, v), in_dims=2, out_dims=2)(x)
    assert torch.equal(found, interop.forward(psi, x.movedim(2, 0)).movedim(0, 2))
    # the Hessian of ||Psi x||^2 / 2 is Psi^T Psi
    hessian = torch.func.hessian(lambda v: 0.5 * (interop.forward(psi, v) ** 2).sum())(x[..., 0])
    v = images(psi.fine_shape, grad=False, seed=1)
    wanted = interop.adjoint(psi, interop.forward(psi, v))
    torch.testing.assert_close(torch.tensordot(hessian, v, dims=2), wanted)


def test_what_is_no_image_of_floats_is_refused(psi):
    with pytest.raises(TypeError, match=r"must be a tensor of float32 or float64, got torch\.int64; convert it with"):
        interop.forward(psi, torch.zeros(psi.fine_shape, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"y must be a tensor, got ndarray; make one with torch\.as_tensor"):
        interop.adjoint(psi, np.zeros(psi.shape))
    with pytest.raises(TypeError, match=r"layout torch\.sparse_coo; convert it with \.to_dense"):
        interop.forward(psi, torch.zeros(psi.fine_shape).to_sparse())
    with pytest.raises(ValueError, match="x is on meta but the operator computes on cpu; move it"):
        interop.forward(psi, torch.zeros(psi.fine_shape, device="meta"))
    with pytest.raises(ValueError, match="fine grid"):
        interop.forward(psi, torch.zeros(3, 3))


@pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")
def test_a_compiled_function_has_the_value_and_gradient_of_itself(psi):
    """What torch.compile cannot look into runs between its graphs; nobody has to say so."""

    def loss(x):
        return (interop.adjoint(psi, interop.forward(psi, 2 * x).sin()) ** 2).sum()

    found, wanted = images(psi.fine_shape), images(psi.fine_shape)
    torch.compile(loss, backend="eager")(found).backward()
    loss(wanted).backward()
    torch.testing.assert_close(found.grad, wanted.grad)


# -- E[D(Y)] ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(psi) -> fg.ForwardModel:
    return fg.ForwardModel(psi, gain=2.0, noise_std=0.5)


@pytest.mark.parametrize("method", METHODS)
def test_value_and_gradient_are_of_the_same_frames(model, method):
    critic = fg.Critic(model.psi.shape, channels=2, depth=1, seed=3)
    x, b = images(model.psi.fine_shape, torch.float32), images(model.psi.shape, torch.float32, seed=1)
    value = interop.expected_score(critic, model, x, b, frames=6, seed=4, method=method, step=2)
    (3 * value).backward()
    arrays = x.detach().numpy(), b.detach().numpy()
    frames = model.sample(*arrays, 6, 4, step=2)
    assert float(value.detach()) == pytest.approx(
        float(fg.CriticEvaluator(critic, model.psi.shape).values(frames).mean()), rel=1e-5
    )
    wanted = fg.critic_gradient(critic, model, *arrays, frames=6, seed=4, method=method, step=2)
    for image, slope in ((x, wanted.x), (b, wanted.b)):
        assert image.grad.dtype == torch.float32
        np.testing.assert_allclose(image.grad.numpy(), 3 * slope, rtol=1e-6, atol=1e-9)


def test_an_option_that_there_is_not_is_refused(model):
    """A misspelt ``step`` would draw the same frames at every step."""
    x, b = images(model.psi.fine_shape), images(model.psi.shape)
    with pytest.raises(TypeError, match=r"expected_score has no option steps; its options are .*step"):
        interop.expected_score(lambda y: y.sum(dim=(1, 2)), model, x, b, frames=2, steps=3)


def test_a_critic_on_a_device_of_another_kind_is_named(model):
    x, b = images(model.psi.fine_shape), images(model.psi.shape)
    with pytest.raises(ValueError, match="the critic is on meta but the frames are on cpu"):
        interop.expected_score(fg.Critic(model.psi.shape, channels=2, depth=1).to("meta"), model, x, b, frames=2)
    with pytest.raises(ValueError, match="the critic is on meta, where no frames can be"):
        fg.CriticEvaluator(fg.Critic(model.psi.shape, channels=2, depth=1).to("meta"), model.psi.shape)


def test_of_a_linear_critic_the_gradient_is_that_of_the_expectation(model):
    """D(y) = <a, y>: E[D] = alpha <a, Psi x + b>."""
    a = images(model.psi.shape, grad=False, seed=5)
    x, b = images(model.psi.fine_shape), images(model.psi.shape, seed=1)
    interop.expected_score(lambda y: (y * a).sum(dim=(1, 2)), model, x, b, frames=2, method="linear").backward()
    torch.testing.assert_close(b.grad, 2.0 * a, rtol=1e-6, atol=0)
    torch.testing.assert_close(x.grad, 2.0 * interop.adjoint(model.psi, a), rtol=1e-6, atol=0)


def test_a_second_derivative_is_refused(model):
    x, b = images(model.psi.fine_shape), images(model.psi.shape)
    value = interop.expected_score(lambda y: (y**2).sum(dim=(1, 2)), model, x, b, frames=2, method="linear")
    with pytest.raises(RuntimeError, match="no second derivative here: differentiate it without create_graph"):
        torch.autograd.grad(value, x, create_graph=True)


def test_an_estimator_that_scores_no_frames_has_no_value(model, monkeypatch):
    monkeypatch.setattr(estimators, "_REGISTRY", dict(estimators._REGISTRY))
    zero = fg.Estimator("zero", lambda job: job.result(0 * job.x, 0 * job.b, 0, 0), "0", (), "none")
    fg.register_estimator(zero)
    x, b = np.ones(model.psi.fine_shape), np.ones(model.psi.shape)
    with pytest.raises(ValueError, match=r"job\.sampled_frames"):
        fg.expected_score(lambda y: y.sum(dim=(1, 2)), model, x, b, frames=2, method="zero")


def test_adam_fits_x_and_b(model):
    """Frames of a spot, and a quadratic distance of their mean as the objective."""
    psi = model.psi
    truth, b0 = torch.zeros(psi.fine_shape), torch.full(psi.shape, 2.0)
    truth[4, 3] = 20.0
    y = interop.forward(psi, truth) + b0
    x, b = torch.ones(psi.fine_shape, requires_grad=True), torch.ones(psi.shape, requires_grad=True)
    optimiser = torch.optim.Adam([x, b], lr=0.1)

    def closure():
        optimiser.zero_grad()
        loss = ((interop.forward(psi, x) + b - y) ** 2).mean()
        loss.backward()
        return loss

    first = float(closure().detach())
    for _ in range(300):
        last = float(optimiser.step(closure).detach())
    assert last < 1e-3 * first
