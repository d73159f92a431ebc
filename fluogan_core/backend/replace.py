"""A file that is put in place at once: written under a name of its own, flushed to the disk, then renamed."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

__all__ = ["is_left_over", "replace_file", "stage_file"]

Write = Callable[[BinaryIO], object]

_LEFT_OVER = re.compile(r"\..+\.[0-9a-f]{16}\.part")


def stage_file(path: Path, write: Write) -> Path:
    """Let ``write`` fill a new file beside ``path``; the caller renames it.

    The file's name is drawn at random and must be new, so that two processes never share one and no link that somebody has
    planted is followed.  It is readable for whom the process' umask lets read.

    Parameters
    ----------
    path : Path
        Where the file will be put.
    write : callable
        Called with the open binary file.

    Returns
    -------
    Path
        The new file, whole and on the disk.  If ``write`` raises there is none.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    descriptor = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(descriptor, "w+b") as handle:
            write(handle)
            handle.flush()
            os.fsync(handle.fileno())
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # writing to a descriptor does not know it
            error.filename = os.fspath(path)
        raise
    return temporary


def replace_file(path: Path, write: Write) -> Path:
    """Let ``write`` fill a new file, then put it in place of ``path``: readers find the old file or the new one, whole."""
    temporary = stage_file(path, write)
    try:
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def is_left_over(name: str) -> bool:
    """Whether a file name is one of :func:`stage_file`, which a killed process may leave."""
    return _LEFT_OVER.fullmatch(name) is not None
