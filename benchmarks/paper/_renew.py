"""Replace the figures of one condition, measured alone, or append them if there were none.

No comparison in the tables crosses conditions, so every comparison remains one of figures from one run.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._harness import Options, Report, write
from .._study import places, publish
from ._scenes import CONDITIONS, Condition

__all__ = ["add_recording_switches", "at_least_1", "chosen_conditions", "measure", "renewed"]

Document = dict[str, Any]


def at_least_1(text: str) -> int:
    """A number on the command line of which there must be one at least."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def add_recording_switches(parser: argparse.ArgumentParser, per: str) -> None:
    """``--seeds N --jobs N --condition NAME``."""
    parser.add_argument("--seeds", type=at_least_1, default=8, help=f"recordings per {per} (1 in a quick run)")
    parser.add_argument("--jobs", type=at_least_1, default=1, help="processes, of one thread each")
    names = [condition.name for condition in CONDITIONS]
    parser.add_argument("--condition", choices=names, help="only this one; its figures join the others' in the results")


def chosen_conditions(options: Options, only: str | None, parser: argparse.ArgumentParser) -> list[Condition]:
    """What is to be measured: one condition, or all that a quick run or a full one knows."""
    known = options.pick(CONDITIONS, CONDITIONS[:2])
    if only is not None and only not in [condition.name for condition in known]:
        parser.error(f"a quick run knows only {', '.join(condition.name for condition in known)}")
    return [condition for condition in known if only is None or condition.name == only]


def measure(
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    name: str,
    only: str | None,
    run: Callable[[Options, Path | None], Report],
) -> None:
    """Run a study, or the part of it that is called ``only``, and put its figures in their place.

    Parameters
    ----------
    parser, arguments
        The command line.
    name : str
        Of the study, and of its file.
    only : str or None
    run : callable
        Takes the options and the folder of the documents.
    """
    results, docs = places(parser, arguments, name)
    before = None if only is None else _results_there(results / f"{name}.json", only, arguments.quick, parser)
    document = run(Options(arguments.quick, results), docs).document()
    publish(_in_its_place(before, document, only, results, parser), results, docs)


def _results_there(path: Path, condition: str, quick: bool, parser: argparse.ArgumentParser) -> Document:
    """The document of an earlier run, checked before anything is measured that would not fit into it."""
    if not path.is_file():
        parser.error(f"{path} is not there: new figures of {condition} have no place to go; run all conditions first")
    there: Document = json.loads(path.read_text(encoding="utf-8"))
    if there["quick"] != quick:
        parser.error(f"{path} is of a {'quick' if there['quick'] else 'full'} run and this is not: they do not mix")
    return there


def _in_its_place(
    before: Document | None, part: Document, condition: str | None, results: Path, parser: argparse.ArgumentParser
) -> Document:
    """``part`` merged into the earlier figures, if there are any; where it does not fit it is written on its own."""
    if before is None or condition is None:
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
        If ``whole`` has nothing of it, its figures come behind those of the others.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If one run was a quick one and the other was not; if a table of ``part`` has no place in ``whole``: what is measured
        has changed, and all has to be.
    """
    if whole["quick"] != part["quick"]:
        raise ValueError("a quick run's figures mean nothing and stand in no full run's table, nor the other way round")
    made = copy.deepcopy(whole)
    for new in part["tables"]:
        if new["title"].endswith(f": {condition}"):
            _put_table(made["tables"], new)
        elif mine := [row for row in new["rows"] if row[0] == condition]:
            old = _same_columns(made["tables"], new, lambda table, title=new["title"]: table["title"] == title)[0]
            old["note"] = new["note"]
            old["rows"] = _replaced(old["rows"], mine, lambda row: row[0] == condition)
    ours = [target for target in part["targets"] if _is_of(target, condition)]
    made["targets"] = _replaced(made["targets"], ours, lambda target: _is_of(target, condition))
    made["environment"].setdefault("renewed", {})[condition] = part["environment"]
    return made


def _is_of(target: dict[str, Any], condition: str) -> bool:
    return target["what"].startswith(f"{condition}: ")


def _put_table(tables: list[Document], new: Document) -> None:
    """A condition's own table in the place of the old one, or behind those of the other conditions."""
    subject = new["title"].partition(": ")[0]
    others = _same_columns(tables, new, lambda table: table["title"].partition(": ")[0] == subject)
    old = next((table for table in others if table["title"] == new["title"]), None)
    if old is None:
        tables.insert(tables.index(others[-1]) + 1, new)
    else:
        old.update(new)


def _same_columns(tables: list[Document], new: Document, concerned: Callable[[Document], bool]) -> list[Document]:
    """The corresponding tables of both documents; they must exist and have the same columns."""
    found = [table for table in tables if concerned(table)]
    if not found or any(table["columns"] != new["columns"] for table in found):
        raise ValueError(f"the table {new['title']!r} is not in the results, or has other columns: run all conditions")
    return found


def _replaced(old: list[Any], new: list[Any], concerned: Callable[[Any], bool]) -> list[Any]:
    """``old`` with ``new`` where its first concerned entry was, or at its end, and without the other concerned ones."""
    first = next((place for place, entry in enumerate(old) if concerned(entry)), len(old))
    return [*old[:first], *new, *(entry for entry in old[first:] if not concerned(entry))]
