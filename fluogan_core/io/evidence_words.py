"""What the evidence map says, as facts, rows of a table, and sentences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .page_style import Facts

if TYPE_CHECKING:
    from ..metrics.evidence_map import Evidence

__all__ = ["GAP_HEAD", "evidence_facts", "gap_rows", "in_words"]

#: Heads of :func:`gap_rows`.
GAP_HEAD = ("", "down, right (µm)", "sides apart (nm)", "length (nm)", "depth", "significance (s.d.)", "is it there?")


def evidence_facts(found: Evidence) -> Facts:
    """The evidence as plain values."""
    seen = found.finest_nm[np.isfinite(found.finest_nm)]
    return {
        "threshold": found.threshold,
        "finest_nm": float(seen.min()) if seen.size else None,
        "gaps": [dict(vars(gap)) for gap in found.gaps],
    }


def gap_rows(facts: Facts, most: int = 12) -> list[tuple[str, ...]]:
    """The gaps of :func:`evidence_facts` as rows of a table, the most significant first."""
    return [
        (
            str(number),
            f"{gap['row_nm'] / 1000:.2f}, {gap['column_nm'] / 1000:.2f}",
            f"{gap['separation_nm']:.0f}",
            f"{gap['length_nm']:.0f}",
            f"{gap['depth']:.0%}",
            # 2.96 is below a threshold of 3 and must not read as if it were not
            f"{math.floor(10 * gap['significance']) / 10:.1f}",
            "yes" if gap["significance"] >= facts["threshold"] else "not certain",
        )
        for number, gap in enumerate(facts["gaps"][:most], 1)
    ]


def in_words(facts: Facts) -> str:
    """The evidence in a sentence or two."""
    count, finest = len(facts["gaps"]), facts["finest_nm"]
    certain = sum(gap["significance"] >= facts["threshold"] for gap in facts["gaps"])
    gaps = "the gap" if count == 1 else f"{certain or 'none'} of the {count} gaps"
    shown = f"The frames {'do not ' if count == 1 and not certain else ''}confirm {gaps} that the image shows."
    words = shown if count else "The image shows no gap."
    if finest is not None and math.isfinite(finest):
        words += f" The finest width that is certain is {finest:.0f} nm."
    return words
