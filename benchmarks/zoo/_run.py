"""Scenes one by one: recorded, reconstructed by everyone, judged, and kept in a file each, so that a run can go on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fluogan_core as fg

from .._harness import revision
from ._judge import Judge
from ._peers import PEERS, Seen, left_out
from ._plan import Scene, draw_scene
from ._recording import Recording, record

__all__ = ["DEFAULT", "FULL", "MEAN_FIT", "Document", "kept", "part_of", "run_scene", "run_scenes"]

Document = dict[str, Any]
FULL, MEAN_FIT = "full method", "mean fit"
#: With ``method="auto"``, the image that it begins with.
DEFAULT = "default method"
#: Raised when recordings, peers or judgements change: scenes of another number do not join.
EDITION = 3


def part_of(count: int, part: str) -> list[int]:
    """Numbers of the scenes of part ``k/n``: every n-th."""
    try:
        k, n = (int(number) for number in part.split("/"))
    except ValueError:
        raise ValueError(f"a part is k/n, such as 1/4, got {part!r}") from None
    if not 1 <= k <= n:
        raise ValueError(f"a part is k/n with k from 1 to n, got {part!r}")
    return list(range(k - 1, count, n))


def run_scenes(
    seed: int,
    numbers: Sequence[int],
    folder: Path,
    *,
    options: fg.SolverOptions | None = None,
    renew: bool = False,
) -> None:
    """Run the scenes that have no file in ``folder`` yet; ``renew`` also runs the library on those of another revision."""
    folder.mkdir(parents=True, exist_ok=True)
    todo = [number for number in numbers if not _done(folder, seed, number, renew)]
    started = time.perf_counter()
    for done, number in enumerate(todo, 1):
        scene = draw_scene(seed, number)
        before = _read(folder / f"{scene.name}.json") if renew else None
        document, images = run_scene(scene, options=options, peers=None if before is None else before["peers"])
        # the images first: a scene with a document is whole
        _replace(folder / f"{scene.name}.npz", lambda path, images=images: np.savez_compressed(path, **images))
        text = json.dumps(document, indent=1, allow_nan=False) + "\n"
        _replace(folder / f"{scene.name}.json", lambda path, text=text: path.write_text(text, encoding="utf-8"))
        print(
            f"{scene.name} ({scene.structure}): {done} of {len(todo)}, {time.perf_counter() - started:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def _done(folder: Path, seed: int, number: int, renew: bool) -> bool:
    scene = draw_scene(seed, number)
    found = _read(folder / f"{scene.name}.json")
    if found is None:
        return False
    if (found["edition"], found["scene"]) != (EDITION, scene.document()):
        raise ValueError(
            f"{folder / scene.name}.json is of another plan of scenes: remove the files of that run, or give another --work"
        )
    return not renew or found["revision"] == revision()


def _read(path: Path) -> Document | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _replace(path: Path, write: Any) -> None:
    """Write beside and rename: a run that is cut short leaves no half file."""
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    write(beside)
    beside.replace(path)


def kept(folder: Path, seed: int, count: int) -> Iterator[Document]:
    """Documents of the scenes that are done, by number."""
    for number in range(count):
        found = _read(folder / f"{draw_scene(seed, number).name}.json")
        if found is not None:
            yield found


def run_scene(
    scene: Scene, *, options: fg.SolverOptions | None = None, peers: Document | None = None
) -> tuple[Document, dict[str, np.ndarray]]:
    """Record, reconstruct and judge one scene; return plain JSON values, and images for a picture.

    Parameters
    ----------
    scene : Scene
    options : SolverOptions, optional
        Of the library; the defaults if not given.
    peers : dict, optional
        Verdicts of the peers from an earlier run, which are kept.
    """
    recording = record(scene)
    judge, images = Judge(recording), {"truth": recording.light}
    ours, found = _library(recording, judge, options)
    images.update(found)
    if peers is None:
        peers = _others(recording, judge)
    document = {
        "scene": scene.document(),
        "edition": EDITION,
        "revision": revision(),
        "brightest": float(recording.mean_light.max()),
        "signal_to_noise": float((recording.mean_light / np.sqrt(recording.variance_of_mean)).max()),
        "fwhm_nm": recording.fwhm_nm,
        "peers": peers,
        "library": ours,
    }
    images["mean"] = recording.photons.mean(axis=0)
    return document, {name: np.asarray(image, np.float32) for name, image in images.items()}


def _library(recording: Recording, judge: Judge, options: fg.SolverOptions | None) -> tuple[Document, dict[str, np.ndarray]]:
    """The default as a user gets it: calibrated on the stack, with the camera's values where they are known."""
    scene, psi = recording.scene, recording.psi()
    camera = fg.Camera(recording.gain, scene.offset, recording.noise_std)
    document: Document = {"refused": ""}
    started = time.process_time()
    try:
        found = fg.calibrate(recording.frames, psi, camera=camera if scene.camera_known else None)
    except ValueError as refusal:
        if scene.camera_known:
            raise
        # the message asks for the camera's values: a user gives them
        document["refused"] = str(refusal)
        found = fg.calibrate(recording.frames, psi, camera=camera)
    calibrated = time.process_time()
    solver = fg.Solver(problem=fg.Problem.of(recording.frames, calibration=found), options=options)
    began, begun = None, 0.0
    while solver.current is not None:
        if began is None and solver.phase == "likelihood" and solver.options.method == "auto":
            began, begun = solver.outcome.x, time.process_time()
        solver.step()
    result = solver.result()
    ended = time.process_time()
    kappa, scale = found.estimate.photons_per_emitter, found.camera.gain / recording.gain
    # in the true photons: counts of x over the true gain, so that an error of the gain is not one of the light
    images = {FULL: result.x * (kappa * scale), MEAN_FIT: result.x_mean_fit * (kappa * scale)}
    if "likelihood" in result.stops:
        images[DEFAULT] = images[FULL] if began is None else began * (kappa * scale)
        stop = result.stops["likelihood"]
        gain = re.search(r"likelier by (\S+) ± (\S+) nats", str(stop))
        document["likelihood"] = {
            "reason": stop.reason.name,
            "preference": float(gain[1]) / float(gain[2]) if gain else None,
            "cpu": 0.0 if began is None else ended - begun,
        }
    document |= {
        "seconds": {
            "calibration": calibrated - started,
            **{k: float(v) for k, v in result.timings.items()},
            "cpu": ended - started,
        },
        "stop": result.stop_reason,
        "gain": [found.camera.gain / recording.gain, found.estimate.gain_error / recording.gain],
        "kappa": [float(kappa), _finite(found.estimate.photons_per_emitter_error)],
        "psf_width": found.psf_width.width,
        "remarks": list(found.remarks),
        "verdicts": {name: judge(image).document() for name, image in images.items()},
    }
    return document, {**images, "background": result.b * scale}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _others(recording: Recording, judge: Judge) -> Document:
    """Per peer the verdict of its published setting, and the best of each measure that any of its stops has."""
    seen, missing, found = Seen(recording.photons, recording.psi(), recording.scene.seed), left_out(), {}
    for name, peer in PEERS.items():
        if name in missing:
            continue
        started = time.process_time()
        with contextlib.redirect_stdout(sys.stderr):
            images = peer.images(seen)
        seconds = time.process_time() - started
        verdicts = {setting: judge(image, has_unit=peer.has_unit).document() for setting, image in images.items()}
        best = {}
        for measure, sign in (("nrmse", 1), ("correlation", -1)):
            for blur in verdicts[peer.published][measure]:
                setting = min(verdicts, key=lambda s: sign * verdicts[s][measure][blur])
                best[f"{measure} {blur}"] = [verdicts[setting][measure][blur], setting]
        found[name] = {"published": verdicts[peer.published], "best": best, "seconds": seconds}
    return found
