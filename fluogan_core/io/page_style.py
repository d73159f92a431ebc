"""Pieces of HTML for the page of report, and its style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from ..calibration.plain import plain

__all__ = ["STYLE", "Facts", "listed", "number", "paragraph", "picture", "section", "table", "with_error"]

#: Entries of the report by name: plain values, lists and dicts of them.
Facts = dict[str, Any]

STYLE = """
:root { color-scheme: light dark; --ink: #1c1f23; --faint: #59616b; --line: #d8dce1; --paper: #ffffff; --box: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7eaee; --faint: #a5adb8; --line: #3a414b; --paper: #16191d; --box: #22272e; }
}
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main, footer { max-width: 58rem; margin: 0 auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin: 1.4rem 0 0.4rem; overflow-wrap: anywhere; }
h1 + p { font-size: 1.1rem; margin-top: 0; }
h2 { font-size: 1.2rem; margin: 1.8rem 0 0.5rem; padding-top: 0.6rem; border-top: 1px solid var(--line); }
p, ul { margin: 0.5rem 0; }
li { margin-bottom: 0.5rem; }
table { border-collapse: collapse; width: 100%; margin: 0.4rem 0 0.8rem; font-size: 0.95rem; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.9rem 0.25rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
td { overflow-wrap: anywhere; }
tbody th { font-weight: 400; color: var(--faint); }
table.facts th { width: 12rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); column-gap: 2rem; }
figure.small img { max-width: 26rem; width: 100%; }
figure { margin: 0.8rem 0; break-inside: avoid; }
figure img { max-width: 100%; height: auto; background: #ffffff; border-radius: 4px; }
figcaption, .remark, footer { color: var(--faint); font-size: 0.9rem; }
pre { background: var(--box); padding: 0.6rem 0.8rem; border-radius: 4px; white-space: pre-wrap; overflow-wrap: anywhere; }
details table { font-size: 0.85rem; }
summary { cursor: pointer; }
footer { margin: 2rem auto; }
@media print {
  :root { --ink: #000000; --faint: #444444; --line: #bbbbbb; --paper: #ffffff; --box: #f3f3f3; }
  body { font-size: 9.5pt; line-height: 1.35; }
  .pair { grid-template-columns: 1fr 1fr; }
  figure.small img { max-width: 18rem; }
  main, footer { max-width: none; padding: 0; }
  h2 { break-after: avoid; margin-top: 1rem; }
  li, tr { break-inside: avoid; }
}
"""


def number(value: float, digits: int = 3) -> str:
    """Return a number as a reader wants it, without an exponent."""
    return plain(value, digits)


def with_error(value: float, error: float | None) -> str:
    """Return a value and its standard error, of two digits, with as many decimals.

    Examples
    --------
    >>> with_error(3.159, 1.636), with_error(17190.0, 64.1), with_error(1.0, 0.00828), with_error(2.0, None)
    ('3.2 ± 1.6', '17190 ± 64', '1.0000 ± 0.0083', '2')
    """
    if error is None or not error > 0:
        return plain(value, 4)
    decimals = max(0, 1 - math.floor(math.log10(float(f"{error:.1e}"))))
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def section(title: str, body: str) -> str:
    """Return a section with its heading; ``body`` is HTML."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{escape(text)}</p>\n"


def listed(items: Sequence[str]) -> str:
    """Return a list of plain texts."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>\n"


def picture(address: str, alt: str, caption: str, *, small: bool = False) -> str:
    """Return a picture with the text that stands for it and a caption."""
    kind = ' class="small"' if small else ""
    image = f'<img src="{escape(address)}" alt="{escape(alt)}">'
    return f"<figure{kind}>{image}<figcaption>{escape(caption)}</figcaption></figure>\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """Return a table of plain texts; the first cell of a row names it, and an empty head is left out."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    opening = f"<table><thead><tr>{top}</tr></thead>" if head else '<table class="facts">'
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>\n'
        for name, *cells in rows
    )
    opening = opening.replace(">", f"><caption>{escape(caption)}</caption>", 1)
    return f"{opening}<tbody>\n{lines}</tbody></table>\n"
