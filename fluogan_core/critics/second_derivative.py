r"""The second derivative of a quadratic critic's value, as local maps of images.

With :math:`\Sigma` linear in x and in the light :math:`\mu = \Psi x + b`, the covariance term of the value has, in each window,

.. math:: \tfrac14 \mathrm{tr}(W D W D), \qquad D = \mathrm{diag}(\mu) + \varphi \sum_i x_i C_i C_i^T,

and is a quadratic form with the entries :math:`\tfrac12 \varphi^2 (C_i^T W C_k)^2` between fine pixels,
:math:`\tfrac12 \varphi (W C_i)_j^2` between a fine and a camera pixel, and :math:`\tfrac12 W_{jk}^2` between camera pixels.
All are 0 or more, and fall off with the distance as fast as the PSF: summed over the windows they are three stencils.  Fine
pixels are read off the nodes of :class:`fluogan_core.physics.nodes.Nodes`.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ..backend.products import product
from ..backend.typing import Array
from ..physics.covariance import WindowCovariances
from ..physics.local_maps import Stencil
from ..physics.nodes import Nodes
from ..physics.psf import FWHM_PER_SIGMA, psf_sigma
from .moments import WindowMoments
from .sparse_second_derivative import SparseSecondDerivative

__all__ = ["SecondDerivative", "second_derivative_of"]


def second_derivative_of(moments: WindowMoments) -> SecondDerivative | SparseSecondDerivative:
    """Return the second derivative by stencils, or by sparse matrices where Psi is an operator of the user's own."""
    if isinstance(moments.flickering, WindowCovariances):
        return SecondDerivative(moments, moments.flickering)
    return SparseSecondDerivative(moments, moments.flickering)


class SecondDerivative:
    """The quadratic form of the covariance term under given weights.

    Parameters
    ----------
    moments : WindowMoments
    flickering : WindowCovariances
        That of the moments.
    """

    def __init__(self, moments: WindowMoments, flickering: WindowCovariances) -> None:
        self.moments, self._flickering = moments, flickering
        psi, tuning = moments.model.psi, moments.tuning
        factor, starts_of = psi.factor, (moments.windows.rows, moments.windows.columns)
        reach = tuning.reach_fwhm * FWHM_PER_SIGMA * psf_sigma(psi.psf)
        self._beside = int(np.ceil(tuning.beside * psf_sigma(psi.psf)))
        probe = Nodes(psi, self._beside, tuning.node_error)
        self.reach = max(1, int(np.ceil(reach / probe.step)))
        self.nodes = Nodes(psi, self._beside + (self.reach + 1) * probe.step, tuning.node_error)
        self.pixel_reach = max(1, int(np.ceil(reach / factor)))
        step = self.nodes.step
        self._firsts: list[np.ndarray] = []
        self._counts: list[int] = []
        self._groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for starts, side, first in zip(
            (moments.windows.rows, moments.windows.columns), moments.windows.sides, self.nodes.firsts
        ):
            self._firsts.append(-((first + self._beside - starts * factor) // step))
            self._counts.append(-(-(side * factor + 2 * self._beside) // step) + 1)
        # relative to their windows nodes stand in few ways, each with its own columns of Psi
        offsets = [
            node * step + first - starts * factor for node, first, starts in zip(self._firsts, self.nodes.firsts, starts_of)
        ]
        for number, (down, across) in enumerate(zip(*offsets)):
            self._groups[int(down), int(across)].append(number)
        centres = [np.arange(size) * factor + (factor - 1) / 2 for size in psi.shape]
        self._near = [
            np.rint((centre - first) / step).astype(np.int64) - self.reach for centre, first in zip(centres, self.nodes.firsts)
        ]

    def update(self, weights: Array, chosen: np.ndarray, flicker: float) -> None:
        """Form the stencils for the weights W of some windows, (B, n, n)."""
        backend, reach = self.moments.model.backend, self.reach
        xp, shape, nodes = backend.xp, self.moments.model.psi.shape, self.nodes.shape
        taps = 2 * reach + 1
        between_nodes = xp.zeros((nodes[0], reach + 1, taps, nodes[1]), dtype=np.float32)
        beside_pixels = xp.zeros((shape[0], taps, taps, shape[1]), dtype=np.float32)
        around = 2 * self.pixel_reach + 1
        between_pixels = xp.zeros((shape[0], around, around, shape[1]), dtype=np.float32)
        place = {int(number): row for row, number in enumerate(chosen)}
        for offset, members in self._groups.items():
            numbers = [number for number in members if number in place]
            for batch in self.moments.batches(numbers):
                mine = weights[backend.asarray(np.array([place[int(number)] for number in batch]))]
                seen = self._add_nodes(mine, batch, offset, between_nodes)
                self._add_pixels(seen, batch, self._near, self._firsts, self._counts, beside_pixels)
                sides = self.moments.windows.sides
                corners = [self.moments.windows.rows, self.moments.windows.columns]
                own = [np.arange(size) - self.pixel_reach for size in shape]
                squares = (mine * mine).reshape(len(batch), *sides, *sides)
                self._add_pixels(squares, batch, own, corners, list(sides), between_pixels)
        whole = xp.zeros((nodes[0], taps, taps, nodes[1]), dtype=np.float32)
        whole[:, reach:] = between_nodes
        for down in range(1, reach + 1):  # a symmetric matrix: the other half
            for across in range(-reach, reach + 1):
                entry = between_nodes[: nodes[0] - down, down, reach + across]
                to = slice(max(0, across), nodes[1] + min(0, across))
                source = slice(max(0, -across), nodes[1] + min(0, -across))
                whole[down:, reach - down, reach - across, to] = entry[:, source]
        down_to, across_to = (np.arange(size) - reach for size in nodes)
        scale = np.float32(0.5 * flicker)
        self._between_nodes = Stencil(scale * np.float32(flicker) * whole, down_to, across_to, nodes, backend)
        self._beside_pixels = Stencil(scale * beside_pixels, self._near[0], self._near[1], nodes, backend)
        own = [np.arange(size) - self.pixel_reach for size in shape]
        self._between_pixels = Stencil(np.float32(0.5) * between_pixels, own[0], own[1], shape, backend)

    def _add_nodes(self, weights: Array, batch: np.ndarray, offset: tuple[int, int], between_nodes: Array) -> Array:
        """Add (C_p^T W C_q)^2 of windows whose nodes stand alike; return (W C_p)^2, (B, n1, n2, p1, p2)."""
        backend, reach, (high, wide) = self.moments.model.backend, self.reach, self.moments.windows.sides
        xp, step, taps, (down, across) = backend.xp, self.nodes.step, 2 * self.reach + 1, self._counts
        places = [first + step * np.arange(count) for first, count in zip(offset, self._counts)]
        host = self._flickering.columns(*places)
        columns = backend.asarray(host, dtype=np.float32)
        seen = self._seen(weights, columns, places)
        lines = columns.reshape(high * wide, down, across).transpose(1, 2, 0)
        # the PSF is smaller than a window
        within = [_not_zero(part, wide) for part in host.reshape(high * wide, down, across).transpose(1, 2, 0)]
        found = xp.zeros((len(batch), down, reach + 1, taps, across), dtype=np.float32)
        for row in range(down):
            last = min(row + reach + 1, down)
            beyond = seen[:, within[row], row:last].reshape(len(batch), -1, (last - row) * across)
            pairs = product(lines[row, :, within[row]], beyond).reshape(len(batch), across, last - row, across)
            padded = xp.zeros((*pairs.shape[:3], across + 2 * reach), dtype=np.float32)
            xp.multiply(pairs, pairs, out=padded[..., reach:-reach])
            strides = padded.strides
            banded = xp.lib.stride_tricks.as_strided(
                padded,
                (len(batch), last - row, taps, across),
                (strides[0], strides[2], strides[3], strides[1] + strides[3]),
            )
            found[:, row, : last - row] = banded
        for number, entries in zip(batch, found):
            top, left = (int(first[number]) for first in self._firsts)
            between_nodes[top : top + down, :, :, left : left + across] += entries
        return (seen * seen).reshape(len(batch), high, wide, down, across)

    def _seen(self, weights: Array, columns: Array, places: list[np.ndarray]) -> Array:
        """W C_p, (B, n, p1, p2): along one axis after the other where Psi is separable."""
        high, wide = self.moments.windows.sides
        shape = (len(weights), high * wide, *(len(place) for place in places))
        axes = self._flickering.axis_columns(*places)
        if axes is None or self.moments.model.backend.cuda is not None:
            return product(weights, columns).reshape(shape)
        down, across = axes
        along = product(weights.reshape(-1, wide), across).reshape(*shape[:2], high, -1)
        return product(np.ascontiguousarray(down.T), along)

    def _add_pixels(
        self,
        squares: Array,
        batch: np.ndarray,
        near: list[np.ndarray],
        firsts: list[np.ndarray],
        counts: list[int],
        total: Array,
    ) -> None:
        """Add what lies near each camera pixel, (B, n1, n2, q1, q2) of windows that are placed alike, to its stencil.

        ``near`` is the first place that counts for each row and column of the camera, ``firsts`` that of each window.
        """
        backend, windows = self.moments.model.backend, self.moments.windows
        (high, wide), taps = windows.sides, total.shape[1:3]
        starts_of = (windows.rows, windows.columns)
        which = [
            first_of[int(starts[batch[0]]) + np.arange(side)][:, None] - int(first[batch[0]]) + np.arange(tap)
            for first_of, starts, side, first, tap in zip(near, starts_of, (high, wide), firsts, taps)
        ]
        inside = [(index >= 0) & (index < count) for index, count in zip(which, counts)]
        rows, columns = (backend.asarray(np.where(known, index, 0)) for known, index in zip(inside, which))
        known = backend.asarray(inside[0][:, None, :, None] & inside[1][None, :, None, :])
        i, j = (backend.asarray(np.arange(side)) for side in (high, wide))
        rows, columns = rows[:, None, :, None], columns[None, :, None, :]
        found = squares[:, i[:, None, None, None], j[None, :, None, None], rows, columns] * known
        for number, entries in zip(batch, found.transpose(0, 1, 3, 4, 2)):
            top, left = (int(starts[number]) for starts in starts_of)
            total[top : top + high, :, :, left : left + wide] += entries

    def slope(self, x: Array, light: Array) -> tuple[Array, Array]:
        """Return the form's gradient at a change of the image (N1, N2) and of the mean frame (M1, M2): one of each."""
        nodes = self.nodes.map.forward(x)
        of_nodes = self._between_nodes.forward(nodes) + self._beside_pixels.adjoint(light)
        of_light = self._beside_pixels.forward(nodes) + self._between_pixels.forward(light)
        return self.nodes.map.adjoint(of_nodes), of_light


def _not_zero(line: np.ndarray, wide: int) -> slice:
    """The pixels of a window, rows of ``wide`` of them, in which columns of Psi, (columns, n), are not 0: whole rows."""
    rows = np.flatnonzero(line.any(axis=0)) // wide
    return slice(int(rows[0]) * wide, (int(rows[-1]) + 1) * wide) if len(rows) else slice(0, wide)
