r"""The photons of one more emission, :math:`P(C_i)`, drawn for every fine pixel i: the perturbations of eq. (12).

A Poisson image of mean C_i is a Poisson number of photons, each of which is placed by the polyphase table: one draw and about
kappa placements instead of one draw per pixel of the PSF.  Photons that fall outside the field are lost: the column C_i is cut
at the border.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..backend import random
from ..backend.arrays import backend_of
from ..backend.random import Stage
from ..backend.typing import Array
from .psi import Psi
from .requirements import require

__all__ = ["ColumnTable", "PhotonSets", "PlacementTable", "draw_photons", "placement_of"]


@dataclass(frozen=True)
class PhotonSets:
    """Sets of photons in compressed rows, on one backend: set p holds ``pixels[starts[p] : starts[p + 1]]``.

    Attributes
    ----------
    starts : (P + 1,) int64
    pixels : (starts[-1],) int32
        Flat camera pixels ``m1 * M2 + m2``; a pixel may occur more than once.
    """

    starts: Array
    pixels: Array

    def __len__(self) -> int:
        return len(self.starts) - 1

    def dense(self, shape: tuple[int, int], first: int, last: int) -> Array:
        """Return the sets ``first`` to ``last`` as (last - first, M1, M2) float64 photon counts."""
        xp, size = backend_of(starts=self.starts, pixels=self.pixels).xp, shape[0] * shape[1]
        start, stop = (int(self.starts[p]) for p in (first, last))
        owner = xp.searchsorted(self.starts[first + 1 : last + 1], xp.arange(start, stop), side="right")
        counts = xp.bincount(owner * size + self.pixels[start:stop], minlength=(last - first) * size)
        return counts.reshape(-1, *shape).astype(np.float64)


class PlacementTable:
    """The tables of Psi from which P(C_i) is drawn, on Psi's backend.

    Attributes
    ----------
    backend : Backend
    totals : (L * L,) float64
        Expected photons of one emission per phase, before the border takes its share.
    cumulative : (L * L, K) float64
        Per phase, the distribution function over the K places of the table.
    rows, columns : (K,) int32
        Camera-pixel offset of each place from the emitter's own pixel.
    """

    def __init__(self, psi: Psi) -> None:
        l1, l2, k1, k2 = psi.table.shape
        flat = psi.table.reshape(l1 * l2, k1 * k2)
        totals = flat.sum(axis=1)
        cumulative = np.cumsum(flat, axis=1) / np.maximum(totals, 1e-300)[:, None]
        cumulative[:, -1] = 1.0
        places = np.arange(k1 * k2)
        self.backend = psi.backend
        self.totals, self.cumulative = psi.backend.asarray(totals), psi.backend.asarray(cumulative)
        self.rows = psi.backend.asarray((places // k2 + psi.origin[0]).astype(np.int32))
        self.columns = psi.backend.asarray((places % k2 + psi.origin[1]).astype(np.int32))
        self.shape, self.factor = psi.shape, psi.factor

    def phase_and_pixel(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Phase and camera pixel (row, column) of flat fine pixels."""
        width = self.shape[1] * self.factor
        n1, n2 = indices // width, indices % width
        phase = (n1 % self.factor) * self.factor + n2 % self.factor
        return phase, n1 // self.factor, n2 // self.factor


class ColumnTable:
    """The columns of an operator that has no table for all fine pixels, from which P(C_i) is drawn pixel by pixel.

    Attributes
    ----------
    backend : Backend
    starts : (N + 1,) int64
    rows : (K,) int64
        Camera pixels of the entries of each column.
    means : (K,) float64
        Expected photons there.
    """

    def __init__(self, psi: Psi) -> None:
        columns = psi.matrix.tocsc()  # type: ignore[attr-defined]
        self.backend, self.pixels = psi.backend, psi.shape[0] * psi.shape[1]
        self.starts, self.rows = columns.indptr.astype(np.int64), columns.indices.astype(np.int64)
        self.means = np.maximum(columns.data, 0)  # what is below zero is rounding

    def draw(self, indices: np.ndarray, frames: np.ndarray, seed: int, step: int) -> PhotonSets:
        """Draw a Poisson number of photons for each entry: its counters are the frame and its place among all entries."""
        sizes = np.diff(self.starts)[indices]
        entry = np.repeat(self.starts[indices] - (np.cumsum(sizes) - sizes), sizes) + np.arange(int(sizes.sum()))
        counts, ends = [], []
        for frame in frames:
            drawn = random.poisson(self.means[entry], seed, Stage.COUPLED_COUNT, step, frame, entry).astype(np.int64)
            ends.append(np.add.reduceat(np.append(drawn, 0), np.cumsum(sizes) - sizes) * (sizes > 0))
            counts.append(np.repeat(self.rows[entry], drawn))
        starts = np.concatenate([[0], np.cumsum(np.concatenate(ends))]).astype(np.int64)
        put = self.backend.asarray
        return PhotonSets(put(starts), put(np.concatenate(counts).astype(np.int32)))


def placement_of(psi: Psi) -> PlacementTable | ColumnTable:
    """Return what P(C_i) is drawn from: the table of phases, or the columns of an operator of the user's own.

    Raises
    ------
    TypeError
        If an operator has neither.
    """
    if hasattr(psi, "table"):
        return PlacementTable(psi)
    require(
        psi,
        "estimator of coupled frames",
        "take method='linear', 'photon' or 'direct', or derive it from fluogan_core.Operator",
    )
    return ColumnTable(psi)


def draw_photons(
    table: PlacementTable | ColumnTable, indices: Array, frames: np.ndarray, *, seed: int, step: int
) -> PhotonSets:
    """Draw P(C_i) for the fine pixels ``indices``, for each of ``frames``.

    Parameters
    ----------
    table : PlacementTable or ColumnTable
    indices : (P,) integers, on the host or on the table's backend
        Flat fine pixels ``n1 * N2 + n2``.
    frames : (F,) integers, on the host or on the table's backend
        Frame counters.
    seed, step : int
        The other counters: the photon number of i depends on ``(seed, step, frame, i)``, its k-th place on k as well.

    Returns
    -------
    PhotonSets
        F * P sets, frame by frame, on the table's backend.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.physics.photons import PlacementTable, draw_photons
    >>> psi = fg.Psi(np.ones((3, 3)), (8, 8), 1, photons_per_emitter=20.0, backend="numpy")
    >>> sets = draw_photons(PlacementTable(psi), np.array([9, 36]), np.arange(3), seed=0, step=0)
    >>> len(sets), sets.dense(psi.shape, 0, 6).shape
    (6, (6, 8, 8))
    """
    if isinstance(table, ColumnTable):
        return table.draw(np.asarray(indices, dtype=np.int64), np.asarray(frames, dtype=np.int64), seed, step)
    kernel = table.backend.kernel("draw_photons")
    if kernel is None:
        indices, frames = (np.asarray(a, dtype=np.int64) for a in (indices, frames))
        return _draw_photons(table, indices, frames, seed, step)
    words, stages = random.seed_words(seed), (Stage.COUPLED_COUNT, Stage.COUPLED_PLACE)
    places = (table.totals, table.cumulative, table.rows, table.columns, table.shape, table.factor)
    return PhotonSets(*kernel(*places, indices, frames, *words, *stages, step))


def _draw_photons(table: PlacementTable, indices: np.ndarray, frames: np.ndarray, seed: int, step: int) -> PhotonSets:
    """Draw the same with NumPy; the kernels are tested against it."""
    frame, index = (a.ravel() for a in np.broadcast_arrays(frames[:, None], indices[None, :]))
    phase, top, left = table.phase_and_pixel(index)
    count = random.poisson(table.totals[phase], seed, Stage.COUPLED_COUNT, step, frame, index).astype(np.int64)
    owner = np.repeat(np.arange(len(index)), count)
    ends = np.cumsum(count)
    number = np.arange(len(owner)) - np.repeat(ends - count, count)
    u, _ = random.uniform(seed, Stage.COUPLED_PLACE, step, frame[owner], index[owner], block=number)
    place = np.empty(len(owner), dtype=np.int64)
    for p in np.unique(phase):
        mine = phase[owner] == p
        place[mine] = np.searchsorted(table.cumulative[p], u[mine], side="left")
    row, column = top[owner] + table.rows[place], left[owner] + table.columns[place]
    inside = (row >= 0) & (row < table.shape[0]) & (column >= 0) & (column < table.shape[1])
    starts = np.zeros(len(index) + 1, dtype=np.int64)
    np.cumsum(np.bincount(owner[inside], minlength=len(index)), out=starts[1:])
    pixels = (row[inside] * table.shape[1] + column[inside]).astype(np.int32)
    return PhotonSets(starts, pixels)
