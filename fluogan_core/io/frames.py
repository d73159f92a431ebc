"""The frames of a TIFF file once it is known where they lie: read into memory, decoders' complaints as one type."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..stack import UnreadableStack

__all__ = ["Part", "Recording", "load_frames", "readable", "with_all_bytes"]


@dataclass
class Part:
    """Frames that lie together: a block of bytes, one page per frame, or several frames in a page."""

    frames: int
    pages: Sequence[Any]
    #: Where the frames lie one after the other without compression; None where they do not.
    offset: int | None
    decode: Callable[[], np.ndarray]


@dataclass
class Recording:
    """The frames of a file, of one or several parts.

    Attributes
    ----------
    shape : (frames, rows, columns)
    dtype : numpy.dtype
        As stored, native byte order.
    notes : tuple of str
        What a user should know about how the frames were found.
    name : str
        Of the image series, where the file names it.
    """

    parts: list[Part]
    shape: tuple[int, int, int]
    dtype: np.dtype
    notes: tuple[str, ...]
    name: str = ""


@contextlib.contextmanager
def readable(path: Path, what: str = "") -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged file into :class:`UnreadableStack`, with the file's name."""
    try:
        yield
    except (UnreadableStack, MemoryError):
        raise
    except Exception as error:
        causes = (error, error.__cause__, error.__context__)
        if any(isinstance(cause, ImportError) or "imagecodecs" in str(cause) for cause in causes):
            raise UnreadableStack(
                f"{path} is stored in a way that needs the imagecodecs package ({error}): install imagecodecs (pip install "
                "'fluogan-core[formats]'), or save the stack uncompressed"
            ) from error
        reason = f"{what or 'its structure cannot be read'}, {type(error).__name__}: {' '.join(str(error).split())}"
        raise UnreadableStack(
            f"{path} is not a TIFF file, or a damaged one ({reason}); copy it again, or save the stack as TIFF"
        ) from error


def load_frames(
    tif: tifffile.TiffFile, recording: Recording, chosen: range, window: tuple[slice, slice], path: Path
) -> np.ndarray:
    """The chosen frames and region in memory, native byte order; only what is chosen is read, where the file allows.

    They are copied, not mapped: a file that is cut, rewritten or deleted later costs nothing then.
    """
    _, rows, columns = recording.shape
    size = [part.stop - part.start for part in window]
    try:
        data = np.empty((len(chosen), *size), recording.dtype)
    except (MemoryError, ValueError):
        gigabytes = len(chosen) * math.prod(size) * recording.dtype.itemsize / 2**30
        raise MemoryError(
            f"{path} promises {len(chosen)} frames of {size[0]} x {size[1]} pixels, {gigabytes:.3g} GiB: choose fewer "
            "frames or a smaller region"
        ) from None
    starts = [0, *itertools.accumulate(part.frames for part in recording.parts)]
    whole: dict[int, np.ndarray] = {}
    number = 0
    with contextlib.ExitStack() as opened:
        for place, index in enumerate(chosen):
            while index >= starts[number + 1]:
                number += 1
                whole.clear()
            part, inside = recording.parts[number], index - starts[number]
            with readable(path, f"frame {index} cannot be decoded"):
                if part.offset is not None:
                    frame = _block_frame(tif, part.offset, inside, (rows, columns), recording.dtype)
                elif len(part.pages) == part.frames:
                    frame = _page_frame(part.pages[inside], index, (rows, columns), path, opened)
                else:
                    if number not in whole:
                        whole[number] = part.decode().reshape(part.frames, rows, columns)
                    frame = whole[number][inside]
                data[place] = frame[window]
    return data


def _block_frame(
    tif: tifffile.TiffFile, offset: int, inside: int, shape: tuple[int, int], dtype: np.dtype
) -> np.ndarray:  # fmt: skip
    """A frame of a block of frames that lie one after the other."""
    stored = dtype.newbyteorder(tif.byteorder)
    length = math.prod(shape) * dtype.itemsize
    tif.filehandle.seek(offset + inside * length)
    return np.frombuffer(tif.filehandle.read(length), stored).reshape(shape)


def _page_frame(page: Any, index: int, shape: tuple[int, int], path: Path, opened: contextlib.ExitStack) -> np.ndarray:
    """A frame that is a page."""
    if page is None:
        raise UnreadableStack(f"{path}: frame {index} is missing; of a series of several files all must lie in one folder")
    handle = page.parent.filehandle
    if handle.closed:  # another file of the series
        handle.open()
        opened.callback(handle.close)
    with_all_bytes(page, f"{path} is damaged at frame {index}")
    frame: np.ndarray = page.asarray()
    return frame.reshape(shape)


def with_all_bytes(page: Any, where: str) -> None:
    """Raise unless as many bytes are stored as a page's size takes: decoders return zeros for what is missing."""
    item, keyframe = np.dtype(page.dtype).itemsize, page.keyframe
    rows, columns = keyframe.imagelength, keyframe.imagewidth
    stored, needed = sum(page.databytecounts), math.prod(keyframe.shape) * item
    if not all(page.databytecounts) or not stored:
        raise UnreadableStack(f"{where}: for a part of its pixels no bytes are stored; copy or save it again")
    if keyframe.compression != 1:
        chunks = math.prod(keyframe.chunked)
        if len(page.dataoffsets) != chunks:
            raise UnreadableStack(
                f"{where}: {len(page.dataoffsets)} of {chunks} strips or tiles are stored; copy or save it again"
            )
    elif keyframe.bitspersample == 8 * item and not keyframe.is_tiled and not needed <= stored < needed + columns * item:
        raise UnreadableStack(
            f"{where}: {stored} bytes are stored, and {rows} x {columns} pixels take {needed}; copy or save it again"
        )
