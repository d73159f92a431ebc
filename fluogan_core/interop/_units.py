"""Lengths and times as files and arrays name them."""

from __future__ import annotations

__all__ = ["nanometres", "seconds"]

#: nm in one of the unit; OME-Zarr writes the names in full, others their symbols.
LENGTHS = {"angstrom": 0.1, "nanometer": 1.0, "micrometer": 1e3, "millimeter": 1e6, "meter": 1e9}
LENGTH_SYMBOLS = {"Å": "angstrom", "nm": "nanometer", "um": "micrometer", "µm": "micrometer", "μm": "micrometer"}
LENGTH_SYMBOLS |= {"micron": "micrometer", "mm": "millimeter", "m": "meter"}
#: Seconds in one of the unit.
TIMES = {"nanosecond": 1e-9, "microsecond": 1e-6, "millisecond": 1e-3, "second": 1.0, "minute": 60.0, "hour": 3600.0}
TIME_SYMBOLS = {"ns": "nanosecond", "us": "microsecond", "µs": "microsecond", "ms": "millisecond", "s": "second"}
TIME_SYMBOLS |= {"min": "minute", "h": "hour"}


def nanometres(value: float, unit: object) -> float | None:
    """Return a length in nm; None if the unit is none of length, or the value is no length."""
    return _converted(value, unit, LENGTHS, LENGTH_SYMBOLS)


def seconds(value: float, unit: object) -> float | None:
    """Return a time in seconds; None if the unit is none of time, or the value is no time."""
    return _converted(value, unit, TIMES, TIME_SYMBOLS)


def _converted(value: float, unit: object, units: dict[str, float], symbols: dict[str, str]) -> float | None:
    name = str(unit).strip()
    name = symbols.get(name, name.lower().removesuffix("s").replace("metre", "meter"))
    return value * units[name] if name in units and value > 0 else None
