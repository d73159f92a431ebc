"""The pictures of the page of report."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..backend.kinds import as_array
from .evidence_figure import checks_figure, evidence_figure
from .figures import draw_profile, load_matplotlib, profile_band, save
from .panels import blank_figure, draw_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..calibration.bleaching import Bleaching
    from ..calibration.drift import Drift
    from ..metrics.evidence_map import Evidence
    from ..metrics.image_checks import ImageChecks
    from ..solvers.result import Result

__all__ = ["data_address", "page_pictures", "picture_over_time"]

#: Ends of the colour scale of the misfit, standard errors.
_WORST = 5.0


def page_pictures(
    result: Result,
    misfit: np.ndarray | None,
    evidence: Evidence | None,
    checks: ImageChecks | None = None,
    *,
    pixel_size_nm: float | None,
    options: Mapping[str, object],
) -> dict[str, bytes]:
    """Draw the pictures of a page.

    Parameters
    ----------
    result : Result
    misfit : (M1, M2) array or None
        Of the mean frame, standard errors.
    evidence : Evidence or None
        Gaps of the image; drawn where the pixel size is known.
    checks : ImageChecks or None
        Maps of RSE, RSP and rolling FRC; drawn where the pixel size is known.
    pixel_size_nm : float or None
        Camera pixel, nm.
    options : mapping
        Of :func:`fluogan_core.io.figures.figure`; its ``band`` and ``across`` choose the profile.

    Returns
    -------
    dict of str to bytes
        PNG files: ``"images"``, ``"profile"`` and, where they are known, ``"misfit"``, ``"evidence"`` and ``"checks"``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    load_matplotlib()
    to_host = result.psi.backend.to_host
    mean, x = (
        np.asarray(to_host(as_array(image, name)), dtype=np.float64) for image, name in ((result.mean, "mean"), (result.x, "x"))
    )
    factor = result.psi.factor
    across, band = profile_band(x, factor, band=options.get("band"), across=options.get("across"))  # type: ignore[arg-type]
    height = 4.6 * min(max(mean.shape[0] / mean.shape[1], 0.4), 1.6)

    images = blank_figure(11.0, height + 0.5)
    panels = images.subplots(1, 2)
    draw_image(panels[0], mean, mean.shape, pixel_size_nm, "Mean of the frames", "photons / camera pixel", "magma")
    draw_image(panels[1], x, mean.shape, pixel_size_nm, "Reconstruction", "emissions / fine pixel / frame", "magma")
    for axes in panels:
        for edge in (band[0], band[0] + band[1]):
            (axes.axhline if across == "columns" else axes.axvline)(edge, color="white", lw=0.8, ls=(0, (4, 4)), alpha=0.7)
    profile = blank_figure(11.0, 3.0)
    draw_profile(profile.subplots(), mean, x, None, factor, pixel_size_nm, across, band)
    drawn = {"images": _png(images), "profile": _png(profile)}
    if misfit is not None:
        drawn["misfit"] = _png(_misfit(misfit))
    if evidence is not None and pixel_size_nm is not None:
        drawn["evidence"] = _png(evidence_figure(evidence, x, pixel_size_nm=pixel_size_nm / factor))
    if checks is not None and pixel_size_nm is not None:
        drawn["checks"] = _png(checks_figure(checks, pixel_size_nm=pixel_size_nm))
    return drawn


def picture_over_time(bleaching: Bleaching | None, drift: Drift | None) -> bytes | None:
    """Draw how the light fell and how the sample moved, as far as either is clear.

    Parameters
    ----------
    bleaching : Bleaching or None
    drift : Drift or None

    Returns
    -------
    bytes or None
        A PNG file; None where there is nothing to draw.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    panels: list[Callable[[Axes], None]] = []
    if bleaching is not None and bleaching.clear:
        panels.append(partial(_light, bleaching=bleaching))
    if drift is not None and drift.clear:
        panels.append(partial(_path, drift=drift))
    if not panels:
        return None
    load_matplotlib()
    drawing = blank_figure(11.0 if len(panels) == 2 else 6.6, 2.8)
    for axes, draw in zip(drawing.subplots(1, len(panels), squeeze=False)[0], panels):
        draw(axes)
        axes.set_xlabel("frame", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.margins(x=0.01)
        axes.legend(fontsize=8, frameon=False)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return _png(drawing)


def _light(axes: Axes, bleaching: Bleaching) -> None:
    first = float(bleaching.signal_fit[0])
    axes.plot(bleaching.frames, bleaching.signal / first, ".", ms=3, color="#8a8f98", label="frames")
    axes.plot(bleaching.frames, bleaching.signal_fit / first, color="#c2255c", lw=1.5, label="falling curve")
    axes.set(ylim=(0, None))
    axes.set_title("Light of the sample, share of its first value", fontsize=11)


def _path(axes: Axes, drift: Drift) -> None:
    for line, name, colour in zip(drift.shifts.T, ("down", "right"), ("#c2255c", "#1864ab")):
        axes.plot(line, color=colour, lw=1.4, label=name)
    axes.set_title("Place of the sample, camera pixels", fontsize=11)


def _misfit(misfit: np.ndarray) -> Figure:
    drawing = blank_figure(5.4, 1.0 + 3.4 * min(max(misfit.shape[0] / misfit.shape[1], 0.4), 1.6))
    axes = drawing.subplots()
    axes.set_facecolor("#777777")
    shown = axes.imshow(misfit, cmap="RdBu_r", vmin=-_WORST, vmax=_WORST, interpolation="nearest")
    axes.set_title("Frames minus prediction", fontsize=11)
    axes.set_xticks([])
    axes.set_yticks([])
    bar = drawing.colorbar(shown, ax=axes, extend="both", shrink=0.9)
    bar.set_label("standard errors", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return drawing


def _png(drawing: Figure) -> bytes:
    buffer = io.BytesIO()
    save(drawing, buffer)
    return buffer.getvalue()


def data_address(png: bytes) -> str:
    """Return an address that holds the whole picture, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
