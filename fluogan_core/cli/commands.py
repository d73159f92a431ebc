"""The command line, ``fluogan demo | simulate | estimate | reconstruct | evidence | ...``, over the library's functions.

Exit status: 0 done, 1 failed while working, 2 bad usage or input, 130 interrupted.  An error is one line on standard error.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._version import __version__
from .drift import drift_option, followed
from .estimate import estimate_command
from .evidence import evidence_command, evidence_option, judged_by
from .options import (
    SOLVER_OPTIONS,
    background_from,
    background_option,
    calibration_from,
    camera_options,
    device_options,
    given,
    json_option,
    operator_for,
    optics_options,
    output_option,
    region_options,
    simulation_options,
    solver_options,
    stack_argument,
    stack_from,
    values_to_vary,
    vary_option,
    verbose_option,
)
from .output import place_result, version_of, writing_to
from .planning import plan_command
from .scale import batch, tile, with_tiles
from .shell import (
    BAD_INPUT,
    COMPLAINTS,
    FAILED,
    INTERRUPTED,
    BadInput,
    Interrupted,
    PlacedElsewhere,
    Unfinished,
    checking_input,
    complain,
    logging_to_standard_error,
    said,
    stopping_between_steps,
)
from .streams import standard_streams
from .tables import print_estimate, print_table, say_swept, say_written

if TYPE_CHECKING:
    from ..selection.trials import Sweep
    from ..solvers.solver import Solver

__all__ = ["main"]

log = logging.getLogger("fluogan_core")


# -- errors, log, main -------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Parameters
    ----------
    arguments : list of str, optional
        Those of the process by default.
    """
    state = {"verbose": False}
    with standard_streams() as (out, _):
        status = _run(arguments, state)
        out.flush()
        if out.lost is not None and not isinstance(out.lost, BrokenPipeError):  # who closes a pipe wants no more
            status = complain(f"standard output could not be written: {said(out.lost)}", status or FAILED, state)
    return status


def _somewhere() -> None:
    """Raise BadInput if the folder that the process is in has been removed: numerical libraries then end it in mid-work."""
    try:
        os.getcwd()
    except OSError as error:
        raise BadInput(
            "the folder in which this was started is not there any more: cd to another one and start again"
        ) from error


def _run(arguments: list[str] | None, state: dict[str, Any]) -> int:
    """Run a command; return its exit status, after a complaint if that is not 0."""
    try:
        with logging_to_standard_error():
            _somewhere()
            status = commands.main(args=arguments, prog_name="fluogan", standalone_mode=False, obj=state)
        return int(status or 0)
    except (click.Abort, KeyboardInterrupt):
        return complain("interrupted", INTERRUPTED, state)
    except Interrupted as error:
        return complain(said(error), INTERRUPTED, state)
    except BadInput as error:
        return complain(said(error), BAD_INPUT, state)
    except (PlacedElsewhere, Unfinished) as error:
        return complain(said(error), FAILED, state)
    except click.ClickException as error:
        text = " ".join(error.format_message().split())
        words = sys.argv[1:] if arguments is None else arguments
        if isinstance(error, click.NoSuchOption) and (files := [w for w in words if w.startswith("-") and Path(w).exists()]):
            text += f" If the file {files[0]} is meant, write ./{files[0]}"
        context = getattr(error, "ctx", None)
        if context is not None:
            text += f" (see {context.command_path} --help)"
        return complain(text, BAD_INPUT, state)
    except MemoryError as error:
        return complain(f"out of memory ({said(error)}): take a smaller --roi", FAILED, state)
    except Exception as error:
        hint = "" if state["verbose"] else " (--verbose shows where)"
        return complain(f"{type(error).__name__}: {said(error)}{hint}", FAILED, state)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="fluogan")
@verbose_option
@click.pass_context
def commands(context: click.Context) -> None:
    """Super-resolution from fluorescence fluctuations.

    A stack of frames of a flickering sample goes in; the image x on a finer grid and the background b come out.
    Lengths are nanometres in the object plane; counts are what the camera writes, photons are (counts - offset) / gain.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@commands.command(short_help="Simulate, reconstruct, and say what was found.")
@output_option("the stack, its truth and the results", "demo")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random [whole number].")
@device_options
@verbose_option
def demo(output: Path, seed: int, backend: str, device: int | None) -> None:
    """Simulate blinking emitters on a pattern of lines, reconstruct it, and say what was found.

    Takes at most three minutes on two cores.
    """
    from ..backend.arrays import get_backend
    from .demo import run_demo

    with writing_to(output) as directory:
        try:
            click.echo(run_demo(directory, seed=seed, backend=get_backend(backend, device)))
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; {directory} holds what was written so far") from None


@commands.command(short_help="Write a stack of the line pattern, with its truth.")
@output_option("stack.tif, truth.tif and truth.json", "simulated")
@simulation_options
@verbose_option
def simulate(output: Path, **settings: Any) -> None:
    """Write a stack of the Argolight-like line pattern, and its truth.

    stack.tif holds the frames in counts, truth.tif the emissions per fine pixel and frame, truth.json all settings.
    """
    from ..io.simulated import write_experiment
    from ..simulation.experiment import Experiment

    with writing_to(output) as directory:
        with checking_input(*COMPLAINTS):
            files = write_experiment(Experiment(**settings), directory)
        say_written(files, directory)


@commands.command(short_help="Reconstruct x and b from a stack.")
@stack_argument
@output_option(
    "x.tif, b.tif, report.json, report.html, figure.png and checkpoint.pt; drift.csv, evidence.tif, rse.tif, rsp.tif and "
    "frc.tif where asked for"
)
@region_options
@optics_options
@camera_options
@solver_options
@device_options
@background_option
@drift_option
@evidence_option
@click.option("--resume", is_flag=True, help="Go on from DIR/checkpoint.pt; more --steps take a finished run further.")
@click.option("--no-figure", is_flag=True, help="Leave figure.png and the pictures of report.html out.")
@verbose_option
@with_tiles
def reconstruct(
    stack_path: Path,
    output: Path,
    backend: str,
    device: int | None,
    background: str | None,
    drift: str,
    with_evidence: bool,
    resume: bool,
    no_figure: bool,
    **settings: Any,
) -> None:
    """Reconstruct x and b from a stack.

    A PSF is needed: --fwhm-nm, or --wavelength-nm with --na, or --psf.  Gain, offset, read noise and photons per
    emitter are estimated from the stack where they are not given.  Files of a former run in DIR are replaced one by
    one; a former checkpoint is continued with --resume only.

    With --tile or --window, and of Zarr, the recording is read and reconstructed in pieces; see the page on large fields.
    """
    from ..backend.arrays import get_backend
    from ..io.files import spare_inputs
    from ..io.result import RESULT_FILES, write_result
    from ..solvers import reconstruct as solving
    from ..solvers.options import SolverOptions
    from ..solvers.problem import Problem

    with writing_to(output) as directory:
        with checking_input(*COMPLAINTS):
            checkpoint = directory / "checkpoint.pt"
            spare_inputs(directory, (*RESULT_FILES, checkpoint.name), stack_path, settings["psf_path"], background, drift)
            if resume and not checkpoint.is_file():
                raise ValueError(f"there is no {checkpoint} to resume from; leave --resume out to start")
            options = SolverOptions(**given(settings, *SOLVER_OPTIONS))
            stack = stack_from(stack_path, settings)
            psi, pixel_size_nm = operator_for(stack, settings, get_backend(backend, device))
            stack, psi, moved = followed(stack, psi, drift, background, settings)
            found = calibration_from(stack, psi, settings)
            known = background_from(background, found.camera, settings)
        print_estimate(found.estimate, found.remarks)
        running: list[Solver] = []
        former = version_of(checkpoint)
        try:
            with checking_input(ValueError), stopping_between_steps() as check:

                def after_step(state: Solver, record: dict[str, float]) -> None:
                    running[:] = [state]
                    check()

                result = solving.reconstruct(
                    stack,
                    calibration=found,
                    options=options,
                    background=known,
                    callback=after_step,
                    checkpoint=checkpoint,
                    resume=resume,
                )
        except KeyboardInterrupt:
            if not running:
                raise Interrupted("interrupted before the first step was done") from None
            done, saved = running[0].steps_done, running[0].steps_saved
            kept = "no checkpoint had been written yet"
            if saved:
                those = "them" if saved == done else f"the first {saved}"
                kept = f"{checkpoint} holds {those}: the same command with --resume goes on from there"
            raise Interrupted(f"interrupted after step {done} of {running[0].total_steps}; {kept}") from None
        click.echo(f"{result.stop_reason}, {result.timings['total']:.0f} s on {result.device}")
        judged = judged_by(Problem.of(stack, calibration=found), result, pixel_size_nm) if with_evidence else (None, None)

        def write(place: Path) -> list[Path]:
            files = write_result(
                result,
                place,
                stack=stack,
                calibration=found,
                drift=moved,
                evidence=judged[0],
                checks=judged[1],
                pixel_size_nm=pixel_size_nm,
                command=["fluogan", *sys.argv[1:]],
                figure=not no_figure,
            )
            return list(files.values())

        place_result(write, directory, [checkpoint] if version_of(checkpoint) not in (None, former) else [])


@commands.command(short_help="Try a grid of options, judged by unseen frames.")
@stack_argument
@output_option("sweep.json, sweep.tif and sweep.png")
@vary_option
@region_options
@optics_options
@camera_options
@solver_options
@device_options
@click.option("--no-figure", is_flag=True, help="Leave sweep.png out.")
@verbose_option
def sweep(
    stack_path: Path, output: Path, vary: Any, backend: str, device: int | None, no_figure: bool, **settings: Any
) -> None:
    """Try a grid of options: which of them predict frames that were not fitted?

    Each setting is fitted to one half of the frames and scored on the other, both ways round, all with the same camera
    and photons per emitter.  Without --method the mean alone is fitted, which takes seconds per setting.  sweep.png
    shows all images on one scale, sweep.tif holds them, sweep.json every score.  After Ctrl-C they hold the settings
    that were done.
    """
    from ..backend.arrays import get_backend
    from ..io.files import spare_inputs
    from ..io.sweep_report import SWEEP_FILES, write_sweep
    from ..selection.grid import PSF_WIDTH, plan_sweep
    from ..selection.trials import sweep as run_sweep
    from ..solvers.options import SolverOptions

    with writing_to(output) as directory:
        with checking_input(*COMPLAINTS):
            spare_inputs(directory, SWEEP_FILES, stack_path, settings["psf_path"])
            wanted = values_to_vary(vary)
            # of methods that are varied, the one that uses most options: each setting leaves out those that it does not use
            methods = (wanted or {}).get("method", ("none",))
            method = min(methods, key=lambda name: len(SolverOptions(method=name).idle))
            options = SolverOptions(**({"method": method} | given(settings, *SOLVER_OPTIONS)))
            if PSF_WIDTH in (wanted or {}):
                if settings["fwhm_nm"] is None:
                    raise ValueError(
                        "fwhm_nm is varied about a Gaussian PSF: give --fwhm-nm, which the camera is estimated with"
                    )
                if settings["psf_width"] is not None:
                    raise ValueError("fwhm_nm is varied: its values are taken as they are, leave --psf-width out")
                settings["psf_width"] = 1.0
            stack = stack_from(stack_path, settings)
            psi, pixel_size_nm = operator_for(stack, settings, get_backend(backend, device))
            planned = len(plan_sweep(stack, psi=psi, options=options, vary=wanted, pixel_size_nm=pixel_size_nm).settings)
            found = calibration_from(stack, psi, settings)
        print_estimate(found.estimate, found.remarks)
        sofar: list[Sweep] = []

        def written(made: Sweep, place: Path, *, figure: bool) -> list[Path]:
            command = ["fluogan", *sys.argv[1:]]
            files = write_sweep(
                made,
                place,
                stack=stack,
                estimate=found.estimate,
                psf_width=found.psf_width,
                pixel_size_nm=pixel_size_nm,
                command=command,
                figure=figure,
            )
            return list(files.values())

        def keep(made: Sweep) -> None:
            sofar[:] = [made]
            try:
                written(made, directory, figure=False)
            except (OSError, ValueError) as error:  # the end of the sweep tries again, and elsewhere
                log.warning("what is done so far could not be written to %s (%s)", directory, said(error))

        interrupted = False
        try:
            with checking_input(ValueError):
                made = run_sweep(
                    stack, calibration=found, options=options, vary=wanted, pixel_size_nm=pixel_size_nm, callback=keep
                )
        except KeyboardInterrupt:
            if not sofar:
                raise Interrupted("interrupted before the first setting was done") from None
            made, interrupted = sofar[0], True
        say_swept(made)
        place_result(lambda place: written(made, place, figure=not no_figure), directory)
        if interrupted:
            raise Interrupted(f"interrupted after {len(made.trials)} of {planned} settings; {directory} holds them")
        if made.best is None:
            raise RuntimeError(f"every setting failed, the first with {made.trials[0].failure}")


for command in (estimate_command, evidence_command, plan_command, tile, batch):
    commands.add_command(command)


@commands.command(short_help="Say what this machine and installation offer.")
@json_option
@verbose_option
def info(as_json: bool) -> None:
    """Say what this machine and installation offer: device, driver, memory, threads, versions; why no GPU is used."""
    from ..io.files import dumps
    from ..io.provenance import collect, info_rows

    facts = collect()
    if as_json:
        click.echo(dumps(facts), nl=False)
    else:
        print_table(("", ""), info_rows(facts))
