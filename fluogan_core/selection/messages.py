"""The log of many fits in a row: what each of them would say is said once."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

__all__ = ["each_message_once"]

log = logging.getLogger("fluogan_core")


@contextlib.contextmanager
def each_message_once(said: set[str]) -> Iterator[None]:
    """Let the log say a thing once, not again for every fit."""

    here = threading.get_ident()

    def first(record: logging.LogRecord) -> bool:
        if record.thread != here:  # what others log meanwhile is theirs
            return True
        new = record.msg not in said
        said.add(record.msg)
        return new

    log.addFilter(first)
    try:
        yield
    finally:
        log.removeFilter(first)
