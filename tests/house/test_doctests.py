"""Every example of a docstring runs and gives what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
from hosts import may_be_missing

import fluogan_core as fg

#: All modules of the library, by their names within it.
MODULES = sorted(
    module.name.removeprefix("fluogan_core.")
    for module in pkgutil.walk_packages(fg.__path__, "fluogan_core.")
    if not module.name.startswith("fluogan_core.kernels") and not module.name.endswith("__main__")
)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = []
    for name in MODULES:
        try:
            module = importlib.import_module(f"fluogan_core.{name}")
        except ImportError:
            if not (name.startswith("interop.") and may_be_missing(name.removeprefix("interop."))):
                raise
            continue
        found += [test for test in finder.find(module, module.__name__) if test.examples]
    return found


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name.removeprefix("fluogan_core."))
def test_the_examples_of_a_docstring_run(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.append, clear_globs=True)
    assert result.failed == 0, "".join(said)


def test_the_walk_finds_examples_and_a_wrong_one_fails():
    assert any(example.name.endswith("argolight_pattern") for example in examples())
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert doctest.DocTestRunner(optionflags=FLAGS).run(wrong, out=lambda text: None).failed == 1
