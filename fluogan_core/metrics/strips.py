"""A strip of the frames against profiles without a gap, and against those that have two lines besides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .sections import Profiles, Section, distance
from .strip_covariances import CovarianceStrip
from .strip_noise import whitening

__all__ = ["MeanStrip", "Nearest", "flicker_of_light", "gain_of_both", "gain_of_mean", "without_gap"]

#: The two lines' brightest place may lie so far outside the middle of the gap: half their distance and this, widths of the PSF.
_REACH = 1.2
#: Distance of the two lines that are offered to the fit of the mean, of the image's: one that is somewhat too large loses
#: little, one that is too small much.
_WIDER = 1.15


#: Standard errors by which light flickers, if covariances are to be used.
_CLEAR = 3.0


class Strip(Protocol):
    """Whitened data of a strip, and what profiles look like in them."""

    @property
    def target(self) -> np.ndarray:
        """(R,): what is fitted."""

    @property
    def profiles(self) -> Profiles:
        """Profiles in these data, before :meth:`columns`."""

    @property
    def wider(self) -> float:
        """Distance of the two lines that are offered to the fit, of that in the image."""

    def columns(self, profiles: np.ndarray) -> np.ndarray:
        """Profiles as columns of the fit, after what else it may use."""


class MeanStrip:
    """The mean of a strip's frames.

    Parameters
    ----------
    section : Section
    mean, background : (B,) float64
        Of the bins, photons.
    noise : (B, B) float64
        Covariance of the mean.
    error : float
        Of the background, relative.
    blocks : (K, B) float64
        Means of blocks of frames.
    """

    def __init__(
        self,
        section: Section,
        mean: np.ndarray,
        noise: np.ndarray,
        background: np.ndarray,
        error: float,
        blocks: np.ndarray,
    ) -> None:
        self._root = whitening(noise)
        self.profiles, self.wider = section, _WIDER
        # the last row holds what is known of the background beforehand
        self.target = np.append(self.white(mean - background), 0.0)
        level = np.append(self.white(background), 1.0 / error)
        self._level = np.stack([level, -level], axis=1)
        self.blocks = np.concatenate([self.white(blocks.T).T, np.zeros((len(blocks), 1))], axis=1)

    def white(self, columns: np.ndarray) -> np.ndarray:
        """Columns in units of the noise."""
        from scipy.linalg import solve_triangular

        return np.asarray(solve_triangular(self._root, columns, lower=True, check_finite=False))

    def columns(self, profiles: np.ndarray) -> np.ndarray:
        """Whitened profiles, after those of a background that differs from the assumed one."""
        white = self.white(profiles)
        return np.concatenate([self._level, np.concatenate([white, np.zeros((1, white.shape[1]))])], axis=1)

    def significance(self, without: float, with_it: float) -> float:
        """Standard deviations by which a detail improves the fit.

        In units of the misfit of the better fit, where that is more than noise: of a PSF that is described wrongly, say.
        """
        free = max(1, len(self.target) // 2)
        return math.sqrt(max(without**2 - with_it**2, 0.0)) / max(1.0, with_it / math.sqrt(free))


@dataclass(frozen=True, eq=False)
class Nearest:
    """The profiles without a gap that are nearest to the data of a strip.

    Attributes
    ----------
    distance : float
        Standard deviations.
    fit : (R,) float64
        What the best of them looks like.
    columns : list of (R, n) float64
        Of the three places of the top that fit best.
    pair : (R, 1) float64
        Two lines, about as far apart as in the image.
    """

    distance: float
    fit: np.ndarray
    columns: list[np.ndarray]
    pair: np.ndarray


def reach_of(separation: float, width: float) -> float:
    """How far from the middle of a gap its brightest place may lie, fine pixels."""
    return separation / 2 + _REACH * width


def without_gap(strip: Strip, separation: float) -> Nearest:
    """Find the best profile without a gap: one that rises to one top and falls after it, for every place of the top.

    Parameters
    ----------
    strip : MeanStrip or CovarianceStrip
    separation : float
        Of the gap's sides in the image, fine pixels.
    """
    profiles = strip.profiles
    reach, step = reach_of(separation, profiles.width), profiles.width / 4

    def cone(top: float) -> np.ndarray:
        return strip.columns(profiles.without_gap(top, reach))

    cones = {top: cone(top) for top in np.arange(-reach, reach + step / 2, step)}
    found = {top: distance(strip.target, columns) for top, columns in cones.items()}
    best = sorted(found, key=lambda top: found[top][0])[:3]
    for top in (best[0] - step / 2, best[0] + step / 2):
        cones[top] = cone(top)
        found[top] = distance(strip.target, cones[top])
    first = min(found, key=lambda top: found[top][0])
    pair = strip.columns(profiles.pair(strip.wider * separation))[:, -1:]
    return Nearest(found[first][0], cones[first] @ found[first][1], [cones[top] for top in best], pair)


def gain_of_mean(strip: MeanStrip, nearest: Nearest) -> float:
    """Standard deviations by which two lines besides improve the fit of the mean."""
    with_it = min(distance(strip.target, np.concatenate([columns, nearest.pair], axis=1))[0] for columns in nearest.columns)
    return strip.significance(nearest.distance, with_it)


def gain_of_both(mean: MeanStrip, flicker: CovarianceStrip, nearest: Nearest, of_flicker: Nearest, kappa: float) -> float:
    """Standard deviations by which two lines besides improve the fit of mean and covariances together.

    Parameters
    ----------
    mean : MeanStrip
    flicker : CovarianceStrip
    nearest, of_flicker : Nearest
        Without a gap, of each.
    kappa : float
        How much flicker belongs to light.
    """
    target = np.concatenate([mean.target, flicker.target])
    pair = np.concatenate([nearest.pair, kappa * of_flicker.pair])
    split = len(mean.target)
    best, fit = math.inf, target
    for number, other in ((0, 0), (1, 0), (0, 1), (2, 0), (0, 2)):
        if number < len(nearest.columns) and other < len(of_flicker.columns):
            first, second = nearest.columns[number], of_flicker.columns[other]
            columns = np.zeros((len(target), first.shape[1] + second.shape[1] + 1))
            columns[:split, : first.shape[1]], columns[split:, first.shape[1] : -1] = first, second
            columns[:, -1:] = pair
            away, weights = distance(target, columns)
            if away < best:
                best, fit = away, columns @ weights
    squares = max(nearest.distance**2 + of_flicker.distance**2 - best**2, 0.0)
    if not squares:
        return 0.0
    change = fit - np.concatenate([nearest.fit, of_flicker.fit])
    misfit = float(((fit - target)[:split] ** 2).sum()) / max(1, split // 2)
    return math.sqrt(squares / max(1.0, misfit, _scatter(mean, flicker, change)))


def _scatter(mean: MeanStrip, flicker: CovarianceStrip, change: np.ndarray) -> float:
    """How much more than stated the data scatter along a change of the fit, by blocks of frames.

    Few bright molecules let covariances scatter more than Gaussian frames.  They also make the mean brighter and the
    covariance larger at once, so that the two do not err independently.  The noise of the mean is measured already.
    """
    size, split, shares = float(change @ change), mean.blocks.shape[1], flicker.shares
    if not size:
        return 1.0
    count = len(shares)
    along = np.stack([mean.blocks @ change[:split], flicker.blocks @ change[split:]])
    apart = shares * (along - along @ shares[:, None])
    own = apart @ apart.T
    neighbours = apart[:, :-1] @ apart[:, 1:].T
    both = own * count / (count - 1) + neighbours + neighbours.T + 2 * own / count
    known = float(change[:split] @ change[:split])
    return (known + max(float(both[1, 1]), size - known) + 2 * max(float(both[0, 1]), 0.0)) / size


def flicker_of_light(mean: MeanStrip, flicker: CovarianceStrip, separation: float) -> float:
    """How much flicker belongs to light, about the gap; 0 where the light does not flicker clearly.

    Flicker that is not clear would add noise to what the mean says, and nothing else.
    """
    section = mean.profiles
    near = np.abs(section.sources) <= reach_of(separation, section.width)
    light, flickers = (
        distance(strip.target, strip.columns(strip.profiles.spread))[1][-len(near) :] for strip in (mean, flicker)
    )
    if not light[near].any():
        return 0.0
    # beside noise of another size: a lamp and molecules that flicker are much alike, and which of them it is matters later
    free = flicker.columns((flicker.profiles.spread @ light)[:, None])[:, [0, -1]]
    size = float(np.linalg.lstsq(free, flicker.target)[0][-1])
    error = math.sqrt(float(np.linalg.pinv(free.T @ free)[-1, -1]))
    return float(flickers[near].sum() / light[near].sum()) if size > _CLEAR * error else 0.0
