r"""Cameras whose pixels have gains and offsets of their own, made equal before anything is measured.

A pixel of gain :math:`g_j` and offset :math:`o_j` writes counts :math:`y_j` for :math:`(y_j - o_j) / g_j` photons.  The counts

.. math:: (y_j - o_j)\,\bar g / g_j + \bar o

are those that a camera of one gain and one offset, the medians, would have written for the same photons.  Shot noise is then
that of one gain everywhere; only the read noise still differs from pixel to pixel.
"""

from __future__ import annotations

import numpy as np

from ..backend.arrays import default_memory_budget
from ..backend.checks import host_image
from ..backend.kinds import any_kind
from ..backend.typing import ArrayLike
from ..stack import StackLike, recorded_stack

__all__ = ["corrected_counts"]


@any_kind("stack", "offset_map", "gain_map", answers=False)
def corrected_counts(
    stack: StackLike, *, offset_map: ArrayLike, gain_map: ArrayLike | None = None
) -> tuple[np.ndarray, dict[str, float]]:
    """Return the counts that a camera with equal pixels would have written.

    Parameters
    ----------
    stack : (T, M1, M2) array, integers or floats, or Stack
        Raw counts.
    offset_map : (M1, M2)
        Counts of every pixel without light.
    gain_map : (M1, M2), optional
        Counts per detected photon of every pixel.

    Returns
    -------
    frames : (T, M1, M2) float32
        Corrected counts, on the host.
    camera : dict of str to float
        ``offset``, and ``gain`` if there is a map of gains: the medians, counts and counts per photon.  Hand them on to
        :func:`fluogan_core.calibrate`.

    Raises
    ------
    ValueError
        If a map is not of the stack's field, holds NaN, or a gain that is not above 0; if the stack is none.
    TypeError
        If the stack holds neither integers nor floats.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> photons = np.random.default_rng(0).poisson(50.0, (10, 16, 16))
    >>> gains, offsets = np.linspace(1.8, 2.2, 16) * np.ones((16, 1)), np.add.outer(np.arange(16.0), np.full(16, 95.0))
    >>> frames, camera = fg.corrected_counts(photons * gains + offsets, offset_map=offsets, gain_map=gains)
    >>> bool(np.allclose((frames - camera["offset"]) / camera["gain"], photons, atol=1e-3)), camera["gain"]
    (True, 2.0)
    """
    frames = recorded_stack(stack)
    shape = frames.shape[1:]
    offsets, scale = _of_field(offset_map, "offset_map", shape), np.ones(shape)
    camera = {"offset": float(np.median(offsets))}
    if gain_map is not None:
        gains = _of_field(gain_map, "gain_map", shape)
        if gains.min() <= 0:
            raise ValueError(
                f"gain_map holds {int((gains <= 0).sum())} values that are not above 0; put the median there: dead pixels are "
                "found and left out by themselves"
            )
        camera["gain"] = float(np.median(gains))
        scale = camera["gain"] / gains
    corrected = np.empty(frames.shape, dtype=np.float32)
    chunk = max(1, default_memory_budget() // (16 * scale.size))
    for start in range(0, len(frames), chunk):
        part = slice(start, start + chunk)
        corrected[part] = (frames[part] - offsets) * scale + camera["offset"]
    return corrected, camera


def _of_field(image: ArrayLike, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A map, checked."""
    host = host_image(image, name)
    if host.shape != tuple(shape):
        raise ValueError(f"{name} must be of the stack's field, {tuple(shape)}, got {host.shape}; cut both alike")
    return host
