"""Files that are written: complete, whole or not at all, and nothing that is read among them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

import fluogan_core as fg
from fluogan_core.io import files
from fluogan_core.io.files import prepare_directory, write_image
from fluogan_core.io.result import write_result
from fluogan_core.io.stack import read_stack


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60_000, (6, 7, 9)).astype(np.uint16)


@pytest.fixture
def result() -> fg.Result:
    """What a solver hands over, small."""
    rng = np.random.default_rng(1)
    psi = fg.Psi(fg.gaussian_psf(100, 100, 3), (6, 8), 3, photons_per_emitter=4.0, backend="numpy")
    series = {name: rng.random(5) for name in ("step", "phase", "fidelity", "objective")}
    series["w_train"] = np.array([np.nan, np.nan, 1.0, np.inf, 2.0])
    return fg.Result(
        x=rng.random(psi.fine_shape).astype(np.float32),
        b=rng.random(psi.shape).astype(np.float32),
        x_mean_fit=rng.random(psi.fine_shape).astype(np.float32),
        b_mean_fit=rng.random(psi.shape).astype(np.float32),
        mean=rng.random(psi.shape).astype(np.float32),
        bad_pixels=np.arange(48).reshape(6, 8) == 19,
        history=series,
        options=fg.SolverOptions(seed=7),
        camera=fg.Camera(2.0, 100.0, 1.5),
        psi=psi,
        timings={"warm": 0.25},
        device="cpu",
        stop_reason="all steps done",
    )


def test_images_carry_values_and_pixel_sizes(tmp_path, result):
    files = write_result(result, tmp_path, pixel_size_nm=90, figure=False)
    for name, image, pixel in (("x", result.x, 30.0), ("b", result.b, 90.0)):
        assert files[name] == tmp_path / f"{name}.tif"
        with tifffile.TiffFile(files[name]) as tif:
            assert tif.is_imagej
            np.testing.assert_array_equal(tif.asarray(), image)
            assert tif.asarray().dtype == np.float32
        stacked = write_image(tmp_path / "again.tif", np.stack([image, image]), pixel_size_nm=pixel)
        assert read_stack(stacked).pixel_size_nm == pytest.approx(pixel, rel=1e-6)


def test_equal_arrays_give_equal_bytes(tmp_path, result):
    first = write_result(result, tmp_path / "one", pixel_size_nm=90)
    second = write_result(result, tmp_path / "two", pixel_size_nm=90)
    for name in ("x", "b", "figure"):
        assert first[name].read_bytes() == second[name].read_bytes()


def test_narrow_images_are_not_taken_for_colour(tmp_path):
    image = np.arange(15, dtype=np.float32).reshape(5, 3)
    np.testing.assert_array_equal(tifffile.imread(write_image(tmp_path / "a.tif", image)), image)
    frames = np.arange(60, dtype=np.uint16).reshape(4, 5, 3)
    read = read_stack(write_image(tmp_path / "b.tif", frames))
    np.testing.assert_array_equal(read.frames, frames)
    assert read.frames.dtype == np.uint16


def test_report_is_strict_json_and_complete(tmp_path, result, stack):
    source = fg.Stack(
        stack, pixel_size_nm=90.0, frame_interval_s=0.02, path=tmp_path / "in.tif", roi=(0, 0, 7, 9), taken=range(2, 8)
    )
    estimate = fg.CameraEstimate(
        camera=result.camera,
        photons_per_emitter=4.0,
        gain_error=0.1,
        offset_error=0.0,
        noise_std_error=0.2,
        photons_per_emitter_error=0.3,
        given=("offset",),
        notes=("bleaching: brightness falls by 17 %",),
    )
    text = write_result(result, tmp_path, stack=source, estimate=estimate, command=["fluogan", "x"], figure=False)[
        "report"
    ].read_text(encoding="utf-8")

    def refuse(token: str) -> None:
        pytest.fail(f"{token} is not JSON")

    report = json.loads(text, parse_constant=refuse)
    assert report["command"] == ["fluogan", "x"]
    assert report["parameters"]["seed"] == 7
    assert report["camera"]["gain"] == 2.0
    assert report["camera_estimate"]["gain_error"] == 0.1
    assert report["camera_estimate"]["given"] == ["offset"]
    assert report["operator"]["fine_pixel_nm"] == pytest.approx(30)
    assert report["input"]["pixel_size_nm"] == 90.0
    assert report["input"]["frames"] == 6
    assert report["input"]["frames_taken"] == {"start": 2, "stop": 8, "step": 1}
    assert report["input"]["path"] == str(tmp_path / "in.tif")
    assert len(report["operator"]["psf_sha256"]) == 64
    assert report["operator"]["psf_fwhm_nm"] > 0
    assert report["result"]["stop_reason"] == "all steps done"
    assert report["result"]["bad_pixels"] == [[2, 3]]
    assert report["history"]["w_train"] == [None, None, 1.0, None, 2.0]
    assert set(report["history"]) == set(result.history)
    assert report["versions"]["numpy"] == np.__version__
    assert report["peak_memory_bytes"] is None or report["peak_memory_bytes"] > 1e6
    assert report["timings_s"] == {"warm": 0.25}
    assert text.count("\n") < 200


def test_dumps_of_a_history_alone_and_of_none():
    assert json.loads(files.dumps({"history": {"a": np.arange(2)}})) == {"history": {"a": [0, 1]}}
    assert json.loads(files.dumps({"a": (1, np.float32(np.nan))})) == {"a": [1, None]}


def test_numbers_of_one_list_are_on_one_line():
    made = {"a": [[1.5, -2e-7], [3, 4]], "b": "[\n  1\n]", "c": ["x", 1], "d": [], "history": {"e": [1, 2]}}
    text = files.dumps(made)
    assert json.loads(text) == made
    assert [line for line in text.split("\n") if "1.5" in line or "3, 4" in line] == ["    [1.5, -2e-07],", "    [3, 4]"]


@pytest.mark.parametrize("taken", [0.0, 0.4])
def test_the_psf_that_was_taken_is_read_back_from_the_report(tmp_path, result, stack, taken):
    """Byte by byte: the report's digest of the operator's PSF is that of the numbers beside it."""
    described = result.psi.psf
    bent = described + np.pad(described, ((0, 0), (2, 0)))[:, :-2]
    shape = fg.PSFShape(bent / bent.sum() if taken else described, 0.31, 0.02, taken, "shape of the PSF: a coma")
    made = dataclasses.replace(result, psi=result.psi.replaced(psf=shape.psf))
    counts = np.random.default_rng(0).poisson(90.0, (20, 6, 8))
    found = fg.calibrate(counts, made.psi, camera=fg.Camera(), photons_per_emitter=2.0, psf_width=1.0)
    kept = write_result(made, tmp_path, calibration=dataclasses.replace(found, psf_shape=shape), figure=False)
    report = json.loads(kept["report"].read_text())
    assert {name: report["psf_shape"][name] for name in ("change", "error", "taken", "note")} == {
        "change": 0.31, "error": 0.02, "taken": taken, "note": shape.note
    }  # fmt: skip
    if not taken:
        assert report["psf_shape"]["psf"] is None, "it is the PSF as described"
        return
    psi = fg.Psi(np.array(report["psf_shape"]["psf"]), (6, 8), 3, backend="numpy")
    assert hashlib.sha256(psi.psf.tobytes()).hexdigest() == report["operator"]["psf_sha256"]
    assert psi.psf.tobytes() == made.psi.psf.tobytes()
    write_result(made, tmp_path, calibration=found, figure=False)
    assert json.loads(kept["report"].read_text())["psf_shape"] is None, "where the width is given no shape is measured"


def test_what_is_read_is_not_overwritten(tmp_path, result, stack):
    write_image(tmp_path / "b.tif", stack)
    before = (tmp_path / "b.tif").read_bytes()
    with pytest.raises(ValueError, match=r"would overwrite .*b\.tif, which is read"):
        write_result(result, tmp_path, stack=fg.read_stack(tmp_path / "b.tif"), figure=False)
    assert (tmp_path / "b.tif").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["b.tif"]


def test_an_old_figure_is_not_passed_off_as_new(tmp_path, result, caplog):
    (tmp_path / "figure.png").write_bytes(b"old")
    write_result(result, tmp_path, figure=False)
    assert "figure.png is of an earlier run" in caplog.text


def test_an_array_of_frames_is_a_stack_of_which_nothing_else_is_known(tmp_path, result, stack):
    report = json.loads(write_result(result, tmp_path, stack=stack, figure=False)["report"].read_text(encoding="utf-8"))
    assert report["input"]["frames"] == len(stack)
    assert report["input"]["path"] is report["input"]["pixel_size_nm"] is None


def test_results_are_replaced_and_the_rest_is_left(tmp_path, result):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "x.tif").write_text("old")
    write_result(result, tmp_path, figure=False)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "x.tif"), result.x)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.tif", "notes.txt", "report.html", "report.json", "x.tif"]


@pytest.mark.parametrize("failing", ["x.tif", "b.tif", "figure.png", "report.html", "report.json"])
def test_a_failed_write_leaves_all_old_files(tmp_path, result, monkeypatch, failing):
    """The images and the report stay those of one run, whichever file does not fit on the disk."""
    written = write_result(result, tmp_path)
    before = {name: path.read_bytes() for name, path in written.items()}
    stage = files.stage_file

    def full(path, write):
        if path.name == failing:
            raise OSError(28, os.strerror(28), str(path))
        return stage(path, write)

    monkeypatch.setattr(files, "stage_file", full)
    result.x = result.x + 1
    with pytest.raises(OSError, match="No space left on device"):
        write_result(result, tmp_path)
    assert {name: path.read_bytes() for name, path in written.items()} == before
    assert not list(tmp_path.glob(".*"))


def test_the_report_tells_which_images_it_belongs_to(tmp_path, result):
    written = write_result(result, tmp_path)
    digests = json.loads(written["report"].read_text(encoding="utf-8"))["files_sha256"]
    assert set(digests) == {"x.tif", "b.tif", "report.html", "figure.png"}
    for name, digest in digests.items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest


def test_the_report_is_placed_last_and_never_lies_beside_images_of_another_run(tmp_path, result, monkeypatch):
    write_result(result, tmp_path, figure=False)
    replaced = []

    def killed(source, target):
        replaced.append(Path(target).name)
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_result(result, tmp_path, figure=False)
    assert replaced == ["x.tif"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tif", "x.tif"]


def test_a_folder_in_a_files_place_is_found_before_anything_is_replaced(tmp_path, result):
    (tmp_path / "b.tif").mkdir()
    (tmp_path / "report.json").write_text("old")
    with pytest.raises(IsADirectoryError, match=r"b\.tif"):
        write_result(result, tmp_path, figure=False)
    assert (tmp_path / "report.json").read_text() == "old"
    assert not (tmp_path / "x.tif").exists()


def test_an_input_that_is_gone_costs_nothing(tmp_path, result, stack):
    source = tmp_path / "in.tif"
    write_image(source, stack)
    read = fg.read_stack(source)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.tif").write_text("old")
    source.unlink()
    report = json.loads(write_result(result, tmp_path / "out", stack=read, figure=False)["report"].read_text(encoding="utf-8"))
    assert report["input"]["path"] == str(source)


def test_notes_on_the_file_are_in_the_report(tmp_path, result, stack):
    source = fg.Stack(stack, notes=("12 of 200",))
    text = write_result(result, tmp_path, stack=source, figure=False)["report"].read_text(encoding="utf-8")
    assert json.loads(text)["input"]["notes"] == ["12 of 200"]


def test_bytes_of_a_path_that_are_no_utf8_are_spelled_out(tmp_path, result, stack):
    path = os.fsdecode(b"/data/\xff.tif")
    text = write_result(result, tmp_path, stack=fg.Stack(stack, path=Path(path)), command=["fluogan", path], figure=False)[
        "report"
    ].read_text(encoding="utf-8")
    assert json.loads(text)["input"]["path"] == "/data/\\xff.tif"
    assert json.loads(text)["command"] == ["fluogan", "/data/\\xff.tif"]


def test_a_figure_that_cannot_be_drawn_costs_no_result(tmp_path, result, monkeypatch, caplog):
    monkeypatch.setattr("fluogan_core.io.figures.figure", lambda *a, **k: 1 / 0)
    assert set(write_result(result, tmp_path)) == {"x", "b", "report", "page"}
    assert "figure.png is left out: it could not be drawn (ZeroDivisionError: division by zero)" in caplog.text


# -- one writer ----------------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from fluogan_core.io.lock import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes to the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_process_writes_to_a_folder_and_a_killed_one_holds_no_lock(tmp_path, result, holder):
    left = tmp_path / f".x.tif.{'0a' * 8}.part"
    left.write_text("half")
    (tmp_path / ".mine.part").write_text("not of this library")
    with pytest.raises(ValueError, match=rf"is being written to by another run \(process {holder.pid} on .* since 20"):
        write_result(result, tmp_path, figure=False)
    assert left.exists()
    holder.kill()
    holder.wait()
    written = write_result(result, tmp_path, figure=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mine.part", *sorted(path.name for path in written.values())]


def test_without_matplotlib_the_log_says_so(tmp_path, result, monkeypatch, caplog):
    for name in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with caplog.at_level(logging.WARNING, logger="fluogan_core"):
        files = write_result(result, tmp_path)
    assert set(files) == {"x", "b", "report", "page"}
    assert "matplotlib is not installed" in caplog.text


def test_output_directories_are_tried_before_the_work(tmp_path, monkeypatch):
    assert prepare_directory(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    for inside in (tmp_path / "file", tmp_path / "file" / "sub"):
        with pytest.raises(ValueError, match="a file of that name is in the way"):
            prepare_directory(inside)

    def refuse(*args, **options):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    with pytest.raises(ValueError, match=r"cannot be written to \(Permission denied\)"):
        prepare_directory(tmp_path)
