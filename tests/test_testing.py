"""The public checks of fluogan_core.testing find what is wrong."""

from __future__ import annotations

import pytest

from fluogan_core.testing import assert_adjoint, assert_gradient


def test_public_checks_catch_what_is_wrong(rng):
    a = rng.standard_normal((4, 3))
    assert_adjoint(lambda v: a @ v, lambda v: a.T @ v, (3,), (4,))
    with pytest.raises(AssertionError, match="apart"):
        assert_adjoint(lambda v: a @ v, lambda v: 1.001 * a.T @ v, (3,), (4,))
    with pytest.raises(AssertionError, match="gradient says"):
        assert_gradient(lambda v: float((v**2).sum()), lambda v: v, rng.standard_normal(3))
