"""Logarithm, exponential and cosine as branch-free polynomials, so that loops over them vectorise (calls of libm do not).

The polynomials are plain Taylor series, cut where the next term is below 1e-17.  Each function is within 3 units in the last
place over the range it is made for (``tests/kernels/test_kernel_sampling.py``).
"""

from __future__ import annotations

import math

import numpy as np

from ._compile import inlined

__all__ = ["cos_turns", "exp", "log"]

_EXPONENT = np.uint64(52)
_MANTISSA = np.uint64(0x000FFFFFFFFFFFFF)
_ONE_BITS = np.uint64(0x3FF0000000000000)
_ROOT_HALF_BITS = np.uint64(0x3FE6A09E667F3BCD)  # sqrt(1/2)
_WHOLE_BITS = np.uint64(0x4330000000000000)  # 2**52: a whole number below it is its own mantissa
_WHOLE = 2.0**52
_ROUNDER = 1.5 * 2.0**52  # adding and taking it away rounds to a whole number
# ln 2 in two parts; the first has 21 zero bits at its end, so that its product with an exponent is exact
_LOG2_HIGH = float.fromhex("0x1.62e42fee00000p-1")
_LOG2_LOW = 1.9082149292705877e-10
_PER_LOG2 = 1.0 / math.log(2.0)
_TAU = 2.0 * math.pi

# Highest power first.  log: atanh(s) / s - 1 over s**2; exp: (e**r - 1 - r) / r**2; cosine: sin(a) / a - 1 over a**2.
_ATANH = tuple(1.0 / (2 * k + 1) for k in range(9, 0, -1))
_EXP = tuple(1.0 / math.factorial(k) for k in range(13, 1, -1))
_SINE = tuple((-1.0) ** k / math.factorial(2 * k + 1) for k in range(10, 0, -1))


@inlined
def _polynomial(x, coefficients):  # type: ignore[no-untyped-def]
    total = 0.0
    for c in coefficients:
        total = total * x + c
    return total


@inlined
def log(x):  # type: ignore[no-untyped-def]
    """Return the natural logarithm of a positive normal float64.

    With x = 2**e * m and m in [sqrt(1/2), sqrt(2)): e ln 2 + 2 atanh((m - 1) / (m + 1)).
    """
    shifted = np.uint64(np.float64(x).view(np.uint64) + (_ONE_BITS - _ROOT_HALF_BITS))
    exponent = np.uint64((shifted >> _EXPONENT) | _WHOLE_BITS).view(np.float64) - (_WHOLE + 1023.0)
    m = np.uint64((shifted & _MANTISSA) + _ROOT_HALF_BITS).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    return exponent * _LOG2_HIGH + (exponent * _LOG2_LOW + (2.0 * s + 2.0 * s * z * _polynomial(z, _ATANH)))


@inlined
def exp(x):  # type: ignore[no-untyped-def]
    """Return e**x for -700 <= x <= 700: 2**k times the series of the rest, k being the whole number next to x / ln 2."""
    shifted = x * _PER_LOG2 + _ROUNDER
    k = shifted - _ROUNDER
    r = (x - k * _LOG2_HIGH) - k * _LOG2_LOW
    series = 1.0 + (r + r * r * _polynomial(r, _EXP))
    # the low bits of `shifted` are k in two's complement; in the place of the exponent they multiply by 2**k
    power = np.float64(shifted).view(np.uint64) << _EXPONENT
    return np.uint64(np.float64(series).view(np.uint64) + power).view(np.float64)


@inlined
def cos_turns(v):  # type: ignore[no-untyped-def]
    """Return cos(2 pi v) for v in [0, 1] as the sine of 2 pi (|v - 1/2| - 1/4): exact subtractions, then one odd series."""
    angle = _TAU * (abs(v - 0.5) - 0.25)
    z = angle * angle
    return angle + angle * z * _polynomial(z, _SINE)
