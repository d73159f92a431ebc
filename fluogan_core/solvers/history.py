"""What happened at each step, one array per quantity."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["History"]

#: Every quantity that a step records; what does not exist in a phase is NaN there.
QUANTITIES = (
    "step",
    "phase",
    "objective",
    "fidelity",
    "adversarial",
    "sparsity",
    "total_variation",
    "prior",
    "smoothness",
    "w_train",
    "w_held_out",
    "gradient_penalty",
    "step_x",
    "step_b",
    "residual",
    "change_x",
    "change_b",
    "seconds",
)


class History:
    """Rows of :data:`QUANTITIES`."""

    def __init__(self) -> None:
        self._columns: dict[str, list[float]] = {name: [] for name in QUANTITIES}

    def __len__(self) -> int:
        return len(self._columns["step"])

    def append(self, **values: float) -> dict[str, float]:
        """Add one row and return it; a quantity not given is NaN."""
        row = {name: float(values.get(name, math.nan)) for name in QUANTITIES}
        for name, value in row.items():
            self._columns[name].append(value)
        return row

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the columns as float64 arrays."""
        return {name: np.array(column) for name, column in self._columns.items()}

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore what :meth:`arrays` gave."""
        self._columns = {name: [float(v) for v in arrays[name]] for name in QUANTITIES}
