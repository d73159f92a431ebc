"""Windows of a movie: from a file tile by tile, and from frames as they come."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tifffile

import fluogan_core as fg

from .conftest import KNOWN, OPTIONS, images, operator, scene, tiled


@pytest.fixture(scope="module")
def stack():
    return scene((32, 32), 100)[0]


def test_a_movie_of_tiles_is_the_movie_of_its_frames(stack, tmp_path):
    """Of one tile, the two are the same computation, but for the moments that a whole file allows."""
    plan = tiled(stack, tmp_path, tile=32, window=40, step=30)
    made = images(plan)
    assert plan.windows == ((0, 40), (30, 70), (60, 100))
    assert made["x"].shape == (3, 64, 64)
    assert tifffile.imread(tmp_path / "x.ome.tif").shape == (3, 64, 64)
    assert json.loads((tmp_path / "report.json").read_text())["steps"] == [[60], [24], [24]]
    live = list(fg.scale.movie(iter(stack), psi=operator((32, 32)), window=40, step=30, options=OPTIONS, **KNOWN))
    assert [image.frames for image in live] == [(0, 40), (30, 70), (60, 100)]
    for number, found in enumerate(live):
        np.testing.assert_allclose(found.x, made["x"][number], atol=2e-2 * found.x.max())
        np.testing.assert_allclose(found.b, made["b"][number], rtol=1e-2)


def test_windows_go_on_where_they_were_left(stack, tmp_path):
    given = {"psi": operator((32, 32)), "options": OPTIONS, "tile": 32, "window": 40, "step": 30} | KNOWN
    plan = fg.scale.prepare(stack, tmp_path / "parts", **given)
    assert plan.is_done(0, 0), "it was fitted first, and decided for all"
    assert [done["window"] for done in fg.scale.run_tile(plan.folder, 0, window=1)] == [1]
    assert [done["window"] for done in fg.scale.run_tile(plan.folder, 0)] == [2]
    assert fg.scale.finish(plan)
    once = tiled(stack, tmp_path / "once", tile=32, window=40, step=30)
    np.testing.assert_array_equal(images(plan)["x"], images(once)["x"])


def test_frames_are_read_only_as_far_as_a_window_needs(stack):
    asked = 0

    def camera():
        nonlocal asked
        for frame in stack:
            asked += 1
            yield frame

    made = fg.scale.movie(camera(), psi=operator((32, 32)), window=40, options=OPTIONS, **KNOWN)
    next(made)
    assert asked == 40
    with pytest.raises(ValueError, match="psi's field"):
        list(fg.scale.movie([np.zeros((8, 8))], psi=operator((32, 32)), window=40))


def test_light_does_not_drift_from_window_to_window(stack):
    """Windows that start from the last find the light that windows find which start from nothing, the last as the first."""
    given = {"psi": operator((32, 32)), "options": dataclasses.replace(OPTIONS, warm_steps=400)} | KNOWN
    warm = [image.x.sum() for image in fg.scale.movie(iter(stack), window=40, step=15, **given)]
    cold = [next(fg.scale.movie(stack[start:], window=40, **given)).x.sum() for start in range(0, 61, 15)]
    np.testing.assert_allclose(warm, cold, rtol=0.015)


def test_a_window_may_be_calibrated_by_itself(stack):
    """The lamp doubles: the noise of the first window is not that of the last, and its weights are not either."""
    brighter = np.concatenate([stack[:20], 100 + 2 * (stack[:20] - 100.0)])
    settings = {"psi": operator(stack.shape[1:]), "window": 20, "options": OPTIONS} | KNOWN
    shared, own = (list(fg.scale.movie(brighter, recalibrate=each, **settings)) for each in (False, True))
    alone = next(iter(fg.scale.movie(brighter[20:], **settings)))
    np.testing.assert_array_equal(shared[0].x, own[0].x)
    away = [np.linalg.norm(images[1].x - alone.x) / np.linalg.norm(alone.x) for images in (shared, own)]
    assert away[1] < away[0]
    calibration = fg.calibrate(brighter[:20], settings["psi"], **KNOWN)
    with pytest.raises(ValueError, match="leave calibration= out"):
        next(fg.scale.movie(brighter, recalibrate=True, calibration=calibration, **settings))


def test_windows_of_a_file_may_be_calibrated_by_themselves(stack, tmp_path):
    brighter = np.concatenate([stack[:20], np.rint(100 + 2 * (stack[:20] - 100.0)).astype(np.uint16)])
    given = {"tile": 32, "window": 20, "recalibrate": True}
    plan = tiled(brighter, tmp_path, **given)
    assert [of.noise.variance for of in plan.measured] == [
        pytest.approx(fg.calibrate(part, operator((32, 32)), **KNOWN).noise.variance) for part in (brighter[:20], brighter[20:])
    ]
    live = list(fg.scale.movie(iter(brighter), psi=operator((32, 32)), window=20, options=OPTIONS, recalibrate=True, **KNOWN))
    for number, found in enumerate(live):
        np.testing.assert_allclose(images(plan)["x"][number], found.x, atol=2e-2 * found.x.max())
    with pytest.raises(ValueError, match="give window= too"):
        tiled(stack, tmp_path / "still", recalibrate=True)
    with pytest.raises(ValueError, match="different: recalibrate"):
        tiled(brighter, tmp_path, **(given | {"recalibrate": False}))


@pytest.mark.parametrize("live", [False, True])
def test_a_flash_in_a_later_window_is_left_out(stack, tmp_path, live):
    flash, at = stack.copy(), [65, 97]
    flash[at] += 2000
    given = {"psi": operator((32, 32)), "options": OPTIONS, "window": 40, "step": 30} | KNOWN
    if live:
        with_flash, without = (
            [image.x for image in fg.scale.movie(iter(frames), **given)] for frames in (flash, np.delete(stack, at[:1], axis=0))
        )
        assert np.linalg.norm(with_flash[1] - without[1]) < 0.05 * np.linalg.norm(without[1])
    else:
        plan = fg.scale.prepare(flash, tmp_path, tile=32, **given)
        assert plan.left_out == tuple(at)
        assert plan.frames(2) == [number for number in range(60, 100) if number not in at]
