"""Tests that need a host toolkit: skipped where it is not installed, but not in CI, which must have what it can have."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable

import numpy as np
import pytest

#: Hosts that may not load beside the pinned packages: `make test-interop` runs their tests in an environment of their own.
APART = {"deepinv", "torchvision"}
#: Hosts that need libraries of the system (libGL, libEGL, libxkbcommon), which no Python package brings.
OF_SYSTEM = {"qtpy.QtWidgets"}


def assert_nearly_prox(prox: Callable, penalty: Callable, v: np.ndarray) -> None:
    """Assert that prox(v) minimises ||u - v||^2 / 2 + penalty(u) over u >= 0, but for the end of an iteration."""
    rng, best = np.random.default_rng(0), prox(v)
    value = lambda u: 0.5 * float(((u - v) ** 2).sum()) + penalty(u)  # noqa: E731
    assert best.min() >= 0
    for distance in np.logspace(-4, 1, 200):
        other = np.maximum(best + distance * rng.normal(size=v.shape) / v.size**0.5, 0)
        assert value(best) <= value(other) + 1e-6
    # an error in a weight is seen from the best towards the point and towards 0
    for part in (0.99, 0.999):
        for other in (part * best, part * best + (1 - part) * np.maximum(v, 0)):
            assert value(best) <= value(other) + 1e-6


def may_be_missing(host: str) -> bool:
    """Whether this host may be left out here: in CI only one that `make test-interop` has."""
    return host in APART or not os.environ.get("CI")


def need(*packages: str) -> None:
    """Skip the test, or the whole module, unless the packages can be imported; in CI, fail."""
    if "pylops" in packages or "pyproximal" in packages:
        from fluogan_core.interop._host import cupy_only_where_usable

        cupy_only_where_usable()
    for package in packages:
        try:
            importlib.import_module(package)
        except (ImportError, RuntimeError) as error:
            if package in APART:
                why = f"{package} does not load beside the torch that is pinned ({error}); `make test-interop` runs this"
                pytest.skip(why, allow_module_level=True)
            if package in OF_SYSTEM:
                pytest.skip(f"Qt does not load here ({error}): it needs libGL, libEGL and more", allow_module_level=True)
            if not may_be_missing(package):
                raise
            pytest.skip(f"{package} is not installed (pip install 'fluogan-core[interop,napari]')", allow_module_level=True)
