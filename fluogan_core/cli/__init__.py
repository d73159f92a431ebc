"""The command line, ``fluogan``."""

from .commands import main

__all__ = ["main"]
