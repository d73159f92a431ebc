"""Importing is light, and imports point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fluogan_core"

#: From the ground up: a module may import those of its own layer and of the layers above it in this list.
LAYERS = (
    ("_version", "_checks"),
    ("backend", "random"),
    ("psf", "psi"),
    ("pixel_moments", "flicker", "_camera_notes"),
    ("phantom", "photokinetics", "forward", "photons", "camera", "critic", "lines", "resolution", "sieve", "psf_width"),
    ("prediction",),
    ("metrics",),
    ("bridge",),
    ("lattice", "evaluator", "reference", "differences", "objective", "prox", "pair_products", "moments"),
    (
        "noise",
        "bad_pixels",
        "options",
        "history",
        "progress",
        "adversary",
        "image_step",
        "reweighting",
        "mean_fit",
        "weights",
        "grid",
    ),
    ("moment_fit", "result"),
    ("solver",),
    ("trials",),
    ("_info", "_metadata", "_report", "plot"),
    ("io", "_sweep_report"),
    ("demo", "_switches", "testing"),
    ("cli",),
    ("__init__",),
)
#: Who may import what, lazily or not.
OWNERS = {"torch": {"critic", "bridge"}, "cupy": {"backend"}, "cupyx": {"backend"}}
HEAVY = ("torch", "cupy", "cupyx", "numba", "matplotlib", "scipy", "rich", "click", "tifffile")

MODULES = sorted(PACKAGE.glob("*.py"))


def imported(path: Path, package: str) -> set[str]:
    """Absolute names of all that a file imports anywhere, under ``if TYPE_CHECKING`` apart."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
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


def siblings(path: Path) -> set[str]:
    """Names of the modules of fluogan_core that a module of it imports."""
    parts = (name.split(".") for name in imported(path, "fluogan_core") if name.startswith("fluogan_core."))
    return {part[1] for part in parts if (PACKAGE / f"{part[1]}.py").exists()}


def test_every_module_has_its_layer():
    placed = [name for layer in LAYERS for name in layer]
    assert len(placed) == len(set(placed))
    assert {path.stem for path in MODULES} <= set(placed)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_point_one_way(path):
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    upward = sorted(name for name in siblings(path) if level[name] > level[path.stem])
    assert not upward, f"{path.name} imports {upward}, which stand above it"


def test_no_import_goes_round_in_a_circle():
    graph = {path.stem: siblings(path) - {path.stem} for path in MODULES}
    while leaves := {name for name, needed in graph.items() if not needed & set(graph)}:
        graph = {name: needed for name, needed in graph.items() if name not in leaves}
    assert not graph


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_torch_and_cupy_are_imported_by_their_owners_only(library):
    users = {path.stem for path in MODULES if any(name.split(".")[0] == library for name in imported(path, "fluogan_core"))}
    assert users <= OWNERS[library]


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
    assert {name for name in loaded if name.startswith("fluogan_core")} == {"fluogan_core", "fluogan_core._version"}


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
from fluogan_core.cli import main
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


def test_an_unknown_name_is_an_attribute_error():
    import fluogan_core

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        fluogan_core.nonsense  # noqa: B018
