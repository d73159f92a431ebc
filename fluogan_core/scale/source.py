"""Recordings that a program holds, and files: both are read piece by piece by every process."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..backend.typing import ArrayLike
from ..io.lazy import LazyStack, open_lazily, spool

__all__ = ["source_of"]


def source_of(recording: str | os.PathLike[str] | ArrayLike, folder: Path, *, channel: int | None, planned: bool) -> LazyStack:
    """Open a recording: a file, the file that an array was opened from, or else a copy of the frames in the folder.

    Parameters
    ----------
    recording : path-like or array
    folder : Path
        Of the reconstruction.
    channel : int, optional
    planned : bool
        Whether the folder has a plan, and a copy of the frames if they are copied.

    Returns
    -------
    LazyStack

    Raises
    ------
    ValueError
        If other frames were copied before.
    """
    if isinstance(recording, (str, os.PathLike)):
        return open_lazily(recording, channel=channel)
    path = _file_of(recording)
    if path is not None:
        return open_lazily(path, channel=channel)
    kept = folder / "frames.zarr"
    if not planned:
        spool(recording, kept)
    source = open_lazily(kept)
    if not _holds(source, recording):
        raise ValueError(f"{folder} holds the reconstruction of other frames: choose another folder, or remove this one")
    return source


def _file_of(array: Any) -> Path | None:
    """The file whose frames an array is, all of them: of a mapped .npy file, or of a Zarr array in a folder."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.filename is not None:
        path = Path(array.filename)
        if path.suffix.lower() != ".npy":
            return None
        whole = np.load(path, mmap_mode="r", allow_pickle=False)
        same = (whole.offset, whole.shape, whole.dtype, whole.strides) == (
            array.offset, array.shape, array.dtype, array.strides
        )  # fmt: skip
        return path if same else None
    root = getattr(getattr(array, "store", None), "root", None)
    if root is None or not hasattr(array, "metadata"):
        return None
    path = Path(root) / str(array.path)
    return path if any((path / name).is_file() for name in ("zarr.json", ".zarray")) else None


def _holds(source: LazyStack, frames: Any) -> bool:
    """Whether a copy is of these frames: the first, one in the middle and the last are compared."""
    if source.shape != tuple(int(n) for n in frames.shape) or source.dtype != np.dtype(frames.dtype).newbyteorder("="):
        return False
    count = source.shape[0]
    return all(
        np.array_equal(source.read(range(number, number + 1))[0], np.asarray(frames[number]))
        for number in (0, count // 2, count - 1)
    )
