"""Files in: a stack from a TIFF file, an image of a PSF from a TIFF or .npy file.

What is read is checked before anything is computed.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..backend.checks import whole_number
from ..stack import Stack, UnreadableStack
from .formats import as_path, file_at, refuse_other_formats
from .frames import load_frames, readable, with_all_bytes
from .metadata import frame_interval_s, pixel_size_nm
from .tiff import find_recording

__all__ = ["read_image", "read_stack"]


log = logging.getLogger("fluogan_core")


def read_stack(
    path: str | os.PathLike[str],
    *,
    roi: tuple[int, int, int, int] | None = None,
    frames: slice | tuple[int | None, int | None] | None = None,
) -> Stack:
    """Read a time series from a TIFF file (plain multi-page, ImageJ, OME or Micro-Manager).

    The one axis longer than 1 besides rows and columns is taken as time, whatever the file calls it: ImageJ stacks say
    Z as often as T.  Pages or blocks of equal size that were appended are read as one stack.  The frames are copied into
    memory; of a part of a stack only the chosen frames are read.

    Parameters
    ----------
    path : path-like
        The file.
    roi : (top, left, rows, columns), optional
        Region of interest, camera pixels.
    frames : slice or (start, stop), optional
        Frames to take, counted from 0, ``stop`` excluded.

    Returns
    -------
    Stack
        Frames in the file's dtype, native byte order.  ``notes`` says what was done with a file that is not as its header
        promises; the same goes to the log as warnings.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If the system does not let it be opened.
    UnreadableStack
        (A ValueError.)  If it is not a TIFF, is damaged, cut short or changed while it is read, holds no single time series
        of integers or floats (one frame, channels, RGB), counts of inverted sign, or NaN or infinite values.  Where one
        frame is the cause, the message has its number.
    ValueError, TypeError
        If the path is none of a file (an address, a folder), or if the region or the frames lie outside it, or are not
        whole numbers.
    MemoryError
        If the chosen part is larger than the memory.

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile, fluogan_core as fg
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = folder.name + "/stack.tif"
    >>> tifffile.imwrite(path, np.arange(240, dtype=np.uint16).reshape(10, 4, 6), photometric="minisblack")
    >>> stack = fg.read_stack(path, roi=(0, 1, 4, 5), frames=(2, 8))
    >>> stack.frames.shape, stack.taken, stack.notes
    ((6, 4, 5), range(2, 8), ())
    >>> folder.cleanup()
    """
    path = file_at(as_path(path))
    before = _identity(path)
    refuse_other_formats(path)  # what the system refuses stays an OSError
    with readable(path):
        tif = tifffile.TiffFile(path)
    with tif:
        with readable(path):
            recording = find_recording(tif, path)
            stated_nm, interval = pixel_size_nm(tif, recording.name), frame_interval_s(tif, recording.name)
        window = _window(roi, recording.shape[1:], path)
        chosen = _frame_range(frames, recording.shape[0], path)
        data = load_frames(tif, recording, chosen, window, path)
    if _identity(path) != before:
        raise UnreadableStack(f"{path} was changed while it was read; wait until it is written, and read it again")
    _all_finite(data, chosen, path)
    if interval is not None and isinstance(frames, slice) and frames.step:
        interval *= frames.step
    log.info("read %s: %d frames of %d x %d pixels, %s", path, *data.shape, data.dtype)
    for note in recording.notes:
        log.warning("%s: %s", path, note)
    region = None if roi is None else tuple(int(v) for v in roi)
    return Stack(data, stated_nm, interval, path, region, chosen, recording.notes)  # type: ignore[arg-type]


def _identity(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is rewritten, cut or replaced."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def read_image(path: str | os.PathLike[str]) -> tuple[np.ndarray, float | None]:
    """Read one image (a measured PSF) from a TIFF or .npy file.

    Parameters
    ----------
    path : path-like
        The file; a name that ends in ``.npy`` is read by NumPy, without pickles.

    Returns
    -------
    image : (rows, columns) ndarray
        In the file's dtype.
    pixel_size_nm : float or None
        Its pixel, nm, where the file says.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If the system does not let it be opened.
    ValueError, TypeError
        If the path is none of a file.
    UnreadableStack
        (A ValueError.)  If it is neither a TIFF nor a .npy file, is damaged, or is not one grey image.
    """
    path = file_at(as_path(path))
    stated_nm = None
    if path.suffix.lower() == ".npy":
        try:
            image = np.load(path, allow_pickle=False)
        except Exception as error:  # of a damaged header NumPy raises what its parser raises
            raise UnreadableStack(f"{path} is not a readable .npy image ({' '.join(str(error).split())})") from error
    else:
        refuse_other_formats(path)
        with readable(path), tifffile.TiffFile(path) as tif:
            with_all_bytes(tif.pages.first, f"{path} is damaged")
            image, stated_nm = tif.asarray(), pixel_size_nm(tif)
    if image.ndim != 2 or image.dtype.kind not in "iuf":
        raise UnreadableStack(f"{path} must hold one grey image, got shape {image.shape} of {image.dtype}")
    return image, stated_nm


def _window(roi: Any, shape: tuple[int, ...], path: Path) -> tuple[slice, slice]:
    """The rows and columns to take."""
    if roi is None:
        return slice(0, shape[0]), slice(0, shape[1])
    try:
        values = tuple(roi)
    except TypeError:
        values = ()
    if len(values) != 4:
        raise ValueError(f"roi must be (top, left, rows, columns), got {roi!r}")
    top, left, rows, columns = (
        whole_number(value, f"roi {name}", low=low)
        for value, name, low in zip(values, ("top", "left", "rows", "columns"), (0, 0, 1, 1))
    )
    if top + rows > shape[0] or left + columns > shape[1]:
        raise ValueError(
            f"roi (top {top}, left {left}, {rows} rows, {columns} columns) reaches outside {path}, which has {shape[0]} "
            f"rows and {shape[1]} columns"
        )
    return slice(top, top + rows), slice(left, left + columns)


def _frame_range(frames: Any, count: int, path: Path) -> range:
    """The frames to take; unlike a slice, what lies outside is refused."""
    if frames is None:
        return range(count)
    if not isinstance(frames, slice):
        try:
            start, stop = frames
        except (TypeError, ValueError):
            raise ValueError(f"frames must be a slice or (start, stop), got {frames!r}") from None
        frames = slice(start, stop)
    bounds = [None if v is None else whole_number(v, "frames") for v in (frames.start, frames.stop)]
    step = None if frames.step is None else whole_number(frames.step, "frames step", low=1)
    if any(v is not None and not -count <= v <= count for v in bounds):
        raise ValueError(f"frames {_spelled(frames)} reach outside {path}, which has {count} frames")
    chosen = range(*slice(bounds[0], bounds[1], step).indices(count))
    if len(chosen) < 2:
        raise ValueError(
            f"frames {_spelled(frames)} leave {len(chosen)} of the {count} frames of {path}; at least 2 are needed"
        )
    return chosen


def _spelled(frames: slice) -> str:
    parts = [frames.start, frames.stop] + ([] if frames.step is None else [frames.step])
    return ":".join("" if part is None else str(part) for part in parts)


def _all_finite(data: np.ndarray, chosen: range, path: Path) -> None:
    """Raise if a float stack holds NaN or infinities; frame by frame, so that no mask as large as the stack is made."""
    if data.dtype.kind != "f":
        return
    for index, frame in zip(chosen, data):
        bad = frame.size - int(np.isfinite(frame).sum())
        if bad:
            raise UnreadableStack(
                f"{path} holds NaN or infinite values (first in frame {index}, {bad} pixels): replace them, or cut them out "
                "with roi or frames"
            )
