"""One seamless image of tiles: like the whole, the same bytes whoever computes it, finished tiles left alone."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile

import fluogan_core as fg
from fluogan_core.scale import engines, fit

from .conftest import CAMERA, GIVEN, OPTIONS, images, operator, scene, tiled


@pytest.fixture(scope="module")
def whole(recording, tmp_path_factory):
    return images(tiled(recording, tmp_path_factory.mktemp("whole"), tile=256))


@pytest.fixture(scope="module")
def plan(recording, tmp_path_factory):
    return tiled(recording, tmp_path_factory.mktemp("tiles"))


def test_tiles_are_like_the_whole_field(plan, whole):
    made = images(plan)
    assert len(plan.grid.tiles) == 4
    for name, limit in (("x", 0.03), ("b", 0.03)):
        assert np.linalg.norm(made[name] - whole[name]) < limit * np.linalg.norm(whole[name]), name
    assert made["x"].sum() == pytest.approx(whole["x"].sum(), rel=0.005)


def test_the_whole_field_is_what_reconstruct_finds(recording, whole):
    """But for the step size, which does not know the border: the same minimum is sought."""
    psi = operator((64, 96))
    result = fg.reconstruct(np.load(recording), psi=psi, camera=CAMERA, options=OPTIONS)
    assert np.linalg.norm(result.x - whole["x"]) < 0.02 * np.linalg.norm(result.x)


def test_no_line_is_seen_where_tiles_meet(plan, whole):
    made = images(plan)
    for name, factor in (("x", 2), ("b", 1)):
        steps = [np.abs(np.diff(image[name], axis=1)).mean(axis=0) for image in (made, whole)]
        at = 48 * factor - 1
        assert steps[0][at] == pytest.approx(steps[1][at], rel=0.15), name


def test_the_files_hold_the_images(plan):
    for name in ("x", "b"):
        np.testing.assert_array_equal(tifffile.imread(plan.folder / f"{name}.ome.tif"), images(plan)[name])
    report = json.loads((plan.folder / "report.json").read_text())
    assert report["steps"] == [[60, 60, 60, 60]]
    assert not (plan.folder / "parts").exists()


def test_the_bytes_do_not_depend_on_order_engine_or_interruptions(recording, tmp_path, plan):
    expected = images(plan)
    for name in ("reversed", "threads", "dask"):
        other = fg.scale.prepare(recording, tmp_path / name, **GIVEN)
        numbers = range(len(other.grid.tiles))[::-1]
        if name == "reversed":
            for number in numbers:
                fg.scale.run_tile(other.folder, number)
        elif name == "threads":
            with ThreadPoolExecutor(2) as pool:
                fg.scale.run_tiles(other, numbers, pool)
        else:
            distributed = pytest.importorskip("distributed")
            with distributed.Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
                fg.scale.run_tiles(other, numbers, client)
        assert fg.scale.finish(other)
        for image, values in images(other).items():
            np.testing.assert_array_equal(values, expected[image], err_msg=f"{name} {image}")


def killed_once(folder, number):
    """Like run_tile, but in the middle of tile 1 the process ends the first time."""
    mark = Path(folder) / "killed"
    if number == 1 and not mark.exists():
        mark.touch()
        os._exit(9)
    return fg.scale.run_tile(folder, number)


def test_a_killed_process_costs_its_tile_and_nothing_else(recording, tmp_path, plan, monkeypatch):
    other = fg.scale.prepare(recording, tmp_path, **GIVEN)
    monkeypatch.setattr(engines, "run_tile", killed_once)
    fg.scale.run_tiles(other, range(4), 2)
    assert (tmp_path / "killed").exists()
    assert fg.scale.finish(other)
    np.testing.assert_array_equal(images(other)["x"], images(plan)["x"])


def test_what_is_done_is_not_computed_again(recording, tmp_path, monkeypatch):
    plan = fg.scale.prepare(recording, tmp_path, **GIVEN)
    assert [done["tile"] for done in fg.scale.run_tile(tmp_path, 0)] == [0]
    assert not fg.scale.finish(plan), "tiles are missing"
    monkeypatch.setattr(fit, "fit_field", lambda *_, **__: pytest.fail("computed again"))
    assert fg.scale.run_tile(tmp_path, 0) == []
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        fg.scale.run_tile(tmp_path, 1)


def test_a_folder_is_continued_by_the_same_request_only(recording, tmp_path):
    plan = fg.scale.prepare(recording, tmp_path, **GIVEN)
    assert fg.scale.prepare(recording, tmp_path, **GIVEN) is plan
    other = dataclasses.replace(OPTIONS, warm_steps=7)
    with pytest.raises(ValueError, match=r"another reconstruction \(different: options\)"):
        fg.scale.prepare(recording, tmp_path, **(GIVEN | {"options": other}))


def test_a_recording_that_was_changed_is_refused(tmp_path):
    stack, _ = scene((32, 32), 10)
    np.save(tmp_path / "stack.npy", stack)
    plan = fg.scale.prepare(tmp_path / "stack.npy", tmp_path / "out", **GIVEN)
    np.save(tmp_path / "stack.npy", stack + 1)
    with pytest.raises(ValueError, match="was changed after"):
        fg.scale.run_tile(plan.folder, 0)


@pytest.mark.parametrize("gone", ["x.ome.zarr", "b.ome.tif", "plan.json"])
def test_what_is_gone_of_a_finished_folder_is_made_anew(recording, tmp_path, plan, gone):
    shutil.copytree(plan.folder, tmp_path / "out")
    path = tmp_path / "out" / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    made = tiled(recording, tmp_path / "out")
    assert path.exists()
    for name, values in images(made).items():
        np.testing.assert_array_equal(values, images(plan)[name])
        np.testing.assert_array_equal(tifffile.imread(made.folder / f"{name}.ome.tif"), values)


@pytest.mark.parametrize("damaged", ["plan.json", "plan.npz"])
def test_a_plan_that_is_damaged_is_refused(recording, tmp_path, plan, damaged):
    shutil.copytree(plan.folder, tmp_path / "out")
    path = tmp_path / "out" / damaged
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="holds a plan that is damaged"):
        tiled(recording, tmp_path / "out")


def test_a_part_that_is_damaged_is_computed_again(recording, tmp_path, plan):
    other = fg.scale.prepare(recording, tmp_path, **GIVEN)
    fg.scale.run_tiles(other, range(4))
    part = other.part(2, 0)
    part.write_bytes(part.read_bytes()[:5000])
    with pytest.raises(RuntimeError, match="the same command computes this tile again"):
        fg.scale.finish(other)
    np.testing.assert_array_equal(images(tiled(recording, tmp_path))["x"], images(plan)["x"])


def test_a_tile_that_fails_costs_no_other(recording, tmp_path, plan, monkeypatch):
    other = fg.scale.prepare(recording, tmp_path, **GIVEN)
    monkeypatch.setattr(engines, "run_tile", fails_at_one)
    with pytest.raises(RuntimeError, match=r"1 of 4 tiles failed \(1\): unreadable there; what is done is kept"):
        fg.scale.run_tiles(other, range(4))
    assert [other.is_done(number) for number in range(4)] == [True, False, True, True]
    monkeypatch.undo()
    np.testing.assert_array_equal(images(tiled(recording, tmp_path))["x"], images(plan)["x"])


def fails_at_one(folder, number):
    if number == 1:
        raise ValueError("unreadable there")
    return fg.scale.run_tile(folder, number)


def test_what_a_fit_says_is_not_said_for_every_tile(recording, tmp_path, monkeypatch, caplog):
    def speaks(*_, **__):
        logging.getLogger("fluogan_core").info("a word on a fit")
        raise ValueError("no more")

    other = fg.scale.prepare(recording, tmp_path, **GIVEN)
    monkeypatch.setattr(fit, "fit_field", speaks)
    with caplog.at_level("INFO", "fluogan_core"), pytest.raises(RuntimeError, match="4 of 4 tiles failed"):
        fg.scale.run_tiles(other, range(4))
    assert "tile 3 failed (no more)" in caplog.text
    assert "a word on a fit" not in caplog.text


def test_a_full_disk_ends_the_work_at_once(recording, tmp_path, monkeypatch):
    other, tried = fg.scale.prepare(recording, tmp_path, **GIVEN), []

    def no_room(folder, number):
        tried.append(number)
        raise OSError(errno.ENOSPC, "No space left on device", "part")

    monkeypatch.setattr(engines, "run_tile", no_room)
    with pytest.raises(OSError, match="No space left"):
        fg.scale.run_tiles(other, range(4))
    assert tried == [0]


@pytest.mark.parametrize("killed", [False, True])
def test_no_process_is_left_when_the_first_one_ends(tmp_path, killed):
    """A pool waits for what its processes have begun, and they wait for ever for a first one that was killed."""
    code = (
        "import os, sys, time\n"
        "from fluogan_core.scale import engines\n"
        "if __name__ == '__main__':\n"
        "    with engines.processes(1) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        pool.submit(time.sleep, 100)\n"
        "        sys.stdin.read(1)\n"
        "        raise KeyboardInterrupt\n"
    )
    (tmp_path / "first.py").write_text(code)
    first = subprocess.Popen(
        [sys.executable, tmp_path / "first.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    second = int(first.stdout.readline())
    if killed:
        first.kill()
    first.communicate("" if killed else "x")
    deadline = time.monotonic() + 20
    while is_alive(second):
        assert time.monotonic() < deadline, "a process was left"
        time.sleep(0.05)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_memory_that_is_short_makes_smaller_pieces_and_the_size_that_worked_is_kept(recording, tmp_path, monkeypatch, plan):
    other = fg.scale.prepare(recording, tmp_path, **GIVEN)
    tried, fits = [], fit._fit

    def small_only(plan, source, tile, *rest):
        tried.append(tile.shape)
        if max(tile.shape) > 60:
            raise MemoryError("no room")
        return fits(plan, source, tile, *rest)

    monkeypatch.setattr(fit, "_fit", small_only)
    for number in range(4):
        fg.scale.run_tile(tmp_path, number)
    assert [shape for shape in tried if max(shape) > 60] == [(48, 64)], "it was tried once, by the first tile"
    assert fg.scale.finish(other)
    made, expected = images(other)["x"], images(plan)["x"]
    assert np.linalg.norm(made - expected) < 0.05 * np.linalg.norm(expected)


def test_tiles_without_light_or_out_of_the_mask_are_not_fitted(tmp_path):
    stack, _ = scene((32, 96), 40)
    dark = np.random.default_rng(1).poisson(5.0, (40, 32, 48)) * 2 + 100
    stack[:, :, 48:] = dark
    mask = np.ones((32, 96), bool)
    mask[:, :24] = False
    plan = tiled(stack, tmp_path, tile=24, halo=8, mask=mask)
    steps = json.loads((plan.folder / "report.json").read_text())["steps"][0]
    assert steps[0] == 0, "not wanted"
    assert steps[3] == 0, "empty"
    assert steps[1] == 60
    made, blended = images(plan), plan.grid.blend
    assert (made["x"][:, 2 * (72 + blended) :] == 0).all()
    level = (dark[:, :, 24 + blended :].mean() - 100) / 2.2
    assert made["b"][:, 72 + blended :].mean() == pytest.approx(level, rel=0.02)


def test_pixels_that_light_from_beyond_reaches_are_along_borders_within_the_field(recording, tmp_path):
    plan = fg.scale.prepare(recording, tmp_path, **GIVEN)
    corner = fit.unexplained(plan, plan.grid.tiles[0])
    assert corner.shape == (48, 64)
    assert not corner[:-6, :-6].any()
    assert corner[-5:].all()
    assert corner[:, -5:].all()


def test_cards_are_one_for_each_process_and_refused_without_cuda(recording, tmp_path):
    plan = fg.scale.prepare(recording, tmp_path, **GIVEN)
    with pytest.raises(ValueError, match="cards= needs CUDA"):
        fg.scale.run_tiles(plan, range(4), cards=[0, 1])
    with engines.processes(1, [5, 3]) as pool:
        seen = {pool.submit(os.getenv, "CUDA_VISIBLE_DEVICES").result() for _ in range(2)}
    assert seen <= {"5", "3"}
    assert seen
