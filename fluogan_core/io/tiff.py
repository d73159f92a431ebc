"""Where the frames of a TIFF file lie: its image series joined, its header's promises compared with its pages.

A reader of TIFF follows a chain of pages.  Where a pointer of that chain is damaged, the rest of the pages is gone without
an error.  So the pages are counted here in three ways: by the chain, by what the header promises, and by the bytes of the
file that no page accounts for.
"""

from __future__ import annotations

import itertools
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..stack import UnreadableStack
from .frames import Part, Recording
from .metadata import imagej_counts, ome_file_count, shaped_count

__all__ = ["find_recording", "of_intensities"]


#: Bytes.  Smaller frames cannot be told from the descriptions that lie between pages.
_SMALLEST_FRAME = 512
#: Tag of the photometric interpretation.
_PHOTOMETRIC = 262


def find_recording(tif: tifffile.TiffFile, path: Path) -> Recording:
    """Find the one time series of a file.

    Raises
    ------
    UnreadableStack
        If there is none, more than one, or if pages are missing.
    """
    if not len(tif.pages):
        raise UnreadableStack(f"{path} is a TIFF file without any image")
    try:
        any_image = bool(tif.series)
    except RuntimeError as error:  # of tifffile, which does not say which page is not like the first
        for index in range(len(tif.pages)):
            try:
                tif.pages[index]
            except RuntimeError:
                raise UnreadableStack(_damaged_page(path, index)) from error
        raise
    if not any_image:
        raise UnreadableStack(f"{path} is a TIFF file without any image")
    _whole_chain(tif, path)
    notes = of_intensities(tif.pages.first, path)
    parts, example = _promised_otherwise(tif, path, notes)
    if example is None:
        chosen = _chosen_series(tif, path, notes)
        for series in chosen:
            _one_time_axis(series, path, notes)
        example = chosen[0]
        parts = [Part(_extent(series)[0], series.pages, series.dataoffset, series.asarray) for series in chosen]
        if len(chosen) > 1 or example.kind in ("uniform", "generic"):
            missing = _room_for_more(tif, parts, example)
            if missing:
                notes.append(
                    f"parts of the file belong to no page and have room for {missing} more frames: if frames are missing, the "
                    "file is damaged; copy it again"
                )
    frames, (_, rows, columns) = sum(part.frames for part in parts), _extent(example)
    if frames < 2:
        raise UnreadableStack(
            f"{path} holds one frame ({rows} x {columns}); fluctuations need a stack of at least two, better 500"
        )
    dtype = np.dtype(example.dtype)
    if dtype.kind not in "iuf":
        raise UnreadableStack(
            f"{path} holds values of type {dtype}, but the camera's counts are needed, integers or real floats: save the "
            "recording as a 16-bit grey stack, before any threshold or transform"
        )
    return Recording(parts, (frames, rows, columns), dtype.newbyteorder("="), tuple(notes), example.name)


def of_intensities(page: tifffile.TiffPage, path: Path) -> list[str]:
    """Raise unless larger numbers mean more light; note where that cannot be known.

    A file without the tag is taken as counts: TIFF requires it, and tools that forget it write counts.
    """
    photometric = int(page.photometric) if _PHOTOMETRIC in page.tags else 1
    if photometric == 0 and np.dtype(page.dtype).kind in "iuf":
        raise UnreadableStack(
            f"{path} says that 0 is white and larger values are darker (photometric interpretation 0), but counts that rise "
            "with the light are needed: save the stack as 'black is zero'. In Python, where the mark is wrong and the values "
            "are counts: tifffile.imwrite(new, tifffile.imread(old), photometric='minisblack'); where it is right, write the "
            "largest value of the type minus the values"
        )
    if photometric == 32803:
        raise UnreadableStack(
            f"{path} is of a colour camera whose pixels lie behind a mosaic of filters (photometric interpretation CFA), but "
            "one intensity per pixel is needed: record with a monochrome camera, or give the pixels of one colour as a stack"
        )
    if photometric == 3 and not _is_grey(page.colormap):
        return [
            "its pixels have a colour table: their numbers are taken as counts, which those of a picture in colours are not"
        ]
    return []


def _is_grey(table: Any) -> bool:
    """Whether a colour table (3, entries) draws each number as a grey that rises with it."""
    return table is not None and bool((table == table[0]).all() and (np.diff(table[0].astype(np.int64)) > 0).all())


def _extent(series: Any) -> tuple[int, int, int]:
    """(frames, rows, columns) of a series, frames being the product of all other axes."""
    sizes = dict(zip(series.axes, series.shape))
    rows, columns = int(sizes.get("Y", 1)), int(sizes.get("X", 1))
    return math.prod(series.shape) // max(1, rows * columns), rows, columns


def _whole_chain(tif: tifffile.TiffFile, path: Path) -> None:
    """Raise if the chain of pages or the data break off before the end: readers otherwise return fewer frames silently."""
    layout, handle = tif.tiff, tif.filehandle
    last = tif.pages[-1]
    handle.seek(last.offset)
    (tags,) = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))
    handle.seek(last.offset + layout.tagnosize + tags * layout.tagsize)
    (following,) = struct.unpack(layout.offsetformat, handle.read(layout.offsetsize))
    ends = [offset + count for offset, count in zip(last.dataoffsets, last.databytecounts)]
    # where each frame has a page, that of a header which promises more than there are would be no end
    whole = tif.series[:1] if len(tif.pages) == 1 or not tif.is_shaped else []
    ends += [series.dataoffset + series.nbytes for series in whole if series.dataoffset is not None]
    if following or max(ends, default=0) > handle.size:
        raise UnreadableStack(
            f"{path} is cut short or damaged: its chain of {len(tif.pages)} pages breaks off before its end ({handle.size} "
            "bytes are there); copy or save it again"
        )


def _promised_otherwise(tif: tifffile.TiffFile, path: Path, notes: list[str]) -> tuple[list[Part], Any]:
    """The pages of a file whose ImageJ, OME or tifffile header promises another number of images than it has pages, or nothing.

    So look acquisitions that were stopped, and files that a tool joined or cut without touching the header.
    """
    pages, kind = len(tif.pages), ""
    axes: tuple[str, ...] = ()
    if tif.is_imagej:
        kind, (promised, axes) = "ImageJ", imagej_counts(tif.imagej_metadata or {})
    elif tif.is_ome and len(tif.series) == 1 and tif.series[0].kind == "ome" and ome_file_count(tif.ome_metadata) < 2:
        series = tif.series[0]
        kind, promised = "OME", _extent(series)[0]
        axes = tuple(axis for axis, size in zip(series.axes, series.shape) if size > 1 and axis not in "YX")
    elif tif.is_shaped and len(tif.series) == 1 and (counted := shaped_count(tif)) > pages:
        # fewer are those of the first of several blocks that were appended
        kind, promised = "tifffile", counted
    first = tif.pages.first
    if not kind or promised == pages or first.samplesperpixel > 1 or first.imagedepth > 1:
        return [], None
    if pages == 1:  # all frames in one page: the bytes count
        if _extent(tif.series[0])[0] < promised:
            raise UnreadableStack(
                f"{path} is cut short: its {kind} header promises {promised} images, which {tif.filehandle.size} bytes "
                "cannot hold; copy or save it again"
            )
        return [], None
    if len(axes) > 1:
        raise UnreadableStack(
            f"{path} has {pages} pages, but its {kind} header promises {promised} along {' and '.join(axes)}: which page is "
            "which cannot be told; save the one time series to reconstruct as a stack"
        )
    every = [tif.pages[index].aspage() for index in range(pages)]
    odd = next((index for index, page in enumerate(every) if page.hash != every[0].hash), None)
    if odd is not None and odd >= max(2, promised):  # something else behind the stack: a preview, a map
        return [], None
    if odd is not None:
        raise UnreadableStack(_damaged_page(path, odd))
    example: Any = _OfPages(every)
    parts = [Part(1, [page], None, page.asarray) for page in every]
    missing = _room_for_more(tif, parts, example)
    if pages < promised and missing:
        raise UnreadableStack(
            f"{path} is damaged: its {kind} header promises {promised} images, {pages} pages are found, and the file has room "
            f"for {missing} more that no page points to; copy or save it again"
        )
    why = "an acquisition that was stopped, or a file that was cut" if pages < promised else "files that were joined"
    notes.append(f"the file's {kind} header promises {promised} images, and {pages} are there ({why}): all {pages} are read")
    return parts, example


def _damaged_page(path: Path, number: int) -> str:
    return (
        f"{path} is damaged or no stack: page {number} (counted from 0) has another size or type than the frames around it; "
        "copy or save it again"
    )


@dataclass
class _OfPages:
    """What is asked of a series, of a list of pages."""

    pages: list[Any]
    kind: str = "pages"
    name: str = ""

    @property
    def axes(self) -> str:
        return "YX"

    @property
    def shape(self) -> tuple[int, int]:
        return self.pages[0].imagelength, self.pages[0].imagewidth

    @property
    def dtype(self) -> Any:
        return self.pages[0].dtype


# -- choosing among series ---------------------------------------------------------------------------------------------


def _kind_of(series: Any) -> tuple[Any, ...]:
    """What frames must share to be of one recording."""
    return (*_extent(series)[1:], np.dtype(series.dtype).str, "S" in series.axes)


def _named(series: Any) -> str:
    frames, rows, columns = _extent(series)
    size = f"{frames} x {rows} x {columns}" if frames > 1 else f"{rows} x {columns}"
    return f"{series.name!r} ({size})" if series.name else size


def _chosen_series(tif: tifffile.TiffFile, path: Path, notes: list[str]) -> list[Any]:
    """The series to read, one after the other; what is left out is noted."""
    every: list[Any] = list(tif.series)
    if every[0].kind == "ome":  # each image of OME is a recording of its own, of a camera or a position
        several = [series for series in every if _extent(series)[0] > 1]
        here = [series for series in several if any(page is not None and page.parent is tif for page in series.pages)]
        if len(several) > 1 and len(here) != 1:
            raise UnreadableStack(
                f"{path} holds {len(several)} image series ({'; '.join(map(_named, several))}), of several cameras, channels "
                "or positions; save the one to reconstruct as a stack alone"
            )
        chosen = (here or several or every)[:1]
    else:
        groups: dict[tuple[Any, ...], list[Any]] = {}
        for series in every:
            groups.setdefault(_kind_of(series), []).append(series)
        large = [group for group in groups.values() if sum(_extent(series)[0] for series in group) > 1]
        if len(large) > 1:
            sizes = "; ".join(" + ".join(map(_named, group)) for group in large)
            raise UnreadableStack(
                f"{path} holds {len(large)} image series of different sizes or types ({sizes}); save the one to reconstruct "
                "as a stack alone"
            )
        chosen = large[0] if large else every[:1]
        if len(chosen) > 1:
            counts = [_extent(series)[0] for series in chosen]
            single = all(count == 1 for count in counts)
            what = "pages were" if single else f"blocks of {_listed(counts)} frames were"
            notes.append(
                f"its {len(counts)} {what} appended: they are read as one stack of {sum(counts)} frames, in file order"
            )
    left = [series for series in every if all(series is not one for one in chosen)]
    if left and sum(_extent(series)[0] for series in chosen) > 1:
        _not_between(left, chosen, path)
        notes.append(f"left out of the file: {'; '.join(map(_named, left))}, beside {_named(chosen[0])}")
    return chosen


def _listed(counts: list[int]) -> str:
    """Numbers in a row, equal ones counted."""
    runs = [(number, len(list(run))) for number, run in itertools.groupby(counts)]
    return ", ".join(str(number) if length == 1 else f"{length} times {number}" for number, length in runs)


def _not_between(left: list[Any], chosen: list[Any], path: Path) -> None:
    """Raise if a page of another size lies between the frames: it is a damaged frame rather than a preview."""
    numbers = [page.index for series in chosen for page in series.pages if page is not None and isinstance(page.index, int)]
    others = [page.index for series in left for page in series.pages if page is not None and isinstance(page.index, int)]
    between = [number for number in others if numbers and min(numbers) < number < max(numbers)]
    if between and chosen[0].kind != "ome":
        raise UnreadableStack(_damaged_page(path, between[0]))


def _one_time_axis(series: Any, path: Path, notes: list[str]) -> None:
    """Raise unless one axis besides rows and columns is longer than 1."""
    others = {axis: size for axis, size in zip(series.axes, series.shape) if size > 1 and axis not in "YX"}
    if "S" in others:
        raise UnreadableStack(
            f"{path} holds colour ({others['S']} samples per pixel, as in RGB), but one intensity per pixel is needed: "
            "split the channels and save the fluorescence channel as a grey stack"
        )
    if len(others) > 1:
        found = ", ".join(f"{axis} = {size}" for axis, size in others.items())
        raise UnreadableStack(
            f"{path} has more than one axis besides rows and columns ({found}), but one time series is needed: keep "
            "one channel and one plane (in ImageJ: Image > Duplicate...) and save that as a stack"
        )
    if "C" in others:
        notes.append(f"the file calls its {others['C']} images channels: they are taken as frames, one after the other")


def _room_for_more(tif: tifffile.TiffFile, parts: list[Part], example: Any) -> int:
    """How many more frames fit into the parts of the file that no page accounts for; Micro-Manager keeps other things there."""
    if tif.is_micromanager:
        return 0
    stored, spans = [], [(0, 16)]
    for part in parts:
        for page in part.pages:
            if page is None or page.parent is not tif:
                return 0
            spans.append((page.offset, page.offset + 256))
            spans += [(offset, offset + count) for offset, count in zip(page.dataoffsets, page.databytecounts)]
            stored.append(sum(page.databytecounts))
        if part.offset is not None:
            _, rows, columns = _extent(example)
            block = part.frames * rows * columns * np.dtype(example.dtype).itemsize
            spans.append((part.offset, part.offset + block))
    spans += [(tag.valueoffset, tag.valueoffset + tag.valuebytecount) for tag in tif.pages.first.tags]
    for series in tif.series:
        for page in series.pages:
            if page is not None:
                spans += [(offset, offset + count) for offset, count in zip(page.dataoffsets, page.databytecounts)]
                spans.append((page.offset, page.offset + 256))
    least, end, missing = sorted(stored)[len(stored) // 2], 0, 0
    if least < _SMALLEST_FRAME:
        return 0
    for first, last in [*sorted(spans), (tif.filehandle.size, 0)]:
        missing += max(0, first - end) // least
        end = max(end, last)
    return missing
