"""The public checks of fluogan_core.testing find what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from psfs import tiny_psf

import fluogan_core as fg
from fluogan_core.testing import assert_adjoint, assert_backends_agree, assert_gradient, assert_prox


def test_public_checks_catch_what_is_wrong(rng):
    a = rng.standard_normal((4, 3))
    assert_adjoint(lambda v: a @ v, lambda v: a.T @ v, (3,), (4,))
    with pytest.raises(AssertionError, match="apart"):
        assert_adjoint(lambda v: a @ v, lambda v: 1.001 * a.T @ v, (3,), (4,))
    with pytest.raises(AssertionError, match="gradient says"):
        assert_gradient(lambda v: float((v**2).sum()), lambda v: v, rng.standard_normal(3))


def test_a_prox_that_is_off_in_one_element_is_found():
    v = np.linspace(-1, 3, 9)

    def soft(v, threshold=0.5):
        return np.maximum(v - threshold, 0)

    assert_prox(soft, lambda u: 0.5 * float(u.sum()), v)
    with pytest.raises(AssertionError, match="is better"):
        assert_prox(lambda v: soft(v, np.where(np.arange(9) == 7, 0.6, 0.5)), lambda u: 0.5 * float(u.sum()), v)
    with pytest.raises(AssertionError, match="not feasible"):
        assert_prox(lambda v: v - 0.5, lambda u: 0.5 * float(u.sum()), v)


def operator(backend, x, y):
    psi = fg.Psi(tiny_psf(5, 0.1), (6, 7), 3, photons_per_emitter=4.0, backend=backend)
    return psi.forward(x), psi.adjoint(y)


def test_the_operator_agrees_on_every_backend(backend, rng):
    arrays = rng.standard_normal((2, 18, 21)), rng.standard_normal((2, 6, 7))
    assert_backends_agree(operator, arrays, ["numpy", backend], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: x + 1e-3, "differs from"),
        (lambda x: (x, x), "gives 2 arrays"),
        (lambda x: x[1:], "differs from"),
    ],
)
def test_backends_that_disagree_are_found(wrong, message):
    answers = iter([lambda x: x, wrong])
    with pytest.raises(AssertionError, match=message):
        assert_backends_agree(lambda backend, x: next(answers)(x), [np.arange(5.0)], ["numpy", "numpy"])


def test_one_backend_alone_is_no_comparison():
    with pytest.raises(ValueError, match="at least two backends"):
        assert_backends_agree(operator, [], ["numpy"])
