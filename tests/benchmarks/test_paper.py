"""The paper's experiment: its methods on scenes whose answer is known, its judgements, and that the command runs."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from scipy import ndimage

import fluogan_core as fg
from benchmarks._harness import check_document
from benchmarks._study import FEW_STEPS
from benchmarks.paper import _nanopyx
from benchmarks.paper.__main__ import main as paper_main
from benchmarks.paper._judge import Task, Verdict, judge, verdicts
from benchmarks.paper._methods import METHODS, Job, left_out
from benchmarks.paper._renew import renewed
from benchmarks.paper._scenes import CONDITIONS, Geometry, make_scene, operator
from benchmarks.paper._tables import against_peers, score, smallest_resolved
from benchmarks.paper.evidence import evidence
from benchmarks.paper.widths import COMPARED, DESCRIBED
from benchmarks.paper.widths import main as widths_main

ROOT = Path(__file__).resolve().parents[2]

SMALL = Geometry(shape=(20, 20), frames=100)


@pytest.fixture(scope="module")
def job() -> Job:
    return Job(make_scene(CONDITIONS[0], (300.0,), 0, geometry=SMALL))


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda c: c.name)
def test_scenes_hold_the_light_that_they_say(condition):
    scene = make_scene(condition, (300.0,), 3, geometry=SMALL)
    again = make_scene(condition, (300.0,), 3, geometry=SMALL)
    np.testing.assert_array_equal(scene.frames, again.frames)
    expected = operator(SMALL, (20, 20)).forward(scene.light).sum() + scene.background.sum()
    measured = (scene.frames.mean(axis=0) - 100.0).sum() / 2.2
    # emissions of kappa photons each: their number is Poisson, and blinking molecules, on for two frames, are as few as half
    emissions = scene.light.sum() / scene.photons_per_emitter * SMALL.frames / 4
    # blinking molecules are drawn once
    molecules = condition.density_per_um2 * 4 * 0.1 * (scene.pattern.span_nm[1] - scene.pattern.span_nm[0]) * 1e-3
    spread = emissions**-0.5 + (molecules**-0.5 if condition.model == "blinking" else 0.0)
    assert measured == pytest.approx(expected, rel=5 * spread)
    assert scene.light.max() / scene.light[scene.light > 0].min() < 5


def test_a_control_has_the_pairs_flux():
    pair, bar = (make_scene(CONDITIONS[0], (300.0,), 0, control=c, geometry=SMALL) for c in (False, True))
    assert bar.light.sum() == pytest.approx(pair.light.sum())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_finds_light_where_it_is(job, name):
    if name in left_out():
        pytest.skip(left_out()[name])
    x = np.asarray(METHODS[name](job), dtype=np.float64)
    light = job.scene.light
    assert x.shape == light.shape
    assert x.min() >= 0
    # the background is estimated, the camera's gain to a few per cent
    assert x.sum() == pytest.approx(light.sum(), rel=0.2)
    if "SOFI" in name:  # hardly anything blinks here: where the light lies, covariances do not know
        return
    assert np.corrcoef(x.sum(axis=0), light.sum(axis=0))[0, 1] > 0.5


def test_what_goes_through_psi_explains_the_mean(job):
    error = {}
    for name in ("temporal mean", "FISTA, 1000 steps", "MLEM, 1000 steps", "mean fit"):
        residual = job.psi.forward(np.asarray(METHODS[name](job), dtype=np.float64)) - job.lit
        error[name] = float(np.sqrt((residual**2).mean()))
    noise = float(np.sqrt((job.scene.frames.var(axis=0) / SMALL.frames).mean())) / job.camera.gain
    assert error["temporal mean"] > 5 * noise
    assert max(error["FISTA, 1000 steps"], error["MLEM, 1000 steps"], error["mean fit"]) < 1.5 * noise


def test_sofi_sees_what_blinks_and_the_squared_psf_sharpens_it():
    scene = make_scene(CONDITIONS[1], (300.0,), 0, geometry=dataclasses.replace(SMALL, frames=300))
    job, sharpness = Job(scene), []
    for name in ("second-order SOFI", "second-order SOFI, Richardson-Lucy"):
        if name in left_out():
            pytest.skip(left_out()[name])
        x = METHODS[name](job)
        sharpness.append(np.corrcoef(x.sum(axis=0), scene.light.sum(axis=0))[0, 1])
    assert 0.5 < sharpness[0] < sharpness[1]


# -- nanopyx ----------------------------------------------------------------------------------------------------------


def needs_nanopyx():
    if reason := _nanopyx.why_no_nanopyx():
        pytest.skip(reason)


@pytest.mark.parametrize("name", ["srrf", "esrrf"])
@pytest.mark.parametrize("factor", [4, 5])
def test_points_land_where_they_are(name, factor):
    needs_nanopyx()
    size = 33
    psi = fg.Psi(fg.gaussian_psf(318, 100, factor), (size, size), factor, backend="numpy")
    # nine points seven and a third camera pixels apart: every phase that thirds of a pixel have
    at = np.rint(factor * (9.0 + np.arange(3) * 22 / 3)).astype(int)
    truth = np.zeros(psi.fine_shape, dtype=np.float32)
    truth[np.ix_(at, at)] = 1e4
    image = getattr(_nanopyx, name)(psi.forward(truth)[None], psi)
    off = []
    for place in np.ndindex(3, 3):
        corner = [at[k] - 2 * factor for k in place]
        part = image[corner[0] : corner[0] + 4 * factor + 1, corner[1] : corner[1] + 4 * factor + 1]
        off.append(np.subtract(ndimage.center_of_mass(np.maximum(part - 0.3 * part.max(), 0)), 2 * factor))
    # fine pixels; nanopyx reads gradients off a grid twice as fine, to its nearest sample
    assert np.abs(off).max() < 0.5
    assert np.abs(np.mean(off, axis=0)).max() < 0.15


def test_nanopyx_is_quiet_repeats_itself_and_leaves_nothing_behind(tmp_path):
    needs_nanopyx()
    home, script = tmp_path / "home", tmp_path / "run.py"
    home.mkdir()
    script.write_text(
        "import os\n"
        "import numpy as np\n"
        "import fluogan_core as fg\n"
        "from benchmarks.paper import _nanopyx\n"
        "before = dict(os.environ)\n"
        "frames = np.random.default_rng(0).poisson(20, (4, 20, 20))\n"
        "psi = fg.Psi(fg.gaussian_psf(318, 100, 3), (20, 20), 3, backend='numpy')\n"
        "first, second = (_nanopyx.esrrf(frames, psi) for _ in range(2))\n"
        "print((first == second).all(), first.max() > 0, dict(os.environ) == before)\n"
    )
    variables = os.environ | {"HOME": str(home), "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": matplotlib.get_cachedir()}
    done = subprocess.run([sys.executable, str(script)], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == "True True True\n"
    assert done.stderr == ""
    assert list(home.iterdir()) == []


def test_an_implementation_that_fails_is_not_passed_over():
    needs_nanopyx()
    with pytest.raises(RuntimeError, match="out of something"), _nanopyx._quiet():
        print("Unexpected error while trying to run threaded\nout of something")


def test_peers_that_are_not_there_are_left_out_with_a_reason(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(_nanopyx, "why_no_nanopyx", _nanopyx.why_no_nanopyx.__wrapped__)
    missing = left_out()
    assert set(missing) < set(METHODS)
    assert missing["eSRRF (nanopyx)"] == "nanopyx is not installed"
    assert missing["second-order SOFI, Richardson-Lucy"] == "scikit-image is not installed"


def verdict(separation: float, control: bool, resolved: bool, seed: int = 0) -> Verdict:
    return Verdict("", separation, control, seed, 1.0, "m", resolved, 1.0, 2.0, 0.5, None, 20.0, 0.1, 0.9, 1.0)


def test_a_score_is_sensitivity_less_false_splits():
    pairs = [verdict(150.0, False, seed < 7, seed) for seed in range(8)]
    bars = [verdict(150.0, True, seed < 2, seed) for seed in range(8)]
    assert score(pairs + bars) == pytest.approx(5 / 8)
    assert score(pairs) is None


def test_the_smallest_distance_counts_only_with_all_larger_ones():
    def at(separation, resolved, split):
        return [verdict(separation, False, k < resolved, k) for k in range(8)] + [
            verdict(separation, True, k < split, k) for k in range(8)
        ]

    assert smallest_resolved(at(240.0, 8, 0) + at(180.0, 7, 1) + at(150.0, 6, 0)) == 180.0
    assert smallest_resolved(at(240.0, 8, 0) + at(180.0, 8, 2) + at(150.0, 8, 0)) == 240.0
    assert smallest_resolved(at(240.0, 3, 0)) is None


def test_what_is_gained_is_against_the_best_peer_of_each_figure():
    def by(method, score_of, error, misfit, separation=180.0):
        pairs, bars = score_of
        made = [verdict(separation, False, k < pairs, k) for k in range(8)]
        made += [verdict(separation, True, k < bars, k) for k in range(8)]
        return [dataclasses.replace(v, method=method, error_nm=error, nrmse=misfit) for v in made]

    found = by("full method", (8, 1), -4.0, 0.4) + by("mean fit", (8, 0), 0.0, 0.1)  # of these, ours is the full method
    found += by("a", (8, 2), 6.0, 0.3) + by("b", (3, 0), 1.0, 0.7)
    found += by("a", (8, 8), 90.0, 9.0, separation=120.0)  # beyond what is compared
    gains = against_peers(found)
    assert gains == {
        "pairs resolved less bars split, mean over the distances: better than the best peer (a) by": pytest.approx(1 / 8),
        # b resolves too little to be asked where
        "mean absolute distance error, nm: better than the best peer (a) by": pytest.approx(2.0),
        "NRMSE: better than the best peer (a) by": pytest.approx(-0.1),
    }
    assert against_peers(by("full method", (8, 1), 1.0, 0.4)) == {}


def test_the_evidence_is_what_the_moments_say():
    """The bar's distance by the dense formula, and the orders that must hold."""
    e = {d: evidence(d, 1.0, 1.0, SMALL) for d in (300.0, 150.0)}
    pair, bar = SMALL.pattern((300.0,)), SMALL.pattern((300.0,), control=True)
    psi = operator(SMALL, (20, 20))
    standard = Geometry().pattern((180.0,))
    level = 160.0 / float(operator(Geometry(), (32, 32)).forward(standard.x).max())
    dense = psi.forward(np.eye(pair.x.size).reshape(-1, *psi.fine_shape)).reshape(pair.x.size, -1)
    x = level * pair.x.ravel()
    covariance = np.diag(x @ dense + 10.0 + (3.0 / 2.2) ** 2) + (dense.T * x) @ dense
    off = level * (bar.x - pair.x).ravel() @ dense
    assert e[300.0].of_bar == pytest.approx(np.sqrt(SMALL.frames * off @ np.linalg.solve(covariance, off)), rel=1e-6)
    for d, found in e.items():
        assert 0 < found.of_mean <= found.of_bar * (1 + 1e-6), d  # the bar is one of the images without a dip
        assert found.of_both >= found.of_mean
    assert e[150.0].of_mean < e[300.0].of_mean
    assert evidence(300.0, 0.1, 1.0, SMALL).of_mean < e[300.0].of_mean


def test_a_psf_that_is_believed_too_narrow_leaves_less_of_a_pair():
    """An image without a dip makes up for what the PSF lacks: of its lines' width, and of their ends."""
    of = {(d, w): evidence(d, 1.0, 1.0, SMALL, w).of_mean for d in (300.0, 180.0) for w in (0.9, 0.95, 1.0)}
    for d in (300.0, 180.0):
        assert of[d, 0.9] < of[d, 0.95] < of[d, 1.0]
    assert of[180.0, 0.95] < 0.2 * of[180.0, 1.0]
    assert of[300.0, 0.95] > 0.5 * of[300.0, 1.0]


def test_two_processes_judge_as_one(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.setenv(name, "2")  # so that what the workers are given is taken back
    tasks = [Task(CONDITIONS[0].name, (300.0,), c, 0, ("mean fit",), 1.05, SMALL, FEW_STEPS) for c in (False, True)]
    apart = list(verdicts(tasks, 2))
    for one, other in zip((judge(task) for task in tasks), apart, strict=True):
        for a, b in zip(one, other, strict=True):
            for name, value in dataclasses.asdict(dataclasses.replace(a, seconds=b.seconds)).items():
                numeric = isinstance(value, float)
                assert getattr(b, name) == (pytest.approx(value, rel=1e-3, abs=1e-3) if numeric else value), name


def assert_usage_error(main, words, message, capsys):
    """The command ends with status 2 and says this."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_measures_and_writes(tmp_path, capsys):
    words = ["--quick", "--results", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks.paper", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    document = json.loads((tmp_path / "paper.json").read_text())
    check_document(document)
    assert document["quick"]
    titles = [table["title"] for table in document["tables"]]
    assert "How faithful" in titles
    assert "mean fit" in done.stdout
    refused = subprocess.run([*command, "--seeds", "0"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "at least 1" in refused.stderr
    for folder, condition, message in (
        (tmp_path / "none", "blinking", "run all conditions first"),
        (tmp_path, "blinking, dim", "a quick run knows only double Poisson, blinking"),
    ):
        assert_usage_error(paper_main, [*words[:-1], str(folder), "--condition", condition], message, capsys)
    assert_usage_error(paper_main, [*words[1:], "--condition", "blinking"], "is of a quick run and this is not", capsys)


def test_wrong_widths_are_a_study_of_their_own(tmp_path):
    words = ["--quick", "--results", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks.paper.widths", *words]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    document = json.loads((tmp_path / "widths.json").read_text())
    check_document(document)
    resolution, measured = document["tables"]
    assert [row[:2] for row in resolution["rows"][:6]] == [["double Poisson", name] for name in COMPARED]
    assert [row[:2] for row in measured["rows"][5:]] == [["blinking", f"{width:g}"] for width in DESCRIBED]
    assert [target["what"] for target in document["targets"]][:2] == [
        "double Poisson: PSF -5 %, pairs resolved",
        "double Poisson: PSF -5 %, bars split",
    ]
    widths_main([*words, "--condition", "blinking"])
    anew = json.loads((tmp_path / "widths.json").read_text())
    assert anew["environment"]["renewed"].keys() == {"blinking"}
    assert [t["what"] for t in anew["targets"]] == [t["what"] for t in document["targets"]]
    assert anew["tables"][0]["rows"][:6] == resolution["rows"][:6]


def test_our_reconstruction_goes_through_the_width_that_is_found_and_the_peers_through_what_is_said(monkeypatch):
    said = fg.PSFWidth(1.1, 1.1, 0.01, "")
    monkeypatch.setattr("fluogan_core.calibration.calibrate.width_from", lambda statistics, psi, tuning: said)
    found = Job(make_scene(CONDITIONS[0], (300.0,), 0, geometry=SMALL), width=0.9)
    assert found.psi.psf.shape == operator(SMALL, (20, 20), 0.9).psf.shape
    np.testing.assert_allclose(found.own_psi.psf.max(), found.psi.psf.max() / 1.1**2, rtol=0.01)
    assert found.as_described.psf_width == 1.0
    assert found.as_described.own_psi is found.as_described.psi
    np.testing.assert_array_equal(METHODS["MLEM, 1000 steps"](found), METHODS["MLEM, 1000 steps"](found.as_described))
    given = Job(found.scene, width=0.9, psf_width=1.1)
    np.testing.assert_array_equal(METHODS["full method"](given), METHODS["full method"](found))
    assert not np.array_equal(METHODS["full method, PSF as described"](found), METHODS["full method"](found))


def test_the_evidence_is_a_study_of_its_own(tmp_path):
    words = [sys.executable, "-m", "benchmarks.paper.evidence", "--quick", "--results", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    document = json.loads((tmp_path / "evidence.json").read_text())
    check_document(document)
    (table,) = document["tables"]
    assert table["title"].startswith("What 60 frames hold")
    assert [row[:2] for row in table["rows"]] == [["double Poisson", "240 nm"], ["blinking", "240 nm"]]


def _document(revision: str, conditions: dict[str, float], quick: bool = False) -> dict:
    """Figures of these conditions, as a run leaves them."""
    shape = {"columns": ["", "s"], "note": revision}
    tables = [shape | {"title": f"Pairs: {c}", "rows": [["fit", v]]} for c, v in conditions.items()]
    rows = [[c, method, v] for c, v in conditions.items() for method in ("fit", "full")]
    tables.append({"title": "How faithful", "columns": ["condition", "method", "s"], "rows": rows, "note": ""})
    tables.append({"title": "Landings", "columns": ["", "pixels"], "rows": [["SRRF", revision]], "note": ""})
    targets = [{"what": f"{c}: error", "at_most": 1.0, "at_least": None, "measured": v} for c, v in conditions.items()]
    return {"quick": quick, "environment": {"revision": revision}, "tables": tables, "targets": targets}


def test_one_condition_is_measured_anew_and_the_others_stay():
    whole = _document("old", {"bright": 1.0, "bright, dim": 2.0, "blinking": 3.0})
    made = renewed(whole, _document("new", {"bright, dim": 5.0}), "bright, dim")
    expected = _document("old", {"bright": 1.0, "bright, dim": 5.0, "blinking": 3.0})
    expected["tables"][1]["note"] = "new"
    expected["environment"]["renewed"] = {"bright, dim": {"revision": "new"}}
    assert made == expected
    assert whole == _document("old", {"bright": 1.0, "bright, dim": 2.0, "blinking": 3.0})
    with pytest.raises(ValueError, match="quick"):
        renewed(whole, _document("new", {"bright": 5.0}, quick=True), "bright")
    wider = _document("new", {"bright, dim": 5.0})
    wider["tables"][0]["columns"] = ["", "ms"]
    with pytest.raises(ValueError, match="'Pairs: bright, dim' is not in the results, or has other columns"):
        renewed(whole, wider, "bright, dim")
    whole["tables"] = [table for table in whole["tables"] if table["title"] != "How faithful"]
    with pytest.raises(ValueError, match="'How faithful' is not in the results"):
        renewed(whole, _document("new", {"bright": 5.0}), "bright")


def test_a_condition_that_was_not_there_comes_behind_the_others():
    made = renewed(_document("old", {"bright": 1.0, "dim": 2.0}), _document("new", {"dark": 5.0}), "dark")
    expected = _document("old", {"bright": 1.0, "dim": 2.0, "dark": 5.0})
    expected["tables"][2]["note"] = "new"
    expected["environment"]["renewed"] = {"dark": {"revision": "new"}}
    assert made == expected


def test_the_picture_is_drawn(tmp_path):
    from benchmarks.paper._pictures import draw

    path = draw(tmp_path, separations=(300.0,), condition=CONDITIONS[0], geometry=SMALL)
    assert path.read_bytes().startswith(b"\x89PNG")
