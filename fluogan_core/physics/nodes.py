r"""Columns of Psi on a coarser lattice: :math:`C_i C_i^T \approx \sum_p A_{pi}\, C_p C_p^T` with nodes p.

A column of Psi is as smooth in the place of its emission as the PSF.  Between nodes that stand a little closer than the PSF can
tell apart, pairs of its entries are interpolated.  An image x then acts on covariances through few numbers, :math:`u = A x`.
"""

from __future__ import annotations

import math

import numpy as np

from .local_maps import Separable
from .psi import Psi

__all__ = ["Nodes"]

#: Nodes on either side of a fine pixel that it is interpolated from.
_HALF = 4


class Nodes:
    """A lattice of nodes over the field of a Psi and a margin around it.

    Parameters
    ----------
    psi : Psi
    margin : int
        Fine pixels around the field that are covered too; nothing emits there.
    error : float
        The nodes are as far apart as interpolates pairs of entries within this part of the largest; at 0 every fine pixel is
        a node.

    Attributes
    ----------
    step : int
        Fine pixels from node to node.
    firsts : (int, int)
        Fine pixel of the first node, negative in the margin.
    shape : (P1, P2)
    map : Separable
        A: an image (N1, N2) to the nodes (P1, P2); its adjoint interpolates.
    """

    def __init__(self, psi: Psi, margin: int, error: float) -> None:
        centre = psi.psf.shape[0] // 2, psi.psf.shape[1] // 2
        # of pairs of entries, along either axis through the PSF's middle
        cuts = [cut**2 / cut.max() ** 2 for cut in (psi.psf[:, centre[1]], psi.psf[centre[0]])]
        width = max(float(cut.sum()) for cut in cuts) / math.sqrt(2 * math.pi)
        longest = range(max(1, round(2 * width)), 1, -1)
        fits = (step for step in longest if max(_error(cut, step, width) for cut in cuts) <= error)
        self.step = next(fits, 1)
        axes = [_axis(size, self.step, width, margin) for size in psi.fine_shape]
        self.firsts = (axes[0][1], axes[1][1])
        matrices = [matrix for matrix, _ in axes]
        self.shape = (len(matrices[0]), len(matrices[1]))
        self.map = Separable(matrices[0], matrices[1], psi.backend)


def _weights(offsets: np.ndarray, step: int, width: float) -> np.ndarray:
    """Weights of the eight nodes around places ``offsets`` past one of them, (places, 8): kriging of a Gaussian field."""
    near = step * np.arange(1 - _HALF, _HALF + 1)

    def alike(apart: np.ndarray) -> np.ndarray:
        return np.exp(-0.25 * (apart / width) ** 2)

    known = alike(near[:, None] - near) + 1e-7 * np.eye(len(near))
    return np.linalg.solve(known, alike(near[:, None] - offsets)).T


def _error(line: np.ndarray, step: int, width: float) -> float:
    """Largest error of a line that is read off every ``step`` pixels and interpolated, relative to its maximum."""
    padded = np.pad(line, 2 * _HALF * step)
    weights, worst = _weights(np.arange(step), step, width), 0.0
    places = np.arange(_HALF * step, len(padded) - (_HALF + 1) * step)
    near = step * np.arange(1 - _HALF, _HALF + 1)
    for offset in range(step):
        found = padded[places[:, None] - offset + near] @ weights[offset]
        worst = max(worst, float(np.abs(found - padded[places]).max()))
    return worst / float(line.max())


def _axis(size: int, step: int, width: float, margin: int) -> tuple[np.ndarray, int]:
    """A of one axis, (P, N), and the place of its first node; symmetric in the field where the step allows it."""
    if step == 1:
        return np.pad(np.eye(size), ((margin, margin), (0, 0))), -margin
    inner = -(-(size - 1) // step) + 1
    inner += (size - 1 - (inner - 1) * step) % 2
    outer = max(_HALF, -(-margin // step))
    first = (size - 1 - (inner - 1) * step) // 2 - outer * step
    place = np.arange(size)
    node, offset = np.divmod(place - first, step)
    matrix = np.zeros((inner + 2 * outer, size))
    near = node[:, None] + np.arange(1 - _HALF, _HALF + 1)
    matrix[near, place[:, None]] = _weights(np.arange(step), step, width)[offset]
    return matrix, first
