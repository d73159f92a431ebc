"""The stacks, what is known of each, and the region that is fitted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fluogan_core as fg

__all__ = ["STACKS", "Region", "Source", "choose_region", "load", "operator", "synthetic"]

FACTOR = 4
#: Full width at half maximum of an Airy pattern, in wavelengths over NA.
_WIDTH = 0.51
#: Pixels along each side of the region that is shown, at most.
_SHOWN = 48


@dataclass(frozen=True)
class Source:
    """A recorded stack.

    Attributes
    ----------
    file : str
        Empty for the one that is simulated.
    name : str
    wavelength_nm, na, pixel_size_nm : float
    assumed : str
        Which of these are not stated with the stack.
    """

    file: str
    name: str
    wavelength_nm: float
    na: float = 1.4
    pixel_size_nm: float = 80.0
    assumed: str = ""

    @property
    def fwhm_nm(self) -> float:
        """Of the Gaussian that stands for the PSF."""
        return _WIDTH * self.wavelength_nm / self.na


STACKS = (
    Source("mito_014_525nm_na1.4_80nm.tif", "mitochondria, 525 nm", 525.0),
    Source("cardiomyoblast_510nm_na1.4_80nm.tif", "cardiomyoblast, 510 nm", 510.0),
    Source("mito_dsred_608nm_24ms.tif", "dsRed mitochondria, 608 nm", 608.0, assumed="NA"),
    Source("mito_008_bleaching.tif", "bleaching mitochondria", 525.0, assumed="wavelength, NA and pixel size"),
)


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a stack that is fitted, and a part of that which is shown and judged.

    Attributes
    ----------
    source : Source
    frames : (T, M1, M2), counts
    corner : (row, column)
        Of the fitted part in the field.
    field : (rows, columns)
        Of the whole recording.
    margin : int
        Camera pixels that are fitted but not shown, on each side: what lies outside shines into them.
    """

    source: Source
    frames: np.ndarray
    corner: tuple[int, int]
    field: tuple[int, int]
    margin: int

    @property
    def shown(self) -> tuple[slice, slice]:
        """Camera pixels of the fitted part that are shown."""
        rows, columns = (slice(self.margin, n - self.margin) for n in self.frames.shape[1:])
        return rows, columns

    @property
    def shown_fine(self) -> tuple[slice, slice]:
        """The same on the fine grid."""
        rows, columns = (slice(FACTOR * part.start, FACTOR * part.stop) for part in self.shown)
        return rows, columns

    def psi(self, width: float = 1.0) -> fg.Psi:
        """The operator of the fitted part, one photon per emission."""
        return operator(self.source, self.frames.shape[1:], width=width)


def operator(source: Source, shape: Sequence[int], *, width: float = 1.0, photons_per_emitter: float = 1.0) -> fg.Psi:
    """The Gaussian PSF of a stack on a field."""
    psf = fg.gaussian_psf(width * source.fwhm_nm, source.pixel_size_nm, FACTOR)
    return fg.Psi(psf, (shape[0], shape[1]), FACTOR, photons_per_emitter=photons_per_emitter, backend="numpy")


def choose_region(mean: np.ndarray, margin: int, shown: int = _SHOWN) -> tuple[slice, slice]:
    """Return the part to fit: among those that show ``shown`` pixels a side, or all there are, the one that varies most.

    Parameters
    ----------
    mean : (M1, M2) array
        Mean frame.
    margin : int
        Pixels on each side that are fitted and not shown.
    shown : int

    Raises
    ------
    ValueError
        If the field has no pixel inside the margins.
    """
    if min(mean.shape) <= 2 * margin:
        raise ValueError(f"a field of {mean.shape[0]} x {mean.shape[1]} pixels has none inside margins of {margin}")
    size = [min(n, shown + 2 * margin) for n in mean.shape]
    corners = np.ndindex(mean.shape[0] - size[0] + 1, mean.shape[1] - size[1] + 1)

    def variance(corner: tuple[int, ...]) -> float:
        inside = tuple(slice(at + margin, at + n - margin) for at, n in zip(corner, size))
        return float(mean[inside].var())

    rows, columns = (slice(at, at + n) for at, n in zip(max(corners, key=variance), size))
    return rows, columns


def load(source: Source, folder: Path) -> Region:
    """Read a stack and choose its region."""
    frames = fg.read_stack(folder / source.file).frames
    margin = math.ceil(source.fwhm_nm / source.pixel_size_nm)
    rows, columns = choose_region(np.asarray(frames).mean(axis=0), margin)
    part = np.ascontiguousarray(frames[:, rows, columns])
    return Region(source, part, (rows.start, columns.start), (frames.shape[1], frames.shape[2]), margin)


def synthetic(seed: int = 0) -> Region:
    """A tiny stack with a line, for a quick run."""
    source = Source("", "simulated line", 525.0)
    x = np.zeros((24 * FACTOR, 24 * FACTOR), dtype=np.float32)
    x[20:76, 44:48] = 2.0
    model = fg.ForwardModel(operator(source, (24, 24)), gain=2.0, noise_std=2.0)
    counts = model.sample(x, np.full((24, 24), 5.0, dtype=np.float32), 40, seed) + 100.0
    return Region(source, np.rint(counts).clip(0, 65535).astype(np.uint16), (0, 0), (24, 24), 3)
