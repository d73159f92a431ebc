"""Put one condition's figures, measured anew, in the place of its old ones.

No comparison in the tables crosses conditions, so that each stays one of figures from one run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

__all__ = ["renewed"]

Document = dict[str, Any]


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
