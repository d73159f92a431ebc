"""The digits of an estimate that mean something."""

from __future__ import annotations

__all__ = ["nine_digits"]


def nine_digits(value: float) -> float:
    """Return an estimate to nine significant digits.

    Sums over a mirrored stack run in another order, so that their last digits differ.  Of three hundred frames no more than
    four digits of an estimate are known; but a fit of a thousand steps can turn a difference in the last of fifteen into one
    that is seen.

    Parameters
    ----------
    value : float

    Returns
    -------
    float

    Examples
    --------
    >>> nine_digits(0.1 + 0.2), nine_digits(2.0 / 3.0)
    (0.3, 0.666666667)
    """
    return float(f"{value:.9g}")
