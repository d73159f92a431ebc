"""What is read of an operator of the user's own, and that one which does not agree with itself is refused."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from own_operators import (
    SHAPE,
    Dimmed,
    Vignetted,
    nominal,
    quadratic_score,
    scene,
    transmission,
)

import fluogan_core as fg
from fluogan_core.interop import torch as interop
from fluogan_core.physics.linear_operator import FlatOperator
from fluogan_core.physics.requirements import READS, reads_table, usable
from fluogan_core.testing import assert_operator


@pytest.fixture(scope="module")
def psi():
    return nominal()


# -- what does not agree is refused -----------------------------------------------------------------


def broken(psi, **methods):
    """A vignetted operator with some methods exchanged."""
    return type("Broken", (Vignetted,), methods)(psi, transmission())


BROKEN = {
    "adjoint is not that of forward": {"adjoint": lambda self, y: self.nominal.adjoint(y)},
    "forward is not linear": {"forward": lambda self, x: self.nominal.forward(x) + x.dtype.type(1)},
    "forward of one emission at .* is negative": {
        "forward": lambda self, x: -self.nominal.forward(x),
        "adjoint": lambda self, y: -self.nominal.adjoint(y),
    },
    r"forward of \(24, 28\) must have shape": {"forward": lambda self, x: x[..., :3, :3]},
    "forward of a batch": {"forward": lambda self, x: self.nominal.forward(x.sum(axis=0) if x.ndim > 2 else x)},
    "forward of float32 must be float32": {"forward": lambda self, x: self.nominal.forward(x) * self.transmission},
    "forward of finite numbers is not finite": {"forward": lambda self, x: self.nominal.forward(x) / 0 * 0},
    "forward changes its argument": {
        "forward": lambda self, x: (np.multiply(x, 2, out=x), Vignetted.forward(self, x))[1],
    },
    r"column\(\(0, 0\)\) is not forward": {"column": lambda self, index: 2 * Vignetted.column(self, index)},
    "column_sums is not the adjoint of ones": {"column_sums": property(lambda self: self.nominal.column_sums)},
    "squared_forward at .* is not that of the squares": {"squared_forward": lambda self, x: self.nominal.squared_forward(x)},
    "column_energies is not squared_adjoint": {"column_energies": property(lambda self: self.nominal.column_energies)},
    "matrix is not that of forward": {"matrix": property(lambda self: 2 * Vignetted(self.nominal, transmission()).matrix)},
    "matrix must be a scipy.sparse.csr_array, got ndarray": {"matrix": property(lambda self: np.ones((168, 672)))},
    "table is not that of forward": {
        "table": property(lambda self: self.nominal.table),
        "origin": property(lambda self: self.nominal.origin),
    },
    "axis_matrices are not those": {"axis_matrices": property(lambda self: self.nominal.axis_matrices)},
    "norm is .* but the operator lengthens": {
        "norm": property(lambda self: 0.9 * Vignetted(self.nominal, transmission()).norm)
    },
}


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:divide by zero:RuntimeWarning")
@pytest.mark.parametrize("words", BROKEN)
def test_an_operator_that_does_not_agree_is_refused_before_any_work(psi, words):
    wrong = broken(psi, **BROKEN[words])
    with pytest.raises(AssertionError, match=words):
        assert_operator(wrong)
    stack = np.zeros((5, *SHAPE), np.float32)
    entrances = (
        lambda: fg.ForwardModel(wrong),
        lambda: fg.Objective(wrong, stack[0]),
        lambda: fg.reconstruct(stack, psi=wrong, camera=fg.Camera()),
    )
    for enter in entrances:
        with pytest.raises(ValueError, match=words):
            enter()


def test_a_subclass_of_psi_that_overrides_half_is_refused(psi):
    half = Dimmed(psi.psf, SHAPE, 2, backend="numpy")
    with pytest.raises(ValueError, match=r"Dimmed .*column\(\(0, 0\)\) is not forward of one emission there"):
        fg.ForwardModel(half)


def test_what_is_missing_is_named(psi):
    class Bare:
        shape, fine_shape, backend = psi.shape, psi.fine_shape, psi.backend

        def forward(self, x):
            return psi.forward(x)

        def adjoint(self, y):
            return psi.adjoint(y)

    with pytest.raises(TypeError, match="forward model reads memory_budget, photons_per_emitter of an operator, which Bare"):
        fg.ForwardModel(Bare())
    with pytest.raises(AssertionError, match="memory_budget"):
        assert_operator(Bare())

    class Enough(Bare):
        memory_budget, photons_per_emitter, norm = 2**20, 4.0, psi.norm

    model, x, b = fg.ForwardModel(Enough()), np.ones(psi.fine_shape, np.float32), np.ones(psi.shape, np.float32)
    np.testing.assert_array_equal(model.sample(x, b, 3, seed=1), fg.ForwardModel(psi).sample(x, b, 3, seed=1))
    with pytest.raises(TypeError, match="variance of the forward model reads squared_forward"):
        model.variance(x, b)
    with pytest.raises(TypeError, match="mean fit reads"):
        fg.Problem.of(np.zeros((5, *SHAPE)), psi=Enough(), camera=fg.Camera())
    found = fg.critic_gradient(quadratic_score, model, x, b, 4, method="photon")
    np.testing.assert_array_equal(
        found.x, fg.critic_gradient(quadratic_score, fg.ForwardModel(psi), x, b, 4, method="photon").x
    )
    for method in ("coupled", "direct"):
        with pytest.raises(TypeError, match=r"estimator of .* reads"):
            fg.critic_gradient(quadratic_score, model, x, b, 4, method=method)
    fg.Objective(Enough(), b).residual(x, b)


def test_an_operator_is_checked_once(psi):
    calls = []

    class Counted(Vignetted):
        def forward(self, x):
            calls.append(1)
            return super().forward(x)

    own = Counted(psi, transmission())
    usable(own, "forward model")
    first = len(calls)
    usable(own, "objective")
    assert len(calls) == first > 0
    usable(own.over(psi.scaled(0.9)), "objective")
    assert len(calls) > first


def test_what_each_part_reads_is_what_the_table_says(psi):
    """A bare object with the names of a row and no others is taken."""
    full = Vignetted(psi, transmission())
    _, stack = scene(full, 40)
    cached = {name for name in dir(full) if isinstance(getattr(type(full), name, None), cached_property)}
    assert {"norm", "column_sums", "matrix"} <= cached

    class Only:
        def __init__(self, names):
            for name in names:
                setattr(self, name, getattr(full, name))

    x, b = np.ones(psi.fine_shape, np.float32), np.ones(psi.shape, np.float32)
    fg.ForwardModel(Only(READS["forward model"])).sample(x, b, 2)
    fg.ForwardModel(Only({*READS["forward model"], "squared_forward"})).variance(x, b)
    fg.Objective(Only(READS["objective"]), b, smoothness=1.0, sparsity=0.1).terms(x, b)
    names = {*READS["mean fit"]}
    options = fg.SolverOptions(method="none", warm_steps=3)
    fg.reconstruct(stack, psi=Only(names), camera=fg.Camera(noise_std=1.0), options=options)
    names |= {*READS["covariance fit"]}
    short = fg.SolverOptions(warm_steps=3, steps=1)
    fg.reconstruct(stack, psi=Only(names), camera=fg.Camera(noise_std=1.0), options=short)
    found = fg.calibrate(stack, Only(READS["calibration"]), camera=fg.Camera(noise_std=1.0))
    assert found.psi.photons_per_emitter == found.estimate.photons_per_emitter
    model = fg.ForwardModel(Only({*READS["forward model"], *READS["estimator of coupled frames"]}))
    fg.critic_gradient(quadratic_score, model, x, b, 2, method="coupled")
    bare = Only(READS["adapter to another toolkit"])
    found = interop.adjoint(bare, interop.forward(bare, torch.from_numpy(x)))
    np.testing.assert_array_equal(found.numpy(), full.adjoint(full.forward(x)))
    np.testing.assert_array_equal(FlatOperator(bare) @ x.ravel(), full.forward(x).ravel())


def test_adapters_refuse_what_does_not_agree_and_what_is_no_operator(psi):
    """A gradient through an adjoint that is another operator's would be wrong in silence."""

    class Halved(Vignetted):
        def adjoint(self, y):
            return 0.5 * super().adjoint(y)

    x = torch.ones(psi.fine_shape, requires_grad=True)
    for adapter in (
        lambda own: interop.forward(own, x).sum().backward(),
        lambda own: interop.adjoint(own, torch.ones(psi.shape)),
    ):
        with pytest.raises(ValueError, match="Halved is no linear operator that agrees with itself: adjoint"):
            adapter(Halved(psi, transmission()))
    with pytest.raises(TypeError, match=r"the adapter to another toolkit reads .* of an operator, which Tensor does"):
        interop.forward(x, psi)


def test_the_page_shows_the_table():
    page = Path(__file__).resolve().parents[2] / "docs" / "embedding.md"
    assert reads_table() in page.read_text(encoding="utf-8")
