r"""What x and b predict of frames that nobody has fitted: mean, variance and spatial covariance, in one proper score.

The moments of a frame of eq. (1) have closed forms,

.. math:: \mu = \alpha(\Psi x + b + \epsilon), \qquad
          \Sigma = \alpha^2\big(\mathrm{diag}(\Psi x + b + \epsilon) + \Psi\,\mathrm{diag}(x)\,\Psi^T\big) + \sigma^2 I,

and the score of Dawid and Sebastiani (1999), the log density of a Gaussian with these moments, is largest in expectation
where both are those of the frames, whatever the frames' own law.  A mean that fits with a wrong number of photons per
emission, or a background that passes for light of molecules, is found out by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from ._checks import finite_stack, whole_number
from .forward import ForwardModel
from .psi import Psi

__all__ = ["HeldOutScore", "held_out_score"]


@dataclass(frozen=True)
class HeldOutScore:
    """How well x and b predict frames.

    Attributes
    ----------
    log_density : float
        Mean Gaussian log density per pixel and frame, nats: the score.  Larger is better; only differences mean something.
    mean_misfit : float
        Squared distance of the frames' mean from the predicted one, in units of what the predicted covariance allows a mean
        of as many frames: 1 where the prediction is exact and not fitted to these frames.
    variance_ratio : float
        Temporal variance of the frames over the predicted one, both summed over pixels.
    covariance_ratio : float or None
        The same of the covariances of pixels that share an edge; None where none is predicted.
    frame_log_density : (T,) float64
        The log density of each frame, nats per pixel; ``log_density`` is its mean.  Two predictions of the same frames are
        compared by the differences of these, which vary far less than the densities themselves.
    """

    log_density: float
    mean_misfit: float
    variance_ratio: float
    covariance_ratio: float | None
    frame_log_density: np.ndarray = field(repr=False, compare=False)


def _block_rows(psi: Psi, rows: slice, columns: slice) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Rows of Psi that belong to a block of camera pixels, (pixels, fine pixels that reach it), and where those lie."""
    reach = [taps + abs(first) for taps, first in zip(psi.table.shape[2:], psi.origin)]
    near = [
        slice(max(part.start - far, 0), min(part.stop + far, size))
        for part, far, size in zip((rows, columns), reach, psi.shape)
    ]
    local = Psi(
        psi.psf,
        (near[0].stop - near[0].start, near[1].stop - near[1].start),
        psi.factor,
        binning=psi.binning,
        photons_per_emitter=psi.photons_per_emitter,
        backend="numpy",
    )
    high, wide = rows.stop - rows.start, columns.stop - columns.start
    units = np.zeros((high * wide, *local.shape))
    at = np.unravel_index(np.arange(high * wide), (high, wide))
    units[np.arange(high * wide), at[0] + rows.start - near[0].start, at[1] + columns.start - near[1].start] = 1.0
    fine = tuple(slice(part.start * psi.factor, part.stop * psi.factor) for part in near)
    return local.adjoint(units).reshape(high * wide, -1), (fine[0], fine[1])


def held_out_score(frames: Any, model: ForwardModel, x: Any, b: Any, *, block: int = 16) -> HeldOutScore:
    """Score frames under the moments that x and b predict.

    On fields larger than ``block`` the density is that of tiles of ``block`` x ``block`` pixels, each on its own (a composite
    likelihood): still proper, and linear in the field's size.  Computed on the host.

    Parameters
    ----------
    frames : (T, M1, M2) array
        Counts above the offset, of frames that x and b were not fitted to.
    model : ForwardModel
        The operator with its photons per emission, gain and noise.
    x : (N1, N2) array
    b : (M1, M2) array
    block : int
        Side of a tile, camera pixels.

    Returns
    -------
    HeldOutScore

    Raises
    ------
    ValueError
        If shapes do not fit, the frames are fewer than two or not finite, x or b are negative, or the predicted variance
        vanishes somewhere.
    """
    psi, host = model.psi, model.backend.to_host
    finite_stack(frames, "frames")
    if tuple(frames.shape[1:]) != psi.shape:
        raise ValueError(f"frames must be (T, {psi.shape[0]}, {psi.shape[1]}), psi's field, got {tuple(frames.shape)}")
    block = whole_number(block, "block", low=2)
    x, b = model.check(x, b)
    predicted = host(model.mean(x, b)).astype(np.float64)
    variance = host(model.variance(x, b)).astype(np.float64)
    if not variance.min() > 0:
        raise ValueError("the model predicts no variance in some pixel: give it a background or a noise_std above 0")
    y = host(frames).astype(np.float64)
    light = host(x).astype(np.float64)
    count = len(y)
    observed = y.mean(axis=0)
    apart = y - observed

    density = np.zeros(count)
    misfit = seen = expected = 0.0
    for rows in _tiles(psi.shape[0], block):
        for columns in _tiles(psi.shape[1], block):
            operator, fine = _block_rows(psi, rows, columns)
            covariance = model.gain**2 * (operator * light[fine].ravel()) @ operator.T
            pairs = _neighbours(rows.stop - rows.start, columns.stop - columns.start)
            expected += float(covariance[pairs].sum())
            part = apart[:, rows, columns].reshape(count, -1)
            moments = part.T @ part / (count - 1)
            seen += float(moments[pairs].sum())
            np.fill_diagonal(covariance, variance[rows, columns].ravel())
            factor = np.linalg.cholesky(covariance)
            whitened = np.linalg.solve(factor, (y[:, rows, columns] - predicted[rows, columns]).reshape(count, -1).T)
            off = whitened.mean(axis=1)
            misfit += float(off @ off) * count
            density -= 0.5 * (whitened**2).sum(axis=0) + float(np.log(np.diag(factor)).sum())
    pixels = predicted.size
    density = density / pixels - 0.5 * math.log(2 * math.pi)
    return HeldOutScore(
        float(density.mean()),
        misfit / pixels,
        float((apart**2).sum() / (count - 1) / variance.sum()),
        seen / expected if expected > 0 else None,
        density,
    )


def _tiles(size: int, block: int) -> list[slice]:
    """Tiles of at most ``block``, of nearly equal size."""
    edges = np.linspace(0, size, -(-size // block) + 1).round().astype(int)
    return [slice(int(a), int(z)) for a, z in pairwise(edges)]


def _neighbours(high: int, wide: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat numbers of the pixels of a tile that share an edge, each pair once."""
    number = np.arange(high * wide).reshape(high, wide)
    first = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    second = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    return first, second
