"""Damaged TIFFs by the hundred: every one is read whole, read with a note, or refused with the promised type, in bounded time.

    python tests/io/fuzz_tiff.py [MUTANTS] [SEED]

prints what gave way, and how often each outcome came; exit status 1 if anything gave way.
"""

from __future__ import annotations

import collections
import contextlib
import io
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from fluogan_core.io.stack import read_stack
from fluogan_core.stack import UnreadableStack

FRAMES, ROWS, COLUMNS = 16, 24, 26
#: Seconds that no damaged file of a few kilobytes may take.
LONGEST = 5.0


def whole_files(folder: Path) -> dict[str, bytes]:
    """Small valid stacks in the dialects that the reader tells apart."""
    stack = np.random.default_rng(0).poisson(80, (FRAMES, ROWS, COLUMNS)).astype(np.uint16)
    made = {}
    for name, options in {
        "tifffile": {},
        "plain": {"metadata": None},
        "ImageJ": {"imagej": True, "metadata": {"axes": "TYX"}},
        "OME": {"ome": True, "metadata": {"axes": "TYX"}},
        "zlib": {"compression": "zlib", "metadata": None},
        "tiled": {"tile": (16, 16), "metadata": None},
        "big-endian": {"byteorder": ">", "metadata": None},
        "BigTIFF": {"bigtiff": True},
    }.items():
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, stack, photometric="minisblack", **options)
        made[name] = buffer.getvalue()
    path = folder / "appended.tif"
    for frame in stack:
        tifffile.imwrite(path, frame, photometric="minisblack", append=True)
    made["appended pages"] = path.read_bytes()
    with tifffile.TiffWriter(path) as writer:
        for frame in stack:
            writer.write(frame, photometric="minisblack", metadata=None, contiguous=False)
    made["page by page"] = path.read_bytes()
    return made


def data_spans(content: bytes) -> list[tuple[int, int]]:
    """Where the pixels of a whole file lie."""
    with tifffile.TiffFile(io.BytesIO(content)) as tif:
        return [span for page in tif.pages for span in zip(page.dataoffsets, page.databytecounts)]


def damaged(content: bytes, spans: list[tuple[int, int]], rng: np.random.Generator) -> bytes:
    """One of several kinds of damage; most of it outside the pixels, where a byte means most."""
    mutant = bytearray(content)
    inside = np.zeros(len(content), bool)
    for first, count in spans:
        inside[first : first + count] = True
    outside = np.flatnonzero(~inside)
    kind = rng.integers(5)
    if kind == 0:
        del mutant[rng.integers(len(mutant)) :]
    elif kind == 1:
        first = int(rng.integers(len(mutant)))
        mutant[first : first + 128] = bytes(len(mutant[first : first + 128]))
    else:
        for _ in range(rng.integers(1, 4)):
            place = int(rng.choice(outside)) if kind < 4 else int(rng.integers(len(mutant)))
            mutant[place] = mutant[place] ^ (1 << rng.integers(8)) if kind % 2 else rng.integers(256)
    return bytes(mutant)


def outcome(path: Path) -> tuple[str, str]:
    """What became of a file, and what gave way ("" if nothing did)."""
    started = time.monotonic()
    gave_way = ""
    try:
        read = read_stack(path)
    except UnreadableStack as error:
        result = "refused"
        if str(path) not in str(error):
            gave_way = f"the message does not name the file: {error}"
    except MemoryError:
        result = "too large"
    except Exception as error:
        result = "another type"
        gave_way = f"{type(error).__name__}: {error}"
    else:
        result = "noted" if read.notes else "read"
        if not read.notes and read.frames.shape != (FRAMES, ROWS, COLUMNS):
            gave_way = f"{read.frames.shape} without a word"
    if time.monotonic() - started > LONGEST:
        gave_way = f"took {time.monotonic() - started:.0f} s"
    return result, gave_way


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Neither logger says a word of the files that are read meanwhile."""
    loggers = [logging.getLogger(name) for name in ("tifffile", "fluogan_core")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before):
            logger.setLevel(level)


def fuzz(count: int, seed: int, folder: Path) -> tuple[collections.Counter[str], list[str]]:
    """Read ``count`` damaged files; return how often each outcome came, and what gave way."""
    outcomes: collections.Counter[str] = collections.Counter()
    faults = []
    files = list(whole_files(folder).items())
    spans = [data_spans(content) for _, content in files]
    path = folder / "mutant.tif"
    with quietly(), np.errstate(all="ignore"):
        for number in range(count):
            rng = np.random.default_rng((seed, number))
            which = number % len(files)
            name, content = files[which]
            path.write_bytes(damaged(content, spans[which], rng))
            result, gave_way = outcome(path)
            outcomes[result] += 1
            if gave_way:
                faults.append(f"{name}, seed ({seed}, {number}): {gave_way}")
    return outcomes, faults


if __name__ == "__main__":
    mutants, start = (int(word) for word in [*sys.argv[1:], *("20000", "1")[len(sys.argv) - 1 :]])
    with tempfile.TemporaryDirectory() as place:
        counted, gave = fuzz(mutants, start, Path(place))
    print("\n".join(gave[:40]))
    print(f"{mutants} damaged files, seed {start}: {dict(counted)}; {len(gave)} gave way")
    sys.exit(bool(gave))
