"""CUDA kernels, compiled on first use for the device that asks for them.

:func:`find` hands out a kernel by name, with the arguments of its CPU twin (``kernels/cpu``); its arrays are the device's.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from .device import Device

__all__ = ["ONLY_ON_A_CARD", "TABLE", "find", "programs"]

#: Kernel -> the module that launches it.
TABLE = {
    "emissions": "double_poisson",
    "detect": "double_poisson",
    "draw_photons": "photons",
    "move_emissions": "emission_chains",
    "emission_sums": "emission_chains",
    "banded": "local_maps",
    "stencil": "local_maps",
    "stencil_adjoint": "local_maps",
    "prox_step": "prox_step",
    "prox_total_variation": "total_variation",
    "make_network": "critic_differences",
    "input_gradient": "critic_passes",
    "critic_differences": "critic_differences",
    "perturbation_differences": "critic_differences",
    "descend": "iteration",
    "mean_slope": "iteration",
    "extrapolate": "iteration",
    "bounded_background": "background",
}

#: Kernels without a twin for the CPU: there array code takes as long.
ONLY_ON_A_CARD = frozenset({"emission_sums", "mean_slope", "bounded_background"})


def find(name: str, device: Device) -> Callable[..., Any]:
    """Return the kernel called ``name`` on ``device``."""
    return functools.partial(getattr(_launcher(TABLE[name]), name), device)


def programs() -> list[tuple[str, dict[str, Any]]]:
    """Return every ``.cu`` with every set of macros that is to compile: what the launchers state as ``PROGRAMS``."""
    launchers = (_launcher(name) for name in sorted(set(TABLE.values())))
    return [(name, macros) for launcher in launchers for name, sets in launcher.PROGRAMS.items() for macros in sets]


def _launcher(name: str) -> Any:
    return importlib.import_module(f".{name}", __name__)
