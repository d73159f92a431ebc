"""The command line in forked processes: they start within milliseconds, and each may be killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LONGEST", "Child", "Ended", "complaint", "whole"]

#: Seconds that no small run may take, on a busy machine too: what takes longer hangs.
LONGEST = 120.0


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status, negative for a signal, None if it had to be stopped; and what it said."""

    status: int | None
    log: str


class Child:
    """``fluogan WORDS`` in a process of its own, standard output and error in a file.

    Parameters
    ----------
    words : sequence of str
    log : Path
    before : callable, optional
        Called in the new process before the command: limits, closed streams.
    """

    def __init__(self, words: Sequence[str], log: Path, before: Callable[[], object] | None = None) -> None:
        self.log = log
        self.started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            self._be(words, before)

    def _be(self, words: Sequence[str], before: Callable[[], object] | None) -> None:
        status = 70
        try:
            descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            for stream in (1, 2):
                os.dup2(descriptor, stream)
            os.close(descriptor)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if before is not None:
                before()
            from fluogan_core.cli import main

            status = main([str(word) for word in words])
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status or 0)

    def kill(self) -> None:
        """End it as a power cut does."""
        os.kill(self.pid, signal.SIGKILL)

    def running(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait(self) -> Ended:
        """Wait for its end; stop it if it hangs."""
        hangs = False
        while self.running():
            if time.monotonic() - self.started > LONGEST:
                hangs = True
                self.kill()
            time.sleep(0.005)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return Ended(None if hangs else status, self.log.read_text(errors="replace") if self.log.exists() else "")


def complaint(ended: Ended) -> str:
    """What is wrong with how a process ended: it hung, crashed, or showed Python's insides; empty if nothing is."""
    if ended.status is None:
        return "hangs"
    if ended.status < 0:
        return f"dies by signal {-ended.status}"
    if "Traceback (most recent call last)" in ended.log or ended.status == 70:
        return "traceback: " + ended.log.strip().splitlines()[-1]
    if ended.status and "error:" not in ended.log:
        return f"status {ended.status} without a word"
    return ""


def whole(folder: Path) -> str:
    """What is wrong with the files of a result: images that are not those of the report beside them; empty if nothing is."""
    report = folder / "report.json"
    if not report.exists():
        return ""
    try:
        digests = json.loads(report.read_text(encoding="utf-8"))["files_sha256"]
    except (ValueError, KeyError) as error:
        return f"report.json is not whole: {error}"
    for name, digest in digests.items():
        path = folder / name
        if not path.exists():
            return f"{name} is gone"
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return f"{name} is not that of the report"
    return ""
