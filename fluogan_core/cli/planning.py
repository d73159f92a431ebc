"""``fluogan plan``: what a recording can show, before it is made."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import (
    FILE,
    calibration_from,
    camera_options,
    given,
    json_option,
    operator_for,
    optics_options,
    region_options,
    stack_from,
    verbose_option,
)
from .shell import COMPLAINTS, checking_input
from .tables import print_table

if TYPE_CHECKING:
    from ..planning.likelihood import LikelihoodPlan
    from ..planning.plan import Plan

__all__ = ["plan_command"]

_OF_STACKS = (
    "roi", "frames", "psf_path", "psf_pixel_nm", "psf_width", "row_shift", "gain", "gain_map", "offset",
    "offset_map", "noise_std",
)  # fmt: skip
_LIGHT = ("photons", "background", "photons_per_emitter", "read_noise")


@click.command("plan", short_help="Say what a recording can show, before it is made.")
@click.option("--pilot", "stack_path", metavar="STACK.tif", type=FILE, help="Pilot stack, for light, flicker and noise.")
@region_options
@optics_options
@camera_options
@click.option("--photons", type=float, help="Brightest camera pixel, background apart [detected photons per frame].")
@click.option("--background", type=float, help="Background of a camera pixel [detected photons per frame]; 0 if not given.")
@click.option("--read-noise", type=float, help="Standard deviation of the read noise [photons]; 1.5 if not given.")
@click.option("--planned-frames", type=int, default=500, show_default=True, help="Independent frames to plan for.")
@click.option("--length-nm", type=float, default=1000.0, show_default=True, help="Length of the two lines [nm].")
@click.option(
    "--significance", type=float, default=3.0, show_default=True, help="A gap that counts as seen [standard deviations]."
)
@click.option("--likelihood", is_flag=True, help="Sample what the full likelihood tells too; seconds to minutes.")
@click.option("--separation-nm", type=float, help="Say how many frames this separation needs [nm].")
@click.option("--figure", "figure_path", metavar="PLAN.png", type=FILE, help="Draw the plan.")
@json_option
@verbose_option
def plan_command(
    stack_path: Path | None, as_json: bool, figure_path: Path | None, separation_nm: float | None, **settings: Any
) -> None:
    """Say what a recording can show, before it is made: the finest separation of two lines, and what more light buys.

    The frames of two lines are compared with those of every image without a gap between them.  Optics, light and camera are
    given, or come from a pilot stack with --pilot.  It is a bound: a method that must estimate more does worse.
    """
    from ..io.files import dumps

    with checking_input(*COMPLAINTS):
        found = _from_pilot(stack_path, settings) if stack_path is not None else _from_settings(settings)
        needed = found.frames_for(separation_nm) if separation_nm is not None else None
        by_likelihood = _by_likelihood(found, separation_nm)
    if as_json:
        facts = {
            "mean_nm": found.mean_nm,
            "both_nm": found.both_nm,
            "significance": found.significance,
            "conditions": found.conditions,
            "separations_nm": found.separations_nm.tolist(),
            "by_mean": found.by_mean.tolist(),
            "by_both": found.by_both.tolist(),
            "changes": [vars(change) for change in found.changes],
        }
        if needed is not None:
            facts["frames_needed"] = {"separation_nm": separation_nm, "by_mean": needed[0], "by_both": needed[1]}
            if by_likelihood is not None:
                facts["frames_needed"] |= {"by_likelihood": by_likelihood[0], "by_likelihood_error": by_likelihood[1]}
        if found.likelihood is not None:
            facts["likelihood"] = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in vars(found.likelihood).items()}
        if found.not_sampled:
            facts["likelihood_not_sampled"] = found.not_sampled
        click.echo(dumps(facts), nl=False)
    else:
        _say(found)
        if needed is not None:
            by_mean, by_both = (_frames(count) for count in needed)
            click.echo(f"{separation_nm:g} nm need {by_mean} frames by the mean, {by_both} by mean and covariance")
            if by_likelihood is not None:
                click.echo(f"and {_frames(by_likelihood[0])} (± {_digits(by_likelihood[1])}) by the full likelihood")
            elif found.likelihood is not None:
                low, high = found.likelihood.separations_nm[[0, -1]]
                click.echo(f"by the full likelihood, {low:.0f} to {high:.0f} nm were sampled")
    if figure_path is not None:
        from ..io.figures import save
        from ..io.plan_figure import plan_figure

        save(plan_figure(found), figure_path)
        click.echo(f"wrote {figure_path}", err=as_json)


def _from_settings(settings: dict[str, Any]) -> Plan:
    from ..planning.plan import plan

    missing = [name for name in ("pixel_size_nm", "photons", "photons_per_emitter") if settings[name] is None]
    if missing:
        switches = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise ValueError(f"give {switches}, or a pilot stack with --pilot")
    unused = [name for name in _OF_STACKS if settings[name] is not None]
    if unused:
        raise ValueError(f"--{unused[0].replace('_', '-').replace('-path', '')} is used with --pilot only; leave it out")
    return plan(
        frames=settings["planned_frames"],
        **given(
            settings, "pixel_size_nm", "fwhm_nm", "wavelength_nm", "na", *_LIGHT, "length_nm", "significance", "likelihood"
        ),
    )


def _from_pilot(path: Path, settings: dict[str, Any]) -> Plan:
    from ..backend.arrays import get_backend
    from ..planning.plan import plan_from

    unused = [name for name in ("photons", "background", "read_noise") if settings[name] is not None]
    if unused:
        raise ValueError(f"--{unused[0].replace('_', '-')} comes from the pilot stack; leave it or --pilot out")
    stack = stack_from(path, settings)
    psi, pixel_size_nm = operator_for(stack, settings, get_backend("numpy"))
    calibration = calibration_from(stack, psi, settings)
    return plan_from(
        calibration,
        pixel_size_nm,
        frames=settings["planned_frames"],
        **given(settings, "length_nm", "significance", "likelihood"),
    )


def _say(found: Plan) -> None:
    c = found.conditions
    for line in (
        f"PSF {c['fwhm_nm']:.0f} nm wide on pixels of {c['pixel_size_nm']:g} nm, read noise {c['read_noise']:.2g} photons",
        f"{c['photons']:.3g} photons in the brightest pixel, background {c['background']:.3g}, {c['photons_per_emitter']:.3g} "
        f"per emission; {c['frames']:g} independent frames, lines {c['length_nm']:g} nm long",
    ):
        click.echo(line)
    if c["fixed_pattern"] > 0:
        click.echo(f"unequal pixels leave a pattern of {c['fixed_pattern']:.2g} photons in the mean of any number of frames")
    sampled = found.likelihood
    titles: tuple[str, ...] = (f"finest separation at {found.significance:g} s.d.", "by the mean", "by mean and covariance")
    rows: list[tuple[str, ...]] = [("as planned", _nm(found.mean_nm), _nm(found.both_nm))]
    rows += [(change.name, _nm(change.mean_nm), _nm(change.both_nm)) for change in found.changes]
    if sampled is not None:
        titles = (*titles, "by the full likelihood")
        rows = [(*rows[0], _sampled_nm(sampled)), *((*row, "") for row in rows[1:])]
    print_table(titles, rows)
    if found.not_sampled:
        click.echo(f"by the full likelihood: not said, {found.not_sampled}")
    elif sampled is not None and sampled.ended:
        click.echo(f"by the full likelihood, nothing finer is sampled: {sampled.ended}")


def _by_likelihood(found: Plan, separation_nm: float | None) -> tuple[float, float] | None:
    """Frames that a separation needs by the full likelihood, and their error; None where that was not sampled."""
    sampled = found.likelihood
    if sampled is None or separation_nm is None:
        return None
    low, high = sampled.separations_nm[[0, -1]]
    return sampled.frames_for(separation_nm) if low <= separation_nm <= high else None


def _sampled_nm(sampled: LikelihoodPlan) -> str:
    if sampled.error_nm > 0:
        return f"{sampled.finest_nm:.0f} ± {_digits(sampled.error_nm)} nm"
    finer = " or finer" if math.isfinite(sampled.finest_nm) else ""
    return _nm(sampled.finest_nm) + finer


def _digits(error: float) -> str:
    return f"{error:.2g}" if error < 10 else f"{error:.0f}"


def _nm(value: float) -> str:
    return f"{value:.0f} nm" if math.isfinite(value) else "none"


def _frames(count: float) -> str:
    return f"{max(2, math.ceil(count))}" if count < 1e7 else "more than 10 million"
