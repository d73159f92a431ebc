"""Tables of ``docs/scale.md``, from ``benchmarks/results/scale.json``: one figure of ``benchmarks.bench_scale`` in each row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

__all__ = ["TABLES", "scale_table"]

Parts = dict[str, dict[str, Any]]
Figures = dict[str, Any]
Rows = list[list[str]]

#: Iterations of a step of the covariance fit, and seconds of an iteration on an H200 for a tile by default: predicted from
#: launches that were counted (docs/scale.md).
_INNER, _CARD_S = 25, 0.5e-3
#: Camera pixels of a tile by default, its halo on each side, and what is projected: name, megapixels of the camera.
_TILE, _HALO = 256, 24
_PROJECTED = (
    ("2048 × 2048, one recording", 2048**2 / 1e6),
    ("plate, 1000 fields of 512 × 512", 1000 * 512**2 / 1e6),
    ("facility, ten recordings of 2048 × 2048 a day, 250 days a year", 2500 * 2048**2 / 1e6),
)


def _markdown(columns: list[str], rows: list[list[str]]) -> str:
    return "\n".join(["| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *rows)])


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _seams(parts: Parts) -> str:
    columns = ["field, PSF, background", "method", "steps", "x inside / where tiles meet", "the same, half PSF", "b",
               "jump across seams, x / b", "light of x, tiles over whole"]  # fmt: skip
    found = [figure for name, part in parts.items() if name.startswith("seams ") for figure in part["figures"]]
    order = sorted(found, key=lambda f: (-f["side"], f["psf"] == "Airy", f["background"] == "flat", f["method"] == "none"))
    rows = []
    for f in order:
        factor = "" if f.get("factor", 4) == 4 else f", factor {f['factor']}"
        steps = f["steps_tiles"][0] if "steps_tiles" in f else f["steps"]
        rows.append([
            f"{f['side']} × {f['side']}, {f['psf']}, {f['background']}{factor}",
            "default" if f["method"] == "moments" else f"`{f['method']}`",
            str(steps),
            f"{_percent(f['inside'])} / {_percent(f['at_seams'])} %",
            f"{_percent(f['inside_half_psf'])} / {_percent(f['at_seams_half_psf'])} %",
            f"{_percent(f['difference_b'])} %",
            f"{f['step_x']:.3f} / {f['step_b']:.3f}",
            f"{1 + f['flux_x']:.5f}",
        ])  # fmt: skip
    return _markdown(columns, rows)


def _measured(parts: Parts) -> str:
    rows = []
    for part, rows_of in _ROWS.items():
        for name, found in parts.items():
            if name == part or name.startswith(f"{part} by "):
                rows += rows_of(name, found["figures"])
    return _markdown(["what", "measured"], rows)


def _how(name: str) -> str:
    """The method of a part, by its name."""
    return "default method" if "default method" in name else "`--method none`"


def _movie(name: str, f: Figures) -> Rows:
    cold, warm = (sum(f[which]) / len(f[which]) for which in ("error_cold", "error_warm"))
    what = f"movie of {f['frames']} frames, {f['side']} × {f['side']}, windows of {f['window']} every {f['step']}, {_how(name)}"
    seen = f"error against the truth, through half the PSF, mean of {len(f['error_cold'])} windows"
    return [
        [f"{what}: steps of a window from nothing / from the last", f"{f['steps_cold']} / {f['steps_warm']}"],
        [
            "its light from first to last window, straight line",
            f"{_percent(f['drift_per_movie'])} ± {_percent(f['drift_error'])} %",
        ],
        [f"{seen}: from nothing / from the last", f"{100 * cold:.1f} / {100 * warm:.1f} %"],
    ]


def _engines(name: str, f: Figures) -> Rows:
    same = sum(one["same"] for one in f.values())
    what = f"1, 2, 3 processes, threads, Dask with threads and with processes, reversed, killed {f['killed']['kills']} times"
    return [[f"{what} ({_how(name)}): the same bytes", "all" if same == len(f) else f"{same} of {len(f)}"]]


def _large(name: str, f: Figures) -> Rows:
    steps = f"{min(f['steps'])}" + (f" to {max(f['steps'])}" if len(set(f["steps"])) > 1 else "")
    what = f"{f['side']} × {f['side']} × {f['frames']} from the command line, {_how(name)}, {steps} steps"
    memory = f"{f['peak_gib_of_workers']:.2f} / {f['peak_gib_of_command']:.2f} GiB"
    return [
        [f"{what}, two workers, {f['budget_gib']:g} GiB each: largest memory of a worker / of the command", memory],
        [f"its {f['tiles']} tiles, processor time, calibration and files included", f"{f['processor_s']:.0f} s"],
    ]


def _area(name: str, f: Figures) -> Rows:
    sides = [row["side"] for row in f["rows"]]
    steps = "all its steps" if "default" in name else "60 steps"
    what = f"time against area, {sides[0]}² to {sides[-1]}² pixels, tiles as by default, {_how(name)}, {steps}"
    return [[f"{what}: exponent", f"{f['exponent_of_area']:.2f}"]]


def _overhead(name: str, f: Figures) -> Rows:
    what = f"{f['tasks']} tasks that do nothing, wall time for each: pool of two processes / Dask, two threads"
    return [[what, f"{1e3 * f['processes_s_per_task']:.1f} / {1e3 * f['dask_s_per_task']:.1f} ms"]]


#: The parts of the benchmark that a table of two columns shows, each with those by the default method.
_ROWS: dict[str, Callable[[str, Figures], Rows]] = {
    "movie": _movie,
    "engines": _engines,
    "large": _large,
    "area": _area,
    "overhead": _overhead,
}


def _cost(parts: Parts) -> str:
    timed = (part["figures"] for name, part in parts.items() if name.startswith("seams 256 Gaussian"))
    found = next((figures for figures in timed if "processor_s_mean" in figures[0]), None)
    if found is None:
        return "*No figures yet: `python -m benchmarks.bench_scale 'seams 256 Gaussian flat'` writes them.*"
    whole, mean = found
    megapixels, halo = whole["side"] ** 2 / 1e6, ((_TILE + 2 * _HALO) / _TILE) ** 2
    processor = [seconds / megapixels for seconds in (whole["processor_s_mean"], whole["processor_s_whole"])]
    iterations = [mean["steps"], mean["steps"] + _INNER * (whole["steps_whole"][0] - mean["steps"])]
    card = [count * _CARD_S * 1e6 / _TILE**2 for count in iterations]
    rows = [["one megapixel of the camera, without halos", *(f"{s:.0f} s" for s in processor), *(f"{s:.0f} s" for s in card)]]
    for what, size in _PROJECTED:
        rows.append([f"{what}: *prediction*", *(_time(halo * s * size) for s in processor), *(_time(s * size) for s in card)])
    columns = [
        "",
        "processor, `--method none`",
        "processor, default",
        "H200, `--method none`: *prediction*",
        "H200, default: *prediction*",
    ]
    return _markdown(columns, rows)


def _time(seconds: float) -> str:
    """Two digits, in a unit that suits."""
    unit, length = next((u for u in (("hours", 3600.0), ("minutes", 60.0)) if seconds >= u[1]), ("s", 1.0))
    value = seconds / length
    rounded = round(value, 1 - math.floor(math.log10(value)))
    return f"{rounded:g} {unit.rstrip('s') if rounded == 1 and length > 1 else unit}"


def _when(parts: Parts) -> str:
    """Which parts were measured when, by date and revision."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name, part in parts.items():
        found = part["environment"]
        device = found.get("device", {}).get("name", "a processor that was not noted")
        groups.setdefault((found["date"][:10], found.get("revision") or "not noted", device), []).append(name)
    rows = [[date, of, device, ", ".join(names)] for (date, of, device), names in sorted(groups.items())]
    return _markdown(["date", "revision", "device", "parts"], rows)


TABLES: dict[str, Callable[[Parts], str]] = {
    "scale-when": _when,
    "scale-seams": _seams,
    "scale-measured": _measured,
    "scale-cost": _cost,
}


def scale_table(name: str, parts: Parts) -> str:
    """Return one of the tables.

    Parameters
    ----------
    name : str
        One of :data:`TABLES`.
    parts : dict
        What ``scale.json`` holds.

    Returns
    -------
    str
    """
    return TABLES[name](parts)
