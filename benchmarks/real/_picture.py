"""The contact sheet: stacks down, methods across."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fluogan_core.io.figures import save
from fluogan_core.io.panels import nice_length

from ._compare import COLUMNS, Found
from ._stacks import FACTOR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw", "limits", "sheet"]

#: Ends of each image's grey scale, percentiles: a few bright pixels must not turn the rest black.
_ENDS = (1.0, 99.7)


def limits(image: np.ndarray) -> tuple[float, float]:
    """Ends of the grey scale of one image."""
    low, high = (float(q) for q in np.percentile(image, _ENDS))
    return low, max(high, low + 1e-12)


def draw(folder: Path, found: Sequence[Found]) -> Path:
    """Draw what was found; return the file, ``real.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "real.png"
    save(sheet(found), path)
    return path


def sheet(found: Sequence[Found]) -> Figure:
    """The figure: a row per stack, a column per method that any of them has."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    columns = [name for name in COLUMNS if any(name in f.images for f in found)]
    shapes = [tuple(part.stop - part.start for part in one.region.shown) for one in found]
    heights = [rows / across for rows, across in shapes]
    drawing = Figure(figsize=(2.3 * len(columns), 2.3 * sum(heights) + 0.3 * len(found) + 0.3), layout="constrained")
    FigureCanvasAgg(drawing)
    drawing.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    axes = drawing.subplots(len(found), len(columns), squeeze=False, height_ratios=heights)
    for place, name in zip(axes[0], columns):
        place.set_title(COLUMNS[name], fontsize=10)
    for row, one, (rows, across) in zip(axes, found, shapes):
        pixel = one.region.source.pixel_size_nm
        length = nice_length(across * pixel)
        for place, name in zip(row, columns):
            place.set(xticks=[], yticks=[])
            if name not in one.images:
                place.axis("off")
                continue
            image = one.images[name]
            low, high = limits(image)
            place.imshow(image, cmap="gray", vmin=low, vmax=high, extent=(0, across, rows, 0), interpolation="nearest")
            wide, thick = length / pixel, 0.02 * rows
            place.add_patch(
                Rectangle(
                    (0.95 * across - wide, 0.95 * rows - thick), wide, thick, facecolor="white", edgecolor="black", lw=0.5
                )
            )
            fine = pixel if image.shape == (rows, across) else pixel / FACTOR
            place.set_xlabel(f"{fine:g} nm pixels", fontsize=7, labelpad=1)
        name = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
        row[0].set_ylabel(f"{one.region.source.name}\n{len(one.region.frames)} frames, bar {name}", fontsize=8)
    return drawing
