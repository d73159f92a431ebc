r"""Gain, offset, noise and brightness of the emitters, read from the stack itself.

For the model ``Y = gain * P(Psi P(x) + b) + offset + N`` a pixel of mean m (counts) has the temporal variance

.. math:: v_j = g\,(m_j - o) + \sigma^2 + q \sum_i \Psi_{ji}^2 u_i, \qquad q = g \kappa,

with g the gain, o the offset, :math:`\Psi` of unit sums and u the emission in counts.  Its last term is the flicker.  Shot
noise and read noise do not reach the covariance of two *different* pixels, the flicker does:
:math:`C_{jk} = q \sum_i \Psi_{ji} \Psi_{ki} u_i`.  So q is measured on neighbours, the flicker is taken off the variance,
and the rest is regressed on the mean.  u need not be known: the mean image and its blur by :math:`\Psi_{ji} \Psi_{ki}` are
two convolutions of it, and a filter leads from one to the other.

What can be known, and what cannot:

* gain: the slope.  Variances are half the mean squared differences of consecutive frames, which bleaching and drift do not
  touch.
* offset and read noise: the intercept :math:`\sigma^2 - g o` is known, its two parts are not.  Unless one is given, the read
  noise is taken as anything from nothing to :data:`MOST_READ_NOISE` electrons that does not lift the offset above the darkest
  pixels, and the errors say so.  Third cumulants could part them, but only in a camera whose own noise is not skewed.
* kappa: from the covariances of the whole stack, less a slow trend of each pixel.  The model takes frames one by one, so
  the fluctuation it must explain is the whole one; differences of consecutive frames miss what outlasts a frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._checks import finite_stack, real_number
from .backend import backend_of, default_memory_budget
from .psi import Psi

__all__ = ["MOST_READ_NOISE", "Camera", "CameraEstimate", "estimate_camera"]

#: Largest read noise expected of a camera, electrons rms; a rolling-shutter sCMOS has about 1.5.
MOST_READ_NOISE = 2.5

#: Pixels whose variance departs by more than this many robust standard deviations do not take part.
_REJECT = 4.0
#: Blocks per axis of the field that the jackknife leaves out one at a time.
_BLOCKS = 5
#: Regularisation of the sharpening filter, relative to the squared transfer of the PSF at zero frequency.
_WIENER = 0.002
#: At most this many near shifts take part.
_NEIGHBOURS = 16
#: Terms of a covariance that the PSF shapes: q, and six of a smooth background; then lamp, row noise, column noise.
_SHAPED, _SPREAD = 7, 3

Shift = tuple[int, int]


@dataclass(frozen=True)
class Camera:
    """A camera with the same gain and offset everywhere.

    Attributes
    ----------
    gain : float
        Counts per detected photon.
    offset : float
        Counts without light.
    noise_std : float
        Standard deviation of the additive noise, counts.
    """

    gain: float = 1.0
    offset: float = 0.0
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "gain", real_number(self.gain, "gain", low=0, open_low=True))
        object.__setattr__(self, "offset", real_number(self.offset, "offset"))
        object.__setattr__(self, "noise_std", real_number(self.noise_std, "noise_std", low=0))

    def to_photons(self, counts: Any) -> Any:
        """Return ``(counts - offset) / gain`` as float32, for a NumPy or CuPy array of any shape and dtype."""
        backend_of(counts=counts)
        return (counts.astype(np.float32) - np.float32(self.offset)) / np.float32(self.gain)


@dataclass(frozen=True)
class CameraEstimate:
    """What a stack says about its camera and emitters.

    Attributes
    ----------
    camera : Camera
    photons_per_emitter : float
        kappa, detected photons per emission.
    gain_error, offset_error, noise_std_error, photons_per_emitter_error : float
        One standard error each; 0 for what the user gave, infinite for a kappa of which the stack says nothing.
    given : tuple of str
        Names that the user gave.
    notes : tuple of str
        Remarks in plain language.
    diagnostics : dict of str to (M1, M2) array
        ``mean`` and ``variance`` of the counts, the ``flicker`` taken off the variance, and the pixels ``used``.
    """

    camera: Camera
    photons_per_emitter: float
    gain_error: float
    offset_error: float
    noise_std_error: float
    photons_per_emitter_error: float
    given: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    diagnostics: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)


# -- moments of the stack ---------------------------------------------------------------------------------------------


@dataclass
class _Moments:
    """Mean, variance, and covariances at each shift: from consecutive differences (fast), from the whole stack."""

    mean: np.ndarray
    variance: np.ndarray
    fast: dict[Shift, np.ndarray]
    whole: dict[Shift, np.ndarray]
    brightness: np.ndarray


def _pair(shift: Shift, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Windows of the pixels j and of their partners j + shift, both inside the field; shift[0] is not negative."""
    (down, right), (rows, columns) = shift, shape
    first = slice(0, max(0, rows - down)), slice(max(0, -right), columns - max(0, right))
    second = slice(down, max(down, rows)), slice(max(0, right), columns - max(0, -right))
    return first, second


def _mean_product(a: np.ndarray, b: np.ndarray, degrees: int) -> np.ndarray:
    return np.einsum("tij,tij->ij", a, b).astype(np.float64) / max(degrees, 1)


def _moments(stack: np.ndarray, shifts: list[Shift]) -> _Moments:
    """Compute the moments in bands of rows that fit the memory budget."""
    frames, rows, columns = stack.shape
    degree = 0 if frames < 10 else 1 if frames < 30 else 2
    trend = np.linalg.qr(np.polynomial.legendre.legvander(np.linspace(-1, 1, frames), degree))[0].astype(np.float32)
    reach = max((down for down, _ in shifts), default=0)
    band = max(1, default_memory_budget() // (16 * frames * columns) - reach)

    mean, variance = np.empty((rows, columns)), np.empty((rows, columns))
    fast, whole = ({s: np.empty(mean[_pair(s, mean.shape)[0]].shape) for s in shifts} for _ in range(2))
    brightness = np.zeros(frames)
    for top in range(0, rows, band):
        part = np.array(stack[:, top : top + band + reach], dtype=np.float32)
        own = min(band, rows - top)
        level = part.mean(axis=0, dtype=np.float64)
        mean[top : top + own] = level[:own]
        brightness += part[:, :own].sum(axis=(1, 2), dtype=np.float64) / mean.size
        part -= level.astype(np.float32)
        change = np.diff(part, axis=0) * np.float32(math.sqrt(0.5))
        variance[top : top + own] = _mean_product(change[:, :own], change[:, :own], frames - 1)
        part -= np.tensordot(trend, np.tensordot(trend, part, axes=(0, 0)), axes=(1, 0))
        for source, target, degrees in ((change, fast, frames - 1), (part, whole, frames - 1 - degree)):
            for shift in shifts:
                first, second = _pair(shift, part.shape[1:])
                product = _mean_product(source[:, *first], source[:, *second], degrees)
                keep = max(0, min(own, rows - shift[0] - top))
                target[shift][top : top + keep] = product[:keep]
    return _Moments(mean, variance, fast, whole, brightness)


def _live(stack: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Pixels that neither saturate, nor stand still, nor stick out, and what to say of the others.

    A ceiling shows as a pile of values at the very top: more than twice as many as at the next value down.  A hot pixel
    stands out of its neighbours by half the range of the image, which no optics can do.
    """
    from scipy.ndimage import median_filter

    top, second = stack.max(), None
    at_top, count, next_count = np.zeros(variance.shape, dtype=bool), 0, 0
    for frame in stack:
        hit = frame == top
        at_top |= hit
        count += int(hit.sum())
        rest = frame[~hit]
        if rest.size and (second is None or rest.max() >= second):
            value = rest.max()
            next_count = int((rest == value).sum()) + (next_count if value == second else 0)
            second = value
    notes = []
    live = np.ones(variance.shape, dtype=bool)
    if count >= 5 and count > 2 * next_count and second is not None:
        live &= ~at_top
        notes.append(f"saturation: {count / stack.size:.2%} of the values pile up at {top:g}; their pixels are left out")
    span = np.ptp(np.quantile(mean, (0.005, 0.995)))
    hot = np.abs(mean - median_filter(mean, 3)) > 0.5 * span + 5.0 * np.sqrt(variance / len(stack))
    for wrong, what in ((variance <= 0, "never change (dead, or masked)"), (hot, "stand out alone (hot)")):
        if (live & wrong).any():
            notes.append(f"pixels left out: {int((live & wrong).sum())} that {what}")
            live &= ~wrong
    if live.sum() < 16:
        raise ValueError(
            f"only {int(live.sum())} pixels fluctuate without saturating; at least 16 are needed to read the camera"
        )
    return live, notes


# -- the flicker ------------------------------------------------------------------------------------------------------


class _Optics:
    """What the PSF says of covariances.

    Emission is taken as uniform inside a camera pixel; then the mean image and the covariance at a shift are convolutions
    of the same emission.

    ``near`` shifts see the flicker, closest first; ``far`` ones see only what camera and lamp have in common.
    """

    def __init__(self, psi: Psi) -> None:
        self.table, self.origin, self.shape = psi.table / psi.photons_per_emitter, psi.origin, psi.shape
        reach = [min(t, m - 1) for t, m in zip(self.table.shape[2:], self.shape)]
        half_plane = [(0, right) for right in range(1, reach[1])]
        half_plane += [(down, right) for down in range(1, reach[0]) for right in range(1 - reach[1], reach[1])]
        #: Sum of the kernel at each shift: the covariance of a uniform emission.
        self.strength = {shift: float(self.kernel(shift).sum()) for shift in [(0, 0), *half_plane]}
        own = self.strength[0, 0]
        ranked = sorted(half_plane, key=lambda shift: -self.strength[shift])
        self.near = [s for s in ranked if self.strength[s] > 0.1 * own][:_NEIGHBOURS] or ranked[:4]
        beyond = [1 + max((abs(s[axis]) for s in half_plane if self.strength[s] > 1e-3 * own), default=0) for axis in (0, 1)]
        steps = [[math.ceil(k * r) for r in beyond] for k in (1.0, 1.5, 2.0)]
        wanted = [shift for down, right in steps for shift in ((0, right), (down, 0), (down, right), (down, -right))]
        self.far = [s for s in wanted if s[0] <= self.shape[0] - 4 and abs(s[1]) <= self.shape[1] - 4]

    def kernel(self, shift: Shift) -> np.ndarray:
        """Mean over the phases of T[k] T[k + shift], on the taps of the table."""
        first, second = _pair(shift, self.table.shape[2:])
        kernel = np.zeros(self.table.shape[2:])
        kernel[first] = (self.table[:, :, *first] * self.table[:, :, *second]).mean(axis=(0, 1))
        return kernel

    def predictor(self, mean: np.ndarray) -> Any:
        """Return the function of a shift that gives the covariance per unit of q, (M1, M2), from the mean image.

        A Wiener filter stands for the inverse of the blur: what it loses is lost to the prediction and does not bias the
        regression on it.  A constant background counts as emission.
        """
        from scipy.fft import irfft2, next_fast_len, rfft2

        pad = [max(-o, t + o) for o, t in zip(self.origin, self.table.shape[2:])]
        level = float(mean.mean())
        padded = np.pad(mean - level, [(p, p) for p in pad], mode="symmetric")
        size = tuple(next_fast_len(n, True) for n in padded.shape)

        def transfer(kernel: np.ndarray) -> np.ndarray:
            placed = np.zeros(size)
            places = [(np.arange(t) + o) % n for t, o, n in zip(kernel.shape, self.origin, size)]
            np.add.at(placed, np.ix_(*places), kernel)
            return rfft2(placed)

        blur = transfer(self.table.mean(axis=(0, 1)))
        total = float(blur[0, 0].real)
        emission = rfft2(padded, size) * blur.conj() * (1.0 + _WIENER) / (np.abs(blur) ** 2 + _WIENER * total**2)
        window = tuple(slice(p, p + m) for p, m in zip(pad, self.shape))

        def predict(shift: Shift) -> np.ndarray:
            kernel = self.kernel(shift)
            return irfft2(emission * transfer(kernel), size)[window] + level * kernel.sum() / total

        return predict


@dataclass
class _Flicker:
    """Coefficients of the covariance: all pixels first, then one jackknife replicate per row.

    ``terms`` are what the first eight stand for at shift zero; ``disagreement`` is the relative difference between q from
    the closer and from the wider near pairs, 0 where it is within the noise.
    """

    fast: np.ndarray
    whole: np.ndarray
    terms: np.ndarray
    disagreement: float

    def variance(self, replicate: int) -> np.ndarray:
        """Flicker of sample and lamp in the variance of consecutive differences, (M1, M2)."""
        return np.tensordot(self.fast[replicate, : len(self.terms)], self.terms, axes=1)


def _fit_flicker(
    moments: _Moments, optics: _Optics, used: np.ndarray, weight: np.ndarray, offset: float, blocks: np.ndarray
) -> _Flicker:
    """Regress the covariances on what flicker, lamp and read-out would give.

    Far pairs share no emitter: they tell the lamp, which acts on all pixels at once, and the noise common to a row or a
    column.  Near pairs, less these, tell the flicker.  A background, static and smooth, takes part in the mean and not in
    the covariance: a quadratic surface takes it off.
    """
    from scipy.ndimage import median_filter

    shape, count, total = moments.mean.shape, int(blocks.max()) + 1, _SHAPED + _SPREAD
    mean = np.where(used, moments.mean, median_filter(moments.mean, 3))
    predict, light = optics.predictor(mean), mean - offset
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    surface = np.stack([np.ones(shape), y, x, y * y, x * y, x * x])

    half = (len(optics.near) + 1) // 2
    groups = optics.near[:half], optics.near[half:], optics.far
    normal, right = np.zeros((3, count, total, total)), np.zeros((3, count, total, 2))
    for group, shifts in enumerate(groups):
        for shift in shifts:
            first, second = _pair(shift, shape)
            taken = used[first] & used[second]
            design = np.zeros((total, int(taken.sum())))
            if shifts is not optics.far:
                design[0] = predict(shift)[first][taken]
                design[1:_SHAPED] = optics.strength[shift] * surface[:, *first][:, taken]
            design[_SHAPED] = (light[first] * light[second])[taken]
            design[_SHAPED + 1], design[_SHAPED + 2] = shift[0] == 0, shift[1] == 0
            targets = np.stack([moments.fast[shift][taken], moments.whole[shift][taken]])
            scaled = design * np.sqrt(weight[first] * weight[second])[taken]
            label = blocks[first][taken]
            for block in range(count):
                inside = label == block
                normal[group, block] += scaled[:, inside] @ design[:, inside].T
                right[group, block] += scaled[:, inside] @ targets[:, inside].T

    whole_field = np.concatenate([normal.sum(axis=1)[None], normal.sum(axis=1) - normal.swapaxes(0, 1)])
    whole_right = np.concatenate([right.sum(axis=1)[None], right.sum(axis=1) - right.swapaxes(0, 1)])
    solved, halves = [], []
    for n, r in zip(whole_field, whole_right):
        spread = _solve(n[2, _SHAPED:, _SHAPED:], r[2, _SHAPED:])
        left = r[:, :_SHAPED] - n[:, :_SHAPED, _SHAPED:] @ spread
        n = n[:, :_SHAPED, :_SHAPED]
        solved.append(np.concatenate([_solve(n[0] + n[1], left[0] + left[1]), spread]))
        halves.append([_solve(n[k], left[k])[0, 1] for k in (0, 1)])
    fast, whole = np.moveaxis(np.array(solved), 2, 0)
    apart = np.array(halves)[:, :1] - np.array(halves)[:, 1:]
    clear = groups[1] and whole[0, 0] > 0 and abs(apart[0, 0]) > 2.0 * _jackknife(apart)[0]
    terms = np.concatenate([predict((0, 0))[None], optics.strength[0, 0] * surface, light[None] ** 2])
    return _Flicker(fast, whole, terms, abs(apart[0, 0]) / whole[0, 0] if clear else 0.0)


def _solve(normal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Least squares from normal equations; terms that never occur get 0."""
    scale = np.sqrt(np.diag(normal))
    scale[scale == 0] = 1.0
    solution = np.linalg.lstsq(normal / np.outer(scale, scale), right / scale[:, None], rcond=1e-9)[0]
    return solution / scale[:, None]


# -- the variance against the mean ------------------------------------------------------------------------------------


def _line(mean: np.ndarray, variance: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Slope and intercept by weighted least squares; slope 0 where all means are equal."""
    share = weight / weight.sum()
    centre, level = (share * mean).sum(), (share * variance).sum()
    spread = (share * (mean - centre) ** 2).sum()
    slope = float((share * (mean - centre) * (variance - level)).sum() / spread) if spread > 0 else 0.0
    return slope, float(level - slope * centre)


def _expected(mean: np.ndarray, variance: np.ndarray, live: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit variance = slope * mean + intercept robustly; return the fitted variance and the pixels that keep to it.

    Weights are 1 / variance.  The square would be best were sampling the only error; but every pixel of a real camera has a
    read noise of its own, which spoils the dark end, and the sharpened mean image is least certain there.
    """
    floor = max(0.01 * float(np.median(variance[live])), 1e-12)
    fit, used = np.full(mean.shape, max(float(variance[live].mean()), floor)), live
    # Half mean squared differences scatter like chi-square over this many degrees of freedom; its cube root is normal.
    bias = 2.0 * (3.0 * frames - 4.0) / (2.0 * (frames - 1.0) ** 2) / 9.0
    for _ in range(5):
        slope, intercept = _line(mean[used], variance[used], 1.0 / fit[used])
        fit = np.maximum(slope * mean + intercept, floor)
        z = (np.cbrt(np.maximum(variance, 0.0) / fit) - 1.0 + bias) / math.sqrt(bias)
        scatter = max(1.0, 1.4826 * float(np.median(np.abs(z[live] - np.median(z[live])))))
        used = live & (np.abs(z) <= _REJECT * scatter)
    return fit, used


def _resolve(
    mean: np.ndarray, variance: np.ndarray, weight: np.ndarray, darkest: float, given: dict[str, float]
) -> tuple[float, float, float, float]:
    """Gain, offset, noise_std, and how far noise_std**2 stays open (a standard deviation), honouring what is given."""
    gain, offset, noise = given.get("gain"), given.get("offset"), given.get("noise_std")
    if gain is None and offset is not None and noise is not None:
        light = mean - offset
        return float((weight * light * (variance - noise**2)).sum() / (weight * light**2).sum()), offset, noise, 0.0
    if gain is None:
        gain, intercept = _line(mean, variance, weight)
    else:
        intercept = float((weight * (variance - gain * mean)).sum() / weight.sum())
    if noise is not None:
        return gain, (noise**2 - intercept) / gain if offset is None and gain else offset or 0.0, noise, 0.0
    if offset is not None:
        square = intercept + gain * offset
        if square < 0 and "gain" not in given:  # no read noise at all: the line goes through the offset
            return _resolve(mean, variance, weight, darkest, {"offset": offset, "noise_std": 0.0})
        return gain, offset, math.sqrt(max(square, 0.0)), 0.0
    if gain <= 0:
        return gain, 0.0, 0.0, 0.0
    # A noise_std uniform between nothing and its largest value: mean and standard deviation of its square.
    largest = min((MOST_READ_NOISE * gain) ** 2, max(0.0, gain * darkest + intercept))
    return gain, (largest / 3.0 - intercept) / gain, math.sqrt(largest / 3.0), math.sqrt(4.0 / 45.0) * largest


def _jackknife(replicates: np.ndarray) -> np.ndarray:
    """Standard errors from replicates that leave one block out each; the first row, the full sample, is passed over."""
    left_out = replicates[1:]
    return np.sqrt((len(left_out) - 1) / len(left_out) * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))


# -- the estimate -----------------------------------------------------------------------------------------------------


def estimate_camera(
    stack: Any,
    psi: Psi | None = None,
    *,
    gain: float | None = None,
    offset: float | None = None,
    noise_std: float | None = None,
    photons_per_emitter: float | None = None,
) -> CameraEstimate:
    """Estimate gain, offset, read noise and the photons per emission from a stack.

    Parameters
    ----------
    stack : (T, M1, M2) array, integers or floats
        Raw counts.
    psi : Psi, optional
        Gives the shape of the PSF (its own ``photons_per_emitter`` is ignored).  Without it the flicker cannot be told
        from shot noise: the gain comes out too high where the sample flickers, and kappa stays unknown.
    gain, offset, noise_std, photons_per_emitter : float, optional
        What is known already (a calibrated camera); taken as it is.

    Returns
    -------
    CameraEstimate
        Errors are one standard error.  They join a jackknife over blocks of the field; half the range over three
        weightings (a camera that is not linear); the disagreement between closer and wider pairs of pixels (a PSF that
        does not fit); and, for offset and read noise, what the intercept leaves open.

    Raises
    ------
    ValueError
        If the stack is not (T, M1, M2) with T of 2 or more, not finite, does not fit ``psi``, or does not determine the
        gain.
    TypeError
        If it holds neither integers nor floats.
    """
    options = {"gain": gain, "offset": offset, "noise_std": noise_std, "photons_per_emitter": photons_per_emitter}
    given = {
        name: real_number(value, name, low=-math.inf if name == "offset" else 0, open_low=name not in ("offset", "noise_std"))
        for name, value in options.items()
        if value is not None
    }
    if not isinstance(stack, np.ndarray):
        stack = np.asarray(stack.get() if hasattr(stack, "get") else stack)
    finite_stack(stack)
    frames, rows, columns = stack.shape
    if psi is not None and psi.shape != (rows, columns):
        raise ValueError(f"psi is for a field of {psi.shape}, the frames are {(rows, columns)}; cut both alike")

    optics = None if psi is None else _Optics(psi)
    moments = _moments(stack, [*optics.near, *optics.far] if optics else [(1, 0)])
    mean = moments.mean
    live, notes = _live(stack, mean, moments.variance)
    blocks = (np.arange(rows) * _BLOCKS // rows)[:, None] * _BLOCKS + np.arange(columns) * _BLOCKS // columns
    blocks = np.unique(blocks, return_inverse=True)[1].reshape(rows, columns)

    flicker, shot = None, moments.variance
    fit, used = _expected(mean, shot, live, frames)
    if optics is not None:
        for _ in range(2):  # the weights, and the offset under the lamp, improve once the flicker is known
            dark = _resolve(mean[used], shot[used], 1.0 / fit[used], math.inf, given)[1]
            flicker = _fit_flicker(moments, optics, used, 1.0 / fit, dark, blocks)
            shot = moments.variance - flicker.variance(0)
            fit, used = _expected(mean, shot, live, frames)

    darkest = float(np.quantile(mean[used], 0.005))
    replicates = []
    for replicate in range(int(blocks.max()) + 2):
        keep = used & (blocks != replicate - 1)
        clean = moments.variance - flicker.variance(replicate) if flicker else moments.variance
        values = _resolve(mean[keep], clean[keep], 1.0 / fit[keep], darkest, given)
        q = (flicker.whole[replicate, 0], flicker.fast[replicate, 0]) if flicker else (math.nan, math.nan)
        replicates.append([*values, *(part / values[0] if values[0] else math.nan for part in q)])
    table = np.array(replicates)
    error = _jackknife(table)
    found_gain, found_offset, found_noise, still_open, kappa, _ = (float(value) for value in table[0])

    slopes = [_resolve(mean[used], shot[used], fit[used] ** -power, darkest, given)[:2] for power in (0, 1, 2)]
    bend = np.ptp(slopes, axis=0) / 2
    doubt = flicker.disagreement if flicker else 0.0
    uncorrected = _resolve(mean[used], moments.variance[used], 1.0 / fit[used], darkest, given)
    gain_error, offset_error = (math.hypot(error[k], bend[k], doubt * abs(uncorrected[k] - table[0, k])) for k in (0, 1))
    if not found_gain > 2.0 * gain_error:
        raise ValueError(
            f"the gain cannot be read from this stack (slope of variance on mean {found_gain:.3g} +- {gain_error:.3g}): its "
            "pixels are too alike, or too few, or their noise is not that of photons; pass gain= from a calibration"
        )
    offset_error = math.hypot(offset_error, still_open / found_gain)
    if found_noise > 0:
        noise_error = still_open / (2.0 * found_noise)
    else:  # a read noise below what the errors of the line can hide
        noise_error = math.sqrt(found_gain * offset_error + gain_error * abs(float(mean.mean()) - found_offset))
    kappa_error = math.hypot(error[4], doubt * kappa) if flicker else math.inf
    errors = {
        "gain": gain_error,
        "offset": offset_error,
        "noise_std": math.hypot(error[2], noise_error),
        "photons_per_emitter": kappa_error,
    }
    brightness, remark = _brightness(kappa, kappa_error)
    if remark and "photons_per_emitter" not in given:
        notes.append(remark)
    notes += _camera_notes(moments, (slopes[2][0], found_gain, slopes[0][0]), float(error[0]), found_offset, given)
    notes += _flicker_notes(flicker, table[0, 4:], error[4:]) if flicker else _neighbour_notes(moments)
    for name in given:
        errors[name] = 0.0
    return CameraEstimate(
        camera=Camera(found_gain, found_offset, found_noise),
        photons_per_emitter=given.get("photons_per_emitter", brightness),
        gain_error=errors["gain"],
        offset_error=errors["offset"],
        noise_std_error=errors["noise_std"],
        photons_per_emitter_error=errors["photons_per_emitter"],
        given=tuple(given),
        notes=tuple(notes),
        diagnostics={"mean": mean, "variance": moments.variance, "flicker": moments.variance - shot, "used": used},
    )


def _brightness(kappa: float, error: float) -> tuple[float, str]:
    """A usable kappa, and what to say where it was not measured."""
    if kappa > 2.0 * error:
        return kappa, ""
    if math.isinf(error):
        return 1.0, "photons per emission: not measured, that takes psi; 1 is assumed"
    if error > 1.0:
        return 1.0, f"photons per emission: not determined ({kappa:.2g} +- {error:.2g}); 1 is assumed"
    return max(kappa, error), f"photons per emission: hardly any flicker seen ({kappa:.2g} +- {error:.2g})"


def _camera_notes(
    moments: _Moments, slopes: tuple[float, float, float], error: float, offset: float, given: dict[str, float]
) -> list[str]:
    """Remarks on camera and light; ``slopes`` where dark pixels weigh most, as used, and where bright ones do."""
    notes = []
    frames = moments.brightness.size
    if frames < 20:
        notes.append(f"only {frames} frames: variances are rough")
    if "offset" not in given and "noise_std" not in given:
        notes.append(
            f"offset and read noise cannot be told apart: a read noise of 0 to {MOST_READ_NOISE:g} electrons is assumed; "
            "pass offset= or noise_std= if you know one"
        )
    dim, gain, bright = slopes
    if "gain" not in given and abs(dim - bright) > max(0.1 * gain, 2.0 * error):
        notes.append(
            f"variance is not proportional to light: its slope is {dim:.3g} among dark pixels and {bright:.3g} among bright "
            "ones (a camera that is not linear, or a sample that moves)"
        )
    tenth = max(1, frames // 10)
    first, last = (part.mean() - offset for part in (moments.brightness[:tenth], moments.brightness[-tenth:]))
    if first > 0 and abs(last / first - 1.0) > 0.03:
        word = "falls" if last < first else "rises"
        notes.append(f"bleaching or drift: brightness {word} by {abs(last / first - 1.0):.0%} over the stack")
    return notes


def _flicker_notes(flicker: _Flicker, kappa: np.ndarray, error: np.ndarray) -> list[str]:
    """Remarks on fluctuations; ``kappa`` and ``error`` are of the whole stack and of consecutive differences."""
    notes = []
    if kappa[0] > 3.0 * error[0] and kappa[0] - kappa[1] > max(0.2 * kappa[0], 3.0 * math.hypot(*error)):
        notes.append(
            f"slow fluctuation: two frames in a row show only {max(kappa[1] / kappa[0], 0.0):.0%} of it (blinking over several "
            "frames, or a sample that moves)"
        )
    if kappa[0] > 3.0 * error[0] and flicker.disagreement > 0.2:
        notes.append(
            "the covariance of neighbours does not fall off as the PSF says (another PSF, or flicker out of focus): kappa "
            f"is uncertain by {flicker.disagreement:.0%} for that alone"
        )
    values, errors = flicker.fast[0, _SHAPED:], _jackknife(flicker.fast)[_SHAPED:]
    clear = values > 4.0 * errors
    if clear[0] and values[0] > 0.003**2:
        notes.append(f"the illumination flickers by {math.sqrt(values[0]):.1%} rms from frame to frame")
    for name, value, seen in (("row", values[1], clear[1]), ("column", values[2], clear[2])):
        if seen:
            notes.append(f"noise common to a {name}: {math.sqrt(value):.2g} counts rms")
    return notes


def _neighbour_notes(moments: _Moments) -> list[str]:
    """Warn of a flicker that could not be taken off."""
    near, variance = moments.fast[1, 0], moments.variance
    if not near.size:
        return []
    common = float(near.sum() / np.sqrt(variance[:-1] * variance[1:]).sum())
    if common <= max(0.02, 5.0 / math.sqrt(near.size * moments.brightness.size)):
        return []
    return [
        f"neighbouring pixels fluctuate together (correlation {common:.2f}): the sample flickers and the gain is too high; "
        "pass psi so that the flicker can be taken off"
    ]
