"""Files out: folders prepared, inputs spared, files that belong together placed together, or elsewhere if need be."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import errno
import hashlib
import io
import itertools
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import tifffile

from ..backend.checks import real_number
from ..backend.replace import Write, replace_file, stage_file
from ..backend.typing import ArrayLike

__all__ = [
    "Placing",
    "dumps",
    "image_writer",
    "place_or_rescue",
    "plain",
    "prepare_directory",
    "said",
    "spare_inputs",
    "text_writer",
    "write_image",
    "write_text",
]

Made = TypeVar("Made")
#: A list of numbers in indented JSON; the texts of JSON hold no line breaks.
_NUMBERS = re.compile(r"\[\n([-+.\deE,\s]+)\]")


def spare_inputs(directory: Path, names: Sequence[str], *inputs: str | os.PathLike[str] | None) -> None:
    """Raise where a file of one of these names in ``directory`` is what the work is made of.

    Raises
    ------
    ValueError
        If it would be overwritten by what comes out.
    """
    for path, name in itertools.product(inputs, names):
        target = directory / name
        # an input that is gone is no longer at stake
        if path is not None and target.exists() and os.path.exists(path) and os.path.samefile(path, target):
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


class Placing:
    """Files that belong together: written under other names first, and renamed one after the other once all are whole.

    Used as a context; where that ends with an exception nothing is placed.

    Parameters
    ----------
    directory : Path
        An existing folder.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._staged: dict[str, Path] = {}
        self._tell: list[str] = []

    def stage(self, name: str, write: Write, *, tells: bool = False) -> str:
        """Write the file that will be called ``name``, and return the SHA-256 of its content.

        A file that ``tells`` what the others are, as the last one does, never lies beside those of another run.
        """
        target = self.directory / name
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "there is a folder where a file goes", os.fspath(target))
        self._staged[name] = stage_file(target, write)
        if tells:
            self._tell.append(name)
        return hashlib.sha256(self._staged[name].read_bytes()).hexdigest()

    def __enter__(self) -> Placing:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None and self._staged:
                for name in {*self._tell, next(reversed(self._staged))}:
                    (self.directory / name).unlink(missing_ok=True)
                for name, temporary in self._staged.items():
                    os.replace(temporary, self.directory / name)
        finally:
            for temporary in self._staged.values():
                temporary.unlink(missing_ok=True)


def place_or_rescue(write: Callable[[Path], Made], directory: Path) -> tuple[Made, Path, str]:
    """Let ``write`` place a result in ``directory``; where that fails, in a new folder elsewhere.

    Parameters
    ----------
    write : callable
        Called with the folder.
    directory : Path
        Where the result should go.

    Returns
    -------
    made : object
        What ``write`` returned.
    place : Path
        Where the result is.
    reason : str
        Why that is another folder; empty if it is not.

    Raises
    ------
    OSError
        If it can be written nowhere; the message says why not to ``directory``.
    """
    try:
        return write(directory), directory, ""
    except (OSError, ValueError) as error:
        for parent in (directory.absolute().parent, Path.cwd, Path.home, Path(tempfile.gettempdir())):
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                place = Path(tempfile.mkdtemp(prefix="fluogan-result-", dir=parent() if callable(parent) else parent))
                try:
                    return write(place), place, said(error)
                except BaseException:
                    shutil.rmtree(place, ignore_errors=True)
                    raise
        raise OSError(f"the result could be written neither to {directory} ({said(error)}) nor to another folder") from error


def said(error: BaseException) -> str:
    """An error in words, on one line; of the system's, what failed and where."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    return " ".join(str(error).split()) or type(error).__name__


def write_image(path: str | os.PathLike[str], images: ArrayLike, **description: Any) -> Path:
    """Write an image or a stack as an ImageJ TIFF, put in place at once; equal arrays give equal bytes.

    Parameters
    ----------
    path : path-like
        Where to; an existing file is replaced.
    images, **description
        As for :func:`image_writer`.

    Returns
    -------
    Path
        The file.
    """
    return replace_file(Path(path), image_writer(images, **description))


def image_writer(
    images: ArrayLike, *, pixel_size_nm: float | None = None, labels: Sequence[str] | None = None, info: str | None = None
) -> Write:
    """What writes an image or a stack as an ImageJ TIFF to an open file.

    Parameters
    ----------
    images : (rows, columns) or (frames, rows, columns), uint16, or anything else as float32
    pixel_size_nm : float, optional
        Pixel in the object plane, nm, stored as ImageJ does (per micron).
    labels : sequence of str, optional
        One per image of a stack; ImageJ shows it above the image.
    info : str, optional
        Text that ImageJ shows as the file's info.

    Returns
    -------
    callable
        ``write(handle)``, for a binary file.
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
    # through memory: of a full disk NumPy says only how many items it wrote
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, images, imagej=True, photometric="minisblack", **options)
    return lambda handle: handle.write(buffer.getbuffer())


def write_text(path: Path, text: str) -> Path:
    """Write a text file, UTF-8, put in place at once."""
    return replace_file(path, text_writer(text))


def text_writer(text: str) -> Write:
    """What writes a text as UTF-8."""
    return lambda handle: handle.write(text.encode("utf-8"))


def plain(value: object) -> Any:
    """Turn ``value`` into what strict JSON can hold: arrays become lists, NaN and infinities null, paths strings."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, str):
        # bytes of a file name that are no UTF-8 are spelled out
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, os.PathLike):
        return plain(os.fsdecode(value))
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


def dumps(report: Mapping[str, object]) -> str:
    """Spell a report as strict JSON: indented, but numbers of one list on one line."""
    report = dict(report)
    history = cast(Mapping[str, object] | None, report.pop("history", None))
    text = json.dumps(plain(report), indent=2, allow_nan=False, ensure_ascii=False)
    text = _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)
    if history is None:
        return text + "\n"
    rows = (f"    {json.dumps(str(name))}: {json.dumps(plain(series), allow_nan=False)}" for name, series in history.items())
    lines = ",\n".join(rows)
    joint = ",\n" if report else "\n"
    return f'{text.removesuffix("}").rstrip()}{joint}  "history": {{\n{lines}\n  }}\n}}\n'
