r"""The shape of the PSF, read from the flicker.

The covariance of two pixels is a sum over the sources, of :math:`h(p - i)\,h(q - i)\,u_i`.  Sums of it over the field, which
:mod:`.psf_width` compares, know the modulus of the OTF alone.  Taken place by place, covariances know its phase too, up to a
shift: the sources at frequency :math:`s` are one unknown factor of the products :math:`\hat h(f)\,\hat h(s - f)` for all f.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..backend.checks import field_of
from ..backend.threads import one_thread
from ..physics.aberrations import core_width, shape_changes
from ..physics.psi import Psi
from ..physics.requirements import NOMINAL, has_table, require
from ..stack import StackLike
from ..tuning import DEFAULT
from ..tuning.calibration import CalibrationTuning
from ..tuning.psf_shape import PSFShapeTuning
from .flicker_likelihood import SourceFit
from .flicker_modes import FlickerModes
from .pixel_moments import slow_trend
from .psf_width import Doubt, beyond
from .stack_statistics import StackStatistics

__all__ = ["PSFShape", "estimate_psf_shape", "shape_from"]


@dataclass(frozen=True, eq=False)
class PSFShape:
    """How the PSF differs from the one that was assumed.

    Attributes
    ----------
    psf : (K1, K2) float64
        What to take: as measured where that is clear, as described where it is not, and between the two in between.
    change : float
        Norm of what was measured less what was described, relative to the norm of the latter; NaN where nothing is measured.
    error : float
        Standard error of the measured PSF, in the same unit; infinite where nothing is measured.
    taken : float
        Part of the measured change that ``psf`` has, 0 to 1.
    note : str
        What was done and why, in plain language.
    """

    psf: np.ndarray
    change: float
    error: float
    taken: float
    note: str


def estimate_psf_shape(stack: StackLike, psi: Psi, *, tuning: CalibrationTuning = DEFAULT.calibration) -> PSFShape:
    """Measure on a stack's flicker which mild aberrations the PSF has.

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
    PSFShape
        Take ``psi.replaced(psf=found.psf)`` from there on.

    Raises
    ------
    ValueError
        If the stack is not (T, M1, M2) with T of 2 or more, not finite, or does not fit ``psi``.
    TypeError
        If it holds neither integers nor floats, or if ``psi`` is an operator of your own: it need not have one PSF.
    """
    require(psi, "shape of the PSF", NOMINAL)
    with one_thread():  # products of some hundred rows
        return shape_from(StackStatistics(stack, field_of(psi), tuning), psi, tuning)


def shape_from(statistics: StackStatistics, psi: Psi, tuning: CalibrationTuning = DEFAULT.calibration) -> PSFShape:
    """:func:`estimate_psf_shape` from statistics that may be shared; of an operator of the user's own it is not measured."""
    t = tuning.psf_shape
    if not has_table(psi):
        return _unknown(psi, f"{type(psi).__name__} is an operator of your own, which need not have one PSF")
    fwhm = core_width(psi.psf)
    if fwhm < t.narrowest:
        return _unknown(psi, f"it is {fwhm:.1f} fine pixels wide, and less than {t.narrowest:g} show no shape")
    if len(statistics.frames) < t.fewest_frames:
        return _unknown(psi, f"fewer than {t.fewest_frames} frames")
    try:
        modes = FlickerModes(statistics, psi, fwhm, t)
    except ValueError as reason:
        return _unknown(psi, str(reason))
    if modes.count < t.fewest_modes:
        return _unknown(psi, "the field is hardly larger than the PSF")
    changes = shape_changes(psi.psf, t.waves, t.components, t.width)
    trend = slow_trend(statistics.frames)

    def unclear(fit: SourceFit) -> bool:
        return min(fit.significance / t.clear, _size_of_change(psi, fit) / t.least) < t.unclear

    fit = SourceFit(modes, modes.covariances(trend), fwhm, changes, t, enough=unclear)
    found = _judged(psi, fit, [], t)
    if not found.taken:
        return found
    of_changes = SourceFit(modes, modes.covariances(trend, consecutive=True), fwhm, changes, t)
    why = "consecutive frames do not confirm it (a sample that moves, or flickers slowly)"
    return _judged(psi, fit, [Doubt(why, _disagreement(fit, of_changes) / t.differs)], t)


def _unknown(psi: Psi, why: str) -> PSFShape:
    note = f"shape of the PSF: the flicker does not determine it ({why}); the PSF is used as described"
    return PSFShape(psi.psf, math.nan, math.inf, 0.0, note)


def _size_of_change(psi: Psi, fit: SourceFit) -> float:
    """Norm of the change that was fitted, in units of the PSF's."""
    return float(np.linalg.norm(np.tensordot(fit.weights, fit.changes, 1)) / np.linalg.norm(psi.psf))


def _disagreement(one: SourceFit, other: SourceFit) -> float:
    """How far apart two fits are, in errors of the difference, root mean square over the changes."""
    apart = one.weights - other.weights
    return math.sqrt(float(apart @ np.linalg.solve(one.covariance + other.covariance, apart)) / len(apart))


def _judged(psi: Psi, fit: SourceFit, doubts: list[Doubt], tuning: PSFShapeTuning) -> PSFShape:
    """The shape to use, given the fitted one and the reasons that it may not be that of the PSF."""
    size, flat = float(np.linalg.norm(psi.psf)), fit.changes.reshape(len(fit.changes), -1)
    measured = np.tensordot(fit.weights, fit.changes, 1)
    change = _size_of_change(psi, fit)
    error = math.sqrt(float(np.trace(fit.covariance @ (flat @ flat.T)))) / size
    found = f"covariances fit a PSF that differs by {change:.1%} +- {error:.1%} of its norm from the described one"
    clear = beyond(fit.significance / tuning.clear, tuning.soft) * beyond(change / tuning.least, tuning.soft)
    if clear == 0.0:
        return PSFShape(psi.psf, change, error, 0.0, f"shape of the PSF: as described ({found})")
    far = float(np.sqrt(np.mean(fit.weights**2))) / tuning.most
    doubts = [Doubt("that is more than mild aberrations change (flicker out of focus, or a sample that moves)", far), *doubts]
    doubtful = [(doubt.reason, beyond(doubt.ratio, tuning.soft)) for doubt in doubts]
    reasons = "; ".join(reason for reason, degree in doubtful if degree)
    taken = clear * math.prod(1.0 - degree for _, degree in doubtful)
    if taken == 0.0:
        return PSFShape(psi.psf, change, error, 0.0, f"shape of the PSF: {found}; this change is not taken, because {reasons}")
    psf = np.maximum(psi.psf + taken * measured, 0.0)
    psf /= psf.sum()
    if taken == 1.0:
        return PSFShape(psf, change, error, 1.0, f"shape of the PSF: {found}; this shape is used")
    why = reasons or "that is hardly more than its error"
    return PSFShape(psf, change, error, taken, f"shape of the PSF: {found}; {taken:.0%} of the change is used, because {why}")
