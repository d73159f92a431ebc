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
from itertools import product

import numpy as np

from ..backend.checks import squarable, whole_number
from ..backend.kinds import any_kind
from ..backend.typing import Array
from ..physics.covariance import tiles
from ..physics.forward import ForwardModel, forward_model
from ..physics.psi import Psi
from ..physics.requirements import require
from ..stack import finite_stack

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


@any_kind("frames", "x", "b", answers=False)
def held_out_score(frames: Array, model: ForwardModel, x: Array, b: Array, *, block: int = 16) -> HeldOutScore:
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
        Expected emissions per fine pixel per frame.
    b : (M1, M2) array
        Background, photons per camera pixel per frame.
    block : int
        Side of a tile, camera pixels.

    Returns
    -------
    HeldOutScore

    Raises
    ------
    TypeError
        If something is a masked array or does not hold real numbers.
    ValueError
        If shapes do not fit, the frames are fewer than two or not finite, x or b are negative, or the predicted variance
        vanishes somewhere.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.metrics import held_out_score
    >>> psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (16, 16), 2, photons_per_emitter=30, backend="numpy")
    >>> model = fg.ForwardModel(psi, gain=2.0, noise_std=1.0)
    >>> x, b = np.full(psi.fine_shape, 0.1), np.full(psi.shape, 5.0)
    >>> frames = model.sample(x, b, 50)
    >>> right, wrong = held_out_score(frames, model, x, b), held_out_score(frames, model, 2 * x, b)
    >>> right.log_density > wrong.log_density
    True
    """
    psi, host = forward_model(model).psi, model.backend.to_host
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
    squarable(y, "frames")
    squarable(predicted, "the mean that x and b predict")
    count = len(y)
    observed = y.mean(axis=0)
    apart = y - observed

    density = np.zeros(count)
    misfit = seen = expected = 0.0
    parts = list(product(tiles(psi.shape[0], block), tiles(psi.shape[1], block)))
    for (rows, columns), flicker in zip(parts, _flicker(psi, x, parts)):
        covariance = model.gain**2 * flicker
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


Tile = tuple[slice, slice]


def _flicker(psi: Psi, x: Array, parts: list[Tile]) -> list[np.ndarray]:
    """Covariance of the light from x within each tile, photons^2, (pixels, pixels): sum over i of Psi_ji Psi_ki x_i.

    One image for each shift between two pixels serves all tiles.  An operator of the user's own is written out.
    """
    if not hasattr(psi, "table"):
        require(psi, "score of unseen frames", "derive the operator from fluogan_core.Operator")
        return _written_out(psi, psi.backend.to_host(x).astype(np.float64), parts)
    x = psi.backend.asarray(x, dtype=np.float64)
    shapes = [tuple(part.stop - part.start for part in tile) for tile in parts]
    covariances = [np.zeros((*shape, *shape)) for shape in shapes]
    # no emission is seen by two pixels that are further apart than a column of Psi is wide
    most = [min(max(sizes), taps) for sizes, taps in zip(zip(*shapes), psi.table.shape[2:])]
    for down, across in product(range(most[0]), range(1 - most[1], most[1])):
        if down == 0 and across < 0:
            continue  # the same pairs as to the right
        shared = psi.backend.to_host(psi.paired_forward(x, (down, across)))
        for (rows, columns), (high, wide), covariance in zip(parts, shapes, covariances):
            r, c = np.arange(high - down)[:, None], np.arange(max(0, -across), wide - max(0, across))[None, :]
            values = shared[rows, columns][r, c]
            covariance[r, c, r + down, c + across] = values
            covariance[r + down, c + across, r, c] = values
    return [covariance.reshape(high * wide, -1) for covariance, (high, wide) in zip(covariances, shapes)]


def _written_out(psi: Psi, x: np.ndarray, parts: list[Tile]) -> list[np.ndarray]:
    """The same from the matrix of an operator."""
    matrix = psi.matrix  # type: ignore[attr-defined]
    number = np.arange(psi.shape[0] * psi.shape[1]).reshape(psi.shape)
    seen = [matrix[number[tile].ravel()] for tile in parts]
    return [((part * x.ravel()) @ part.T).toarray() for part in seen]


def _neighbours(high: int, wide: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat numbers of the pixels of a tile that share an edge, each pair once."""
    number = np.arange(high * wide).reshape(high, wide)
    first = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    second = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    return first, second
