"""Put one condition's figures, measured anew, in the place of its old ones.

No comparison in the tables crosses conditions, so that each stays one of figures from one run.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._harness import Options, write
from ._scenes import CONDITIONS, Condition

__all__ = ["add_condition_switch", "chosen_conditions", "in_its_place", "renewed", "results_there"]

Document = dict[str, Any]


def add_condition_switch(parser: argparse.ArgumentParser) -> None:
    """``--condition NAME``."""
    names = [condition.name for condition in CONDITIONS]
    parser.add_argument("--condition", choices=names, help="only this one, in the place of its figures in the results")


def chosen_conditions(options: Options, only: str | None, parser: argparse.ArgumentParser) -> list[Condition]:
    """What is to be measured: one condition, or all that a quick run or a full one knows."""
    known = options.pick(CONDITIONS, CONDITIONS[:2])
    if only is not None and only not in [condition.name for condition in known]:
        parser.error(f"a quick run knows only {', '.join(condition.name for condition in known)}")
    return [condition for condition in known if only is None or condition.name == only]


def results_there(path: Path, condition: str, quick: bool, parser: argparse.ArgumentParser) -> Document:
    """What a run of all conditions has left, before anything is measured that would have no place in it."""
    if not path.is_file():
        parser.error(f"{path} is not there: new figures of {condition} have no place to go; run all conditions first")
    there: Document = json.loads(path.read_text(encoding="utf-8"))
    if there["quick"] != quick:
        parser.error(f"{path} is of a {'quick' if there['quick'] else 'full'} run and this is not: they do not mix")
    if not any(row[0] == condition for table in there["tables"] for row in table["rows"]):
        parser.error(f"{path} holds nothing of the condition {condition!r}: run all conditions first")
    return there


def in_its_place(
    before: Document | None, part: Document, condition: str, results: Path, parser: argparse.ArgumentParser
) -> Document:
    """``part`` in its place among the figures that were there before, if any were; it is not lost where it has no place."""
    if before is None:
        return part
    try:
        return renewed(before, part, condition)
    except ValueError as error:
        kept = write(part, results / "alone")
        parser.error(f"{error}; what was measured is in {kept}")


def renewed(whole: Document, part: Document, condition: str) -> Document:
    """Return ``whole`` with what ``part`` measured of ``condition``, and where and with what that was measured.

    Parameters
    ----------
    whole, part : dict
        Documents of this benchmark; the second of a run of that condition alone.
    condition : str

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If one run was a quick one and the other was not; if a table or target of ``part`` has no place in ``whole``: what is
        measured has changed, and all has to be.
    """
    if whole["quick"] != part["quick"]:
        raise ValueError("a quick run's figures mean nothing and stand in no full run's table, nor the other way round")
    made = copy.deepcopy(whole)
    tables = {table["title"]: table for table in made["tables"]}
    for new in part["tables"]:
        mine = [row for row in new["rows"] if row[0] == condition]
        of_this_alone = new["title"].endswith(f": {condition}")
        if not (mine or of_this_alone):
            continue
        old = tables.get(new["title"])
        if old is None or old["columns"] != new["columns"]:
            raise ValueError(f"the table {new['title']!r} is not in the results, or has other columns: run all conditions")
        old["note"] = new["note"]
        old["rows"] = new["rows"] if of_this_alone else _replaced(old["rows"], mine, lambda row: row[0] == condition)
    ours = [target for target in part["targets"] if _is_of(target, condition)]
    if ours:
        made["targets"] = _replaced(made["targets"], ours, lambda target: _is_of(target, condition))
    made["environment"].setdefault("renewed", {})[condition] = part["environment"]
    return made


def _is_of(target: dict[str, Any], condition: str) -> bool:
    return target["what"].startswith(f"{condition}: ")


def _replaced(old: list[Any], new: list[Any], concerned: Callable[[Any], bool]) -> list[Any]:
    """``old`` with ``new`` where its first concerned entry was, and without the other concerned ones."""
    places = [place for place, entry in enumerate(old) if concerned(entry)]
    if not places:
        raise ValueError("the results hold nothing of this condition: run all conditions")
    kept = [entry for entry in old if not concerned(entry)]
    return [*kept[: places[0]], *new, *kept[places[0] :]]
