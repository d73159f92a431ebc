"""The documentation holds: snippets run, links lead somewhere, every public name is listed, words are the agreed ones."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hosts import need

import fluogan_core as fg
from fluogan_core.cli.commands import commands
from fluogan_core.critics import estimators
from fluogan_core.io.simulated import write_experiment
from fluogan_core.simulation.experiment import Experiment

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
#: Every page that a reader meets, with its path from the root.
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "kernels" / "README.md", *sorted(DOCS.rglob("*.md"))]
    if "_build" not in path.parts
}
#: Packages that a page of the gallery needs, where they are not called as it is.
GALLERY = {
    "scikit-image": ("skimage",),
    "napari": ("napari", "qtpy"),
    "dask": ("dask.array",),
    "pyproximal": ("pylops", "pyproximal"),
}
#: Folders that are made when the commands run.
MADE = ("result", "demo", "simulated", "pair")
_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: What benchmarks wrote between these lines are recorded figures and the words of their day.
_TABLE = re.compile(r"<!-- table: .*?<!-- end -->", re.DOTALL)


def text_of(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def snippets(page: str) -> str:
    """All Python of a page as one program, each line where it stands on the page."""
    text = text_of(page)
    lines = [""] * (text.count("\n") + 1)
    for found in _FENCE.finditer(text):
        if found[1] == "python":
            first = text[: found.start(2)].count("\n")
            lines[first : first + found[2].count("\n")] = found[2].splitlines()
    return "\n".join(lines)


def command_lines(page: str) -> list[str]:
    """The commands that a page shows in indented or fenced blocks, comments cut off, continued lines joined."""
    joined = text_of(page).replace("\\\n", " ")
    found = re.findall(r"^\s*(?:\$ )?((?:fluogan|make) [^\n]*)$", "\n".join(blocks_of(joined)), re.MULTILINE)
    return [line.split("  #")[0].strip() for line in found]


def blocks_of(text: str) -> list[str]:
    fenced = [found[2] for found in _FENCE.finditer(text) if found[1] in ("", "console", "sh", "bash")]
    return fenced + re.findall(r"^    \S.*$", _FENCE.sub("", text), re.MULTILINE)


# -- snippets ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages read: STACK.tif, a recording of a few camera pixels, and bead.tif, the image of a bead."""
    folder = tmp_path_factory.mktemp("recorded")
    write_experiment(Experiment(separations_nm=(300.0,), size=(16, 16), frames=60, brightness=20.0, background=3.0), folder)
    (folder / "stack.tif").rename(folder / "STACK.tif")
    bead = 500.0 * fg.gaussian_psf(fwhm_nm=318, pixel_size_nm=100, factor=1) + 100.0
    tifffile.imwrite(folder / "bead.tif", np.round(bead).astype(np.uint16))
    return folder


@pytest.fixture
def reader(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own with the recorded files, as the working directory."""
    for path in recorded.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estimators, "_REGISTRY", dict(estimators._REGISTRY))  # a page registers one of its own
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page).strip()])
def test_the_python_of_a_page_runs(page, reader):
    """In the order in which it stands there, one namespace for the whole page."""
    if page.startswith("docs/gallery/") and (host := Path(page).stem) != "index":
        need(*GALLERY.get(host, (host,)))
    names: dict[str, object] = {"__name__": "snippets"}
    exec(compile(snippets(page), page, "exec"), names)


def test_the_pages_that_teach_have_snippets():
    taught = ("getting-started", "is-my-result-real", "choosing-parameters", "psf-and-camera", "own-critic", "contributing")
    for page in ("README.md", *(f"docs/{name}.md" for name in taught)):
        assert snippets(page).strip(), page


@pytest.mark.parametrize("page", [page for page in PAGES if command_lines(page)])
def test_the_commands_of_a_page_exist(page, reader):
    """Subcommands, switches and their values are those of the command line; targets of make are in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in command_lines(page):
        program, *words = shlex.split(line)
        if program == "make":
            named = [word for word in words if "=" not in word]
            assert set(named) <= targets, line
        elif words[0] not in ("--help", "--version") and not any(word.isupper() and "." not in word for word in words):
            command = commands.get_command(None, words[0])
            assert command is not None, line
            command.make_context(words[0], words[1:])


# -- links and names --------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """What a page's headings are linked by, as the usual Markdown hosts make it."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", _FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        kept = "".join(c for c in plain if c in " -_" or unicodedata.category(c)[0] in "LN")
        found.add(kept.strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = PAGES[page]
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text_of(page)))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        other = (path.parent / name).resolve() if name else path
        assert other.exists(), f"{page} links to {target}, which is not there"
        assert not anchor or anchor in anchors(other), f"{page} links to {target}, and that page has no such heading"


def test_every_page_can_be_reached():
    """From the tables of contents, which are what the built documentation shows beside each page."""
    listed = re.findall(r"```{toctree}\n(.*?)```", text_of("docs/index.md"), re.DOTALL)
    names = [line.strip() for part in listed for line in part.splitlines() if line.strip() and not line.startswith(":")]
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in PAGES.values() if path.is_relative_to(DOCS)}
    assert sorted(names) == sorted(pages - {"index"})


def test_every_public_name_is_on_the_page_of_public_names():
    text = text_of("docs/api.md")
    entries = re.findall(r"^\.\. auto(?:function|class|data|exception):: (\w+)$", text, re.MULTILINE)
    listed = set(entries)
    assert len(entries) == len(listed), "a name is listed twice"
    public = {name for name in fg.__all__ if not name.startswith("_")}
    assert public - listed == set(), "missing in docs/api.md"
    assert listed - public == set(), "listed in docs/api.md, but not public"


def test_the_table_of_estimators_is_that_of_the_registry():
    own = [row for row in estimators.estimator_table().splitlines() if re.match(r'\| `("(\w+)"|method)`', row)]
    named = {
        name for name in estimators.estimator_names() if str(estimators.estimator_named(name).function).startswith("fluogan_")
    }
    rows = [row for row in own if row.startswith("| `method`") or row.split('"')[1] in named]
    assert len(rows) == 6
    for row in rows:
        assert row in text_of("docs/estimators.md"), row


@pytest.mark.parametrize("page", PAGES)
def test_names_in_the_text_exist(page):
    """Names that begin with the package, and paths of files and folders, as they stand between backquotes."""
    homes = (ROOT, ROOT / "fluogan_core", ROOT / "kernels" / "cpu", ROOT / "kernels" / "cuda", PAGES[page].parent)
    for code in re.findall(r"`([^`\n]+)`", _FENCE.sub("", _TABLE.sub("", text_of(page)))):
        if re.fullmatch(r"(fg|fluogan_core)(\.\w+)+(\(\))?", code):
            found: object = fg
            for part in code.removesuffix("()").split(".")[1:]:
                name = f"{found.__name__}.{part}"  # type: ignore[attr-defined]
                try:
                    found = getattr(found, part, None) or importlib.import_module(name)
                except ImportError:  # an adapter whose host is not installed here: the file is there, what is in it is not seen
                    assert importlib.util.find_spec(name) is not None, f"{page} names {code}, which is not there"
                    break
        elif (
            re.fullmatch(r"(\w+/)+(\w+\.(py|md|cu|cuh|json|png))?|\w+\.(py|cu|cuh)", code)
            and code.split("/")[0] not in MADE
            and "NAME" not in code
        ):
            assert any((home / code).exists() for home in homes), f"{page} names {code}, which is not there"


def test_the_map_of_the_rooms_is_that_of_the_folders():
    rows = re.findall(r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|", text_of("docs/architecture.md"), re.MULTILINE)
    folders = {path.parent.name for path in (ROOT / "fluogan_core").glob("*/__init__.py")}
    assert {room for room, _ in rows} == folders | {"kernels"}
    for room, modules in rows:
        for name in re.findall(r"`(\w+)`", modules):
            assert (ROOT / "fluogan_core" / room / f"{name}.py").exists(), f"docs/architecture.md names {room}/{name}.py"


# -- words ------------------------------------------------------------------------------------------------------------

#: Words that were in use and have a standard term now: pattern -> what to write.
FORMER_WORDS = {
    r"witness(?:es|ed)?": "quadratic critic",
    r"(?<!method of )sieves?": "Gaussian kernel, intrinsic-correlation kernel",
    r"dark charge|what light costs": "reweighted l1 penalty",
    r"believ\w+": "update the weights; assume",
    r"deserved\w*": "iterations_for_snr, detail_for_snr",
    r"HeldBackground": "warm start",
    r"(?:critic|second|adversarial) phase": "covariance fit, network fit",
}


@pytest.mark.parametrize("page", PAGES)
def test_pages_use_the_agreed_words(page):
    prose = _TABLE.sub("", text_of(page))
    found = [m[0] for pattern in FORMER_WORDS for m in re.finditer(rf"\b(?:{pattern})\b", prose, re.IGNORECASE)]
    assert not found, f"{page} says {found}; write instead: {FORMER_WORDS}"


#: Where the words may stand: this list, former module names, and the recorded figures.
SOURCES = sorted(
    path
    for folder in ("fluogan_core", "kernels", "benchmarks", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".cu", ".cuh", ".h", ".cpp") and path.name not in ("test_docs.py", "_aliases.py")
)


def test_comments_docstrings_and_messages_use_the_agreed_words():
    found = [
        f"{path.relative_to(ROOT)}: {m[0]}"
        for path in SOURCES
        for pattern in FORMER_WORDS
        for m in re.finditer(rf"\b(?:{pattern})\b", path.read_text(encoding="utf-8"), re.IGNORECASE)
    ]
    assert not found, f"{found}; write instead: {FORMER_WORDS}"
    assert len(SOURCES) > 150, "the walk goes through the folders"
