"""Tables of ``docs/``, from the JSON files in ``benchmarks/results/`` and nothing else.

A document holds blocks ``<!-- table: NAME -->`` ... ``<!-- end -->``.  What stands between the two lines is replaced; the text
around them is left alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import QUESTIONS, STUDIES
from ._scale_tables import TABLES as SCALE
from ._scale_tables import scale_table
from ._speed_table import speed_rows

__all__ = ["plain", "render", "rendered"]

_BLOCK = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_MISSING = "*No figures yet: `make bench` (or `make paper`, `make zoo`, `make real`) writes them.*"

Documents = dict[str, dict[str, Any]]


def seconds_text(value: float) -> str:
    """Three digits and a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{_number(value / scale)} {unit}"
    return f"{_number(value / 1e-9)} ns"


def _number(value: Any) -> str:
    """Three significant digits without an exponent where that is readable."""
    if isinstance(value, str) or value is None:
        return value or ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        digits = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:.{digits}f}"
    return f"{value:.2e}"


def _markdown(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(list(columns))]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def _timing_tables(document: dict[str, Any]) -> list[str]:
    """One table per title: alternatives down, settings across."""
    titles: dict[str, list[dict[str, Any]]] = {}
    for group in document["groups"]:
        titles.setdefault(group["table"], []).append(group)
    parts = []
    for title, groups in titles.items():
        names = list(dict.fromkeys(row["name"] for group in groups for row in group["rows"]))
        rows = []
        for name in names:
            rows.append([name, *(_cell(group, name) for group in groups)])
        notes = []
        if any(row["sampled"] for group in groups for row in group["rows"]):
            notes.append("\\* timed on a sample of the work, scaled to all of it.")
        if reference := groups[0]["reference"]:
            notes.append(f"× : how many times faster than *{reference}*.")
        reasons = {entry["name"]: entry["reason"] for group in groups for entry in group["left_out"]}
        notes += [f"Left out: {name} ({reason})." for name, reason in reasons.items()]
        rounds = sorted({row["seconds"]["rounds"] for group in groups for row in group["rows"]})
        spread = str(rounds[0]) if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
        notes.append(f"Medians (quartiles) of {spread} interleaved rounds.")
        table = _markdown(["", *(group["column"] for group in groups)], rows)
        parts.append(f"**{title}**\n\n{table}\n\n{' '.join(notes)}")
    return parts


def _cell(group: dict[str, Any], name: str) -> str:
    rows = {row["name"]: row for row in group["rows"]}
    if name not in rows:
        return "–"
    row = rows[name]
    s = row["seconds"]
    text = f"{seconds_text(s['median'])} ({_number(s['lower'] / s['median'])}–{_number(s['upper'] / s['median'])})"
    if row["sampled"]:
        text += " \\*"
    if group["reference"] and name != group["reference"]:
        ratio = rows[group["reference"]]["seconds"]["median"] / s["median"]
        text += f", {_number(ratio)}×"
    return text


def _value_tables(document: dict[str, Any]) -> list[str]:
    parts = []
    for table in document["tables"]:
        text = f"**{table['title']}**\n\n" + _markdown(table["columns"], [[_number(v) for v in row] for row in table["rows"]])
        parts.append(text + (f"\n\n{table['note']}" if table["note"] else ""))
    return parts


def _one(document: dict[str, Any]) -> str:
    """Everything that one benchmark measured."""
    return "\n\n".join([*_timing_tables(document), *_value_tables(document)])


def _with_targets(document: dict[str, Any]) -> str:
    """A study: what was wanted of it, where it ran, then everything that it found."""
    documents = {document["benchmark"]: document}
    wanted = [_targets(documents)] if document["targets"] else []
    return "\n\n".join([*wanted, _environment(documents), _one(document)])


def _targets(documents: Documents) -> str:
    rows = []
    for document in documents.values():
        for target in document["targets"]:
            least = target["at_least"] is not None
            bound = f"{'≥' if least else '≤'} {_number(float(target['at_least'] if least else target['at_most']))}"
            rows.append([target["what"], bound, _number(target["measured"]), "yes" if target["met"] else "**no**"])
    return _markdown(["", "wanted", "measured", "met"], rows) if rows else _MISSING


def _speed(documents: Documents) -> str:
    rows = [
        [what, bound, _number(measured), "yes" if met else "**no**", floor, revision]
        for what, bound, measured, met, floor, revision in speed_rows(documents)
    ]
    return _markdown(["", "wanted", "measured", "met", "floor", "revision"], rows) if rows else _MISSING


def _environment(documents: Documents) -> str:
    rows = []
    for name, document in documents.items():
        quick = " (quick: figures mean nothing)" if document["quick"] else ""
        first = document["environment"]
        parts = {name: first} | {f"{name}: {part}, anew": e for part, e in first.get("renewed", {}).items()}
        for what, e in parts.items():
            versions = ", ".join(f"{key} {value}" for key, value in e["versions"].items())
            limits = ", ".join(f"{key} {value}" for key, value in e["threads"].items())
            device = str(e["device"].get("name", ""))
            rows.append([what + quick, e["date"][:10], e["revision"] or "", device, limits, versions])
    return _markdown(["benchmark", "date", "revision", "device", "threads", "versions"], rows)


def _block(name: str, documents: Documents) -> str:
    """The content of one block."""
    makers: dict[str, Callable[[Documents], str]] = {"targets": _targets, "environment": _environment}
    if name in makers:
        return makers[name]({k: v for k, v in documents.items() if k in QUESTIONS}) if documents else _MISSING
    if name == "speed":
        return _speed(documents)
    if name in STUDIES:
        return _with_targets(documents[name]) if name in documents else _MISSING
    if name in SCALE:
        return scale_table(name, documents["scale"]) if "scale" in documents else _MISSING
    if name not in QUESTIONS:
        raise ValueError(f"there is no table called {name!r}; there are {', '.join([*makers, *QUESTIONS, *STUDIES, *SCALE])}")
    return _one(documents[name]) if name in documents else _MISSING


def rendered(text: str, documents: Documents) -> str:
    """Return a document with its blocks filled."""
    return _BLOCK.sub(lambda found: f"{found[1]}{_block(found['name'], documents)}\n{found[3]}", text)


def read_results(folder: Path) -> Documents:
    """Read all JSON files of a folder, in the order of the questions."""
    found = {name: folder / f"{name}.json" for name in (*QUESTIONS, *STUDIES, "scale")}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in found.items() if path.exists()}


def render(results: Path, docs: Path) -> list[Path]:
    """Fill the blocks of all documents in ``docs`` and its folders; return those that changed."""
    documents = read_results(results)
    changed = []
    for path in sorted(docs.rglob("*.md")):
        old = path.read_text(encoding="utf-8")
        new = rendered(old, documents)
        if new != old:
            path.write_text(new, encoding="utf-8")
            changed.append(path)
    return changed


def plain(document: dict[str, Any]) -> str:
    """One benchmark's tables for a terminal."""
    parts = [f"# {document['question']}", _one(document)]
    if document["targets"]:
        parts.append(_targets({document["benchmark"]: document}))
    return "\n\n".join(parts)
