r"""The witness of mean and covariance: of all quadratic critics the best one, in closed form.

Let the critic be a linear function of a frame plus a quadratic one of the difference of two frames, in which the mean
cancels, both measured where frames of moments :math:`\mu_0, \Sigma_0` are white (:math:`W = \Sigma_0^{-1}`):

.. math:: D(y, y') = v^T W^{1/2} y + \tfrac14\,(y - y')^T W^{1/2} M W^{1/2} (y - y').

What it tells recorded frames from simulated ones by, :math:`E[D_{real}] - E[D_{sim}]` less the penalty
:math:`\tfrac12\|v\|^2 + \tfrac14\|M\|_F^2`, is largest at

.. math:: v = -W^{1/2} r, \qquad M = -W^{1/2} E W^{1/2}, \qquad
          \max = \tfrac12\, r^T W r + \tfrac14\,\mathrm{tr}(W E W E), \qquad r = \mu - \bar y,\quad E = \Sigma - S,

with :math:`\bar y, S` the mean and covariance of the recorded frames and

.. math:: \mu = \Psi x + b, \qquad \Sigma = \mathrm{diag}(\mu + \sigma^2) + \varphi\,\Psi\,\mathrm{diag}(x)\,\Psi^T

those of the simulated ones (photons; epsilon left out; :math:`\varphi` is 1 where photons per emission are right and frames
independent, else measured).  No step of Adam and no simulated frame is needed to know it, and eq. (12) has no error: one more
emission adds :math:`C_i` to the mean and :math:`\mathrm{diag}(C_i) + \varphi\,C_i C_i^T` to the covariance.  The largest value
is quadratic in x and b; with :math:`\Sigma_0` the model's own covariance it is the expansion of the Gaussian likelihood of mean
and covariance.  Large fields are cut into tiles, each with a critic of its own.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from .forward import ForwardModel
from .prediction import tiles
from .psi import Psi

__all__ = ["MomentWitness"]

#: Frames whose own mean is taken off before covariances are formed: bleaching and drift are slower.
_CHUNK = 25
#: Variance that every pixel is given when covariances are inverted, in units of the mean pixel's.
_DARK = 1e-3
#: The same of pixels that are not looked at: W is next to nothing there.
_UNKNOWN = 1e9


class MomentWitness:
    """Mean and covariance of recorded frames against those that x and b predict.

    Parameters
    ----------
    frames : (T, M1, M2) float32
        Recorded counts above the offset, on the model's backend; at least two.
    model : ForwardModel
    mean : (M1, M2) float32
        The mean frame, photons.
    trust : float
        Weight of the mean: less than 1 where its frame is noisier than fluctuations explain.
    block : int, optional
        Side of a tile, camera pixels; by default 16, or 8 where the PSF is no product of two lines and pairs cost more.
    like : MomentWitness, optional
        Of other frames and the same model: what it holds of Psi is shared.
    bad_pixels : (M1, M2) bool on the host, optional
        Pixels that are not looked at.

    Attributes
    ----------
    tiles : list
        Each with the covariance of the recorded frames (``recorded``) and W (``weight``), (n, n) for n camera pixels.
    flicker : float32
        :math:`\varphi`, flicker in those frames in units of what psi's photons per emission say; 1 before
        :meth:`measure_flicker`.
    """

    def __init__(
        self,
        frames: Any,
        model: ForwardModel,
        mean: Any,
        *,
        trust: float = 1.0,
        block: int | None = None,
        like: MomentWitness | None = None,
        bad_pixels: np.ndarray | None = None,
    ) -> None:
        self.model, self.mean = model, mean
        self.trust = np.float32(trust)
        xp, psi = model.backend.xp, model.psi
        matrices = psi.axis_matrices
        block = (8 if matrices is None else 16) if block is None else block
        self.read_noise = np.float32((model.noise_std / model.gain) ** 2)
        bounds = np.linspace(0, len(frames), max(1, len(frames) // _CHUNK) + 1).round().astype(int)
        chunks = [frames[start:stop] for start, stop in pairwise(bounds)]
        apart = xp.concatenate([chunk - chunk.mean(axis=0) for chunk in chunks]) / np.float32(model.gain)
        self.freedom = len(frames) - len(chunks)
        self.flicker = np.float32(1.0)
        self.bad_pixels = None if bad_pixels is None or not bad_pixels.any() else xp.asarray(bad_pixels, dtype=np.float64)
        self._rows: _Rows = _Rows(psi) if like is None else like._rows
        self.tiles: list[_Tile] = []
        for rows in tiles(psi.shape[0], block):
            for columns in tiles(psi.shape[1], block):
                tile: _Tile
                tile = _Dense(self._rows, rows, columns) if matrices is None else _Separable(matrices, rows, columns, psi)
                y = apart[:, rows, columns].reshape(len(apart), -1)
                tile.recorded, tile.weight = y.T @ y / np.float32(self.freedom), xp.eye(y.shape[1], dtype=np.float32)
                self.tiles.append(tile)

    def _predicted(self, tile: _Tile, x: Any, b: Any) -> tuple[Any, Any]:
        """Mean (m1, m2) and covariance (n, n) of a tile's photons."""
        light = tile.light(x[tile.fine]) + b[tile.camera]
        covariance = self.flicker * tile.pairs(x[tile.fine])
        on = self.model.backend.xp.arange(len(covariance))
        covariance[on, on] += light.ravel() + self.read_noise
        return light, covariance

    def _precise(self, tile: _Tile, x: Any, b: Any) -> Any:
        """The predicted covariance in float64, fit to be inverted: no pixel is so dark that it outweighs all others."""
        xp = self.model.backend.xp
        covariance = self._predicted(tile, x, b)[1].astype(np.float64)
        on = xp.arange(len(covariance))
        typical = float(xp.diagonal(covariance).mean())
        covariance[on, on] += _DARK * typical + 1e-12
        if self.bad_pixels is not None:
            covariance[on, on] += _UNKNOWN * typical * self.bad_pixels[tile.camera].ravel()
        return covariance

    def _quadratic(self, tile: _Tile, covariance: Any) -> Any:
        """W E W / 2: minus the critic's weights of products of two pixels."""
        return np.float32(0.5) * (tile.weight @ (covariance - tile.recorded) @ tile.weight)

    def believe(self, x: Any, b: Any) -> None:
        """From now on measure where frames of x and b are white: W is the inverse of their covariance."""
        for tile in self.tiles:
            tile.weight = self.model.backend.xp.linalg.inv(self._precise(tile, x, b)).astype(np.float32)

    def measure_flicker(self, x: Any, b: Any) -> None:
        r"""Measure :math:`\varphi`, the flicker of these frames in units of what x predicts, on pairs of different pixels.

        The weighted least squares of S on :math:`F = \Psi\,\mathrm{diag}(x)\,\Psi^T` without their diagonals, which are free of
        shot noise and read noise, as :math:`1 \pm 1` before the frames are looked at.  It takes up what photons per emission
        are misjudged by, and what stretches of a few frames do not show of a flicker that is as slow.
        """
        xp = self.model.backend.xp
        self.flicker = np.float32(1.0)
        shown = predicted = 2.0 / self.freedom  # the variance of shown / predicted is 2 / freedom / predicted
        for tile in self.tiles:
            weight = xp.linalg.inv(self._precise(tile, x, b)).astype(np.float32)
            pairs = tile.pairs(x[tile.fine])
            on = xp.arange(len(pairs))
            pairs[on, on] = 0
            pulled = weight @ pairs @ weight
            predicted += float((pulled * pairs).sum())
            pulled[on, on] = 0
            shown += float((pulled * tile.recorded).sum())
        self.flicker = np.float32(max(shown / predicted, 0.0))

    def flicker_share(self, x: Any) -> float:
        r"""Return the share of :math:`\varphi\,\Psi\mathrm{diag}(x)\Psi^T` in the variance of x's light, shot noise the rest.

        NaN without light.
        """
        flicker = light = 0.0
        for tile in self.tiles:
            flicker += float(self.flicker) * float(tile.pairs(x[tile.fine]).trace())
            light += float(tile.light(x[tile.fine]).sum())
        return flicker / (flicker + light) if light > 0 else math.nan

    def curvature(self, x: Any) -> tuple[Any, float]:
        r"""Return the second derivatives with respect to each pixel of x, (N1, N2), nearly, and the largest of b's.

        Of :math:`\tfrac12 r^T W r + \tfrac14 tr(W E W E)`: :math:`a + \varphi^2 a^2 / 2` with :math:`a = C_i^T W C_i`, the
        shot noise that an emission adds left out, and none below a millionth of the largest.
        """
        xp = self.model.backend.xp
        of_x, of_b = xp.zeros_like(x), 0.0
        for tile in self.tiles:
            own = tile.pull_pairs(tile.weight)
            of_x[tile.fine] += own + np.float32(0.5) * (self.flicker * own) ** 2
            own_b = float(xp.diagonal(tile.weight).max())
            of_b = max(of_b, own_b + 0.5 * own_b**2)
        return xp.maximum(of_x, 1e-6 * of_x.max()), of_b

    def slope(self, x: Any, b: Any) -> tuple[Any, Any]:
        """Return the gradients with respect to x and b of the best critic's value, (N1, N2) and (M1, M2), per frame.

        They are minus those of E[D], by eq. (12) with the best critic's weights.
        """
        xp = self.model.backend.xp
        slope_x, slope_b = xp.zeros_like(x), xp.zeros_like(b)
        for tile in self.tiles:
            light, covariance = self._predicted(tile, x, b)
            quadratic = self._quadratic(tile, covariance)
            linear = self.trust * (tile.weight @ (light - self.mean[tile.camera]).ravel()) + xp.diagonal(quadratic)
            linear = linear.reshape(light.shape)
            slope_x[tile.fine] += tile.pull(linear) + self.flicker * tile.pull_pairs(quadratic)
            slope_b[tile.camera] += linear
        return slope_x, slope_b

    def value(self, x: Any, b: Any, other: MomentWitness | None = None) -> tuple[float, float]:
        r"""Return :math:`r^T W r / 2` and :math:`\mathrm{tr}(W E W E) / 4`, summed over tiles.

        With ``other``, a witness of other frames, the second r and E are theirs: half of what this critic, as it is, tells
        those frames from simulated ones by.  In expectation the second is nought for frames that this critic has not seen,
        where x and b are right; the first is only if ``mean`` is not of those frames too.
        """
        of_mean = of_covariance = 0.0
        other = self if other is None else other
        for tile, theirs in zip(self.tiles, other.tiles):
            light, covariance = self._predicted(tile, x, b)
            off, other_off = ((light - witness.mean[tile.camera]).ravel() for witness in (self, other))
            of_mean += 0.5 * float(self.trust) * float(off @ tile.weight @ other_off)
            pulled, other_pulled = (tile.weight @ (covariance - t.recorded) for t in (tile, theirs))
            of_covariance += 0.25 * float((pulled * other_pulled.T).sum())
        return of_mean, of_covariance

    def log_density(self, frames: Any, x: Any, b: Any) -> Any:
        """Return the Gaussian log density of each frame (S, M1, M2) of photons, per pixel and constants apart, (S,) float64.

        A proper score of x and b where the frames are others than those that they were fitted to.
        """
        xp = self.model.backend.xp
        total = xp.zeros(len(frames))
        for tile in self.tiles:
            off = frames[(slice(None), *tile.camera)] - self._predicted(tile, x, b)[0]
            factor = xp.linalg.cholesky(self._precise(tile, x, b))
            whitened = xp.linalg.solve(factor, off.reshape(len(frames), -1).astype(np.float64).T)
            total -= 0.5 * (whitened * whitened).sum(axis=0) + float(xp.log(xp.diagonal(factor)).sum())
        return total / self.mean.size


class _Tile(Protocol):
    """A rectangle of the camera, the part of the fine grid that it sees, and Psi between them."""

    camera: tuple[slice, slice]
    fine: tuple[slice, slice]
    recorded: Any  #: covariance of the recorded frames, (n, n) for n camera pixels
    weight: Any  #: W, (n, n)

    def light(self, x: Any) -> Any:
        """Psi x, (m1, m2)."""

    def pull(self, y: Any) -> Any:
        """Its adjoint."""

    def pairs(self, x: Any) -> Any:
        """Psi diag(x) Psi^T, (n, n)."""

    def pull_pairs(self, quadratic: Any) -> Any:
        """Its adjoint: C_i^T Q C_i for every fine pixel i."""


class _Separable:
    """Where Psi x = R x C^T: covariances are two small products too, of the lines' own pairs."""

    def __init__(self, matrices: tuple[np.ndarray, np.ndarray], rows: slice, columns: slice, psi: Psi) -> None:
        self.camera = (rows, columns)
        parts, fine = [], []
        for matrix, part in zip(matrices, self.camera):
            seen = np.flatnonzero(matrix[part].any(axis=0))
            fine.append(slice(int(seen[0]), int(seen[-1]) + 1))
            parts.append(matrix[part, fine[-1]])
        self.fine = (fine[0], fine[1])
        asarray = psi.backend.asarray
        self.lines = tuple(asarray(a, dtype=np.float32) for a in parts)
        self.twos = tuple(asarray((a[:, None] * a[None]).reshape(-1, a.shape[1]), dtype=np.float32) for a in parts)
        self.sides = tuple(len(a) for a in parts)
        self.recorded = self.weight = None

    def light(self, x: Any) -> Any:
        return self.lines[0] @ x @ self.lines[1].T

    def pull(self, y: Any) -> Any:
        return self.lines[0].T @ y @ self.lines[1]

    def pairs(self, x: Any) -> Any:
        high, wide = self.sides
        both = (self.twos[0] @ x @ self.twos[1].T).reshape(high, high, wide, wide)
        return both.swapaxes(1, 2).reshape(high * wide, high * wide)

    def pull_pairs(self, quadratic: Any) -> Any:
        high, wide = self.sides
        both = quadratic.reshape(high, wide, high, wide).swapaxes(1, 2).reshape(high * high, wide * wide)
        return self.twos[0].T @ both @ self.twos[1]


class _Dense:
    """Any Psi: its rows of the tile."""

    def __init__(self, operators: _Rows, rows: slice, columns: slice) -> None:
        self.camera = (rows, columns)
        self.rows, self.fine = operators(rows, columns)
        self.sides = (rows.stop - rows.start, columns.stop - columns.start)
        self.seen = tuple(part.stop - part.start for part in self.fine)
        self.recorded = self.weight = None

    def light(self, x: Any) -> Any:
        return (self.rows @ x.ravel()).reshape(self.sides)

    def pull(self, y: Any) -> Any:
        return (self.rows.T @ y.ravel()).reshape(self.seen)

    def pairs(self, x: Any) -> Any:
        return (self.rows * x.ravel()) @ self.rows.T

    def pull_pairs(self, quadratic: Any) -> Any:
        return ((quadratic @ self.rows) * self.rows).sum(axis=0).reshape(self.seen)


class _Rows:
    """Rows of Psi, tile by tile: all tiles that lie alike between the field's borders share one matrix."""

    def __init__(self, psi: Psi) -> None:
        self.psi = psi
        self.taps = psi.table.shape[2:]
        # light comes from the pixels this far away, and from as many behind it as there are taps
        self.firsts = [1 - reach - origin for reach, origin in zip(self.taps, psi.origin)]
        self._made: dict[tuple[tuple[int, int, int], ...], Any] = {}

    def __call__(self, rows: slice, columns: slice) -> tuple[Any, tuple[slice, slice]]:
        """Return the rows of a block of camera pixels, (pixels, fine pixels that reach it), and where those lie."""
        camera, factor = (rows, columns), self.psi.factor
        near = [
            slice(max(part.start + first, 0), min(part.stop + first + reach - 1, size))
            for part, first, reach, size in zip(camera, self.firsts, self.taps, self.psi.shape)
        ]
        lies = tuple((part.start - n.start, part.stop - part.start, n.stop - n.start) for part, n in zip(camera, near))
        if lies not in self._made:
            self._made[lies] = self.psi.backend.asarray(self._matrix(*lies))
        fine = [slice(part.start * factor, part.stop * factor) for part in near]
        return self._made[lies], (fine[0], fine[1])

    def _matrix(self, down: tuple[int, int, int], across: tuple[int, int, int]) -> np.ndarray:
        """Of a block that begins so far into the part that reaches it, has so many pixels a side, and that part so many."""
        (top, high, seen_high), (left, wide, seen_wide) = down, across
        factor = self.psi.factor
        patch = self.psi.table[:, :, ::-1, ::-1].transpose(2, 0, 3, 1)
        matrix = np.zeros((high, wide, seen_high, factor, seen_wide, factor), dtype=np.float32)
        for i, j in np.ndindex(high, wide):
            starts = (top + i + self.firsts[0], left + j + self.firsts[1])
            into = [slice(max(s, 0), min(s + k, size)) for s, k, size in zip(starts, self.taps, (seen_high, seen_wide))]
            # the field's border cuts off the rest of the patch
            of = [slice(part.start - s, part.stop - s) for part, s in zip(into, starts)]
            matrix[i, j, into[0], :, into[1], :] = patch[of[0], :, of[1], :]
        return matrix.reshape(high * wide, -1)
