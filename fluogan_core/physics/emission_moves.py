"""What one move of the chains of emissions is, in plain NumPy: the definition that the kernel is held to."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..backend import random

__all__ = ["move_emissions"]


class _Frame:
    """The chain of one frame."""

    def __init__(self, columns: np.ndarray, grid: tuple[int, ...], y: np.ndarray, base: np.ndarray, x: np.ndarray) -> None:
        self.columns, self.grid, self.y, self.base, self.x = columns, grid, y, base, x
        self.floor = 0.5 * base.min()
        self.rate = base.copy()
        self.emissions: list[tuple[int, float]] = []

    def column(self, place: int) -> np.ndarray:
        """Light of one emission, (M1, M2)."""
        rows, cols, top, left, factor = self.grid
        i, j = divmod(place, self.x.shape[1])
        table = self.columns[(i % factor) * factor + j % factor]
        k1, k2 = table.shape
        padded = np.zeros((rows + 2 * k1, cols + 2 * k2))
        r, c = i // factor + top + k1, j // factor + left + k2
        if r >= 0 and c >= 0 and r + k1 <= padded.shape[0] and c + k2 <= padded.shape[1]:
            padded[r : r + k1, c : c + k2] = table
        return padded[k1:-k1, k2:-k2]

    def change_of(self, *emissions: tuple[float, int]) -> np.ndarray:
        """What emissions (brightness, place) add to the rate."""
        change = np.zeros_like(self.base)
        for w, place in emissions:
            change += w * self.column(place)
        return change

    def won(self, change: np.ndarray) -> float:
        """What the log likelihood gains by a change of the rate."""
        new = np.maximum(self.rate + change, self.floor)
        return float((self.y * np.log(new / self.rate) - change).sum())

    def intensity(self, place: int) -> float:
        return float(self.x.ravel()[place])

    def moved(self, place: int, down: int, across: int) -> int:
        i, j = place // self.x.shape[1] + down, place % self.x.shape[1] + across
        return i * self.x.shape[1] + j if 0 <= i < self.x.shape[0] and 0 <= j < self.x.shape[1] else -1

    def near(self, q: int, reach: int) -> list[int]:
        """Other emissions within ``reach`` fine pixels of emission q, along both axes."""
        i, j = divmod(self.emissions[q][0], self.x.shape[1])
        at = [divmod(place, self.x.shape[1]) for place, _ in self.emissions]
        return [k for k, (r, c) in enumerate(at) if k != q and abs(r - i) <= reach and abs(c - j) <= reach]


class _Proposal(NamedTuple):
    """What a move would change: the rate, the list, and the log of its odds besides the likelihood."""

    change: np.ndarray
    emissions: list[tuple[int, float]]
    odds: float


class _Law(NamedTuple):
    mean: float
    shape: float
    spread: float
    constant: float

    def density(self, w: float) -> float:
        """Log density of a brightness; 0 where all are equal."""
        if math.isinf(self.shape):
            return 0.0
        return (self.shape - 1.0) * math.log(w) - self.shape * w / self.mean + self.constant

    def over_proposed(self, w: float) -> float:
        """Log density over that of the law of births."""
        if math.isinf(self.shape):
            return 0.0
        r = math.exp(min(max((math.log(w) - math.log(self.mean)) / self.spread, -300.0), 300.0))
        return self.density(w) - (math.log(r) - 2.0 * math.log(1.0 + r) - math.log(self.spread) - math.log(w))


def _ratio(above: float, below: float) -> float:
    """Logarithm of a ratio; the intensity below may be 0."""
    return math.log(above / below) if below > 0 else math.inf


def _nearest(distance: float) -> int:
    return math.floor(distance + 0.5)


def _without(emissions: list[tuple[int, float]], q: int) -> list[tuple[int, float]]:
    """The list without emission q, whose place the last one takes."""
    rest = emissions[:-1]
    if q < len(rest):
        rest[q] = emissions[-1]
    return rest


def _birth(f: _Frame, law: _Law, cumulated: np.ndarray, u: tuple[float, ...]) -> _Proposal:
    total = float(cumulated[-1])
    place = min(int(np.searchsorted(cumulated, u[1] * total)), f.x.size - 1)
    w = law.mean
    if not math.isinf(law.shape):
        w *= math.exp(min(max(law.spread * (math.log(u[2]) - math.log(1.0 - u[2])), -300.0), 300.0))
    odds = law.over_proposed(w) + math.log(total / (len(f.emissions) + 1))
    return _Proposal(f.change_of((w, place)), [*f.emissions, (place, w)], odds)


def _death(f: _Frame, law: _Law, total: float, q: int) -> _Proposal:
    place, w = f.emissions[q]
    odds = math.log(len(f.emissions) / total) - law.over_proposed(w)
    return _Proposal(f.change_of((-w, place)), _without(f.emissions, q), odds)


def _place(f: _Frame, reaches: tuple[int, ...], q: int, u: tuple[float, ...]) -> _Proposal | None:
    place, w = f.emissions[q]
    far = reaches[min(int(3 * u[2]), 2)]
    new = f.moved(place, int(u[3] * (2 * far + 1)) - far, int(u[4] * (2 * far + 1)) - far)
    if new < 0 or not f.intensity(new) > 0:
        return None
    emissions = f.emissions.copy()
    emissions[q] = (new, w)
    return _Proposal(f.change_of((w, new), (-w, place)), emissions, _ratio(f.intensity(new), f.intensity(place)))


def _brightness(f: _Frame, law: _Law, turns: tuple[float, ...], q: int, u: tuple[float, ...]) -> _Proposal:
    place, w = f.emissions[q]
    turn = turns[min(int(3 * u[2]), 2)] * (2.0 * u[3] - 1.0)
    new = w * math.exp(turn)
    emissions = f.emissions.copy()
    emissions[q] = (place, new)
    return _Proposal(f.change_of((new - w, place)), emissions, law.density(new) - law.density(w) + turn)


def _split(f: _Frame, law: _Law, reach: int, q: int, u: tuple[float, ...]) -> _Proposal | None:
    (place, w), side, n = f.emissions[q], 2 * reach + 1, len(f.emissions)
    spot = min(int(u[2] * side * side), side * side - 1)
    down, across = spot // side - reach, spot % side - reach
    # both parts about the old place, at distances that keep the centre of the light, to the nearest fine pixel
    rest = f.moved(place, -_nearest(u[3] * down), -_nearest(u[3] * across))
    new = f.moved(rest, down, across) if rest >= 0 else -1
    if rest < 0 or not f.intensity(rest) > 0 or new < 0 or not f.intensity(new) > 0:
        return None
    part = u[3] * w
    emissions = [*f.emissions, (new, part)]
    emissions[q] = (rest, w - part)
    after = _Frame(f.columns, f.grid, f.y, f.base, f.x)
    after.emissions = emissions
    odds = math.log(f.intensity(new)) + _ratio(f.intensity(rest), f.intensity(place)) + math.log(w)
    odds += law.density(part) + law.density(w - part) - law.density(w)
    odds += math.log(n * side * side) - math.log((n + 1) * len(after.near(n, reach)))
    return _Proposal(f.change_of((part, new), (-w, place), (w - part, rest)), emissions, odds)


def _merge(f: _Frame, law: _Law, reach: int, q: int, u: tuple[float, ...]) -> _Proposal | None:
    near, n, side = f.near(q, reach), len(f.emissions), 2 * reach + 1
    if not near:
        return None
    k = near[min(int(u[2] * len(near)), len(near) - 1)]
    (place, w), (other, w_other) = f.emissions[q], f.emissions[k]
    whole, width = w + w_other, f.x.shape[1]
    down, across = place // width - other // width, place % width - other % width
    new = f.moved(other, _nearest(w / whole * down), _nearest(w / whole * across))
    if not f.intensity(new) > 0:
        return None
    emissions = f.emissions.copy()
    emissions[k] = (new, whole)
    odds = law.density(whole) - law.density(w) - law.density(w_other) - math.log(whole)
    odds += _ratio(1.0, f.intensity(place)) + _ratio(f.intensity(new), f.intensity(other))
    odds += math.log(n * len(near)) - math.log((n - 1) * side * side)
    return _Proposal(f.change_of((whole, new), (-w, place), (-w_other, other)), _without(emissions, q), odds)


def _pair(f: _Frame, law: _Law, reaches: tuple[int, ...], turn: float, q: int, u: tuple[float, ...]) -> _Proposal | None:
    near, far = f.near(q, reaches[3]), reaches[1]
    if not near:
        return None
    k = near[min(int(u[2] * len(near)), len(near) - 1)]
    (place, w), (other, w_other) = f.emissions[q], f.emissions[k]
    side = 2 * far + 1
    spot = min(int(u[3] * side**2), side**2 - 1)
    down, across = spot // side - far, spot % side - far
    new, new_other = f.moved(place, down, across), f.moved(other, -down, -across)
    if new < 0 or new_other < 0 or not f.intensity(new) > 0 or not f.intensity(new_other) > 0:
        return None
    new_w, new_w_other = w, w_other
    if not math.isinf(law.shape):
        whole = w + w_other
        share = abs(w / whole + turn * (2.0 * u[4] - 1.0))
        new_w = whole * (2.0 - share if share > 1.0 else share)
        new_w_other = whole - new_w
        if not (new_w > 0 and new_w_other > 0):
            return None
    after = _Frame(f.columns, f.grid, f.y, f.base, f.x)
    after.emissions = f.emissions.copy()
    after.emissions[q], after.emissions[k] = (new, new_w), (new_other, new_w_other)
    then = after.near(q, reaches[3])
    if k not in then:
        return None
    odds = law.density(new_w) + law.density(new_w_other) - law.density(w) - law.density(w_other)
    odds += _ratio(f.intensity(new), f.intensity(place)) + _ratio(f.intensity(new_other), f.intensity(other))
    odds += math.log(len(near) / len(then))
    change = f.change_of((new_w, new), (-w, place), (new_w_other, new_other), (-w_other, other))
    return _Proposal(change, after.emissions, odds)


def _propose(
    kind: int,
    f: _Frame,
    law: _Law,
    cumulated: np.ndarray,
    reaches: tuple[int, ...],
    turns: tuple[float, ...],
    q: int,
    u: tuple[float, ...],
) -> _Proposal | None:
    if kind == 0:
        return _birth(f, law, cumulated, u)
    if kind == 1:
        return _death(f, law, float(cumulated[-1]), q)
    if kind == 2:
        return _place(f, reaches, q, u)
    if kind == 3:
        return _brightness(f, law, turns, q, u)
    if kind == 4:
        return _split(f, law, reaches[3], q, u)
    if kind == 5:
        return _merge(f, law, reaches[3], q, u)
    return _pair(f, law, reaches, turns[2], q, u)


def move_emissions(  # type: ignore[no-untyped-def]
    columns, grid, counts, scale, shift, base, x, law, edges, reaches, turns, proposals, frames, k0, k1, stage, step,
    place, bright, count,
):  # fmt: skip
    """Move the emissions of every frame; arguments and results as those of the kernel of this name."""
    law, cumulated, seed = _Law(*law), np.cumsum(x.ravel()), k0 | k1 << 32
    likelihood, ratio = np.zeros(len(count)), np.zeros_like(base)
    proposed, accepted = np.zeros(7, dtype=np.int64), np.zeros(7, dtype=np.int64)
    for t, frame in enumerate(frames):
        f = _Frame(columns, grid, np.maximum(np.float64(counts[t]) * scale + shift, 0.0), base, x)
        f.emissions = [(int(place[t, q]), float(bright[t, q])) for q in range(count[t])]
        f.rate += f.change_of(*((w, at) for at, w in f.emissions))
        for p in range(proposals[t]):
            words = [random.uniform(seed, stage, step, np.asarray(frame), np.asarray(p), block=block) for block in range(3)]
            u = tuple(float(v) for pair in words for v in pair)
            kind = int(np.searchsorted(edges[:-1], u[0], side="right"))
            if math.isinf(law.shape) and kind in (3, 4, 5):
                kind = 2
            proposed[kind] += 1
            n = len(f.emissions)
            if (kind != 0 and not n) or (kind in (0, 4) and n == place.shape[1]):
                continue
            q = min(int(u[1] * n), n - 1)
            proposal = _propose(kind, f, law, cumulated, reaches, turns, q, u)
            if proposal is None or not math.log(u[5]) < f.won(proposal.change) + proposal.odds:
                continue
            f.rate = np.maximum(f.rate + proposal.change, f.floor)
            f.emissions = proposal.emissions
            accepted[kind] += 1
        count[t] = len(f.emissions)
        for q, (at, w) in enumerate(f.emissions):
            place[t, q], bright[t, q] = at, w
        likelihood[t] = (f.y * np.log(f.rate) - f.rate).sum()
        ratio += f.y / f.rate
    return likelihood, ratio, proposed, accepted
