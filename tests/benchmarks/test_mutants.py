"""The trial of mutants: changes that are drawn, put in place, and written down."""

from __future__ import annotations

import importlib
import json
import sys

import mutants
import pytest

from benchmarks._harness import Options
from benchmarks.faults import mutants as trial

SOURCE = "def twice(x: int | None) -> int:\n    return 2 * x\n\n\ndef more(x):\n    return twice(x) + 1\n"


def test_every_place_has_a_change_before_one_has_two():
    found = [{"place": (line, 0), "number": number} for line in range(7) for number in range(1 + line % 3)]
    order = list(mutants.drawn(found, 5))
    assert sorted(order, key=str) == sorted(found, key=str)
    assert len({change["place"] for change in order[:7]}) == 7
    assert order == list(mutants.drawn(found, 5))
    assert order != list(mutants.drawn(found, 6))


def test_changes_are_of_code_that_is_run():
    pytest.importorskip("cosmic_ray")
    found = mutants.changes(SOURCE)
    assert not any(change["place"][0] == 1 for change in found), "nothing evaluates annotations"
    written = mutants.written(SOURCE, found, None)
    assert {"return 2 * x → return 2 + x", "return 2 * x → return 3 * x"} <= {change["change"] for change in written}
    assert len({change["code"] for change in written}) == len(written) > 10
    assert len(mutants.written(SOURCE, found, 4)) == 4


def test_a_change_is_seen_by_those_who_have_imported_the_module(tmp_path, monkeypatch):
    (tmp_path / "changed_here.py").write_text(SOURCE + "\n\nclass Kept:\n    size = 3\n\n\nLIMIT = 1000\n")
    (tmp_path / "takes_it.py").write_text(
        "from changed_here import LIMIT, Kept, more\nfrom changed_here import twice as double\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    other = importlib.import_module("takes_it")
    assert (other.more(4), other.double(4), other.Kept.size, other.LIMIT) == (9, 8, 3, 1000)
    code = (tmp_path / "changed_here.py").read_text()
    for was, becomes in (("2 * x", "5 * x"), ("size = 3", "size = 4"), ("1000", "1001")):
        code = code.replace(was, becomes)
    mutants.put_in_place("changed_here", code)
    assert (other.more(4), other.double(4), other.Kept.size, other.LIMIT) == (21, 20, 4, 1001)
    for name in ("changed_here", "takes_it"):
        del sys.modules[name]


def test_what_survives_is_kept_and_only_that_is_tried_again(tmp_path, monkeypatch):
    module = next(iter(trial.MODULES))
    noticed, asked = {"a → b": True, "c → d": False, "e | f → f": False}, []

    def tried(module, sample, again):
        asked.append(again)
        return {
            "changes": 90,
            "tried": [{"change": c, "noticed": n} for c, n in noticed.items() if again is None or c in again],
        }

    monkeypatch.setattr(trial, "tried", tried)
    monkeypatch.setattr(trial, "EXPLAINED", {module: {"it is a label": ["e | f → f"]}})
    for again in (False, True):
        document = trial.run(Options(results=tmp_path), [module], again).document()
        (tmp_path / "mutants.json").write_text(json.dumps(document))
        noticed["c → d"] = True  # by a test that was added
    assert asked == [None, ["c → d", "e | f → f"]]
    (row,), survivors = (table["rows"] for table in document["tables"])
    assert row[2:] == [90, 3, 1, 2, 1]
    assert survivors == [[f"`{module}`", r"`e \| f → f`", "it is a label"]]
