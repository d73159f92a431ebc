"""Formats are read piece by piece, and give what reading them whole gives."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import tifffile
import zarr

import fluogan_core as fg
from fluogan_core.io.lazy import open_lazily, spool
from fluogan_core.scale.source import source_of

FRAMES = np.random.default_rng(0).integers(0, 60000, (12, 21, 34)).astype(np.uint16)


def as_tiff(path, **options):
    tifffile.imwrite(path, FRAMES, photometric="minisblack", **options)


def as_zarr(path, **options):
    zarr.create_array(str(path), data=FRAMES, chunks=(5, 8, 8), **options)


def as_ome_zarr(path):
    group = zarr.open_group(str(path), mode="w")
    group.create_array("0", data=np.stack([FRAMES, FRAMES + 1], axis=1)[:, :, None], chunks=(4, 1, 1, 8, 8))
    axes = [{"name": name} for name in "tcz"] + [{"name": name, "unit": "micrometer"} for name in "yx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1, 0.107, 0.107]}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}


WAYS = {
    "plain.tif": as_tiff,
    "imagej.tif": lambda path: as_tiff(path, imagej=True, resolution=(1e4 / 1070, 1e4 / 1070), metadata={"unit": "um"}),
    "big.tif": lambda path: as_tiff(path, byteorder=">"),
    "ome.ome.tif": lambda path: as_tiff(path, ome=True, metadata={"axes": "TYX"}),
    "packed.tif": lambda path: as_tiff(path, compression="zlib"),
    "frames.npy": lambda path: np.save(path, FRAMES),
    "v3.zarr": as_zarr,
    "v2.zarr": lambda path: as_zarr(path, zarr_format=2),
    "spooled.zarr": lambda path: spool(FRAMES, path, block=5, piece=8),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_piece_is_that_of_the_whole(name, tmp_path):
    WAYS[name](tmp_path / name)
    stack = open_lazily(tmp_path / name)
    assert stack.shape == FRAMES.shape
    assert stack.dtype == np.uint16
    np.testing.assert_array_equal(stack.read(), FRAMES)
    piece = stack.read(range(3, 11), slice(2, 19), slice(5, 30))
    np.testing.assert_array_equal(piece, FRAMES[3:11, 2:19, 5:30])
    np.testing.assert_array_equal(stack.read(slice(1, 12, 3), slice(20, 21)), FRAMES[1:12:3, 20:21])
    assert stack.identity() == open_lazily(tmp_path / name).identity()
    if name.endswith(".tif"):
        np.testing.assert_array_equal(fg.read_stack(tmp_path / name).frames, FRAMES)


def test_one_channel_of_several(tmp_path):
    as_ome_zarr(tmp_path / "two.zarr")
    both = np.stack([FRAMES, FRAMES + 1], axis=1)
    tifffile.imwrite(tmp_path / "two.ome.tif", both, ome=True, photometric="minisblack", metadata={"axes": "TCYX"})
    tifffile.imwrite(tmp_path / "two.tif", both, imagej=True, metadata={"axes": "TCYX"})
    tifffile.imwrite(tmp_path / "packed.ome.tif", both, ome=True, compression="zlib", metadata={"axes": "TCYX"})
    for name in ("two.zarr", "two.ome.tif", "two.tif", "packed.ome.tif"):
        for channel in (0, 1):
            stack = open_lazily(tmp_path / name, channel=channel)
            np.testing.assert_array_equal(stack.read(range(4, 9), slice(3, 8)), FRAMES[4:9, 3:8] + channel, err_msg=name)
        with pytest.raises(ValueError, match=r"channel|more than one axis"):
            open_lazily(tmp_path / name)
        with pytest.raises(ValueError, match="no channel 2"):
            open_lazily(tmp_path / name, channel=2)
    assert open_lazily(tmp_path / "two.zarr", channel=0).pixel_size_nm == 107


def test_a_dask_array_is_written_some_frames_at_a_time(tmp_path):
    array = pytest.importorskip("dask.array")
    spool(array.from_array(FRAMES, chunks=(3, 21, 34)), tmp_path / "frames.zarr")
    np.testing.assert_array_equal(open_lazily(tmp_path / "frames.zarr").read(), FRAMES)


def test_what_holds_no_recording_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        open_lazily(tmp_path / "missing.tif")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="no Zarr array"):
        open_lazily(tmp_path / "folder")
    np.save(tmp_path / "image.npy", FRAMES[0])
    with pytest.raises(ValueError, match="axes of time"):
        open_lazily(tmp_path / "image.npy")
    np.save(tmp_path / "nan.npy", np.where(FRAMES.max() == FRAMES, np.nan, FRAMES))
    with pytest.raises(ValueError, match="NaN or infinite values in frame"):
        open_lazily(tmp_path / "nan.npy").read()
    np.save(tmp_path / "waves.npy", FRAMES.astype(complex))
    with pytest.raises(ValueError, match="integers or real floats"):
        open_lazily(tmp_path / "waves.npy")
    whole = (tmp_path / "image.npy").read_bytes()
    for content in (b"", b"no frames", whole[:150]):
        (tmp_path / "bad.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"is no \.npy file of numbers, or a damaged one"):
            open_lazily(tmp_path / "bad.npy")


def test_memory_that_is_short_where_a_file_is_read_makes_smaller_pieces_too(tmp_path, monkeypatch):
    np.save(tmp_path / "stack.npy", FRAMES)

    def no_room(*_, **__):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(np.lib.format, "open_memmap", no_room)
    with pytest.raises(MemoryError, match="no memory to read"):
        open_lazily(tmp_path / "stack.npy")


def test_frames_that_lie_in_a_file_are_read_there_and_others_are_copied_once(tmp_path):
    stack = np.random.default_rng(0).poisson(50.0, (20, 24, 24)).astype(np.uint16) + 100
    np.save(tmp_path / "stack.npy", stack)
    mapped = np.load(tmp_path / "stack.npy", mmap_mode="r")
    zarr.create_array(os.fspath(tmp_path / "stack.zarr"), data=stack, chunks=(5, 24, 24))
    array = zarr.open_array(os.fspath(tmp_path / "stack.zarr"), mode="r")
    for recording, path in ((mapped, "stack.npy"), (array, "stack.zarr")):
        source = source_of(recording, tmp_path / "out", channel=None, planned=False)
        assert source.path == tmp_path / path
        np.testing.assert_array_equal(source.read(), stack)
    parts = (mapped[1:], mapped[:, :8], mapped.transpose(0, 2, 1), np.array(stack), zarr.create_array({}, data=stack))
    for number, part in enumerate(parts):
        source = source_of(part, tmp_path / f"out{number}", channel=None, planned=False)
        assert source.path == tmp_path / f"out{number}" / "frames.zarr"
        np.testing.assert_array_equal(source.read(), np.asarray(part[:]))
        assert source_of(part, tmp_path / f"out{number}", channel=None, planned=True).path == source.path
        other = np.array(part[:])
        other[len(other) // 2] += 1
        with pytest.raises(ValueError, match="of other frames"):
            source_of(other, tmp_path / f"out{number}", channel=None, planned=True)
