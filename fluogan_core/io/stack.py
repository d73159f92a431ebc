"""Files: a TIFF stack in, ``x.tif``, ``b.tif``, ``report.json`` and ``figure.png`` out.

What is read is checked before anything is computed; what is written is put in place at once (see ``_report.py``).
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..backend.checks import whole_number
from ..stack import Stack
from .metadata import frame_interval_s, pixel_size_nm

__all__ = ["read_image", "read_stack"]


log = logging.getLogger("fluogan_core")


# -- reading -----------------------------------------------------------------------------------------------------------


def read_stack(
    path: str | os.PathLike[str],
    *,
    roi: tuple[int, int, int, int] | None = None,
    frames: slice | tuple[int | None, int | None] | None = None,
) -> Stack:
    """Read a time series from a TIFF file (plain multi-page, ImageJ or OME).

    The one axis longer than 1 besides rows and columns is taken as time, whatever the file calls it: ImageJ stacks say
    Z as often as T.  Uncompressed files are memory-mapped; of others, only the chosen frames are decoded.

    Parameters
    ----------
    path : path-like
        The file.
    roi : (top, left, rows, columns), optional
        Region of interest, camera pixels; the part is copied into memory.
    frames : slice or (start, stop), optional
        Frames to take, counted from 0, ``stop`` excluded.

    Returns
    -------
    Stack

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a TIFF, is cut short, holds no single time series (one frame, channels, RGB), NaN or infinite
        values, or if the region or the frames lie outside it.
    TypeError
        If it holds complex or truth values, or if the region or the frames are not whole numbers.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():
        raise ValueError(f"{path} is not a file; give the TIFF stack itself")
    try:
        with tifffile.TiffFile(path) as tif:
            series, shape = _time_series(tif, path)
            window = _window(roi, shape[1:], path)
            chosen = _frame_range(frames, shape[0], path)
            data = _load(tif, series, shape, chosen, window, path, whole_field=roi is None)
            stated_nm, interval = pixel_size_nm(tif), frame_interval_s(tif)
    except (tifffile.TiffFileError, struct.error, RuntimeError) as error:
        raise ValueError(
            f"{path} is not a TIFF file, or a damaged one ({error}); copy it again, or save the stack as TIFF"
        ) from error
    _all_finite(data, path)
    if interval is not None and isinstance(frames, slice) and frames.step:
        interval *= frames.step
    log.info("read %s: %d frames of %d x %d pixels, %s", path, *data.shape, data.dtype)
    region = None if roi is None else tuple(int(v) for v in roi)
    return Stack(data, stated_nm, interval, path, region, chosen)  # type: ignore[arg-type]


def read_image(path: str | os.PathLike[str]) -> tuple[np.ndarray, float | None]:
    """Read one image (a measured PSF) from a TIFF or .npy file; return it and its pixel in nm where the file says.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is neither a TIFF nor a .npy file, or not one grey image.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    stated_nm = None
    try:
        if path.suffix.lower() == ".npy":
            image = np.load(path, allow_pickle=False)
        else:
            with tifffile.TiffFile(path) as tif:
                image, stated_nm = tif.asarray(), pixel_size_nm(tif)
    except (tifffile.TiffFileError, struct.error, RuntimeError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a readable TIFF or .npy image ({error})") from error
    if image.ndim != 2 or image.dtype.kind not in "iuf":
        raise ValueError(f"{path} must hold one grey image, got shape {image.shape} of {image.dtype}")
    return image, stated_nm


def _time_series(tif: tifffile.TiffFile, path: Path) -> tuple[Any, tuple[int, int, int]]:
    """The series to read and its (frames, rows, columns)."""
    if not len(tif.pages) or not len(tif.series):
        raise ValueError(f"{path} is a TIFF file without any image")
    _whole_chain(tif, path)
    several = [series for series in tif.series if _extent(series)[0] > 1]
    if len(several) > 1:
        sizes = "; ".join(" x ".join(map(str, series.shape)) for series in several)
        raise ValueError(f"{path} holds {len(several)} image series ({sizes}); save the one to reconstruct as a stack alone")
    series = several[0] if several else tif.series[0]
    others = {axis: size for axis, size in zip(series.axes, series.shape) if size > 1 and axis not in "YX"}
    if "S" in others:
        raise ValueError(
            f"{path} holds colour ({others['S']} samples per pixel, as in RGB), but one intensity per pixel is needed: "
            "split the channels and save the fluorescence channel as a grey stack"
        )
    if len(others) > 1:
        found = ", ".join(f"{axis} = {size}" for axis, size in others.items())
        raise ValueError(
            f"{path} has more than one axis besides rows and columns ({found}), but one time series is needed: keep "
            "one channel and one plane (in ImageJ: Image > Duplicate...) and save that as a stack"
        )
    if "C" in others:
        log.warning("%s calls its %d images channels: they are taken as frames, one after the other", path, others["C"])
    frames, rows, columns = _extent(series)
    if frames < 2:
        raise ValueError(f"{path} holds one frame ({rows} x {columns}); fluctuations need a stack of at least two, better 500")
    if series.dtype.kind not in "iuf":
        raise TypeError(f"{path} holds values of type {series.dtype}; integers or real floats are needed")
    return series, (frames, rows, columns)


def _extent(series: Any) -> tuple[int, int, int]:
    """(frames, rows, columns) of a series, frames being the product of all other axes."""
    sizes = dict(zip(series.axes, series.shape))
    rows, columns = int(sizes.get("Y", 1)), int(sizes.get("X", 1))
    return math.prod(series.shape) // max(1, rows * columns), rows, columns


def _whole_chain(tif: tifffile.TiffFile, path: Path) -> None:
    """Raise if the file ends before its last page: TIFF readers otherwise return fewer frames without a word."""
    layout, handle = tif.tiff, tif.filehandle
    last = tif.pages[-1]
    handle.seek(last.offset)
    (tags,) = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))
    handle.seek(last.offset + layout.tagnosize + tags * layout.tagsize)
    (following,) = struct.unpack(layout.offsetformat, handle.read(layout.offsetsize))
    series = tif.series[0]
    ends = [offset + count for offset, count in zip(last.dataoffsets, last.databytecounts)]
    if series.dataoffset is not None:
        ends.append(series.dataoffset + series.nbytes)
    promised = (tif.imagej_metadata or {}).get("images", 1)
    if following or max(ends, default=0) > handle.size or promised > _extent(series)[0]:
        raise ValueError(
            f"{path} is cut short: it ends before its last frame ({handle.size} bytes are there); copy or save it again"
        )


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


def _load(
    tif: tifffile.TiffFile, series: Any, shape: tuple[int, int, int], chosen: range, window: tuple[slice, slice],
    path: Path, *, whole_field: bool,
) -> np.ndarray:  # fmt: skip
    """The chosen frames and region, native byte order."""
    native = series.dtype.newbyteorder("=")
    if series.dataoffset is not None:
        stored = native.newbyteorder(tif.byteorder)
        mapped = np.memmap(path, dtype=stored, mode="r", offset=series.dataoffset, shape=shape)
        part = mapped[chosen.start : chosen.stop : chosen.step, window[0], window[1]]
        return part if whole_field and stored.isnative else np.array(part, dtype=native)
    pages = series.pages
    try:
        if len(pages) != shape[0]:  # several frames in one page
            whole = series.asarray().reshape(shape)
            return whole[chosen.start : chosen.stop : chosen.step, window[0], window[1]].copy()
        sizes = [part.stop - part.start for part in window]
        data = np.empty((len(chosen), *sizes), dtype=native)
        with contextlib.ExitStack() as opened:
            for place, index in enumerate(chosen):
                if pages[index] is None:
                    raise ValueError(f"frame {index} is missing; of a series of several files all must lie in one folder")
                handle = pages[index].parent.filehandle
                if handle.closed:  # another file of the series
                    handle.open()
                    opened.callback(handle.close)
                data[place] = pages[index].asarray().reshape(shape[1:])[window]
        return data
    except ValueError as error:
        if "imagecodecs" in str(error):
            raise ValueError(
                f"{path} is compressed ({series.keyframe.compression.name}) in a way that needs the imagecodecs "
                "package: install it (pip install imagecodecs) or save the stack uncompressed"
            ) from error
        raise ValueError(f"{path} is damaged: {error}") from error


def _all_finite(data: np.ndarray, path: Path) -> None:
    """Raise if a float stack holds NaN or infinities; frame by frame, so that a memory map is not copied."""
    if data.dtype.kind != "f":
        return
    for index, frame in enumerate(data):
        bad = frame.size - int(np.isfinite(frame).sum())
        if bad:
            raise ValueError(
                f"{path} holds NaN or infinite values (first in frame {index} of those read, {bad} pixels): replace "
                "them, or cut them out with roi or frames"
            )


# -- writing -----------------------------------------------------------------------------------------------------------
