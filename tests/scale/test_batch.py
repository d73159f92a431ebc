"""Many recordings, one table."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.scale import fit
from fluogan_core.scale.batch import _names_of

from .conftest import KNOWN, OPTIONS, images, operator, scene


def test_one_that_fails_costs_no_other(tmp_path):
    stack, _ = scene((24, 24), 20)
    np.save(tmp_path / "a.npy", stack)
    (tmp_path / "b.tif").write_bytes(b"no image")
    np.save(tmp_path / "c.npy", stack[::-1])
    (tmp_path / "notes.txt").touch()
    files = fg.scale.recordings_in(tmp_path)
    assert [file.name for file in files] == ["a.npy", "b.tif", "c.npy"]
    rows = fg.scale.batch(files, tmp_path / "out", psi=operator((24, 24)), options=OPTIONS, progress=False, **KNOWN)
    assert [row["status"] == "done" for row in rows] == [True, False, True]
    with (tmp_path / "out" / "table.csv").open() as handle:
        kept = list(csv.DictReader(handle))
    assert [row["folder"] for row in kept] == ["a", "b", "c"]
    assert kept[1]["status"].startswith("is text ('no image'...), not a TIFF file"), (
        "said once, without the path that stands before it"
    )
    light = images(fg.scale.load_plan(tmp_path / "out" / "a"))["x"].sum(dtype=float) * 20
    assert float(kept[0]["light"]) == pytest.approx(light)
    assert float(kept[0]["light"]) == pytest.approx(float(kept[2]["light"]), rel=1e-3), "the mean is the same"


def test_channels_are_done_one_after_the_other_and_each_recording_has_its_own_pixels(tmp_path):
    stacks = [scene((24, 24), 20, seed=seed)[0] for seed in range(2)]
    np.save(tmp_path / "both.npy", np.stack(stacks, axis=1))
    np.save(tmp_path / "last.npy", stacks[1])
    asked = []

    def psi(path, channel):
        asked.append((path.name, channel))
        return operator((24, 24))

    given = {"psi": psi, "options": OPTIONS, "progress": False} | KNOWN
    rows = fg.scale.batch([tmp_path / "both.npy", tmp_path / "last.npy"], tmp_path / "out", **given)
    assert [(row["folder"], row["channel"], row["status"]) for row in rows] == [
        ("both-c0", 0, "done"),
        ("both-c1", 1, "done"),
        ("last", None, "done"),
    ]
    assert asked == [("both.npy", 0), ("both.npy", 1), ("last.npy", None)]
    alone, second = (images(fg.scale.load_plan(tmp_path / "out" / name))["x"] for name in ("last", "both-c1"))
    np.testing.assert_array_equal(alone, second)
    only = fg.scale.batch([tmp_path / "both.npy"], tmp_path / "only", channel=1, **given)
    assert [(row["folder"], row["channel"]) for row in only] == [("both", 1)]


def test_recordings_that_are_called_alike_get_folders_of_their_own(tmp_path):
    """A plate has a folder for each well, and a recording of the same name in each."""
    names = ["A1/stack.ome.tif", "A2/stack.ome.tif", "A2/other.1.npy", "A2/other.2.npy", "A1/one.npy", "A1/one.tif"]
    made = _names_of([tmp_path / name for name in names])
    assert made[:4] == ["A1-stack", "A2-stack", "other.1", "other.2"]
    assert made[4].endswith("A1-one.npy")
    assert made[5].endswith("A1-one.tif")
    with pytest.raises(ValueError, match=r"a\.tif comes twice"):
        fg.scale.batch(["x/a.tif", "x/a.tif"], tmp_path, psi=operator((24, 24)))


def test_processes_take_whole_recordings_where_there_are_enough(tmp_path, monkeypatch):
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", scene((24, 24), 20, seed=ord(name))[0])
    (tmp_path / "d.npy").write_bytes(b"no frames")
    given = {"psi": operator((24, 24)), "options": OPTIONS, "progress": False} | KNOWN
    files = fg.scale.recordings_in(tmp_path)
    rows = fg.scale.batch(files, tmp_path / "two", engine=2, **given)
    assert [row["status"] == "done" for row in rows] == [True, True, True, False]
    assert (tmp_path / "two" / "table.csv").read_text().count("\n") == 5
    one = fg.scale.batch(files, tmp_path / "one", **given)
    assert [row | {"folder": ""} for row in one] == [row | {"folder": ""} for row in rows]
    with ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(fit, "fit_field", lambda *_, **__: pytest.fail("computed again"))
        assert fg.scale.batch(files, tmp_path / "two", engine=pool, **given) == rows


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"tile": 4}, "tile"),
        ({"halo": 0}, "halo"),
        ({"window": 1}, "window"),
        ({"step": 3}, "give window="),
        ({"window": 10, "step": 0}, "step"),
        ({"recalibrate": True}, "give window="),
    ],
)
def test_sizes_that_no_recording_can_take_are_said_once_before_any_work(tmp_path, sizes, words):
    with pytest.raises(ValueError, match=words):
        fg.scale.batch([tmp_path / "a.npy"], tmp_path / "out", psi=operator((24, 24)), **sizes)
    assert not (tmp_path / "out").exists()
