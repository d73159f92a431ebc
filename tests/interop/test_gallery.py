"""The gallery: a host's part is a few lines, and every adapter has its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in (ROOT / "docs" / "gallery").glob("*.md") if path.stem != "index")
#: Adapters that have no page of their own name.
WITHIN = {"napari_widget": "napari"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_part_of_a_host_is_at_most_five_lines(page):
    """From the line that says so to the end of its block."""
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    parts = [block.split("\n") for block in blocks if "# the host's part" in block]
    assert len(parts) == 1
    (lines,) = parts
    start = next(n for n, line in enumerate(lines) if line.endswith("# the host's part"))
    assert 1 <= len([line for line in lines[start:] if line.strip()]) <= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_ends_in_a_number_that_is_checked(page):
    assert "print(" in page.read_text(encoding="utf-8")
    assert re.search(r"^ *assert ", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_adapter_has_a_page_and_a_row():
    adapters = {path.stem for path in (ROOT / "fluogan_core" / "interop").glob("[a-z]*.py")}
    pages = {page.stem for page in PAGES}
    assert {WITHIN.get(name, name) for name in adapters} <= pages
    assert {"scipy", "scikit-image", "dask"} <= pages
    rows = re.findall(
        r"^\| \[[^]]+\]\(([\w-]+)\.md\)", (ROOT / "docs/gallery/index.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(rows) == sorted(pages)
