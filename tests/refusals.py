"""How the command line refuses, as its tests assert it."""

from __future__ import annotations


def assert_refused(done: tuple[int, str, str], status: int, message: str) -> None:
    """Assert one line of complaint with this text, and the status."""
    code, _, err = done
    complaints = [line for line in err.splitlines() if not line.startswith("fluogan: ") or "error" in line]
    assert code == status, err
    assert len(complaints) == 1, err
    assert complaints[0].startswith("fluogan: error: ")
    assert message in complaints[0]
