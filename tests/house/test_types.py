"""``Any`` in public signatures: how many parameters and returns have no type, by room.  The numbers only fall."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "fluogan_core"
#: Parameters and returns of public functions and methods whose type says nothing; lower a number when it falls.
BUDGET = {"backend": 7, "cli": 33, "interop": 8, "io": 6, "scale": 4, "testing": 1}


def public_functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions and methods that a user may call by name, and ``__init__``."""
    found: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
    bodies: list[list[ast.stmt]] = [tree.body]
    while bodies:
        for statement in bodies.pop():
            if isinstance(statement, ast.ClassDef) and not statement.name.startswith("_"):
                bodies.append(statement.body)
            elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and (
                not statement.name.startswith("_") or statement.name == "__init__"
            ):
                found.append(statement)
    return found


def untyped(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many of its annotations hold ``Any``."""
    of, args = function, function.args
    parameters = [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, (args.vararg, args.kwarg))]
    annotations = [parameter.annotation for parameter in parameters] + [of.returns]
    return sum("Any" in {n.id for n in ast.walk(a) if isinstance(n, ast.Name)} for a in annotations if a is not None)


def counted() -> dict[str, int]:
    """``Any`` by room."""
    found: dict[str, int] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        functions = public_functions(ast.parse(path.read_text(encoding="utf-8")))
        found[room] = found.get(room, 0) + sum(map(untyped, functions))
    return found


def test_public_signatures_say_their_types():
    found = counted()
    more = {room: f"{count} > {BUDGET.get(room, 0)}" for room, count in found.items() if count > BUDGET.get(room, 0)}
    assert not more, "give these parameters a type (object, if nothing is known): the budget only falls"
    less = {room: f"{found.get(room, 0)} < {count}" for room, count in BUDGET.items() if found.get(room, 0) < count}
    assert not less, "fewer than the budget: lower it, so that it stays so"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a: int, b: Any = 1, *c: Any) -> list[Any]: ...", 3),
        ("def _f(a: Any): ...", 0),
        ("class C:\n    def __init__(self, a: Any): ...\n    def _g(self, a: Any): ...", 1),
        ("class _C:\n    def f(self, a: Any): ...", 0),
        ("def f(a: Callable[..., Any] | None, b: object) -> None: ...", 1),
    ],
)
def test_what_is_counted(source, expected):
    assert sum(map(untyped, public_functions(ast.parse(source)))) == expected
