"""Psi as a function of jax."""

from __future__ import annotations

import numpy as np
import pytest
from hosts import need
from psfs import tiny_psf

import fluogan_core as fg

need("jax")

import jax  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

from fluogan_core.interop import jax as interop  # noqa: E402


@pytest.fixture
def psi() -> fg.Psi:
    return fg.Psi(tiny_psf(skew=0.1), (4, 3), 2, photons_per_emitter=3.0, backend="numpy")


@pytest.fixture
def double():
    """float64 in jax, in all of its threads."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def test_the_operator_is_that_of_arrays_and_of_their_kind(psi, rng):
    x, y = rng.random((2, 5, *psi.fine_shape), np.float32), rng.random((5, *psi.shape), np.float32)
    for found, wanted in (
        (interop.forward(psi, jax.numpy.asarray(x)), psi.forward(x)),
        (jax.jit(lambda v: interop.adjoint(psi, v))(jax.numpy.asarray(y)), psi.adjoint(y)),
    ):
        assert isinstance(found, jax.Array)
        assert found.dtype == np.float32
        assert np.array_equal(found, wanted)


def test_derivatives_pass_the_check_of_jax(psi, rng, double):
    """Forward and backward, twice, and mapped."""
    x = jax.numpy.asarray(rng.random(psi.fine_shape))
    y = jax.numpy.asarray(rng.random((2, *psi.shape)))
    for modes in (("rev",), ("fwd",), ("fwd", "rev")):
        check_grads(lambda v: (interop.forward(psi, v) ** 2).sum(), (x,), order=2, modes=modes)
        check_grads(lambda v: (interop.adjoint(psi, v) ** 3).sum(), (y,), order=2, modes=modes)
    batch = jax.numpy.asarray(rng.random((*psi.fine_shape, 4)))
    found = jax.vmap(jax.grad(lambda v: 0.5 * (interop.forward(psi, v) ** 2).sum()), in_axes=2)(batch)
    np.testing.assert_allclose(found, psi.adjoint(psi.forward(np.moveaxis(np.asarray(batch), 2, 0))), rtol=1e-12)


def test_the_operator_is_linear_to_jax(psi, rng, double):
    """Products with the Hessian, whole Jacobians both ways, and the transpose."""
    x, v = (jax.numpy.asarray(rng.random(psi.fine_shape)) for _ in range(2))

    def half_square(z):
        return 0.5 * (interop.forward(psi, z) ** 2).sum()

    product = jax.jit(lambda z, w: jax.jvp(jax.grad(half_square), (z,), (w,))[1])(x, v)
    wanted = psi.adjoint(psi.forward(np.asarray(v)))
    np.testing.assert_allclose(product, wanted, rtol=1e-12)
    np.testing.assert_allclose(np.tensordot(jax.hessian(half_square)(x), v, axes=2), wanted, rtol=1e-12)
    both = (jax.jacfwd(lambda z: interop.forward(psi, z))(x), jax.jacrev(lambda z: interop.forward(psi, z))(x))
    np.testing.assert_allclose(*both, rtol=1e-12, atol=1e-15)
    (turned,) = jax.linear_transpose(lambda z: interop.forward(psi, z), x)(interop.forward(psi, v))
    np.testing.assert_allclose(turned, wanted, rtol=1e-12)


def test_what_it_cannot_take_is_refused(psi, pretended_card):
    with pytest.raises(TypeError, match=r"x must be an array, got list; make one with jax\.numpy\.asarray"):
        interop.forward(psi, [[1.0]])
    with pytest.raises(TypeError, match="float32 or float64, got int32"):
        interop.forward(psi, jax.numpy.zeros(psi.fine_shape, int))
    with pytest.raises(ValueError, match=r"x must be \(..., 8, 6\), got shape \(3, 3\)"):
        interop.forward(psi, jax.numpy.zeros((3, 3)))
    with pytest.raises(ValueError, match="on the host"):
        interop.forward(fg.Psi(tiny_psf(), (4, 3), 2, backend=pretended_card), jax.numpy.zeros((8, 6)))
