"""The picture of the experiment: mean, truth, background, result and profile of pairs, each with its control below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fluogan_core.io.figures import save
from fluogan_core.metrics.lines import line_profile

from ._methods import Job
from ._scenes import CONDITIONS, FWHM_NM, ROI, Condition, Geometry, make_scene

__all__ = ["draw"]

_TRUTH, _MEAN, _RESULT = "#1864ab", "#8a8f98", "#c2255c"


def draw(
    folder: Path,
    *,
    separations: Sequence[float] = (150.0, 120.0),
    condition: Condition = CONDITIONS[1],
    geometry: Geometry = ROI,
) -> Path:
    """Draw pairs and their controls as the defaults see them; return the file, ``paper.png``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [(separation, control) for separation in separations for control in (False, True)]
    drawing = Figure(figsize=(13.0, 0.4 + 2.6 * len(rows)), layout="constrained")
    FigureCanvasAgg(drawing)
    said = " and ".join(f"{separation:g}" for separation in separations)
    drawing.suptitle(f"{condition.name}: lines {said} nm apart, FWHM {FWHM_NM:g} nm; below each, the uniform bar", fontsize=11)
    axes = drawing.subplots(len(rows), 5, width_ratios=(1, 1, 1, 1, 1.5))
    for row, (separation, control) in enumerate(rows):
        scene = make_scene(condition, (separation,), 0, control=control, geometry=geometry)
        job = Job(scene)
        images = {
            "mean of the frames": (job.mean, "magma"),
            "truth": (scene.light, "magma"),
            "background found": (job.full.b, "cividis"),
            "x": (job.full.x, "magma"),
        }
        for place, (title, (image, colours)) in zip(axes[row], images.items()):
            place.imshow(image, cmap=colours, vmin=0)
            place.set(xticks=[], yticks=[], title=title if row == 0 else "")
        fine_nm = geometry.pixel_size_nm / geometry.factor
        positions = (np.arange(scene.light.shape[1]) + 0.5) * fine_nm
        camera = (np.arange(scene.pattern.shape[1]) + 0.5) * geometry.pixel_size_nm
        place = axes[row, 4]
        curves = {
            "truth": (positions, line_profile(scene.light, fine_nm=fine_nm, span_nm=scene.pattern.span_nm), _TRUTH),
            "mean": (camera, line_profile(job.lit, fine_nm=geometry.pixel_size_nm, span_nm=scene.pattern.span_nm), _MEAN),
            "x": (positions, line_profile(job.full.x, fine_nm=fine_nm, span_nm=scene.pattern.span_nm), _RESULT),
        }
        for name, (where, curve, colour) in curves.items():
            place.plot(where, curve / curve.max(), color=colour, label=name, lw=1.3)
        centre = scene.pattern.centres_nm[0]
        place.set(xlim=(centre - 900, centre + 900), yticks=[], xlabel="nm" if row == len(rows) - 1 else "")
        axes[row, 0].set_ylabel(f"bar of {separation:g} + 100 nm" if control else f"{separation:g} nm")
        if row == 0:
            place.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "paper.png"
    save(drawing, path)
    return path
