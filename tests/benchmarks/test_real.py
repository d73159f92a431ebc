"""Recorded stacks beside the peers: regions, judgements without a truth, the picture, and that the command runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fluogan_core as fg
from benchmarks._harness import Options, check_document
from benchmarks._study import FEW_STEPS
from benchmarks.paper._methods import left_out
from benchmarks.real import _compare
from benchmarks.real.__main__ import main, regions
from benchmarks.real._compare import COLUMNS, compare
from benchmarks.real._picture import limits, sheet
from benchmarks.real._stacks import FACTOR, STACKS, choose_region, load, operator, synthetic

ROOT = Path(__file__).resolve().parents[2]


def test_the_region_is_where_the_field_varies_most():
    mean = np.ones((30, 40))
    mean[18:22, 25:29] = 5.0
    rows, columns = choose_region(mean, 2, shown=8)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (12, 12)
    inside = mean[rows.start + 2 : rows.stop - 2, columns.start + 2 : columns.stop - 2]
    # a square of a quarter of the region varies most when all of it is inside
    assert (inside > 1).sum() == 16
    # a bright spot in the margin is not shown and does not count
    assert inside.var() == pytest.approx(4.0**2 * 0.25 * 0.75)


def test_a_small_field_is_taken_whole():
    rows, columns = choose_region(np.arange(12.0 * 20).reshape(12, 20), 3, shown=8)
    assert rows == slice(0, 12)
    assert (columns.stop - columns.start) == 14
    with pytest.raises(ValueError, match="6 x 20 pixels has none inside margins of 3"):
        choose_region(np.ones((6, 20)), 3)


@pytest.mark.parametrize("source", STACKS, ids=lambda s: s.name)
def test_a_stack_is_cut_so_that_a_psf_fits_into_its_margin(source, real_stacks):
    region = load(source, real_stacks)
    assert region.margin * source.pixel_size_nm >= source.fwhm_nm
    rows, columns = region.shown
    assert all(part.stop - part.start >= 16 for part in (rows, columns))
    assert region.frames[:, rows, columns].shape[1:] == tuple(n - 2 * region.margin for n in region.frames.shape[1:])
    image = np.zeros(region.psi().fine_shape)
    image[region.shown_fine] = 1.0
    blocks = image.reshape(region.frames.shape[1], FACTOR, region.frames.shape[2], FACTOR).sum(axis=(1, 3))
    assert (blocks[region.shown] == FACTOR**2).all()
    assert blocks.sum() == FACTOR**2 * blocks[region.shown].size


@pytest.fixture(scope="module")
def found():
    return compare(synthetic(), FEW_STEPS)


def test_every_method_is_judged_on_what_is_shown(found):
    names = [name for name in COLUMNS if name not in left_out()]
    assert [one.method for one in found.judged] == names == list(found.images)
    for one in found.judged:
        assert found.images[one.method].shape == ((18, 18) if one.method == "temporal mean" else (72, 72))
        assert (one.resolution_nm is None) == bool(one.reason)
        assert one.seconds > 0
    judged = {one.method: one for one in found.judged}
    assert judged["second-order SOFI"].log_density is None
    # what flickers in the synthetic stack is in the model: who knows it predicts better than who does not
    assert judged["mean fit"].log_density > judged["temporal mean"].log_density
    # noise of the mean frame: the square root of 15 photons at the line, 5 beside it, in 40 frames
    assert judged["mean fit"].rse < np.sqrt(15 / 40) < judged["temporal mean"].rse


def test_ours_are_the_fit_of_the_mean_and_what_came_after_it(found):
    """One reconstruction gives both; only their light in emissions has to be turned into photons."""
    region = synthetic()
    estimate = fg.estimate_camera(region.frames, region.psi())
    psi = operator(region.source, region.frames.shape[1:], photons_per_emitter=estimate.photons_per_emitter)
    made = fg.reconstruct(region.frames, psi=psi, camera=estimate.camera, options=FEW_STEPS)
    for name, x in (("mean fit", made.x_mean_fit), ("full method", made.x)):
        light = (x * estimate.photons_per_emitter)[region.shown_fine]
        np.testing.assert_allclose(found.images[name], light, rtol=1e-5, atol=1e-7)
    assert found.stop_reason == made.stop_reason


def test_agreement_of_what_is_already_blurred_is_plain_correlation(rng):
    a, b = rng.random((2, 9, 7))
    agreement = fg.metrics.blurred_agreement(a, b, _compare._as_it_is(a.shape))
    assert agreement.rsp == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_each_half_is_scored_on_the_other(monkeypatch):
    region, met = synthetic(), []

    def score(made, counts, model):
        met.append((float(made.prediction[1].mean()) if made.prediction else None, counts))
        return 0.0

    monkeypatch.setattr(_compare, "COLUMNS", {"temporal mean": "mean"})
    monkeypatch.setattr(_compare, "_score", score)
    compare(region, FEW_STEPS)
    camera = fg.estimate_camera(region.frames, region.psi()).camera
    assert len(met) == 2
    for (predicted, counts), other in zip(met, (1, 0)):
        np.testing.assert_allclose(counts, region.frames[other::2] - np.float32(camera.offset), rtol=1e-6)
        fitted = (region.frames[1 - other :: 2].mean() - camera.offset) / camera.gain
        assert predicted == pytest.approx(fitted, rel=1e-3)


def test_a_hot_pixel_does_not_turn_the_rest_black(rng):
    image = rng.random((40, 40))
    low, high = limits(image)
    image[3, 4] = 1e6
    assert limits(image) == pytest.approx((low, high), abs=0.01)
    low, high = limits(np.zeros((5, 5)))
    assert high > low


def test_the_sheet_names_methods_stacks_and_pixels(found):
    axes = sheet([found, found]).axes
    assert [place.get_title() for place in axes[: len(found.images)]] == [COLUMNS[name] for name in found.images]
    assert not any(place.get_title() for place in axes[len(found.images) :])
    assert axes[0].get_ylabel() == "simulated line\n40 frames, bar 200 nm"
    assert [place.get_xlabel() for place in axes[:2]] == ["80 nm pixels", "20 nm pixels"]


def test_stacks_that_are_not_there_are_named_and_nothing_is_written(tmp_path, capsys):
    assert regions(Options(), tmp_path) == []
    said = capsys.readouterr().err
    assert all(source.file in said for source in STACKS)
    main(["--data", str(tmp_path), "--results", str(tmp_path / "results"), "--docs", str(tmp_path / "docs")])
    assert "nothing was measured" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_measures_writes_and_draws(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "real.md").write_text("<!-- table: real -->\n<!-- end -->\n")
    words = [sys.executable, "-m", "benchmarks.real", "--quick", "--results", str(tmp_path), "--docs", str(docs)]
    subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    document = json.loads((tmp_path / "real.json").read_text())
    check_document(document)
    assert document["quick"]
    assert [table["title"] for table in document["tables"]] == ["Simulated line", "The stacks"]
    assert (docs / "images" / "real.png").read_bytes().startswith(b"\x89PNG")
    assert "| mean fit |" in (docs / "real.md").read_text()
    refused = subprocess.run([*words, "--seed", "1"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "leave out --backend and --seed" in refused.stderr
