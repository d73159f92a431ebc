"""Files in place: folders prepared, inputs spared, every file written whole under a temporary name and then renamed."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..backend.checks import real_number

__all__ = ["dumps", "plain", "prepare_directory", "replace_file", "spare_inputs", "write_image", "write_text"]


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
