"""Faults of the places where files lie, and of how a run is ended: odd names, links, folders and disks that take nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np

from ._field import Field, outcome
from ._process import complaint, whole

__all__ = ["full_disks", "names", "outputs", "signals"]

_NOBODY = 65534
_NAMES = (
    "with blanks and 'quotes\"",
    "-begins with a dash",
    "--option",
    "new\nline",
    "tab\there",
    "äöü İıß 細胞 \U0001f52c",
    "e\u0301 beside é",
    "~",
    "$HOME;ls|cat&",
    "%s{0}%(x)d",
    "*?[a]",
    ".hidden",
    "x" * 200,
    os.fsdecode(b"no \xff UTF-8"),
)


def names(field: Field, rng: np.random.Generator) -> str:
    """The stack, the folder of the result and the working directory have names that few programs expect: the same images."""
    odd, deep = (_NAMES[int(rng.integers(len(_NAMES)))] for _ in range(2))
    place = field.new() / odd
    if rng.random() < 0.3:  # a path that is long as a whole, of names that are not
        place = place.joinpath(*["d" * 200] * 4)
    place.mkdir(parents=True)
    stack = Path(shutil.copy(field.folder / "stack0.tif", place / f"{deep}.tif"))
    out = place / deep
    more: list[str] = []
    if rng.random() < 0.5:
        ended = field.run(Path(f"./{stack.name}"), Path(f"./{deep}"), *more, before=lambda: os.chdir(place)).wait()
    else:
        ended = field.run(stack, out).wait()
    if ended.status:
        return f"{str(out)!r}: {complaint(ended) or ended.log.strip().splitlines()[-1]}"
    return outcome(field, ended, out, 0)


def outputs(field: Field, rng: np.random.Generator) -> str:
    """The folder of the result is a link, holds links where files go, may not be written to, or lies below a file."""
    out, elsewhere = field.new(), field.new()
    kind = int(rng.integers(5))
    elsewhere.mkdir()
    if kind == 0:  # a link to a folder is that folder
        out.symlink_to(elsewhere, target_is_directory=True)
        return outcome(field, field.run(field.folder / "stack0.tif", out).wait(), out, 0)
    if kind == 1:  # links inside are replaced, not followed
        out.mkdir()
        for name in ("x.tif", "b.tif", "checkpoint.pt", "report.json"):
            (elsewhere / name).write_text("mine")
            (out / name).symlink_to(elsewhere / name)
        ended = field.run(field.folder / "stack0.tif", out).wait()
        followed = [path.name for path in elsewhere.iterdir() if path.read_text(errors="replace") != "mine"]
        return f"links were followed: {followed}" if followed else outcome(field, ended, out, 0)
    if kind == 2:  # a link that leads nowhere
        out.symlink_to(field.folder / "no such folder" / "at all")
    elif kind == 3:  # below a file
        out.write_text("mine")
        out = out / "inside"
    else:  # a folder of somebody else
        out.mkdir(mode=0o555)
        for parent in (field.folder, *field.folder.parents[:2]):
            if parent != Path("/tmp"):
                parent.chmod(0o755)
    before = (lambda: os.setuid(_NOBODY)) if os.geteuid() == 0 and kind == 4 else None
    ended = field.run(field.folder / "stack0.tif", out, before=before).wait()
    if ended.status != 2:
        return f"kind {kind}: status {ended.status} ({ended.log.strip().splitlines()[-1:]})"
    return complaint(ended)


def full_disks(field: Field, rng: np.random.Generator) -> str:
    """The disk of the result has room for a part of it, or for nothing: said, and nothing half in place."""
    out = field.new()
    out.mkdir()
    room = int(rng.integers(1, 30)) * 4
    words = ["mount", "-t", "tmpfs", "-o", f"size={room}k", "tmpfs", str(out)]
    if os.geteuid() or subprocess.run(words, capture_output=True, check=False).returncode:
        return "a small disk cannot be made here: it takes the rights to mount one"
    try:
        # what finds no room there is placed in the working directory
        child = field.run(field.folder / "stack0.tif", out / "result", before=lambda: os.chdir(field.folder))
        ended = child.wait()
        if wrong := complaint(ended) or whole(out / "result"):
            return wrong
        if ended.status == 0:
            return outcome(field, ended, out / "result", 0)
        last = ended.log.strip().splitlines()[-1]
        return "" if "No space left" in last or "beside" in ended.log or "wrote" in ended.log else f"says {last!r}"
    finally:
        subprocess.run(["umount", str(out)], check=True)


def signals(field: Field, rng: np.random.Generator) -> str:
    """Ended by Ctrl-C, a batch system or a closed terminal, one or two times, then resumed: the same bytes."""
    stack, out = field.folder / "stack0.tif", field.new()
    number = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[int(rng.integers(3))]
    child = field.run(stack, out)
    time.sleep(rng.uniform(0.0, 1.1 * field.seconds))
    for _ in range(int(rng.integers(1, 3))):
        if child.running():
            os.kill(child.pid, number)
    ended = child.wait()
    # before the first step there is nothing to keep, and the system ends the process
    if ended.status not in (0, 130, -number):
        return complaint(ended) or f"status {ended.status}"
    if "Traceback" in ended.log:
        return "traceback: " + ended.log.strip().splitlines()[-1]
    if out.exists() and (wrong := whole(out)):
        return wrong
    more = ["--resume"] if (out / "checkpoint.pt").exists() else []
    return outcome(field, field.run(stack, out, *more).wait(), out, 0)
