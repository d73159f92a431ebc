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
from .window_pairs import squared_near, squared_pairs

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
        windows = self.moments.windows
        for offset, members in self._groups.items():
            numbers = [number for number in members if number in place]
            for batch in self.moments.batches(numbers):
                mine = weights[backend.asarray(np.array([place[int(number)] for number in batch]))]
                seen, entries = self._seen(mine, offset)
                tops, lefts = (first[batch] for first in self._firsts)
                squared_pairs(seen, entries, tops, lefts, between_nodes)
                (high, wide), rows, columns = windows.sides, windows.rows[batch], windows.columns[batch]
                near_rows = self._near[0][rows[0] : rows[0] + high] - tops[0]
                near_columns = self._near[1][columns[0] : columns[0] + wide] - lefts[0]
                squared_near(seen, near_rows, near_columns, rows, columns, beside_pixels)
                around_rows, around_columns = (np.arange(side) - self.pixel_reach for side in (high, wide))
                own = mine.reshape(len(batch), high, wide, high, wide)
                squared_near(own, around_rows, around_columns, rows, columns, between_pixels)
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

    def _seen(self, weights: Array, offset: tuple[int, int]) -> tuple[Array, np.ndarray | tuple[np.ndarray, np.ndarray]]:
        """W C_p, (B, n1, n2, p1, p2), along one axis after the other where Psi is separable; C_p or its factors on the host."""
        backend, (high, wide) = self.moments.model.backend, self.moments.windows.sides
        places = [first + self.nodes.step * np.arange(count) for first, count in zip(offset, self._counts)]
        shape = (len(weights), high, wide, *self._counts)
        axes = None if backend.cuda is not None else self._flickering.axis_columns(*places)
        if axes is None:
            columns = self._flickering.columns(*places)
            return product(weights, backend.asarray(columns, dtype=np.float32)).reshape(shape), columns.reshape(shape[1:])
        down, across = axes
        along = product(weights.reshape(-1, wide), across).reshape(*weights.shape[:2], high, -1)
        return product(np.ascontiguousarray(down.T), along).reshape(shape), axes

    def slope(self, x: Array, light: Array) -> tuple[Array, Array]:
        """Return the form's gradient at a change of the image (N1, N2) and of the mean frame (M1, M2): one of each."""
        nodes = self.nodes.map.forward(x)
        of_nodes = self._between_nodes.forward(nodes) + self._beside_pixels.adjoint(light)
        of_light = self._beside_pixels.forward(nodes) + self._between_pixels.forward(light)
        return self.nodes.map.adjoint(of_nodes), of_light
