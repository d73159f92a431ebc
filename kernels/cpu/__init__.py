"""CPU kernels, compiled by Numba on first use.

:func:`find` hands out a kernel by name; a module, and Numba with it, is imported only when one of its kernels is asked for.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["TABLE", "find"]

#: Kernel -> the module that holds it.
TABLE = {
    "emissions": "double_poisson",
    "detect": "double_poisson",
    "draw_photons": "photons",
    "move_emissions": "emission_chains",
    "prox_step": "prox_step",
    "prox_total_variation": "total_variation",
    "blur": "blur",
    "descend": "iteration",
    "extrapolate": "iteration",
    "penalties": "iteration",
    "step_sums": "iteration",
    "banded": "local_maps",
    "stencil": "local_maps",
    "stencil_adjoint": "local_maps",
    "squared_pairs": "window_pairs",
    "squared_near": "window_pairs",
    "make_network": "network",
    "input_gradient": "critic_differences",
    "critic_differences": "critic_differences",
    "perturbation_differences": "critic_differences",
}


@functools.cache
def find(name: str) -> Callable[..., Any]:
    """Return the kernel called ``name``."""
    return getattr(importlib.import_module(f".{TABLE[name]}", __name__), name)
