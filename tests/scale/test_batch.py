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
    assert "not a TIFF" in kept[1]["status"]
    light = images(fg.scale.load_plan(tmp_path / "out" / "a"))["x"].sum(dtype=float) * 20
    assert float(kept[0]["light"]) == pytest.approx(light)
    assert float(kept[0]["light"]) == pytest.approx(float(kept[2]["light"]), rel=1e-3), "the mean is the same"


def test_two_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="a comes twice"):
        fg.scale.batch(["x/a.tif", "y/a.tif"], tmp_path, psi=operator((24, 24)))
