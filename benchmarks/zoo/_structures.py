"""Where molecules lie: positions in nm from the outer edge of the first pixel, rows before columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ._plan import LINE_NM, Scene

__all__ = ["Lines", "Molecules", "place"]

#: Half of the free space beside a pair, to its outer lines, nm.
_OUTER_NM = 600.0


@dataclass(frozen=True)
class Lines:
    """Geometry of a pair or bar: column positions (before transposition), nm, and where lines run along rows."""

    centre_nm: float
    lines_nm: tuple[float, float, float, float]
    span_nm: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Molecules:
    """Positions (n, 2), nm, and relative brightness (n,)."""

    at: np.ndarray
    weight: np.ndarray
    lines: Lines | None = None


def place(scene: Scene, rng: np.random.Generator) -> Molecules:
    """Place the molecules of a scene."""
    made = _PLACERS[scene.structure](scene, scene.size * scene.pixel_nm, rng)
    if len(made.at) > _most(scene):
        # thinned evenly: structures keep their relative light
        kept = np.sort(rng.choice(len(made.at), _most(scene), replace=False))
        made = Molecules(made.at[kept], made.weight[kept], made.lines)
    return Molecules(made.at[:, ::-1], made.weight, made.lines) if scene.transposed else made


def _most(scene: Scene) -> int:
    """Molecules that a scene may have: few where few bright ones are wanted."""
    return 400 if scene.kinetics == "few bright" else 2000


def _per_um(scene: Scene) -> float:
    """Molecules per micrometre of a filament."""
    return 60.0 + 340.0 * scene.density


def _rectangle(rows: tuple[float, float], columns: tuple[float, float], per_um2: float, rng: np.random.Generator) -> np.ndarray:
    n = max(1, round(per_um2 * 1e-6 * (rows[1] - rows[0]) * (columns[1] - columns[0])))
    return np.c_[rng.uniform(*rows, n), rng.uniform(*columns, n)]


def _pair(scene: Scene, field: float, rng: np.random.Generator) -> Molecules:
    """Two lines 100 nm wide, or the bar that covers both, between two outer lines; all of the same light per length."""
    centre = field / 2 + rng.uniform(-0.5, 0.5) * scene.pixel_nm
    half = scene.separation_nm / 2
    lines = (centre - half - _OUTER_NM, centre - half, centre + half, centre + half + _OUTER_NM)
    span = (0.14 * field, 0.86 * field)
    per_line = max(1, round(3 * _per_um(scene) * 1e-3 * (span[1] - span[0])))
    margin = 1.5 * scene.pixel_nm
    outer = [line for line in (lines[0], lines[3]) if margin < line < field - margin]

    def line(at: float, width: float, n: int) -> np.ndarray:
        return np.c_[rng.uniform(*span, n), at + width * rng.uniform(-0.5, 0.5, n)]

    parts = [line(at, LINE_NM, per_line) for at in outer]
    if scene.structure == "bar":
        parts.append(line(centre, scene.separation_nm + LINE_NM, 2 * per_line))
    else:
        parts += [line(at, LINE_NM, per_line) for at in lines[1:3]]
    at = np.concatenate(parts)
    return Molecules(at, np.ones(len(at)), Lines(centre, lines, span))


def _filament(scene: Scene, field: float, rng: np.random.Generator) -> np.ndarray:
    """A gently bent filament across the field and beyond its border."""
    start, way = rng.uniform(0, field, 2), rng.uniform(0, 2 * np.pi)
    bend = rng.normal(0, 0.35) / field
    n = max(2, round(_per_um(scene) * 3e-3 * field))
    along = np.sort(rng.uniform(-1.5 * field, 1.5 * field, n))
    angle = way + bend * along
    steps = np.diff(along, prepend=along[0])[:, None] * np.c_[np.sin(angle), np.cos(angle)]
    at = np.cumsum(steps, axis=0)
    at += start - at[np.abs(along).argmin()] + rng.normal(0, 8.0, at.shape)
    reach = scene.fwhm_nm
    return at[((at > -reach) & (at < field + reach)).all(axis=1)]


def _mesh(scene: Scene, field: float, rng: np.random.Generator) -> Molecules:
    parts = [_filament(scene, field, rng) for _ in range(int(rng.integers(4, 12)))]
    weights = [np.full(len(part), rng.uniform(0.5, 1.5)) for part in parts]
    return Molecules(np.concatenate(parts), np.concatenate(weights))


def _rings(scene: Scene, field: float, rng: np.random.Generator) -> Molecules:
    parts = []
    for centre in _apart(int(rng.integers(3, 9)), 500.0, field, 300.0, rng):
        radius, n = rng.uniform(70.0, 300.0), round(_per_um(scene) * 1.2)
        angle = rng.uniform(0, 2 * np.pi, n)
        parts.append(centre + (radius + rng.normal(0, 10.0, n))[:, None] * np.c_[np.sin(angle), np.cos(angle)])
    at = np.concatenate(parts)
    return Molecules(at, np.ones(len(at)))


def _apart(n: int, distance: float, field: float, margin: float, rng: np.random.Generator) -> np.ndarray:
    """At most n random places at this distance from one another."""
    found: list[np.ndarray] = []
    for _ in range(60 * n):
        at = rng.uniform(margin, field - margin, 2)
        if all(np.hypot(*(at - other)) >= distance for other in found):
            found.append(at)
        if len(found) == n:
            break
    return np.array(found)


def _isolated(scene: Scene, field: float, rng: np.random.Generator) -> Molecules:
    at = _apart(int(rng.integers(4, 13)), 2.2 * scene.fwhm_nm, field, 1.2 * scene.fwhm_nm, rng)
    return Molecules(at, rng.uniform(0.4, 1.0, len(at)))


def _spiral(scene: Scene, field: float, rng: np.random.Generator) -> Molecules:
    n = 150 + round(850 * scene.density)
    turns = rng.uniform(2.0, 4.0)
    share = np.sqrt(np.linspace(0.01, 1.0, n))
    angle, radius = 2 * np.pi * turns * share, 0.42 * field * share
    return Molecules(field / 2 + radius[:, None] * np.c_[np.sin(angle), np.cos(angle)], np.ones(n))


def _blobs(scene: Scene, field: float, rng: np.random.Generator) -> Molecules:
    parts, weights = [], []
    for centre in _apart(int(rng.integers(4, 11)), 350.0, field, 350.0, rng):
        n = int(rng.integers(20, 60 + round(200 * scene.density)))
        parts.append(centre + rng.normal(0, rng.uniform(25.0, 130.0), (n, 2)))
        weights.append(np.full(n, rng.uniform(0.3, 1.0)))
    return Molecules(np.concatenate(parts), np.concatenate(weights))


def _star(scene: Scene, field: float, rng: np.random.Generator) -> Molecules:
    """A Siemens star of 6 to 10 wedges."""
    wedges, n = int(rng.integers(6, 11)), 800 + round(1200 * scene.density)
    angle, radius = rng.uniform(0, 2 * np.pi, 4 * n), 0.42 * field * np.sqrt(rng.random(4 * n))
    kept = (angle * wedges / (2 * np.pi)) % 1.0 < 0.5
    at = field / 2 + (radius[:, None] * np.c_[np.sin(angle), np.cos(angle)])[kept][:n]
    return Molecules(at, np.ones(len(at)))


def _filled(scene: Scene, field: float, rng: np.random.Generator) -> Molecules:
    """Discs and rectangles of uniform density."""
    parts, per_um2 = [], 150.0 + 850.0 * scene.density
    for k, centre in enumerate(_apart(int(rng.integers(1, 4)), 900.0, field, 500.0, rng)):
        half = rng.uniform(200.0, 500.0, 2)
        at = _rectangle((-half[0], half[0]), (-half[1], half[1]), per_um2, rng)
        parts.append(centre + (at if k % 2 else at[((at / half) ** 2).sum(axis=1) <= 1]))
    at = np.concatenate(parts)
    return Molecules(at, np.ones(len(at)))


def _sides(scene: Scene, field: float, rng: np.random.Generator) -> Molecules:
    """Single molecules in one half of the field, a dense mesh in the other."""
    dense = np.concatenate([_filament(scene, field, rng) for _ in range(8)])
    dense = dense[dense[:, 1] > 0.5 * field]
    single = _apart(8, 1.8 * scene.fwhm_nm, field, scene.fwhm_nm, rng)
    single = single[single[:, 1] < 0.5 * field - scene.fwhm_nm]
    # a single molecule as bright as some of the filament's: else it would not be seen beside them
    weights = np.concatenate([np.ones(len(dense)), np.full(len(single), 0.12 * _per_um(scene))])
    return Molecules(np.concatenate([dense, single.reshape(-1, 2)]), weights)


_PLACERS: dict[str, Callable[[Scene, float, np.random.Generator], Molecules]] = {
    "pair": _pair,
    "bar": _pair,
    "mesh": _mesh,
    "rings": _rings,
    "isolated": _isolated,
    "spiral": _spiral,
    "blobs": _blobs,
    "star": _star,
    "filled": _filled,
    "sparse and dense": _sides,
}
