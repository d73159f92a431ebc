"""Recordings that are read piece by piece: a part of the frames and of the field at a time, never the whole.

A piece is copied into memory.  Nothing is mapped, so that the memory of a process is what it holds, and every process opens the
file for itself.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..backend.checks import whole_number
from ..backend.typing import ArrayLike
from ..stack import UnreadableStack
from .formats import as_path, existing, refuse_other_formats
from .frames import Part, Recording, load_frames, readable
from .metadata import PLAUSIBLE_PIXEL_NM, frame_interval_s, length_in_nm, pixel_size_nm
from .npy import mapped_npy, require_numbers
from .tiff import find_recording, of_intensities

__all__ = ["LazyStack", "SeveralChannels", "open_lazily", "spool"]

Window = tuple[slice, slice]


class SeveralChannels(UnreadableStack):
    """A recording has several channels, and none was chosen.

    Attributes
    ----------
    count : int
    """

    def __init__(self, path: object, count: int) -> None:
        super().__init__(f"{path} holds {count} channels: choose one, counted from 0 (channel=, --channel)")
        self.count = count


@dataclass(frozen=True, eq=False)
class LazyStack:
    """A recording of which only what is asked for is read.

    Attributes
    ----------
    path : Path
        The file or folder.
    channel : int or None
        Which one, of several.
    shape : (T, M1, M2)
    dtype : numpy.dtype
        Native byte order.
    load : callable
        Called with a range of frames and a window of rows and columns, two slices.
    pixel_size_nm : float or None
        Camera pixel in the object plane, nm, where the file says.
    frame_interval_s : float or None
        Seconds from one frame to the next, where the file says.
    notes : tuple of str
        What a user should know of how the frames were found.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> folder = tempfile.TemporaryDirectory()
    >>> np.save(folder.name + "/stack.npy", np.arange(240, dtype=np.uint16).reshape(10, 4, 6))
    >>> stack = fg.io.open_lazily(folder.name + "/stack.npy")
    >>> stack.shape, stack.read(slice(0, 3), slice(1, 3), slice(0, 6)).shape
    ((10, 4, 6), (3, 2, 6))
    >>> folder.cleanup()
    """

    path: Path
    channel: int | None
    shape: tuple[int, int, int]
    dtype: np.dtype
    load: Callable[[range, Window], np.ndarray]
    pixel_size_nm: float | None = None
    frame_interval_s: float | None = None
    notes: tuple[str, ...] = ()

    def read(self, frames: slice | range = slice(None), rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
        """Return a part of the recording as a copy in memory.

        Parameters
        ----------
        frames : slice or range
        rows, columns : slice
            Of step 1.

        Returns
        -------
        (frames, rows, columns) ndarray

        Raises
        ------
        UnreadableStack
            (A ValueError.)  If the file is damaged there, or holds NaN or infinite values.
        """
        chosen = frames if isinstance(frames, range) else range(self.shape[0])[frames]
        (top, bottom, _), (left, right, _) = (s.indices(n) for s, n in zip((rows, columns), self.shape[1:]))
        data = self.load(chosen, (slice(top, bottom), slice(left, right)))
        if data.dtype.kind == "f":
            for number, frame in zip(chosen, data):
                if not np.isfinite(frame).all():
                    raise UnreadableStack(f"{self.path} holds NaN or infinite values in frame {number}: replace them")
        return data

    def identity(self) -> dict[str, Any]:
        """Return what must be the same where work on it is continued: path, channel, shape, size and time of the last change.

        Returns
        -------
        dict
        """
        described = self.path / "zarr.json" if (self.path / "zarr.json").is_file() else self.path
        found = described.stat()
        return {
            "path": os.fspath(self.path.absolute()),
            "channel": self.channel,
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "bytes": found.st_size if described.is_file() else 0,
            "changed": found.st_mtime_ns if described.is_file() else 0,
        }


def open_lazily(path: str | os.PathLike[str], *, channel: int | None = None) -> LazyStack:
    """Open a recording of which parts are read when they are asked for.

    TIFF and OME-TIFF (of several files too), Zarr and OME-Zarr, and ``.npy``; other formats (ND2, CZI, LIF) where bioio and its
    reader for them are installed.  Uncompressed TIFF and Zarr are read in pieces.  Of a compressed TIFF each piece takes whole
    pages.

    Parameters
    ----------
    path : path-like
        File, or folder of a Zarr array or OME-Zarr image.
    channel : int, optional
        Which channel, counted from 0, where there are several.

    Returns
    -------
    LazyStack

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError, ValueError, TypeError
        If the path is none, or the system does not let it be opened.
    UnreadableStack
        (A ValueError.)  If it cannot be read, or holds no single time series (of the channel).
    ImportError
        If a package is needed that is not installed.
    """
    path = existing(as_path(path))
    if channel is not None:
        channel = whole_number(channel, "channel", low=0)
    if path.is_dir():
        return _of_zarr(path, channel)
    if path.suffix.lower() == ".npy":
        return _of_npy(path, channel)
    if path.suffix.lower() in (".tif", ".tiff", ".btf", ".tf8", ".stk", ".lsm"):
        return _of_tiff(path, channel)
    return _of_bioio(path, channel)


def spool(frames: ArrayLike, path: str | os.PathLike[str], *, block: int = 16, piece: int = 256) -> Path:
    """Write an array of frames (NumPy, Dask, Zarr, anything that slices) to a Zarr array, some frames at a time.

    Parameters
    ----------
    frames : (T, M1, M2) array
    path : path-like
        Folder of the new Zarr array.
    block : int
        Frames that are in memory at a time.
    piece : int
        Side of a chunk, pixels.

    Returns
    -------
    Path
    """
    zarr = _zarr("to keep frames on disk")
    if not hasattr(frames, "shape") or not hasattr(frames, "dtype"):
        raise TypeError(f"frames must be a path or an array (frames, rows, columns), got {type(frames).__name__}")
    _three_axes(tuple(frames.shape), path)
    count, rows, columns = (int(n) for n in frames.shape)
    kept = zarr.create_array(
        os.fspath(path),
        shape=(count, rows, columns),
        chunks=(min(block, count), min(piece, rows), min(piece, columns)),
        dtype=np.dtype(frames.dtype),
        dimension_names=("t", "y", "x"),
        overwrite=True,
    )
    for first in range(0, count, block):
        kept[first : first + block] = np.asarray(frames[first : first + block])  # type: ignore[index]
    return Path(path)


# -- formats -----------------------------------------------------------------------------------------------------------


def _three_axes(shape: tuple[int, ...], path: object) -> None:
    if len(shape) != 3 or shape[0] < 2:
        raise UnreadableStack(f"{path} must hold (frames, rows, columns) with two frames or more, got shape {shape}")


def _of_npy(path: Path, channel: int | None) -> LazyStack:
    mapped = mapped_npy(path)
    require_numbers(mapped.dtype, path)
    axes = {2: "yx", 3: "tyx", 4: "tcyx"}.get(mapped.ndim, "")
    index, shape = _series_of(axes, mapped.shape, channel, path)

    def load(chosen: range, window: Window) -> np.ndarray:
        data = mapped_npy(path)
        data = data[tuple(index.get(a, slice(None)) for a in axes)]
        return np.array(data[_as_slice(chosen), window[0], window[1]], dtype=mapped.dtype.newbyteorder("="))

    return LazyStack(path, channel, shape, mapped.dtype.newbyteorder("="), load)


def _as_slice(chosen: range) -> slice:
    return slice(chosen.start, chosen.stop, chosen.step)


def _series_of(
    axes: str, sizes: tuple[int, ...], channel: int | None, path: Path
) -> tuple[dict[str, int], tuple[int, int, int]]:
    """Which index to take of the axes besides time, rows and columns, and (T, M1, M2)."""
    size = dict(zip(axes, (int(n) for n in sizes)))
    if not {"t", "y", "x"} <= set(size):
        raise UnreadableStack(f"{path} must have axes of time, rows and columns, got {axes or len(sizes)} of sizes {sizes}")
    others = {axis: n for axis, n in size.items() if axis not in "tyx"}
    channels = others.pop("c", 1)
    if channel is None and channels > 1:
        raise SeveralChannels(path, channels)
    if (channel or 0) >= channels:
        raise UnreadableStack(f"{path} has no channel {channel}: it holds {channels}, counted from 0")
    if long := {axis: n for axis, n in others.items() if n > 1}:
        raise UnreadableStack(f"{path} has more than one time series ({long}); save one plane and position alone")
    index = {axis: 0 for axis in others} | ({"c": channel or 0} if "c" in size else {})
    shape = (size["t"], size["y"], size["x"])
    _three_axes(shape, path)
    return index, shape


def _of_tiff(path: Path, channel: int | None) -> LazyStack:
    refuse_other_formats(path)
    with readable(path):
        tif = tifffile.TiffFile(path)
    with tif, readable(path):
        recording = _recording(tif, path, channel)
        stated, interval = pixel_size_nm(tif, recording.name), frame_interval_s(tif, recording.name)
        order = tif.byteorder
    starts = [0, *itertools.accumulate(part.frames for part in recording.parts)]
    stored = recording.dtype.newbyteorder(order)
    rows, columns = recording.shape[1:]

    def load(chosen: range, window: Window) -> np.ndarray:
        if any(part.offset is None for part in recording.parts):
            with readable(path), tifffile.TiffFile(path) as opened:
                return load_frames(opened, _recording(opened, path, channel), chosen, window, path)
        down, across = window
        data = np.empty((len(chosen), down.stop - down.start, across.stop - across.start), recording.dtype)
        number, part = 0, recording.parts[0]
        with readable(path), path.open("rb") as handle:
            for place, frame in enumerate(chosen):
                while frame >= starts[number + 1]:
                    number += 1
                    part = recording.parts[number]
                first = (frame - starts[number]) * rows + down.start
                handle.seek((part.offset or 0) + first * columns * stored.itemsize)
                band = np.fromfile(handle, stored, data.shape[1] * columns)
                data[place] = band.reshape(data.shape[1], columns)[:, across]
        return data

    return LazyStack(path, channel, recording.shape, recording.dtype, load, stated, interval, recording.notes)


def _recording(tif: tifffile.TiffFile, path: Path, channel: int | None) -> Recording:
    """The frames of a file; of one channel, where it has several."""
    sizes = dict(zip(tif.series[0].axes, tif.series[0].shape))
    several = "C" in sizes
    if channel and not several:
        raise UnreadableStack(f"{path} has no channel {channel}: it holds one, counted from 0")
    # ImageJ stacks say C where T was meant: of one axis besides rows and columns, it is that of time
    if channel is None and several and sizes["C"] > 1 and any(n > 1 for axis, n in sizes.items() if axis not in "CYXS"):
        raise SeveralChannels(path, sizes["C"])
    return find_recording(tif, path) if channel is None or not several else _one_channel(tif, path, channel)


def _one_channel(tif: tifffile.TiffFile, path: Path, channel: int) -> Recording:
    """The frames of one channel of the first series of a file."""
    series, notes = tif.series[0], of_intensities(tif.pages.first, path)
    axes = series.axes.lower()
    if "t" not in axes and "z" in axes and dict(zip(axes, series.shape))["z"] > 1:
        axes = axes.replace("z", "t")  # ImageJ stacks say Z as often as T
    index, shape = _series_of(axes, series.shape, channel, path)
    leading = [axis for axis in axes if axis not in "yx"]
    sizes = [n for axis, n in zip(axes, series.shape) if axis not in "yx"]
    parts, size = [], shape[1] * shape[2] * np.dtype(series.dtype).itemsize
    for t in range(shape[0]):
        number = int(np.ravel_multi_index([t if a == "t" else index[a] for a in leading], sizes))
        offset = None if series.dataoffset is None else series.dataoffset + number * size
        page = series.pages[number] if len(series.pages) > number else None
        parts.append(Part(1, [page], offset, functools.partial(series.asarray, key=number)))
    return Recording(parts, shape, np.dtype(series.dtype).newbyteorder("="), tuple(notes), series.name)


def _zarr(what: str) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise ImportError(f"zarr is needed {what}: pip install 'fluogan-core[scale]'") from error
    return zarr


def _of_zarr(path: Path, channel: int | None) -> LazyStack:
    zarr = _zarr(f"to read {path}")
    try:
        found = zarr.open(os.fspath(path), mode="r")
    except Exception as error:  # zarr has many
        raise UnreadableStack(f"{path} is a folder but no Zarr array or OME-Zarr image ({error})") from error
    attributes: dict[str, Any] = dict(found.attrs)
    images = attributes.get("ome", attributes).get("multiscales")
    pixel = None
    if isinstance(found, zarr.Array):
        array: Any = found
        named = getattr(array.metadata, "dimension_names", None)
        usual = {3: "tyx", 4: "tcyx", 5: "tczyx"}.get(array.ndim, "")
        axes = "".join(str(n or "?")[0].lower() for n in named) if named else usual
    elif images:
        level = images[0]["datasets"][0]
        array = found[level["path"]]
        listed = images[0].get("axes") or [{"name": name} for name in "tczyx"[-array.ndim :]]
        axes = "".join(axis["name"] if isinstance(axis, dict) else axis for axis in listed)
        scales = [t["scale"] for t in level.get("coordinateTransformations", []) if t.get("type") == "scale"]
        unit = next((a.get("unit") for a in listed if isinstance(a, dict) and a["name"] == "x"), None)
        pixel = length_in_nm(scales[0][axes.index("x")], unit) if scales and unit else None
    else:
        raise UnreadableStack(f"{path} is a Zarr group without an OME-Zarr image; give the array in it")
    index, shape = _series_of(axes, array.shape, channel, path)
    require_numbers(array.dtype, path)
    native = np.dtype(array.dtype).newbyteorder("=")

    def load(chosen: range, window: Window) -> np.ndarray:
        parts = {"t": _as_slice(chosen), "y": window[0], "x": window[1]} | index
        data = np.asarray(array[tuple(parts[axis] for axis in axes)], dtype=native)
        kept = [axis for axis in axes if axis not in index]
        return np.ascontiguousarray(data.transpose([kept.index(axis) for axis in "tyx"]))

    return LazyStack(path, channel, shape, native, load, pixel)


def _of_bioio(path: Path, channel: int | None) -> LazyStack:
    try:
        from bioio import BioImage
    except ImportError as error:
        raise ImportError(
            f"{path.name} is neither TIFF, Zarr nor .npy: to read it install bioio and its reader for {path.suffix} files "
            "(pip install bioio bioio-nd2, bioio-czi, bioio-lif, ...)"
        ) from error
    try:
        image = BioImage(path)
        sizes = tuple(int(image.dims[axis][0]) for axis in "TCZYX")
    except Exception as error:  # each reader has its own
        raise UnreadableStack(f"bioio cannot read {path} ({type(error).__name__}: {' '.join(str(error).split())})") from error
    index, shape = _series_of("tczyx", sizes, channel, path)
    data = image.get_image_dask_data("TYX", C=index["c"], Z=0)
    native = np.dtype(data.dtype).newbyteorder("=")
    across = image.physical_pixel_sizes.X
    low, high = PLAUSIBLE_PIXEL_NM
    pixel = 1e3 * float(across) if across and low <= 1e3 * across <= high else None

    def load(chosen: range, window: Window) -> np.ndarray:
        return np.asarray(data[_as_slice(chosen), window[0], window[1]].compute(scheduler="synchronous"), dtype=native)

    return LazyStack(path, channel, shape, native, load, pixel)
