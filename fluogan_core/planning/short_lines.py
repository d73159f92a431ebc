r"""Frames of eq. (1) of two short lines on a small field: their moments, exactly, and what these tell of the image.

:mod:`fluogan_core.planning.information` needs no field: its lines are long, and it works frequency by frequency.  Emissions
can be drawn only on a field.  Here the lines are a few widths of the PSF long, with dark rows about their ends.  Read noise is
taken for so many photons of background: it has the same variance, and frames are then exactly those whose likelihood the chains
use.

With :math:`m_i` the photons that an emission at the fine pixel i sends to the camera pixels and :math:`\lambda_i` the expected
emissions, two directions a and c of the image have, by mean and covariance,

.. math:: B_{ac} = \mu_a^T \Sigma^{-1} \mu_c + \tfrac{s}{2} \mathrm{tr}(\Sigma^{-1} \Sigma_a \Sigma^{-1} \Sigma_c), \qquad
   \Sigma_a = \sum_i a_i m_i m_i^T + \mathrm{diag}(\mu_a),

with s = D / (D + K) as there.  In one direction both statistics and their scatter are weighed as there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..physics.forward import ForwardModel
from ..physics.psf import cut_psf
from ..physics.psi import Psi
from .information import Model, Optics, Sight
from .scores import SampledScores, columns_of, sampled_scores

__all__ = ["Image", "ShortLines", "Told"]

#: Length of the lines, and the dark rows beyond each end, in widths of the PSF.
_LENGTH, _MARGIN = 2.0, 1.0
#: Least background, photons per pixel: a rate of 0 has no logarithm.
_LEAST_BACKGROUND = 1e-6


@dataclass(frozen=True, eq=False)
class Image:
    """An image that does not change along the lines: light across them, and a background.

    Attributes
    ----------
    light : (..., F) float64
        Photons per fine pixel, by fine columns.
    background : (..., C) float64
        Photons per camera pixel, by camera columns.
    """

    light: np.ndarray
    background: np.ndarray

    def __sub__(self, other: Image) -> Image:
        return Image(self.light - other.light, self.background - other.background)

    def middle(self, other: Image) -> Image:
        """The image half way to another one; its background is not below zero."""
        return Image((self.light + other.light) / 2, np.maximum((self.background + other.background) / 2, 0.0))

    def mixed(self, weights: np.ndarray) -> Image:
        """The sum of several images, each with its weight."""
        return Image(weights @ self.light, weights @ self.background)


@dataclass(frozen=True, eq=False)
class Told:
    """The best sum of a linear and a quadratic statistic in one direction of the image.

    Attributes
    ----------
    squared : float
        What it tells of the direction, squared standard deviations of one frame.
    share : float
        D / (D + K).
    of_frames : (T,) float64
        The statistic in each frame, as an estimate of the score.
    """

    squared: float
    share: float
    of_frames: np.ndarray


class ShortLines:
    """A field with lines of a given profile, and all moments of its frames.

    Parameters
    ----------
    optics : Optics
    sight : Sight
    model : Model
        Of the long lines: its columns are those of the field.
    image : Image
        What the frames are made by.
    """

    def __init__(self, optics: Optics, sight: Sight, model: Model, image: Image) -> None:
        margin, long = (math.ceil(part * optics.fwhm_nm / optics.pixel_size_nm) for part in (_MARGIN, _LENGTH))
        self.kappa, self.rows, self.columns, self.fine = sight.photons_per_emitter, long + 2 * margin, model.columns, model.fine
        psf = cut_psf(optics.psf, (self.rows * optics.factor, self.columns * optics.factor))
        psi = Psi(psf, (self.rows, self.columns), optics.factor, photons_per_emitter=self.kappa, backend="numpy")
        self.model, self.x = ForwardModel(psi), np.zeros(psi.fine_shape)
        self.x[margin * optics.factor : -margin * optics.factor] = image.light / self.kappa
        background = np.maximum(image.background + sight.read_noise**2, _LEAST_BACKGROUND)
        self.b = np.broadcast_to(background, psi.shape).copy()
        lit = np.flatnonzero(self.x)
        self.column, self.expected = lit % self.fine, self.x.ravel()[lit]
        self.light = columns_of(psi, lit)
        self.mean = self.expected @ self.light + self.b.ravel()
        self.spread = (self.light.T * self.expected) @ self.light + np.diag(self.mean)
        self.precision = np.linalg.inv(self.spread)

    def metric(self, parts: Image, share: float) -> np.ndarray:
        """B of several directions, (P, P)."""
        turned = self.light @ self.precision
        among = self._by_column(self._by_column((turned @ self.light.T) ** 2).T).T
        squares = self._by_column(turned**2)
        means = self._by_column(self.light)
        light = parts.light / self.kappa
        mean = light @ means + np.tile(parts.background, self.rows)
        mixed = (light @ squares) @ mean.T
        second = light @ among @ light.T + mixed + mixed.T + mean @ self.precision**2 @ mean.T
        return np.asarray(mean @ self.precision @ mean.T + 0.5 * share * second)

    def scores(self, counts: np.ndarray, parts: Image, share: float) -> np.ndarray:
        """What mean and covariance make of the score of each frame in several directions, (T, P)."""
        turned = (counts.reshape(len(counts), -1) - self.mean) @ self.precision
        seen = self.light @ turned.T
        by_light = self._by_column(seen + 0.5 * share * (seen**2 + self.light @ (turned**2).T)).T
        by_background = (turned + 0.5 * share * turned**2).reshape(len(counts), self.rows, -1).sum(axis=1)
        found = by_light @ parts.light.T / self.kappa + by_background @ parts.background.T
        return np.asarray(found - found.mean(axis=0))

    def told(self, change: Image, counts: np.ndarray | None = None) -> Told:
        """What mean and covariance tell of one direction."""
        rate, m = change.light[self.column] / self.kappa, self.light
        mean = rate @ m + np.tile(change.background, self.rows)
        spread = (m.T * rate) @ m + np.diag(mean)
        linear = self.precision @ mean
        quadratic = self.precision @ spread @ self.precision
        first, second = float(linear @ mean), 0.5 * float((quadratic * spread).sum())
        turned, diagonal, b = m @ quadratic, np.diagonal(quadratic), self.b.ravel()
        slope, own = 2 * turned + diagonal, (m * (turned + diagonal)).sum(axis=1)
        fourth = own**2 + (m * slope**2).sum(axis=1) + 2 * (m * (m @ quadratic**2)).sum(axis=1)
        third = (m @ linear) * own + (m * linear * slope).sum(axis=1)
        excess = float(self.expected @ fourth + b @ diagonal**2) / 4
        cross = float(self.expected @ third + b @ (linear * diagonal)) / 2
        weights = np.linalg.lstsq(np.array([[first, cross], [cross, second + excess]]), [first, second], rcond=None)[0]
        y = np.zeros((0, len(mean))) if counts is None else counts.reshape(len(counts), -1) - self.mean
        quadratics = 0.5 * (((y @ quadratic) * y).sum(axis=1) - float((quadratic * self.spread).sum()))
        share = second / (second + excess) if second > 0 else 1.0
        return Told(float(weights @ [first, second]), share, weights[0] * (y @ linear) + weights[1] * quadratics)

    def sampled(self, *, frames: int, start: int, notes: int, sweeps: int, seed: int) -> SampledScores:
        """Simulate frames and sample their scores by fine columns and camera columns."""
        shape, fine = self.model.psi.shape, self.model.psi.fine_shape
        of_pixel, of_camera = (np.broadcast_to(np.arange(s[1]), s) for s in (fine, shape))
        return sampled_scores(
            self.model, self.x, self.b, of_pixel, of_camera, frames=frames, start=start, notes=notes, sweeps=sweeps, seed=seed
        )

    def along(self, scores: np.ndarray, parts: Image) -> np.ndarray:
        """Sampled scores in some directions of the image."""
        return np.asarray(scores @ np.concatenate([parts.light / self.kappa, parts.background], axis=-1).T)

    def _by_column(self, of_emissions: np.ndarray) -> np.ndarray:
        """Sums over the rows of a fine column, (F, ...)."""
        lit = np.unique(self.column)  # the same in every row
        found = np.zeros((self.fine, of_emissions.shape[1]))
        found[lit] = of_emissions.reshape(-1, len(lit), of_emissions.shape[1]).sum(axis=0)
        return found
