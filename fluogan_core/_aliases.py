"""Module names of before the folders, which still resolve: ``import fluogan_core.camera``, ``fluogan_core.bridge``, ...

A former name stands for the module that holds its contents now, or for several; it is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence

__all__ = ["FORMER", "install"]

#: Former module -> the module, or modules, that hold its contents now.
FORMER: dict[str, str | tuple[str, ...]] = {
    "_checks": ("backend.checks", "stack"),
    "random": "backend.random",
    "bridge": ("backend.dlpack", "critics.scores", "solvers.checkpoint"),
    "psf": "physics.psf",
    "psi": "physics.psi",
    "forward": "physics.forward",
    "photons": "physics.photons",
    "pair_products": "physics.covariance",
    "camera": "calibration.camera",
    "psf_width": "calibration.psf_width",
    "flicker": ("calibration.flicker", "calibration.regression"),
    "pixel_moments": "calibration.pixel_moments",
    "noise": "calibration.noise",
    "bad_pixels": "calibration.bad_pixels",
    "phantom": "simulation.phantom",
    "photokinetics": ("simulation.photokinetics", "simulation.detector"),
    "demo": ("cli.demo", "simulation.experiment"),
    "prox": "objective.prox",
    "sieve": ("objective.blur", "physics.psf"),
    "reweighting": "objective.reweighting",
    "image_step": "objective.prior",
    "critic": ("critics.network", "critics.training"),
    "moments": ("critics.quadratic", "critics.moments"),
    "differences": "critics.gradient",
    "evaluator": "critics.evaluator",
    "lattice": "critics.lattice",
    "reference": "critics.reference",
    "solver": ("solvers.solver", "solvers.reconstruct", "solvers.options"),
    "mean_fit": ("solvers.mean_fit", "solvers.weights"),
    "moment_fit": "solvers.covariance_fit",
    "adversary": ("solvers.network_fit", "solvers.splits"),
    "options": "solvers.options",
    "history": "solvers.history",
    "result": "solvers.result",
    "progress": "solvers.progress",
    "weights": "solvers.weights",
    "grid": "selection.grid",
    "trials": "selection.trials",
    "lines": "metrics.lines",
    "resolution": "metrics.resolution",
    "prediction": "metrics.prediction",
    "_info": "io.provenance",
    "_metadata": "io.metadata",
    "_report": ("io.report", "io.files"),
    "_sweep_report": "io.sweep_report",
    "plot": "io.figures",
    "_switches": "cli.options",
}
_PACKAGE = __package__


class _Joined(types.ModuleType):
    """A former module whose contents lie in several now."""

    _parts: tuple[types.ModuleType, ...]

    def __getattr__(self, name: str) -> object:
        for part in self.__dict__["_parts"]:
            if hasattr(part, name):
                return getattr(part, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Former(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds former names; loads the modules that they stand for."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if package != _PACKAGE or name not in FORMER:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        home = FORMER[spec.name.rpartition(".")[2]]
        homes = (home,) if isinstance(home, str) else home
        parts = tuple(importlib.import_module(f"{_PACKAGE}.{part}") for part in homes)
        if len(parts) > 1:
            joined = _Joined(spec.name, parts[0].__doc__)
            joined._parts = parts
            return joined
        spec.loader_state = parts[0].__spec__
        return parts[0]

    def exec_module(self, module: types.ModuleType) -> None:
        if not isinstance(module, _Joined) and module.__spec__ is not None:
            # the import system has just replaced the module's own spec by that of the former name
            module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Let former module names resolve, for this process."""
    if not any(isinstance(finder, _Former) for finder in sys.meta_path):
        sys.meta_path.append(_Former())
