"""The figure of an evidence map: the image with its gaps, and the finest certain width."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .panels import blank_figure, draw_image, scale_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..metrics.evidence_map import Evidence

__all__ = ["evidence_figure"]

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
    right.set_facecolor("#777777")
    shown = right.imshow(found.finest_nm, cmap="viridis_r", extent=(0, columns, rows, 0), interpolation="nearest")
    right.set_title("Finest width that is certain", fontsize=11)
    right.set_xlabel("grey: dark, or no width finer than the PSF is certain", fontsize=9)
    right.set_xticks([])
    right.set_yticks([])
    scale_bar(right, image.shape, pixel_size_nm)
    bar = drawing.colorbar(shown, ax=right, shrink=0.9)
    bar.set_label("nm", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return drawing
