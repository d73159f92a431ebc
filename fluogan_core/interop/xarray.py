"""Stacks from labelled arrays of xarray, and results as labelled data sets."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend.checks import instance_of, length_or_time
from ..solvers.result import Result
from ..stack import Stack
from ._host import needs
from ._units import nanometres, seconds

with needs("xarray"):
    import xarray

__all__ = ["dataset", "stack"]

#: What the three axes of a recording are called.
NAMES = {
    "frames": ("t", "time", "frame", "frames"),
    "rows": ("y", "row", "rows"),
    "columns": ("x", "col", "column", "columns"),
}
#: Steps of a coordinate may differ by this, relative to their mean: rounding of stored numbers.
UNEVEN = 1e-3


def stack(array: xarray.DataArray) -> Stack:
    """Return a recording from a labelled array: axes by name, pixel size and frame interval from the coordinates.

    Parameters
    ----------
    array : xarray.DataArray
        Counts, with the axes frames (``t``, ``time``, ``frame``), rows (``y``, ``row``) and columns (``x``, ``column``) in any
        order; other axes must have the length 1.  Coordinates with the attribute ``units`` ("nm", "um", "s", ...) give pixel
        size and frame interval.

    Returns
    -------
    Stack
        Frames (T, M1, M2); a Dask array is computed.

    Raises
    ------
    TypeError
        If it is no DataArray.
    ValueError
        If an axis is missing, another is longer than 1, or rows and columns are not spaced evenly and alike.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray
    >>> from fluogan_core.interop.xarray import stack
    >>> places = {name: (name, 100.0 * np.arange(8), {"units": "nm"}) for name in ("y", "x")}
    >>> array = xarray.DataArray(np.ones((8, 8, 20)), dims=("y", "x", "t"), coords=places)
    >>> found = stack(array)
    >>> found.frames.shape, found.pixel_size_nm
    ((20, 8, 8), 100.0)
    """
    axes = _axes(array, "array")
    extra = {name: size for name, size in array.sizes.items() if name not in axes.values()}
    if any(size != 1 for size in extra.values()):
        raise ValueError(f"besides frames, rows and columns the array has the axes {extra}; choose one of each with isel()")
    plain = array.isel(dict.fromkeys(extra, 0)).transpose(*(axes[what] for what in ("frames", "rows", "columns")))
    pixels = [_spacing(plain, axes[what]) for what in ("rows", "columns")]
    sizes = [nanometres(step, unit) for step, unit in pixels]
    if None not in sizes and not np.isclose(sizes[0], sizes[1], rtol=UNEVEN):  # type: ignore[arg-type]
        raise ValueError(f"pixels are not square: {sizes[0]:g} nm between rows, {sizes[1]:g} nm between columns")
    step, unit = _spacing(plain, axes["frames"])
    return Stack(plain.to_numpy(), pixel_size_nm=sizes[0] if None not in sizes else None, frame_interval_s=seconds(step, unit))


def dataset(result: Result, like: xarray.DataArray | None = None, *, pixel_size_nm: float | None = None) -> xarray.Dataset:
    """Return a result with the coordinates of its pixels.

    Parameters
    ----------
    result : Result
    like : xarray.DataArray, optional
        The recording: the coordinates of its rows and columns, and their units, place the result.
    pixel_size_nm : float, optional
        Where there is no such recording: the camera pixel, nm.  Coordinates are camera pixels without it.  The centre of the
        first camera pixel is at 0.

    Returns
    -------
    xarray.Dataset
        ``emissions`` on (``y_fine``, ``x_fine``); ``background``, ``mean`` and ``bad_pixels`` on (``y``, ``x``).

    Raises
    ------
    TypeError
        If ``result`` is no Result or ``like`` no DataArray.
    ValueError
        If the recording is of another field than the result, or a pixel size is given beside it.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.interop.xarray import dataset
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, backend="numpy")
    >>> stack = np.random.default_rng(0).poisson(50.0, (20, 16, 16)) + 100
    >>> options = fg.SolverOptions(method="none", warm_steps=3)
    >>> result = fg.reconstruct(stack, psi=psi, camera=fg.Camera(offset=100.0), options=options)
    >>> dataset(result, pixel_size_nm=100).emissions.y_fine[:3].values.tolist()
    [-25.0, 25.0, 75.0]
    """
    instance_of(result, Result, "result")
    if like is not None and pixel_size_nm is not None:
        raise ValueError("like= says where the pixels lie and how large they are: leave pixel_size_nm= out, or like=")
    result, shape = result.on_host(), result.psi.shape
    coordinates: dict[str, Any] = {}
    for axis, (what, name) in enumerate((("rows", "y"), ("columns", "x"))):
        if like is None:
            pixel = 1.0 if pixel_size_nm is None else length_or_time(pixel_size_nm, "pixel_size_nm")
            first = pixel * result.corner[axis]
            unit: object = "pixel" if pixel_size_nm is None else "nm"
        else:
            dim = _axes(like, "like")[what]
            if like.sizes[dim] != shape[axis]:
                raise ValueError(f"the recording has {like.sizes[dim]} {what} but the result has {shape[axis]}")
            pixel, unit = _spacing(like, dim)
            first = float(like[dim][0]) if dim in like.coords else 0.0
        places = first + pixel * np.arange(shape[axis])
        of_field = result.translate[axis] - result.corner[axis]
        fine = first + pixel * (of_field + result.scale[axis] * np.arange(result.psi.fine_shape[axis]))
        attributes = {"units": unit} if unit else {}
        coordinates |= {name: (name, places, attributes), f"{name}_fine": (f"{name}_fine", fine, attributes)}
    images: dict[str, Any] = {
        "emissions": (("y_fine", "x_fine"), result.x, {"long_name": "expected emissions per fine pixel per frame"}),
        "background": (("y", "x"), result.b, {"long_name": "background", "units": "photons per camera pixel per frame"}),
        "mean": (("y", "x"), result.mean, {"long_name": "mean frame", "units": "photons"}),
        "bad_pixels": (("y", "x"), result.bad_pixels),
    }
    about = {"factor": result.psi.factor, "photons_per_emitter": result.psi.photons_per_emitter, "stop": result.stop_reason}
    return xarray.Dataset(images, coords=coordinates, attrs=about)


def _axes(array: xarray.DataArray, name: str) -> dict[str, str]:
    """The array's own names of frames, rows and columns."""
    instance_of(array, xarray.DataArray, name)
    axes = {what: [d for d in array.dims if str(d).lower() in names] for what, names in NAMES.items()}
    for what, found in axes.items():
        if len(found) != 1:
            raise ValueError(
                f"one axis must be the {what}, called one of {', '.join(NAMES[what])}; the axes are "
                f"{', '.join(map(str, array.dims))}: rename() them"
            )
    return {what: found[0] for what, found in axes.items()}


def _spacing(array: xarray.DataArray, dim: str) -> tuple[float, object]:
    """The step of a coordinate and its unit; 1 and None where it has no coordinate."""
    if dim not in array.coords or array.sizes[dim] < 2:
        return 1.0, None
    values, unit = array[dim].values, array[dim].attrs.get("units")
    if values.dtype.kind not in "iufmM":
        raise ValueError(f"the coordinate {dim} must hold numbers or times, got dtype {values.dtype}")
    steps = np.diff(values)
    if steps.dtype.kind == "m":
        steps, unit = steps / np.timedelta64(1, "s"), "s"
    step = float(steps.mean())
    if not (step > 0 and np.ptp(steps) <= UNEVEN * step):
        if dim.lower() in NAMES["frames"]:
            return 1.0, None  # frames may have been left out
        raise ValueError(
            f"the coordinate {dim} must rise in even steps, but they range from {steps.min():g} to {steps.max():g}; one that "
            f"falls rises after sortby({dim!r})"
        )
    return step, unit
