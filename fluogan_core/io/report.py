"""The report of a run: what was done, with what, and how it went."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from ..calibration.plain import plain
from ..physics.psf import FWHM_PER_SIGMA, psf_sigma
from ..stack import StackLike, frames_of
from .drift import drift_facts
from .provenance import device_facts, loaded_versions, peak_memory_bytes, threads

if TYPE_CHECKING:
    from ..backend.arrays import Backend
    from ..calibration.bleaching import Bleaching
    from ..calibration.camera import CameraEstimate
    from ..calibration.drift import Drift
    from ..calibration.psf_shape import PSFShape
    from ..calibration.psf_width import PSFWidth
    from ..calibration.row_shift import RowShift
    from ..physics.psi import Psi
    from ..solvers.result import Result

__all__ = [
    "build_report",
    "estimate_facts",
    "estimate_rows",
    "input_facts",
    "machine_facts",
    "operator_facts",
    "shape_facts",
]


def build_report(
    result: Result,
    *,
    stack: StackLike | None = None,
    estimate: CameraEstimate | None = None,
    psf_width: PSFWidth | None = None,
    psf_shape: PSFShape | None = None,
    row_shift: RowShift | None = None,
    remarks: Sequence[str] = (),
    drift: Drift | None = None,
    bleaching: Bleaching | None = None,
    pixel_size_nm: float | None = None,
    command: list[str] | None = None,
) -> dict[str, object]:
    """Gather the report of a reconstruction (see :func:`fluogan_core.write_result`)."""
    psi, history = result.psi, result.history
    return {
        "command": command,
        "versions": loaded_versions(),
        "input": input_facts(psi, stack, pixel_size_nm),
        "operator": operator_facts(psi, pixel_size_nm),
        "camera": result.camera,
        "camera_estimate": None if estimate is None else estimate_facts(estimate),
        "psf_width": psf_width,
        "psf_shape": shape_facts(psf_shape),
        "row_shift": row_shift,
        "remarks": list(remarks),
        "drift": None if drift is None else drift_facts(drift),
        "bleaching": None
        if bleaching is None
        else {"clear": bleaching.clear, "left": bleaching.left, "error": bleaching.error, "note": bleaching.note},
        "seed": result.options.seed,
        "parameters": result.options,
        "result": {
            "stop_reason": result.stop_reason,
            "steps": len(next(iter(history.values()), ())),
            "x_sum": float(psi.backend.to_host(result.x).sum(dtype=np.float64)),
            "x_max": float(psi.backend.to_host(result.x).max()),
            "bad_pixels": np.argwhere(result.bad_pixels),
            "overlap": result.overlap,
            "b_mean": float(psi.backend.to_host(result.b).mean(dtype=np.float64)),
            "final": {name: series[-1] for name, series in history.items() if len(series)},
        },
        **machine_facts(psi.backend),
        "timings_s": result.timings,
        "history": history,
    }


def input_facts(psi: Psi, stack: StackLike | None, pixel_size_nm: float | None) -> dict[str, object]:
    """What was read: a stack, of which an array is only the frames, or nothing that is known of."""
    frames = None if stack is None else frames_of(stack)
    if frames is not None and frames.ndim != 3:
        raise ValueError(f"stack must be the frames of the result (T, M1, M2), or a Stack, got {type(stack).__name__}")
    path, taken = (getattr(stack, name, None) for name in ("path", "taken"))
    return {
        "path": None if path is None else os.path.abspath(path),
        "frames_taken": None if taken is None else {"start": taken.start, "stop": taken.stop, "step": taken.step},
        "frames": None if frames is None else frames.shape[0],
        "frames_left_out": getattr(stack, "left_out", ()),
        "dtype": None if frames is None else frames.dtype.name,
        "roi": getattr(stack, "roi", None),
        "notes": getattr(stack, "notes", ()),
        "frame_interval_s": getattr(stack, "frame_interval_s", None),
        "camera_pixels": psi.shape,
        "pixel_size_nm": pixel_size_nm,
    }


def operator_facts(psi: Psi, pixel_size_nm: float | None) -> dict[str, object]:
    """What Psi was."""
    return {
        "fine_pixels": psi.fine_shape,
        "fine_pixel_nm": None if pixel_size_nm is None else pixel_size_nm / psi.factor,
        "factor": psi.factor,
        "binning": psi.binning,
        "photons_per_emitter": psi.photons_per_emitter,
        "psf_pixels": psi.psf.shape,
        "psf_fwhm_nm": None if pixel_size_nm is None else FWHM_PER_SIGMA * psf_sigma(psi.psf) * pixel_size_nm / psi.factor,
        "psf_sha256": hashlib.sha256(psi.psf.tobytes()).hexdigest(),
        "method": psi.method,
    }


def shape_facts(shape: PSFShape | None) -> dict[str, object] | None:
    """The shape of the PSF as it was measured; where it was taken, with the PSF itself."""
    if shape is None:
        return None
    facts = {name: getattr(shape, name) for name in ("change", "error", "taken", "note")}
    return facts | {"psf": shape.psf if shape.taken else None}


def machine_facts(backend: Backend) -> dict[str, object]:
    """Where it was computed, and with how much memory."""
    return {
        "device": {**device_facts(backend), **_device_peak(backend)},
        "threads": threads(),
        "peak_memory_bytes": peak_memory_bytes(),
    }


_CAMERA_UNITS = {
    "gain": "counts / photon",
    "offset": "counts",
    "noise_std": "counts",
    "photons_per_emitter": "photons",
}


def estimate_facts(estimate: CameraEstimate, with_psf: bool = True) -> dict[str, object]:
    """A camera estimate as a flat dict; without a PSF nothing is known of the photons per emitter."""
    facts: dict[str, object] = {}
    for name in _CAMERA_UNITS:
        if name == "photons_per_emitter" and not with_psf and name not in estimate.given:
            continue
        facts[name] = getattr(estimate if name == "photons_per_emitter" else estimate.camera, name)
        facts[f"{name}_error"] = getattr(estimate, f"{name}_error")
    return facts | {"given": estimate.given, "notes": estimate.notes}


def estimate_rows(estimate: CameraEstimate, with_psf: bool = True) -> list[tuple[str, ...]]:
    """A camera estimate as rows of (name, value, standard error, unit, source)."""
    facts = estimate_facts(estimate, with_psf)
    rows: list[tuple[str, ...]] = []
    for name, unit in _CAMERA_UNITS.items():
        given = name in estimate.given
        if name in facts:
            error = "" if given else plain(cast(float, facts[f"{name}_error"]), 2)
            rows.append(
                (name.replace("_", " "), plain(cast(float, facts[name]), 4), error, unit, "given" if given else "estimated")
            )
        else:
            rows.append((name.replace("_", " "), "", "", unit, "needs a PSF (--fwhm-nm)"))
    return rows


def _device_peak(backend: Backend) -> dict[str, int]:
    """What arrays and tensors have taken from the card, bytes."""
    if backend.name != "cupy":
        return {}
    found = {"array_pool_bytes": int(backend.xp.get_default_memory_pool().total_bytes())}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["tensor_peak_bytes"] = int(torch.cuda.max_memory_allocated())
    return found
