"""Super-resolution from fluorescence fluctuations.

The frames of a flickering sample are modelled as ``Y = gain * P(Psi P(x) + b) + N`` (a double Poisson process); the
super-resolved image ``x`` and the background ``b`` are fitted so that a critic cannot tell simulated frames from
recorded ones.  Names are loaded on first use: importing this package loads neither torch nor cupy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

# Public name -> the module that defines it.
_EXPORTS = {
    "Backend": "backend",
    "get_backend": "backend",
    "backend_of": "backend",
    "gaussian_psf": "psf",
    "airy_psf": "psf",
    "measured_psf": "psf",
    "Psi": "psi",
    "ForwardModel": "forward",
    "Critic": "critic",
    "critic_differences": "differences",
    "critic_gradient": "differences",
    "Objective": "objective",
    "prox_step": "prox",
    "prox_total_variation": "prox",
    "Solver": "solver",
    "SolverOptions": "options",
    "Result": "result",
    "reconstruct": "solver",
    "sweep": "trials",
    "Sweep": "trials",
    "Trial": "trials",
    "Camera": "camera",
    "CameraEstimate": "camera",
    "estimate_camera": "camera",
    "PSFWidth": "psf_width",
    "estimate_psf_width": "psf_width",
    "Pattern": "phantom",
    "argolight_pattern": "phantom",
    "smooth_background": "phantom",
    "Blinking": "photokinetics",
    "Detector": "photokinetics",
    "simulate_sofi": "photokinetics",
    "read_stack": "io",
    "Stack": "io",
    "write_result": "io",
    "write_sweep": "_sweep_report",
}
_SUBMODULES = {"testing", "metrics", "plot", "reference", "bridge", "random"}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
        globals()[name] = value
        return value
    if name in _SUBMODULES or name in set(_EXPORTS.values()):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})


if TYPE_CHECKING:
    from ._sweep_report import write_sweep as write_sweep
    from .backend import Backend as Backend
    from .backend import backend_of as backend_of
    from .backend import get_backend as get_backend
    from .camera import Camera as Camera
    from .camera import CameraEstimate as CameraEstimate
    from .camera import estimate_camera as estimate_camera
    from .critic import Critic as Critic
    from .differences import critic_differences as critic_differences
    from .differences import critic_gradient as critic_gradient
    from .forward import ForwardModel as ForwardModel
    from .io import Stack as Stack
    from .io import read_stack as read_stack
    from .io import write_result as write_result
    from .objective import Objective as Objective
    from .options import SolverOptions as SolverOptions
    from .phantom import Pattern as Pattern
    from .phantom import argolight_pattern as argolight_pattern
    from .phantom import smooth_background as smooth_background
    from .photokinetics import Blinking as Blinking
    from .photokinetics import Detector as Detector
    from .photokinetics import simulate_sofi as simulate_sofi
    from .prox import prox_step as prox_step
    from .prox import prox_total_variation as prox_total_variation
    from .psf import airy_psf as airy_psf
    from .psf import gaussian_psf as gaussian_psf
    from .psf import measured_psf as measured_psf
    from .psf_width import PSFWidth as PSFWidth
    from .psf_width import estimate_psf_width as estimate_psf_width
    from .psi import Psi as Psi
    from .result import Result as Result
    from .solver import Solver as Solver
    from .solver import reconstruct as reconstruct
    from .trials import Sweep as Sweep
    from .trials import Trial as Trial
    from .trials import sweep as sweep
