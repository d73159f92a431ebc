"""The output folder of a command: one run at a time, and a result that does not fit there lies elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .shell import COMPLAINTS, PlacedElsewhere, checking_input
from .tables import say_written

__all__ = ["place_result", "version_of", "writing_to"]


@contextlib.contextmanager
def writing_to(output: Path) -> Iterator[Path]:
    """Make the folder if need be, try that it can be written to, and hold its lock for the whole run."""
    from ..io.files import prepare_directory
    from ..io.lock import sole_writer

    with contextlib.ExitStack() as held:
        with checking_input(*COMPLAINTS):
            directory = prepare_directory(output)
            held.enter_context(sole_writer(directory))
        yield directory


def version_of(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def place_result(write: Callable[[Path], list[Path]], directory: Path, others: Sequence[Path] = ()) -> None:
    """Write a result, in another folder where it cannot be placed in ``directory``, and say what was written where.

    Parameters
    ----------
    write : callable
        Writes to the folder that it is called with; returns the files.
    directory : Path
    others : sequence of Path
        Files of this run that were written to ``directory`` before.

    Raises
    ------
    PlacedElsewhere
        If the result lies in another folder; the message says in which, and why.
    """
    from ..io.files import place_or_rescue

    files, place, reason = place_or_rescue(write, directory)
    say_written([*files, *(() if reason else others)], place)
    if reason:
        raise PlacedElsewhere(f"the result could not be written to {directory} ({reason}): it lies in {place}")
