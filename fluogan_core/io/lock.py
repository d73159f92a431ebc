"""One writer per folder: who writes holds a lock, which ends with the process however that ends."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..backend.replace import is_left_over

__all__ = ["LOCK_NAME", "sole_writer"]

log = logging.getLogger("fluogan_core")

#: The file that is locked; it says who holds the lock.
LOCK_NAME = ".fluogan.lock"


@contextlib.contextmanager
def sole_writer(directory: Path) -> Iterator[None]:
    """Hold the lock of a folder, so that the images and the report in it are of one run.

    The operating system holds the lock for the process: that of a killed one is free at once.  The same thread may take it
    again.  What killed processes left half written in the folder is removed.

    Parameters
    ----------
    directory : Path
        An existing folder.

    Raises
    ------
    ValueError
        If another process, or another thread of this one, holds the lock; the message says which.
    """
    path = directory / LOCK_NAME
    lock = FileLock(path, is_singleton=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"{directory} is being written to by another run ({_holder(path)}): wait until it has ended, or choose another "
            "output directory"
        ) from None
    except (OSError, NotImplementedError) as error:  # a file system without locks
        log.debug("%s cannot be locked (%s)", directory, error)
        yield
        return
    outermost = lock.lock_counter == 1
    try:
        if outermost:
            _sign(path)
            _clear(directory)
        yield
    finally:
        if outermost:
            with contextlib.suppress(OSError):  # the folder may be gone
                path.unlink()  # while it is held: whoever has opened it sees that it is gone, and tries again
        lock.release()


def _sign(path: Path) -> None:
    """Say in the lock file who holds it."""
    since = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")


def _holder(path: Path) -> str:
    try:
        return " ".join(path.read_text(encoding="utf-8", errors="replace").split()) or "which did not say its name"
    except OSError:
        return "which did not say its name"


def _clear(directory: Path) -> None:
    for path in directory.glob(".*.part"):
        if is_left_over(path.name) and path.is_file():
            with contextlib.suppress(OSError):
                path.unlink()
