"""Layers of napari: results in their true place, and a reader of result folders and stacks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..backend.checks import instance_of, real_number
from ..io.stack import read_image, read_stack
from ..physics.grid import placement
from ..solvers.result import Result
from ..stack import UnreadableStack

__all__ = ["get_reader", "layers"]

#: Data, keyword arguments, kind: what napari makes a layer of.
LayerData: TypeAlias = tuple[np.ndarray, dict[str, Any], str]


def layers(
    result: Result, *, scale: Sequence[float] = (1.0, 1.0), translate: Sequence[float] = (0.0, 0.0), name: str = "result"
) -> list[LayerData]:
    """Return the images of a result as layers that lie over the recording.

    Parameters
    ----------
    result : Result
    scale, translate : (rows, columns)
        Those of the layer of the recording, so that the images lie over it; for a layer of three axes, its last two numbers.
        Of a region (``roi``), those of the layer of the whole recording.
    name : str
        The layers' names begin with it.

    Returns
    -------
    list of (data, arguments, "image")
        x and b; ``viewer.add_layer(napari.layers.Layer.create(*layer))`` adds one.

    Raises
    ------
    TypeError
        If ``result`` is no Result, or ``scale`` or ``translate`` are no numbers.
    ValueError
        If ``scale`` or ``translate`` are not two numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.interop.napari import layers
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, backend="numpy")
    >>> stack = np.random.default_rng(0).poisson(50.0, (20, 16, 16)) + 100
    >>> options = fg.SolverOptions(method="none", warm_steps=3)
    >>> result = fg.reconstruct(stack, psi=psi, camera=fg.Camera(offset=100.0), options=options)
    >>> (x, x_arguments, _), (b, b_arguments, _) = layers(result, scale=(100, 100), name="cell")
    >>> x_arguments["scale"], x_arguments["translate"], x_arguments["name"]
    ((50.0, 50.0), (-25.0, -25.0), 'cell x')
    """
    instance_of(result, Result, "result")
    result = result.on_host()
    scale, translate = _two(scale, "scale"), _two(translate, "translate")
    return _placed(result.x, result.b, result.scale, result.translate, result.corner, scale, translate, name)


def _two(numbers: Sequence[float], name: str) -> tuple[float, float]:
    """The numbers of rows and columns; three, of a layer of frames, would be taken for those of frames and rows."""
    if np.shape(numbers) != (2,):
        raise ValueError(f"{name} must be two numbers, of rows and columns, got {numbers}; of a layer take {name}[-2:]")
    return real_number(numbers[0], f"{name}[0]"), real_number(numbers[1], f"{name}[1]")


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """Return what reads this path: a folder of :func:`fluogan_core.write_result`, or a TIFF stack.

    Parameters
    ----------
    path : str or list of str
        As napari hands it.

    Returns
    -------
    callable or None
        None for everything else, so that napari asks other readers.
    """
    if isinstance(path, list):
        return None
    if (Path(path) / "report.json").is_file() and (Path(path) / "x.tif").is_file():
        return _read_result
    return _read_stack if path.lower().endswith((".tif", ".tiff")) else None


def _read_result(path: str | list[str]) -> list[LayerData]:
    """The images of a result folder, in nm where the report says the pixel size."""
    folder = Path(str(path))
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        operator, pixel = report["operator"], report["input"]["pixel_size_nm"]
        spacing, first = placement(int(operator["factor"]), operator["binning"])
        corner = [int(place) for place in (report["input"].get("roi") or (0, 0))[:2]]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableStack(f"{folder / 'report.json'} is no report of a reconstruction ({error})") from error
    x, b = (read_image(folder / file)[0] for file in ("x.tif", "b.tif"))
    made = _placed(
        x, b, (spacing,) * 2, [place + first for place in corner], corner, (pixel or 1.0,) * 2, (0.0, 0.0), folder.name
    )
    for _, arguments, _ in made:
        arguments["units"] = ("nm" if pixel else "pixel",) * 2
    return made


def _read_stack(path: str | list[str]) -> list[LayerData]:
    """The frames of a TIFF stack, in nm where the file says the pixel size."""
    stack = read_stack(str(path))
    pixel, unit = (1.0, "pixel") if stack.pixel_size_nm is None else (stack.pixel_size_nm, "nm")
    arguments = {"name": Path(str(path)).stem, "scale": (1.0, pixel, pixel), "units": ("pixel", unit, unit)}
    return [(stack.frames, arguments | {"metadata": {"pixel_size_nm": stack.pixel_size_nm}}, "image")]


def _placed(
    x: np.ndarray,
    b: np.ndarray,
    fine_scale: Sequence[float],
    fine_translate: Sequence[float],
    corner: Sequence[float],
    scale: Sequence[float],
    translate: Sequence[float],
    name: str,
) -> list[LayerData]:
    scale, translate = tuple(map(float, scale)), tuple(map(float, translate))
    fine = {
        "scale": tuple(s * f for s, f in zip(scale, fine_scale)),
        "translate": tuple(t + s * f for t, s, f in zip(translate, scale, fine_translate)),
    }
    of_field = tuple(t + s * c for t, s, c in zip(translate, scale, corner))
    return [
        (x, {"name": f"{name} x", "colormap": "inferno", **fine}, "image"),
        (b, {"name": f"{name} b", "scale": scale, "translate": of_field, "visible": False}, "image"),
    ]
