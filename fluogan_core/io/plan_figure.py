"""The figure of a plan: how sure a gap is at each separation, and what each change of the recording buys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .panels import blank_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..planning.plan import Plan

__all__ = ["plan_figure"]

_MEAN_COLOUR, _BOTH_COLOUR, _LIKELIHOOD_COLOUR = "#8a8f98", "#c2255c", "#1c7ed6"


def plan_figure(found: Plan) -> Figure:
    """Draw a plan.

    Parameters
    ----------
    found : Plan
        From :func:`fluogan_core.plan`.

    Returns
    -------
    matplotlib.figure.Figure
        With an Agg canvas; :func:`fluogan_core.io.figures.save` writes it.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    drawing = blank_figure(9.5, 3.6)
    curve, bars = drawing.subplots(1, 2, width_ratios=(3, 2))
    for deviations, colour, label in (
        (found.by_mean, _MEAN_COLOUR, "mean"),
        (found.by_both, _BOTH_COLOUR, "mean and covariance"),
    ):
        curve.loglog(found.separations_nm, np.maximum(deviations, 1e-3), color=colour, label=label)
    sampled = found.likelihood
    if sampled is not None:
        curve.errorbar(
            sampled.separations_nm,
            sampled.deviations,
            sampled.errors,
            color=_LIKELIHOOD_COLOUR,
            marker=".",
            label="full likelihood",
        )
    curve.axhline(found.significance, color="k", linewidth=0.8, linestyle="--")
    curve.set(
        xlabel="separation of two lines (nm)",
        ylabel="standard deviations from\nany image without a gap",
        ylim=(0.1, None),
    )
    low, high = found.separations_nm[[0, -1]]
    curve.set_xticks([step for step in (25, 50, 100, 200, 400, 800) if low <= step <= high], minor=False)
    curve.xaxis.set_major_formatter("{x:g}")
    curve.set_xticks([], minor=True)
    curve.legend(frameon=False, loc="lower right")
    rows = [("as planned", found.mean_nm, found.both_nm)]
    rows += [(change.name, change.mean_nm, change.both_nm) for change in found.changes]
    for at, (_, mean_nm, both_nm) in enumerate(rows):
        for offset, value, colour in ((-0.2, mean_nm, _MEAN_COLOUR), (0.2, both_nm, _BOTH_COLOUR)):
            if np.isfinite(value):
                bars.barh(at + offset, value, height=0.36, color=colour)
    names = [name for name, _, _ in rows]
    if sampled is not None and np.isfinite(sampled.finest_nm):
        names.append("as planned, full likelihood")
        bars.barh(len(rows), sampled.finest_nm, xerr=sampled.error_nm, height=0.36, color=_LIKELIHOOD_COLOUR)
    bars.set_yticks(range(len(names)), names)
    bars.invert_yaxis()
    bars.set_xlabel("finest separation (nm)")
    for axes in (curve, bars):
        axes.spines[["top", "right"]].set_visible(False)
    return drawing
