"""Numbers by trial of :mod:`fluogan_core.calibration.psf_shape`: the shape of the PSF."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PSFShapeTuning"]


@dataclass(frozen=True)
class PSFShapeTuning:
    """The shape of the PSF (:func:`fluogan_core.estimate_psf_shape`).

    Attributes
    ----------
    waves : float
        Aberrations that are expected, waves rms; 0.07 is what Marechal calls well corrected.
    components : int
        Principal components of their changes.  On four aberrated development scenes of the zoo 7 left errors of the PSF of 0.03
        to 0.05, 10 of 0.02 to 0.05, and 13 were no better.
    width : float
        Standard deviation of what is left of an error of the width, relative.  No record.
    modes : int
        Modes of the window: about 7 FWHM to a side.  No record.
    band : float
        Frequencies up to this many times the PSF's cutoff are looked at.
    pitch, margin : float
        Sources per FWHM; FWHM beyond the window where sources are sought.  At 3.5 per FWHM, sources between the places make the
        PSF too narrow.
    most_sources : int
        If not more are left, their places are refined.
    updates, updates_between, steps : int
        Multiplicative updates at each stage of the sources, between steps, and steps of Fisher scoring.
    exponent : float
        Of the updates of sources.  At 0.5 sources that are none fade so slowly that the PSF gets tails instead.
    least_source : float
        Sources that add less than this part of what the strongest one adds to the covariance are left out.
    blocks : int
        Blocks of frames between which the scatter of the score is seen.
    clear, least, most : float
        The PSF is changed where the weights' chi squared is this large, and the change this part of its norm; weights of a
        larger root mean square are not aberrations alone.  On the zoo's development scenes the chi squared of PSFs that were
        right was 0 to 24, or the change below 2 %; of bright aberrated ones 100 to 1600, and the root mean square 0.7 to 1.2.
    unclear : float
        No further step is taken where chi squared or change are below this part of these bounds: on development scenes of the
        zoo the second and third step then changed no verdict.
    differs : float
        Standard errors by which consecutive frames may differ from the whole stack, root mean square over the weights: 0.3 to
        0.7 where nothing moves, more than 2 where the sample does.
    soft : float
        Each of these bounds is crossed by degrees, over this part of it.
    fewest_frames, fewest_modes : int
        Frames and modes without which nothing is measured.
    narrowest : float
        FWHM in fine pixels without which nothing is measured.
    """

    waves: float = 0.06
    components: int = 10
    width: float = 0.03
    modes: int = 200
    band: float = 1.1
    pitch: float = 5.0
    margin: float = 1.0
    most_sources: int = 300
    updates: int = 8
    updates_between: int = 2
    steps: int = 3
    exponent: float = 1.5
    least_source: float = 1e-3
    blocks: int = 20
    clear: float = 40.0
    least: float = 0.02
    most: float = 3.0
    unclear: float = 0.5
    differs: float = 1.2
    soft: float = 1.0
    fewest_frames: int = 20
    fewest_modes: int = 60
    narrowest: float = 4.0
