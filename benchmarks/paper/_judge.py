"""One recording, all methods: what is resolved, where, how bright, at what cost."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from scipy.ndimage import gaussian_filter

import fluogan_core as fg
from fluogan_core.metrics.images import blurred_agreement, nrmse, psnr
from fluogan_core.metrics.lines import line_fluxes, pair_report
from fluogan_core.physics.psf import FWHM_PER_SIGMA

from ._methods import METHODS, Job, warm_up
from ._scenes import CONDITIONS, Geometry, make_scene

__all__ = ["OWN_LIGHT", "Task", "Verdict", "gather", "judge", "verdicts"]

#: Not a method: the light of the molecules that were drawn, blurred to this FWHM.  Where it splits a bar, the molecules do.
_OWN_NM = 60.0
OWN_LIGHT = f"the molecules' own light, at {_OWN_NM:g} nm"


@dataclass(frozen=True)
class Task:
    """A recording and what to do with it.

    Attributes
    ----------
    condition : str
        Name of one of :data:`CONDITIONS`.
    separations : tuple of float
        One per group, nm.
    control : bool
    seed : int
    methods : tuple of str
    width : float
        Of the assumed PSF, relative to the true one.
    geometry : Geometry
    options : SolverOptions, optional
        Of our own reconstruction; the defaults if not given.
    """

    condition: str
    separations: tuple[float, ...]
    control: bool
    seed: int
    methods: tuple[str, ...]
    width: float
    geometry: Geometry
    options: fg.SolverOptions | None = None


@dataclass(frozen=True)
class Verdict:
    """How one method did on one group of one recording.

    Attributes
    ----------
    condition, separation, control, seed, width, method
        Which.
    resolved : bool
        Two lines by Rayleigh's rule; of a control, a false split.
    error_nm : float or None
        Distance of the two middles less the truth.
    peak_error_nm : float or None
        The same of the peaks.
    nrmse : float
        Of the whole field against the lines, sums matched.
    nrmse_own : float or None
        The same against :data:`OWN_LIGHT`, where molecules were drawn.
    psnr : float
        Of the whole field against the lines, sums matched.
    flux_error : float
        Light of the four lines over the truth, less one.
    rsp : float or None
        Correlation of the blurred result with the mean frame.
    seconds : float or None
    """

    condition: str
    separation: float
    control: bool
    seed: int
    width: float
    method: str
    resolved: bool
    error_nm: float | None
    peak_error_nm: float | None
    nrmse: float
    nrmse_own: float | None
    psnr: float
    flux_error: float
    rsp: float | None
    seconds: float | None


def judge(task: Task) -> list[Verdict]:
    """Record, estimate, reconstruct and judge."""
    condition = next(c for c in CONDITIONS if c.name == task.condition)
    scene = make_scene(condition, task.separations, task.seed, control=task.control, geometry=task.geometry)
    job = Job(scene, width=task.width, options=task.options)
    warm_up(task.methods, job.as_described.psi)  # computed here, so that no peer is charged for it
    made = []
    own = {}
    if scene.own_light is not None:
        sigma = _OWN_NM / FWHM_PER_SIGMA * task.geometry.factor / task.geometry.pixel_size_nm
        own = {OWN_LIGHT: gaussian_filter(scene.own_light, sigma, mode="constant")}
    for name in (*own, *task.methods):
        started = time.perf_counter()
        x = own[name] if name in own else METHODS[name](job)
        seconds = None if name in own else job.seconds.get(name, time.perf_counter() - started)
        whole = nrmse(x, scene.light), nrmse(x, own[OWN_LIGHT]) if own else None, psnr(x, scene.light)
        agreement = blurred_agreement(x, job.mean, job.psi)
        for group, separation in enumerate(scene.pattern.separations_nm):
            pair = pair_report(x, scene.pattern, group)
            flux = line_fluxes(x, scene.pattern, group).sum() / line_fluxes(scene.light, scene.pattern, group).sum()
            made.append(
                Verdict(
                    task.condition,
                    separation,
                    task.control,
                    task.seed,
                    task.width,
                    name,
                    pair.resolved,
                    pair.error_nm,
                    None if pair.peak_distance_nm is None else pair.peak_distance_nm - separation,
                    *whole,
                    float(flux - 1.0),
                    agreement.rsp,
                    seconds,
                )
            )
    return made


def verdicts(tasks: Sequence[Task], jobs: int) -> Iterator[list[Verdict]]:
    """Judge all tasks, ``jobs`` at a time, each on one thread; in the order of the tasks."""
    if jobs == 1:
        yield from map(judge, tasks)
        return
    # read by the workers' libraries when they start
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(judge, tasks)


def gather(tasks: Sequence[Task], jobs: int, what: str) -> list[Verdict]:
    """All verdicts, with a line of progress now and then."""
    found: list[Verdict] = []
    started = said = time.perf_counter()
    for done, part in enumerate(verdicts(tasks, jobs), 1):
        found += part
        if time.perf_counter() - said > 20 or done == len(tasks):
            said = time.perf_counter()
            print(f"{what}: {done} of {len(tasks)} recordings, {said - started:.0f} s", file=sys.stderr, flush=True)
    return found


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is there; None where nothing is."""
    present = [v for v in values if v is not None]
    return float(np.mean(present)) if present else None
