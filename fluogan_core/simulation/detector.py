"""Cameras: photons to counts, sCMOS and EM-CCD."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..backend.checks import one_of, real_number

__all__ = ["Detector"]


@dataclass(frozen=True)
class Detector:
    """A camera that turns a mean number of photons into counts.

    Attributes
    ----------
    kind : {"emccd", "scmos"}
        ``"emccd"``: counts are Gamma distributed with shape N and scale ``quantum_efficiency * gain``, N the Poisson number
        of photons: the excess noise of a multiplication register doubles the variance.  ``"scmos"``: ``gain`` counts for
        each of a Poisson number of electrons, ``quantum_efficiency`` per photon.
    quantum_efficiency : float
        Electrons per photon, above 0, at most 1.
    gain : float
        Counts per electron.
    read_noise : float
        Standard deviation of the additive noise, counts.
    offset : float
        Counts without light.
    dark_per_s : float
        Dark events per pixel per second.

    Raises
    ------
    TypeError, ValueError
        If a value is not a number, or is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> camera = fg.Detector("scmos", quantum_efficiency=0.8, gain=2.0, read_noise=1.5, offset=100.0)
    >>> counts = camera.expose(np.full((64, 64), 50.0), frame_ms=10.0, rng=np.random.default_rng(0))
    >>> counts.dtype.name, round(float(counts.mean()))
    ('float32', 180)
    """

    kind: str = "emccd"
    quantum_efficiency: float = 0.7
    gain: float = 6.0
    read_noise: float = 1.6
    offset: float = 100.0
    dark_per_s: float = 0.06

    def __post_init__(self) -> None:
        one_of(self.kind, "kind", ("emccd", "scmos"))
        real_number(self.quantum_efficiency, "quantum_efficiency", low=0, high=1, open_low=True)
        real_number(self.gain, "gain", low=0, open_low=True)
        for name in ("read_noise", "offset", "dark_per_s"):
            real_number(getattr(self, name), name, low=0)

    @property
    def slope(self) -> float:
        """Variance per mean of the counts of a steady light: the ``gain`` of the double Poisson model."""
        return 2.0 * self.quantum_efficiency * self.gain if self.kind == "emccd" else self.gain

    @property
    def efficiency(self) -> float:
        """Detected photons in the model's unit, (counts - offset) / slope, per photon that reaches the camera."""
        return self.quantum_efficiency * self.gain / self.slope

    def dark(self, frame_ms: float) -> float:
        """Return the mean dark signal of a pixel.

        Parameters
        ----------
        frame_ms : float
            Exposure, ms.

        Returns
        -------
        signal : float
            Per frame, in the model's unit of detected photons, (counts - offset) / slope.
        """
        per_event = 0.5 if self.kind == "emccd" else 1.0
        return per_event * self.dark_per_s * frame_ms * 1e-3

    def expose(self, photons: np.ndarray, frame_ms: float, rng: np.random.Generator) -> np.ndarray:
        """Draw the counts of one exposure.

        Parameters
        ----------
        photons : (...) array
            Mean number of photons that reach each pixel, finite and not negative.
        frame_ms : float
            Exposure, ms; it sets the dark events.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        counts : (...) float32
            Offset included.

        Raises
        ------
        ValueError
            If a mean is negative, not finite, or beyond what NumPy draws Poisson numbers for (about 9e18).
        """
        dark = self.dark_per_s * frame_ms * 1e-3
        if self.kind == "emccd":
            events = rng.poisson(photons + dark)
            electrons = rng.standard_gamma(events) * self.quantum_efficiency
        else:
            electrons = rng.poisson(self.quantum_efficiency * photons + dark).astype(np.float64)
        noise = self.read_noise * rng.standard_normal(np.shape(photons))
        return (self.gain * electrons + self.offset + noise).astype(np.float32)
