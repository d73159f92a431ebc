"""Where the fine grid lies on the camera's grid."""

from __future__ import annotations

__all__ = ["placement"]


def placement(factor: int, binning: str) -> tuple[float, float]:
    r"""Return the spacing of the fine pixels and the centre of the first one, in camera pixels.

    The centre of camera pixel 0 is at 0, as viewers count.  The fine pixel n is centred at :math:`t + s n`, on both axes, with
    :math:`s = 1/L`.  Where a camera pixel sums its L x L fine pixels, the first of them touches its edge:
    :math:`t = -1/2 + 1/2L`.  Where it takes one sample (``binning="point"``), that sample is its centre:
    :math:`t = -\lfloor L/2 \rfloor / L`.

    Parameters
    ----------
    factor : int
        L.
    binning : {"sum", "point"}

    Returns
    -------
    spacing, first : float
        s and t, camera pixels.
    """
    offset = factor // 2 if binning == "point" else (factor - 1) / 2
    return 1.0 / factor, -offset / factor
