"""Whether what an operator offers agrees: linear, its adjoint, columns, sums, squares, table and norm, by random images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..backend.typing import Array
from .operator import Operator
from .polyphase import Tables

__all__ = ["faults_of"]

#: Relative difference of two results that are equal but for rounding, in float64.
_SAME = 1e-6
#: Columns that are looked at: corners of the field, its middle, and as many drawn at random.
_DRAWN = 4
#: Power iterations from below towards the norm.
_ITERATIONS = 12


def faults_of(psi: object, seed: int = 0) -> list[str]:
    """Return what is wrong with an operator, in words; nothing if it agrees with itself.

    Parameters
    ----------
    psi : object
        With ``shape``, ``fine_shape``, ``backend``, ``forward`` and ``adjoint``; ``column``, ``column_sums``,
        ``column_energies``, ``squared_forward``, ``squared_adjoint``, ``matrix``, ``axis_matrices``, ``table`` and ``norm`` are
        checked where they are there.
    seed : int
        Of the random images.

    Returns
    -------
    list of str
    """
    probe = _Probe(psi, np.random.default_rng(seed))
    found: list[str] = []
    for check in (_maps, _columns, _entries, _squares, _tables, _norm):
        found += check(probe)
        if found:  # what stands on a wrong map is wrong as well
            break
    return found


class _Probe:
    """An operator between float64 images of the host."""

    def __init__(self, psi: Any, rng: np.random.Generator) -> None:
        self.psi, self.rng = psi, rng

    def random(self, *shape: int) -> np.ndarray:
        return self.rng.random(shape)

    def host(self, array: Any) -> np.ndarray:
        return np.asarray(self.psi.backend.to_host(array), dtype=np.float64)

    def through(self, name: str, image: np.ndarray) -> np.ndarray:
        return self.host(getattr(self.psi, name)(self.psi.backend.asarray(image)))

    def emissions(self) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """Single emissions: places, and images of the fine grid."""
        rows, columns = self.psi.fine_shape
        places = [(0, 0), (rows - 1, columns - 1), (0, columns - 1), (rows // 2, columns // 2)]
        places += [(int(self.rng.integers(rows)), int(self.rng.integers(columns))) for _ in range(_DRAWN)]
        for place in places:
            image = np.zeros((rows, columns))
            image[place] = 1.0
            yield place, image


def _apart(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference relative to the largest value."""
    if found.shape != expected.shape:
        return np.inf
    scale = max(float(np.abs(expected).max()), float(np.abs(found).max()), 1e-300)
    apart = float(np.abs(found - expected).max()) / scale
    return apart if np.isfinite(apart) else np.inf


def _maps(probe: _Probe) -> list[str]:
    """Forward and adjoint: shapes, dtypes, batches, linearity, no change of the input, adjointness."""
    psi, found = probe.psi, []
    for name, source, target in (("forward", psi.fine_shape, psi.shape), ("adjoint", psi.shape, psi.fine_shape)):
        batch = probe.random(3, *source)
        given: Array = psi.backend.asarray(batch.astype(np.float32))
        single = getattr(psi, name)(given[0])
        if tuple(single.shape) != tuple(target):
            found.append(f"{name} of {tuple(source)} must have shape {tuple(target)}, got {tuple(single.shape)}")
            continue
        if single.dtype != np.float32:
            found.append(f"{name} of float32 must be float32, got {single.dtype}")
        if not np.array_equal(probe.host(given), batch.astype(np.float32)):
            found.append(f"{name} changes its argument")
        one, two, three = (probe.through(name, image) for image in batch)
        if not np.isfinite(one).all():
            found.append(f"{name} of finite numbers is not finite")
        together = probe.through(name, batch)
        if together.shape != (3, *target) or _apart(together, np.stack([one, two, three])) > _SAME:
            found.append(f"{name} of a batch is not that of its images one by one (leading axes)")
        summed = probe.through(name, batch[0] - 2.5 * batch[1])
        if _apart(summed, one - 2.5 * two) > _SAME:
            found.append(f"{name} is not linear")
        if _apart(probe.through(name, batch[0]), one) > _SAME:
            found.append(f"{name} gives something else at the second call")
    if found:
        return found
    x, y = probe.random(*psi.fine_shape), probe.random(*psi.shape)
    left, right = float((probe.through("forward", x) * y).sum()), float((x * probe.through("adjoint", y)).sum())
    if not abs(left - right) <= _SAME * max(abs(left), abs(right)):
        found.append(f"adjoint is not that of forward: <forward(x), y> = {left:.6g} but <x, adjoint(y)> = {right:.6g}")
    return found


def _columns(probe: _Probe) -> list[str]:
    psi, found = probe.psi, []
    sums = probe.host(psi.column_sums) if hasattr(psi, "column_sums") else None
    if sums is not None and _apart(sums, probe.through("adjoint", np.ones(psi.shape))) > _SAME:
        found.append("column_sums is not the adjoint of ones")
    for place, emission in probe.emissions():
        seen = probe.through("forward", emission)
        if seen.min() < -_SAME * max(float(seen.max()), 1e-300):
            return [*found, f"forward of one emission at {place} is negative somewhere: photons are not"]
        if hasattr(psi, "column") and _apart(probe.host(psi.column(place)), seen) > _SAME:
            return [*found, f"column({place}) is not forward of one emission there"]
    return found


def _squares(probe: _Probe) -> list[str]:
    psi, found = probe.psi, []
    checks: list[tuple[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]]] = [
        ("squared_forward", lambda emission, seen: (probe.through("squared_forward", emission), seen**2)),
    ]
    if hasattr(psi, "squared_adjoint") and hasattr(psi, "column_energies"):
        energies, expected = probe.host(psi.column_energies), probe.through("squared_adjoint", np.ones(psi.shape))
        if _apart(energies, expected) > _SAME:
            found.append("column_energies is not squared_adjoint of ones")
        checks.append(("column_energies", lambda emission, seen: (energies[emission > 0], np.array([(seen**2).sum()]))))
    for name, pair in checks:
        for place, emission in probe.emissions() if hasattr(psi, name) else ():
            if _apart(*pair(emission, probe.through("forward", emission))) > _SAME:
                found.append(f"{name} at {place} is not that of the squares of its column")
                break
    return found


def _entries(probe: _Probe) -> list[str]:
    """The operator written out, unless it is what :class:`Operator` makes of its adjoint."""
    psi = probe.psi
    if not hasattr(type(psi), "matrix") and "matrix" not in getattr(psi, "__dict__", {}):
        return []
    if isinstance(psi, Operator) and vars(Operator)["matrix"] is getattr(type(psi), "matrix", None):
        return []
    from scipy.sparse import csr_array

    if not isinstance(psi.matrix, csr_array):
        return [f"matrix must be a scipy.sparse.csr_array, got {type(psi.matrix).__name__}"]
    x = probe.random(*psi.fine_shape)
    if _apart(psi.matrix @ x.ravel(), probe.through("forward", x).ravel()) > _SAME:
        return ["matrix is not that of forward"]
    return []


def _tables(probe: _Probe) -> list[str]:
    """What the covariance fit and the photons of one emission are computed from, where an operator has it."""
    psi, found = probe.psi, []
    table = getattr(psi, "table", None)
    matrices = getattr(psi, "axis_matrices", None)
    for place, emission in probe.emissions():
        seen = probe.through("forward", emission)
        if table is not None:
            tables = Tables.__new__(Tables)
            tables.table, tables.origin, tables.factor, tables.shape = table, psi.origin, psi.factor, psi.shape
            if _apart(tables.column(*place), seen) > _SAME:
                found.append(f"table is not that of forward at {place}: an operator that differs over the field has none")
        if matrices is not None and _apart(matrices[0] @ emission @ matrices[1].T, seen) > _SAME:
            found.append(f"axis_matrices are not those of forward at {place}")
        if found:
            break
    return found


def _norm(probe: _Probe) -> list[str]:
    psi = probe.psi
    if not hasattr(psi, "norm"):
        return []
    norm, x = float(psi.norm), probe.random(*psi.fine_shape)
    for _ in range(_ITERATIONS):
        x = probe.through("adjoint", probe.through("forward", x))
        reached = float(np.linalg.norm(x)) ** 0.5
        if not reached > 0:
            return ["forward of light everywhere is dark"]
        x /= reached**2
    image = probe.through("forward", x)
    reached = float(np.linalg.norm(image) / np.linalg.norm(x))
    if not reached <= norm * (1 + 1e-5):
        return [f"norm is {norm:.6g}, but the operator lengthens an image {reached:.6g} times"]
    return []
