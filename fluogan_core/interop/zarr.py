"""Stacks from Zarr and OME-Zarr, and results as OME-Zarr images.

Read are plain Zarr arrays of format 2 and 3, and OME-Zarr (NGFF) 0.4 and 0.5.  Written is OME-Zarr 0.5, which is Zarr format 3.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..backend.checks import instance_of, length_or_time, whole_number
from ..solvers.result import Result
from ..stack import Stack, UnreadableStack
from ._host import needs
from ._units import nanometres, seconds

with needs("zarr"):
    import zarr

__all__ = ["read_stack", "write_result"]

#: Of pixels that are called square.
UNEVEN = 1e-3


def read_stack(
    source: str | os.PathLike[str] | zarr.Array | zarr.Group,
    *,
    frames: slice = slice(None),
    roi: tuple[int, int, int, int] | None = None,
) -> Stack:
    """Read a time series from a Zarr array or an OME-Zarr image.  Only the chosen part is read.

    Parameters
    ----------
    source : path-like, zarr.Array or zarr.Group
        An array (frames, rows, columns), or an OME-Zarr image (0.4 or 0.5), of which the level of full resolution is read.
        Other axes must have the length 1.
    frames : slice
        Frames to take.
    roi : (top, left, rows, columns), optional
        Region of interest, camera pixels.

    Returns
    -------
    Stack
        Pixel size and frame interval where the metadata say them with a unit.

    Raises
    ------
    FileNotFoundError
        If there is no such array or group.
    UnreadableStack
        (A ValueError.)  If it is no image, or no single time series.
    ValueError, TypeError
        If the region lies outside it, or an argument is of another type.

    Examples
    --------
    >>> import numpy as np
    >>> import zarr
    >>> from fluogan_core.interop.zarr import read_stack
    >>> array = zarr.array(np.arange(240, dtype=np.uint16).reshape(10, 4, 6))
    >>> read_stack(array, frames=slice(2, 8), roi=(0, 1, 4, 5)).frames.shape
    (6, 4, 5)
    """
    if not isinstance(frames, slice):
        raise TypeError(f"frames must be a slice, as in slice(0, 100), got {frames!r}")
    if not isinstance(source, str | os.PathLike | zarr.Array | zarr.Group):
        raise TypeError(f"source must be a path, a zarr.Array or a zarr.Group, got {type(source).__name__}")
    node: Any = source
    path = None if isinstance(source, zarr.Array | zarr.Group) else Path(source)
    if path is not None:
        node = _opened(path)
    name = str(path) if path is not None else str(getattr(node, "store_path", "the source"))
    axes, scale = [{"name": "t"}, {"name": "y"}, {"name": "x"}], [1.0, 1.0, 1.0]
    if isinstance(node, zarr.Group):
        node, axes, scale = _full_resolution(node, name)
    if len(axes) != node.ndim:
        raise UnreadableStack(f"{name} must be (frames, rows, columns), got shape {node.shape}")
    names = [axis["name"] for axis in axes]
    long = [n for n, size in zip(names, node.shape) if n not in "yx" and size > 1]
    if len(long) > 1 or not {"y", "x"} <= set(names):
        raise UnreadableStack(f"{name} must hold one time series, but its axes are {dict(zip(names, node.shape))}; choose one")
    time = long[0] if long else next((n for n in names if n not in "yx"), None)  # z is time as often as t
    if time is None:
        raise UnreadableStack(f"{name} is one image of shape {node.shape}; a time series is needed")
    rows, columns = _region(roi, node.shape[names.index("y")], node.shape[names.index("x")], name)
    taken = range(node.shape[names.index(time)])[frames]
    index = {time: frames, "y": rows, "x": columns}
    data = np.asarray(node[tuple(index.get(n, slice(None)) for n in names)])
    kept = [names.index(n) for n in (time, "y", "x")]
    data = data.transpose(*kept, *(axis for axis in range(data.ndim) if axis not in kept)).reshape(
        [data.shape[k] for k in kept]
    )
    sizes = [nanometres(scale[names.index(n)], axes[names.index(n)].get("unit")) for n in ("y", "x")]
    if None not in sizes and not np.isclose(sizes[0], sizes[1], rtol=UNEVEN):  # type: ignore[arg-type]
        raise UnreadableStack(f"the pixels of {name} are not square: {sizes[0]:g} x {sizes[1]:g} nm")
    interval = seconds(scale[names.index(time)], axes[names.index(time)].get("unit"))
    interval = None if interval is None else interval * taken.step
    return Stack(np.ascontiguousarray(data), None if None in sizes else sizes[0], interval, path, roi, taken)


def write_result(result: Result, path: str | os.PathLike[str], *, pixel_size_nm: float | None = None) -> Path:
    """Write the images of a result as OME-Zarr 0.5, each in its true place.

    Parameters
    ----------
    result : Result
    path : path-like
        The folder to be made, ``result.zarr`` say: the group of the images ``emissions``, ``background`` and ``mean``, each
        with one level.
    pixel_size_nm : float, optional
        Camera pixel, nm.  Places are in camera pixels without it.  The centre of the first camera pixel is the origin.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FileExistsError
        If there is something already: nothing is overwritten.
    FileNotFoundError
        If there is no folder to make it in.

    Examples
    --------
    >>> import tempfile, numpy as np, zarr, fluogan_core as fg
    >>> from fluogan_core.interop.zarr import write_result
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, backend="numpy")
    >>> stack = np.random.default_rng(0).poisson(50.0, (20, 16, 16)) + 100
    >>> options = fg.SolverOptions(method="none", warm_steps=3)
    >>> result = fg.reconstruct(stack, psi=psi, camera=fg.Camera(offset=100.0), options=options)
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = write_result(result, folder.name + "/result.zarr", pixel_size_nm=100)
    >>> zarr.open(path, mode="r")["emissions/0"].shape
    (32, 32)
    >>> folder.cleanup()
    """
    instance_of(result, Result, "result")
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} in; make it first")
    if path.exists():
        raise FileExistsError(f"{path} is there already; take another name, or remove it first")
    unit = None if pixel_size_nm is None else "nanometer"
    pixel = 1.0 if pixel_size_nm is None else length_or_time(pixel_size_nm, "pixel_size_nm")
    fine = ([pixel * s for s in result.scale], [pixel * t for t in result.translate])
    camera = ([pixel, pixel], [pixel * place for place in result.corner])
    result = result.on_host()
    # whole or not at all: written beside, then renamed
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        root = zarr.open_group(made, mode="w", zarr_format=3)
        for name, image, place in (
            ("emissions", result.x, fine),
            ("background", result.b, camera),
            ("mean", result.mean, camera),
        ):
            group = root.create_group(name, attributes={"ome": _metadata(name, *place, unit)})
            group.create_array("0", data=np.ascontiguousarray(image), dimension_names=["y", "x"])
        made.chmod(0o755)
        made.rename(path)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return path


def _metadata(name: str, scale: list[float], translation: list[float], unit: str | None) -> dict[str, Any]:
    """The metadata of an image of one level."""
    axes = [{"name": n, "type": "space"} | ({} if unit is None else {"unit": unit}) for n in ("y", "x")]
    places = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]
    level = {"path": "0", "coordinateTransformations": places}
    return {"version": "0.5", "multiscales": [{"name": name, "axes": axes, "datasets": [level]}]}


def _opened(path: Path) -> Any:
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    try:
        return zarr.open(path, mode="r")
    except Exception as error:  # of damaged metadata the parser raises what it raises
        raise UnreadableStack(f"{path} is no Zarr array or group ({' '.join(str(error).split())})") from error


def _full_resolution(group: zarr.Group, name: str) -> tuple[Any, list[dict[str, Any]], list[float]]:
    """The first level of an image, its axes, and their spacing."""
    attributes = dict(group.attrs)
    images: Any = attributes.get("ome", attributes)
    images = images.get("multiscales") if isinstance(images, dict) else None
    if not images:
        arrays = sorted(n for n, _ in group.members())
        raise UnreadableStack(f"{name} is no OME-Zarr image (no multiscales); give one of {arrays} in it")
    try:
        image, level = images[0], images[0]["datasets"][0]
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in image["axes"]]
        scale = np.ones(len(axes))
        for steps in (level, image):  # those of the image apply to all levels
            for step in steps.get("coordinateTransformations", ()):
                scale = scale * np.asarray(step.get("scale", 1.0), dtype=float)
        return group[level["path"]], axes, scale.tolist()
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UnreadableStack(f"{name} has damaged OME-Zarr metadata ({type(error).__name__}: {error})") from error


def _region(roi: Any, height: int, width: int, name: str) -> tuple[slice, slice]:
    if roi is None:
        return slice(None), slice(None)
    if len(roi) != 4:
        raise ValueError(f"roi must be (top, left, rows, columns), got {roi!r}")
    top, left, rows, columns = (whole_number(v, f"roi[{n}]", low=n // 2) for n, v in enumerate(roi))
    if top + rows > height or left + columns > width:
        raise ValueError(f"roi {tuple(roi)} reaches outside {name}, which has {height} rows and {width} columns")
    return slice(top, top + rows), slice(left, left + columns)
