"""The benchmarks' harness, their files and tables; that each of them runs.  No duration is judged."""

from __future__ import annotations

import copy
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kernel_sets import missing

import fluogan_core as fg
from benchmarks import QUESTIONS, STUDIES, _harness, _kernel_figures, _small_kernels, _tables
from benchmarks._baselines import TorchBatched, loop_over_pixels, pooled_first
from benchmarks._cases import make_case, make_psi, tiled_critic
from benchmarks._cuda_resources import why_no_nvrtc
from benchmarks._harness import Alternative, Options, Report, check_document, sampled, write
from benchmarks._scale_tables import TABLES as SCALE
from benchmarks._speed_table import speed_rows
from benchmarks.bench_critic import VARIANTS, _Data, written_out_slope
from benchmarks.bench_estimators import Blocks, Estimator, _best_share

ROOT = Path(__file__).resolve().parents[2]


def a_report() -> Report:
    report = Report("psi", Options(quick=True))
    calls = [Alternative("a", lambda: sum(range(1000)), 2.0), sampled("b", lambda: sum(range(1000)), 1, 10, 2.0)]
    report.measure("title", "column", calls, per="frame", seconds=0, reference="a", left_out={"c": "not here"})
    report.table("values", ["x", "y"], [["one", 1.5], ["two", 2]])
    report.target("speed", 3.0, at_least=2.0)
    report.target("cost", 3.0, at_most=2.0)
    return report


# psi runs below, through the command
@pytest.mark.parametrize("name", [name for name in QUESTIONS if name != "psi"])
def test_every_benchmark_runs_and_writes_its_file(name, tmp_path):
    if name == "resources" and (reason := why_no_nvrtc()):
        missing(reason)
    module = importlib.import_module(f"benchmarks.bench_{name}")
    document = module.run(Options(quick=True)).document()
    path = write(document, tmp_path)
    assert json.loads(path.read_text()) == document
    assert document["quick"]
    assert document["environment"]["versions"]["numpy"] == np.__version__
    assert document["question"] in _tables.plain(document)
    assert document["groups"] or document["tables"]


@pytest.mark.parametrize("name", ["differences", "sampling", "psi", "solver"])
def test_the_benchmarks_of_a_card_mix_nothing_of_the_host_into_it(name, pretended_card, monkeypatch):
    monkeypatch.setattr(_harness, "device_facts", lambda backend: {"device": "pretended"})
    module = importlib.import_module(f"benchmarks.bench_{name}")
    document = module.run(Options(quick=True, backend=pretended_card)).document()
    check_document(document)
    assert document["environment"]["device"] == {"device": "pretended"}
    assert document["groups"]


def test_what_else_the_check_on_a_card_runs_mixes_nothing_into_it(pretended_card, monkeypatch):
    monkeypatch.setattr(_kernel_figures, "device_facts", lambda backend: {"device": "pretended"})
    assert _kernel_figures.figures(pretended_card, quick=True)["device"] == {"device": "pretended"}
    _small_kernels.run(pretended_card.cuda, [np.float32])


def test_a_run_that_is_cut_short_leaves_what_it_has(tmp_path):
    earlier = write(a_report().document(), tmp_path)
    before = earlier.read_text()

    def run(options: Options) -> Report:
        report = Report("psi", options)
        report.table("first", ["x"], [[1]])
        report.table("second", ["x"], [[2]])
        raise MemoryError

    command = ["--quick", "--results", str(tmp_path)]
    with pytest.raises(MemoryError):
        _harness.main("psi", run, command)
    left = json.loads((tmp_path / "psi.partial.json").read_text())
    assert [table["title"] for table in left["tables"]] == ["first", "second"]
    assert earlier.read_text() == before  # figures of a whole run are not replaced by a part
    _harness.main("psi", lambda options: a_report(), command)
    assert [path.name for path in tmp_path.iterdir()] == ["psi.json"]


def test_the_command_measures_what_is_asked_for_and_keeps_other_documents(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.md").write_text("before\n<!-- table: psi -->\nold\n<!-- end -->\nafter\n")
    (docs / "b.md").write_text("nothing to fill")
    words = ["psi", "--quick", "--results", str(tmp_path / "results"), "--docs", str(docs)]
    done = subprocess.run([sys.executable, "-m", "benchmarks", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["psi.json"]
    text = (docs / "a.md").read_text()
    assert text.startswith("before\n<!-- table: psi -->\n**Gaussian PSF")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text
    assert (docs / "b.md").read_text() == "nothing to fill"
    assert "tables rendered in a.md" in done.stdout


def test_an_unknown_benchmark_is_named():
    done = subprocess.run([sys.executable, "-m", "benchmarks", "speed"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no benchmark called speed" in done.stderr


# -- the harness ------------------------------------------------------------------------------------------------------


def test_times_are_scaled_to_units_and_from_samples_to_the_whole(monkeypatch):
    clock = iter(np.cumsum([0, 1.0] * 100))
    monkeypatch.setattr(_harness.time, "perf_counter", lambda: next(clock))
    report = a_report()
    rows = {row["name"]: row for row in report.groups[0]["rows"]}
    # every call takes one second by this clock
    assert rows["a"]["seconds"]["median"] == 0.5
    assert rows["b"]["seconds"]["median"] == 5.0
    assert rows["b"]["sampled"] == {"evaluated": 1, "of": 10}


def test_alternatives_run_in_turn_and_warm_up_calls_are_not_counted():
    order = []
    report = Report("psi", Options())
    calls = [Alternative(name, lambda name=name: order.append(name)) for name in "ab"]
    report.measure("title", "column", calls, per="call", seconds=0.0)
    assert order == ["a", "b"] * (len(order) // 2)
    assert report.groups[0]["rows"][0]["seconds"]["rounds"] == len(order) // 2 - 2 == 3


def test_targets_compare_in_the_right_direction():
    report = a_report()
    assert [target["met"] for target in report.targets] == [True, False]
    with pytest.raises(ValueError, match="either a lower or an upper"):
        report.target("nothing", 1.0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.pop("targets"), "'targets' must be a list"),
        (lambda d: d["groups"][0].update(reference="z"), "reference 'z' is none of"),
        (lambda d: d["groups"][0]["rows"][1].update(name="a"), "share a name"),
        (lambda d: d["groups"][0]["rows"][0]["seconds"].update(median=-1.0), "not in order"),
        (lambda d: d["tables"][0]["rows"].append(["short"]), "does not have 2 entries"),
        (lambda d: d["targets"][0].update(measured=float("nan")), "no measured value"),
    ],
)
def test_a_spoilt_document_is_not_written(spoil, message, tmp_path):
    document = copy.deepcopy(a_report().document())
    check_document(document)
    spoil(document)
    with pytest.raises(ValueError, match=message):
        write(document, tmp_path / "results")
    assert not (tmp_path / "results").exists()


# -- the tables -------------------------------------------------------------------------------------------------------


def test_rendering_twice_changes_nothing_more(tmp_path):
    results, docs = tmp_path / "results", tmp_path / "docs"
    docs.mkdir()
    write(a_report().document(), results)
    blocks = "".join(f"# {name}\n\n<!-- table: {name} -->\n<!-- end -->\n\n" for name in ("targets", "environment", *QUESTIONS))
    (docs / "page.md").write_text(blocks)
    assert _tables.render(results, docs) == [docs / "page.md"]
    first = (docs / "page.md").read_text()
    assert _tables.render(results, docs) == []
    assert first.count(_tables._MISSING) == len(QUESTIONS) - 1  # only one benchmark has figures
    assert "| speed | ≥ 2.00 | 3.00 | yes |" in first
    assert "| cost | ≤ 2.00 | 3.00 | **no** |" in first
    assert "Left out: c (not here)." in first


def test_an_unknown_block_is_named():
    with pytest.raises(ValueError, match="no table called 'weight'"):
        _tables.rendered("<!-- table: weight -->\n<!-- end -->", {})


def test_the_documents_have_a_block_for_every_benchmark():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    for name in ("targets", "speed", "environment", *QUESTIONS, *STUDIES, *SCALE):
        assert f"<!-- table: {name} -->" in text


def test_goals_of_speed_are_read_with_their_floors():
    target = {"what": "exact against batched torch, 32x32, batch 16", "at_least": 50.0, "at_most": None}
    backward = {"what": "exact, in units of one torch backward, 32x32, batch 16", "at_least": None, "at_most": 10.0}
    title = "Where single photons bend the critic, and the floor"
    columns = ["field", "floor, ms per frame", "torch, batched / floor"]
    document = {
        "targets": [target | {"measured": 26.0, "met": False}, backward | {"measured": 8.0, "met": True}],
        "tables": [{"title": title, "columns": columns, "rows": [["16x16", 1.0, 40.0], ["32x32", 2.0, 150.0]]}],
        "groups": [{"column": "32x32, batch 16", "rows": [{"name": "torch, one backward", "seconds": {"median": 1e-3}}]}],
        "environment": {"revision": "abc"},
    }
    large = {"figures": [{"side": 256, "frames": 200, "processor_s_whole": 250.0}], "environment": {"revision": "def"}}
    rows = speed_rows({"differences": document, "scale": {"seams 256 Airy flat": large}})
    assert [(row[1], row[3], row[4], row[5]) for row in rows] == [
        ("≥ 50", False, "at the floor it would be 150", "abc"),
        ("≤ 10", True, "at the floor it would be 2.0", "abc"),
        ("≤ 240", False, "", "def"),
    ]
    assert speed_rows({}) == []


def test_the_tables_of_large_fields_say_what_was_measured():
    """By figures that are easily read again: the seams of a field, its cost, and a part of each kind."""
    seen = {"inside": 0.0123, "at_seams": 0.0234, "inside_half_psf": 0.001, "at_seams_half_psf": 0.002, "difference_b": 0.0004}
    seen |= {"side": 256, "psf": "Gaussian", "background": "flat", "step_x": 1.01, "step_b": 0.99, "flux_x": -2e-5}
    timed = {"processor_s_mean": 32.768, "processor_s_whole": 65.536, "steps_whole": [1020], "steps_tiles": [1020, 1020]}
    figures = [seen | timed | {"method": "moments"}, seen | {"method": "none", "steps": 1000}]
    area = {"rows": [{"side": 64}, {"side": 512}], "exponent_of_area": 0.914}
    parts = {"seams 256 Gaussian flat": {"figures": figures}, "area by the default method": {"figures": area}}
    seams, measured, cost = (SCALE[name](parts) for name in ("scale-seams", "scale-measured", "scale-cost"))
    assert "| 256 × 256, Gaussian, flat | default | 1020 | 1.23 / 2.34 % |" in seams
    assert "| `none` | 1000 |" in seams
    assert "64² to 512² pixels, tiles as by default, default method, all its steps: exponent | 0.91 |" in measured
    # 1000 s a megapixel; of iterations on a card 1000, and 25 for each of 20 steps more, half a millisecond each
    assert "| 500 s | 1000 s | 8 s | 11 s |" in cost
    assert "| 2048 × 2048, one recording: *prediction* | 49 minutes | 1.6 hours | 32 s | 48 s |" in cost
    assert "No figures yet" in SCALE["scale-cost"]({})


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.345, "12.3 s"), (0.0012345, "1.23 ms"), (9.99e-7, "999 ns"), (4.5e-8, "45.0 ns")]
)
def test_seconds_are_readable(seconds, text):
    assert _tables.seconds_text(seconds) == text


# -- what is compared is the same thing -------------------------------------------------------------------------------


@pytest.fixture
def critic() -> fg.Critic:
    return fg.Critic((12, 9), channels=3, depth=2, input_mean=3.0, input_std=2.0, seed=1).double()


def test_baselines_are_the_critic_on_perturbed_frames(critic, rng):
    y = torch.as_tensor(rng.poisson(4.0, (2, 12, 9)).astype(float))
    torch.testing.assert_close(pooled_first(critic)(y), critic(y))
    pixels = np.array([0, 40, 107])
    expected = torch.stack([critic(y + 2 * torch.eye(108, dtype=y.dtype)[p].view(12, 9)) - critic(y) for p in pixels])
    torch.testing.assert_close(loop_over_pixels(critic, y, pixels, 2.0), expected.mean(dim=1))
    single = fg.Critic((12, 9), channels=3, depth=2)
    single.load_state_dict({k: v.float() for k, v in critic.state_dict().items()})
    batched = TorchBatched(single, trial_pixels=16 * 108)
    got = batched.single(y[0].float(), pixels, 2.0)
    torch.testing.assert_close(got, expected[:, 0].float(), rtol=1e-4, atol=1e-4)
    # two photons in one pixel, none, and one elsewhere
    got = batched.sets(y[0].float(), np.array([0, 0, 2]), np.array([40, 40, 107]), 3, 1.0)
    moved = y[0].clone()
    moved.view(-1)[40] += 2
    torch.testing.assert_close(got[0], (critic(moved[None]) - critic(y[:1]))[0].float(), rtol=1e-4, atol=1e-4)
    assert abs(float(got[1])) < 1e-6


def test_the_written_out_slope_is_autograds_with_its_derivatives(critic, rng):
    y = torch.as_tensor(rng.poisson(4.0, (3, 12, 9)).astype(float))
    slope = written_out_slope(critic, y)
    mixed = y.clone().requires_grad_()
    (expected,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    torch.testing.assert_close(slope, expected)
    parameters = [p for name, p in critic.named_parameters() if name.endswith("weight")]
    for a, b in zip(*(torch.autograd.grad(s.square().sum(), parameters) for s in (slope, expected)), strict=True):
        torch.testing.assert_close(a, b)


def test_all_variants_of_the_training_step_are_one_step():
    data = _Data(16, 4, Options(quick=True), "cpu")
    expected = data.step()()
    for variant in VARIANTS.values():
        torch.testing.assert_close(data.variant(variant)(), expected, rtol=1e-4, atol=1e-5)


def test_a_late_case_has_the_mean_of_the_truth_and_less_variance():
    case = make_case(16, 20.0, "late", "numpy")
    truth = case.model.mean(case.true_x, case.true_b)
    np.testing.assert_allclose(case.model.mean(case.x, case.b), truth, rtol=1e-5)
    lost = case.model.variance(case.true_x, case.true_b) - case.model.variance(case.x, case.b)
    assert lost.min() > -1e-3
    assert lost.max() > 1.0
    early = make_case(16, 20.0, "early", "numpy")
    assert abs(early.model.mean(early.x, early.b) - truth).max() > 1.0


def test_a_tiled_critic_repeats_the_scores_of_its_tile(rng):
    tile = fg.Critic((8, 8), channels=2, depth=1, kernel_size=1, input_mean=rng.random((8, 8)), input_std=2.0, seed=0)
    y = torch.as_tensor(rng.random((2, 8, 8)), dtype=torch.float32)
    # without a neighbourhood the four tiles do not see each other
    four = tiled_critic(tile, 16)(y.repeat(1, 2, 2))
    bias = tile.head.bias
    torch.testing.assert_close(four - bias, 4 * (tile(y) - bias), rtol=1e-4, atol=1e-5)
    assert make_psi(16, 1.0, "numpy").fine_shape == (64, 64)


# -- the estimators' statistics ---------------------------------------------------------------------------------------


def test_norms_and_variances_of_blocks_are_unbiased(rng):
    blocks, frames, pixels = 400, 8, 50
    truth, noise = np.full(pixels, 0.2), 3.0
    made = Blocks(truth + rng.normal(0, noise / np.sqrt(frames), (blocks, pixels)), frames)
    # the variance of a variance over blocks * pixels normal values
    assert made.variance == pytest.approx(pixels * noise**2, rel=5 * np.sqrt(2 / (blocks * pixels)))
    assert made.error == pytest.approx(np.sqrt(pixels * noise**2 / (blocks * frames)), rel=0.05)
    spread = 2 * noise / np.sqrt(blocks * frames) * np.linalg.norm(truth)
    assert made.norm**2 == pytest.approx(truth @ truth, abs=5 * (spread + made.error**2 * np.sqrt(2 / pixels)))
    assert made.covariance(made) == pytest.approx(made.variance)
    assert (made - made).norm == 0


def test_error_at_equal_time_is_bias_and_noise():
    estimator = Estimator("a", bias=3.0, variance=16.0, seconds=0.01)
    assert estimator.error(0.01) == pytest.approx(5.0)
    assert estimator.error(1e9) == pytest.approx(3.0)


def test_the_best_share_minimises_variance_times_time():
    shared, remainder, seconds, extra = 5.0, 2.0, 1.0, 30.0
    cost = lambda p: (shared + remainder / p) * (seconds + p * extra)  # noqa: E731
    best = _best_share(shared, remainder, seconds, extra)
    assert cost(best) < min(cost(best * 0.9), cost(best * 1.1))
    assert _best_share(1e-9, 2.0, 1.0, 1.0) == 1.0
