"""Faults, tried by the hundred: what is lost, mixed, or wrong in silence (``python -m benchmarks.faults``)."""

from __future__ import annotations
