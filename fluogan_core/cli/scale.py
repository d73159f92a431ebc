"""Large fields, movies and batches: ``fluogan reconstruct --tile``, ``fluogan tile K/N`` and ``fluogan batch``."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import (
    CALIBRATION_OPTIONS,
    FILE,
    SOLVER_OPTIONS,
    Decorator,
    Numbers,
    camera_options,
    device_options,
    given,
    operator_of,
    optics_options,
    output_option,
    solver_options,
    stack_argument,
    verbose_option,
)
from .shell import COMPLAINTS, Interrupted, Unfinished, checking_input, said, stopping_at_once

if TYPE_CHECKING:
    from ..backend.arrays import Backend
    from ..physics.psi import Psi
    from ..scale import Plan

__all__ = ["batch", "reconstruct_large", "tile", "with_tiles"]

log = logging.getLogger("fluogan_core")

Command = Callable[..., Any]

#: Options that only large reconstructions have.
TILING = ("tile", "halo", "window", "step", "recalibrate", "channel", "workers", "cards", "dask", "memory_gib")
#: Of processes, and of GiB: what no machine has.
_MOST = 1e6
#: Files that are read in pieces only; folders are too.
_IN_PIECES = (".zarr", ".npy", ".nd2", ".czi", ".lif")


def _number(name: str, help_: str, kind: type = int) -> Decorator:
    return click.option(name, type=kind, help=help_)


_PLAN_OPTIONS = (
    _number("--tile", "Cut the field into tiles of at most this side, halos apart [camera pixels]."),
    _number("--halo", "Border that is fitted with a tile [camera pixels]; from PSF and background if not given."),
    _number("--window", "A movie: frames per image [frames]."),
    _number("--step", "A movie: from one image to the next [frames]; --window if not given."),
    click.option(
        "--recalibrate",
        is_flag=True,
        default=None,
        help="A movie: measure camera, emitters and width of the PSF in every window, not in the first for all.",
    ),
    _number("--channel", "Channel of a file with several [from 0]."),
    _number("--memory-gib", "Memory that one process may take [GiB]; tiles are made as small as that takes.", float),
)
_ENGINE_OPTIONS = (
    _number("--workers", "Processes that compute tiles at a time."),
    click.option("--cards", type=Numbers(int, "N,N,..."), help="CUDA devices, one process for each [from 0]."),
    click.option("--dask", metavar="ADDRESS", help="Scheduler of a Dask cluster that computes the tiles."),
)


def with_tiles(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that reconstructs a stack the switches of large ones, and take over where one of them is used."""

    @functools.wraps(function)
    def either(stack_path: Path, output: Path, backend: str, device: int | None, **settings: Any) -> Any:
        tiling = {name: settings.pop(name) for name in TILING}
        in_pieces = stack_path.is_dir() or stack_path.suffix.lower() in _IN_PIECES
        if all(value is None for value in tiling.values()) and not in_pieces:
            return function(stack_path=stack_path, output=output, backend=backend, device=device, **settings)
        return reconstruct_large(stack_path, output, settings | tiling, backend=backend, device=device)

    return functools.reduce(lambda made, option: option(made), reversed(_PLAN_OPTIONS + _ENGINE_OPTIONS), either)


def plan_options(function: Command) -> Command:
    """Those of them that concern the plan, for a command that computes in its own process."""
    return functools.reduce(lambda made, option: option(made), reversed(_PLAN_OPTIONS), function)


def engine_options(function: Command) -> Command:
    """Those of them that say what computes."""
    return functools.reduce(lambda made, option: option(made), reversed(_ENGINE_OPTIONS), function)


def reconstruct_large(path: Path, output: Path, settings: dict[str, Any], *, backend: str, device: int | None) -> None:
    """Reconstruct tile by tile into a folder; the same command goes on after an interruption."""
    from ..scale import finish, run_share

    with contextlib.ExitStack() as open_:
        open_.enter_context(stopping_at_once())
        engine = _engine(settings, open_)
        plan = _planned(path, output, settings, backend, device)
        count = len(plan.grid.tiles)
        click.echo(f"{count} tiles, {len(plan.windows)} windows, into {plan.folder}")
        with _keeping(plan, range(count)):
            with checking_input(ValueError):
                run_share(plan, range(count), engine, cards=settings["cards"] or ())
            finish(plan)
    click.echo(f"wrote x.ome.zarr, b.ome.zarr, x.ome.tif, b.ome.tif and report.json to {plan.folder}")


@contextlib.contextmanager
def _keeping(plan: Plan, numbers: Sequence[int]) -> Iterator[None]:
    """Say of what stops the work that what is done is kept."""
    try:
        yield
    except KeyboardInterrupt:
        done = sum(plan.is_done(number) for number in numbers)
        raise Interrupted(f"interrupted after {done} of {len(numbers)} tiles; the same command goes on from there") from None
    except (OSError, RuntimeError) as error:
        kept = (
            "" if "same command" in said(error) else f" (in {plan.folder}); what is done is kept, and the same command goes on"
        )
        raise Unfinished(f"{said(error)}{kept}") from error


def _engine(settings: dict[str, Any], open_: contextlib.ExitStack) -> Any:
    """A number of processes, or a client of the Dask cluster that is named."""
    return open_.enter_context(_dask_client(settings["dask"])) if settings["dask"] is not None else settings["workers"] or 1


def _dask_client(address: str) -> Any:
    """A client of the cluster, before any work: an address that nobody answers at is said at once."""
    with checking_input(ImportError, OSError):
        from distributed import Client

        try:
            return Client(address, timeout="10s")
        except (OSError, ValueError) as error:
            raise OSError(f"no Dask scheduler answers at {address}: start one there, or give its address to --dask") from error


def _planned(path: Path, output: Path, settings: dict[str, Any], backend: str, device: int | None) -> Plan:
    """The plan that the options mean, made or read."""
    from ..scale import prepare

    with checking_input(*COMPLAINTS, ImportError):
        return prepare(path, output, **_arguments(path, settings, backend, device))


def _arguments(path: Path, settings: dict[str, Any], backend: str, device: int | None) -> dict[str, Any]:
    """What the options mean for the functions of the library, for one recording."""
    from ..backend.arrays import get_backend

    found = _settings(settings, device)
    psi, pixel = _operator(path, settings["channel"], settings, get_backend(backend))
    return found | {"psi": psi, "pixel_size_nm": pixel}


def _operator(path: Path, channel: int | None, settings: dict[str, Any], backend: Backend) -> tuple[Psi, float]:
    """The operator of a recording, with the pixels that its file states where the options state none."""
    from ..io.lazy import open_lazily

    source = open_lazily(path, channel=channel)
    for note in source.notes:
        log.warning("%s: %s", path, note)
    small = tuple(min(n, 256) for n in source.shape[1:])
    return operator_of(small, source.pixel_size_nm, path, settings, backend)


def _settings(settings: dict[str, Any], device: int | None) -> dict[str, Any]:
    """What the options mean that depend on no recording."""
    from ..solvers.options import SolverOptions

    if settings.get("with_evidence"):
        raise ValueError("--evidence is not for tiles and movies: leave it out, or take a stack that fits into memory")
    if settings.get("drift", "none") != "none":
        raise ValueError("--drift is not for tiles and movies: leave it out, or take a stack that fits into memory")
    for name in ("roi", "frames", "background", "offset_map", "gain_map"):
        if settings.get(name) is not None:
            said = f"--{name.replace('_', '-')} is not for tiles and movies"
            raise ValueError(f"{said}; save the part of the stack, or the stack corrected by the map, as a stack of its own")
    if device is not None:
        raise ValueError(f"--device is not for tiles and movies: say --cards {device}, one process for each card")
    for name in ("workers", "memory_gib"):
        if settings.get(name) is not None and not 0 < settings[name] <= _MOST:
            raise ValueError(f"--{name.replace('_', '-')} must be more than 0, and {_MOST:g} at most; got {settings[name]:g}")
    options = SolverOptions(**given(settings, *SOLVER_OPTIONS))
    budget = None if settings["memory_gib"] is None else int(settings["memory_gib"] * 2**30)
    wanted = {name: settings[name] for name in ("tile", "halo", "window", "step", "channel")}
    wanted["recalibrate"] = bool(settings["recalibrate"])
    return {"options": options, "memory_budget": budget} | wanted | given(settings, *CALIBRATION_OPTIONS)


class Share(click.ParamType):
    """``K/N``."""

    name = "K/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return (K, N)."""
        if not isinstance(value, str):
            return value
        try:
            mine, all_ = (int(part) for part in value.split("/"))
        except ValueError:
            mine, all_ = 0, 0
        if not 1 <= mine <= all_:
            self.fail(f"{value!r} is not K/N with K from 1 to N, as in 3/16", param, ctx)
        return mine, all_


@click.command(short_help="Compute one share of the tiles: for job arrays.")
@click.argument("share", metavar="K/N", type=Share())
@stack_argument
@output_option("the plan, the parts and the images; the same for all shares")
@plan_options
@optics_options
@camera_options
@solver_options
@device_options
@verbose_option
def tile(share: tuple[int, int], stack_path: Path, output: Path, backend: str, device: int | None, **settings: Any) -> None:
    """Compute the K-th of N shares of the tiles of a recording: one job of an array.

    The first job makes the plan, the others wait for it.  Every N-th tile is computed, those that are done are passed
    over, and the job that finds all tiles done puts the images together.  All options must be the same in all jobs.
    """
    from ..scale import finish, run_share

    with stopping_at_once():
        plan = _planned(stack_path, output, settings, backend, device)
    mine, jobs = share
    numbers = range(len(plan.grid.tiles))[mine - 1 :: jobs]
    with stopping_at_once(), _keeping(plan, numbers):
        run_share(plan, numbers)
        images = f"; the images are in {plan.folder}" if finish(plan) else ""
    click.echo(f"share {mine} of {jobs} done, {len(numbers)} tiles{images}")


@click.command(short_help="Reconstruct many recordings, and keep a table.")
@click.argument("recordings", metavar="STACK.tif... | FOLDER", nargs=-1, required=True, type=FILE)
@output_option("a folder for each recording, and table.csv")
@plan_options
@engine_options
@optics_options
@camera_options
@solver_options
@device_options
@verbose_option
def batch(recordings: tuple[Path, ...], output: Path, backend: str, device: int | None, **settings: Any) -> None:
    """Reconstruct many recordings with the same options, or all of a folder.

    Where there are as many recordings as processes or more, each process takes whole recordings; else they share the tiles.
    Camera and pixel size are those of each recording where they are not given.  What fails is noted in table.csv and costs
    nothing else.  The same command goes on after an interruption.
    """
    from ..backend.arrays import get_backend
    from ..scale import batch as run_batch
    from ..scale import recordings_in

    with checking_input(*COMPLAINTS, ImportError):
        paths = [inner for path in recordings for inner in (recordings_in(path) if _is_plain_folder(path) else [path])]
        if not paths:
            raise ValueError(f"{', '.join(map(str, recordings))} holds no recording: TIFF, Zarr or .npy files are looked for")
        arguments = _settings(settings, device) | {"pixel_size_nm": settings["pixel_size_nm"]}
        computer = get_backend(backend)
        operator_of((32, 32), 100.0, None, settings, computer)  # what no recording can take is said now

    def operator(path: Path, channel: int | None) -> Psi:
        return _operator(path, channel, settings, computer)[0]

    with contextlib.ExitStack() as open_:
        open_.enter_context(stopping_at_once())
        engine = _engine(settings, open_)
        try:
            rows = run_batch(paths, output, psi=operator, engine=engine, cards=settings["cards"] or (), **arguments)
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the same command goes on with what is not done") from None
    failed = [row for row in rows if row["status"] != "done"]
    for row in failed:
        click.echo(f"{row['folder']}: {row['status']}")
    click.echo(f"{len(rows) - len(failed)} of {len(rows)} recordings done; wrote table.csv to {output}")
    if failed:
        raise Unfinished(f"{len(failed)} of {len(rows)} recordings failed; the same command tries these again")


def _is_plain_folder(path: Path) -> bool:
    """Whether a path is a folder of recordings, not a Zarr array or image."""
    marks = ("zarr.json", ".zarray", ".zgroup")
    return path.is_dir() and path.suffix != ".zarr" and not any((path / mark).exists() for mark in marks)
