"""``--drift``: measured, given in a table, or left alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

import fluogan_core as fg
from fluogan_core.cli import main
from fluogan_core.io.drift import drift_table, read_drift

COMMON = ["--pixel-size-nm", "100", "--fwhm-nm", "300", "--factor", "2", "--psf-width", "1", "--photons-per-emitter", "1"]
COMMON += ["--gain", "2", "--offset", "100", "--noise-std", "1", "--method", "none", "--warm-steps", "5", "--no-figure"]
FRAMES = 60
MOVING = np.linspace([-1, 0.5], [1, -0.5], FRAMES)


@pytest.fixture
def recorded(tmp_path):
    rng, (r, c) = np.random.default_rng(0), np.mgrid[:40, :40]
    places, width = rng.uniform(9, 31, (25, 2)), 2 * (300 / 235.48) ** 2

    def stack(path):
        light = [sum(np.exp(-((r - a - d) ** 2 + (c - b - e) ** 2) / width) for a, b in places) for d, e in path]
        return np.rint(100 + 2 * rng.poisson(20 * np.array(light) + 3) + rng.standard_normal((FRAMES, 40, 40))).astype(
            np.uint16
        )

    tifffile.imwrite(tmp_path / "still.tif", stack(0 * MOVING))
    tifffile.imwrite(tmp_path / "moving.tif", stack(MOVING))
    return tmp_path


def reconstructed(folder, name, out, *more):
    assert main(["reconstruct", str(folder / f"{name}.tif"), "--output", str(folder / out), *COMMON, *more]) == 0
    return folder / out


def test_a_sample_that_stays_gives_the_same_bytes(recorded, capsys):
    plain, auto = (reconstructed(recorded, "still", out, "--drift", out) for out in ("none", "auto"))
    assert "drift: none that is clear" in capsys.readouterr().out
    for name in ("x.tif", "b.tif"):
        assert (plain / name).read_bytes() == (auto / name).read_bytes()
    assert not (auto / "drift.csv").exists()
    assert json.loads((plain / "report.json").read_text())["drift"] is None
    assert not json.loads((auto / "report.json").read_text())["drift"]["followed"]


def test_a_drift_is_followed_and_its_table_does_the_same_again(recorded, capsys):
    auto = reconstructed(recorded, "moving", "auto", "--drift", "auto")
    assert "drift: the sample moved by 2" in capsys.readouterr().out
    report = json.loads((auto / "report.json").read_text())
    assert report["drift"]["followed"]
    assert report["drift"]["distance_pixels"] == pytest.approx(2, abs=0.1)
    assert report["input"]["roi"] == [1, 0, 38, 40]
    assert any("the sample moved" in note for note in report["input"]["notes"])
    assert set(report["files_sha256"]) == {"x.tif", "b.tif", "report.html", "drift.csv"}
    table = np.loadtxt(auto / "drift.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(table[:, 1:], MOVING - MOVING.mean(axis=0), atol=0.1)
    given = reconstructed(recorded, "moving", "given", "--drift", str(auto / "drift.csv"))
    np.testing.assert_allclose(tifffile.imread(given / "x.tif"), tifffile.imread(auto / "x.tif"), rtol=1e-2, atol=1e-2)
    assert (given / "drift.csv").read_bytes() == (auto / "drift.csv").read_bytes()


def test_without_the_switch_the_remark_names_it(recorded, capsys):
    reconstructed(recorded, "moving", "none")
    assert "--drift auto" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0,0,0\n30,1,1\n", "holds frames 0 to 30 but frames 0 to 59"),
        ("0,0\n", "expected frame, row shift, column shift"),
        ("frame,row,column\n0,0,nan\n", "line 2"),
        ("5,0,0\n4,0,0\n", "rising order"),
        ("", "at least one line"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(recorded, capsys, text, says):
    (recorded / "drift.csv").write_text(text)
    command = ["reconstruct", str(recorded / "moving.tif"), "--output", str(recorded / "out"), *COMMON]
    assert main([*command, "--drift", str(recorded / "drift.csv")]) == 2
    assert says in capsys.readouterr().err


def test_an_image_as_background_and_a_missing_table_are_refused(recorded, capsys):
    command = ["reconstruct", str(recorded / "moving.tif"), "--output", str(recorded / "out"), *COMMON]
    assert main([*command, "--drift", "auto", "--background", str(recorded / "still.tif")]) == 2
    assert "stands still" in capsys.readouterr().err
    assert main([*command, "--drift", str(recorded / "missing.csv")]) == 2
    assert "missing.csv" in capsys.readouterr().err


def test_a_table_counts_frames_in_the_file(tmp_path):
    stack = fg.Stack(np.zeros((4, 8, 8)), taken=range(10, 20, 2), left_out=(14,))
    assert stack.numbers.tolist() == [10, 12, 16, 18]
    (tmp_path / "drift.csv").write_text("frame,row,column\n0,0,1\n20,2,1\n")
    drift = read_drift(tmp_path / "drift.csv", stack.numbers)
    np.testing.assert_allclose(drift.shifts, [[1.0, 1], [1.2, 1], [1.6, 1], [1.8, 1]])
    assert drift_table(drift, stack.numbers).splitlines()[3] == "16,1.6000,1.0000"
