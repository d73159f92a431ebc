"""Numbers by trial of :mod:`fluogan_core.calibration.row_shift`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RowShiftTuning"]


@dataclass(frozen=True)
class RowShiftTuning:
    """The shift between odd and even rows (:mod:`fluogan_core.calibration.row_shift`).  No record of the trials.

    Attributes
    ----------
    fewest : int
        Rows and columns from which on a shift is measured.
    passes : int
        Times that rows are shifted back and measured again.
    step, farthest : float
        Pixels between which slopes are differences, and how far one pass goes.
    most : float
        Farther shifts than this are no misaligned scan, pixels.
    empty : float
        Light below this share of the noise counts as none.
    faint, dark : float
        Share of the frequencies, those at which the PSF passes least, that count as without light in any case, and the power
        that it may pass there: a PSF that passes more is too narrow.
    light : float
        Share of what a shift changes that must not be noise.
    smooth : float
        Wavelength from which on what alternates between rows is a background that was not shifted, pixels.
    blocks : int
        Parts per axis of the field by which the error is judged.
    chance, clear : float
        Standard errors up to which a shift may be chance, and from which on all of it is moved back.
    least : float
        Up to this size nothing is moved back, and from twice of it on all, pixels.
    """

    fewest: int = 16
    passes: int = 12
    step: float = 0.02
    farthest: float = 0.3
    most: float = 2.0
    empty: float = 0.3
    faint: float = 0.05
    dark: float = 1e-3
    light: float = 0.3
    smooth: float = 16.0
    blocks: int = 5
    chance: float = 3.0
    clear: float = 5.0
    least: float = 0.03
