"""One image of a figure: on a scale of intensity that shows it, with a bar of length."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["blank_figure", "draw_image", "limits", "nice_length", "scale_bar"]


def blank_figure(width: float, height: float) -> Figure:
    """A figure of this size, inches, that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing


def nice_length(extent: float) -> float:
    """The length 1, 2 or 5 times a power of ten nearest below a quarter of ``extent``: a scale bar."""
    target = 0.25 * extent
    power = 10.0 ** math.floor(math.log10(target))
    return next(step * power for step in (5.0, 2.0, 1.0) if step * power <= target * (1 + 1e-9))


def _length(nanometres: float) -> str:
    return f"{nanometres / 1000:g} µm" if nanometres >= 1000 else f"{nanometres:g} nm"


def draw_image(
    axes: Axes,
    image: np.ndarray,
    field: tuple[int, ...],
    pixel_size_nm: float | None,
    title: str,
    unit: str,
    colours: str,
) -> None:
    """One image in camera-pixel coordinates, so that a fine image lies over a coarse one."""
    low, high, clipped = limits(image, from_zero=colours == "magma")
    shown = axes.imshow(image, cmap=colours, vmin=low, vmax=high, extent=(0, field[1], field[0], 0), interpolation="nearest")
    axes.set_title(title, fontsize=11)
    beside = axes.inset_axes((1.03, 0.0, 0.035, 1.0))
    bar = axes.figure.colorbar(shown, cax=beside, extend="max" if clipped else "neither")
    bar.set_label(unit, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    if pixel_size_nm is None:
        axes.set_xlabel("camera pixels", fontsize=9)
        axes.tick_params(labelsize=8)
        return
    axes.set_xticks([])
    axes.set_yticks([])
    scale_bar(axes, field, pixel_size_nm)


def scale_bar(axes: Axes, field: tuple[int, ...], pixel_size_nm: float) -> None:
    """A bar of a round length in the lower right corner, with the length above it."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import AbstractPathEffect, withStroke

    length = nice_length(field[1] * pixel_size_nm)
    width, thickness, margin = length / pixel_size_nm, 0.012 * field[0], 0.05 * field[0]
    right, bottom = field[1] - 0.05 * field[1], field[0] - margin
    edge: list[AbstractPathEffect] = [withStroke(linewidth=2.0, foreground="black", alpha=0.55)]
    axes.add_patch(Rectangle((right - width, bottom - thickness), width, thickness, facecolor="white", lw=0, path_effects=edge))
    label = axes.text(
        right - width / 2, bottom - 2 * thickness, _length(length), color="white", ha="center", va="bottom", fontsize=9
    )
    label.set_path_effects(edge)


def limits(image: np.ndarray, *, from_zero: bool) -> tuple[float, float, bool]:
    """Ends of the colour scale, and whether the brightest pixels lie beyond."""
    low, high, most = float(image.min()), float(image.max()), float(np.percentile(image, 99.8))
    if not from_zero:  # a background that is flat to 5 % shall look flat
        middle = 0.5 * (low + high)
        return min(low, 0.95 * middle), max(high, 1.05 * middle, low + 1e-12), False
    clipped = high > 1.5 * most > 0  # a few hot pixels must not turn the rest black
    return min(0.0, low), max(most if clipped else high, 1e-12), clipped
