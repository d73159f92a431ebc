"""Zarr and OME-Zarr in, OME-Zarr out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hosts import need

import fluogan_core as fg

need("zarr")

import zarr  # noqa: E402

from fluogan_core.interop.zarr import read_stack, write_result  # noqa: E402

UNITS = ("second", "micrometer", "micrometer", "micrometer")


def image(path, data, axes="tzyx", scale=(0.05, 0.5, 0.065, 0.065), version="0.5", units=UNITS):
    """An OME-Zarr image of this version."""
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("full", data=data)
    named = [
        {"name": n, "type": {"t": "time", "c": "channel"}.get(n, "space")} | ({"unit": u} if u else {})
        for n, u in zip(axes, units)
    ]
    transformations = [{"type": "scale", "scale": list(scale)}]
    multiscales = [{"axes": named, "datasets": [{"path": "full", "coordinateTransformations": transformations}]}]
    group.attrs.update(
        {"ome": {"version": version, "multiscales": multiscales}} if version == "0.5" else {"multiscales": multiscales}
    )
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_ome_zarr_image_is_read_with_its_units(tmp_path, counts, version):
    found = read_stack(image(tmp_path / "a.zarr", counts[:, None], version=version))
    assert np.array_equal(found.frames, counts)
    assert found.frames.dtype == counts.dtype
    assert (found.pixel_size_nm, found.frame_interval_s) == (pytest.approx(65.0), pytest.approx(0.05))


def test_frames_that_are_called_z_are_read_without_an_interval(tmp_path, counts):
    found = read_stack(image(tmp_path / "a.zarr", counts[None]))
    assert np.array_equal(found.frames, counts)
    assert (found.pixel_size_nm, found.frame_interval_s) == (pytest.approx(65.0), None)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_plain_array_is_read_in_part(tmp_path, counts, zarr_format):
    zarr.create_array(tmp_path / "a.zarr", data=counts, zarr_format=zarr_format, chunks=(4, 5, 5))
    for source in (tmp_path / "a.zarr", str(tmp_path / "a.zarr"), zarr.open(tmp_path / "a.zarr", mode="r")):
        found = read_stack(source, frames=slice(2, 20, 3), roi=(1, 2, 8, 7))
        assert np.array_equal(found.frames, counts[2:20:3, 1:9, 2:9])
        assert found.taken == range(2, 20, 3)
        assert found.pixel_size_nm is None


def test_what_is_no_stack_is_refused(tmp_path, counts):
    with pytest.raises(FileNotFoundError, match="there is no"):
        read_stack(tmp_path / "nothing.zarr")
    (tmp_path / "text").write_text("no zarr")
    with pytest.raises(fg.UnreadableStack, match="is no Zarr array or group"):
        read_stack(tmp_path / "text")
    group = zarr.open_group(tmp_path / "group.zarr", mode="w")
    group.create_array("movie", data=counts)
    with pytest.raises(fg.UnreadableStack, match=r"is no OME-Zarr image .* give one of \['movie'\]"):
        read_stack(group)
    with pytest.raises(fg.UnreadableStack, match="must hold one time series"):
        read_stack(image(tmp_path / "two.zarr", np.stack([counts, counts], axis=1)))
    with pytest.raises(fg.UnreadableStack, match="must be \\(frames, rows, columns\\)"):
        read_stack(zarr.array(counts[0]))
    with pytest.raises(fg.UnreadableStack, match="are not square: 65 x 130 nm"):
        read_stack(image(tmp_path / "odd.zarr", counts[:, None], scale=(1, 1, 0.065, 0.13)))
    group.attrs["ome"] = {"multiscales": [{"axes": []}]}
    with pytest.raises(fg.UnreadableStack, match="damaged OME-Zarr metadata"):
        read_stack(group)
    with pytest.raises(ValueError, match="reaches outside"):
        read_stack(zarr.array(counts), roi=(0, 0, 13, 1))
    with pytest.raises(TypeError, match=r"source must be a path, a zarr\.Array or a zarr\.Group, got ndarray"):
        read_stack(counts)
    for frames in (3, [0, 1]):
        with pytest.raises(TypeError, match="frames must be a slice"):
            read_stack(zarr.array(counts), frames=frames)


def test_what_cannot_be_written_is_said(tmp_path, result):
    with pytest.raises(TypeError, match="result must be a Result, got ndarray"):
        write_result(result.x, tmp_path / "x.zarr")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere to write x\.zarr in"):
        write_result(result, tmp_path / "nowhere" / "x.zarr")
    assert not list(tmp_path.iterdir())


def test_a_result_is_written_in_its_true_place(tmp_path, result):
    path = write_result(result, tmp_path / "result.zarr", pixel_size_nm=100)
    root = zarr.open(path, mode="r")
    for name, data, scale, first in (
        ("emissions", result.x, 50.0, -25.0),
        ("background", result.b, 100.0, 0.0),
        ("mean", result.mean, 100.0, 0.0),
    ):
        ome = root[name].attrs["ome"]
        (level,) = ome["multiscales"][0]["datasets"]
        assert np.array_equal(root[name][level["path"]][:], data)
        assert ome["version"] == "0.5"
        assert [axis["unit"] for axis in ome["multiscales"][0]["axes"]] == ["nanometer", "nanometer"]
        assert level["coordinateTransformations"] == [
            {"type": "scale", "scale": [scale, scale]},
            {"type": "translation", "translation": [first, first]},
        ]
    # zarr-python 3 alone reads format 3: the file says so
    assert json.loads((path / "emissions" / "0" / "zarr.json").read_text())["dimension_names"] == ["y", "x"]


def test_it_is_written_whole_or_not_at_all(tmp_path, result, monkeypatch):
    monkeypatch.setattr(zarr.Group, "create_array", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_result(result, tmp_path / "result.zarr")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    write_result(result, tmp_path / "result.zarr")
    with pytest.raises(FileExistsError, match="is there already"):
        write_result(result, tmp_path / "result.zarr")
