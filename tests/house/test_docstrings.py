"""Public signatures of the finished rooms are documented in full, with an example, and type their arrays."""

from __future__ import annotations

import enum
import importlib
import inspect
import re

import pytest

import fluogan_core as fg
from fluogan_core.backend import typing as types

#: Rooms whose public names are documented in full: of the package's own names, and of the modules that list theirs.
FINISHED = (
    "backend",
    "critics",
    "io",
    "metrics",
    "objective",
    "physics",
    "planning",
    "selection",
    "simulation",
    "solvers",
    "stack",
    "tuning",
)
LISTED = (
    "backend",
    "backend.once",
    "metrics",
    "physics.psf",
    "scale",
    "simulation.experiment",
    "simulation.photokinetics",
    "testing",
)


def own_methods(item: type) -> list[str]:
    return [name for name, value in vars(item).items() if not name.startswith("_") and inspect.isfunction(value)]


def made_by_calling(item: object) -> bool:
    """Whether it is a class that users make objects of; exceptions are caught."""
    return inspect.isclass(item) and not issubclass(item, BaseException)


def public() -> dict[str, object]:
    """Functions, classes and methods of classes, by where they are reached."""
    found = {f"fg.{name}": getattr(fg, name) for name, home in fg._EXPORTS.items() if home.startswith(FINISHED)}
    for room in LISTED:
        module = importlib.import_module(f"fluogan_core.{room}")
        found |= {f"{room}.{name}": getattr(module, name) for name in module.__all__}
    found = {name: item for name, item in found.items() if inspect.isfunction(item) or made_by_calling(item)}
    for name, item in list(found.items()):
        if inspect.isclass(item):
            found |= {f"{name}.{method}": vars(item)[method] for method in own_methods(item)}
    return found


PUBLIC = public()


def sections(item: object) -> dict[str, str]:
    """The numpydoc sections of a docstring; what stands before the first is under ""."""
    parts = re.split(r"^([A-Z][A-Za-z ]+)\n-{3,}$", inspect.getdoc(item) or "", flags=re.M)
    return {"": parts[0].strip(), **dict(zip(parts[1::2], parts[2::2]))}


def names_in(text: str) -> set[str]:
    """The names that a section describes, as in ``x, y : array``."""
    heads = re.findall(r"^(\S[^:\n]*?)(?: : .*)?$", text, flags=re.M)
    return {name.strip(" *") for head in heads for name in head.split(",")}


def faults(item: object) -> list[str]:
    """What is missing in the documentation of a function, or of a class and what it is made from."""
    found, signature = sections(item), inspect.signature(item)
    told = names_in(found.get("Parameters", "")) | names_in(found.get("Attributes", ""))
    # an enumeration is not made by calling it
    parameters = [] if isinstance(item, enum.EnumMeta) else list(signature.parameters.values())
    parameters = [p for p in parameters if p.name not in ("self", "cls")]
    missing = [f"{p.name} is not described" for p in parameters if p.name not in told]
    missing += [f"{p.name} is annotated with Any" for p in parameters if p.annotation in ("Any", p.empty)]
    if not found[""]:
        missing.append("there is no summary")
    if inspect.isfunction(item) and signature.return_annotation not in (None, "None"):
        missing += [] if {"Returns", "Yields"} & set(found) else ["what it returns is not described"]
        missing += ["it returns Any"] if signature.return_annotation == "Any" else []
    return missing


@pytest.mark.parametrize("name", PUBLIC)
def test_public_signatures_are_documented(name):
    assert faults(PUBLIC[name]) == []


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.count(".") == 1])
def test_public_functions_and_classes_have_an_example(name):
    """That it runs and gives what it says is the matter of test_doctests."""
    if name.startswith("fg.") or (name.startswith(("metrics.", "testing.")) and inspect.isfunction(PUBLIC[name])):
        assert ">>> " in sections(PUBLIC[name]).get("Examples", "")


def test_a_gap_is_found():
    def documented(x: types.Array) -> float:
        """Return a number.

        Parameters
        ----------
        x : array

        Returns
        -------
        number : float
        """
        return 0.0

    def bare(x: Any, y) -> float:  # noqa: F821
        return 0.0

    assert faults(documented) == []
    assert faults(bare) == [
        "x is not described",
        "y is not described",
        "x is annotated with Any",
        "y is annotated with Any",
        "there is no summary",
        "what it returns is not described",
    ]


def test_the_walk_reaches_methods_and_every_room():
    assert {"fg.Psi.forward", "fg.Backend.asarray", "metrics.nrmse", "testing.assert_prox", "fg.simulate_sofi"} <= set(PUBLIC)
    assert "ndarray" in types.Array
    assert "ArrayLike" in types.ArrayLike
