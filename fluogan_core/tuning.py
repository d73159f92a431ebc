"""Every number that was found by trial, in one place, with where it comes from.

A number that follows from the model, from an option of the user or from a published rule is not here; it stands in the formula
that uses it.  Functions take the section that they need as an argument with these values as default: a trial passes other
values and replaces nothing in a module.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT", "Tuning"]


@dataclass(frozen=True)
class Tuning:
    """The sections, one per room or phase that has numbers by trial."""


DEFAULT = Tuning()
