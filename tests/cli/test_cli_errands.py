"""The command line's longer errands: a grid of settings tried in one go, and the demonstration."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
import tifffile
from refusals import assert_refused

import fluogan_core as fg
from fluogan_core.cli import demo
from fluogan_core.metrics.lines import pair_report
from fluogan_core.selection import trials
from fluogan_core.simulation.experiment import Experiment

CAMERA = ("--gain", 2, "--offset", 100, "--noise-std", 3, "--photons-per-emitter", 5)
SWEEP = ("--fwhm-nm", 150, "--factor", 2, "--warm-steps", 5)


def test_sweep_tries_every_combination_and_says_which_is_best(fluogan, recording, tmp_path):
    status, out, err = fluogan(
        "sweep", recording, "--output", tmp_path / "out", *SWEEP, "--roi", "0,2,20,12", "--offset", 100, "--gain", 2.2,
        "--vary", "sparsity=0.5,500", "--vary", "warm-steps=5, 10", "--vary", "fwhm_nm=150",
    )  # fmt: skip
    assert status == 0, err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["sweep.json", "sweep.png", "sweep.tif"]
    assert "wrote sweep.json, sweep.tif, sweep.png" in out
    report = json.loads((tmp_path / "out/sweep.json").read_text())
    assert report["parameters"]["method"] == "none"
    assert report["input"]["roi"] == [0, 2, 20, 12]
    assert report["camera_estimate"]["given"] == ["gain", "offset"]
    assert report["psf_width"]["note"] == "width of the PSF: 1 times as described (given, not measured)"  # its width is varied
    assert report["operator"]["photons_per_emitter"] == report["camera_estimate"]["photons_per_emitter"]
    assert report["command"][0] == "fluogan"
    wanted = [(sparsity, steps) for sparsity in (0.5, 500) for steps in (5, 10)]
    assert [entry["values"] for entry in report["settings"]] == [
        {"sparsity": sparsity, "warm_steps": steps, "fwhm_nm": 150} for sparsity, steps in wanted
    ]
    assert report["best"] in (1, 2)
    assert tifffile.imread(tmp_path / "out/sweep.tif").shape == (4, 40, 24)
    rows = [line.split() for line in out.splitlines()]
    row = next(row for row in rows if row[:4] == [str(report["best"]), "0.5", str(5 * report["best"]), "150"])
    assert row[-2:] == ["the", "best"]
    assert f"best: sparsity=0.5, warm_steps={5 * report['best']}, fwhm_nm=150" in out


def test_every_setting_of_a_sweep_has_the_width_that_the_stack_says(fluogan, recording, tmp_path, monkeypatch):
    said = fg.PSFWidth(1.2, 1.2, 0.01, "width of the PSF: a fifth wider")
    monkeypatch.setattr("fluogan_core.calibration.calibrate.width_from", lambda statistics, psi, tuning: said)
    images = {}
    for name, width in (("said", ()), ("given", ("--psf-width", 1.2)), ("not", ("--psf-width", 1))):
        status, _, err = fluogan(
            "sweep", recording, "--output", tmp_path / name, *SWEEP, *CAMERA, "--vary", "sparsity=1", "--no-figure", *width
        )
        assert status == 0, err
        images[name] = tifffile.imread(tmp_path / name / "sweep.tif")
    assert "a fifth wider" in json.loads((tmp_path / "said/sweep.json").read_text())["psf_width"]["note"]
    assert (images["said"] == images["given"]).all()
    assert (images["said"] != images["not"]).any()


def test_sweep_varies_detail_and_edges_about_the_options_unless_told_otherwise(fluogan, recording, tmp_path):
    done = fluogan(
        "sweep", recording, "--output", tmp_path, *SWEEP, *CAMERA, "--detail", 0.3, "--total-variation", 0.01, "--no-figure"
    )
    assert done[0] == 0, done[2]
    report = json.loads((tmp_path / "sweep.json").read_text())
    assert report["vary"] == {"detail": [0.15, 0.3, 0.45], "total_variation": [0.003, 0.01, 0.03]}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sweep.json", "sweep.tif"]


@pytest.mark.usefixtures("signals_are_heard")
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("done", [0, 2])
def test_an_interrupted_sweep_leaves_what_was_done(fluogan, recording, tmp_path, monkeypatch, done):
    fit, begun = trials._cross_fit, []

    def interrupted(*arguments):
        begun.append(arguments)
        if len(begun) > done:
            os.kill(os.getpid(), signal.SIGINT)
        return fit(*arguments)

    monkeypatch.setattr(trials, "_cross_fit", interrupted)
    status, out, err = fluogan("sweep", recording, "--output", tmp_path, *SWEEP, *CAMERA, "--vary", "detail=0.1,0.2,0.3")
    assert status == 130
    if not done:
        assert err.splitlines()[-1] == "fluogan: error: interrupted before the first setting was done"
        assert not list(tmp_path.iterdir())
        return
    assert err.splitlines()[-1] == f"fluogan: error: interrupted after 2 of 3 settings; {tmp_path} holds them"
    assert "the best" in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sweep.json", "sweep.png", "sweep.tif"]
    assert len(json.loads((tmp_path / "sweep.json").read_text())["settings"]) == 2
    assert tifffile.imread(tmp_path / "sweep.tif").shape == (2, 40, 32)


def test_a_sweep_of_failures_is_status_1_and_keeps_its_report(fluogan, recording, tmp_path, monkeypatch):
    def fail(*arguments):
        raise FloatingPointError("not finite")

    monkeypatch.setattr(trials, "_cross_fit", fail)
    status, out, err = fluogan("sweep", recording, "--output", tmp_path, *SWEEP, *CAMERA, "--vary", "detail=0.1,0.2")
    assert status == 1
    assert "every setting failed, the first with FloatingPointError: not finite" in err.splitlines()[-1]
    assert "\n2 failed: FloatingPointError: not finite" in out
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.json"]


def test_a_sweep_of_a_stack_below_the_offset_is_refused(fluogan, recording, tmp_path):
    dark = ("--gain", 2, "--offset", 60000, "--noise-std", 3, "--photons-per-emitter", 5)
    done = fluogan("sweep", recording, "--output", tmp_path, *SWEEP, *dark, "--vary", "detail=0.1,0.2")
    assert_refused(done, 2, "the offset is too high")


def test_methods_are_varied_with_an_option_that_not_all_of_them_use(fluogan, recording, tmp_path):
    command = ("sweep", recording, "--output", tmp_path, *SWEEP, *CAMERA, "--vary", "method=none,moments", "--steps", 2)
    status, _, err = fluogan(*command, "--no-figure")
    assert status == 0, err
    settings = json.loads((tmp_path / "sweep.json").read_text())["settings"]
    assert [setting["values"]["method"] for setting in settings] == ["none", "moments"]


# -- demo ---------------------------------------------------------------------------------------------------------------


def test_demo_says_what_it_found_beside_the_truth(fluogan, tmp_path, monkeypatch):
    run, options = demo.run_demo, fg.SolverOptions(method="none", warm_steps=1000)
    experiment = Experiment(size=(32, 32), frames=150)
    monkeypatch.setattr(demo, "run_demo", lambda d, **given: run(d, **given, experiment=experiment, options=options))
    status, out, err = fluogan("demo", "--output", tmp_path / "demo")
    assert status == 0, err
    assert {p.name for p in (tmp_path / "demo").iterdir()} == {
        "stack.tif",
        "truth.tif",
        "truth.json",
        "x.tif",
        "b.tif",
        "report.json",
        "report.html",
        "figure.png",
        "evidence.tif",
    }
    assert re.search(r"\nThe frames (do not )?confirm the gap between them, by \d+\.\d standard deviations\.\n", out), out
    assert "is it there?" in (tmp_path / "demo" / "report.html").read_text()
    found = re.match(r"Two lines (\d+) nm apart \(truth 180 nm; the blurred mean shows one line there\)\.", out)
    assert found, out
    report = pair_report(tifffile.imread(tmp_path / "demo/x.tif"), experiment.pattern())
    assert int(found[1]) == round(report.distance_nm)
    assert f"{tmp_path / 'demo'} holds report.html, figure.png" in out
    assert "truth 2.2" in out


def test_demo_admits_what_it_did_not_resolve(tmp_path):
    experiment = Experiment(size=(20, 20), frames=200, fwhm_nm=250.0, factor=2)
    sentence = demo.run_demo(tmp_path, experiment=experiment, options=fg.SolverOptions(method="none", warm_steps=1))
    assert sentence.startswith("The two lines were not resolved: ")
    assert "truth 180 nm" in sentence


def test_a_file_that_looks_like_an_option_is_told_how_to_be_written(fluogan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-stack.tif").write_bytes(b"")
    status, _, said = fluogan("info", "-stack.tif")
    assert status == 2
    assert "write ./-stack.tif" in said
