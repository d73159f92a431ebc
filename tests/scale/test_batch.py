"""Many recordings, one table."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import fluogan_core as fg

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
    assert asked == [("both.npy", None), ("both.npy", 0), ("both.npy", 1), ("last.npy", None)]
    alone, second = (images(fg.scale.load_plan(tmp_path / "out" / name))["x"] for name in ("last", "both-c1"))
    np.testing.assert_array_equal(alone, second)
    only = fg.scale.batch([tmp_path / "both.npy"], tmp_path / "only", channel=1, **given)
    assert [(row["folder"], row["channel"]) for row in only] == [("both", 1)]


def test_two_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="a comes twice"):
        fg.scale.batch(["x/a.tif", "y/a.tif"], tmp_path, psi=operator((24, 24)))
