"""Tiles beside the whole field: the images of their mean fits, one image of them, and how far it is from the whole's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import fluogan_core as fg
from fluogan_core.physics.psf import psf_sigma
from fluogan_core.scale import fit

__all__ = ["MeanFits", "compared", "of_the_mean", "put_together"]


class MeanFits(dict[int, tuple[np.ndarray, np.ndarray]]):
    """The images (x, b) of fits of the mean, by the tile's number; ``seconds`` is the processor time of all of them."""

    seconds = 0.0


@contextlib.contextmanager
def of_the_mean() -> Iterator[MeanFits]:
    """The images that every tile's fit of the mean ends with: those of method="none"."""
    kept = MeanFits()
    solvers: list[fg.Solver] = []
    solver, fit_one = fit.Solver, fit._fit

    def noted(*arguments: Any, **settings: Any) -> fg.Solver:
        made, began = solver(*arguments, **settings), time.process_time()
        step, solvers[:] = made.step, [made]

        def timed() -> None:
            before = made.mean_phase.stop
            step()
            if before is None and made.mean_phase.stop is not None:
                kept.seconds += time.process_time() - began

        made.step = timed  # type: ignore[method-assign]
        return made

    def fitted(plan: Any, source: Any, tile: Any, *rest: Any) -> Any:
        found = fit_one(plan, source, tile, *rest)
        images = solvers.pop().mean_phase.outcome
        kept[tile.number] = (images.x, images.b)
        return found

    fit.Solver, fit._fit = noted, fitted  # type: ignore[assignment, misc]
    try:
        yield kept
    finally:
        fit.Solver, fit._fit = solver, fit_one  # type: ignore[misc]


def put_together(plan: fg.scale.Plan, fitted: dict[int, tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """One x and one b of those of all tiles, blended as the library does."""
    made = []
    for number, factor in enumerate((plan.psi.factor, 1)):
        whole = np.zeros([factor * n for n in plan.grid.shape], np.float32)
        for tile in plan.grid.tiles:
            rows, columns = (slice(factor * start, factor * stop) for start, stop in tile.kept)
            whole[rows, columns] += plan.grid.weight(tile, factor) * fitted[tile.number][number][tile.inside(factor)]
        made.append(whole)
    return made


def compared(
    x: np.ndarray, x_whole: np.ndarray, b: np.ndarray, b_whole: np.ndarray, psi: fg.Psi, blend: int
) -> dict[str, float]:
    """Two images of a field that was cut in its middle, both ways: inside, at the seams, steps, flux."""
    from scipy.ndimage import gaussian_filter

    def relative(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
        return float(np.linalg.norm((one - other)[where]) / np.linalg.norm(other[where]))

    def near(side: int, reach: int) -> np.ndarray:
        line = np.abs(np.arange(side) + 0.5 - side / 2) < reach
        return line[:, None] | line[None, :]

    def step(one: np.ndarray, other: np.ndarray) -> float:
        """Mean jump across the seams over that of the whole image at the same place."""
        middle = one.shape[0] // 2
        down, across = (
            [float(np.abs(i[middle] - i[middle - 1]).mean()) for i in images] for images in ((one, other), (one.T, other.T))
        )
        return (down[0] + across[0]) / (down[1] + across[1])

    band = near(x.shape[0], blend * psi.factor)
    half = 0.5 * psf_sigma(psi.psf)
    soft, soft_whole = gaussian_filter(x, half), gaussian_filter(x_whole, half)
    return {
        "inside": relative(x, x_whole, ~band),
        "at_seams": relative(x, x_whole, band),
        "inside_half_psf": relative(soft, soft_whole, ~band),
        "at_seams_half_psf": relative(soft, soft_whole, band),
        "difference_b": relative(b, b_whole, np.ones(b.shape, bool)),
        "step_x": step(x, x_whole),
        "step_b": step(b, b_whole),
        "flux_x": float(x.sum() / x_whole.sum() - 1),
        "flux_all": float((psi.forward(x).sum() + b.sum()) / (psi.forward(x_whole).sum() + b_whole.sum()) - 1),
    }
