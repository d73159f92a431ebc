"""Numbers in messages, written so that they can be read, and typed back as an option."""

from __future__ import annotations

import math
from decimal import Decimal

__all__ = ["change_of_light", "plain"]


def plain(value: float, digits: int = 3) -> str:
    """Write a number in decimals, never with an exponent.

    Parameters
    ----------
    value : float
    digits : int
        Significant digits; those before the decimal point are all kept, however many there are.

    Returns
    -------
    str

    Examples
    --------
    >>> plain(-32668.4), plain(2.0209), plain(0.0000123, 2), plain(1e16), plain(float("inf"))
    ('-32668', '2.02', '0.000012', '10000000000000000', 'inf')
    """
    if not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 10.0**digits:
        return f"{value:.0f}"
    return f"{Decimal(f'{value:.{digits}g}'):f}"


def change_of_light(first: float, last: float) -> str:
    """Say how light changed from ``first`` to ``last``: a percentage up to a doubling, then a factor.

    Parameters
    ----------
    first, last : float
        Not negative; ``first`` above 0.

    Returns
    -------
    str

    Examples
    --------
    >>> change_of_light(10.0, 8.3), change_of_light(10.0, 12.0), change_of_light(10.0, 45.0)
    ('falls by 17%', 'rises by 20%', 'rises to 4.5 times its value')
    """
    ratio = last / first
    if ratio >= 2.0:
        return f"rises to {plain(ratio)} times its value"
    return f"{'falls' if ratio < 1.0 else 'rises'} by {abs(ratio - 1.0):.0%}"
