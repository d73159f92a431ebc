"""The zoo: scenes depend on their seed and number only, the truth is in the frames, peers find it, and runs can be joined."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks._harness import Options, check_document
from benchmarks._study import FEW_STEPS
from benchmarks.zoo import _run
from benchmarks.zoo.__main__ import main
from benchmarks.zoo._judge import Judge
from benchmarks.zoo._optics import make_spots
from benchmarks.zoo._peers import PEERS, Seen, left_out
from benchmarks.zoo._plan import AXES, BACKGROUNDS, CAMERAS, KINETICS, PSFS, STRUCTURES, Scene, draw_scene
from benchmarks.zoo._recording import record
from benchmarks.zoo._report import report, right_light, worst
from benchmarks.zoo._run import FULL, kept, part_of, run_scene, run_scenes
from benchmarks.zoo.look import main as look
from benchmarks.zoo.look import words

ROOT = Path(__file__).resolve().parents[2]

#: Two bright spots of nothing but light: what every method must find.
PLAIN = dataclasses.replace(
    draw_scene(1, 0),
    structure="isolated",
    background="flat",
    psf="Gaussian",
    kinetics="fast",
    camera="uniform",
    light=400.0,
    level=5.0,
    fwhm_nm=300.0,
    pixel_nm=100.0,
    factor=4,
    size=24,
    described=1.0,
    frames=120,
    kappa=0.0,
    on_frames=0.5,
    on_share=0.2,
    photons=0.0,
    gain=2.0,
    offset=100.0,
    noise=2.0,
    excess=1.0,
    pixel_gain=0.0,
    pixel_offset=0.0,
    stripe=0.0,
    row_shift=0.0,
    camera_known=True,
)


@pytest.fixture(scope="module")
def plain():
    return record(PLAIN)


# -- the plan ---------------------------------------------------------------------------------------------------------


def test_a_scene_depends_on_seed_and_number_only():
    forwards = [draw_scene(7, number) for number in range(20)]
    backwards = [draw_scene(7, number) for number in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert draw_scene(8, 3) != draw_scene(7, 3)
    # another process, which draws this one scene alone, and its frames
    code = (
        "import zlib; from benchmarks.zoo._plan import draw_scene; from benchmarks.zoo._recording import record; "
        "print(zlib.crc32(record(draw_scene(7, 3)).frames.tobytes()))"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert int(said) == zlib.crc32(record(forwards[3]).frames.tobytes())


def test_the_plan_covers_what_users_vary():
    scenes = [draw_scene(1, number) for number in range(200)]
    for axis, values in (
        ("structure", STRUCTURES),
        ("background", BACKGROUNDS),
        ("psf", PSFS),
        ("kinetics", KINETICS),
        ("camera", CAMERAS),
    ):
        found = [getattr(scene, axis) for scene in scenes]
        assert min(found.count(value) for value in values) >= 10, axis
    assert [scene.structure for scene in scenes].count("bar") == 20
    for name, low, high in (("light", 1.5, 2000), ("frames", 20, 2000), ("level", 0, 800), ("size", 20, 32)):
        found = [getattr(scene, name) for scene in scenes]
        assert low <= min(found) < low + 0.05 * (high - low)
        assert low + 0.6 * (high - low) < max(found) <= high
    widths = [scene.fwhm_nm / scene.pixel_nm for scene in scenes]
    assert min(widths) >= 1.99
    assert max(widths) <= 4.51
    assert max(scene.kappa for scene in scenes) > 300
    for axis, place in AXES.items():
        assert 2 <= len({place(scene, scene.light) for scene in scenes}) <= len(STRUCTURES), axis


def test_a_scene_survives_its_document():
    scene = draw_scene(1, 4)
    assert Scene.of(json.loads(json.dumps(scene.document()))) == scene


# -- recordings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("psf", PSFS)
def test_spots_hold_all_light_at_the_place_of_their_source(psf):
    scene = dataclasses.replace(PLAIN, psf=psf)
    spots = make_spots(scene, np.random.default_rng(0))
    at = np.array([[12.3, 11.8], [11.0, 13.5]])
    table = spots.table(at, scene.size)
    np.testing.assert_allclose(table.sum(axis=(1, 2)), 1.0, atol=0.05)  # the rings reach beyond the field
    centres = np.arange(scene.size) + 0.5
    for row, source in zip(table, at):
        core = np.where(row > 0.2 * row.max(), row, 0.0)
        middle = [(core.sum(axis=1 - k) * centres).sum() / core.sum() for k in (0, 1)]
        np.testing.assert_allclose(middle, source, atol=0.2 if psf == "aberrated" else 0.1)
    assert spots.fwhm == pytest.approx(3.0, rel=0.06)


@pytest.mark.parametrize("kinetics", KINETICS)
def test_the_mean_frame_is_the_light_that_was_sent(kinetics):
    kappa = 5.0 if kinetics == "eq. (1)" else 0.0
    scene = dataclasses.replace(PLAIN, kinetics=kinetics, kappa=kappa, photons=800.0, on_frames=2.0, background="bump")
    made = record(scene)
    residual = made.photons.mean(axis=0, dtype=np.float64) - made.mean_light - made.background
    pulls = residual / np.sqrt(made.variance_of_mean)
    assert abs(pulls.mean()) < 4 / np.sqrt(pulls.size)
    assert pulls.std() == pytest.approx(1.0, abs=0.12)
    assert made.background.mean() == pytest.approx(scene.level)
    # all light lies within the field here
    assert made.light.sum() == pytest.approx(made.mean_light.sum(), rel=0.02)


@pytest.mark.parametrize("camera", ["unequal pixels", "stripes", "EM-CCD"])
def test_the_variance_of_the_mean_holds_what_the_camera_adds(camera):
    unequal = {"pixel_gain": 0.02, "pixel_offset": 1.0, "stripe": 1.0 if camera == "stripes" else 0.0}
    amplified = {"gain": 20.0, "noise": 20.0, "excess": 2.0}
    scene = dataclasses.replace(PLAIN, camera=camera, frames=400, **(amplified if camera == "EM-CCD" else unequal))
    made = record(scene)
    residual = made.photons.mean(axis=0, dtype=np.float64) - made.mean_light - made.background
    assert (residual / np.sqrt(made.variance_of_mean)).std() == pytest.approx(1.0, abs=0.2)


def test_rows_are_displaced_by_a_scan():
    straight = record(dataclasses.replace(PLAIN, frames=20))
    shifted = record(dataclasses.replace(PLAIN, frames=20, camera="row shift", row_shift=0.25))
    columns = np.arange(PLAIN.size)
    middles = [(one.mean_light * columns).sum(axis=1) / one.mean_light.sum(axis=1) for one in (straight, shifted)]
    bright = straight.mean_light.sum(axis=1) > 0.2 * straight.mean_light.sum(axis=1).max()
    moved = (middles[1] - middles[0])[bright]
    odd = np.arange(PLAIN.size)[bright] % 2 == 1
    np.testing.assert_allclose(moved, np.where(odd, 0.25, -0.25), atol=0.02)


# -- judging ----------------------------------------------------------------------------------------------------------


def test_the_truth_is_right_and_errors_are_what_they_are(plain):
    judge = Judge(plain)
    perfect = judge(plain.light)
    assert perfect.nrmse == {"60": 0.0, "100": 0.0}
    assert perfect.correlation["60"] == pytest.approx(1.0)
    assert len(judge.structures) == len(perfect.light) > 2
    assert all(right_light(perfect.document()))
    half = judge(0.5 * plain.light)
    assert half.nrmse["60"] == pytest.approx(0.5)
    assert not any(right_light(half.document()))
    free = judge(0.5 * plain.light, has_unit=False)
    assert free.nrmse["60"] == pytest.approx(0.0, abs=1e-12)
    assert free.light == []
    with pytest.raises(ValueError, match="of shape"):
        judge(plain.light[1:])


def test_stripes_are_in_the_error_of_a_structures_light(plain, rng):
    scene = dataclasses.replace(plain.scene, stripe=0.5)
    even, striped = (Judge(dataclasses.replace(plain, scene=each)) for each in (plain.scene, scene))
    stripes = 0.5 / scene.gain * rng.standard_normal((4000, 2, scene.size))
    for (mask, _, without), (_, _, error) in zip(even.structures, striped.structures):
        share = mask.reshape(scene.size, scene.factor, scene.size, scene.factor).mean(axis=(1, 3))
        sums = stripes[:, 0] @ share.sum(axis=1) + stripes[:, 1] @ share.sum(axis=0)
        alone = 2 * (0.5 / scene.gain) ** 2 * (share**2).sum()  # of each pixel, which the variance of the mean holds
        assert error**2 - without**2 + alone == pytest.approx(sums.var(), rel=0.1)


@pytest.mark.parametrize("transposed", [False, True])
def test_pairs_are_two_lines_and_bars_are_one(transposed):
    for structure, two in (("pair", True), ("bar", False)):
        scene = dataclasses.replace(
            PLAIN, structure=structure, separation_nm=300.0, kinetics="eq. (1)", kappa=1.0, density=1.0, transposed=transposed
        )
        made = record(scene)
        assert Judge(made)(made.light).two is two


# -- peers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_finds_the_spots(name, plain):
    if name in left_out():
        pytest.skip(left_out()[name])
    peer, judge = PEERS[name], Judge(plain)
    images = peer.images(Seen(plain.photons, plain.psi()))
    assert peer.published in images
    verdict = judge(images[peer.published], has_unit=peer.has_unit)
    flat = judge(np.full_like(plain.light, plain.light.mean()))
    assert verdict.nrmse["100"] < 0.9 * flat.nrmse["100"]
    assert verdict.correlation["100"] > 0.5
    for truth, found, _ in verdict.light:
        assert found == pytest.approx(truth, rel=0.4)


def test_peers_that_deconvolve_are_sharper_than_the_mean(plain):
    judge, seen = Judge(plain), Seen(plain.photons, plain.psi())
    error = {}
    for name in ("temporal mean", "Richardson-Lucy", "MLEM", "FISTA-TV", "SACD", "RLGC", "MSSR"):
        peer = PEERS[name]
        error[name] = judge(peer.images(seen)[peer.published], has_unit=peer.has_unit).nrmse["60"]
    assert max(value for name, value in error.items() if name != "temporal mean") < error["temporal mean"]


# -- runs -------------------------------------------------------------------------------------------------------------


def test_parts_share_the_scenes():
    parts = [part_of(10, f"{k}/3") for k in (1, 2, 3)]
    assert sorted(number for part in parts for number in part) == list(range(10))
    for wrong in ("0/3", "4/3", "1", "a/b"):
        with pytest.raises(ValueError, match="a part is k/n"):
            part_of(10, wrong)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Two scenes, run in two parts."""
    folder = tmp_path_factory.mktemp("scenes")
    for number in (2, 1):
        run_scenes(1, [number], folder, options=FEW_STEPS)
    return folder


def test_a_run_goes_on_where_it_was_cut_short(work, monkeypatch, capsys):
    before = {path.name: path.read_bytes() for path in work.iterdir()}
    assert sorted(before) == ["1-0001.json", "1-0001.npz", "1-0002.json", "1-0002.npz"]
    run_scenes(1, [1, 2], work, options=FEW_STEPS)
    assert {path.name: path.read_bytes() for path in work.iterdir()} == before
    assert capsys.readouterr().err == ""
    found = json.loads(before["1-0001.json"])
    assert (work / "1-0001.json").write_text(json.dumps(found | {"scene": found["scene"] | {"light": 1.0}}))
    with pytest.raises(ValueError, match="another plan of scenes"):
        run_scenes(1, [1], work)
    (work / "1-0001.json").write_bytes(before["1-0001.json"])


def test_another_revision_renews_the_library_and_keeps_the_peers(work, monkeypatch):
    before = json.loads((work / "1-0001.json").read_text())
    monkeypatch.setattr(_run, "revision", lambda: "later")
    monkeypatch.setattr(_run, "_others", lambda *_: pytest.fail("the peers ran again"))
    run_scenes(1, [1], work, options=FEW_STEPS)  # nothing to do
    run_scenes(1, [1], work, options=dataclasses.replace(FEW_STEPS, warm_steps=40), renew=True)
    after = json.loads((work / "1-0001.json").read_text())
    assert (after["revision"], after["peers"]) == ("later", before["peers"])
    assert after["library"]["verdicts"] != before["library"]["verdicts"]


def test_what_the_parts_found_becomes_one_document(work, tmp_path):
    done = list(kept(work, 1, 200))
    assert [one["scene"]["number"] for one in done] == [1, 2]
    document = report(done, Options(quick=True, seed=1), "zoo", 200).document()
    check_document(document)
    tables = {table["title"]: table for table in document["tables"]}
    assert tables["What ran"]["rows"][0][:2] == [2, 200]
    assert tables["All scenes"]["rows"][0][0] == 2
    for axis in AXES:
        assert sum(row[1] for row in tables[f"By {axis}"]["rows"]) == 2
    ratios = {}
    for one in done:
        best = min(peer["published"]["nrmse"]["60"] for peer in one["peers"].values())
        ratios[one["scene"]["number"]] = one["library"]["verdicts"][FULL]["nrmse"]["60"] / best
    assert [one["scene"]["number"] for one in worst(done)] == sorted(ratios, key=ratios.__getitem__, reverse=True)
    targets = {target["what"]: target["measured"] for target in document["targets"]}
    assert targets["NRMSE at 60 nm over the best single setting's, worst scene"] == pytest.approx(max(ratios.values()))
    with pytest.raises(ValueError, match="no scene is done"):
        report([], Options(), "zoo", 200)


def test_the_command_reports_what_is_done(work, tmp_path, capsys):
    page = tmp_path / "docs" / "zoo.md"
    page.parent.mkdir()
    page.write_text("<!-- table: zoo -->\n<!-- end -->\n")
    words = ["--merge", "--quick", "--scenes", "3", "--work", str(work), "--results", str(tmp_path), "--docs", str(page.parent)]
    main(words)
    assert "**The ten worst**" in page.read_text()
    assert (page.parent / "images" / "zoo.png").stat().st_size > 10_000
    check_document(json.loads((tmp_path / "zoo.json").read_text()))
    # a part that leaves scenes to others says so and writes nothing
    (tmp_path / "zoo.json").unlink()
    main(["--part", "2/2", "--scenes", "3", "--work", str(work), "--results", str(tmp_path), "--quick"])
    assert "2 of 3 scenes are done" in capsys.readouterr().err
    assert not (tmp_path / "zoo.json").exists()
    with pytest.raises(SystemExit):
        main(["--quick"])
    assert "say where they may go" in capsys.readouterr().err


def test_one_scene_in_words(work, capsys):
    done = next(kept(work, 1, 200))
    said = words(done)
    assert "structure: mesh" in said
    for name in (FULL, *done["peers"]):
        assert f"\n{name} " in said
    wrong = [*done["library"]["verdicts"][FULL]["light"][0]]
    wrong[1] = 2.0 * wrong[0]
    done["library"]["verdicts"][FULL]["light"] = [wrong]
    assert "2.00*" in words(done)
    with pytest.raises(SystemExit):
        look(["19"])
    assert "SEED-NUMBER" in capsys.readouterr().err


def test_a_refused_gain_is_kept_and_the_scene_goes_on(monkeypatch):
    from benchmarks.zoo import _run as module

    whole = module.fg.calibrate

    def refuses(stack, psi, *, camera=None):
        if camera is None:
            raise ValueError("the gain cannot be read")
        return whole(stack, psi, camera=camera)

    monkeypatch.setattr(module.fg, "calibrate", refuses)
    document, images = run_scene(dataclasses.replace(PLAIN, camera_known=False), options=FEW_STEPS, peers={})
    assert document["library"]["refused"] == "the gain cannot be read"
    assert set(images) == {"truth", "mean", "full method", "mean fit", "background"}
