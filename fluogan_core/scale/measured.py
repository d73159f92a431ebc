"""What is measured of a recording, or of a window of it, and how a plan keeps that: operator, camera, noise, bad pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..calibration.calibrate import Calibration
from ..calibration.camera import Camera
from ..calibration.noise import StackNoise
from ..calibration.row_shift import RowShift
from ..physics.on_field import on_field
from ..physics.psi import Psi
from ..solvers.options import SolverOptions
from ..solvers.weights import Weights, weights_of_field
from .grid import Grid

__all__ = ["Measured", "measured_of", "read_measured"]

Numbers = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Measured:
    """What the tiles of a window are fitted with.

    Attributes
    ----------
    psi : Psi
        Of a small field: :func:`fluogan_core.physics.on_field.on_field` makes that of a tile.
    camera : Camera
    noise : StackNoise
        Of the whole field.
    weights : Weights
        Of the whole field.
    bad_pixels : (M1, M2) bool
    bad_pixel_values : (K,) float32
        Counts above the offset.
    row_shift : RowShift or None
        Of the whole field, where it is moved back.
    """

    psi: Psi
    camera: Camera
    noise: StackNoise
    weights: Weights
    bad_pixels: np.ndarray
    bad_pixel_values: np.ndarray
    row_shift: RowShift | None = None

    @cached_property
    def bad_values(self) -> np.ndarray:
        """Values of the bad pixels where they are, (M1, M2) float32, counts above the offset."""
        values = np.zeros(self.bad_pixels.shape, np.float32)
        values[self.bad_pixels] = self.bad_pixel_values
        return values

    @property
    def numbers(self) -> Numbers:
        """What a text file keeps."""
        psi = {name: getattr(self.psi, name) for name in ("shape", "factor", "binning", "photons_per_emitter")}
        return {
            "psi": psi | {"backend": self.psi.backend.name},
            "camera": dataclasses.asdict(self.camera),
            "noise": dataclasses.asdict(self.noise),
            "weights": dataclasses.asdict(self.weights),
            "row_shift": None if self.row_shift is None else dataclasses.asdict(self.row_shift),
        }

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What a file of arrays keeps."""
        return {"psf": self.psi.psf, "bad_pixels": self.bad_pixels, "bad_pixel_values": self.bad_pixel_values}


def measured_of(calibration: Calibration, options: SolverOptions, grid: Grid, frames: int) -> Measured:
    """Return what tiles are fitted with, of a calibration of the whole field.

    Parameters
    ----------
    calibration : Calibration
    options : SolverOptions
    grid : Grid
    frames : int
        Of a window, those that stand apart too.

    Returns
    -------
    Measured
    """
    c, shape = calibration, grid.shape
    psi = on_field(c.psi, tuple(min(n, core + 2 * grid.halo) for n, core in zip(shape, grid.core_shape)))
    taken = frames - len([number for number in c.left_out if number < frames])
    weights = weights_of_field(psi, c.noise, c.camera, options, frames=taken, shape=shape)
    shifted = c.row_shift if c.row_shift is not None and c.row_shift.applied else None
    return Measured(psi, c.camera, c.noise, weights, c.bad_pixels, c.bad_pixel_values, shifted)


def read_measured(numbers: Numbers, arrays: Mapping[str, np.ndarray]) -> Measured:
    """Return what was kept as :attr:`Measured.numbers` and :attr:`Measured.arrays`.

    Parameters
    ----------
    numbers, arrays : mapping

    Returns
    -------
    Measured
    """
    psi = dict(numbers["psi"])
    return Measured(
        psi=Psi(arrays["psf"], tuple(psi.pop("shape")), psi.pop("factor"), **psi),
        camera=Camera(**numbers["camera"]),
        noise=StackNoise(**numbers["noise"]),
        weights=Weights(**numbers["weights"]),
        bad_pixels=arrays["bad_pixels"],
        bad_pixel_values=arrays["bad_pixel_values"],
        row_shift=None if numbers.get("row_shift") is None else RowShift(**numbers["row_shift"]),
    )
