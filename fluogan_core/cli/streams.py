"""Standard output and error that cost no result: closed, full, read by nobody, or unable to spell a character."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["Stream", "standard_streams"]

#: How characters of the messages are spelled where the terminal has ASCII only.
_SPELLED = {"±": "+-", "µ": "u", "×": "x", "…": "...", "–": "-", "—": "-", "κ": "kappa", "Ψ": "Psi", "√": "sqrt"}
_ERRORS = "fluogan_core.spelled"


class Stream:
    """A text stream whose reader may go away: what it cannot write is dropped, and :attr:`lost` keeps why.

    Parameters
    ----------
    stream : text stream or None
        None where the process has none.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """Write ``text`` or drop it."""
        return self._try("write", text) or len(text)

    def flush(self) -> None:
        """Flush if there is anything to flush to."""
        self._try("flush")

    def isatty(self) -> bool:
        """Whether somebody looks at it."""
        return bool(self._stream is not None and self.lost is None and self._try("isatty"))

    def _try(self, name: str, *arguments: Any) -> Any:
        if self._stream is None or self.lost is not None:
            return None
        try:
            return getattr(self._stream, name)(*arguments)
        except OSError as error:
            self.lost = error
        except ValueError as error:  # closed
            if not getattr(self._stream, "closed", False):
                raise
            self.lost = OSError(str(error))
        _discard(self._stream)
        return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _discard(stream: Any) -> None:
    """Let what the stream still holds go nowhere, else the interpreter complains of it at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()


def _spelled(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of file names as they are, other characters in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    made = b""
    for character in error.object[error.start : error.end]:
        if "\udc80" <= character <= "\udcff":
            made += bytes([ord(character) - 0xDC00])
        else:
            made += _SPELLED.get(character, "?").encode("ascii")
    return made, error.end


def _hold_descriptors() -> None:
    """Open what is closed of descriptors 0 to 2: the next file would get the number, and be written to as if it were it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number


@contextlib.contextmanager
def standard_streams() -> Iterator[tuple[Stream, Stream]]:
    """Put :class:`Stream` in place of standard output and error, and yield both."""
    _hold_descriptors()
    codecs.register_error(_ERRORS, _spelled)
    real = sys.stdout, sys.stderr
    before = [getattr(stream, "errors", None) for stream in real]
    for stream in real:
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors=_ERRORS)
    out, err = Stream(real[0]), Stream(real[1])
    sys.stdout, sys.stderr = out, err
    try:
        yield out, err
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = real
        for stream, errors in zip(real, before):
            if hasattr(stream, "reconfigure") and errors is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.reconfigure(errors=errors)
