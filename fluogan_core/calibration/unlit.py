"""Pixels without a single count, which the light around them explains: they are dark, not dead."""

from __future__ import annotations

import numpy as np

from ..tuning import DEFAULT
from ..tuning.calibration import LivePixelTuning

__all__ = ["share_at_lowest", "unlit_pixels"]


def share_at_lowest(stack: np.ndarray) -> np.ndarray:
    """Share of the frames in which each pixel is at the lowest count of a stack (T, M1, M2), frame by frame: (M1, M2)."""
    lowest, share = stack.min(), np.zeros(stack.shape[1:])
    for frame in stack:
        share += frame == lowest
    return share / len(stack)


def unlit_pixels(
    variance: np.ndarray,
    at_lowest: np.ndarray,
    frames: int,
    tuning: LivePixelTuning = DEFAULT.calibration.live_pixels,
) -> np.ndarray:
    """Find pixels that stay at the lowest count of the stack because hardly any photon comes there.

    Parameters
    ----------
    variance : (M1, M2) array
        Temporal variance of the pixels.
    at_lowest : (M1, M2) array
        Share of the frames in which a pixel is at the lowest count of the stack.
    frames : int
        How many frames there are.
    tuning : LivePixelTuning, optional
        Numbers by trial.

    Returns
    -------
    (M1, M2) bool
        Pixels that never leave the lowest count while the changing pixels beside them rarely do.  What has no changing
        pixel beside it goes with the nearest that has: the rim of a registration is not unlit, since beyond it counts are
        far from the lowest.
    """
    from scipy.ndimage import convolve, distance_transform_edt

    still = variance <= 0
    candidates = still & (at_lowest >= 1)
    if not candidates.any() or still.all():
        return np.zeros(still.shape, dtype=bool)
    # of a Poisson count that is 0 in this share of the frames, the sum over all of them
    expected = -frames * np.log(np.clip(at_lowest, 1e-300, 1.0))
    beside = np.ones((3, 3))
    changing = convolve((~still).astype(float), beside, mode="constant")
    around = convolve(np.where(still, 0.0, expected), beside, mode="constant") / np.maximum(changing, 1.0)
    judged = still & (changing > 0.5)
    explained = judged & candidates & (around <= tuning.unlit_counts)
    nearest = distance_transform_edt(~judged, return_distances=False, return_indices=True)
    return candidates & explained[tuple(nearest)]
