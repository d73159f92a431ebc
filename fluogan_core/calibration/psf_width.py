r"""The width of the PSF, read from the flicker.

Shot noise and read noise do not reach the covariance of two *different* pixels, flicker does:
:math:`C_{jk} = q \sum_i \Psi_{ji} \Psi_{ki} u_i` with u the emission.  Added up over all pairs that are v apart, where u drops
out, it falls with v as the autocorrelation of the PSF,

.. math:: S_v = \sum_m w(m)\, C_{m - v/2,\, m + v/2} \;\propto\; A_v = \sum_k \psi_k\, \psi_{k + v},

whatever the sample looks like; weights change nothing as long as they belong to the middle of a pair (for a Gaussian exactly,
for any other PSF where they vary slowly against it).  By the same law cross-cumulant SOFI weighs its virtual pixels
(Dertinger et al., Opt. Express 18, 18875, 2010).  The mean image does not determine the width: a narrow PSF and a wide sample
look the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..backend.checks import field_of
from ..physics.polyphase import plane_table
from ..physics.psf import scaled_psf
from ..physics.psi import Psi
from ..physics.requirements import NOMINAL, has_table, require
from ..stack import StackLike
from ..tuning import DEFAULT
from ..tuning.calibration import CalibrationTuning, PSFWidthTuning
from .flicker import SPREAD, PairKernels, pair_kernel, spread_terms
from .pixel_moments import PixelMoments, Shift, windows
from .regression import jackknife, solve_normal
from .stack_statistics import StackStatistics

__all__ = ["Doubt", "PSFWidth", "beyond", "estimate_psf_width", "width_from"]

_WHAT = "width of the PSF: "


@dataclass(frozen=True)
class PSFWidth:
    """How wide the PSF is, relative to the one that was assumed.

    Attributes
    ----------
    width : float
        What to take: as measured where that is clear, 1 where it is not, and between the two in between.
    measured, error : float
        The width that covariances fit and its standard error; NaN and infinity where the stack does not determine it.
    note : str
        What was done and why, in plain language.
    """

    width: float
    measured: float
    error: float
    note: str


def estimate_psf_width(stack: StackLike, psi: Psi, *, tuning: CalibrationTuning = DEFAULT.calibration) -> PSFWidth:
    """Measure on a stack's flicker how much wider or narrower the PSF is than psi's.

    More flicker and more frames make the error smaller.  On 32 x 32 pixels and 500 frames it is about one per cent where
    molecules blink.  With one photon per emission hardly anything is measured.

    Parameters
    ----------
    stack : (T, M1, M2) array, integers or floats, or Stack
        Raw counts; gain and offset need not be known.
    psi : Psi
        With the PSF that is assumed; its ``photons_per_emitter`` is ignored.
    tuning : CalibrationTuning, optional
        Numbers by trial.

    Returns
    -------
    PSFWidth
        Take ``psi.scaled(found.width)`` from there on.  The width is the measured one if its error is below 2 % and it is three
        standard errors and 1.5 % from the one that was assumed; below two standard errors or 1 % it is 1, and it goes from one
        to the other by degrees, as at the other bounds: no hair's breadth decides.  More than 20 % is not attributed to the
        PSF, nor a width that consecutive frames, closer and wider pairs, or rows and columns do not agree on: samples that
        move, flicker out of focus and cameras whose pixels leak into each other widen covariances too.

    Raises
    ------
    ValueError
        If the stack is not (T, M1, M2) with T of 2 or more, not finite, or does not fit ``psi``.
    TypeError
        If it holds neither integers nor floats, or if ``psi`` is an operator of your own: it need not have one PSF.
    """
    require(psi, "width of the PSF", NOMINAL)
    return width_from(StackStatistics(stack, field_of(psi), tuning), psi, tuning)


def width_from(statistics: StackStatistics, psi: Psi, tuning: CalibrationTuning = DEFAULT.calibration) -> PSFWidth:
    """:func:`estimate_psf_width` from statistics that may be shared; of an operator of the user's own it is not measured."""
    if not has_table(psi):
        kind = type(psi).__name__
        return _unknown(f"{kind} is an operator of your own, which need not have one PSF; psf_width= scales its nominal one")
    t, optics = tuning.psf_width, PairKernels(psi, tuning.flicker)
    both_ways = any(down for down, _ in optics.far) and any(right for _, right in optics.far)
    if not (optics.near and both_ways):
        return _unknown("the PSF is as small as a pixel, or too large for the field")
    if len(statistics.frames) < t.fewest_frames:
        return _unknown(f"fewer than {t.fewest_frames} frames")
    moments = statistics.moments([*optics.near, *optics.far])
    try:
        live, _ = statistics.live
    except ValueError as reason:
        return _unknown(str(reason))
    weight = _weight(moments, live, optics.near, t)
    if (weight > 0).sum() < t.fewest_middles:
        return _unknown("too few pixels are whole and far enough from the field's border")
    try:
        widths, curves = _autocorrelations(psi, optics.near, t)
    except ValueError as reason:  # a ring, say, of which a narrower one is dark
        return _unknown(str(reason))
    targets, changes = (
        _targets(moments, covariances, optics, live, weight, t) for covariances in (moments.whole, moments.fast)
    )
    best = _best(targets, widths, curves, t)
    measured, error = _with_error(best, t)
    doubts = [
        Doubt(
            f"{one} and {other} give different widths ({why})",
            _disagreement(
                _best(targets[:, first], widths, curves[:, first], t),
                _best(targets[:, second], widths, curves[:, second], t),
                t,
            ),
        )
        for one, other, why, first, second in _parts(optics)
    ]
    of_changes, error_of_changes = _with_error(_best(changes, widths, curves, t), t)
    joint = t.differs * math.hypot(error, error_of_changes)
    unconfirmed = abs(of_changes - measured) / joint if joint < math.inf else math.nan
    doubts.append(Doubt("consecutive frames do not confirm it (a sample that moves, or flickers slowly)", unconfirmed))
    return _judged(measured, error, doubts, t)


def _unknown(why: str) -> PSFWidth:
    return PSFWidth(1.0, math.nan, math.inf, f"{_WHAT}the flicker does not determine it ({why}); the PSF is used as described")


class Doubt(NamedTuple):
    """A reason not to take a width for that of the PSF.

    ``ratio`` is what was seen over what is still within the errors: no doubt up to 1; NaN, all doubt, where nothing is known.
    """

    reason: str
    ratio: float


def beyond(ratio: float, soft: float) -> float:
    """By how much a bound is crossed: 0 up to it, 1 from ``1 + soft`` times the bound on, and where nothing is known."""
    return 1.0 if math.isnan(ratio) else min(max((ratio - 1.0) / soft, 0.0), 1.0)


def _judged(
    measured: float, error: float, doubts: list[Doubt], tuning: PSFWidthTuning = DEFAULT.calibration.psf_width
) -> PSFWidth:
    """The width to use, given the measured one and the reasons that it may not be that of the PSF."""
    if not tuning.narrowest < measured < tuning.widest and not math.isnan(measured):
        return _unknown(
            f"covariances of neighbours fit no PSF {tuning.narrowest:g} to {tuning.widest:g} times as wide as described"
        )
    vague = beyond(error / tuning.vague, tuning.soft)
    if vague == 1.0:
        seen = (
            "hardly any flicker is seen"
            if math.isinf(error)
            else (f"{measured:.2f} +- {error:.2f} times as wide as described; an error below {tuning.vague:g} is needed")
        )
        if abs(measured - 1.0) > max(tuning.least, 2.0 * tuning.clear * error):  # errors this large are rough
            seen += "; it speaks against the width that was described"
        return PSFWidth(1.0, measured, error, _unknown(seen).note)
    deviation = abs(measured - 1.0)
    found = f"covariances of neighbours fit a PSF {measured:.3f} +- {error:.3f} times as wide as described"
    clear = beyond(deviation / max(tuning.least, tuning.clear * error), tuning.soft)
    if clear == 0.0:
        return PSFWidth(1.0, measured, error, f"{_WHAT}as described ({found})")
    far = Doubt(
        f"that is more than {tuning.most:.0%} off (flicker out of focus, or a sample that moves)", deviation / tuning.most
    )
    doubtful = [(doubt.reason, beyond(doubt.ratio, tuning.soft)) for doubt in (far, *doubts)]
    reasons = "; ".join(reason for reason, beyond in doubtful if beyond)
    taken = clear * (1.0 - vague) * math.prod(1.0 - beyond for _, beyond in doubtful)
    if taken == 0.0:
        return PSFWidth(1.0, measured, error, f"{_WHAT}{found}; the PSF is used as described, because {reasons}")
    if taken == 1.0:
        return PSFWidth(measured, measured, error, f"{_WHAT}{found}; this width is used")
    width = round(1.0 + taken * (measured - 1.0), 9)  # a mirrored stack has other last digits
    why = reasons or "that is hardly more than its error"
    return PSFWidth(width, measured, error, f"{_WHAT}{found}; {width:.3f} is used, between the two, because {why}")


def _with_error(replicates: np.ndarray, tuning: PSFWidthTuning = DEFAULT.calibration.psf_width) -> tuple[float, float]:
    """The width of the whole field and its jackknife error, infinite where a replicate has none.

    Widths lie on a grid: replicates that are all the same show that the error is below its step, not that it is 0.
    """
    error = math.hypot(float(jackknife(replicates[:, None])[0]), tuning.grid / math.sqrt(12.0))
    return float(replicates[0]), math.inf if math.isnan(error) else error


def _disagreement(one: np.ndarray, other: np.ndarray, tuning: PSFWidthTuning = DEFAULT.calibration.psf_width) -> float:
    """How far apart two parts of the pairs find the widths, over what their errors allow; NaN if one of them finds none."""
    difference, error = _with_error(one - other, tuning)
    return abs(difference) / (tuning.differs * error + tuning.grid) if error < math.inf else math.nan


def _parts(optics: PairKernels) -> list[tuple[str, str, str, list[int], list[int]]]:
    """Parts of the pairs that should agree, as places in ``near``, with what it means if they do not."""
    near, closer = optics.near, len(optics.closer)
    down, across = ([k for k, shift in enumerate(near) if abs(shift[axis]) > abs(shift[1 - axis])] for axis in (0, 1))
    leaks = "flicker out of focus, pixels that leak into each other"
    parts = [
        ("closer", "wider pairs", leaks, list(range(closer)), list(range(closer, len(near)))),
        ("rows", "columns", "a PSF of another shape", down, across),
    ]
    return [part for part in parts if min(len(part[3]), len(part[4])) > 1]


def _weight(
    moments: PixelMoments, live: np.ndarray, near: list[Shift], tuning: PSFWidthTuning = DEFAULT.calibration.psf_width
) -> np.ndarray:
    """Weights of the middles of pairs, (M1, M2): light over variance, so that what is dark adds no noise.

    Zero where a pair of any shift would meet a pixel that is not live, or the border: all shifts share their middles.
    """
    from scipy.ndimage import gaussian_filter, minimum_filter

    light = moments.mean - float(np.quantile(moments.mean[live], tuning.dark))
    variance = np.where(live, moments.variance, float(np.median(moments.variance[live])))
    weight = np.maximum(gaussian_filter(np.where(live, light, 0.0), 1.0), 0.0) / gaussian_filter(variance, 1.0)
    reach = [2 * math.ceil(max(abs(shift[axis]) for shift in near) / 2) + 1 for axis in (0, 1)]
    return weight * minimum_filter(live, reach, mode="constant", cval=False)


def _targets(
    moments: PixelMoments,
    covariances: dict[Shift, np.ndarray],
    optics: PairKernels,
    live: np.ndarray,
    weight: np.ndarray,
    tuning: PSFWidthTuning = DEFAULT.calibration.psf_width,
) -> np.ndarray:
    """S_v less what camera and lamp add: of the whole field, then without each of its blocks, (1 + blocks, shifts)."""
    from scipy.ndimage import map_coordinates

    shape, blocks, terms = live.shape, tuning.blocks**2, SPREAD + 2
    light = moments.mean - float(moments.mean[live].mean())
    normal, right = np.zeros((blocks, terms, terms)), np.zeros((blocks, terms))
    scale = np.where(live, moments.variance, 1.0)
    for shift in optics.far:
        first, second = windows(shift, shape)
        taken = live[first] & live[second]
        design, values = _common(light, shift, taken), covariances[shift][taken]
        scaled = design / np.sqrt(scale[first] * scale[second])[taken]
        share = _shares(*_middles(shift, shape, taken), shape, tuning.blocks)
        for number in range(blocks):
            inside = share[number].nonzero()[0]
            mine = scaled[:, inside] * share[number, inside]
            normal[number] += mine @ design[:, inside].T
            right[number] += mine @ values[inside]

    sums, common = np.zeros((blocks, len(optics.near))), np.zeros((blocks, terms, len(optics.near)))
    for column, shift in enumerate(optics.near):
        first, second = windows(shift, shape)
        # between pixels the mean of theirs, so that middles on pixels and between them stand for the same area
        of_middle = map_coordinates(weight, _middles(shift, shape), order=1)
        taken = of_middle > 0
        share = _shares(*_middles(shift, shape, taken), shape, tuning.blocks) * of_middle[taken]
        sums[:, column] = share @ covariances[shift][taken]
        common[:, :, column] = share @ _common(light, shift, taken).T

    targets = []
    for out in (np.arange(0), *np.arange(blocks)[:, None]):
        s, c, n, r = (part.sum(axis=0) - part[out].sum(axis=0) for part in (sums, common, normal, right))
        targets.append(s - solve_normal(n, r[:, None])[:, 0] @ c)
    return np.array(targets)


def _middles(shift: Shift, shape: tuple[int, ...], taken: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, in pixels and halves, of the middles of the pairs (``taken`` of them)."""
    first, second = windows(shift, shape)
    y, x = (0.5 * (one + other)[taken] for one, other in zip(np.mgrid[first], np.mgrid[second]))
    return y, x


def _shares(
    y: np.ndarray, x: np.ndarray, shape: tuple[int, ...], blocks: int = DEFAULT.calibration.psf_width.blocks
) -> np.ndarray:
    """Share of each point in each of the field's blocks, (blocks, points).

    Half goes to either side where a point lies on the border of two blocks: the blocks of a mirrored or transposed field are
    the mirrored or transposed blocks.
    """
    along = []
    for at, size in zip((y, x), shape):
        place, numbers = (at + 0.5) * blocks / size, np.arange(blocks)[:, None]
        along.append(0.5 * (np.floor(place) == numbers) + 0.5 * (np.ceil(place) - 1 == numbers))
    return (along[0][:, None] * along[1]).reshape(blocks**2, -1)


def _common(light: np.ndarray, shift: Shift, taken: np.ndarray) -> np.ndarray:
    """What camera and lamp add to pairs, (5, pairs) per unit of each; by the last two the light need not begin at zero."""
    first, second = windows(shift, light.shape)
    offset = (light[first] + light[second])[taken]
    return np.concatenate([spread_terms(light, shift, taken), [offset, np.ones_like(offset)]])


def _autocorrelations(
    psi: Psi, shifts: list[Shift], tuning: PSFWidthTuning = DEFAULT.calibration.psf_width
) -> tuple[np.ndarray, np.ndarray]:
    """Widths, and A_v of the PSF that is so wide, (widths, shifts)."""
    from scipy.interpolate import CubicSpline

    knots = np.arange(tuning.narrowest, tuning.widest + tuning.step / 2, tuning.step)
    tables = (plane_table(scaled_psf(psi.psf, knot), (psi.factor, psi.factor), psi.binning)[0] for knot in knots)
    curves = np.array([[pair_kernel(table, shift).sum() for shift in shifts] for table in tables])
    near_one = np.abs(knots - 1.0) < tuning.most + 1.5 * tuning.step  # only such a width is ever taken
    rates = np.linalg.norm(np.diff(_of_unit_length(curves[near_one]), axis=0), axis=1) / tuning.step
    if not rates.min() > max(tuning.least_rate, tuning.steady * rates.max()):
        raise ValueError("the PSF is too coarse on the fine grid: covariances do not change steadily with its width")
    widths = np.linspace(tuning.narrowest, tuning.widest, round((tuning.widest - tuning.narrowest) / tuning.grid) + 1)
    return widths, CubicSpline(knots, curves)(widths)


def _of_unit_length(curves: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(curves, axis=1, keepdims=True)
    return np.divide(curves, norm, out=np.zeros_like(curves), where=norm > 0)


def _best(
    targets: np.ndarray, widths: np.ndarray, curves: np.ndarray, tuning: PSFWidthTuning = DEFAULT.calibration.psf_width
) -> np.ndarray:
    """For each row of targets the width whose curve fits it best, the strength of the flicker being free.

    NaN where that strength is negative, and where widths far apart fit alike: rounding would choose one of them.
    """
    along = targets @ _of_unit_length(curves).T
    chosen = along.argmax(axis=1)  # of least squares: what is left is the target less what lies along the curve
    most = along.max(axis=1)
    alike = along >= (1 - 1e-9) * most[:, None]
    last = len(widths) - 1 - alike[:, ::-1].argmax(axis=1)
    unique = (most > 0) & (widths[last] - widths[alike.argmax(axis=1)] < tuning.vague)
    return np.where(unique, widths[chosen], math.nan)
