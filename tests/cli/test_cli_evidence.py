"""``fluogan evidence`` and ``reconstruct --evidence``."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from fluogan_core.cli import main

COMMON = ["--fwhm-nm", "318", "--psf-width", "1", "--photons-per-emitter", "1", "--gain", "2.2", "--offset", "100"]
COMMON += ["--noise-std", "3"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two lines 240 nm apart, and their reconstruction."""
    folder = tmp_path_factory.mktemp("evidence")
    simulated = ["simulate", "--output", str(folder), "--separations-nm", "240", "--size", "20,20", "--frames", "80"]
    assert main([*simulated, "--model", "double-poisson"]) == 0
    run = [
        "reconstruct",
        str(folder / "stack.tif"),
        "--output",
        str(folder / "result"),
        *COMMON,
        "--method",
        "none",
        "--evidence",
    ]
    assert main([*run, "--warm-steps", "400"]) == 0
    return folder


def test_a_reconstruction_says_which_gaps_are_there(recorded):
    facts = json.loads((recorded / "result" / "report.json").read_text())["evidence"]
    middle = [gap for gap in facts["gaps"] if abs(gap["column_nm"] - 1000) < 60]
    assert max(gap["significance"] for gap in middle) > 3
    page = (recorded / "result" / "report.html").read_text()
    assert "Gaps of the image, and what the frames say of them" in page
    assert page.count("data:image/png") == 5
    assert tifffile.imread(recorded / "result" / "evidence.tif").shape == (80, 80)


def test_an_image_of_any_method_is_judged(recorded, capsys):
    """One that shows lines which are not there."""
    truth = tifffile.imread(recorded / "truth.tif")
    image = np.roll(truth.T, 3, axis=1)
    tifffile.imwrite(recorded / "other.tif", image)
    words = ["evidence", str(recorded / "stack.tif"), str(recorded / "other.tif"), "--output", str(recorded / "other"), *COMMON]
    assert main([*words, "--json", "--no-figure", "--psf-error", "0.05"]) == 0
    facts = json.loads((recorded / "other" / "evidence.json").read_text())
    said = json.loads(capsys.readouterr().out.split("\nwrote")[0])
    assert (said["gaps"], said["checks"]) == (facts["gaps"], facts["checks"])
    assert facts["gaps"]
    upright = [gap for gap in facts["gaps"] if abs(gap["angle_deg"] - 90) < 20 and gap["separation_nm"] < 350]
    assert upright
    assert all(gap["significance"] < 3 for gap in upright)
    assert said["checks"]["rsp"] < 0.7
    assert said["checks"]["rse"] > 2 * said["checks"]["rse_of_noise"]
    assert tifffile.imread(recorded / "other" / "frc.tif").shape == (80, 80)
    assert not (recorded / "other" / "evidence.png").exists()


def test_a_folder_is_judged_by_its_x(recorded, capsys):
    words = ["evidence", str(recorded / "stack.tif"), str(recorded / "result"), "--output", str(recorded / "again"), *COMMON]
    assert main(words) == 0
    assert "confirm" in capsys.readouterr().out
    assert (recorded / "again" / "evidence.png").read_bytes().startswith(b"\x89PNG")


def test_usual_figures_stand_beside_the_evidence(recorded):
    """RSP of the library's own image is near 1, and its RSE is that of noise."""
    own = json.loads((recorded / "result" / "report.json").read_text())["checks"]
    assert own["rsp"] > 0.99
    assert own["rse"] < 2 * own["rse_of_noise"]
    maps = [tifffile.imread(recorded / "result" / f"{name}.tif") for name in ("rse", "rsp", "frc")]
    assert [image.shape for image in maps] == [(20, 20), (20, 20), (80, 80)]
    page = (recorded / "result" / "report.html").read_text()
    assert "RSP; 1 is best" in page
    assert "rolling FRC" in page


def test_halves_of_another_method_are_taken_as_they_are(recorded, capsys):
    x = tifffile.imread(recorded / "result" / "x.tif")
    names = [str(recorded / f"half-{k}.tif") for k in (1, 2)]
    for name in names:
        tifffile.imwrite(name, x)
    words = ["evidence", str(recorded / "stack.tif"), str(recorded / "result"), "--output", str(recorded / "halves"), *COMMON]
    assert main([*words, "--no-figure", "--halves", *names]) == 0
    facts = json.loads((recorded / "halves" / "evidence.json").read_text())["checks"]
    assert facts["frc_own_halves"]
    assert facts["frc_nm"] is None
    assert "pixels limit" in capsys.readouterr().out


def test_an_image_of_another_grid_is_refused_with_its_size(recorded, capsys):
    words = ["evidence", str(recorded / "stack.tif"), str(recorded / "result"), "--output", str(recorded / "no"), *COMMON]
    assert main([*words, "--factor", "2"]) == 2
    assert "80 x 80" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "said"), [(np.nan, "NaN or infinite"), (-1.0, "holds no light")])
def test_an_image_without_light_is_refused_before_anything_is_fitted(recorded, capsys, value, said):
    tifffile.imwrite(recorded / "wrong.tif", np.full((80, 80), value, np.float32))
    words = ["evidence", str(recorded / "stack.tif"), str(recorded / "wrong.tif"), "--output", str(recorded / "no"), *COMMON]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "wrong.tif" in error
    assert said in error
    assert "mean fit" not in error


def test_tiles_have_no_evidence(recorded, capsys):
    words = ["reconstruct", str(recorded / "stack.tif"), "--output", str(recorded / "tiles"), *COMMON, "--evidence"]
    assert main([*words, "--tile", "16"]) == 2
    assert "--evidence" in capsys.readouterr().err
