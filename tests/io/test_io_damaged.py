"""Damaged files: refused with one type that names the file and the frame, or read with a note, in bounded time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from fuzz_tiff import data_spans, fuzz

from fluogan_core.io import stack as room
from fluogan_core.io.stack import read_image, read_stack
from fluogan_core.stack import UnreadableStack


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(0).poisson(900, (10, 32, 32)).astype(np.uint16)


def test_no_damage_hangs_escapes_or_loses_frames_in_silence(tmp_path):
    outcomes, faults = fuzz(400, 20261129, tmp_path)
    assert not faults
    assert outcomes["refused"] > 80
    assert outcomes["read"] > 80


def pages_apart(path: Path, stack: np.ndarray, **options) -> Path:
    with tifffile.TiffWriter(path) as writer:
        for frame in stack:
            writer.write(frame, photometric="minisblack", metadata=None, contiguous=False, **options)
    return path


def pointers(path: Path) -> list[int]:
    """Where each page's pointer to the next one lies."""
    with tifffile.TiffFile(path) as tif:
        layout = tif.tiff
        return [page.offset + layout.tagnosize + len(page.tags) * layout.tagsize for page in tif.pages]


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}], ids=str)
@pytest.mark.parametrize("skip", [1, 2])
def test_a_chain_that_skips_pages_is_noted(tmp_path, stack, options, skip):
    """One page's pointer leads past the next ones: every reader returns fewer frames without an error."""
    path = pages_apart(tmp_path / "a.tif", stack, **options)
    with tifffile.TiffFile(path) as tif:
        beyond = tif.pages[4 + skip].offset
    content = bytearray(path.read_bytes())
    place = pointers(path)[3]
    content[place : place + 4] = beyond.to_bytes(4, "little")
    path.write_bytes(content)
    read = read_stack(path)
    assert len(read.frames) == 10 - skip
    assert len(read.notes) == 1
    assert f"room for {skip} more frames" in read.notes[0]


def test_a_chain_that_ends_early_is_noted_and_refused_where_the_header_knows_better(tmp_path, stack):
    path = pages_apart(tmp_path / "a.tif", stack)
    content = bytearray(path.read_bytes())
    place = pointers(path)[3]
    content[place : place + 4] = bytes(4)
    path.write_bytes(content)
    read = read_stack(path)
    assert len(read.frames) == 4
    assert "room for 6 more frames" in read.notes[0]
    with tifffile.TiffWriter(path) as writer:
        for number, frame in enumerate(stack):
            text = "ImageJ=1.53k\nimages=10\nframes=10\n" if number == 0 else None
            writer.write(frame, description=text, metadata=None, contiguous=False)
    content = bytearray(path.read_bytes())
    place = pointers(path)[3]
    content[place : place + 4] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(UnreadableStack, match="promises 10 images, 4 pages are found, and the file has room for 6 more"):
        read_stack(path)


def test_whole_files_have_no_room_for_more(tmp_path, stack):
    for options in ({}, {"compression": "zlib"}, {"tile": (16, 16)}):
        assert read_stack(pages_apart(tmp_path / "a.tif", stack, **options)).notes == ()
        tifffile.imwrite(tmp_path / "b.tif", stack, photometric="minisblack", metadata=None, **options)
        assert read_stack(tmp_path / "b.tif").notes == ()


def test_the_number_of_the_damaged_frame_is_said(tmp_path, stack):
    path = pages_apart(tmp_path / "a.tif", stack, compression="zlib")
    content = bytearray(path.read_bytes())
    first, count = data_spans(bytes(content))[6]
    content[first : first + count] = bytes(count)
    path.write_bytes(content)
    with pytest.raises(UnreadableStack, match=r"a\.tif .*frame 6 cannot be decoded"):
        read_stack(path)
    assert len(read_stack(path, frames=(0, 6)).frames) == 6


def test_a_page_with_too_few_or_too_many_bytes_is_refused_by_number(tmp_path, stack):
    path = pages_apart(tmp_path / "a.tif", stack)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages[0].tags["StripByteCounts"].overwrite(1000)
    with pytest.raises(UnreadableStack, match="damaged at frame 0: 1000 bytes are stored, and 32 x 32 pixels take 2048"):
        read_stack(path)


@pytest.mark.parametrize("options", [{"compression": "zlib"}, {"tile": (16, 16)}], ids=str)
def test_a_page_without_bytes_is_no_dark_frame(tmp_path, stack, options):
    """Decoders fill what is not stored with zeros."""
    path = pages_apart(tmp_path / "a.tif", stack, **options)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tag = tif.pages[4].tags["TileByteCounts" if "tile" in options else "StripByteCounts"]
        tag.overwrite((0,) * tag.count if tag.count > 1 else 0)
    with pytest.raises(UnreadableStack, match="damaged at frame 4: for a part of its pixels no bytes are stored"):
        read_stack(path)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, stack, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, photometric="minisblack")
    load = room.load_frames

    def rewritten(*arguments):
        frames = load(*arguments)
        os.utime(path, ns=(1, 1))
        return frames

    monkeypatch.setattr(room, "load_frames", rewritten)
    with pytest.raises(UnreadableStack, match="was changed while it was read"):
        read_stack(path)


def test_a_header_of_millions_of_rows_is_refused_before_they_are_made(tmp_path, stack):
    path = tmp_path / "psf.tif"
    tifffile.imwrite(path, stack[0], compression="zlib", photometric="minisblack", metadata=None, rowsperstrip=8)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages[0].tags["ImageLength"].overwrite(60_000)
    with pytest.raises(UnreadableStack, match="4 of 7500 strips or tiles are stored"):
        read_image(path)


def test_a_last_frame_that_is_not_all_there_is_said_to_be_cut(tmp_path, stack):
    path = pages_apart(tmp_path / "a.tif", stack)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UnreadableStack, match="is cut short or damaged: its chain of 10 pages breaks off"):
        read_stack(path)


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_a_damaged_image_of_a_psf_is_the_same_type(tmp_path, suffix):
    image = np.random.default_rng(0).random((20, 20)).astype(np.float32)
    path = tmp_path / f"psf{suffix}"
    if suffix == ".npy":
        np.save(path, image)
    else:
        tifffile.imwrite(path, image, compression="zlib")
    content = path.read_bytes()
    refused = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        mutant = bytearray(content)
        mutant[rng.integers(130)] = rng.integers(256)
        path.write_bytes(mutant)
        try:
            read_image(path)
        except UnreadableStack as error:
            refused += str(path) in str(error)
    assert refused > 5


def test_what_the_system_refuses_stays_an_oserror(tmp_path, stack, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack)

    def refuse(self, *arguments, **options):
        raise PermissionError(13, os.strerror(13), str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError):
        read_stack(path)
