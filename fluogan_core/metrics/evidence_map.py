r"""Is that gap there?  What frames say for the detail of an image, place by place, in standard deviations.

For a gap, every image without it is tried: along the strip across the gap, all profiles that rise to one top and fall after it
(for every place of the top), any light further away, a background that is known within its error.  The frames are compared
with the best of them, and with the best that holds two lines of the image's distance besides.  The log likelihood that is lost
without the gap, :math:`\Delta`, gives the significance :math:`\sqrt{2\Delta}`, in standard deviations.  The neighbourhood is
fitted again for each of the two, so that what it could explain is not counted.  Where molecules blink, the covariances of the
frames are compared with the same profiles, together with the mean (:mod:`fluogan_core.metrics.strips`).

The finest width at a place is found in the same way: the best image that is no finer than w there, a mixture of Gaussians of
that width, against one that has a thin line besides.

The image says where to look, along which direction and how far the lines are apart, no more.  Its contrast is not used.  An
image that was fitted to the same frames has its gaps where the noise of these frames has some.  The number n of its gaps
accounts for that: where none is there, one of them is as significant as p with a chance of at most n p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..backend.arrays import get_backend
from ..backend.checks import host_image, length_or_time, real_number
from ..backend.kinds import any_kind
from ..backend.typing import Array, ArrayLike
from ..physics.bleaching import trend_of
from ..physics.forward import ForwardModel, forward_model
from ..physics.psf import FWHM_PER_SIGMA
from ..stack import finite_stack
from .dark_background import background_about
from .dips import Dip, find_dips
from .sections import Optic, Section, distance
from .strip_covariances import LEAST_FRAMES, CovarianceStrip, blocks_of
from .strip_noise import block_means, noise_of_mean
from .strips import MeanStrip, flicker_of_light, gain_of_both, gain_of_mean, without_gap

__all__ = ["Evidence", "Gap", "evidence"]

#: Equal Gaussians have a gap between them from this distance on, in their width at half maximum: two standard deviations.
_GAUSSIANS_APART = 2 / FWHM_PER_SIGMA
#: Widths that are tried for the finest detail, widths of the PSF.
_WIDTHS = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3)
#: Places without this share of the brightest light are not judged.
_LEAST_LIGHT = 0.1
#: How much more a pixel that says nothing scatters than one that works.
_UNKNOWN = 1e4
#: Shortest gap that is judged, and distance of the places whose finest width is sought, widths of the PSF.
_SHORTEST, _APART = 0.33, 0.5


@dataclass(frozen=True)
class Gap:
    """A gap that the image shows, and what the frames say of it.

    Attributes
    ----------
    row_nm, column_nm : float
        Its middle, from the upper left corner of the field.
    angle_deg : float
        Of the direction across it; 0 runs along a row.
    separation_nm : float
        Of the two sides, as the image has it.
    length_nm : float
    depth : float
        In the image: 1 minus the light in the middle over that of the lower side.
    alone : float
        Standard deviations by which the frames speak for it, as if no other place had been looked at; 0 where they do not.
    significance : float
        The same after the number of gaps that the image shows is paid for.
    of_mean : float
        ``alone`` by the mean of the frames, without their covariances.

    Examples
    --------
    >>> from fluogan_core import Gap
    >>> gap = Gap(1200.0, 900.0, 0.0, separation_nm=210.0, length_nm=600.0, depth=0.5, alone=5.1, significance=4.8)
    >>> f"{gap.separation_nm:.0f} nm, {gap.significance} standard deviations"
    '210 nm, 4.8 standard deviations'
    """

    row_nm: float
    column_nm: float
    angle_deg: float
    separation_nm: float
    length_nm: float
    depth: float
    alone: float
    significance: float
    of_mean: float = 0.0


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the frames say for the detail of an image.

    Attributes
    ----------
    gaps : tuple of Gap
        Those that the image shows, the most significant first.
    finest_nm : (N1, N2) float32
        The narrowest width (FWHM) for which the frames exclude that the light is a mixture of Gaussians of that width there;
        NaN where there is no light, or where nothing is excluded.  About a confirmed gap: the widest Gaussians that have one.
    threshold : float
        Standard deviations that count as seen.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> gap = fg.Gap(1200.0, 900.0, 0.0, separation_nm=210.0, length_nm=600.0, depth=0.5, alone=2.6, significance=2.1)
    >>> found = fg.Evidence((gap,), np.full((64, 64), np.nan, np.float32), threshold=3.0)
    >>> len(found.gaps), len(found.confirmed)
    (1, 0)
    """

    gaps: tuple[Gap, ...]
    finest_nm: np.ndarray = field(repr=False)
    threshold: float

    @property
    def confirmed(self) -> tuple[Gap, ...]:
        """Gaps of at least ``threshold`` standard deviations."""
        return tuple(gap for gap in self.gaps if gap.significance >= self.threshold)


@any_kind("frames", "x", "b", "image", "bad_pixels", answers=False)
def evidence(
    frames: Array,
    model: ForwardModel,
    x: Array,
    b: Array,
    pixel_size_nm: float,
    *,
    image: ArrayLike | None = None,
    bad_pixels: ArrayLike | None = None,
    threshold: float = 3.0,
    finest: bool = True,
    covariances: bool = True,
    psf_error: float = 0.0,
) -> Evidence:
    """Say which gaps of an image the frames support, and how fine its light is for certain.

    Computed on the host.

    Parameters
    ----------
    frames : (T, M1, M2) array
        Counts above the offset; those that x was fitted to, or others.
    model : ForwardModel
        The operator, gain and noise.
    x : (N1, N2) array
        Expected emissions per fine pixel per frame.
    b : (M1, M2) array
        Background, photons per camera pixel per frame.
    pixel_size_nm : float
        Camera pixel, nm.
    image : (N1, N2) array_like, optional
        The image whose gaps are judged, of any method and in any unit; x if not given.
    bad_pixels : (M1, M2) bool array_like, optional
        Camera pixels that say nothing.
    threshold : float
        Standard deviations that count as seen.
    finest : bool
        Whether to make the map of the finest width, which takes longer.  It is by the mean of the frames.
    covariances : bool
        Whether gaps are also judged by the covariances of the frames, where molecules blink.  Needs 96 frames.
    psf_error : float
        How far the PSF may be wider or narrower than described, relative, below 0.5.  A gap then counts as much as with the
        PSF for which the frames say least: as described, wider or narrower by this.  Takes three times as long.

    Returns
    -------
    Evidence

    Raises
    ------
    TypeError
        If something is a masked array or does not hold real numbers.
    ValueError
        If shapes do not fit, x or b are negative, something is not finite, or there are fewer than two frames.

    Examples
    --------
    Two lines 260 nm apart:

    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (20, 20), 4, backend="numpy")
    >>> x = np.zeros(psi.fine_shape)
    >>> x[20:60, [35, 45]] = 4.0
    >>> b, model = np.full(psi.shape, 3.0), fg.ForwardModel(psi)
    >>> found = fg.evidence(model.sample(x, b, 200), model, x, b, pixel_size_nm=100, finest=False)
    >>> len(found.confirmed), round(found.confirmed[0].separation_nm)
    (1, 250)
    """
    error = real_number(psf_error, "psf_error", low=0, high=0.5)
    test, *others = (
        _Test(frames, ForwardModel(model.psi.scaled(1 + step), gain=model.gain, noise_std=model.noise_std) if step else model,
              x, b, bad_pixels, covariances)
        for step in ((0.0, -error, error) if error else (0.0,))
    )  # fmt: skip
    shown = np.maximum(test.x if image is None else host_image(image, "image"), 0.0)
    if shown.shape != test.x.shape:
        raise ValueError(f"image must lie on the fine grid, {test.x.shape}, got {shown.shape}")
    threshold = real_number(threshold, "threshold", low=0)
    fine_nm = length_or_time(pixel_size_nm, "pixel_size_nm") / test.optic.factor
    width = test.optic.width
    dips = [dip for dip in find_dips(shown, width) if dip.length >= _SHORTEST * width]
    judged = [np.min([one.of_gap(dip) for one in (test, *others)], axis=0).tolist() for dip in dips]
    gaps = [_gap(dip, fine_nm, alone, of_mean, len(dips)) for dip, (alone, of_mean) in zip(dips, judged)]
    gaps.sort(key=lambda gap: -gap.alone)
    fine = np.full(shown.shape, np.nan)
    if finest:
        # no finer than what the frames exclude for every width of the PSF: what one of them does not exclude is NaN
        fine = np.max([one.finest(shown, threshold) for one in (test, *others)], axis=0) * fine_nm
        for gap in gaps:
            if gap.significance >= threshold:
                there = _between(gap, shown.shape, fine_nm)
                fine[there] = np.fmin(fine[there], gap.separation_nm / _GAUSSIANS_APART)
    return Evidence(tuple(gaps), fine.astype(np.float32), threshold)


def _gap(dip: Dip, fine_nm: float, alone: float, of_mean: float, count: int) -> Gap:
    place = (dip.row + 0.5) * fine_nm, (dip.column + 0.5) * fine_nm
    lengths = dip.separation * fine_nm, dip.length * fine_nm
    return Gap(*place, math.degrees(dip.angle), *lengths, dip.depth, alone, paid(alone, count), of_mean)


def _between(gap: Gap, shape: tuple[int, ...], fine_nm: float) -> np.ndarray:
    """Where a gap and its sides lie."""
    down, across = math.sin(math.radians(gap.angle_deg)), math.cos(math.radians(gap.angle_deg))
    rows = (np.arange(shape[0])[:, None] + 0.5) * fine_nm - gap.row_nm
    columns = (np.arange(shape[1])[None] + 0.5) * fine_nm - gap.column_nm
    over, along = np.abs(rows * down + columns * across), np.abs(rows * across - columns * down)
    return np.asarray((over <= gap.separation_nm / 2) & (along <= gap.length_nm / 2))


def paid(alone: float, count: int) -> float:
    """Standard deviations of the best of so many looks, from those of a single one; not below 0."""
    from scipy.special import log_ndtr, ndtri_exp

    # in logarithms, because of chances below 1e-16; the product is an upper bound
    chance = min(float(log_ndtr(-alone)) + math.log(count), math.log(0.5))
    return max(0.0, -float(ndtri_exp(chance)))


class _Test:
    """Frames, and what is needed to judge any place of them."""

    def __init__(
        self, frames: Array, model: ForwardModel, x: Array, b: Array, bad_pixels: ArrayLike | None, covariances: bool
    ) -> None:
        psi, host = forward_model(model).psi, model.backend.to_host
        finite_stack(frames, "frames")
        if tuple(frames.shape[1:]) != psi.shape:
            raise ValueError(f"frames must be (T, {psi.shape[0]}, {psi.shape[1]}), psi's field, got {tuple(frames.shape)}")
        x, b = model.check(x, b)
        self.light = np.asarray(host(psi.forward(x)), dtype=np.float64)
        self.x, self.b = (np.asarray(host(image), dtype=np.float64) for image in (x, b))
        counts = host(frames)
        self.frames = counts.reshape(len(counts), -1)
        self.gain, self.covariances = model.gain, covariances
        # bleaching changes the mean of the frames, which is no scatter of it
        self.trend = trend_of(counts, get_backend("numpy")).astype(np.float64)
        self.mean = counts.mean(axis=0, dtype=np.float64) / model.gain
        bad = np.zeros(psi.shape, bool) if bad_pixels is None else np.asarray(bad_pixels, dtype=bool)
        if bad.shape != psi.shape:
            raise ValueError(f"bad_pixels must have psi's shape {psi.shape}, got {bad.shape}")
        self.bad = bad
        self.mean[bad] = (self.light + self.b)[bad]
        floor = 1e-6 * max(float(self.mean.max()), 1e-300)
        self.variance = np.maximum(self.mean + (model.noise_std / model.gain) ** 2, floor) / len(counts)
        self.variance[bad] *= _UNKNOWN
        self.optic = Optic(psi.psf, psi.factor, psi.binning == "sum")
        self._backgrounds: dict[tuple[int, int], tuple[np.ndarray, float]] = {}

    def of_gap(self, dip: Dip) -> tuple[float, float]:
        """Standard deviations by which mean and covariances, and by which the mean alone speak for a gap."""
        place = dip.row, dip.column
        section = Section(self.mean.shape, self.optic, place, dip.angle, dip.length)
        # a background that is uneven beside the gap may be light that the fit took for background: it must not make the gap
        strips = [self.strip(section, place, even=even) for even in (False, True)]
        nearest = [without_gap(strip, dip.separation) for strip in strips]
        of_mean = min(gain_of_mean(strip, near) for strip, near in zip(strips, nearest))
        flicker = self._covariances(section, dip.angle)
        if flicker is None:
            return of_mean, of_mean
        kappas = [flicker_of_light(strip, flicker, dip.separation) for strip in strips]
        if not all(kappas):
            return of_mean, of_mean
        of_flicker = without_gap(flicker, dip.separation)
        each = zip(strips, nearest, kappas)
        return min(gain_of_both(strip, flicker, near, of_flicker, kappa) for strip, near, kappa in each), of_mean

    def _covariances(self, section: Section, angle: float) -> CovarianceStrip | None:
        """The covariances of a section; None where there are none, or not those of light."""
        pixels = section.pixels
        if not self.covariances or len(self.frames) < LEAST_FRAMES or self.bad.ravel()[pixels].any():
            return None
        frames = self.frames[:, pixels].astype(np.float64) / self.gain
        frames -= self.trend @ (self.trend.T @ frames)
        down, across = np.gradient(self.mean)
        slope = (math.sin(angle) * down + math.cos(angle) * across).ravel()[pixels]
        light = (self.mean - self.b).ravel()[pixels]
        found = CovarianceStrip(section, frames, self.variance.ravel()[pixels] * len(frames), light, slope)
        return found if found.flickers else None

    def finest(self, image: np.ndarray, threshold: float) -> np.ndarray:
        """(N1, N2): the finest certain width at each place, fine pixels."""
        from scipy import ndimage, spatial

        smooth = ndimage.gaussian_filter(image, 1.0)
        spacing = _APART * self.optic.width
        lit = smooth > _LEAST_LIGHT * smooth.max()
        places = _spread_out(smooth, lit, spacing)
        found = np.full(image.shape, np.nan)
        if not len(places):
            return found
        broad = ndimage.gaussian_filter(image, spacing / 2)
        down, across = np.gradient(broad)
        (rr, rc), (_, cc) = np.gradient(down), np.gradient(across)
        wanted = 1.0
        while paid(wanted, len(places)) < threshold:
            wanted += 0.02
        widths = []
        for row, column in places:
            # across the structure the light is curved most
            angle = 0.5 * math.atan2(-2 * rc[row, column], rr[row, column] - cc[row, column])
            widths.append(self._finest_at((float(row), float(column)), angle % math.pi, wanted))
        away, number = spatial.cKDTree(places).query(np.argwhere(lit))
        found[lit] = np.where(away <= 1.5 * spacing, np.array(widths)[number], np.nan)
        return found

    def _finest_at(self, place: tuple[float, float], angle: float, wanted: float) -> float:
        section = Section(self.mean.shape, self.optic, place, angle, self.optic.width)
        strip = self.strip(section, place)
        thin, finest = section.bars(np.array([-0.5]), np.array([0.5])), math.nan
        for share in _WIDTHS:
            width = share * self.optic.width
            columns = strip.columns(np.concatenate([section.no_finer(width), thin], axis=1))
            without, with_it = distance(strip.target, columns[:, :-1])[0], distance(strip.target, columns)[0]
            if strip.significance(without, with_it) < wanted:
                break
            finest = width
        return finest

    def strip(self, section: Section, place: tuple[float, float], *, even: bool = False) -> MeanStrip:
        """The data of a section, with their noise and what is known of the background, made even where that is asked for."""
        factor = self.optic.factor
        row, column = ((p + 0.5) / factor - 0.5 for p in place)
        # the background is smooth: one for all places that are near
        grid = max(1.0, section.width / factor / 2)
        key = round(row / grid), round(column / grid)
        if key not in self._backgrounds:
            at = key[0] * grid, key[1] * grid
            self._backgrounds[key] = background_about(self.mean, self.light, self.b, self.variance, at, section.width / factor)
        background, error = self._backgrounds[key]
        mean, below = section.of(self.mean), section.of(background)
        if even:
            below = section.weights.sum(axis=1) * below.sum() / section.weights.sum()
        bins = self.frames[:, section.pixels].astype(np.float64) @ section.weights.T / self.gain
        bins -= self.trend @ (self.trend.T @ bins)
        noise = noise_of_mean(section, bins, section.covariance(self.variance), mean - below)
        return MeanStrip(section, mean, noise, below, error, block_means(bins, blocks_of(len(bins))))


def _spread_out(image: np.ndarray, lit: np.ndarray, spacing: float) -> np.ndarray:
    """(n, 2): the brightest places that are not nearer to each other than the spacing."""
    rows, columns = np.nonzero(lit)
    free, found = lit.copy(), []
    reach = round(spacing)
    down, across = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = down**2 + across**2 < spacing**2
    for k in np.argsort(-image[rows, columns], kind="stable"):
        row, column = int(rows[k]), int(columns[k])
        if free[row, column]:
            found.append((row, column))
            r, c = row + down[disc], column + across[disc]
            inside = (r >= 0) & (r < lit.shape[0]) & (c >= 0) & (c < lit.shape[1])
            free[r[inside], c[inside]] = False
    return np.array(found).reshape(-1, 2)
