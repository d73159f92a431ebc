"""What this machine and this installation are: versions, threads, memory, device and why a GPU is not used."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import cast

import numpy as np

from .._version import __version__
from ..backend.arrays import Backend, default_memory_budget, get_backend, why_no_gpu

__all__ = ["collect", "device_facts", "info_rows", "loaded_versions", "peak_memory_bytes", "threads"]

#: Libraries whose version can change a number; the second name is that of the distribution, where it differs.
_NUMERIC = ("numpy", "scipy", "torch", "numba", "cupy")
_OTHERS = ("tifffile", "matplotlib", "click", "rich")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def loaded_versions() -> dict[str, str]:
    """Versions of this library, of Python and of the numeric libraries that this process has loaded."""
    found = {"fluogan_core": __version__, "python": platform.python_version()}
    for name in _NUMERIC:
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            found[name] = str(version)
    return found


def installed_versions() -> dict[str, str | None]:
    """Versions of everything that is installed, without importing it; None where it is not."""
    found: dict[str, str | None] = {"fluogan_core": __version__, "python": platform.python_version()}
    for name in (*_NUMERIC, *_OTHERS):
        found[name] = None
        candidates = ("cupy", "cupy-cuda13x", "cupy-cuda12x") if name == "cupy" else (name,)
        for distribution in candidates:
            try:
                found[name] = importlib.metadata.version(distribution)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def threads() -> dict[str, object]:
    """Cores of the machine, cores that this process may use, and what limits the libraries' threads."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, object] = {"cores": os.cpu_count(), "usable": usable}
    found.update({name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ})
    torch, numba = sys.modules.get("torch"), sys.modules.get("numba")
    if torch is not None:
        found["torch"] = int(torch.get_num_threads())
    if numba is not None:  # its get_num_threads() would start the pool
        found["numba"] = int(numba.config.NUMBA_NUM_THREADS)
    return found


def peak_memory_bytes() -> int | None:
    """The most host memory that this process has held, bytes; None where the platform does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def device_facts(backend: Backend) -> dict[str, object]:
    """Name, memory and driver of the device that ``backend`` computes on."""
    if backend.name != "cupy":
        return {"device": "cpu", "name": _processor()}
    runtime = backend.xp.cuda.runtime
    number = int(backend.device.split(":")[1])
    properties = runtime.getDeviceProperties(number)
    free, total = runtime.memGetInfo()
    name = properties["name"]
    return {
        "device": backend.device,
        "name": name.decode() if isinstance(name, bytes) else str(name),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "memory_bytes": int(total),
        "free_memory_bytes": int(free),
        "driver": _driver(),
        "driver_cuda": int(runtime.driverGetVersion()),
        "runtime_cuda": int(runtime.runtimeGetVersion()),
    }


def collect() -> dict[str, object]:
    """Everything that ``fluogan info`` prints."""
    import torch  # it alone can say whether it sees the card

    backend = get_backend("auto")
    facts = {
        "backend": backend.name,
        **device_facts(backend),
        "no_gpu_because": why_no_gpu(),
        "torch_cuda": torch.version.cuda or "none: torch was built for the CPU",
        "torch_sees_a_gpu": bool(torch.cuda.is_available()),
        "memory_budget_bytes": backend.memory_budget(),
        "host_memory_bytes": _host_memory(),
        "host_memory_budget_bytes": default_memory_budget(),
        "platform": platform.platform(),
        "numpy_blas": _blas(),
    }
    return facts | {"threads": threads(), "versions": installed_versions()}


def info_rows(facts: dict[str, object]) -> list[tuple[str, ...]]:
    """What :func:`collect` found, as (name, value) for a table."""
    rows: list[tuple[str, ...]] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            rows.append((name, ""))
            rows += [(f"  {key}", "not installed" if entry is None else str(entry)) for key, entry in value.items()]
        elif value is not None:
            label = name.removesuffix("_bytes").replace("_", " ")
            rows.append((label, f"{cast(int, value) / 2**30:.2f} GiB" if name.endswith("_bytes") else str(value)))
    return rows


def _processor() -> str:
    """The CPU's name, as the system states it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _driver() -> str | None:
    """The NVIDIA kernel driver's version where Linux shows it."""
    stated = Path("/proc/driver/nvidia/version")
    if not stated.exists():
        return None
    words = stated.read_text(errors="replace").split()
    return next((word for word in words if word[0].isdigit() and "." in word), None)


def _host_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _blas() -> str | None:
    """The linear algebra library NumPy was built with."""
    configuration = np.show_config(mode="dicts")
    library = (configuration or {}).get("Build Dependencies", {}).get("blas", {})
    return library.get("name") if isinstance(library, dict) else None
