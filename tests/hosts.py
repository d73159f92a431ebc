"""Tests that need a host toolkit: skipped where it is not installed, but not in CI, which must have what it can have."""

from __future__ import annotations

import importlib
import os

import pytest

#: Hosts that may not load beside the pinned packages: `make test-interop` runs their tests in an environment of their own.
APART = {"deepinv", "torchvision"}


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
            if not may_be_missing(package):
                raise
            pytest.skip(f"{package} is not installed (pip install 'fluogan-core[interop,napari]')", allow_module_level=True)
