"""What a sweep writes and draws: every setting with its scores, on one scale."""

from __future__ import annotations

import dataclasses
import json
import logging

import numpy as np
import pytest
import tifffile
from sweeps import FRAMES, record

import fluogan_core as fg
from fluogan_core.io.sweep_report import sweep_rows, sweep_titles, verdict


def test_files_hold_every_setting_with_its_scores(finished_sweep, tmp_path):
    source = fg.Stack(record(), pixel_size_nm=100.0, path=tmp_path / "in.tif")
    files = fg.write_sweep(finished_sweep, tmp_path, stack=source, command=["fluogan", "sweep"])
    assert {name: path.name for name, path in files.items()} == {
        "report": "sweep.json",
        "x": "sweep.tif",
        "figure": "sweep.png",
    }
    with tifffile.TiffFile(files["x"]) as tif:
        np.testing.assert_array_equal(tif.asarray(), [trial.fit.x for trial in finished_sweep.trials])
        assert tif.imagej_metadata["Labels"][2] == "3: detail=0.5, sparsity=0.5"
        info = json.loads(tif.imagej_metadata["Info"])
    assert info["settings"] == [trial.values for trial in finished_sweep.trials]
    assert info["shared"]["warm_steps"] == 25
    assert "detail" not in info["shared"]
    assert fg.read_stack(files["x"]).pixel_size_nm == pytest.approx(50)

    report = json.loads(files["report"].read_text(), parse_constant=lambda token: pytest.fail(f"{token} is not JSON"))
    assert report["command"] == ["fluogan", "sweep"]
    assert report["versions"]["numpy"] == np.__version__
    assert report["parameters"]["method"] == "none"
    assert report["camera"]["gain"] == 2.0
    assert report["input"]["frames"] == FRAMES
    assert report["vary"] == {"detail": [0.2, 0.5], "sparsity": [0.5, 1e4]}
    assert report["best"] == finished_sweep.best + 1
    assert report["blocks"] == {"number": 20, "order": "ABBA"}
    for index, entry in enumerate(report["settings"]):
        fit, lag = finished_sweep.trials[index].fit, finished_sweep.behind(index)
        assert (entry["number"], entry["page"], entry["values"]) == (index + 1, index + 1, finished_sweep.trials[index].values)
        assert (entry["log_density"], entry["behind"]) == (fit.log_density, lag.difference)
        assert (entry["behind_error"], entry["told_from_the_best"]) == (lag.error, lag.told_apart)
        assert entry["seconds"] > 0


def test_equal_sweeps_give_equal_images_and_pictures(finished_sweep, tmp_path):
    first, second = (fg.write_sweep(finished_sweep, tmp_path / name, pixel_size_nm=100) for name in ("a", "b"))
    for name in ("x", "figure"):
        assert first[name].read_bytes() == second[name].read_bytes()


def test_without_matplotlib_the_log_says_so(finished_sweep, tmp_path, monkeypatch, caplog):
    for name in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with caplog.at_level(logging.WARNING, logger="fluogan_core"):
        assert set(fg.write_sweep(finished_sweep, tmp_path)) == {"report", "x"}
    assert "matplotlib is not installed" in caplog.text


def test_the_table_has_a_row_per_setting(finished_sweep):
    rows = sweep_rows(finished_sweep)
    assert [row[:3] for row in rows] == [("1", "0.2", "0.5"), ("2", "0.2", "10000"), ("3", "0.5", "0.5"), ("4", "0.5", "10000")]
    assert {len(row) for row in rows} == {len(sweep_titles(finished_sweep))}
    assert rows[finished_sweep.best][-1] == verdict(finished_sweep, finished_sweep.best) == "the best"
    assert rows[1][-1] == ""
    assert rows[1][3] == str(finished_sweep.behind(1))


def test_the_contact_sheet_shows_all_on_one_scale_and_frames_the_best(finished_sweep):
    pytest.importorskip("matplotlib")
    drawing = fg.plot.contact_sheet(finished_sweep, pixel_size_nm=100)
    panels = [axes for axes in drawing.axes if axes.images]
    assert len(panels) == 4
    for index, axes in enumerate(panels):
        np.testing.assert_array_equal(axes.images[0].get_array(), finished_sweep.trials[index].fit.x)
        assert axes.get_title().startswith(f"{index + 1}: {finished_sweep.trials[index].label}\n")
    assert len({axes.images[0].get_clim() for axes in panels}) == 1
    # rows are the values of detail, columns those of sparsity
    assert [axes.get_subplotspec().rowspan.start for axes in panels] == [0, 0, 1, 1]
    widths = [axes.spines["left"].get_linewidth() if axes.spines["left"].get_visible() else 0 for axes in panels]
    assert int(np.argmax(widths)) == finished_sweep.best
    assert panels[finished_sweep.best].get_title().endswith("the best")
    assert [text.get_text() for axes in panels for text in axes.texts] == ["200 nm"]
    assert "the best sparsity" in drawing.get_supxlabel()


def test_settings_that_are_not_told_apart_are_marked(finished_sweep):
    """Two settings whose densities differ by noise alone."""
    pytest.importorskip("matplotlib")
    noise = np.tile([1e-3, -1e-3], FRAMES // 2)
    fits = [finished_sweep.trials[0].fit, dataclasses.replace(finished_sweep.trials[0].fit)]
    fits[1] = dataclasses.replace(fits[0], frame_log_density=fits[0].frame_log_density - 1e-6 + noise)
    swept = dataclasses.replace(finished_sweep, trials=[dataclasses.replace(finished_sweep.trials[0], fit=fit) for fit in fits])
    assert (swept.best, verdict(swept, 1)) == (0, "not told from it")
    panels = [axes for axes in fg.plot.contact_sheet(swept).axes if axes.images]
    assert panels[1].get_title().endswith("not told from it")
    assert panels[1].spines["left"].get_visible()


def test_a_failed_setting_has_a_panel_that_says_why(finished_sweep):
    pytest.importorskip("matplotlib")
    failed = dataclasses.replace(finished_sweep.trials[1], fit=None, failure="ValueError: no")
    swept = dataclasses.replace(finished_sweep, trials=[finished_sweep.trials[0], failed, finished_sweep.trials[2]])
    drawing = fg.plot.contact_sheet(swept)
    assert [text.get_text() for axes in drawing.axes for text in axes.texts] == ["ValueError: no"]
    assert len([axes for axes in drawing.axes if axes.images]) == 2
