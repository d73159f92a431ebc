"""Progress of a long job: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

__all__ = ["progress_reporter"]

log = logging.getLogger("fluogan_core")

#: Seconds between two log lines where there is no terminal: a choice of the interface, it touches no result.
_QUIET_INTERVAL = 20.0


@contextlib.contextmanager
def progress_reporter(total: int, done: int, show: bool | None) -> Iterator[Callable[[int, int, str], None]]:
    """Yield ``report(done, total, text)``.

    Parameters
    ----------
    total, done : int
        Steps in all (as known at the start), and steps that a resumed run has behind it.
    show : bool or None
        A bar on standard error: always, never, or (None) if that is a terminal.
    """
    if show is None:
        show = sys.stderr.isatty()
    if not show:
        last = time.monotonic()

        def note(steps: int, total: int, text: str) -> None:
            nonlocal last
            if time.monotonic() - last >= _QUIET_INTERVAL or steps == total:
                last = time.monotonic()
                log.info("step %d of %d: %s", steps, total, text)

        yield note
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<42}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda steps, total, text: bar.update(task, completed=steps, total=total, description=text)
