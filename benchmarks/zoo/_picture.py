"""The worst scenes: mean frame, the molecules' light, the library's images, and the best peer's."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from ._peers import PEERS, Seen
from ._plan import Scene
from ._recording import record
from ._report import best_single, worst
from ._run import FULL, MEAN_FIT, Document

__all__ = ["draw", "sheet"]

#: The truth is points: it is shown through the finer of the two blurs that are judged.
_BLUR_NM = 60.0


def draw(folder: Path, name: str, done: Sequence[Document], work: Path) -> Path:
    """Draw the worst of the scenes whose images lie in ``work``; return the file, ``NAME.png``."""
    shown = [one for one in worst(done) if (work / f"{Scene.of(one['scene']).name}.npz").is_file()]
    images = []
    for one in shown:
        with np.load(work / f"{Scene.of(one['scene']).name}.npz") as kept:
            images.append({name: kept[name] for name in (FULL, MEAN_FIT)})
    folder.mkdir(parents=True, exist_ok=True)
    return sheet(shown, images, folder / f"{name}.png")


def sheet(shown: Sequence[Document], found: Sequence[dict[str, np.ndarray]], path: Path) -> Path:
    """Draw scenes, one a row, with the library's images of each; return the file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    drawing = Figure(figsize=(11.5, 2.4 * max(len(shown), 1) + 0.4), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots(max(len(shown), 1), 5, squeeze=False)
    for row, one, library in zip(axes, shown, found):
        scene = Scene.of(one["scene"])
        recording = record(scene)
        other, who = best_single(one)
        peer = PEERS[who].images(Seen(recording.photons, recording.psi(), scene.seed))[PEERS[who].published]
        ours, mean_fit = (one["library"]["verdicts"][which]["nrmse"]["60"] for which in (FULL, MEAN_FIT))
        images = {
            f"{scene.frames} frames, mean": recording.photons.mean(axis=0),
            f"molecules, {_BLUR_NM:g} nm": _through(recording.light, scene),
            f"full method, {ours:.2f}": _through(library[FULL], scene),
            f"mean fit, {mean_fit:.2f}": _through(library[MEAN_FIT], scene),
            f"{who}, {other:.2f}": _through(peer, scene),
        }
        for place, (title, image) in zip(row, images.items()):
            place.imshow(image, cmap="magma", vmin=0 if image.shape != recording.background.shape else None)
            place.set(xticks=[], yticks=[])
            place.set_title(title, fontsize=8)
        row[0].set_ylabel(f"{scene.name}\n{scene.structure}, {scene.kinetics}\n{scene.camera}", fontsize=7)
    # ten rows of noisy images: as other figures are saved, more than a megabyte
    drawn = io.BytesIO()
    drawing.savefig(drawn, format="png", dpi=80)
    Image.open(drawn).convert("RGB").quantize(128).save(path, format="png", optimize=True)
    return path


def _through(image: np.ndarray, scene: Scene) -> np.ndarray:
    return gaussian_filter(np.asarray(image, np.float64), _BLUR_NM / 2.3548 / scene.fine_nm, mode="constant")
