"""What ``method="auto"`` makes of the scenes, beside the default method that it begins with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from .._harness import Report
from ._run import DEFAULT, FULL, Document

__all__ = ["BEYOND_NOISE", "add_choices", "kinetics_of"]

#: Two fits of the same frames differ by as much.
BEYOND_NOISE = 1.02


def kinetics_of(scene: Document) -> str:
    """How the molecules of a scene blink, in a table's words."""
    return f"{scene['kinetics']}, κ {scene['kappa']:g}" if scene["kappa"] else str(scene["kinetics"])


def add_choices(made: Report, done: Sequence[Document]) -> None:
    """Add the scenes in which the likelihood was kept, and the targets of the choice."""
    rows, ratios = [], []
    for one in done:
        verdicts, s, choice = one["library"]["verdicts"], one["scene"], one["library"]["likelihood"]
        default, auto = (verdicts[name]["nrmse"]["60"] for name in (DEFAULT, FULL))
        ratios.append(auto / default)
        if choice["reason"] != "CHOSEN":
            continue
        preference = "" if choice["preference"] is None else f"{choice['preference']:.1f}"
        seconds = one["library"]["seconds"]["cpu"]
        rows.append(
            [
                f"{s['seed']}-{s['number']:04d}", s["structure"], kinetics_of(s), s["frames"], f"{default:.3f}", f"{auto:.3f}",
                f"{auto / default:.2f}", preference, f"{seconds - choice['cpu']:.1f}", f"{seconds:.1f}",
            ]
        )  # fmt: skip
    chosen = [float(row[6]) for row in rows]
    worse = float(np.mean([ratio > BEYOND_NOISE for ratio in ratios]))
    if rows:
        made.target("auto over default where the likelihood is kept, geometric mean", _mean(chosen), at_most=1.0)
    made.target("auto over default, worst scene", max(ratios), at_most=1.0)
    made.target(f"auto more than {BEYOND_NOISE - 1:.0%} behind the default, share", worse, at_most=0.0)
    counted = Counter(one["library"]["likelihood"]["reason"] for one in done)
    said = ", ".join(f"{name} {count}" for name, count in sorted(counted.items()))
    made.table(
        "Scenes in which the likelihood's image is kept: NRMSE at 60 nm",
        [
            "scene", "structure", "kinetics", "frames", "default", "auto", "auto over default", "preference, standard errors",
            "default, s of CPU", "auto, s of CPU",
        ],
        sorted(rows, key=lambda row: row[6]),
        f"In the others auto's image is the default's. What became of the likelihood: {said}.",
    )  # fmt: skip


def _mean(ratios: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(ratios))))
