"""Importing is light, and imports point one way."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from fluogan_core import _aliases

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "fluogan_core"

#: The rooms, from the ground up: a room may import itself and rooms of the rows above its own, never a neighbour in its row.
FLOORS = (
    ("_version", "_aliases"),
    ("backend",),
    ("stack", "tuning"),
    ("physics",),
    ("calibration", "objective", "critics", "simulation"),
    ("solvers", "metrics", "planning"),
    ("selection",),
    ("io",),
    ("scale",),
    ("testing", "interop"),
    ("cli",),
    ("__init__",),
)
#: Who may import what, lazily or not: modules, or whole rooms.
OWNERS = {
    "torch": {
        "backend.dlpack",
        "critics.network",
        "critics.training",
        "critics.scores",
        "critics.settings",
        "solvers.checkpoint",
        "io.provenance",
        "interop.torch",
        "interop.deepinv",
    },
    "pylops": {"interop.pylops"},
    "pyproximal": {"interop.pyproximal"},
    "deepinv": {"interop.deepinv"},
    "jax": {"interop.jax"},
    "xarray": {"interop.xarray"},
    "napari": {"interop.napari_widget"},
    "qtpy": {"interop.napari_widget"},
    "cupy": {"backend.arrays", "backend.cards"},
    "cupyx": {"backend.arrays"},
    "matplotlib": {"io.evidence_figure", "io.figures", "io.page_pictures", "io.panels", "io.plan_figure"},
    "click": {"cli"},
    "rich": {"cli", "solvers.progress"},
    "tifffile": {"io"},
    "zarr": {"interop.zarr", "io.lazy", "scale.canvas"},
    "bioio": {"io.lazy"},
    "distributed": {"cli.scale"},
}
HEAVY = ("torch", "cupy", "cupyx", "numba", "matplotlib", "scipy", "rich", "click", "tifffile", "zarr", "dask", "distributed")

MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """The module's name within fluogan_core, as in ``physics.psi``; ``physics`` for a room's ``__init__``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def package_of(path: Path) -> str:
    return ".".join(("fluogan_core", *path.relative_to(PACKAGE).parts[:-1]))


def imported(path: Path, package: str, *, for_types: bool = False) -> set[str]:
    """Absolute names of all that a file imports anywhere; what it imports for annotations alone, only if asked for."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = (
        set()
        if for_types
        else {
            inner
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for statement in node.body
            for inner in ast.walk(statement)
        }
    )
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            found.update(f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "import_module":
            found.update(a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))
    return found


def needed(path: Path, *, for_types: bool = False) -> set[str]:
    """Names within fluogan_core of the modules of it that a module imports; its kernels apart."""
    modules = {dotted(other) for other in MODULES}
    found = set()
    for name in imported(path, package_of(path), for_types=for_types):
        parts = name.split(".")
        if parts[0] != "fluogan_core" or len(parts) < 2:
            continue
        if parts[1] == "kernels":
            continue
        inner = parts[1:]
        while inner and ".".join(inner) not in modules:
            inner = inner[:-1]  # the last part is a name in the module
        found.add(".".join(inner) or "__init__")
    return found - {dotted(path)}


def room(name: str) -> str:
    return name.split(".")[0]


def test_every_module_is_in_a_room():
    placed = [name for floor in FLOORS for name in floor]
    assert len(placed) == len(set(placed))
    assert {room(dotted(path)) for path in MODULES} == set(placed)
    assert len([name for name in placed if not name.startswith("_")]) <= 17
    assert len(MODULES) > 60, "the walk goes through the folders"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_one_way(path):
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    here = room(dotted(path))
    wrong = sorted(name for name in needed(path) if room(name) != here and floor[room(name)] >= floor[here])
    assert not wrong, f"{dotted(path)} imports {wrong}, of a room beside or above its own"


def circle(graph: dict[str, set[str]]) -> set[str]:
    """Nodes of a graph that lie on a circle, or lead to one."""
    while leaves := {name for name, others in graph.items() if not others & set(graph)}:
        graph = {name: others for name, others in graph.items() if name not in leaves}
    return set(graph)


def test_no_import_goes_round_in_a_circle():
    """Imports for annotations count; only the package's table of names, which takes from all, does not."""
    modules = [path for path in MODULES if dotted(path) != "__init__"]
    assert circle({dotted(path): needed(path, for_types=True) - {"__init__"} for path in modules}) == set()


def test_no_import_of_the_benchmarks_goes_round_in_a_circle():
    """Imports for annotations count: two files that need each other's types are one thing in two places."""
    modules = {path.relative_to(ROOT).with_suffix(""): path for path in sorted((ROOT / "benchmarks").rglob("*.py"))}
    names = {".".join(parts.parts).removesuffix(".__init__"): path for parts, path in modules.items()}
    graph = {}
    for name, path in names.items():
        wanted = imported(path, ".".join(path.relative_to(ROOT).parts[:-1]), for_types=True)
        # "package.module.function" needs the module, "package.function" the package's own file
        graph[name] = {n if n in names else n.rpartition(".")[0] for n in wanted} & set(names) - {name}
    assert graph["benchmarks.paper.reference"] >= {"benchmarks._harness", "benchmarks.paper._field"}
    assert circle(graph) == set()
    graph["benchmarks.paper._field"].add("benchmarks.paper.reference")
    assert circle(graph) >= {"benchmarks.paper._field", "benchmarks.paper.reference"}


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_libraries_are_imported_by_their_owners_only(library):
    users = {dotted(path) for path in MODULES if any(n.split(".")[0] == library for n in imported(path, package_of(path)))}
    assert {name for name in users if name not in OWNERS[library] and room(name) not in OWNERS[library]} == set()
    assert users, "an owner of nothing is out of date"


def test_no_file_is_long_without_a_reason():
    """Above 400 lines a module's docstring says why it is not several."""
    for path in [*MODULES, *sorted((ROOT / "kernels").rglob("*.py"))]:
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > 400:
            assert "One file because" in (ast.get_docstring(ast.parse(text)) or ""), path


def test_no_test_imports_from_conftest_by_that_name():
    """Every folder may have a ``conftest.py``, and the name means the first one that pytest has collected."""
    tests = sorted((ROOT / "tests").rglob("*.py"))
    assert len(tests) > 100, "the walk goes through the folders"
    assert [str(p.relative_to(ROOT)) for p in tests if any(n.split(".")[0] == "conftest" for n in imported(p, ""))] == []


def test_kernels_import_nothing_of_the_core():
    for path in sorted((ROOT / "kernels").rglob("*.py")):
        package = ".".join(("fluogan_core.kernels", *path.relative_to(ROOT / "kernels").parts[:-1]))
        names = imported(path, package)
        foreign = {n for n in names if n.startswith("fluogan_core") and not n.startswith("fluogan_core.kernels")}
        assert not foreign, f"{path.name} imports {sorted(foreign)}"
        assert not {name for name in names if name.split(".")[0] in OWNERS}, f"{path.name} imports an array library"


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_nothing_heavy():
    code = """
import sys, numpy
before = set(sys.modules)
import fluogan_core
dir(fluogan_core)
print(*sorted(set(sys.modules) - before))
"""
    loaded = python(code).split()
    assert not {name.split(".")[0] for name in loaded} & set(HEAVY)
    assert {name for name in loaded if name.startswith("fluogan_core")} == {
        "fluogan_core",
        "fluogan_core._version",
        "fluogan_core._aliases",
    }


def test_importing_adds_less_than_a_third_of_a_second_to_numpy():
    """The best of several tries, so that a busy machine does not matter."""
    code = """
import time, numpy
started = time.perf_counter()
import fluogan_core
print(time.perf_counter() - started)
"""
    assert min(float(python(code)) for _ in range(5)) < 0.3


def test_help_loads_no_numerics():
    code = """
import contextlib, io, sys
from fluogan_core.cli.commands import main
with contextlib.redirect_stdout(io.StringIO()):
    status = main(["reconstruct", "--help"])
print(status, *sys.modules)
"""
    status, *loaded = python(code).split()
    assert status == "0"
    assert not {name.split(".")[0] for name in loaded} & {"torch", "cupy", "numba", "matplotlib", "scipy", "numpy"}


def test_every_public_name_is_there():
    code = """
import fluogan_core
for name in fluogan_core.__all__:
    getattr(fluogan_core, name)
assert set(fluogan_core.__all__) <= set(dir(fluogan_core))
"""
    assert python(code) == ""


FORMER = sorted(_aliases.FORMER)


@pytest.mark.parametrize("name", FORMER)
def test_former_module_names_resolve(name):
    """To the very module that holds the contents now, or to all of several."""
    former = importlib.import_module(f"fluogan_core.{name}")
    home = _aliases.FORMER[name]
    for part in (home,) if isinstance(home, str) else home:
        module = importlib.import_module(f"fluogan_core.{part}")
        assert module.__spec__.name == module.__name__ == f"fluogan_core.{part}"
        if isinstance(home, str):
            assert former is module
        for public in module.__all__:
            assert hasattr(former, public)
    with pytest.raises(AttributeError):
        former.nonsense  # noqa: B018


def test_former_names_are_reached_from_the_package_too():
    code = """
import fluogan_core as fg
from fluogan_core.camera import Camera
assert Camera is fg.Camera and fg.bridge.critic_values and fg.plot.figure and fg.solver.Solver is fg.Solver
from fluogan_core.backend import get_backend
from fluogan_core.objective import Objective
from fluogan_core.metrics import nrmse
from fluogan_core.io import read_stack, Stack
from fluogan_core.cli import main
"""
    assert python(code) == ""


def test_an_unknown_name_is_an_attribute_error():
    import fluogan_core

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        fluogan_core.nonsense  # noqa: B018
