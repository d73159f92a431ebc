"""Kinetics and brightness of an emitter that switches between on and off."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..backend.checks import LARGEST, length_or_time, real_number, whole_number

__all__ = ["Blinking"]


@dataclass(frozen=True)
class Blinking:
    """Kinetics and brightness of an emitter.

    Attributes
    ----------
    on_ms, off_ms : float
        Mean dwell times, ms.
    bleach_s : float
        Mean budget of time spent on, s; ``math.inf`` never bleaches.
    photons_per_frame : float
        Photons that reach the camera from an emitter that is on for a whole frame.

    Raises
    ------
    TypeError, ValueError
        If a value is not a number, or is not positive.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> round(fg.Blinking(on_ms=20.0, off_ms=60.0).duty, 6)
    0.25
    """

    on_ms: float = 20.0
    off_ms: float = 40.0
    bleach_s: float = 80.0
    photons_per_frame: float = 200.0

    def __post_init__(self) -> None:
        for name in ("on_ms", "off_ms"):
            length_or_time(getattr(self, name), name)
        real_number(self.photons_per_frame, "photons_per_frame", low=0, high=LARGEST, open_low=True)
        if self.bleach_s != math.inf:
            real_number(self.bleach_s, "bleach_s", low=0, open_low=True)

    @property
    def duty(self) -> float:
        """Fraction of the time spent on, before bleaching."""
        return self.on_ms / (self.on_ms + self.off_ms)

    def covariance(self, lag: int, frame_ms: float) -> float:
        r"""Return the covariance of the on-fractions of two frames, without bleaching.

        The state's autocovariance :math:`p(1-p)e^{-\lambda|s|}`, with :math:`\lambda = 1/\tau_\mathrm{on} +
        1/\tau_\mathrm{off}`, integrated over both frames; with :math:`u = \lambda\Delta`, :math:`2p(1-p)(u - 1 +
        e^{-u})/u^2` at lag 0 and :math:`p(1-p)e^{-u(k-1)}((1-e^{-u})/u)^2` at lag k.

        Parameters
        ----------
        lag : int
            Frames between the two; 0 gives the variance.
        frame_ms : float
            Exposure, ms.

        Returns
        -------
        covariance : float

        Raises
        ------
        TypeError, ValueError
            If ``lag`` is not a whole number of at least 0, or the exposure is not positive.
        """
        lag = whole_number(lag, "lag", low=0)
        u = length_or_time(frame_ms, "frame_ms") * (1.0 / self.on_ms + 1.0 / self.off_ms)
        spread = self.duty * (1.0 - self.duty)
        if lag:
            return spread * math.exp(-u * (lag - 1)) * (math.expm1(-u) / u) ** 2
        # The closed form cancels for short frames; its series is 1 - u/3 + u**2/12.
        shape = 2.0 * (u + math.expm1(-u)) / u**2 if u > 1e-4 else 1.0 - u / 3.0
        return spread * shape
