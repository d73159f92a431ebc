"""What an install holds: the kernels under fluogan_core.kernels, from the wheel and from an editable install alike."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = shutil.ignore_patterns(
    ".*", "__pycache__", "*.py[cod]", "*.nb[ic]", "*.egg-info", "build", "dist", "_build", "demo", "out"
)

#: Run inside the installation that is tried, away from the checkout.
PROBE = """
import importlib.util, json
from importlib.resources import files
import fluogan_core
from fluogan_core import cli

def walk(folder, prefix=""):
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from walk(entry, f"{prefix}{entry.name}/")
        elif not entry.name.endswith((".pyc", ".nbi", ".nbc")):
            yield prefix + entry.name

print(json.dumps({
    "package": fluogan_core.__file__,
    "kernels": sorted(walk(files("fluogan_core.kernels"))),
    "plain kernels": importlib.util.find_spec("kernels") is not None,
    "typed": files("fluogan_core").joinpath("py.typed").is_file(),
    "status": cli.main(["--version"]),
}))
"""


def run(*command: object, cwd: Path) -> str:
    """Run a command without the checkout on its path and return what it prints."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def kernel_files() -> list[str]:
    """Every file under kernels/ in the checkout, generated ones apart."""
    found = (path for path in (ROOT / "kernels").rglob("*") if path.is_file())
    return sorted(
        path.relative_to(ROOT / "kernels").as_posix()
        for path in found
        if "__pycache__" not in path.parts and path.suffix not in (".pyc", ".nbi", ".nbc")
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the checkout, so that building leaves nothing behind in it."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("copy") / "source", ignore=GENERATED))


@pytest.fixture(scope="module")
def built(source) -> Path:
    """The folder with the sdist, and the wheel built out of that sdist."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", source.parent / "dist", source, cwd=source.parent)
    return source.parent / "dist"


def environment(folder: Path) -> Path:
    """Make a virtual environment that sees this one's libraries, but not what is installed here in editable form.

    A .pth file adds the folders to the path; the .pth files inside those folders, by which an editable install works, are
    not followed.
    """
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # an environment may take libraries from another one
    libraries = {folder for folder in sys.path if Path(folder).name in ("site-packages", "dist-packages")}
    (site / "libraries.pth").write_text("\n".join(sorted(libraries)))
    return python


def install(python: Path, *what: object, cwd: Path) -> None:
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--force-reinstall", "--quiet")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, *what, cwd=cwd)


def probe(python: Path, cwd: Path) -> dict:
    return json.loads(run(python, "-c", PROBE, cwd=cwd).splitlines()[-1])


def test_the_wheel_holds_every_kernel_and_nothing_called_kernels(built, tmp_path):
    python = environment(tmp_path / "venv")
    (wheel,) = built.glob("*.whl")
    install(python, wheel, cwd=tmp_path)
    found = probe(python, tmp_path)
    assert Path(found["package"]).is_relative_to(tmp_path / "venv")
    assert found["kernels"] == kernel_files()
    assert not found["plain kernels"]
    assert found["typed"]
    assert found["status"] == 0
    assert run(python.with_name("fluogan"), "--version", cwd=tmp_path).startswith("fluogan, version ")


def test_napari_finds_the_plugin_in_the_wheel(built):
    """By the entry point, which leads to the manifest."""
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        (points,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith("entry_points.txt"))
        assert "[napari.manifest]\nfluogan-core = fluogan_core.interop:napari.yaml" in points
        assert wheel.read("fluogan_core/interop/napari.yaml").startswith(b"name: fluogan-core\n")


def test_an_editable_install_finds_the_kernels(source, tmp_path):
    python = environment(tmp_path / "venv")
    install(python, "--editable", source, cwd=tmp_path)
    found = probe(python, tmp_path)
    assert Path(found["package"]).is_relative_to(source)
    assert found["kernels"] == kernel_files()
    assert not found["plain kernels"]


def test_the_sdist_holds_what_building_and_testing_need(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        held = {name.split("/", 1)[1] for name in tar.getnames() if "/" in name}
    wanted = {"pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt"}
    wanted |= {f"kernels/{name}" for name in kernel_files()}
    for folder, kinds in (("fluogan_core", (".py", ".typed")), ("tests", (".py",)), ("docs", (".md", ".rst", ".py"))):
        wanted |= {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / folder).rglob("*")
            if path.suffix in kinds and "_build" not in path.parts
        }
    assert wanted - held == set()
    assert not [name for name in held if name.endswith((".pyc", ".nbi", ".nbc"))]
