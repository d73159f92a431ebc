"""Super-resolution from fluorescence fluctuations.

The frames of a flickering sample are modelled as ``Y = gain * P(Psi P(x) + b) + N`` (a double Poisson process); the
super-resolved image ``x`` and the background ``b`` are fitted so that a critic cannot tell simulated frames from
recorded ones.  Names are loaded on first use: importing this package loads neither torch nor cupy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import _aliases
from ._version import __version__

# Public name -> the module that defines it.
_EXPORTS = {
    "Backend": "backend.arrays",
    "get_backend": "backend.arrays",
    "backend_of": "backend.arrays",
    "gaussian_psf": "physics.psf",
    "airy_psf": "physics.psf",
    "measured_psf": "physics.psf",
    "Psi": "physics.psi",
    "Operator": "physics.operator",
    "ForwardModel": "physics.forward",
    "Critic": "critics.network",
    "critic_differences": "critics.gradient",
    "critic_gradient": "critics.gradient",
    "expected_score": "critics.expected",
    "CriticEvaluator": "critics.evaluator",
    "QuadraticCritic": "critics.quadratic",
    "Estimator": "critics.estimators",
    "register_estimator": "critics.estimators",
    "Objective": "objective.terms",
    "prox_step": "objective.prox",
    "prox_total_variation": "objective.prox",
    "Solver": "solvers.solver",
    "SolverOptions": "solvers.options",
    "Result": "solvers.result",
    "warm_up": "solvers.warm_up",
    "reconstruct": "solvers.reconstruct",
    "Problem": "solvers.problem",
    "Weights": "solvers.weights",
    "Stop": "solvers.phase",
    "StopReason": "solvers.phase",
    "Images": "solvers.phase",
    "Prior": "objective.prior",
    "Tuning": "tuning",
    "sweep": "selection.trials",
    "Sweep": "selection.trials",
    "Trial": "selection.trials",
    "calibrate": "calibration.calibrate",
    "Calibration": "calibration.calibrate",
    "Camera": "calibration.camera",
    "CameraEstimate": "calibration.camera",
    "estimate_camera": "calibration.camera",
    "corrected_counts": "calibration.pixel_maps",
    "Bleaching": "calibration.bleaching",
    "estimate_bleaching": "calibration.bleaching",
    "Drift": "calibration.drift",
    "estimate_drift": "calibration.drift",
    "follow_drift": "calibration.follow_drift",
    "RowShift": "calibration.row_shift",
    "estimate_row_shift": "calibration.row_shift",
    "PSFShape": "calibration.psf_shape",
    "PSFWidth": "calibration.psf_width",
    "estimate_psf_shape": "calibration.psf_shape",
    "estimate_psf_width": "calibration.psf_width",
    "Pattern": "simulation.phantom",
    "argolight_pattern": "simulation.phantom",
    "smooth_background": "simulation.phantom",
    "Blinking": "simulation.blinking",
    "Detector": "simulation.detector",
    "simulate_sofi": "simulation.photokinetics",
    "evidence": "metrics.evidence_map",
    "Evidence": "metrics.evidence_map",
    "Gap": "metrics.evidence_map",
    "plan": "planning.plan",
    "plan_from": "planning.plan",
    "Plan": "planning.plan",
    "read_stack": "io.stack",
    "Stack": "stack",
    "UnreadableStack": "stack",
    "write_result": "io.result",
    "write_sweep": "io.sweep_report",
}
#: The rooms, each a subpackage or module of its own.
_ROOMS = {
    "backend",
    "calibration",
    "cli",
    "critics",
    "interop",
    "io",
    "metrics",
    "objective",
    "physics",
    "planning",
    "scale",
    "selection",
    "simulation",
    "solvers",
    "stack",
    "testing",
    "tuning",
}

__all__ = ["__version__", *_EXPORTS]

_aliases.install()


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
        globals()[name] = value
        return value
    if name in _ROOMS or name in _aliases.FORMER:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})


if TYPE_CHECKING:
    from .backend.arrays import Backend as Backend
    from .backend.arrays import backend_of as backend_of
    from .backend.arrays import get_backend as get_backend
    from .calibration.bleaching import Bleaching as Bleaching
    from .calibration.bleaching import estimate_bleaching as estimate_bleaching
    from .calibration.calibrate import Calibration as Calibration
    from .calibration.calibrate import calibrate as calibrate
    from .calibration.camera import Camera as Camera
    from .calibration.camera import CameraEstimate as CameraEstimate
    from .calibration.camera import estimate_camera as estimate_camera
    from .calibration.drift import Drift as Drift
    from .calibration.drift import estimate_drift as estimate_drift
    from .calibration.follow_drift import follow_drift as follow_drift
    from .calibration.pixel_maps import corrected_counts as corrected_counts
    from .calibration.psf_shape import PSFShape as PSFShape
    from .calibration.psf_shape import estimate_psf_shape as estimate_psf_shape
    from .calibration.psf_width import PSFWidth as PSFWidth
    from .calibration.psf_width import estimate_psf_width as estimate_psf_width
    from .calibration.row_shift import RowShift as RowShift
    from .calibration.row_shift import estimate_row_shift as estimate_row_shift
    from .critics.estimators import Estimator as Estimator
    from .critics.estimators import register_estimator as register_estimator
    from .critics.evaluator import CriticEvaluator as CriticEvaluator
    from .critics.expected import expected_score as expected_score
    from .critics.gradient import critic_differences as critic_differences
    from .critics.gradient import critic_gradient as critic_gradient
    from .critics.network import Critic as Critic
    from .critics.quadratic import QuadraticCritic as QuadraticCritic
    from .io.result import write_result as write_result
    from .io.stack import read_stack as read_stack
    from .io.sweep_report import write_sweep as write_sweep
    from .metrics.evidence_map import Evidence as Evidence
    from .metrics.evidence_map import Gap as Gap
    from .metrics.evidence_map import evidence as evidence
    from .objective.prior import Prior as Prior
    from .objective.prox import prox_step as prox_step
    from .objective.prox import prox_total_variation as prox_total_variation
    from .objective.terms import Objective as Objective
    from .physics.forward import ForwardModel as ForwardModel
    from .physics.operator import Operator as Operator
    from .physics.psf import airy_psf as airy_psf
    from .physics.psf import gaussian_psf as gaussian_psf
    from .physics.psf import measured_psf as measured_psf
    from .physics.psi import Psi as Psi
    from .planning.plan import Plan as Plan
    from .planning.plan import plan as plan
    from .planning.plan import plan_from as plan_from
    from .selection.trials import Sweep as Sweep
    from .selection.trials import Trial as Trial
    from .selection.trials import sweep as sweep
    from .simulation.blinking import Blinking as Blinking
    from .simulation.detector import Detector as Detector
    from .simulation.phantom import Pattern as Pattern
    from .simulation.phantom import argolight_pattern as argolight_pattern
    from .simulation.phantom import smooth_background as smooth_background
    from .simulation.photokinetics import simulate_sofi as simulate_sofi
    from .solvers.options import SolverOptions as SolverOptions
    from .solvers.phase import Images as Images
    from .solvers.phase import Stop as Stop
    from .solvers.phase import StopReason as StopReason
    from .solvers.problem import Problem as Problem
    from .solvers.reconstruct import reconstruct as reconstruct
    from .solvers.result import Result as Result
    from .solvers.solver import Solver as Solver
    from .solvers.warm_up import warm_up as warm_up
    from .solvers.weights import Weights as Weights
    from .stack import Stack as Stack
    from .stack import UnreadableStack as UnreadableStack
    from .tuning import Tuning as Tuning
