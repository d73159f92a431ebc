"""A folder with a small stack, what a run of it leaves when nothing happens, and what is right when something does."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from ._process import Child, Ended, complaint, whole

__all__ = ["SHORT", "Field", "images_of", "outcome"]

_CAMERA = "--pixel-size-nm 100 --fwhm-nm 250 --factor 2 --psf-width 1 --gain 2 --offset 100 --noise-std 3"
SHORT = f"{_CAMERA} --photons-per-emitter 5 --method none --warm-steps 40 --backend numpy --no-figure"
IMAGES = ("x.tif", "b.tif")


class Field:
    """A folder with a small stack, and how a run of it ends when nothing happens.

    Parameters
    ----------
    folder : Path
        An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for seed in (0, 1):
            rng = np.random.default_rng(seed)
            light = 20 + 60 * (rng.random((16, 16)) < 0.1)
            frames = np.rint(2 * rng.poisson(light, (30, 16, 16)) + 100 + rng.normal(0, 3, (30, 16, 16)))
            tifffile.imwrite(folder / f"stack{seed}.tif", frames.astype(np.uint16), photometric="minisblack")
        self.runs = 0
        self.images = {number: self._undisturbed(number) for number in (0, 1)}
        started = time.monotonic()
        self._undisturbed(0)
        self.seconds = time.monotonic() - started

    def _undisturbed(self, number: int) -> tuple[bytes, ...]:
        out = self.new()
        ended = self.run(self.folder / f"stack{number}.tif", out).wait()
        if ended.status != 0:
            raise RuntimeError(f"an undisturbed run ends with {ended.status}: {ended.log}")
        return images_of(out)

    def new(self) -> Path:
        """A folder that is not there yet."""
        self.runs += 1
        return self.folder / f"out{self.runs}"

    def run(self, stack: Path, out: Path, *more: str, before: Callable[[], object] | None = None) -> Child:
        words = ["reconstruct", "--output", str(out), *SHORT.split(), *more, "--", str(stack)]
        return Child(words, self.folder / f"log-{out.name}-{'-'.join(more).strip('-')}", before)

    def stack(self, number: int = 0) -> Path:
        """A copy of the stack that may be spoiled."""
        self.runs += 1
        return Path(shutil.copy(self.folder / f"stack{number}.tif", self.folder / f"copy{self.runs}.tif"))


def images_of(folder: Path) -> tuple[bytes, ...]:
    return tuple((folder / name).read_bytes() for name in IMAGES)


def outcome(field: Field, ended: Ended, out: Path, *right: int) -> str:
    """What gave way: nothing where a run refused clearly, or left the images of one of these stacks."""
    if wrong := complaint(ended) or whole(out):
        return wrong
    if ended.status == 0 and images_of(out) not in [field.images[number] for number in right]:
        return "other images, at exit status 0"
    return ""
