"""What all tiles and windows of one recording share, in a folder: every process reads it there.

``plan.json`` holds numbers and words, ``plan.npz`` PSFs and bad pixels.  Nothing in it depends on who computes what.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._version import __version__
from ..backend.replace import replace_file
from ..calibration.camera import Camera
from ..calibration.noise import StackNoise
from ..io.files import said
from ..io.lazy import LazyStack, open_lazily
from ..physics.psi import Psi
from ..solvers.flicker import FieldFlicker
from ..solvers.options import SolverOptions
from ..solvers.weights import Weights
from .grid import Grid
from .measured import Measured, read_measured
from .pace import Steps
from .shared import Shared

__all__ = ["LOCK", "NUMBERS", "REPORT", "WARM", "Plan", "load_plan", "windows_of"]

#: The file of numbers: it is written last, so that where it is the plan is whole.
NUMBERS = "plan.json"
_ARRAYS = "plan.npz"
#: The file of what was done, written when the images are whole.
REPORT = "report.json"
#: Held while a plan is made, and while its images are put together.
LOCK = ".plan.lock"
#: Of the layout of a plan.
_LAYOUT = 5
#: Steps of the mean fit in windows after the first, as a part of those of the first.
WARM = 0.4
#: What a damaged file raises that NumPy or a decoder of JSON reads.
_DAMAGED = (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile)


@dataclass(frozen=True, eq=False)
class Plan:
    """What all tiles of a recording share.

    Attributes
    ----------
    folder : Path
        Where the plan, the parts that are done and the images are.
    source : dict
        :meth:`fluogan_core.io.lazy.LazyStack.identity` of the recording.
    request : dict
        What was asked for; a folder is continued with the same only.
    windows : tuple of (start, stop)
        Frames of each window; one window for a still image.
    left_out : tuple of int
        Frames that stand apart.
    grid : Grid
    measured : tuple of Measured
        Of the first window, for all; or of each window.
    options : SolverOptions
    wanted : (M1, M2) bool or None
        Where an image is asked for; tiles elsewhere get their background only.
    budget : int
        Bytes that a tile may take.
    shared : Shared or None
        What one tile has decided for all tiles and windows; None where each decides by itself: there is one only.
    pixel_size_nm : float or None
    trends : tuple of (T, r) float32
        Of bleaching, one for each window (:func:`fluogan_core.physics.bleaching.trend_of`); none where covariances are not
        fitted.
    """

    folder: Path
    source: dict[str, Any]
    request: dict[str, Any]
    windows: tuple[tuple[int, int], ...]
    left_out: tuple[int, ...]
    grid: Grid
    measured: tuple[Measured, ...]
    options: SolverOptions
    wanted: np.ndarray | None
    budget: int
    shared: Shared | None = None
    pixel_size_nm: float | None = None
    trends: tuple[np.ndarray, ...] = ()

    @property
    def moving(self) -> bool:
        """Whether the images are a movie, with an axis of windows."""
        return bool(self.request["window"])

    def of_window(self, window: int) -> Plan:
        """Return the plan with what was measured of one window.

        Parameters
        ----------
        window : int

        Returns
        -------
        Plan
        """
        if len(self.measured) == 1:
            return self
        return dataclasses.replace(self, measured=self.measured[window : window + 1])

    @property
    def psi(self) -> Psi:
        """Of a small field, and the first window."""
        return self.measured[0].psi

    @property
    def camera(self) -> Camera:
        """Of the first window."""
        return self.measured[0].camera

    @property
    def noise(self) -> StackNoise:
        """Of the whole field and the first window."""
        return self.measured[0].noise

    @property
    def weights(self) -> Weights:
        """Of the whole field and the first window."""
        return self.measured[0].weights

    @property
    def warm_steps(self) -> int:
        """Steps of the fit of the mean where it starts from the image of another window."""
        return math.ceil(WARM * self.weights.iterations)

    def frames(self, window: int) -> list[int]:
        """Return the numbers of the frames of a window, less those that stand apart.

        Parameters
        ----------
        window : int

        Returns
        -------
        list of int
        """
        apart = set(self.left_out)
        return [number for number in range(*self.windows[window]) if number not in apart]

    def open(self) -> LazyStack:
        """Open the recording.

        Returns
        -------
        LazyStack

        Raises
        ------
        ValueError
            If it is not the one that the plan was made for, or was changed since.
        """
        stack = open_lazily(self.source["path"], channel=self.source["channel"])
        if stack.identity() != self.source:
            raise ValueError(
                f"{self.source['path']} was changed after {self.folder / NUMBERS} was made: take another output folder"
            )
        return stack

    @property
    def is_finished(self) -> bool:
        """Whether the images are put together: the report is written last."""
        return (self.folder / REPORT).is_file()

    def part(self, tile: int, window: int) -> Path:
        """Return the file of a tile that is done.

        Parameters
        ----------
        tile, window : int

        Returns
        -------
        Path
        """
        return self.folder / "parts" / f"w{window:05d}" / f"t{tile:06d}.npz"

    def warm(self, tile: int, window: int) -> Path:
        """Return the file from which the next window of a tile starts.

        Parameters
        ----------
        tile, window : int

        Returns
        -------
        Path
        """
        return self.folder / "parts" / f"w{window:05d}" / f"t{tile:06d}-warm.npz"

    def load(self, path: Path, name: str) -> np.ndarray:
        """Read an array of a part that is done; a file that is damaged is removed.

        Parameters
        ----------
        path : Path
            :meth:`part` or :meth:`warm`.
        name : str

        Returns
        -------
        ndarray

        Raises
        ------
        RuntimeError
            If the file was damaged.
        """
        try:
            with np.load(path) as kept:
                return np.asarray(kept[name])
        except FileNotFoundError:
            raise
        except _DAMAGED as error:
            path.unlink(missing_ok=True)
            raise RuntimeError(
                f"{path} was damaged ({said(error)}) and has been removed: the same command computes this tile again"
            ) from error

    def is_done(self, tile: int, window: int | None = None) -> bool:
        """Return whether a tile is done: of one window, or of all of them.

        Parameters
        ----------
        tile : int
        window : int, optional

        Returns
        -------
        bool
        """
        if self.is_finished:
            return True
        windows = range(len(self.windows)) if window is None else [window]
        return all(self.part(tile, number).is_file() for number in windows)

    def save(self) -> None:
        """Write the plan, at once."""
        arrays = {f"{name}{window}": a for window, of in enumerate(self.measured) for name, a in of.arrays.items()}
        if self.wanted is not None:
            arrays["wanted"] = self.wanted
        arrays |= {f"trend{window}": trend for window, trend in enumerate(self.trends)}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        replace_file(self.folder / _ARRAYS, lambda handle: handle.write(buffer.getbuffer()))
        numbers = {
            "layout": _LAYOUT,
            "fluogan_core": __version__,
            "source": self.source,
            "request": self.request,
            "windows": self.windows,
            "left_out": self.left_out,
            "grid": {"shape": self.grid.shape, "size": self.grid.size, "halo": self.grid.halo, "blend": self.grid.blend},
            "measured": [of.numbers for of in self.measured],
            "options": dataclasses.asdict(self.options),
            "budget": self.budget,
            "shared": self.shared,
            "pixel_size_nm": self.pixel_size_nm,
        }
        text = json.dumps(numbers, indent=1)
        replace_file(self.folder / NUMBERS, lambda handle: handle.write(text.encode()))


def load_plan(folder: str | os.PathLike[str]) -> Plan:
    """Read the plan of a folder.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    Plan

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it was made by another version of the layout, or is damaged.
    """
    path = Path(folder) / NUMBERS
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: `fluogan reconstruct --tile` or fluogan_core.scale.prepare makes it")
    return _loaded(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _loaded(path: Path, changed: int) -> Plan:
    try:
        found = json.loads(path.read_text())
        layout = found["layout"]
        if layout == _LAYOUT:
            return _plan_of(path, found)
    except _DAMAGED as error:
        raise ValueError(
            f"{path.parent} holds a plan that is damaged ({type(error).__name__}: {said(error)}): remove the folder, or choose "
            "another one"
        ) from error
    raise ValueError(f"{path} has layout {layout}, and this version reads {_LAYOUT}: take another output folder")


def _plan_of(path: Path, found: dict[str, Any]) -> Plan:
    with np.load(path.with_name(_ARRAYS)) as file:
        arrays = dict(file)
    measured = tuple(
        read_measured(numbers, {name: arrays[f"{name}{window}"] for name in ("psf", "bad_pixels", "bad_pixel_values")})
        for window, numbers in enumerate(found["measured"])
    )
    grid = found["grid"]
    return Plan(
        folder=path.parent,
        source=found["source"],
        request=found["request"],
        windows=tuple((start, stop) for start, stop in found["windows"]),
        left_out=tuple(found["left_out"]),
        grid=Grid(tuple(grid["shape"]), grid["size"], grid["halo"], grid["blend"]),
        measured=measured,
        options=SolverOptions(**found["options"]),
        wanted=arrays.get("wanted"),
        budget=found["budget"],
        shared=_shared(found["shared"]),
        pixel_size_nm=found["pixel_size_nm"],
        trends=tuple(arrays[f"trend{window}"] for window in range(len(found["windows"])) if f"trend{window}" in arrays),
    )


def _shared(found: list[Any] | None) -> Shared | None:
    if found is None:
        return None
    method, flicker, steps, pace, share, mean_steps = found
    flicker = None if flicker is None else FieldFlicker(tuple(flicker[0]), *flicker[1:])
    return Shared(
        method, flicker, steps, None if pace is None else tuple(pace), share, tuple(Steps(*one) for one in mean_steps)
    )


def windows_of(frames: int, window: int | None, step: int | None) -> tuple[tuple[int, int], ...]:
    """Return the frames of each window, (start, stop); the whole recording where no window is asked for.

    Parameters
    ----------
    frames : int
        Of the recording.
    window, step : int, optional
        Frames of a window, and from the start of one to that of the next; without a step windows follow each other.

    Returns
    -------
    tuple of (int, int)

    Examples
    --------
    >>> windows_of(1000, 400, 300)
    ((0, 400), (300, 700), (600, 1000))
    """
    if window is None:
        return ((0, frames),)
    step = window if step is None else step
    return tuple((start, start + window) for start in range(0, frames - window + 1, step))
