"""The table of speed in ``docs/performance.md``: every goal, what was measured, and the floor where one was counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["speed_rows"]

Document = dict[str, Any]
Row = tuple[str, str, Any, bool | None, str, str]

_FLOORS = "Where single photons bend the critic, and the floor"
_BACKWARD = "torch, one backward"


def _column(document: Document, title: str, row: str, column: str) -> float | None:
    """A number of a table, by the first cell of its row."""
    for table in document["tables"]:
        if table["title"] == title and column in table["columns"]:
            return next((r[table["columns"].index(column)] for r in table["rows"] if r[0] == row), None)
    return None


def _field(what: str) -> str:
    """The field that a target is about, as it is named in the tables."""
    return next((part for part in what.replace(",", "").split() if part.replace("x", "").isdigit() and "x" in part), "")


def _against_torch(document: Document, what: str) -> str:
    floor = _column(document, _FLOORS, _field(what), "torch, batched / floor")
    return "" if floor is None else f"at the floor it would be {floor:.0f}"


def _backward(document: Document, what: str) -> str:
    floor = _column(document, _FLOORS, _field(what), "floor, ms per frame")
    one = [
        row["seconds"]["median"]
        for group in document["groups"]
        for row in group["rows"]
        if group["column"].startswith(_field(what)) and row["name"] == _BACKWARD
    ]
    return "" if floor is None or not one else f"at the floor it would be {1e-3 * floor / one[0]:.1f}"


def _said(text: str) -> Callable[[Document, str], str]:
    return lambda document, what: text


#: Benchmark, how its targets of speed begin, and what bounds them.
_GOALS: tuple[tuple[str, str, Callable[[Document, str], str]], ...] = (
    ("whole", "", _said("")),
    ("company", "", _said("")),
    ("differences", "exact against batched torch", _against_torch),
    ("differences", "exact, in units of one torch backward", _backward),
    ("differences", "exact: exponent", _said("1")),
    ("differences", "coupled, all", _said("")),
    ("differences", "corrected, in units of linear", _said("1: the correction free of cost")),
    ("sampling", "sampler", _said("")),
)
#: What the benchmark of large fields has of the same size: part, key, seconds allowed.
_LARGE = (("seams 256 Gaussian flat", "Gaussian"), ("seams 256 Airy flat", "Airy"))
_LARGE_SECONDS = 240.0


def speed_rows(documents: dict[str, Document]) -> list[Row]:
    """Return the goals of speed.

    Parameters
    ----------
    documents : dict
        By name, as the JSON files have them.

    Returns
    -------
    list of (what, bound, measured, met, floor, revision)
    """
    rows: list[Row] = []
    for name, begins, floor in _GOALS:
        document = documents.get(name)
        for target in document["targets"] if document else ():
            assert document is not None
            if not target["what"].startswith(begins):
                continue
            least = target["at_least"] is not None
            bound = f"{'≥' if least else '≤'} {float(target['at_least'] if least else target['at_most']):g}"
            said = floor(document, target["what"])
            rows.append((target["what"], bound, target["measured"], target["met"], said, _revision(document)))
    for part, psf in _LARGE:
        found = documents.get("scale", {}).get(part)
        whole = next((f for f in found["figures"] if "processor_s_whole" in f), None) if found else None
        if found and whole:
            size = f"{whole['side']} x {whole['side']} x {whole['frames']}"
            what = f"default method, {size}, {psf} PSF, whole: seconds of CPU time"
            seconds = float(whole["processor_s_whole"])
            rows.append((what, f"≤ {_LARGE_SECONDS:g}", seconds, seconds <= _LARGE_SECONDS, "", _revision(found)))
    return rows


def _revision(document: Document) -> str:
    return document["environment"].get("revision") or ""
