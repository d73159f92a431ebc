"""Tiles from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from fluogan_core.cli.commands import main

PSF = ["--fwhm-nm", "318", "--pixel-size-nm", "100", "--factor", "2", "--psf-width", "1"]
CAMERA = ["--gain", "2", "--offset", "100", "--noise-std", "1", "--photons-per-emitter", "1"]
FIT = ["--method", "none", "--warm-steps", "4", "--tile", "24", "--halo", "8"]
ALL = [*PSF, *CAMERA, *FIT]


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "stack.tif"
    frames = 2 * np.random.default_rng(0).poisson(40.0, (20, 24, 48)) + 100
    frames[:, 8:12, 10:40] += 100
    tifffile.imwrite(path, frames.astype(np.uint16), photometric="minisblack")
    return path


def test_shares_of_a_job_array_make_what_one_command_makes(stack, tmp_path, capsys):
    assert main(["reconstruct", str(stack), "--output", str(tmp_path / "one"), *ALL]) == 0
    assert "2 tiles, 1 windows" in capsys.readouterr().out
    for share in ("2/2", "1/2"):
        assert not (tmp_path / "jobs" / "report.json").exists()
        assert main(["tile", share, str(stack), "--output", str(tmp_path / "jobs"), *ALL]) == 0
    one, jobs = ((tmp_path / name / "x.ome.tif") for name in ("one", "jobs"))
    np.testing.assert_array_equal(tifffile.imread(one), tifffile.imread(jobs))
    assert tifffile.imread(one).shape == (48, 96)
    assert json.loads((tmp_path / "jobs" / "report.json").read_text())["plan"]["pixel_size_nm"] == 100
    assert 'PhysicalSizeX="0.05"' in (tifffile.TiffFile(one).ome_metadata or "")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--roi", "0,0,8,8"], "--roi is not for tiles"),
        (["--step", "3"], "give window="),
        (["--recalibrate"], "give window= too"),
        (["--window", "50"], "window"),
        (["--workers", "0"], "--workers must be more than 0"),
        (["--memory-gib", "1e300"], "--memory-gib must be more than 0, and 1e+06 at most; got 1e+300"),
        (["--memory-gib", "nan"], "--memory-gib must be more than 0"),
        (["--channel", "3"], "no channel 3"),
        (["--gain-map", "map.tif"], "--gain-map is not for tiles"),
        (["--device", "1"], "say --cards 1"),
        (["--cards", "0,1"], "cards= needs CUDA"),
        (["--dask", "no address"], "--dask"),
    ],
)
def test_what_does_not_fit_together_is_said_before_any_work(stack, tmp_path, capsys, more, said):
    assert main(["reconstruct", str(stack), "--output", str(tmp_path / "out"), *ALL, *more]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("share", ["0/2", "3/2", "1", "a/b"])
def test_a_share_is_k_of_n(stack, tmp_path, capsys, share):
    assert main(["tile", share, str(stack), "--output", str(tmp_path), *ALL]) == 2
    assert "not K/N" in capsys.readouterr().err


def test_a_folder_of_recordings_gets_a_table(stack, tmp_path, capsys):
    folder = tmp_path / "plate"
    folder.mkdir()
    stack.rename(folder / "one.tif")
    (folder / "two.tif").write_bytes(b"no image")
    out = tmp_path / "out"
    assert main(["batch", str(folder), "--output", str(out), *ALL]) == 1
    told = capsys.readouterr()
    assert "1 of 2 recordings done" in told.out
    assert "1 of 2 recordings failed; the same command tries these again" in told.err
    assert (out / "table.csv").read_text().count("\n") == 3
    assert tifffile.imread(out / "one" / "x.ome.tif").shape == (48, 96)


def test_what_stops_the_work_is_said_with_what_is_kept(stack, tmp_path, capsys, monkeypatch):
    def stopped(*_, **__):
        raise OSError(28, "No space left on device", "part.npz")

    monkeypatch.setattr("fluogan_core.scale.run_share", stopped)
    for command in (["reconstruct"], ["tile", "1/2"]):
        assert main([*command, str(stack), "--output", str(tmp_path / "out"), *ALL]) == 1
        told = capsys.readouterr().err
        assert "error: No space left on device: part.npz (in " in told
        assert "what is done is kept, and the same command goes on" in told


def test_a_movie_from_the_command_line(stack, tmp_path):
    assert main(["reconstruct", str(stack), "--output", str(tmp_path / "out"), *ALL, "--window", "10", "--step", "5"]) == 0
    assert tifffile.imread(tmp_path / "out" / "x.ome.tif").shape == (3, 48, 96)
    anew = ["--window", "10", "--step", "5", "--recalibrate"]
    assert main(["reconstruct", str(stack), "--output", str(tmp_path / "anew"), *ALL, *anew]) == 0
    plans = [json.loads((tmp_path / name / "plan.json").read_text()) for name in ("out", "anew")]
    assert [len(plan["measured"]) for plan in plans] == [1, 3]
