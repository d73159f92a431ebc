"""The figure beside a result: mean image, x, b, a profile across the first two, and the losses; the contact sheet of a sweep.

matplotlib is loaded inside the functions only, and pyplot not at all: drawing leaves no global state behind.
"""

from __future__ import annotations

import math
import os
import textwrap
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..backend.checks import real_number, whole_number
from ..backend.kinds import as_array
from .panels import draw_image, limits, scale_bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..selection.trials import Sweep
    from ..solvers.result import Result

__all__ = ["contact_sheet", "draw_profile", "figure", "load_matplotlib", "profile_band", "save"]

_MEAN_COLOUR, _X_COLOUR, _HELD_OUT_COLOUR = "#8a8f98", "#c2255c", "#1864ab"
_DPI = 150
#: Panels beside each other where the grid says how many; more are wrapped.
_MOST_COLUMNS = 8


def figure(
    result: Result,
    *,
    pixel_size_nm: float | None = None,
    title: str | None = None,
    band: tuple[int, int] | None = None,
    across: str | None = None,
) -> Figure:
    """Draw a result.

    Parameters
    ----------
    result : Result
        From :func:`fluogan_core.reconstruct`.
    pixel_size_nm : float, optional
        Camera pixel, nm; gives scale bars and profiles in nm.  Without it, lengths are camera pixels.
    title : str, optional
        A line above everything.
    band : (first, count), optional
        Camera rows (``across="columns"``) or columns over which the profile is averaged; three about the brightest by
        default.  Dashed lines in the images show it.
    across : {"columns", "rows"}, optional
        Whether the profile runs along a row (from column to column) or down a column; by default the way in which x
        varies more.

    Returns
    -------
    matplotlib.figure.Figure
        With an Agg canvas; :func:`save` writes it.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If the band lies outside the field.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if pixel_size_nm is not None:
        pixel_size_nm = real_number(pixel_size_nm, "pixel_size_nm", low=0, open_low=True)
    to_host = result.psi.backend.to_host
    mean, x, b = (
        np.asarray(to_host(as_array(image, name)), dtype=np.float64)
        for image, name in ((result.mean, "mean"), (result.x, "x"), (result.b, "b"))
    )
    factor = result.psi.factor
    across, band = profile_band(x, factor, band=band, across=across)

    engine = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.04, hspace=0.06)
    drawing = Figure(figsize=(12.0, 7.4), dpi=_DPI, layout=engine)
    FigureCanvasAgg(drawing)
    if title:
        drawing.suptitle(title, fontsize=12)
    grid = drawing.add_gridspec(2, 6, height_ratios=(1.25, 1.0))
    images = [drawing.add_subplot(grid[0, 2 * k : 2 * k + 2]) for k in range(3)]
    emitted = "photons" if result.psi.photons_per_emitter == 1 else "emissions"
    draw_image(images[0], mean, mean.shape, pixel_size_nm, "Mean of the frames", "photons / camera pixel", "magma")
    draw_image(images[1], x, mean.shape, pixel_size_nm, f"x, {factor} times finer", f"{emitted} / fine pixel / frame", "magma")
    draw_image(images[2], b, mean.shape, pixel_size_nm, "b, background", "photons / camera pixel / frame", "cividis")
    for axes in images[:2]:
        for edge in (band[0], band[0] + band[1]):
            (axes.axhline if across == "columns" else axes.axvline)(edge, color="white", lw=0.8, ls=(0, (4, 4)), alpha=0.7)

    with_critic = bool((np.asarray(result.history.get("phase", ())) == 1).any())
    before = np.asarray(to_host(as_array(result.x_mean_fit, "x_mean_fit")), dtype=np.float64) if with_critic else None
    draw_profile(drawing.add_subplot(grid[1, 0:3]), mean, x, before, factor, pixel_size_nm, across, band)
    _losses(drawing, grid, result.history)
    return drawing


def contact_sheet(made: Sweep, *, pixel_size_nm: float | None = None) -> Figure:
    """Draw the images of a sweep side by side, on one scale of intensity, the best one framed.

    With two names varied, rows are the values of the first and columns those of the second.

    Parameters
    ----------
    made : Sweep
        From :func:`fluogan_core.sweep`, or what its callback was handed.
    pixel_size_nm : float, optional
        Camera pixel, nm; gives a scale bar.

    Returns
    -------
    matplotlib.figure.Figure
        With an Agg canvas; :func:`save` writes it.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If no setting has an image.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    images = [trial.fit.x.astype(np.float64) for trial in made.trials if trial.fit is not None]
    if not images:
        raise ValueError("no setting of this sweep has an image to show")
    if pixel_size_nm is not None:
        pixel_size_nm = real_number(pixel_size_nm, "pixel_size_nm", low=0, open_low=True)
    low, high, clipped = limits(np.stack(images), from_zero=True)
    field, count = made.psi.shape, len(made.trials)
    values = [len(v) for v in made.vary.values()]
    columns = values[1] if len(values) == 2 and values[1] <= _MOST_COLUMNS else math.ceil(math.sqrt(count))
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    width = min(3.2, 16.0 / columns)
    height = width * min(max(field[0] / field[1], 0.3), 2.0) + 0.5
    engine = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, wspace=0.02, hspace=0.02)
    drawing = Figure(figsize=(max(columns * width, 3.5) + 1.3, rows * height + 0.6), dpi=_DPI, layout=engine)
    FigureCanvasAgg(drawing)
    drawing.suptitle("Frames that were not fitted: log density, nats per frame behind the best", fontsize=10)
    if made.notes:  # who sees the picture alone shall know them too
        letters = int(14 * drawing.get_figwidth())
        drawing.supxlabel("\n".join(textwrap.fill(f"Note: {note}.", letters) for note in made.notes), fontsize=8)
    panels = drawing.subplots(rows, columns, squeeze=False)
    for number, axes in enumerate(panels.ravel()):
        axes.set_xticks([])
        axes.set_yticks([])
        if number >= count:
            axes.set_axis_off()
            continue
        fit = made.trials[number].fit
        _place(axes, made, number, size=min(9.0, 3.6 * width))
        if fit is not None:
            extent = (0, field[1], field[0], 0)
            axes.imshow(fit.x, cmap="magma", vmin=low, vmax=high, extent=extent, interpolation="nearest")
    first = next(axes for axes in panels.ravel() if axes.images)
    if pixel_size_nm is not None:
        scale_bar(first, field, pixel_size_nm)
    bar = drawing.colorbar(
        first.images[0],
        ax=panels,
        shrink=0.6,
        aspect=30,
        fraction=0.6 / drawing.get_figwidth(),
        pad=0.01,
        extend="max" if clipped else "neither",
    )
    bar.set_label("x per fine pixel and frame", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return drawing


def _place(axes: Axes, made: Sweep, number: int, size: float) -> None:
    """Title and frame of one panel: its setting, and how far it is behind the best."""
    trial, lag = made.trials[number], made.behind(number)
    if lag is None:
        verdict = "failed"
        axes.text(0.5, 0.5, textwrap.fill(trial.failure, 26), transform=axes.transAxes, ha="center", va="center", fontsize=size)
    elif number == made.best:
        verdict = "the best"
    else:
        verdict = f"behind by {lag}" + ("" if lag.told_apart else ", not told from it")
    ahead = lag is not None and not lag.told_apart
    title = f"{number + 1}: {trial.label}\n{verdict}"
    axes.set_title(
        title, fontsize=size, color=_X_COLOUR if ahead else "black", weight="bold" if verdict == "the best" else None
    )
    for spine in axes.spines.values():
        spine.set(visible=ahead, color=_X_COLOUR, linewidth=3.0 if number == made.best else 1.2)


def load_matplotlib() -> None:
    """Import matplotlib whatever ``MPLBACKEND`` says: a file needs no window, and a wrong name stops the import."""
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib.figure  # noqa: F401
    finally:
        os.environ.update({} if backend is None else {"MPLBACKEND": backend})


def save(drawing: Figure, path: str | os.PathLike[str] | BinaryIO) -> None:
    """Write a figure as PNG, 150 dpi, whatever the file's extension."""
    drawing.savefig(path, format="png", dpi=_DPI, metadata={"Software": None})


def profile_band(
    x: np.ndarray, factor: int, *, band: tuple[int, int] | None = None, across: str | None = None
) -> tuple[str, tuple[int, int]]:
    """Choose along which way the profile runs, and over which camera rows (or columns) it is averaged.

    Returns
    -------
    across : {"columns", "rows"}
    band : (first, count), camera pixels
    """
    if across is None:
        across = "columns" if x.mean(axis=0).var() >= x.mean(axis=1).var() else "rows"
    if across not in ("columns", "rows"):
        raise ValueError(f"across must be 'columns' or 'rows', got {across!r}")
    length = (x.shape[0] if across == "columns" else x.shape[1]) // factor
    if band is None:
        sums = x.sum(axis=1 if across == "columns" else 0).reshape(length, factor).sum(axis=1)
        count = min(3, length)
        return across, (int(np.clip(int(sums.argmax()) - 1, 0, length - count)), count)
    first, count = whole_number(band[0], "band[0]", low=0), whole_number(band[1], "band[1]", low=1)
    if first + count > length:
        raise ValueError(f"band ({first}, {count}) reaches outside the field, which has {length} camera pixels that way")
    return across, (first, count)


def draw_profile(
    axes: Axes,
    mean: np.ndarray,
    x: np.ndarray,
    before: np.ndarray | None,
    factor: int,
    pixel_size_nm: float | None,
    across: str,
    band: tuple[int, int],
) -> None:
    """Mean, x, and x of the mean fit, along the band, each divided by its own maximum."""
    scale = 1.0 if pixel_size_nm is None else pixel_size_nm

    def along(image: np.ndarray, finer: int) -> tuple[np.ndarray, np.ndarray]:
        image = image if across == "columns" else image.T
        values = image[band[0] * finer : (band[0] + band[1]) * finer].mean(axis=0)
        top = float(values.max())
        return (np.arange(values.size) + 0.5) * scale / finer, values / top if top > 0 else values

    axes.plot(*along(mean, 1), color=_MEAN_COLOUR, lw=1.6, marker="o", ms=3, label="mean of the frames")
    if before is not None:
        axes.plot(*along(before, factor), color="black", lw=0.9, ls=(0, (2, 2)), label="x of the mean fit")
    axes.fill_between(*along(x, factor), step="mid", color=_X_COLOUR, alpha=0.18, lw=0)
    axes.plot(*along(x, factor), drawstyle="steps-mid", color=_X_COLOUR, lw=1.4, label="x")
    unit = "camera pixels" if pixel_size_nm is None else "nm"
    way, end = ("rows", mean.shape[1]) if across == "columns" else ("columns", mean.shape[0])
    axes.set(xlim=(0, end * scale), ylim=(0, 1.18), ylabel="share of the maximum", xlabel=f"position, {unit}")
    axes.set_title(f"Profile between the dashed lines ({way} {band[0]} to {band[0] + band[1] - 1})", fontsize=11)
    axes.legend(loc="upper center", fontsize=8, frameon=False, ncols=3)
    _tidy(axes)


def _losses(drawing: Figure, grid: Any, history: dict[str, np.ndarray]) -> None:
    """Fidelity, and the critic's estimate on training and held-out frames where there was a critic."""
    with_critic = any(np.isfinite(history.get(name, np.empty(0))).any() for name in ("w_train", "w_held_out"))
    place = grid[1, 3:6].subgridspec(2 if with_critic else 1, 1, hspace=0.35)
    fidelity = drawing.add_subplot(place[0])
    values = np.asarray(history.get("fidelity", ()), dtype=np.float64)
    steps = np.arange(1, values.size + 1)
    positive = np.isfinite(values) & (values > 0)
    if positive.any():
        fidelity.plot(steps[positive], values[positive], color=_X_COLOUR, lw=1.3)
        fidelity.set_yscale("log")
    fidelity.set_title("Course of the fit", fontsize=11)
    fidelity.set_ylabel("fidelity", fontsize=9)
    panels = [fidelity]
    if with_critic:
        # an axis of its own: the critic's steps may be few beside those of the mean fit
        critic = drawing.add_subplot(place[1])
        for name, label, colour in (
            ("w_train", "training frames", _MEAN_COLOUR),
            ("w_held_out", "held-out frames", _HELD_OUT_COLOUR),
        ):
            series = np.asarray(history.get(name, ()), dtype=np.float64)
            known = np.isfinite(series)
            if known.any():
                critic.plot(np.arange(1, series.size + 1)[known], series[known], color=colour, lw=1.3, label=label)
        critic.axhline(0, color="black", lw=0.6)
        critic.set_ylabel("frames told apart by", fontsize=9)
        critic.legend(loc="best", fontsize=8, frameon=False)
        panels.append(critic)
        _mark_last_fit(fidelity, history)
    panels[-1].set_xlabel("step")
    for axes in panels:
        axes.margins(x=0.01)
        _tidy(axes)


def _mark_last_fit(axes: Axes, history: dict[str, np.ndarray]) -> None:
    """Shade the steps after the mean fit."""
    phase = np.asarray(history.get("phase", ()), dtype=np.float64)
    (steps,) = np.nonzero(phase == 1)
    if not steps.size:
        return
    axes.axvspan(steps[0] + 0.5, steps[-1] + 1.5, color=_HELD_OUT_COLOUR, alpha=0.07, lw=0)
    late = steps[0] > 0.8 * phase.size
    axes.annotate(
        "after the mean fit",
        (steps[0] + 0.5, 0.94),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-3 if late else 3, 0),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top",
        fontsize=8,
        color=_HELD_OUT_COLOUR,
    )


def _tidy(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(True, color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
