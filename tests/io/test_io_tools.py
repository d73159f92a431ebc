"""Stacks as tools leave them: pages appended, headers that promise other counts, several cameras, packed pixels."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

import fluogan_core as fg
from fluogan_core.io.lazy import open_lazily
from fluogan_core.io.stack import read_image, read_stack
from fluogan_core.stack import UnreadableStack

ROWS, COLUMNS = 24, 30


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60_000, (12, ROWS, COLUMNS)).astype(np.uint16)


@pytest.fixture
def noted(caplog: pytest.LogCaptureFixture) -> Callable[..., np.ndarray]:
    """Read a stack whose one note must hold these words, in the log too; return its frames."""

    def read(path: Path, *words: str, **options) -> np.ndarray:
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="fluogan_core"):
            made = read_stack(path, **options)
        assert len(made.notes) == 1, made.notes
        for word in words:
            assert word in made.notes[0]
        assert f"{path}: {made.notes[0]}" in caplog.messages
        return made.frames

    return read


def ome_xml(images: list[str]) -> str:
    return f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{"".join(images)}</OME>'


def ome_image(name: str, frames: int, pages: list[int], pixel_um: float = 0.1, columns: int = COLUMNS) -> str:
    """One image of OME-XML, whose frames lie in these pages of the file."""
    data = "".join(f'<TiffData FirstT="{t}" IFD="{page}" PlaneCount="1"/>' for t, page in enumerate(pages))
    return (
        f'<Image ID="Image:{name}" Name="{name}"><Pixels ID="Pixels:{name}" DimensionOrder="XYZCT" Type="uint16" '
        f'SizeX="{columns}" SizeY="{ROWS}" SizeZ="1" SizeC="1" SizeT="{frames}" PhysicalSizeX="{pixel_um}" '
        f'PhysicalSizeY="{pixel_um}"><Channel ID="Channel:{name}" SamplesPerPixel="1"/>{data}</Pixels></Image>'
    )


def write_pages(path: Path, pages: list[np.ndarray], description: str | None = None) -> Path:
    """One page after the other, the description in the first."""
    with tifffile.TiffWriter(path) as writer:
        for number, page in enumerate(pages):
            text = description if number == 0 else None
            writer.write(page, description=text, metadata=None, contiguous=False, photometric="minisblack")
    return path


# -- appended -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"metadata": None}, {"compression": "zlib"}, {"bigtiff": True}], ids=str)
def test_pages_appended_one_by_one_are_one_stack(tmp_path, stack, options):
    path = tmp_path / "a.tif"
    for frame in stack:
        tifffile.imwrite(path, frame, append=path.exists(), photometric="minisblack", **options)
    read = read_stack(path)
    np.testing.assert_array_equal(read.frames, stack)
    np.testing.assert_array_equal(read_stack(path, frames=(3, 9), roi=(1, 2, 5, 6)).frames, stack[3:9, 1:6, 2:8])
    assert len(read.notes) == (0 if options == {"metadata": None} else 1)  # without a header they are plain pages


def test_appended_blocks_are_one_stack_with_a_note(tmp_path, stack, noted):
    path = tmp_path / "a.tif"
    for first, last in ((0, 5), (5, 10), (10, 12)):
        tifffile.imwrite(path, stack[first:last], append=path.exists(), photometric="minisblack")
    np.testing.assert_array_equal(noted(path, "2 times 5, 2", "12 frames"), stack)
    np.testing.assert_array_equal(noted(path, "12 frames", frames=slice(1, None, 3)), stack[1::3])
    np.testing.assert_array_equal(noted(path, "12 frames", frames=(4, 6), roi=(0, 0, 3, 3)), stack[4:6, :3, :3])


def test_blocks_of_unequal_size_are_refused(tmp_path, stack):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(stack)
        writer.write(stack[:, :4])
    with pytest.raises(UnreadableStack, match="2 image series of different sizes"):
        read_stack(tmp_path / "a.tif")


def test_the_series_with_frames_is_read_and_what_is_left_out_is_named(tmp_path, stack, noted):
    """A preview before the stack, of another size."""
    path = write_pages(tmp_path / "a.tif", [stack[0, :7, :8], *stack])
    np.testing.assert_array_equal(noted(path, "left out of the file: 7 x 8"), stack)
    after = write_pages(tmp_path / "b.tif", [*stack, stack[0, :7, :8]])
    np.testing.assert_array_equal(noted(after, "left out of the file: 7 x 8"), stack)


@pytest.mark.parametrize("number", [6, 7])
def test_a_page_of_another_size_among_the_frames_is_refused(tmp_path, stack, number):
    path = write_pages(tmp_path / "a.tif", [*stack[:number], stack[number, :, :-1], *stack[number + 1 :]])
    with pytest.raises(UnreadableStack, match=rf"page {number} \(counted from 0\) has another size"):
        read_stack(path)


# -- headers that promise other counts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["images=200\nframes=200\n", "images=200\nslices=200\n", "images=200\n", "images=5\nframes=5\n"]
)
def test_imagej_headers_that_promise_other_counts_than_there_are_pages(tmp_path, stack, noted, header):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, description=f"ImageJ=1.53k\n{header}", metadata=None)
    promised = header.split("=")[1].split()[0]
    np.testing.assert_array_equal(noted(path, f"promises {promised} images, and 12 are there"), stack)
    np.testing.assert_array_equal(read_stack(path, frames=(2, 12), roi=(2, 3, 4, 5)).frames, stack[2:, 2:6, 3:8])


@pytest.mark.parametrize("promised", [13, 14, 500])
def test_pages_that_were_taken_out_of_a_stack_of_tifffile_are_no_frames(tmp_path, stack, noted, promised):
    """A tool that keeps some pages keeps the header: what lies between the pages was read as frames."""
    header = json.dumps({"shape": [promised, ROWS, COLUMNS]})
    path = write_pages(tmp_path / "a.tif", [*stack], header)
    assert open_lazily(path).shape == stack.shape
    np.testing.assert_array_equal(noted(path, f"tifffile header promises {promised} images, and 12 are there"), stack)


def test_imagej_channels_that_are_not_all_there_are_not_guessed(tmp_path, stack):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, description="ImageJ=1.53k\nimages=200\nchannels=2\nframes=100\n", metadata=None)
    with pytest.raises(UnreadableStack, match="12 pages, but its ImageJ header promises 200 along channels and frames"):
        read_stack(path)


def test_an_imagej_file_of_one_page_that_cannot_hold_what_it_promises_is_cut_short(tmp_path, stack):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack[0], description="ImageJ=1.53k\nimages=200\nframes=200\n", metadata=None)
    with pytest.raises(UnreadableStack, match="promises 200 images, which"):
        read_stack(path)


def test_several_frames_in_one_page_are_cut_to_the_region(tmp_path, stack):
    """As tifffile writes a tiled or compressed volume: one page, a depth."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, volumetric=True, tile=(4, 16, 16), compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 1
    np.testing.assert_array_equal(read_stack(path).frames, stack)
    np.testing.assert_array_equal(read_stack(path, roi=(3, 4, 10, 11), frames=(2, 9)).frames, stack[2:9, 3:13, 4:15])


def test_channels_taken_for_frames_are_noted(tmp_path, stack, noted):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "CYX"}, photometric="minisblack")
    np.testing.assert_array_equal(noted(path, "calls its 12 images channels"), stack)


def test_what_was_taken_of_the_file_is_kept(tmp_path, stack):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, photometric="minisblack")
    for frames, taken in (
        (None, range(12)), ((2, 7), range(2, 7)), (slice(-5, None, 2), range(7, 12, 2)), ((None, -1), range(11)),
    ):  # fmt: skip
        read = read_stack(path, frames=frames, roi=(1, 2, 3, 4))
        assert read.taken == taken
        assert read.roi == (1, 2, 3, 4)
        assert read.path == path
    assert read_stack(path).roi is None


# -- OME ----------------------------------------------------------------------------------------------------------------


def test_ome_that_promises_more_frames_than_there_are_is_read_with_a_note(tmp_path, stack, noted):
    path = write_pages(tmp_path / "a.ome.tif", list(stack), ome_xml([ome_image("camera", 50, list(range(12)))]))
    np.testing.assert_array_equal(noted(path, "OME header promises 50 images, and 12 are there"), stack)


def test_ome_of_several_cameras_names_them(tmp_path, stack):
    xml = ome_xml([ome_image("left", 6, list(range(6))), ome_image("right", 6, list(range(6, 12)))])
    with pytest.raises(UnreadableStack, match=r"'left' \(6 x 24 x 30\); 'right' \(6 x 24 x 30\)"):
        read_stack(write_pages(tmp_path / "a.ome.tif", list(stack), xml))


def test_ome_with_one_recording_names_what_it_leaves_out_and_takes_its_pixel(tmp_path, stack, noted):
    xml = ome_xml([ome_image("overview", 1, [0], 0.5), ome_image("camera", 11, list(range(1, 12)), 0.1)])
    path = write_pages(tmp_path / "a.ome.tif", list(stack), xml)
    np.testing.assert_array_equal(noted(path, "left out of the file: 'overview' (24 x 30)"), stack[1:])
    assert read_stack(path).pixel_size_nm == 100


# -- units --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "per_unit"),
    [("micrometers", 10.0), ("Micrometer", 10.0), ("micrometres", 10.0), ("microns", 10.0), ("nanometers", 0.01),
     ("nanometer", 0.01), ("millimeters", 1e4), ("µm", 10.0), ("meters", 1e7)],
)  # fmt: skip
def test_units_spelt_in_words(tmp_path, stack, unit, per_unit):
    path = tmp_path / "a.tif"
    written = unit.replace("µ", "\\u00B5")
    tifffile.imwrite(path, stack, imagej=True, resolution=(per_unit, per_unit), metadata={"axes": "TYX", "unit": written})
    assert read_stack(path).pixel_size_nm == pytest.approx(100)


@pytest.mark.parametrize(("unit", "interval"), [("milliseconds", 20.0), ("microseconds", 2e4), ("seconds", 0.02), ("µs", 2e4)])
def test_units_of_time_spelt_in_words(tmp_path, stack, unit, interval):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "TYX", "TimeIncrement": interval, "TimeIncrementUnit": unit}
    tifffile.imwrite(path, stack, ome=True, metadata=metadata, photometric="minisblack")
    assert read_stack(path).frame_interval_s == pytest.approx(0.02)


# -- what needs another package -----------------------------------------------------------------------------------------


def retagged(path: Path, stack: np.ndarray, tag: str, value: int) -> Path:
    """A zlib file (of which no decoder is asked for pixels) that calls itself something else."""
    tifffile.imwrite(path, stack, compression=None if tag == "BitsPerSample" else "zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for page in tif.pages:
            page.tags[tag].overwrite(value)
    return path


@pytest.mark.parametrize(
    ("tag", "value"), [("Compression", 5), ("Compression", 7), ("Compression", 50000), ("BitsPerSample", 12)]
)
@pytest.mark.parametrize("read", [read_stack, read_image])
def test_what_needs_imagecodecs_says_so(tmp_path, stack, tag, value, read, monkeypatch):
    """LZW, JPEG, zstd and packed 12-bit pixels."""
    if "imagecodecs" in sys.modules:
        pytest.skip("imagecodecs is installed")
    path = retagged(tmp_path / "a.tif", stack[: 12 if read is read_stack else 1], tag, value)
    try:
        with tifffile.TiffFile(path) as tif:
            tif.pages[0].asarray()
    except Exception as error:
        if "imagecodecs" not in str(error) and not isinstance(error, ImportError):
            pytest.skip("this Python or tifffile has a decoder of its own")
    with pytest.raises(UnreadableStack, match=r"install imagecodecs \(pip install 'fluogan-core\[formats\]'\)"):
        read(path)


def test_the_type_of_refusals_is_public():
    assert issubclass(fg.UnreadableStack, ValueError)
    assert fg.UnreadableStack is UnreadableStack
