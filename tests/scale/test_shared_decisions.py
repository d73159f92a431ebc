"""What one part of a field decides for all tiles: method, steps, flicker, shares, trends of bleaching."""

from __future__ import annotations

import dataclasses
import importlib
import json

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.scale import fit
from fluogan_core.scale.pace import Steps
from fluogan_core.scale.shared import Fitted, as_shared, shared_by_all
from fluogan_core.solvers.covariance_fit import CovariancePhase

from .conftest import GIVEN, KNOWN, images, scene, tiled


def test_one_decision_on_the_second_phase_for_all_tiles(tmp_path):
    """Of one photon per emission covariances say nothing: no tile is fitted to them, whatever its own noise says."""
    stack, _ = scene((32, 64), 40)
    known = KNOWN | {"photons_per_emitter": 1e-3}
    plan = tiled(stack, tmp_path, tile=32, halo=8, options=fg.SolverOptions(warm_steps=20, steps=1), **known)
    assert plan.options.method == "none"
    assert json.loads((plan.folder / "report.json").read_text())["steps"] == [[20, 20]]


def test_the_second_phase_runs_in_all_tiles_or_in_none(tmp_path):
    stack, _ = scene((32, 64), 40)
    plan = tiled(stack, tmp_path, tile=32, halo=8, options=fg.SolverOptions(warm_steps=20, steps=1))
    assert plan.shared.method == "moments"
    assert json.loads((plan.folder / "report.json").read_text())["steps"] == [[21, 21]]


def test_all_tiles_take_the_flicker_and_the_steps_of_the_one_that_was_fitted_first(tmp_path, monkeypatch):
    """Each by itself would measure another flicker and settle elsewhere: that was seen as an edge in the image."""
    stack, _ = scene((32, 64), 60)
    stack[:, :, 32:] = 100 + (stack[:, :, 32:] - 100) // 4  # half the field is dim, and its flicker another
    started, start = [], CovariancePhase.start

    def noted(phase, images, **more):
        start(phase, images, **more)
        started.append(phase.flicker)

    monkeypatch.setattr(CovariancePhase, "start", noted)
    plan = tiled(stack, tmp_path, tile=32, halo=8, options=fg.SolverOptions(warm_steps=60, steps=40))
    assert len(started) == 3, "a part larger than a tile decides, and no tile"
    assert started[0] == started[1] == started[2] == plan.shared.flicker
    taken = json.loads((plan.folder / "report.json").read_text())["steps"][0]
    assert taken == [60 + plan.shared.steps] * 2
    assert plan.shared.steps < 40, "it has settled before, or this test says nothing"


def test_tiles_of_the_default_method_are_like_the_whole_field(tmp_path):
    """Borders within the field, flicker, step sizes, dropped momentum and the end of the fit: each made a difference."""
    stack, _ = scene((36, 80), 60, seed=2)
    given = {"options": fg.SolverOptions(warm_steps=150), "halo": 20}
    whole, parts = (tiled(stack, tmp_path / f"{size}", tile=size, **given) for size in (256, 40))
    assert (len(whole.grid.tiles), len(parts.grid.tiles)) == (1, 2)
    taken = [json.loads((plan.folder / "report.json").read_text())["steps"][0] for plan in (whole, parts)]
    assert taken[0] * 2 == taken[1]
    assert parts.shared.steps > 4, "it has moved, or this test says nothing"
    made, expected = images(parts)["x"], images(whole)["x"]
    assert np.linalg.norm(made - expected) < 0.02 * np.linalg.norm(expected)
    steps = [np.abs(image[:, 80] - image[:, 79]).mean() for image in (made, expected)]
    assert steps[0] == pytest.approx(steps[1], rel=0.15)
    assert made.sum() == pytest.approx(expected.sum(), rel=0.005)


def test_all_tiles_are_averaged_with_the_mean_fit_by_the_same_share(tmp_path):
    stack, _ = scene((32, 64), 60)
    plan = fg.scale.prepare(stack, tmp_path, **(GIVEN | {"tile": 32, "options": fg.SolverOptions(warm_steps=60, steps=4)}))
    source, found = plan.open(), []
    for share in (0.0, 0.25, 1.0):
        part = dataclasses.replace(plan, shared=plan.shared._replace(share=share))
        found.append(fit.fit_tile(part, source, plan.grid.tiles[1], 0).x)
    assert np.abs(found[2] - found[0]).max() > 0.1 * found[0].max()
    np.testing.assert_allclose(found[1], 0.75 * found[0] + 0.25 * found[2], atol=1e-5 * found[0].max())


@pytest.mark.parametrize("size", [16, 32])
def test_what_is_not_asked_for_decides_nothing(tmp_path, size, monkeypatch):
    """The brightest part lies out of the mask, where nothing is fitted: no method followed from it for all."""
    prepare = importlib.import_module("fluogan_core.scale.prepare")
    monkeypatch.setattr(prepare, "LARGEST_TILE", 32)
    stack, _ = scene((32, 64), 60)
    stack[:, :, :32] += 200
    mask = np.zeros((32, 64), bool)
    mask[:, 40:] = True
    options = fg.SolverOptions(warm_steps=20, steps=1)
    plan = fg.scale.prepare(stack, tmp_path, **(GIVEN | {"tile": size, "options": options, "mask": mask}))
    assert plan.shared.method == "moments"


def test_all_tiles_take_the_trend_of_bleaching_where_the_field_is_brightest(tmp_path):
    """A dim tile finds none in its own noise, or another one."""
    stack, _ = scene((32, 64), 60)
    fading = np.exp(-np.arange(60) / 60)[:, None, None]
    fading = np.where(np.arange(64) < 32, fading, 1.0)
    stack = np.rint(100 + (stack - 100.0) * fading).astype(np.uint16)
    options = fg.SolverOptions(warm_steps=20, steps=1)
    plan = fg.scale.prepare(stack, tmp_path, **(GIVEN | {"tile": 32, "options": options, "window": 30}))
    assert [trend.shape[0] for trend in plan.trends] == [30, 30]
    assert all(trend.shape[1] for trend in plan.trends)
    source = plan.open()
    still = fit.tile_problem(plan, source, plan.grid.tiles[1], 1)
    assert still.trend is plan.trends[1]
    mine = still.steady.reshape(30, -1)
    left = np.abs(plan.trends[1].T @ (mine - mine.mean(axis=0))).max()
    assert left < 1e-3 * np.abs(plan.trends[1].T @ (still.counts.reshape(30, -1) - mine.mean(axis=0))).max()


@pytest.mark.parametrize(
    ("likelihood", "method"),
    [
        (fg.Stop(fg.StopReason.CHOSEN, 40), "likelihood"),
        (fg.Stop(fg.StopReason.NOT_BETTER, 24), "moments"),
        (fg.Stop(fg.StopReason.NOT_TRIED, 0), "moments"),
    ],
)
def test_what_the_first_tile_chooses_all_tiles_take(likelihood, method):
    stops = {
        "mean": fg.Stop(fg.StopReason.STEPS, 60),
        "covariance": fg.Stop(fg.StopReason.SETTLED, 9),
        "likelihood": likelihood,
    }
    nothing = np.zeros((2, 2), np.float32)
    shared = shared_by_all(
        fg.SolverOptions(method="auto"), Fitted(nothing, nothing, nothing, 73, stops, mean_steps=(Steps(0.5, 1.3),))
    )
    assert shared.mean_steps == (Steps(0.5, 1.3),)
    assert (shared.method, shared.steps) == (method, None if method == "likelihood" else 9)
    options, tuning = as_shared(fg.SolverOptions(method="auto"), shared)
    assert options.method == method
    assert len(tuning.likelihood_phase.edges) == 1 or method == "moments"
