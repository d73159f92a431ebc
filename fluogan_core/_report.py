"""What a run leaves behind: images, and the report of what was done, with what, and how it went.

Every file is written under a temporary name and then renamed: a killed run leaves the old file or the new one, whole.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import itertools
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from ._checks import frames_of, real_number
from ._info import device_facts, loaded_versions, peak_memory_bytes, threads
from .psf import FWHM_PER_SIGMA
from .sieve import psf_sigma

if TYPE_CHECKING:
    from .backend import Backend
    from .camera import CameraEstimate
    from .psf_width import PSFWidth
    from .psi import Psi
    from .result import Result

__all__ = [
    "build_report",
    "dumps",
    "estimate_facts",
    "estimate_rows",
    "input_facts",
    "machine_facts",
    "operator_facts",
    "plain",
    "prepare_directory",
    "replace_file",
    "spare_inputs",
    "write_image",
    "write_text",
]


# -- files -------------------------------------------------------------------------------------------------------------


def spare_inputs(directory: Path, names: Sequence[str], *inputs: str | os.PathLike[str] | None) -> None:
    """Raise where a file of one of these names in ``directory`` is what the work is made of.

    Raises
    ------
    ValueError
        If it would be overwritten by what comes out.
    """
    for path, name in itertools.product(inputs, names):
        target = directory / name
        if path is not None and target.exists() and os.path.samefile(path, target):
            raise ValueError(f"the result would overwrite {target}, which is read: choose another directory")


def prepare_directory(directory: str | os.PathLike[str]) -> Path:
    """Make ``directory`` if need be and try that it can be written to: called before hours of work, not after.

    Raises
    ------
    ValueError
        If it is a file, or cannot be made or written to; the message says why.
    """
    path = Path(directory)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"the output directory {path} cannot be made: a file of that name is in the way") from None
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"the output directory {path} cannot be written to ({reason}); choose another") from None
    return path


def replace_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place at once."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_image(
    path: str | os.PathLike[str],
    images: Any,
    *,
    pixel_size_nm: float | None = None,
    labels: Sequence[str] | None = None,
    info: str | None = None,
) -> Path:
    """Write an image or a stack as an ImageJ TIFF; equal arrays give equal bytes.

    Parameters
    ----------
    path : path-like
        Where to; an existing file is replaced.
    images : (rows, columns) or (frames, rows, columns), uint16, or anything else as float32
    pixel_size_nm : float, optional
        Pixel in the object plane, nm, stored as ImageJ does (per micron).
    labels : sequence of str, optional
        One per image of a stack; ImageJ shows it above the image.
    info : str, optional
        Text that ImageJ shows as the file's info.
    """
    images = np.asarray(images)
    if images.ndim not in (2, 3):
        raise ValueError(f"images must be (rows, columns) or (frames, rows, columns), got shape {images.shape}")
    if images.dtype != np.uint16:
        images = images.astype(np.float32)
    options: dict[str, Any] = {"metadata": {"axes": "TYX"[-images.ndim :]}}
    if pixel_size_nm is not None:
        per_micron = 1000.0 / real_number(pixel_size_nm, "pixel_size_nm", low=0, open_low=True)
        options["resolution"] = (per_micron, per_micron)
        options["metadata"]["unit"] = "micron"
    if labels is not None:
        options["metadata"]["Labels"] = list(labels)
    if info is not None:
        options["metadata"]["Info"] = info
    return replace_file(
        Path(path), lambda part: tifffile.imwrite(part, images, imagej=True, photometric="minisblack", **options)
    )


def write_text(path: Path, text: str) -> Path:
    """Write a text file, UTF-8, put in place at once."""
    return replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))


# -- report ------------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Turn ``value`` into what strict JSON can hold: arrays become lists, NaN and infinities null, paths strings."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "get") and hasattr(value, "ndim"):  # an array on a card
        value = value.get()
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    return str(value)


def dumps(report: Mapping[str, Any]) -> str:
    """Spell a report as strict JSON: indented, but each series of the history on one line."""
    report = dict(report)
    history = report.pop("history", None)
    text = json.dumps(plain(report), indent=2, allow_nan=False, ensure_ascii=False)
    if history is None:
        return text + "\n"
    rows = (f"    {json.dumps(str(name))}: {json.dumps(plain(series), allow_nan=False)}" for name, series in history.items())
    lines = ",\n".join(rows)
    joint = ",\n" if report else "\n"
    return f'{text.removesuffix("}").rstrip()}{joint}  "history": {{\n{lines}\n  }}\n}}\n'


def build_report(
    result: Result,
    *,
    stack: Any = None,
    estimate: CameraEstimate | None = None,
    psf_width: PSFWidth | None = None,
    pixel_size_nm: float | None = None,
    command: list[str] | None = None,
) -> dict[str, Any]:
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
        "seed": result.options.seed,
        "parameters": result.options,
        "result": {
            "stop_reason": result.stop_reason,
            "steps": len(next(iter(history.values()), ())),
            "x_sum": float(psi.backend.to_host(result.x).sum(dtype=np.float64)),
            "x_max": float(psi.backend.to_host(result.x).max()),
            "bad_pixels": np.argwhere(result.bad_pixels),
            "b_mean": float(psi.backend.to_host(result.b).mean(dtype=np.float64)),
            "final": {name: series[-1] for name, series in history.items() if len(series)},
        },
        **machine_facts(psi.backend),
        "timings_s": result.timings,
        "history": history,
    }


def input_facts(psi: Psi, stack: Any, pixel_size_nm: float | None) -> dict[str, Any]:
    """What was read: a stack, of which an array is only the frames, or nothing that is known of."""
    frames = None if stack is None else frames_of(stack)
    path, taken = (getattr(stack, name, None) for name in ("path", "taken"))
    return {
        "path": None if path is None else os.path.abspath(path),
        "frames_taken": None if taken is None else {"start": taken.start, "stop": taken.stop, "step": taken.step},
        "frames": None if frames is None else frames.shape[0],
        "dtype": None if frames is None else frames.dtype.name,
        "roi": getattr(stack, "roi", None),
        "frame_interval_s": getattr(stack, "frame_interval_s", None),
        "camera_pixels": psi.shape,
        "pixel_size_nm": pixel_size_nm,
    }


def operator_facts(psi: Psi, pixel_size_nm: float | None) -> dict[str, Any]:
    """What Psi was."""
    return {
        "fine_pixels": psi.fine_shape,
        "fine_pixel_nm": None if pixel_size_nm is None else pixel_size_nm / psi.factor,
        "factor": psi.factor,
        "binning": psi.binning,
        "photons_per_emitter": psi.photons_per_emitter,
        "psf_pixels": psi.psf.shape,
        "psf_fwhm_nm": None if pixel_size_nm is None else FWHM_PER_SIGMA * psf_sigma(psi) * pixel_size_nm / psi.factor,
        "psf_sha256": hashlib.sha256(psi.psf.tobytes()).hexdigest(),
        "method": psi.method,
    }


def machine_facts(backend: Backend) -> dict[str, Any]:
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


def estimate_facts(estimate: CameraEstimate, with_psf: bool = True) -> dict[str, Any]:
    """A camera estimate as a flat dict; without a PSF nothing is known of the photons per emitter."""
    facts: dict[str, Any] = {}
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
            error = "" if given else f"{facts[f'{name}_error']:.2g}"
            rows.append((name.replace("_", " "), f"{facts[name]:.4g}", error, unit, "given" if given else "estimated"))
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
