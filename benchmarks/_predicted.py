"""What the difference kernel is predicted to take on two cards, from the instructions that a set of photons costs.

A prediction, not a measurement: instructions counted on the CPU emulator and in the machine code for sm_90
(``docs/cuda.md``), a rate of issue that is assumed, and clocks and multiprocessors from data sheets.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CARDS", "COLUMNS", "NOTE", "rows"]

#: Instructions of a warp that a multiprocessor issues in a clock, of four at most: assumed, for code of short loops that wait.
_PER_CLOCK = 2.2
#: Frames, their pixels, and the sets of two photons or more of one emission at kappa = 1: of 3.3 million (200 x 128 x 128).
_SINGLE, _SEVERAL = 200 * 32 * 32, 0.79e6


class Card(NamedTuple):
    """Of a data sheet, and what both passes of 200 frames take (float64 at a half and at a 64th of the rate of float32)."""

    multiprocessors: int
    clocks: tuple[float, float]  # Hz: least under load, and boost
    passes_ms: float


CARDS = {
    "H200": Card(132, (1.755e9, 1.98e9), 0.4),
    "RTX 4090": Card(128, (2.235e9, 2.52e9), 5.0),
}


class Cost(NamedTuple):
    """Instructions of a warp for one set of photons, all of them and those of the suspects of the last layer."""

    whole: int
    suspects: int


#: Before and after the changes of suspects were computed row by row: one photon, and two or more of one emission at kappa = 1.
BEFORE = {"one": Cost(40_000, 26_000), "several": Cost(77_000, 44_000)}
SUSPECTS_NOW = {"one": 9_900, "several": 17_000}


def _now(kind: str) -> int:
    return BEFORE[kind].whole - BEFORE[kind].suspects + SUSPECTS_NOW[kind]


#: Work of 200 frames of 32 x 32 pixels: sets of one photon and of several, and the goal on an H200 in milliseconds.
_WORK = (
    ("every single photon", _SINGLE, 0.0, 5),
    ("every b + C_i, kappa 1", _SINGLE, _SEVERAL, 50),
    ("the same on every second fine pixel, the default", _SINGLE, _SEVERAL / 4, 15),
)
COLUMNS = (
    "work, 200 frames of 32 x 32",
    *(f"{card}, {when}, ms" for card in CARDS for when in ("before", "now")),
    "goal on an H200, ms",
)
NOTE = (
    f"Predictions: a single photon takes {BEFORE['one'].whole} instructions of a warp before and {_now('one')} now, two or "
    f"more of one emission {BEFORE['several'].whole} and {_now('several')}. They are issued at {_PER_CLOCK} in a clock of a "
    "multiprocessor, at the clocks that data sheets state. Both passes are added. Nothing was timed on a card."
)


def rows() -> list[list[str | int]]:
    """Return the rows of the table, a range of milliseconds in each cell."""
    found: list[list[str | int]] = []
    for what, single, several, goal in _WORK:
        cells = [_milliseconds(card, single, several, when) for card in CARDS.values() for when in ("before", "now")]
        found.append([what, *cells, goal])
    return found


def _milliseconds(card: Card, single: float, several: float, when: str) -> str:
    one, more = (BEFORE[kind].whole if when == "before" else _now(kind) for kind in ("one", "several"))
    instructions = single * one + several * more
    slow, fast = (card.passes_ms + 1e3 * instructions / (card.multiprocessors * _PER_CLOCK * hertz) for hertz in card.clocks)
    return f"{fast:.0f} to {slow:.0f}"
