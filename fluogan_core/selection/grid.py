"""The settings that a sweep tries and how it parts the frames: checked before any work."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backend.checks import real_number, whole_number
from ..physics.psf import gaussian_psf
from ..physics.psi import Psi
from ..solvers.options import SolverOptions
from ..stack import StackLike, frames_of, stack_of_field
from ..tuning import DEFAULT, SweepTuning

__all__ = ["MOST_SETTINGS", "PSF_WIDTH", "Plan", "Value", "parted", "plan_sweep", "spelled"]

Value = float | int | str

#: A limit that protects the user, not a number found by trial.
#: Larger grids are refused: they take hours, and the best of hundreds is the luckiest.
MOST_SETTINGS = 64
#: The one name that may be varied beside the solver's options: the width of a Gaussian PSF.
PSF_WIDTH = "fwhm_nm"


class Plan(NamedTuple):
    """A sweep that has been checked: every setting with its options and operator, and the frames' parting."""

    vary: dict[str, tuple[Value, ...]]
    settings: list[tuple[dict[str, Value], SolverOptions, Psi]]
    blocks: np.ndarray
    halves: np.ndarray
    options: SolverOptions


def spelled(values: Mapping[str, Value]) -> str:
    """The values in words."""
    return ", ".join(f"{name}={value if isinstance(value, str) else f'{value:g}'}" for name, value in values.items())


def parted(frames: int, tuning: SweepTuning = DEFAULT.sweep) -> tuple[np.ndarray, np.ndarray]:
    """Cut so many frames into blocks of nearly equal length, and those into halves A B B A: the block and half of each."""
    if frames < tuning.least_frames:
        raise ValueError(
            f"a sweep needs at least {tuning.least_frames} frames, to fit some and score others, got {frames}: take more frames"
        )
    count = min(tuning.blocks, 4 * (frames // (4 * tuning.least_block)))
    edges = np.linspace(0, frames, count + 1).round().astype(int)
    blocks = np.repeat(np.arange(count), np.diff(edges))
    return blocks, np.isin(blocks % 4, (1, 2)).astype(int)


def plan_sweep(
    stack: StackLike,
    *,
    psi: Psi,
    options: SolverOptions | None = None,
    vary: Mapping[str, Sequence[Value]] | None = None,
    pixel_size_nm: float | None = None,
    tuning: SweepTuning = DEFAULT.sweep,
) -> Plan:
    """Check what :func:`fluogan_core.sweep` is given; parameters and errors as there."""
    frames = frames_of(stack)
    options = SolverOptions(method="none") if options is None else options
    vary = _usual_grid(options, tuning) if vary is None else _checked(vary, options)
    size = math.prod(len(values) for values in vary.values())
    if size > MOST_SETTINGS:
        sizes = " x ".join(str(len(values)) for values in vary.values())
        raise ValueError(
            f"the grid has {size} settings ({sizes}), at most {MOST_SETTINGS} are tried in one go: vary fewer names or values"
        )
    stack_of_field(frames, psi.shape)
    pixel_size_nm = getattr(stack, "pixel_size_nm", None) if pixel_size_nm is None else pixel_size_nm
    blocks, halves = parted(len(frames), tuning)
    operators = {width: _of_width(psi, float(width), pixel_size_nm) for width in vary.get(PSF_WIDTH, ())}
    settings = []
    for combination in itertools.product(*vary.values()):
        values = dict(zip(vary, combination))
        operator = operators[values[PSF_WIDTH]] if operators else psi
        settings.append((values, _with(options, values), operator))
    return Plan(vary, settings, blocks, halves, options)


def _usual_grid(options: SolverOptions, tuning: SweepTuning) -> dict[str, tuple[Value, ...]]:
    """Around what the options say; the blur that the image is sought through is never wider than the PSF."""
    grid: dict[str, tuple[Value, ...]] = {}
    for name, factors in (("detail", tuning.detail), ("total_variation", tuning.total_variation)):
        base = getattr(options, name)
        most = 1.0 if name == "detail" else math.inf
        grid[name] = tuple(sorted({base if f == 1 else min(float(f"{f * base:.3g}"), most) for f in factors}))
    return grid


def _checked(vary: Mapping[str, Sequence[Value]], options: SolverOptions) -> dict[str, tuple[Value, ...]]:
    """The grid with every value of its option's kind and range."""
    kinds = {field.name: str(field.type) for field in dataclasses.fields(options)} | {PSF_WIDTH: ""}
    if not isinstance(vary, Mapping):
        raise TypeError(f"vary must be a dict of options and their values, as {{'detail': [0.1, 0.2]}}, got {vary!r}")
    if not vary:
        raise ValueError("vary is empty: name at least one option with its values, or leave vary out for the usual grid")
    grid: dict[str, tuple[Value, ...]] = {}
    for name, given in vary.items():
        if name not in kinds:
            raise ValueError(f"{name!r} cannot be varied; what can is {', '.join(kinds)}")
        if isinstance(given, str) or not hasattr(given, "__iter__"):
            raise TypeError(f"the values of {name} must be a list, got {given!r}")
        values = tuple(_of_kind(value, name, kinds[name]) for value in given)
        if not values:
            raise ValueError(f"{name} has no values: give at least one")
        if len(set(values)) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise ValueError(f"{name} lists {twice if isinstance(twice, str) else f'{twice:g}'} twice")
        if name in options.idle and "method" not in vary:
            other = "corrected" if name in options.for_method("moments").idle else "moments"
            raise ValueError(f"{name} changes nothing with method={options.method!r}: take method={other!r} too, say")
        # one that the method does not use is checked with a method that does
        users = options if name not in options.idle else options.for_method("corrected")
        for value in values:
            _with(users, {name: value})
        grid[name] = values
    return grid


def _with(options: SolverOptions, values: Mapping[str, Value]) -> SolverOptions:
    """The options with these values, those apart that the setting's method does not use; what is out of range is refused."""
    if "method" in values:
        options = options.for_method(str(values["method"]))
    changed: dict[str, Any] = {name: value for name, value in values.items() if name != PSF_WIDTH and name not in options.idle}
    return dataclasses.replace(options, **changed)


def _of_kind(value: Any, name: str, kind: str) -> Value:
    if name == PSF_WIDTH:
        return real_number(value, name, low=0, open_low=True)
    if kind.startswith("float"):
        return real_number(value, name)
    return str(value) if kind == "str" else whole_number(value, name)


def _of_width(psi: Psi, fwhm_nm: float, pixel_size_nm: float | None) -> Psi:
    """The operator with a Gaussian PSF of another width."""
    if pixel_size_nm is None:
        raise ValueError(f"{PSF_WIDTH} cannot be varied without the pixel size: give pixel_size_nm")
    return psi.replaced(psf=gaussian_psf(fwhm_nm, pixel_size_nm, psi.factor))
