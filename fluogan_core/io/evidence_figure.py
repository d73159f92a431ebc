"""The figures of an evidence map: the image with its gaps and the finest certain width; RSE, RSP and rolling FRC."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .panels import blank_figure, draw_image, scale_bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..metrics.evidence_map import Evidence
    from ..metrics.image_checks import ImageChecks

__all__ = ["checks_figure", "evidence_figure"]

_CERTAIN, _UNCERTAIN = "#40e0a0", "#ff8080"


def evidence_figure(found: Evidence, image: np.ndarray, *, pixel_size_nm: float) -> Figure:
    """Draw an evidence map.

    Parameters
    ----------
    found : Evidence
        From :func:`fluogan_core.evidence`.
    image : (N1, N2) array
        The image that was judged.
    pixel_size_nm : float
        Pixel of the image, nm.

    Returns
    -------
    matplotlib.figure.Figure
        With an Agg canvas; :func:`fluogan_core.io.figures.save` writes it.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    rows, columns = image.shape
    drawing = blank_figure(11.0, 4.6 * min(max(rows / columns, 0.4), 1.6) + 0.7)
    left, right = drawing.subplots(1, 2)
    draw_image(left, np.asarray(image, dtype=np.float64), image.shape, pixel_size_nm, "Gaps of the image", "light", "magma")
    for gap in found.gaps:
        certain = gap.significance >= found.threshold
        half = gap.length_nm / pixel_size_nm / 2
        down, across = -half * math.sin(math.radians(gap.angle_deg)), half * math.cos(math.radians(gap.angle_deg))
        row, column = gap.row_nm / pixel_size_nm, gap.column_nm / pixel_size_nm
        colour = _CERTAIN if certain else _UNCERTAIN
        left.plot(
            [column + down, column - down], [row + across, row - across],
            color=colour, lw=2.0 if certain else 0.8, ls="-" if certain else ":",
        )  # fmt: skip
        if certain:
            left.annotate(
                f"{gap.significance:.1f}", (column, row), xytext=(4, 2), textcoords="offset points", color=colour, fontsize=8
            )
    left.set_xlabel(f"green: certain, standard deviations beside it; red, dotted: less than {found.threshold:g}", fontsize=9)
    _map(right, drawing, found.finest_nm, pixel_size_nm, "Finest width that is certain", "nm", cmap="viridis_r")
    right.set_xlabel("grey: dark, or no width finer than the PSF is certain", fontsize=9)
    return drawing


def checks_figure(checks: ImageChecks, *, pixel_size_nm: float) -> Figure:
    """Draw the maps of RSP, RSE and rolling FRC.

    Parameters
    ----------
    checks : ImageChecks
    pixel_size_nm : float
        Camera pixel, nm.

    Returns
    -------
    matplotlib.figure.Figure
        With an Agg canvas; :func:`fluogan_core.io.figures.save` writes it.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    agreement, found = checks.agreement, checks.resolution
    rows, columns = agreement.rsp.shape
    drawing = blank_figure(13.0, 3.4 * min(max(rows / columns, 0.4), 1.6) + 0.7)
    panels = drawing.subplots(1, 3)
    lowest = float(np.nanmin(agreement.rsp)) if np.isfinite(agreement.rsp).any() else 0.0
    ends = {"vmin": min(lowest, 0.9), "vmax": 1.0}
    _map(panels[0], drawing, agreement.rsp, pixel_size_nm, "Correlation with the mean frame (RSP)", "", cmap="viridis", **ends)
    _map(panels[1], drawing, agreement.rse, pixel_size_nm, "Error (RSE)", "photons / camera pixel", cmap="magma", vmin=0.0)
    if found is None:
        panels[2].set_axis_off()
        return drawing
    fine_nm = pixel_size_nm * columns / found.resolution_nm.shape[1]
    _map(panels[2], drawing, found.resolution_nm, fine_nm, "Rolling FRC, two halves of the frames", "nm", cmap="viridis_r")
    panels[2].set_xlabel("grey: does not cross 1/7", fontsize=9)
    return drawing


def _map(
    axes: Axes, drawing: Figure, image: np.ndarray, pixel_size_nm: float, title: str, unit: str, **colours: str | float
) -> None:
    """One map; NaN is grey."""
    axes.set_facecolor("#777777")
    rows, columns = image.shape
    shown = axes.imshow(image, extent=(0, columns, rows, 0), interpolation="nearest", **colours)  # type: ignore[arg-type]
    axes.set_title(title, fontsize=11)
    axes.set_xticks([])
    axes.set_yticks([])
    scale_bar(axes, image.shape, pixel_size_nm)
    bar = drawing.colorbar(shown, ax=axes, shrink=0.9)
    bar.set_label(unit, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
