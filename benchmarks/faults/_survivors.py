"""Changes that no test notices and that are no fault, by module and reason."""

from __future__ import annotations

EXPLAINED: dict[str, dict[str, list[str]]] = {}
