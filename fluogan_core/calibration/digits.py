"""The digits of an estimate that mean something."""

from __future__ import annotations

import math

__all__ = ["nine_digits"]

#: Bits that are kept.
_BITS = 30


def nine_digits(value: float) -> float:
    """Return an estimate to nine significant digits: 30 bits, so that twice the counts give twice the estimate.

    Sums over a mirrored stack run in another order, so that their last digits differ.  Of three hundred frames no more than
    four digits of an estimate are known; but a fit of a thousand steps can turn a difference in the last of fifteen into one
    that is seen.

    Parameters
    ----------
    value : float

    Returns
    -------
    float
        Not finite where the value is not.

    Examples
    --------
    >>> nine_digits(0.75), nine_digits(0.75 * (1 + 1e-12)), nine_digits(2 / 3) - 2 / 3 < 1e-9
    (0.75, 0.75, True)
    """
    if not math.isfinite(value):
        return float(value)
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, _BITS)), exponent - _BITS)
