"""Numbers by trial of :mod:`fluogan_core.calibration.row_shift`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RowShiftTuning"]


@dataclass(frozen=True)
class RowShiftTuning:
    """The shift between odd and even rows (:mod:`fluogan_core.calibration.row_shift`).  No record of the trials.

    Attributes
    ----------
    passes : int
        Times that rows are shifted back and measured again.
    most : float
        Farther shifts than this are no misaligned scan, pixels.
    blocks : int
        Blocks per axis of the field that the jackknife leaves out one at a time.
    clear, least : float
        A shift is reported where it is this many standard errors and this many pixels.
    light : float
        Power of the slope, in units of what noise alone gives, from which on there is light to read a shift from.
    """

    passes: int = 6
    most: float = 2.0
    blocks: int = 5
    clear: float = 5.0
    least: float = 0.03
    light: float = 4.0
