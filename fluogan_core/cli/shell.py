"""How a command ends: exit statuses, complaints in one line, the log on standard error, signals between steps.

The work does not depend on its log: standard error may be closed, full, or read by nobody.

Exit status: 0 done, 1 failed while working, 2 bad usage or input, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

log = logging.getLogger("fluogan_core")

__all__ = [
    "BAD_INPUT",
    "COMPLAINTS",
    "FAILED",
    "INTERRUPTED",
    "BadInput",
    "Interrupted",
    "PlacedElsewhere",
    "Unfinished",
    "checking_input",
    "complain",
    "logging_to_standard_error",
    "said",
    "stopping_at_once",
    "stopping_between_steps",
]


FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


#: Signals that ask for an end: Ctrl-C, a batch system, a terminal that is closed.
_STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

#: What the library raises while it checks what it was given.
COMPLAINTS = (ValueError, TypeError, OSError)


class BadInput(Exception):
    """What the user gave cannot be used."""


class Interrupted(Exception):
    """Ctrl-C, with a word on what is kept."""


class Unfinished(Exception):
    """The work stopped, with a word on what is kept."""


class PlacedElsewhere(Exception):
    """The result could not be placed where it was asked for, and lies in another folder."""


@contextlib.contextmanager
def checking_input(*kinds: type[Exception]) -> Iterator[None]:
    """Take complaints of these kinds for what they are, words about what the user gave: exit status 2."""
    try:
        yield
    except kinds as error:
        if type(error).__name__ == "LinAlgError":  # a ValueError too, but nobody's input
            raise
        raise BadInput(said(error)) from error


def said(error: BaseException) -> str:
    """An error in words, on one line."""
    from ..io import files  # NumPy and more, which --help does not need

    return files.said(error)


class _ToStandardError(logging.Handler):
    """Prints to whatever standard error is at that moment, so that a live progress bar keeps its line."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


@contextlib.contextmanager
def logging_to_standard_error() -> Iterator[None]:
    """Show the library's log while a command runs; tifffile's only with --verbose, our errors say the same shorter."""
    ours, theirs = logging.getLogger("fluogan_core"), logging.getLogger("tifffile")
    before = ours.level, theirs.level
    handler = _ToStandardError()
    handler.setFormatter(logging.Formatter("fluogan: %(message)s"))
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    theirs.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(before[0])
        theirs.setLevel(before[1])


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does: raise KeyboardInterrupt, where what is done lies on the disk already.

    A signal that is ignored stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in _STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, signal.default_int_handler) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stopping_between_steps() -> Iterator[Callable[[], None]]:
    """Let Ctrl-C, SIGTERM and SIGHUP wait for the end of a step, so that a checkpoint holds whole steps; a second one does not.

    A signal that is ignored, as SIGHUP is under nohup, stays ignored.

    Yields a function that raises KeyboardInterrupt once a signal has come.
    """
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        log.info("stopping after this step; once more stops at once")

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield check
        return
    heard = [number for number in _STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in heard}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def complain(text: str, status: int, state: dict[str, Any]) -> int:
    if state["verbose"]:
        traceback.print_exc()
    print(f"fluogan: error: {text}", file=sys.stderr)
    return status
