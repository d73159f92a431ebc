"""Reference implementations: every fused operation written out plainly, for critics that the kernels do not know.

The kernels are tested against them.  A critic is here any function ``values`` from frames (n, M1, M2) to scores (n,).
"""

from __future__ import annotations

from collections.abc import Callable

from ..backend.arrays import backend_of
from ..backend.typing import Array
from ..physics.photons import PhotonSets

__all__ = ["critic_differences", "perturbation_differences"]

Values = Callable[[Array], Array]


def critic_differences(values: Values, y: Array, step: float, *, chunk: int) -> Array:
    """Return d[s, j] = D(y_s + step e_j) - D(y_s) by running the critic on every perturbed frame, ``chunk`` at a time.

    Parameters
    ----------
    values : callable
    y : (S, M1, M2)
    step : float
        Counts added to one pixel.
    chunk : int
        Perturbed frames in memory at once.

    Returns
    -------
    (S, M1, M2) in the precision of the scores
    """
    xp = backend_of(y=y).xp
    pixels = y.shape[1] * y.shape[2]
    base = values(y)
    d = xp.empty((len(y), pixels), dtype=base.dtype)
    for s in range(len(y)):
        for start in range(0, pixels, chunk):
            stop = min(start + chunk, pixels)
            frames = xp.repeat(y[s].reshape(1, -1), stop - start, axis=0)
            frames[xp.arange(stop - start), xp.arange(start, stop)] += step
            d[s, start:stop] = values(frames.reshape(-1, *y.shape[1:])) - base[s]
    return d.reshape(y.shape)


def perturbation_differences(values: Values, y: Array, frame: Array, sets: PhotonSets, step: float, *, chunk: int) -> Array:
    """Return D(y + step * photons of set p) - D(y) for every set of photons, by running the critic on each.

    Parameters
    ----------
    y : (S, M1, M2)
    frame : (P,) integers
        The frame that each set is added to.
    sets : PhotonSets
        An empty set gives 0 without running the critic.
    step, chunk
        As in :func:`critic_differences`.

    Returns
    -------
    (P,) in the precision of the scores
    """
    xp = backend_of(y=y, starts=sets.starts).xp
    base = values(y)
    out = xp.zeros(len(sets), dtype=base.dtype)
    frame = xp.asarray(frame)
    for start in range(0, len(sets), chunk):
        stop = min(start + chunk, len(sets))
        filled = xp.nonzero(xp.diff(sets.starts[start : stop + 1]))[0]
        if not len(filled):
            continue
        counts = sets.dense(y.shape[1:], start, stop)[filled]
        owner = frame[start + filled]
        out[start + filled] = values((y[owner] + step * counts).astype(y.dtype)) - base[owner]
    return out
